//! A change of the members as an edit: made from the configuration in force, and made again when another one came in
//! between. For callers that say what they want and not what it replaces, as etcd's do.

use super::refusal::Refused;
use super::{change, convert};
use crate::node;
use std::time::Duration;
use tokio::time::Instant;
use vr_core::Configuration;
use vr_proto::control as pb;
use vr_proto::control::refusal::Reason;

const PATIENCE: Duration = Duration::from_secs(6);
const AGAIN: Duration = Duration::from_millis(50);

/// Why an edit was not made.
pub(crate) enum NotEdited<E> {
    /// The edit itself does not fit what is in force.
    Edit(E),
    /// It was proposed, and refused.
    Refused(Refused),
}

/// Makes `edit` of the configuration in force and has it agreed; the configuration that came of it.
///
/// # Errors
/// See [`NotEdited`].
pub(crate) async fn edit<E>(
    fence: pb::Fence,
    edit: impl Fn(&Configuration) -> Result<Configuration, E>,
) -> Result<Configuration, NotEdited<E>> {
    let deadline = Instant::now() + PATIENCE;
    let mut current = node::with(|node| node.members().clone());
    loop {
        let next = edit(&current).map_err(NotEdited::Edit)?;
        let request = pb::ReconfigureRequest {
            fence: Some(fence),
            replaces: current.id().0.to_vec().into(),
            next: Some(convert::configuration(&next)),
        };
        let refused = match change::reconfigure(request).await {
            Ok(done) => {
                let epoch = done.configuration.map_or(current.epoch.0 + 1, |c| c.epoch);
                return Ok(Configuration { epoch: vr_core::Epoch(epoch), ..next });
            }
            Err(refused) => refused,
        };
        let again = matches!(refused.reason(), Reason::Stale | Reason::Pending) && Instant::now() < deadline;
        let Some(newer) = refused.current.clone().filter(|_| again) else {
            return Err(NotEdited::Refused(refused));
        };
        tokio::time::sleep(AGAIN).await;
        current = convert::known(newer).map_err(NotEdited::Refused)?;
    }
}
