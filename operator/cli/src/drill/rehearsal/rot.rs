//! Tiers of which nothing is left whole but one: what that one holds comes back, and the others become whole again by
//! themselves, since replicas read again what they have shipped.

use std::time::Instant;

use vr_checkpoint::verify::{self, Depth, Only};

use super::{PATIENCE, POLL, Rehearsal};
use crate::dev::tiers::{self, Access};

impl Rehearsal<'_> {
    /// The only tier that is not damaged, where all others are.
    pub(super) fn spared(&self) -> String {
        format!("nvme of replica {}", self.cluster.ids().into_iter().max().unwrap_or(0))
    }

    /// Every tier holds a checkpoint of the new generation that could be restored from it alone.
    pub(super) async fn check_tiers_are_whole(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let (whole, detail) = loop {
            match self.damaged_tiers().await {
                Ok(damaged) if damaged.is_empty() => {
                    break (true, "every tier has a whole checkpoint of its own".to_owned());
                }
                Ok(damaged) if Instant::now() >= deadline => break (false, damaged.join("; ")),
                Ok(damaged) => self.course.detail(|| format!("{} to go", damaged.len())),
                Err(error) => break (false, format!("{error:#}")),
            }
            tokio::time::sleep(POLL * 10).await;
        };
        self.course.check("tiersAreWholeAgain", whole, detail);
    }

    /// The tiers whose newest checkpoint is not of the present generation, or not whole.
    async fn damaged_tiers(&self) -> anyhow::Result<Vec<String>> {
        let description = self.cluster.description();
        let lineage = description.lineage.to_string();
        let only = Only { newest: true, generation: Some(description.generation), ..Only::default() };
        let mut damaged = Vec::new();
        for source in tiers::all(self.cluster, Access::Read).await? {
            let report = verify::verify(&source, &lineage, only, Depth::Frames).await;
            if !report.ok() || report.checkpoints.is_empty() {
                let problems =
                    report.problems.iter().chain(report.checkpoints.iter().flat_map(|c| &c.problems));
                let first = problems.map(|problem| format!("{}: {}", problem.object, problem.reason)).next();
                damaged.push(format!(
                    "{}: {}",
                    source.name,
                    first.unwrap_or_else(|| "no checkpoint".to_owned())
                ));
            }
        }
        Ok(damaged)
    }
}
