//! Lag, and what the gate makes of it, by clocks that the tests own.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const OTHER: ReplicaId = ReplicaId(2);

/// Two tiers, limits 10 s and 60 s.
fn behind(on_lag: OnLag) -> (Behind, Instant) {
    let tier = |kind, limit| Tier { kind, limit: SECOND * limit, own: 0, others: BTreeMap::new() };
    let behind = Behind {
        on_lag,
        tiers: vec![tier(TierKind::Nvme, 10), tier(TierKind::ObjectStore, 60)],
        commits: VecDeque::new(),
        gate: Gate::Open,
        delayed: 0,
        refused: 0,
    };
    (behind, Instant::now())
}

fn look(behind: &mut Behind, now: Instant, commit: u64, nvme: u64, store: u64) {
    let own = [(TierKind::Nvme, nvme), (TierKind::ObjectStore, store)];
    behind.look(now, commit, &own, &[OTHER]);
}

#[test]
fn lag_is_the_age_of_the_first_commit_that_is_lacking() {
    let (mut behind, start) = behind(OnLag::Alert);
    look(&mut behind, start, 5, 5, 5);
    // An hour without writes is no lag, and the write after it none of an hour.
    let later = start + SECOND * 3600;
    look(&mut behind, later, 5, 5, 5);
    assert_eq!(behind.lag(5, later), Duration::ZERO);
    look(&mut behind, later, 6, 5, 5);
    look(&mut behind, later + SECOND, 9, 5, 5);
    assert_eq!(behind.lag(5, later + SECOND * 3), SECOND * 3);
    assert_eq!(behind.lag(6, later + SECOND * 3), SECOND * 2);
    assert_eq!(behind.lag(9, later + SECOND * 3), Duration::ZERO);
    look(&mut behind, later + SECOND * 2, 9, 9, 9);
    assert!(behind.commits.is_empty(), "nobody lacks what was remembered");
}

#[test]
fn what_is_remembered_is_bounded_and_still_tells() {
    let (mut behind, start) = behind(OnLag::Block);
    for second in 0..20_000u32 {
        look(&mut behind, start + SECOND * second, u64::from(second) + 1, 0, 0);
    }
    assert!(behind.commits.len() <= COMMITS + 1);
    let now = start + SECOND * 20_000;
    assert_eq!(behind.lag(0, now), SECOND * 20_000, "the oldest stays");
    assert!(behind.lag(10_000, now) <= SECOND * 10_000);
    assert!(behind.lag(10_000, now) >= SECOND * 9_980);
}

#[test]
fn writes_are_refused_beyond_the_limit_and_let_in_at_half_of_it() {
    let (mut behind, start) = behind(OnLag::Block);
    let at = |seconds| start + SECOND * seconds;
    look(&mut behind, start, 1, 1, 0);
    look(&mut behind, at(60), 1, 1, 0);
    assert_eq!(behind.admit(at(60), 1, LONGEST), Ok(Duration::ZERO), "at the limit is not beyond it");
    look(&mut behind, at(61), 2, 1, 0);
    assert_eq!(behind.admit(at(61), 1, LONGEST), Err(Failure::Behind));
    // Another replica ships, and is a little behind: what came after a minute is lacking.
    behind.learn(OTHER, TierKind::ObjectStore, 1);
    look(&mut behind, at(62), 2, 2, 0);
    assert_eq!(behind.admit(at(62), 1, LONGEST), Ok(Duration::ZERO));
    // A tier that was half behind before it was shut stays open.
    look(&mut behind, at(61 + 31), 2, 2, 0);
    assert_eq!(behind.admit(at(92), 1, LONGEST), Ok(Duration::ZERO));
    look(&mut behind, at(61 + 61), 3, 2, 0);
    assert_eq!(behind.admit(at(122), 1, LONGEST), Err(Failure::Behind));
    look(&mut behind, at(140), 3, 2, 2);
    assert_eq!(
        behind.admit(at(140), 1, LONGEST),
        Err(Failure::Behind),
        "the disk lacks an op for 18 of 10 s"
    );
    look(&mut behind, at(141), 3, 3, 2);
    assert_eq!(behind.admit(at(141), 1, LONGEST), Ok(Duration::ZERO));
    assert_eq!(behind.refused, 3);
}

#[test]
fn a_shut_gate_waits_for_half_the_limit() {
    let (mut behind, start) = behind(OnLag::Block);
    let at = |seconds| start + SECOND * seconds;
    for second in 0..=61 {
        look(&mut behind, at(second), u64::from(second) + 1, u64::from(second) + 1, 0);
    }
    assert!(matches!(behind.gate, Gate::Shut(Late { kind: TierKind::ObjectStore, .. })));
    look(&mut behind, at(61), 62, 62, 30);
    assert!(matches!(behind.gate, Gate::Shut(_)), "31 s");
    look(&mut behind, at(61), 62, 62, 31);
    assert_eq!(behind.gate, Gate::Open);
}

#[test]
fn a_peer_that_is_gone_counts_no_more() {
    let (mut behind, start) = behind(OnLag::Block);
    look(&mut behind, start, 7, 0, 7);
    behind.learn(OTHER, TierKind::Nvme, 7);
    let own = [(TierKind::Nvme, 0), (TierKind::ObjectStore, 7)];
    behind.look(start + SECOND * 11, 7, &own, &[OTHER]);
    assert_eq!(behind.gate, Gate::Open);
    behind.look(start + SECOND * 11, 7, &own, &[]);
    assert!(matches!(behind.gate, Gate::Shut(Late { kind: TierKind::Nvme, .. })));
}

#[test]
fn writes_are_slowed_ever_more_and_never_wait_for_long() {
    let (mut behind, start) = behind(OnLag::Throttle);
    let at = |seconds| start + SECOND * seconds;
    let rate = |behind: &mut Behind, now| {
        // A second's worth of writes that all come at once: how many wait for less than a second.
        let mut waits = std::iter::repeat_with(|| behind.admit(now, 1, LONGEST)).take_while(Result::is_ok);
        waits.by_ref().take_while(|wait| wait.is_ok_and(|wait| wait < SECOND)).count()
    };
    look(&mut behind, start, 1, 0, 1);
    look(&mut behind, at(5), 1, 0, 1);
    assert_eq!(behind.gate, Gate::Open);
    let mut rates = Vec::new();
    for second in [6, 8, 10, 15, 100] {
        look(&mut behind, at(second), 1, 0, 1);
        rates.push(rate(&mut behind, at(second)));
    }
    assert!(rates.is_sorted_by(|a, b| a >= b), "{rates:?}");
    assert!(rates[0] > 3_000 && (90..=110).contains(&rates[2]) && rates[4] == 10, "{rates:?}");
    while behind.admit(at(100), 1, LONGEST).is_ok() {}
    assert_eq!(behind.admit(at(100), 1, LONGEST), Err(Failure::NotExecuted));
    assert!(
        behind.admit(at(101), 256, LONGEST).is_ok(),
        "one whose turn comes within the bound waits for it"
    );
    assert_eq!(behind.admit(at(101), 1, LONGEST), Err(Failure::NotExecuted), "a long one counts as many");
    look(&mut behind, at(102), 1, 1, 1);
    assert_eq!(behind.admit(at(102), 256, LONGEST), Ok(Duration::ZERO));
}

#[test]
fn alert_lets_everything_in() {
    let (mut behind, start) = behind(OnLag::Alert);
    look(&mut behind, start, 1, 0, 0);
    look(&mut behind, start + SECOND * 9999, 1, 0, 0);
    assert_eq!(behind.admit(start, 256, LONGEST), Ok(Duration::ZERO));
}
