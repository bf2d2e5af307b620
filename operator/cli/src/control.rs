//! The way to the replicas' control ports: any endpoint that answers will do.

use std::time::Duration;

use clap::Args;
use tonic::transport::Channel;
use tonic::{Code, Status};
use vr_proto::control as pb;
use vr_proto::control::control_client::ControlClient;
use vr_proto::control::refusal::Reason;
use vr_proto::status::{cause, refusal};

use crate::endpoint::Endpoint;
use crate::trust::{Trust, TrustError};
use crate::units;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where to ask.
#[derive(Clone, Debug, Args)]
pub struct Where {
    /// Control ports of replicas; the first that answers speaks for all
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:2382",
        env = "VR_CONTROL"
    )]
    pub endpoints: Vec<Endpoint>,

    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub timeout: Duration,

    /// For https endpoints.
    #[command(flatten)]
    pub trust: Trust,
}

/// In whose name something is changed.
#[derive(Clone, Debug, Default, Args)]
pub struct Authority {
    /// The operator's fencing token; people have none
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    fencing_token: u64,

    /// Change it although an operator is in charge of this cluster (it may change it back)
    #[arg(long = "override", conflicts_with = "fencing_token")]
    overrides: bool,
}

impl Authority {
    /// As it is sent.
    #[must_use]
    pub fn fence(&self) -> pb::Fence {
        pb::Fence { token: self.fencing_token, r#override: self.overrides }
    }
}

/// Nothing was changed, or nothing was learned.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No endpoint answered.
    #[error(
        "no replica answers on {tried}; are these control ports, and does one of the replicas run? The last said: {last}"
    )]
    Silent {
        /// All of them.
        tried: String,
        /// What the last one's connection said.
        last: String,
    },
    /// A replica says why not.
    #[error("{}{}", .0.message, remedy(&.0.remedy))]
    Refused(Box<pb::Refusal>),
    /// Something else than a refusal came back.
    #[error("{endpoint} answers {:?}: {}", status.code(), status.message())]
    Strange {
        /// Who.
        endpoint: String,
        /// What.
        status: Box<Status>,
    },
}

fn remedy(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!("\n{remedy}") }
}

impl ControlError {
    /// Why a replica refused, if one did.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            ControlError::Refused(refusal) => Some(refusal.reason()),
            _ => None,
        }
    }
}

/// Connections to all endpoints, opened when they are used.
pub struct Control {
    channels: Vec<(Endpoint, Channel)>,
}

impl Control {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn new(place: &Where) -> Result<Control, TrustError> {
        let connector = place.trust.connector(&place.endpoints)?;
        let connect = |endpoint: &Endpoint| {
            let channel = tonic::transport::Endpoint::from_shared(endpoint.to_string())
                .expect("an endpoint is a valid URI")
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(place.timeout)
                .connect_with_connector_lazy(connector.clone());
            (endpoint.clone(), channel)
        };
        Ok(Control { channels: place.endpoints.iter().map(connect).collect() })
    }

    /// Asks one endpoint after the other until one answers. A call that may have arrived is not made a second time.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn call<T>(
        &self,
        call: impl AsyncFn(ControlClient<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, ControlError> {
        let mut last = "nothing was asked".to_owned();
        for (endpoint, channel) in &self.channels {
            let status = match call(ControlClient::new(channel.clone())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            if let Some(refusal) = refusal(&status) {
                return Err(ControlError::Refused(Box::new(refusal)));
            }
            if status.code() != Code::Unavailable {
                let endpoint = endpoint.to_string();
                return Err(ControlError::Strange { endpoint, status: Box::new(status) });
            }
            last = cause(&status);
        }
        let tried = self.channels.iter().map(|(e, _)| e.to_string()).collect::<Vec<_>>().join(", ");
        Err(ControlError::Silent { tried, last })
    }

    /// How the cluster is, as one of its replicas sees it and the others say of themselves.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status(&self) -> Result<pb::StatusResponse, ControlError> {
        self.call(async |mut client| client.status(pb::StatusRequest { all: true }).await).await
    }
}
