//! What the operator's `/metrics` shows. Pure: what is known goes in, the page comes out.
//!
//! A metric of a cluster has its labels `namespace` and `name`. It is there as long as the resource is, and only at the
//! operator that acts: the others know nothing of clusters.

use crate::ids::Moment;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;
use vr_api::{VRClusterStatus, VRDrill};

/// Namespace and name.
pub(super) type Name = (String, String);

/// The primary was moved by the operator, in the course of an update.
pub(super) const UPDATE: &str = "Update";
/// The primary was moved by the operator: off a node that is about to go, or to a zone that people prefer.
pub(super) const PLACEMENT: &str = "Placement";
/// The operator has not moved it.
const FAILOVER: &str = "Failover";

/// What is known.
#[derive(Default)]
pub(super) struct Known {
    pub(super) leads: bool,
    rounds: u64,
    failures: u64,
    steps: u64,
    round: Duration,
    clusters: BTreeMap<Name, Cluster>,
    drills: BTreeMap<(Name, String), Drills>,
    moves: BTreeMap<(Name, &'static str), u64>,
    /// Hand-offs that no round has seen the outcome of yet.
    asked: HashMap<Name, &'static str>,
}

struct Cluster {
    status: VRClusterStatus,
    /// Who led last.
    led: Option<i64>,
    /// Whatever was committed by then is in the object store.
    stored: Option<Moment>,
}

/// The drills of one cluster and scenario.
#[derive(Clone, Debug, Default, PartialEq)]
struct Drills {
    running: u32,
    ended: Option<Ended>,
    passed: Option<Moment>,
}

/// The one that ended last.
#[derive(Clone, Debug, PartialEq)]
struct Ended {
    at: Moment,
    result: String,
    rto: Option<f64>,
    rpo: Option<f64>,
    operations: Option<i64>,
}

impl Known {
    /// A round is over.
    pub(super) fn round(&mut self, took: Duration, failures: u64, steps: u64) {
        self.rounds += 1;
        self.failures += failures;
        self.steps += steps;
        self.round = took;
    }

    /// The operator has had the primary of a cluster moved.
    pub(super) fn hands_over(&mut self, name: Name, why: &'static str) {
        self.asked.insert(name, why);
    }

    /// What is said of the clusters now.
    pub(super) fn clusters(&mut self, told: impl Iterator<Item = (Name, VRClusterStatus, Option<Moment>)>) {
        let mut before = std::mem::take(&mut self.clusters);
        for (name, status, stored) in told {
            let last = before.remove(&name);
            let primary = status.primary.as_ref().map(|primary| primary.id);
            // Who led before an interregnum is compared with who leads after it.
            let led = last.as_ref().and_then(|last| last.led);
            if primary.is_some() && led.is_some() && primary != led {
                let why = self.asked.remove(&name).unwrap_or(FAILOVER);
                *self.moves.entry((name.clone(), why)).or_default() += 1;
            }
            let stored = stored.or(last.and_then(|last| last.stored)).or_else(|| {
                let store = status.tiers.iter().find(|tier| tier.name == STORE)?;
                Moment::parse(store.time.as_deref()?)
            });
            self.clusters.insert(name, Cluster { led: primary.or(led), stored, status });
        }
        let there = &self.clusters;
        self.moves.retain(|(name, _), _| there.contains_key(name));
        self.asked.retain(|name, _| there.contains_key(name));
    }

    /// The drills that there are now. What was deleted since stays known to have ended.
    pub(super) fn drills<'a>(&mut self, drills: impl Iterator<Item = &'a VRDrill>) {
        self.drills.values_mut().for_each(|of| of.running = 0);
        for drill in drills {
            let namespace = drill.metadata.namespace.clone().unwrap_or_default();
            let name = (namespace, drill.spec.cluster_ref.name.clone());
            let of = self.drills.entry((name, format!("{:?}", drill.spec.scenario))).or_default();
            let status = drill.status.clone().unwrap_or_default();
            let ended = status.finished_at.as_deref().and_then(Moment::parse).zip(status.result);
            let Some((at, result)) = ended else {
                of.running += 1;
                continue;
            };
            if result == "Passed" {
                of.passed = of.passed.max(Some(at));
            }
            if of.ended.as_ref().is_none_or(|last| last.at <= at) {
                #[allow(clippy::cast_precision_loss, reason = "milliseconds of a drill stay far below 2^52")]
                let seconds = |millis: Option<i64>| millis.map(|millis| millis as f64 / 1000.0);
                of.ended = Some(Ended {
                    at,
                    result,
                    rto: seconds(status.rto_milliseconds),
                    rpo: seconds(status.rpo_milliseconds),
                    operations: status.rpo_operations,
                });
            }
        }
        let there = &self.clusters;
        self.drills.retain(|(name, _), _| there.contains_key(name));
    }

