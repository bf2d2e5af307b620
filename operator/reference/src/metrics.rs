//! Every metric that a replica or the operator shows.

use crate::table::{code, table};

pub(crate) fn page() -> String {
    let replica = vr_replica::metrics::FAMILIES.iter().map(|family| {
        row(family.name, family.kind, &family.label().into_iter().collect::<Vec<_>>(), family.help)
    });
    let operator = vr_operator::run::metrics::FAMILIES
        .iter()
        .map(|family| row(family.name, family.kind, family.labels, family.help));
    let head = ["Metric", "Type", "Labels", "Meaning"];
    format!(
        "# Metrics\n\nMade of the code by a test. Both pages are in the Prometheus text format.\n\n## Of a replica\n\n\
         At `/metrics` of the admin port. A chart's PodMonitor adds `namespace` and `pod`.\n\n{}\n## Of the operator\n\n\
         At `/metrics` of `--listen`. Of clusters only the operator that acts says anything.\n\n{}",
        table(head, &replica.collect::<Vec<_>>()),
        table(head, &operator.collect::<Vec<_>>()),
    )
}

fn row(name: &str, kind: &str, labels: &[&str], help: &str) -> [String; 4] {
    let labels: Vec<String> = labels.iter().map(|label| code(label)).collect();
    [code(name), kind.to_owned(), labels.join(", "), help.to_owned()]
}
