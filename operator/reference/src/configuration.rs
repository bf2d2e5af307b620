//! Every field of a replica's configuration.

use crate::table::{code, table};
use vr_replica::config::{FIELDS, env_of, flag_of};

pub(crate) fn page() -> String {
    let row = |field: &vr_replica::config::Field| {
        let (flag, variable) = (format!("--{}", flag_of(field.path)), env_of(field.path));
        [code(field.path), code(&flag), code(&variable), field.help.to_owned()]
    };
    format!(
        "# Configuration of a replica\n\nMade of the code by a test. `vr-replica serve --config FILE` reads the fields from \
         YAML; a dot is a level. Flags win over the environment, the environment over the file. An unknown field is \
         refused with its line.\n\n{}",
        table(["Field", "Flag", "Variable", "Meaning"], &FIELDS.iter().map(row).collect::<Vec<_>>())
    )
}