    /// The whole page, in the Prometheus text format 0.0.4.
    pub(super) fn page(&self, now: Moment) -> String {
        let mut page = String::new();
        for Family { name, kind, help, labels, values } in FAMILIES {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (of, value) in values(self, now) {
                let pairs: Vec<_> =
                    labels.iter().zip(of).map(|(label, of)| format!("{label}=\"{of}\"")).collect();
                let pairs = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
                let _ = writeln!(page, "{name}{pairs} {value}");
            }
        }
        page
    }
}

/// The values of labels, and the value.
type Value = (Vec<String>, f64);

/// A metric: what it is called, what it means, and where its values come from.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// counter or gauge.
    pub kind: &'static str,
    /// What it means.
    pub help: &'static str,
    /// The labels that tell its values apart.
    pub labels: &'static [&'static str],
    values: fn(&Known, Moment) -> Vec<Value>,
}

/// The name of the object store among the tiers.
const STORE: &str = "objectStore";
const CLUSTER: &[&str] = &["namespace", "name"];
const SCENARIO: &[&str] = &["namespace", "name", "scenario"];

/// Every metric of the operator, in the order of the page.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "vr_operator_leader",
        kind: "gauge",
        help: "Whether this process acts.",
        labels: &[],
        values: |known, _| one(f64::from(u8::from(known.leads))),
    },
    Family {
        name: "vr_reconcile_rounds_total",
        kind: "counter",
        help: "Rounds over all clusters.",
        labels: &[],
        values: |known, _| one(count(known.rounds)),
    },
    Family {
        name: "vr_reconcile_failures_total",
        kind: "counter",
        help: "Clusters whose round failed.",
        labels: &[],
        values: |known, _| one(count(known.failures)),
    },
    Family {
        name: "vr_reconcile_steps_total",
        kind: "counter",
        help: "Steps that were carried out.",
        labels: &[],
        values: |known, _| one(count(known.steps)),
    },
    Family {
        name: "vr_reconcile_round_seconds",
        kind: "gauge",
        help: "How long the last round took.",
        labels: &[],
        values: |known, _| one(known.round.as_secs_f64()),
    },
    Family {
        name: "vr_cluster_condition",
        kind: "gauge",
        help: "A condition of a cluster: 1 true, 0 false, -1 unknown.",
        labels: &["namespace", "name", "condition"],
        values: |known, _| {
            known.clusters.iter().flat_map(|(name, of)| conditions(name, &of.status)).collect()
        },
    },
    Family {
        name: "vr_cluster_fault_tolerance",
        kind: "gauge",
        help: "Voters that may be lost now without an outage.",
        labels: CLUSTER,
        values: |known, _| known.each(|of| of.status.fault_tolerance.map(f64::from)),
    },
    Family {
        name: "vr_cluster_zone_fault_tolerance",
        kind: "gauge",
        help: "Zones that may be lost now without an outage.",
        labels: CLUSTER,
        values: |known, _| known.each(|of| of.status.zone_fault_tolerance.map(f64::from)),
    },
    Family {
        name: "vr_cluster_operation_deadline_timestamp_seconds",
        kind: "gauge",
        help: "When what the operator is in the middle of counts as stuck.",
        labels: CLUSTER,
        values: |known, _| {
            known.each(|of| {
                let deadline = of.status.operation.as_ref()?.deadline.as_deref();
                deadline.and_then(Moment::parse).map(timestamp)
            })
        },
    },
    Family {
        name: "vr_recovery_point_age_seconds",
        kind: "gauge",
        help: "Age of the newest state that a restore from the object store would reach.",
        labels: CLUSTER,
        #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
        values: |known, now| known.each(|of| Some(now.since(of.stored?).0.max(0) as f64)),
    },
    Family {
        name: "vr_primary_moves_total",
        kind: "counter",
        help: "Times that another replica was seen to lead. Update and Placement: the operator has moved it; Failover: it has not.",
        labels: &["namespace", "name", "reason"],
        values: |known, _| {
            let of = |name: &Name, why: &'static str| {
                let moves = known.moves.get(&(name.clone(), why)).copied().unwrap_or_default();
                (vec![name.0.clone(), name.1.clone(), why.to_owned()], count(moves))
            };
            let each = |name| [UPDATE, PLACEMENT, FAILOVER].map(|why| of(name, why));
            known.clusters.keys().flat_map(each).collect()
        },
    },
    Family {
        name: "vr_drill_running",
        kind: "gauge",
        help: "Drills that are not over.",
        labels: SCENARIO,
        values: |known, _| known.drilled(|of| Some(f64::from(of.running))),
    },
    Family {
        name: "vr_drill_passed",
        kind: "gauge",
        help: "Whether the drill that ended last has passed.",
        labels: SCENARIO,
        values: |known, _| known.ended(|last| Some(f64::from(u8::from(last.result == "Passed")))),
    },
    Family {
        name: "vr_drill_finished_timestamp_seconds",
        kind: "gauge",
        help: "When the drill that ended last did.",
        labels: SCENARIO,
        values: |known, _| known.ended(|last| Some(timestamp(last.at))),
    },
    Family {
        name: "vr_drill_passed_timestamp_seconds",
        kind: "gauge",
        help: "When the drill that passed last did.",
        labels: SCENARIO,
        values: |known, _| known.drilled(|of| of.passed.map(timestamp)),
    },
    Family {
        name: "vr_drill_rto_seconds",
        kind: "gauge",
        help: "Time to the first served write of the drill that ended last.",
        labels: SCENARIO,
        values: |known, _| known.ended(|last| last.rto),
    },
    Family {
        name: "vr_drill_rpo_seconds",
        kind: "gauge",
        help: "The writes of so much time were lost, or would have been, in the drill that ended last.",
        labels: SCENARIO,
        values: |known, _| known.ended(|last| last.rpo),
    },
    Family {
        name: "vr_drill_rpo_operations",
        kind: "gauge",
        help: "So many operations were lost, or would have been, in the drill that ended last.",
        labels: SCENARIO,
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        values: |known, _| known.ended(|last| last.operations.map(|operations| operations as f64)),
    },
];

