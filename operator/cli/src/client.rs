//! An etcd v3 client that goes on to the next endpoint when one does not answer.
//!
//! It does not retry: whoever asked knows whether an operation may be carried out twice.

use std::cell::Cell;
use std::time::Duration;

use tonic::transport::Channel;
use vr_proto::etcdserverpb::kv_client::KvClient;
use vr_proto::etcdserverpb::maintenance_client::MaintenanceClient;

use crate::endpoint::Endpoint;
use vr_replica::tls::Connector;

/// Answers may be as large as a page of the largest values.
const MAX_ANSWER: usize = usize::MAX;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// While something is asked, a server that vanished without a farewell is noticed within these two.
const KEEPALIVE: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections to all endpoints, opened when they are first used and again when they broke.
#[derive(Clone)]
pub struct Client {
    channels: Vec<Channel>,
    current: Cell<usize>,
}

impl Client {
    /// Nothing is sent yet. `timeout` holds for each call.
    #[must_use]
    pub fn new(endpoints: &[Endpoint], timeout: Duration, connector: &Connector) -> Client {
        let connect = |endpoint: &Endpoint| {
            tonic::transport::Endpoint::from_shared(endpoint.to_string())
                .expect("an endpoint is a valid URI")
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(timeout)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(16 << 20)
                .connect_with_connector_lazy(connector.clone())
        };
        Client { channels: endpoints.iter().map(connect).collect(), current: Cell::new(0) }
    }

    /// One that begins at another endpoint, so that many clients use all of them.
    #[must_use]
    pub fn beginning_at(&self, number: usize) -> Client {
        Client { channels: self.channels.clone(), current: Cell::new(number % self.channels.len()) }
    }

    /// Keys, through the endpoint that answered last.
    #[must_use]
    pub fn kv(&self) -> KvClient<Channel> {
        let channel = self.channels[self.current.get()].clone();
        KvClient::new(channel).max_decoding_message_size(MAX_ANSWER).max_encoding_message_size(MAX_ANSWER)
    }

    /// Maintenance of the server behind endpoint `number`.
    #[must_use]
    pub fn maintenance(&self, number: usize) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channels[number].clone())
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn endpoints(&self) -> usize {
        self.channels.len()
    }

    /// Use the next endpoint from now on.
    pub fn go_on(&self) {
        self.current.set((self.current.get() + 1) % self.channels.len());
    }
}
