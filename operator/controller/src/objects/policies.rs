//! What others may do to the pods: evict one, and not two; connect where they have business.

use super::*;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// One budget over all voters: an eviction may take one of them while all the others are there.
#[must_use]
pub fn disruption_budget(cluster: &VRCluster, voters: usize) -> PodDisruptionBudget {
    let naming = Naming::of(cluster);
    let wanted = cluster.spec.replicas.max(i32::try_from(voters).unwrap_or(i32::MAX));
    let spec = PodDisruptionBudgetSpec {
        min_available: Some(IntOrString::Int(wanted.saturating_sub(1))),
        selector: Some(pods(naming.selector())),
        unhealthy_pod_eviction_policy: Some("IfHealthyBudget".to_owned()),
        max_unavailable: None,
    };
    PodDisruptionBudget { metadata: naming.owned(naming.name().to_owned()), spec: Some(spec), status: None }
}

/// Clients to the client port, replicas to each other, the operator to the control port and, for the canaries of drills, to
/// the client port, anybody to the metrics.
/// Nothing if people do without.
#[must_use]
pub fn network_policy(cluster: &VRCluster) -> Option<NetworkPolicy> {
    let given = cluster.spec.network_policy.as_ref();
    if given.and_then(|given| given.enabled) == Some(false) {
        return None;
    }
    let naming = Naming::of(cluster);
    let clients = given.map(|given| given.client_pod_labels.clone()).unwrap_or_default();
    let here = |labels: BTreeMap<String, String>| NetworkPolicyPeer {
        pod_selector: Some(pods(labels)),
        ..NetworkPolicyPeer::default()
    };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(pods(BTreeMap::from([(
            "app.kubernetes.io/name".to_owned(),
            "vr-operator".to_owned(),
        )]))),
        ip_block: None,
    };
    let mut from_clients = vec![here(clients.clone()), operator.clone()];
    // Where only some pods are clients, the probe of a live drill is one, too.
    if !clients.is_empty() {
        from_clients.push(here(super::drill::of_drills()));
    }
    let rule = |port: u16, from: Vec<NetworkPolicyPeer>| NetworkPolicyIngressRule {
        from: Some(from).filter(|from| !from.is_empty()),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port.into())),
            ..NetworkPolicyPort::default()
        }]),
    };
    let spec = NetworkPolicySpec {
        pod_selector: Some(pods(naming.selector())),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![
            rule(CLIENT_PORT, from_clients),
            rule(PEER_PORT, vec![here(naming.selector())]),
            rule(CONTROL_PORT, vec![operator]),
            rule(ADMIN_PORT, Vec::new()),
        ]),
        egress: None,
    };
    Some(NetworkPolicy { metadata: naming.owned(naming.name().to_owned()), spec: Some(spec) })
}

fn pods(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: (!labels.is_empty()).then_some(labels), match_expressions: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The charts' half of the way; the end-to-end scenario `policies` goes all of it, but for the identities of EKS.
    #[test]
    fn the_operator_is_let_out_to_where_it_goes() {
        let text = include_str!("../../../../charts/vr-operator.yaml");
        let policy = text
            .split("---\n")
            .map(|object| serde_yaml::from_str::<Value>(object).expect("YAML"))
            .find(|object| object["kind"] == "NetworkPolicy")
            .expect("the chart has a policy");
        let rules = policy["spec"]["egress"].as_array().expect("a list");
        let let_out = |port: u16, peer: fn(&Value) -> bool| {
            let has = |list: &Value, wanted: &dyn Fn(&Value) -> bool| {
                list.as_array().is_some_and(|list| list.iter().any(wanted))
            };
            rules
                .iter()
                .any(|rule| has(&rule["ports"], &|one| one["port"] == port) && has(&rule["to"], &peer))
        };
        let replicas = |to: &Value| {
            let labelled = to["podSelector"]["matchExpressions"][0]["key"] == CLUSTER_LABEL;
            labelled && to["namespaceSelector"].is_object()
        };
        for port in [CLIENT_PORT, CONTROL_PORT] {
            assert!(let_out(port, replicas), "{port}");
        }
        assert!(let_out(80, |to| to["ipBlock"]["cidr"] == errand::POD_IDENTITY));
    }
}