impl Known {
    fn each(&self, value: impl Fn(&Cluster) -> Option<f64>) -> Vec<Value> {
        let of = |(name, cluster): (&Name, &Cluster)| {
            Some((vec![name.0.clone(), name.1.clone()], value(cluster)?))
        };
        self.clusters.iter().filter_map(of).collect()
    }

    fn drilled(&self, value: impl Fn(&Drills) -> Option<f64>) -> Vec<Value> {
        let of = |((name, scenario), drills): (&(Name, String), &Drills)| {
            Some((vec![name.0.clone(), name.1.clone(), scenario.clone()], value(drills)?))
        };
        self.drills.iter().filter_map(of).collect()
    }

    fn ended(&self, value: impl Fn(&Ended) -> Option<f64>) -> Vec<Value> {
        self.drilled(|drills| value(drills.ended.as_ref()?))
    }
}

fn one(value: f64) -> Vec<Value> {
    vec![(Vec::new(), value)]
}

#[allow(clippy::cast_precision_loss, reason = "counters stay far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
fn timestamp(at: Moment) -> f64 {
    at.0 as f64
}

fn conditions<'a>(name: &'a Name, status: &'a VRClusterStatus) -> impl Iterator<Item = Value> + 'a {
    status.conditions.iter().map(|condition| {
        let value = match condition.status.as_str() {
            "True" => 1.0,
            "False" => 0.0,
            _ => -1.0,
        };
        (vec![name.0.clone(), name.1.clone(), condition.type_.clone()], value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_api::{DrillScenario, LocalReference, PrimaryStatus, TierStatus, VRDrillSpec, VRDrillStatus};

    const NOW: Moment = Moment(1_800_000_000);

    fn name() -> Name {
        ("shop".to_owned(), "prod".to_owned())
    }

    fn led_by(id: Option<i64>) -> VRClusterStatus {
        let pod_name = "prod-0".to_owned();
        let primary = id.map(|id| PrimaryStatus { id, pod_name, zone: None, since: None });
        VRClusterStatus { primary, fault_tolerance: Some(-1), ..VRClusterStatus::default() }
    }

    impl Known {
        fn tell(&mut self, status: VRClusterStatus) {
            self.clusters([(name(), status, None)].into_iter());
        }

        fn shows(&self, line: &str) -> bool {
            self.page(NOW).lines().any(|shown| shown == line)
        }
    }

    #[test]
    fn a_page_names_the_cluster() {
        let mut known = Known::default();
        known.tell(led_by(None));
        assert!(
            known.shows("vr_cluster_fault_tolerance{namespace=\"shop\",name=\"prod\"} -1"),
            "{}",
            known.page(NOW)
        );
        assert!(known.shows("vr_operator_leader 0"));
    }

    #[test]
    fn names_are_given_once() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }

    #[test]
    fn a_move_is_counted_with_who_wanted_it() {
        let moves = |why: &str, n: u32| {
            format!("vr_primary_moves_total{{namespace=\"shop\",name=\"prod\",reason=\"{why}\"}} {n}")
        };
        let mut known = Known::default();
        known.tell(led_by(Some(1)));
        assert!(known.shows(&moves(FAILOVER, 0)));
        known.tell(led_by(None));
        known.tell(led_by(Some(1)));
        assert!(known.shows(&moves(FAILOVER, 0)), "the same one leads again");
        known.tell(led_by(None));
        known.tell(led_by(Some(2)));
        assert!(known.shows(&moves(FAILOVER, 1)));
        known.hands_over(name(), PLACEMENT);
        known.tell(led_by(Some(2)));
        known.tell(led_by(Some(3)));
        known.tell(led_by(Some(1)));
        assert!(known.shows(&moves(PLACEMENT, 1)) && known.shows(&moves(FAILOVER, 2)), "{}", known.page(NOW));
    }

    #[test]
    fn the_recovery_point_ages_while_nobody_is_heard() {
        let age =
            |age: u32| format!("vr_recovery_point_age_seconds{{namespace=\"shop\",name=\"prod\"}} {age}");
        let mut known = Known::default();
        known.tell(led_by(Some(1)));
        assert!(!known.page(NOW).contains("vr_recovery_point_age_seconds{"), "nothing was ever stored");
        let tier = TierStatus {
            name: STORE.to_owned(),
            op: Some(1),
            time: Some(Moment(NOW.0 - 90).text()),
            lag_seconds: Some(9),
        };
        known.tell(VRClusterStatus { tiers: vec![tier], ..led_by(Some(1)) });
        assert!(known.shows(&age(90)), "{}", known.page(NOW));
        known.clusters([(name(), led_by(Some(1)), Some(Moment(NOW.0 - 4)))].into_iter());
        assert!(known.shows(&age(4)));
        known.tell(led_by(None));
        assert!(known.shows(&age(4)), "what was known is not forgotten");
    }

    #[test]
    fn drills_are_told_by_scenario_and_outlive_their_resources() {
        let drill = |made: &str, result: Option<&str>, ago: i64| {
            let spec = VRDrillSpec {
                cluster_ref: LocalReference { name: "prod".to_owned() },
                scenario: DrillScenario::RestoreFromObjectStore,
                reader: None,
                deadline_seconds: None,
                memory_limit: None,
                allow_live_impact: false,
                allow_data_loss: false,
            };
            let mut drill = VRDrill::new(made, spec);
            drill.metadata.namespace = Some("shop".to_owned());
            drill.status = Some(VRDrillStatus {
                result: result.map(str::to_owned),
                finished_at: result.map(|_| Moment(NOW.0 - ago).text()),
                rto_milliseconds: Some(3500),
                rpo_operations: Some(2),
                ..VRDrillStatus::default()
            });
            drill
        };
        let of = |metric: &str, value: &str| {
            format!(
                "{metric}{{namespace=\"shop\",name=\"prod\",scenario=\"RestoreFromObjectStore\"}} {value}"
            )
        };
        let mut known = Known::default();
        known.tell(led_by(Some(1)));
        let all = [drill("a", Some("Passed"), 60), drill("b", Some("Failed"), 30), drill("c", None, 0)];
        known.drills(all.iter());
        for (metric, value) in [
            ("vr_drill_running", "1"),
            ("vr_drill_passed", "0"),
            ("vr_drill_finished_timestamp_seconds", "1799999970"),
            ("vr_drill_passed_timestamp_seconds", "1799999940"),
            ("vr_drill_rto_seconds", "3.5"),
            ("vr_drill_rpo_operations", "2"),
        ] {
            assert!(known.shows(&of(metric, value)), "{metric}: {}", known.page(NOW));
        }
        known.drills([].into_iter());
        assert!(known.shows(&of("vr_drill_running", "0")) && known.shows(&of("vr_drill_passed", "0")));
        known.clusters(std::iter::empty());
        known.drills([].into_iter());
        assert!(!known.page(NOW).contains("shop"), "of a cluster that is gone nothing is told");
    }
}
