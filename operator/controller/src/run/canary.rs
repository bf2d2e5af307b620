//! The canary: one key of the cluster that a drill writes as any etcd client would, and looks for in its copy.

use super::control::Slots;
use crate::ids::*;
use crate::objects::CLIENT_PORT;
use std::time::Duration;
use vr_proto::etcdserverpb::PutRequest;
use vr_proto::etcdserverpb::kv_client::KvClient;

/// So long a write may take, through a view change if there is one.
const WRITES: Duration = Duration::from_secs(8);

/// Writes it, and returns an op by which it is committed.
pub(super) async fn write(slots: &Slots, plain: bool, (key, value): (&str, &str)) -> anyhow::Result<Op> {
    let channel = slots.beside(CLIENT_PORT, plain);
    let channel = channel.ok_or_else(|| anyhow::anyhow!("no replica takes part that could be asked"))?;
    let request =
        PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
    let mut client = KvClient::new(channel);
    match tokio::time::timeout(WRITES, client.put(request)).await {
        Err(_) => anyhow::bail!("the canary was not acknowledged within {} s", WRITES.as_secs()),
        Ok(Err(status)) => anyhow::bail!("the canary was refused: {}", status.message()),
        Ok(Ok(_)) => {}
    }
    // Whoever has committed most has committed it.
    let commit = slots.commit().await;
    commit.ok_or_else(|| anyhow::anyhow!("no replica says how far it has committed"))
}
