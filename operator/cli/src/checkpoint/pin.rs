//! `vr checkpoint pin`, `unpin` and `pins`: names for checkpoints that shall stay.

use serde::Serialize;
use vr_checkpoint::format::{Names, Retained};
use vr_checkpoint::pin;

use super::Place;
use crate::output::{self, Format};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pin {
    name: String,
    checkpoint: String,
    op: u64,
    time_micros: u64,
}

impl Pin {
    fn new(name: String, retained: &Retained) -> Pin {
        let checkpoint = Names::checkpoint(&retained.manifest).to_owned();
        Pin { name, checkpoint, op: retained.op, time_micros: retained.time_micros }
    }
}

/// # Errors
/// When there is no such checkpoint, or the tier cannot be written to.
pub(super) async fn pin(place: &Place, name: &str, op: Option<u64>, format: Format) -> anyhow::Result<()> {
    let lineage = place.one().await?.1;
    let store = place.for_writing(lineage).await?;
    let retained = pin::pin(&*store, &lineage.to_string(), name, op).await?;
    show(&[Pin::new(name.to_owned(), &retained)], format)
}

/// # Errors
/// When nothing has this name, or the tier cannot be written to.
pub(super) async fn unpin(place: &Place, name: &str, format: Format) -> anyhow::Result<()> {
    let lineage = place.one().await?.1;
    let store = place.for_writing(lineage).await?;
    let retained = pin::unpin(&*store, &lineage.to_string(), name).await?;
    show(&[Pin::new(name.to_owned(), &retained)], format)
}

/// # Errors
/// When the tier cannot be read.
pub(super) async fn list(place: &Place, format: Format) -> anyhow::Result<()> {
    let (source, lineage) = place.one().await?;
    let pins = pin::pins(&*source.store, &lineage.to_string()).await?;
    let pins: Vec<Pin> = pins.into_iter().map(|(name, retained)| Pin::new(name, &retained)).collect();
    show(&pins, format)
}

fn show(pins: &[Pin], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&pins);
    }
    let mut table = output::table(["PIN", "CHECKPOINT", "OP", "TIME"]);
    for pin in pins {
        table.add_row([
            pin.name.clone(),
            pin.checkpoint.clone(),
            pin.op.to_string(),
            output::time(pin.time_micros),
        ]);
    }
    output::text(output::trimmed(&table))
}
