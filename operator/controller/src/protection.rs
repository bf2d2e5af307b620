//! What a restore would reach: each tier, the newest and the oldest state, and what follows for the conditions
//! `CheckpointHealthy`, `Recoverable`, `DrillPassing` and `CertificatesValid`.
//!
//! As replicas say it, and as an inventory of the object store has found it: that a checkpoint can be read again is
//! known of it once it was.

use crate::evidence::Look;
use crate::ids::*;
use crate::proven::{passing, verified};
use crate::report::Fact;
use crate::rotation::Rotation;
use crate::snapshot::{Certificates, Said, Tier};
use vr_api::{RecoveryPoint, TierStatus, VRClusterStatus};

/// The name of the object store among the tiers.
const STORE: &str = "objectStore";
/// Intervals that a tier may be behind before it counts as unhealthy, and what comes on top where they are short.
const INTERVALS: i64 = 3;
const SLACK: Seconds = Seconds(30);

/// How long before its end a certificate that people bring is to be renewed.
const EXPIRES: Seconds = Seconds(7 * 24 * 3600);

/// Writes what the tiers hold, as far as replicas were heard.
pub(crate) fn tiers(look: &Look<'_>, status: &mut VRClusterStatus) {
    let known = newest(look);
    if known.is_empty() {
        return;
    }
    status.tiers = known.iter().map(|(said, tier)| row(said, tier)).collect();
    // The safest one that holds anything is what counts after the worst day.
    let safest = known.iter().rev().find(|(_, tier)| tier.holds && tier.reaches > Op(0));
    let row = safest.and_then(|(_, tier)| status.tiers.iter().find(|row| row.name == tier.name));
    if let Some(TierStatus { name, op: Some(op), time: Some(time), .. }) = row {
        status.recovery_point = Some(RecoveryPoint { op: *op, time: time.clone(), tier: name.clone() });
    }
    if let Some(Some(oldest)) = look.seen.oldest.fresh(look.now, Seconds(i64::MAX)) {
        let time = oldest.time.map(Moment::text).unwrap_or_default();
        let point = RecoveryPoint { op: oldest.op.signed(), time, tier: STORE.to_owned() };
        status.first_recovery_point = Some(point).filter(|point| !point.time.is_empty());
    }
}

/// Each tier as whoever knows most of it says: of the object store whoever ships there, of disks whoever is furthest.
fn newest<'a>(look: &Look<'a>) -> Vec<(&'a Said, &'a Tier)> {
    let configuration = look.configuration();
    let voters = configuration.map(|c| c.voters.as_slice()).unwrap_or_default();
    let heard: Vec<_> = voters.iter().filter_map(|m| look.said(m.slot, m.id)).collect();
    let of = |name: &str| {
        let all = heard.iter().filter_map(|said| Some((*said, said.tiers.iter().find(|t| t.name == name)?)));
        all.max_by_key(|(said, tier)| (name == STORE && said.shipper == Some(said.replica), tier.reaches))
    };
    ["nvme", "volume", STORE].into_iter().filter_map(of).collect()
}

fn row(said: &Said, tier: &Tier) -> TierStatus {
    TierStatus {
        name: tier.name.clone(),
        op: Some(tier.reaches.signed()),
        time: tier.holds.then(|| (said.at + Seconds(-tier.lag.0)).text()),
        lag_seconds: Some(tier.lag.0),
    }
}

/// The conditions.
pub(crate) fn conditions(look: &Look<'_>, status: &VRClusterStatus) -> [(&'static str, Fact); 4] {
    let wanted = &look.wanted;
    [
        ("CheckpointHealthy", healthy(look)),
        ("Recoverable", recoverable(look, status)),
        ("DrillPassing", passing(&wanted.name, status.last_drill.as_ref(), wanted.drill_max_age, look.now)),
        ("CertificatesValid", certificates(look)),
    ]
}

