//! One connection to one endpoint, and how each call is made on it.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::kv_client::KvClient;
use vr_proto::etcdserverpb::lease_client::LeaseClient;
use vr_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use vr_proto::etcdserverpb::watch_client::WatchClient;

use crate::answer::{Answer, anonymous, settle_order, settle_txn};
use crate::call::Call;

/// How long an answer may take before the test calls it lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connected client.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    watch: WatchClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Client {
    /// Connects lazily: the first call finds out whether anybody is there.
    pub(crate) fn new(name: &'static str, endpoint: &str) -> Client {
        let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("the fixture makes valid URLs");
        let channel = endpoint.clone().timeout(PATIENCE).connect_lazy();
        Client {
            name,
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            // Without a limit of time: these streams stay open.
            watch: WatchClient::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX),
            maintenance: MaintenanceClient::new(channel),
        }
    }

    /// Opens a watch stream; `requests` is what goes up on it.
    pub(crate) async fn watch(
        &self,
        requests: tokio_stream::wrappers::ReceiverStream<pb::WatchRequest>,
    ) -> Result<tonic::Streaming<pb::WatchResponse>, tonic::Status> {
        Ok(self.watch.clone().watch(requests).await?.into_inner())
    }

    /// Makes one call.
    pub(crate) async fn call(&self, call: &Call) -> Answer {
        match call.clone() {
            Call::Range(r) => {
                let request = r.clone();
                Answer::of(self.kv.clone().range(r).await, |mut r| {
                    anonymous(&mut r.header);
                    settle_order(&request, &mut r);
                    Answer::Range(r)
                })
            }
            Call::Put(r) => Answer::of(self.kv.clone().put(r).await, |mut r| {
                anonymous(&mut r.header);
                Answer::Put(r)
            }),
            Call::Delete(r) => Answer::of(self.kv.clone().delete_range(r).await, |mut r| {
                anonymous(&mut r.header);
                Answer::Delete(r)
            }),
            Call::Txn(r) => {
                let request = r.clone();
                Answer::of(self.kv.clone().txn(r).await, |mut r| {
                    anonymous(&mut r.header);
                    settle_txn(&request, &mut r);
                    Answer::Txn(r)
                })
            }
            Call::Compact(r) => Answer::of(self.kv.clone().compact(r).await, |mut r| {
                anonymous(&mut r.header);
                Answer::Compact(r)
            }),
            Call::Grant(r) => Answer::of(self.lease.clone().lease_grant(r).await, |mut r| {
                anonymous(&mut r.header);
                Answer::Grant(r)
            }),
            Call::Revoke(r) => Answer::of(self.lease.clone().lease_revoke(r).await, |mut r| {
                anonymous(&mut r.header);
                Answer::Revoke(r)
            }),
            Call::TimeToLive(r) => Answer::of(self.lease.clone().lease_time_to_live(r).await, |mut r| {
                anonymous(&mut r.header);
                // What is left depends on when one asks; that it is left does not.
                if (1..=r.granted_ttl).contains(&r.ttl) {
                    r.ttl = r.granted_ttl;
                }
                // etcd's order is that of a hash map.
                r.keys.sort();
                Answer::TimeToLive(r)
            }),
            Call::Leases(r) => Answer::of(self.lease.clone().lease_leases(r).await, |mut r| {
                anonymous(&mut r.header);
                // etcd sorts by what is left.
                r.leases.sort_by_key(|l| l.id);
                Answer::Leases(r)
            }),
            Call::KeepAlive(r) => self.keep_alive(r).await,
            Call::HashKv(r) => Answer::of(self.maintenance.clone().hash_kv(r).await, |mut r| {
                anonymous(&mut r.header);
                Answer::HashKv(r)
            }),
        }
    }

    async fn keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Answer {
        let outcome = async {
            let mut stream =
                self.lease.clone().lease_keep_alive(tokio_stream::once(request)).await?.into_inner();
            let first = stream.message().await?;
            first.ok_or_else(|| tonic::Status::cancelled("the stream ended without an answer"))
        };
        Answer::of(outcome.await.map(tonic::Response::new), |mut r| {
            anonymous(&mut r.header);
            Answer::KeepAlive(r)
        })
    }
}
