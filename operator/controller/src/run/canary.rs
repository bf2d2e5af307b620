//! What drills read and write in a cluster, as any etcd client would: one key, its canary, and what is below a prefix.

use super::control::Slots;
use crate::ids::*;
use crate::objects::CLIENT_PORT;
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;
use vr_proto::etcdserverpb::kv_client::KvClient;
use vr_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

/// So long an answer may take, through a view change if there is one.
const ANSWERS: Duration = Duration::from_secs(8);

/// A way to the keys of one cluster.
pub(super) struct Keys<'a> {
    slots: &'a Slots,
    client: KvClient<Channel>,
}

impl<'a> Keys<'a> {
    /// By a replica that takes part; `plain` where clients speak without TLS.
    pub(super) fn of(slots: &'a Slots, plain: bool) -> anyhow::Result<Keys<'a>> {
        let channel = slots.beside(CLIENT_PORT, plain);
        let channel = channel.ok_or_else(|| anyhow::anyhow!("no replica takes part that could be asked"))?;
        Ok(Keys { slots, client: KvClient::new(channel) })
    }

    /// Writes a key.
    pub(super) async fn put(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        let request = PutRequest { key, value, ..PutRequest::default() };
        answered(&format!("the write of {}", text(&request.key)), self.client.put(request)).await.map(drop)
    }

    /// Writes the canary, and returns an op by which it is committed.
    pub(super) async fn write(mut self, key: &str, value: &str) -> anyhow::Result<Op> {
        self.put(key, value).await?;
        // Whoever has committed most has committed it.
        let commit = self.slots.commit().await;
        commit.ok_or_else(|| anyhow::anyhow!("no replica says how far it has committed"))
    }

    /// Whether there is such a key.
    pub(super) async fn holds(&mut self, key: &str) -> anyhow::Result<bool> {
        let request =
            RangeRequest { key: key.to_owned().into(), count_only: true, ..RangeRequest::default() };
        let answer = answered(&format!("the read of {key}"), self.client.range(request)).await?;
        Ok(answer.into_inner().count > 0)
    }

    /// Deletes everything below a prefix that ends with a slash.
    pub(super) async fn sweep(&mut self, prefix: &str) -> anyhow::Result<()> {
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let request = DeleteRangeRequest {
            key: prefix.to_owned().into(),
            range_end: end.into(),
            ..DeleteRangeRequest::default()
        };
        answered(&format!("the deletion of {prefix}"), self.client.delete_range(request)).await.map(drop)
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

async fn answered<T>(what: &str, asked: impl Future<Output = Result<T, Status>>) -> anyhow::Result<T> {
    match tokio::time::timeout(ANSWERS, asked).await {
        Err(_) => anyhow::bail!("{what} was not answered within {} s", ANSWERS.as_secs()),
        Ok(Err(status)) => anyhow::bail!("{what} was refused: {}", status.message()),
        Ok(Ok(answer)) => Ok(answer),
    }
}