fn healthy(look: &Look<'_>) -> Fact {
    let known = newest(look);
    if known.is_empty() {
        return (
            None,
            "StatusStale",
            "no replica was heard; `kubectl vr status` tells what is awaited".to_owned(),
        );
    }
    if let Some((said, tier)) = known.iter().find(|(_, tier)| tier.error.is_some()) {
        let why = tier.error.clone().unwrap_or_default();
        return (Some(false), "Failing", format!("{} of replica {}: {why}", tier.name, said.replica));
    }
    let most = Seconds(look.wanted.shipping.0 * INTERVALS + SLACK.0);
    if let Some((_, tier)) = known.iter().find(|(_, tier)| tier.lag > most) {
        return (
            Some(false),
            "Lagging",
            format!("{} is more than {most} behind what is committed", tier.name),
        );
    }
    if let Some((_, tier)) = known.iter().find(|(_, tier)| !tier.holds) {
        return (Some(false), "NeverCheckpointed", format!("{} holds no checkpoint yet", tier.name));
    }
    let names: Vec<_> = known.iter().map(|(_, tier)| tier.name.as_str()).collect();
    (Some(true), "Shipping", format!("{} hold checkpoints and keep up", names.join(", ")))
}

/// Whether the loss of everything here would be survived, and within the objective.
fn recoverable(look: &Look<'_>, status: &VRClusterStatus) -> Fact {
    let known = newest(look);
    let store = known.iter().find(|(_, tier)| tier.name == STORE).map(|(_, tier)| tier);
    let Some(store) = store else {
        let last = status.recovery_point.as_ref().map_or_else(String::new, |point| {
            format!("; the last recovery point that is known is op {} of {}", point.op, point.time)
        });
        return (None, "StatusStale", format!("no replica was heard{last}"));
    };
    if !store.holds {
        let says = "the object store holds no checkpoint yet: the loss of a majority would be the loss of everything";
        return (Some(false), "NeverCheckpointed", says.to_owned());
    }
    if let Some(objective) = look.wanted.rpo.filter(|objective| store.lag > *objective) {
        let says = format!("the object store is more than objectives.rpoSeconds, {objective}, behind");
        return (Some(false), "StaleBeyondRPO", says);
    }
    let drill = status.last_drill.as_ref();
    if let Some(passed) = drill.and_then(|drill| verified(drill, look.wanted.drill_max_age, look.now)) {
        let says = format!("a drill restored it at {}", passed.text());
        return (Some(true), "Verified", says);
    }
    // Whoever ships it reads the checksum that the store has computed.
    let says = "the object store holds a checkpoint that the store has checked on arrival; `vr checkpoint verify` \
                reads it again";
    (Some(true), "Checksummed", says.to_owned())
}

fn certificates(look: &Look<'_>) -> Fact {
    match (validity(look), &look.seen.rotation) {
        ((Some(true), _, says), Some(Rotation::Underway(how))) => {
            (Some(true), "Rotating", format!("{how}; {says}"))
        }
        ((Some(true), ..), Some(Rotation::Refused(why))) => (Some(false), "RotationRefused", why.clone()),
        (fact, _) => fact,
    }
}

fn validity(look: &Look<'_>) -> Fact {
    match look.seen.certificates.fresh(look.now, Seconds(i64::MAX)) {
        None => (None, "NotLookedAt", "there are no certificates yet".to_owned()),
        Some(Certificates::Renewed(at)) if look.now < *at => {
            (Some(true), "Managed", format!("the first of them is made anew at {}", at.text()))
        }
        Some(Certificates::Renewed(at)) => {
            (Some(false), "Overdue", format!("the first of them should have been made anew at {}", at.text()))
        }
        Some(Certificates::Given { secret, expires }) if look.now + EXPIRES < *expires => {
            let says = format!(
                "Secret {secret} has what is needed, until {}; whoever made it renews it",
                expires.text()
            );
            (Some(true), "Given", says)
        }
        Some(Certificates::Given { secret, expires }) => {
            (Some(false), "Expiring", format!("Secret {secret} expires at {}: renew it", expires.text()))
        }
        Some(Certificates::Issued { issuer, expires }) if look.now < *expires => {
            let says = format!(
                "issuer {issuer} has signed them, and cert-manager renews them; the first ends at {}",
                expires.text()
            );
            (Some(true), "Issued", says)
        }
        Some(Certificates::Issued { issuer, expires }) => {
            let says = format!(
                "the first of them has ended at {}, and issuer {issuer} has signed no other one: `kubectl describe \
                 certificate` tells why",
                expires.text()
            );
            (Some(false), "Expired", says)
        }
        Some(Certificates::Failed(why)) => (Some(false), "Failed", why.clone()),
    }
}
