//! What the operator writes into its pods is a configuration that a replica takes: the files are those that the operator's
//! own tests compare with what it makes.

use std::path::Path;
use vr_replica::config::{Config, Initial, arguments, load};

fn configurations(file: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../operator/controller/testdata/objects");
    let text = std::fs::read_to_string(folder.join(file)).expect("the operator's objects");
    text.split("---\n")
        .map(|object| serde_yaml::from_str::<serde_yaml::Value>(object).expect("an object is YAML"))
        .filter_map(|object| {
            object["metadata"]["annotations"]["vr-operator.io/replica.yaml"].as_str().map(str::to_owned)
        })
        .collect()
}

fn read(text: &str) -> Config {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("it can be written");
    let path = file.path().to_string_lossy().into_owned();
    let matches = arguments(clap::Command::new("serve")).get_matches_from(["serve", "--config", &path]);
    load(&matches).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn a_replica_takes_what_the_operator_writes() {
    for (file, state_limit) in
        [("vrcluster-minimal.yaml", 11_u64 << 30), ("vrcluster-complete.yaml", 11_u64 << 30)]
    {
        let found = configurations(file);
        assert_eq!(found.len(), 1, "{file}: one pod");
        let config = read(&found[0]);
        assert_eq!(config.initial, Initial::Join, "{file}");
        assert_eq!(config.members.len(), 3, "{file}");
        assert_eq!(config.memory_limit, state_limit, "{file}");
        assert!(config.tls.control.is_some() && config.tls.peer.is_some(), "{file}");
        assert!(config.tiers.volume.is_some() && config.tiers.object_store.is_some(), "{file}");
    }
}
