//! A cluster as data: what its replicas say, put together, with what follows from it. This is what `-o json` and
//! `-o yaml` print.

use serde::Serialize;
use vr_proto::control as pb;

/// The whole cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The database, a UUID.
    pub lineage: String,
    /// Its restores.
    pub generation: u64,
    /// What is to be said of the whole.
    pub health: Health,
    /// Who leads.
    pub primary: Option<u64>,
    /// The newest ballot that anybody is in.
    pub epoch: u64,
    /// Its view.
    pub view: u64,
    /// What identifies the configuration, hexadecimal.
    pub configuration_id: String,
    /// A commit quorum must span two failure domains.
    pub span_domains: bool,
    /// How long a primary answers reads by one confirmation, in microseconds; 0: each read waits for one.
    pub read_lease_micros: u64,
    /// The highest fencing token; 0 without an operator.
    pub fencing_token: u64,
    /// Every member, and those that say that they are one.
    pub replicas: Vec<Row>,
    /// The newest state that a restore could reach on each kind of tier.
    pub recovery: Vec<Recovery>,
}

/// One sentence, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `Healthy`, `Degraded`, `AtMinimum`, `EpochBegins`, `NoPrimary`, `QuorumUnavailable` or `QuorumLost`.
    pub state: &'static str,
    /// How many more voters may fail.
    pub tolerates: i64,
    /// For a person.
    pub says: String,
}

/// One replica.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its id.
    pub id: u64,
    /// `voter`, `learner` or `removed`.
    pub role: &'static str,
    /// What it says of itself; `Silent` when it says nothing.
    pub status: String,
    /// Takes part and can answer.
    pub ready: bool,
    /// Which start.
    pub incarnation: u64,
    /// Failure domain.
    pub domain: String,
    /// For peers.
    pub peer: String,
    /// For clients.
    pub client: String,
    /// Newest entry of its log.
    pub op: Option<u64>,
    /// Newest entry that it knows to be committed.
    pub commit: Option<u64>,
    /// How many entries it is behind the newest commit that anybody knows.
    pub lag: Option<u64>,
    /// When another one last heard of it, milliseconds ago.
    pub heard_ms: Option<u64>,
    /// From the asked replica and back, microseconds.
    pub round_trip_micros: Option<u64>,
    /// Bytes of state.
    pub state_bytes: Option<u64>,
    /// Its program.
    pub version: String,
    /// Its process.
    pub process: Option<u64>,
    /// Why it stopped, or what is to be done about it.
    pub remark: String,
    /// Its tiers.
    pub tiers: Vec<Tier>,
}

/// One tier of one replica.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tier {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// Op of its newest checkpoint.
    pub checkpoint_op: u64,
    /// Newest op that a restore from it could reach.
    pub recovery_op: u64,
    /// How far it is behind what is committed.
    pub lag_seconds: f64,
    /// Why its last run failed.
    pub error: Option<String>,
}

/// The best that a kind of tier holds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// Newest op that a restore could reach.
    pub op: u64,
    /// How far that is behind what is committed.
    pub lag_seconds: f64,
    /// On which replica.
    pub replica: u64,
}

