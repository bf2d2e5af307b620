//! The key by which the records of a cluster's drills are signed: a Secret `NAME-evidence`, made once, which outlives
//! the cluster, as the records do. `public.pem` in it is what an auditor is given.

use crate::objects::Naming;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams};
use vr_api::VRCluster;
use vr_evidence::envelope::SigningKey;

const KEY: &str = "key.pkcs8";
const PUBLIC: &str = "public.pem";

/// Makes or reads it.
pub(super) async fn key(client: &Client, cluster: &VRCluster) -> anyhow::Result<SigningKey> {
    let naming = Naming::of(cluster);
    let name = format!("{}-evidence", naming.name());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), naming.namespace());
    let read = |secret: &Secret| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(KEY));
        let bytes = bytes.ok_or_else(|| {
            anyhow::anyhow!(
                "Secret {name} has no {KEY}: delete it, and records are signed \
             by a new key from then on"
            )
        })?;
        SigningKey::from_pkcs8(&bytes.0).map_err(|error| anyhow::anyhow!("Secret {name}, {KEY}: {error}"))
    };
    if let Some(secret) = secrets.get_opt(&name).await? {
        return read(&secret);
    }
    let (key, bytes) = SigningKey::generate()?;
    let data = [(KEY, bytes), (PUBLIC, key.public().pem().into_bytes())];
    let made = Secret {
        metadata: naming.kept(name.clone()),
        data: Some(data.into_iter().map(|(key, bytes)| (key.to_owned(), ByteString(bytes))).collect()),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &made).await {
        Ok(made) => read(&made),
        // Another operator was first.
        Err(kube::Error::Api(status)) if status.code == 409 => read(&secrets.get(&name).await?),
        Err(error) => Err(error.into()),
    }
}
