//! A disaster that can be looked at again: the recording of the replica that took over, replayed here.

use crate::dev::cluster::Cluster;
use crate::http;
use std::time::Duration;
use vr_recorder::Recording;

/// Writing out takes as long as the state is large.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fetches what a replica was told lately and tells it again; what that came to, for a person.
///
/// # Errors
/// The reason why it did not come to the same, or why there is nothing to compare.
pub async fn replay(cluster: &Cluster, id: u64) -> Result<String, String> {
    let admin = cluster.admin_address(id).ok_or_else(|| format!("there is no replica {id}"))?;
    let (success, body) =
        http::get(admin, "/debug/flight-recorder", PATIENCE).await.map_err(|error| error.to_string())?;
    if !success {
        return Err(format!("replica {id} has no recording: {}", String::from_utf8_lossy(&body).trim()));
    }
    let replayed = tokio::task::spawn_blocking(move || {
        let recording = Recording::read(&body).map_err(|error| error.to_string())?;
        recording.replay(|_| {}).map_err(|error| error.to_string())
    });
    let replayed = replayed.await.map_err(|error| error.to_string())??;
    let root = replayed.root.ok_or("a state was on its way in when it was recorded")?;
    Ok(format!("{} steps of replica {id} came to the same effects and to root {root} again", replayed.steps))
}