impl Page {
    /// Puts together what was answered.
    #[must_use]
    pub fn new(answer: &pb::StatusResponse) -> Page {
        let said: Vec<&pb::ReplicaStatus> = answer.asked.iter().chain(&answer.others).collect();
        // Whoever is in the newest ballot knows the newest configuration.
        let newest = said.iter().max_by_key(|s| (ballot(s), s.status == "Normal", s.commit));
        let empty = pb::ReplicaStatus::default();
        let newest = newest.map_or(&empty, |status| *status);
        let configuration = newest.configuration.clone().unwrap_or_default();
        let commit = said.iter().map(|s| s.commit).max().unwrap_or(0);
        let mut replicas: Vec<Row> = configuration
            .order
            .iter()
            .map(|member| (member, "voter"))
            .chain(configuration.learners.iter().map(|member| (member, "learner")))
            .map(|(member, role)| row(member, role, &said, answer, commit))
            .collect();
        for status in &said {
            if replicas.iter().all(|row| row.id != status.replica) {
                let member = pb::Member { id: status.replica, ..pb::Member::default() };
                replicas.push(row(&member, "removed", &said, answer, commit));
            }
        }
        let (epoch, view) = ballot(newest);
        Page {
            lineage: newest.lineage.clone(),
            generation: newest.generation,
            health: health(newest, &replicas),
            primary: (newest.primary > 0).then_some(newest.primary),
            epoch,
            view,
            configuration_id: hex(&configuration.id),
            span_domains: configuration.span_domains,
            read_lease_micros: configuration.read_lease_micros,
            fencing_token: said.iter().map(|s| s.fence).max().unwrap_or(0),
            recovery: recovery(&said),
            replicas,
        }
    }
}

/// What `status` is in.
#[must_use]
pub fn ballot(status: &pb::ReplicaStatus) -> (u64, u64) {
    status.ballot.map_or((0, 0), |ballot| (ballot.epoch, ballot.view))
}

fn row(
    member: &pb::Member,
    role: &'static str,
    said: &[&pb::ReplicaStatus],
    answer: &pb::StatusResponse,
    commit: u64,
) -> Row {
    let status = said.iter().find(|s| s.replica == member.id);
    let seen = |s: &&&pb::ReplicaStatus| s.replica != member.id;
    let heard = said.iter().filter(seen).flat_map(|s| &s.peers).filter(|peer| peer.id == member.id);
    let asked = answer.asked.iter().flat_map(|s| &s.peers).find(|peer| peer.id == member.id);
    let remark = status.map_or_else(String::new, |s| match s.halted.is_empty() {
        true => s.remedy.clone(),
        false => s.halted.clone(),
    });
    Row {
        id: member.id,
        role,
        status: status.map_or_else(|| "Silent".to_owned(), |s| s.status.clone()),
        ready: status.is_some_and(|s| s.ready),
        incarnation: status.map_or(0, |s| s.incarnation),
        domain: member.domain.clone(),
        peer: member.peer.clone(),
        client: member.client.clone(),
        op: status.map(|s| s.op),
        commit: status.map(|s| s.commit),
        lag: status.map(|s| commit.saturating_sub(s.commit)),
        heard_ms: heard.filter_map(|peer| peer.heard_ms).min(),
        round_trip_micros: asked.and_then(|peer| peer.round_trip_micros),
        state_bytes: status.map(|s| s.state_bytes),
        version: status.map_or_else(String::new, |s| s.version.clone()),
        process: status.map(|s| s.process),
        remark,
        tiers: status.map_or_else(Vec::new, |s| s.tiers.iter().map(tier).collect()),
    }
}

fn tier(tier: &pb::Tier) -> Tier {
    Tier {
        tier: tier.tier.clone(),
        checkpoint_op: tier.checkpoint_op,
        recovery_op: tier.recovery_op,
        lag_seconds: tier.lag_seconds,
        error: (!tier.error.is_empty()).then(|| tier.error.clone()),
    }
}

fn recovery(said: &[&pb::ReplicaStatus]) -> Vec<Recovery> {
    let mut best: Vec<Recovery> = Vec::new();
    for status in said {
        for tier in &status.tiers {
            let found = Recovery {
                tier: tier.tier.clone(),
                op: tier.recovery_op,
                lag_seconds: tier.lag_seconds,
                replica: status.replica,
            };
            match best.iter_mut().find(|b| b.tier == tier.tier) {
                Some(known) if known.op < found.op => *known = found,
                Some(_) => {}
                None => best.push(found),
            }
        }
    }
    best
}

