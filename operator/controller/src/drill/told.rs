//! What a copy has told, into the status of the drill; and the status, with what the operator has found besides, into the
//! report that is kept. Pure.

use crate::ids::Moment;
use vr_api::{Candidate, DrillCheck, DrillImpact, DrillPhase, DrillScenario, VRDrillStatus};
use vr_evidence::report::{self, Outcome, Report, RestoredFrom};

/// What the copy or the probe told.
pub(super) fn reported(status: &mut VRDrillStatus, report: Report) {
    let millis = |seconds: f64| (seconds * 1000.0).round() as i64;
    status.rto_milliseconds = report.rto_seconds.map(millis);
    let live = status.impact.is_some();
    let restored = report.restored_from.is_some();
    status.rpo_milliseconds = (live || restored).then(|| millis(report.rpo_seconds));
    let lost = if live { Some(report.lost_ops) } else { report.rpo_ops };
    status.rpo_operations = lost.and_then(|ops| i64::try_from(ops).ok());
    status.acknowledged_writes = if live { i64::try_from(report.acknowledged_ops).ok() } else { None };
    status.expected_root = report.expected_root;
    status.op = report.restored_from.as_ref().map(|from| i64::try_from(from.op).unwrap_or(i64::MAX));
    status.found_root = report.restored_from.as_ref().map(|from| from.root.clone());
    status.candidates = report
        .candidates
        .into_iter()
        .map(|c| Candidate {
            source: c.source,
            op: i64::try_from(c.op).unwrap_or(i64::MAX),
            time: c.time,
            remark: c.remark,
        })
        .collect();
    status.phases = report
        .phases
        .into_iter()
        .map(|p| DrillPhase { name: p.name, milliseconds: i64::try_from(p.millis).unwrap_or(i64::MAX) })
        .collect();
    status.checks = report
        .checks
        .into_iter()
        .map(|c| DrillCheck { name: c.name, passed: c.passed, detail: c.detail })
        .collect();
    if let (Some(from), Some(source)) = (&report.restored_from, &status.source) {
        let same = from.lineage == source.lineage && i64::try_from(from.generation) == Ok(source.generation);
        let detail = format!("lineage {}, generation {}", from.lineage, from.generation);
        status.checks.push(DrillCheck { name: "sourceIsTheCluster".to_owned(), passed: same, detail });
    }
    let result = match report.result {
        Outcome::Passed => "Passed",
        Outcome::Failed => "Failed",
        Outcome::Errored => "Errored",
    };
    status.result = Some(result.to_owned());
    status.reason = report.reason;
}

/// What the probe cannot know.
pub(super) fn of_impact(status: &mut VRDrillStatus, impact: &DrillImpact) {
    let moment = |text: &Option<String>| text.as_deref().and_then(Moment::parse);
    let names: Vec<_> = impact.replicas.iter().map(|target| target.pod_name.as_str()).collect();
    let (passed, detail) = match (moment(&impact.at), moment(&impact.whole_at)) {
        (Some(at), Some(whole)) => (true, format!("{} back after {}", names.join(", "), whole.since(at))),
        _ => (false, "the probe ended before the cluster was whole again".to_owned()),
    };
    status.checks.push(DrillCheck { name: "wholeAgain".to_owned(), passed, detail });
}

/// The report with what the operator has found besides: what is kept.
pub(crate) fn report(scenario: DrillScenario, status: &VRDrillStatus) -> Report {
    let seconds = |millis: i64| millis as f64 / 1000.0;
    let whole = |number: i64| u64::try_from(number).unwrap_or_default();
    let source = status.source.clone().unwrap_or_default();
    let mut report = Report::of(&format!("{scenario:?}"));
    report.result = match status.result.as_deref() {
        Some("Passed") => Outcome::Passed,
        Some("Failed") => Outcome::Failed,
        _ => Outcome::Errored,
    };
    report.reason = status.reason.clone();
    report.rto_seconds = status.rto_milliseconds.map(seconds);
    report.rpo_seconds = status.rpo_milliseconds.map_or(0.0, seconds);
    report.rpo_ops = status.rpo_operations.map(whole);
    report.acknowledged_ops = status.acknowledged_writes.map_or(0, whole);
    if scenario.is_live() {
        report.lost_ops = report.rpo_ops.take().unwrap_or_default();
    }
    report.expected_root = status.expected_root.clone();
    report.restored_from = status.found_root.clone().map(|root| RestoredFrom {
        tier: "objectStore".to_owned(),
        lineage: source.lineage.clone(),
        generation: whole(source.generation),
        op: whole(status.op.unwrap_or_default()),
        root,
    });
    report.candidates = status
        .candidates
        .iter()
        .map(|c| report::Candidate {
            source: c.source.clone(),
            op: whole(c.op),
            time: c.time.clone(),
            remark: c.remark.clone(),
        })
        .collect();
    report.phases = status
        .phases
        .iter()
        .map(|p| report::Phase { name: p.name.clone(), millis: whole(p.milliseconds) })
        .collect();
    report.checks = status
        .checks
        .iter()
        .map(|c| report::Check { name: c.name.clone(), passed: c.passed, detail: c.detail.clone() })
        .collect();
    report
}