fn health(newest: &pb::ReplicaStatus, replicas: &[Row]) -> Health {
    let voters = replicas.iter().filter(|row| row.role == "voter");
    let (all, good) = voters.fold((0i64, 0i64), |(all, good), row| (all + 1, good + i64::from(row.ready)));
    let quorum = all / 2 + 1;
    let tolerates = good - quorum;
    let of = format!("{good} of {all} voters take part");
    let comes = |row: &&Row| row.role == "voter" && row.status == "Transitioning";
    let coming = replicas.iter().filter(comes).count() as i64;
    let (state, says) = if replicas.iter().any(|row| row.status == "QuorumLost") {
        let says = "a majority has lost its memory and nobody leads: nothing is served until a restore";
        ("QuorumLost", says.to_owned())
    } else if tolerates < 0 && tolerates + coming >= 0 {
        (
            "EpochBegins",
            format!("{of} in an epoch that has just begun, {coming} are on their way: requests wait"),
        )
    } else if tolerates < 0 {
        ("QuorumUnavailable", format!("{of}, {quorum} are needed: nothing is served until more come back"))
    } else if newest.primary == 0 {
        ("NoPrimary", format!("{of}, but nobody leads: a view change should end that within a second"))
    } else if good == all {
        ("Healthy", format!("{of}; {}", may_fail(tolerates)))
    } else if tolerates == 0 {
        (
            "AtMinimum",
            format!("{of}: the next one that fails stops the service; bring one back or replace it"),
        )
    } else {
        ("Degraded", format!("{of}; {}", may_fail(tolerates)))
    };
    Health { state, tolerates, says }
}

fn may_fail(tolerates: i64) -> String {
    match tolerates {
        0 => "none may fail".to_owned(),
        n => format!("{n} more may fail"),
    }
}

/// Bytes as people compare them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(replica: u64, ready: bool, primary: u64) -> pb::ReplicaStatus {
        let member = |id| pb::Member { id, ..pb::Member::default() };
        pb::ReplicaStatus {
            replica,
            ready,
            primary,
            status: "Normal".to_owned(),
            commit: 10 * replica,
            ballot: Some(pb::Ballot { epoch: 0, view: replica }),
            configuration: Some(pb::Configuration {
                order: vec![member(1), member(2), member(3)],
                ..pb::Configuration::default()
            }),
            peers: vec![pb::Peer { id: 3, heard_ms: Some(7 * replica), ..pb::Peer::default() }],
            ..pb::ReplicaStatus::default()
        }
    }

    #[test]
    fn whoever_is_silent_is_shown_by_what_others_heard() {
        let answer = pb::StatusResponse {
            asked: Some(status(1, true, 2)),
            others: vec![status(2, true, 2)],
            silent: vec![3],
        };
        let page = Page::new(&answer);
        let third = &page.replicas[2];
        assert_eq!((third.status.as_str(), third.heard_ms, third.lag), ("Silent", Some(7), None));
        assert_eq!(page.replicas[0].lag, Some(10));
        assert_eq!((page.health.state, page.health.tolerates, page.primary), ("AtMinimum", 0, Some(2)));
    }

    #[test]
    fn the_verdict_follows_from_who_takes_part() {
        let verdict = |ready: &[bool], primary| {
            let others = ready[1..].iter().enumerate().map(|(i, &r)| status(i as u64 + 2, r, primary));
            let (asked, others) = (Some(status(1, ready[0], primary)), others.collect());
            Page::new(&pb::StatusResponse { asked, others, silent: Vec::new() }).health.state
        };
        assert_eq!(verdict(&[true, true, true], 1), "Healthy");
        assert_eq!(verdict(&[true, true, false], 1), "AtMinimum");
        assert_eq!(verdict(&[true, false, false], 1), "QuorumUnavailable");
        assert_eq!(verdict(&[true, true, true], 0), "NoPrimary");
        let between = |id| pb::ReplicaStatus { status: "Transitioning".to_owned(), ..status(id, false, 0) };
        let (asked, others) = (Some(between(1)), vec![between(2)]);
        let page = Page::new(&pb::StatusResponse { asked, others, silent: vec![3] });
        assert_eq!(page.health.state, "EpochBegins");
    }
}
