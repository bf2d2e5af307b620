//! Every field of the configuration once: its place in the file, hence its flag and its environment variable, and
//! what it means. Flags win over the environment, the environment over the file.

use super::{Config, ConfigError, Raw};
use serde_yaml::{Mapping, Value};
use std::path::PathBuf;

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its path in the file, `tiers.nvme.path`.
    pub path: &'static str,
    /// What it means, for `--help` and the reference.
    pub help: &'static str,
}

const fn f(path: &'static str, help: &'static str) -> Field {
    Field { path, help }
}

/// The table.
pub const FIELDS: &[Field] = &[
    f("lineage", "UUID of the database; the same for all its replicas, for ever"),
    f("generation", "Number of the lineage's restore [default: 1]"),
    f("replicaId", "This replica's id among the members"),
    f(
        "members",
        "All members, most preferred primary first, as YAML: [{id: 1, domain: zone, peer: host:port, client: URL}, …]; where \
         others were agreed on meanwhile, those count",
    ),
    f("clientAddress", "Listen here for etcd v3 clients"),
    f("peerAddress", "Listen here for peers"),
    f("adminAddress", "Listen here for /metrics, /livez, /readyz, /status and /debug/flight-recorder"),
    f(
        "controlAddress",
        "Listen here for the operator and for vr status, member, order and promote; 2382 by custom. Without TLS it must \
         be a loopback address [default: nobody is listened to]",
    ),
    f("tls.client.certFile", "Speak TLS to clients with this certificate (PEM, intermediates after it)"),
    f("tls.client.keyFile", "Its private key (PEM)"),
    f("tls.client.clientCaFile", "Authorities that clients' certificates must be signed by (PEM)"),
    f(
        "tls.client.clientCertAuth",
        "Refuse clients without a certificate [default: true where clientCaFile is set]",
    ),
    f("tls.peer.certFile", "Speak TLS with peers, in both directions, with this certificate (PEM)"),
    f("tls.peer.keyFile", "Its private key (PEM)"),
    f("tls.peer.caFile", "Authorities that peers' certificates must be signed by (PEM)"),
    f(
        "tls.peer.identity",
        "What a peer's certificate must name: replica (URI vr://LINEAGE/replica/ID), lineage (URI vr://LINEAGE) or \
         authority (nothing more) [default: replica]",
    ),
    f("tls.control.certFile", "Speak TLS on the control port with this certificate (PEM)"),
    f("tls.control.keyFile", "Its private key (PEM)"),
    f(
        "tls.control.clientCaFile",
        "Authorities that the certificates of the operator and vr must be signed by (PEM)",
    ),
    f("tls.control.clientCertAuth", "Always true: nobody is let in without a certificate [default: true]"),
    f(
        "tls.admin.certFile",
        "Speak TLS on the admin port with this certificate (PEM); probes then need HTTPS",
    ),
    f("tls.admin.keyFile", "Its private key (PEM)"),
    f("tls.admin.clientCaFile", "Authorities that certificates of who asks there must be signed by (PEM)"),
    f(
        "tls.admin.clientCertAuth",
        "Refuse who has no certificate there [default: true where clientCaFile is set]",
    ),
    f("tls.reloadInterval", "Between two looks at these files; SIGHUP looks at once [default: 10s]"),
    f(
        "initial",
        "bootstrap (the lineage begins here, once, ever), join (a new id in a running cluster) or resume \
         [default: resume]",
    ),
    f("viewTimeout", "Silence of the primary after which a view change is intended [default: 250ms]"),
    f("heartbeat", "How often an idle primary is heard [default: 50ms]"),
    f("maxRequestBytes", "Largest client request in bytes [default: 1572864]"),
    f(
        "memoryLimitBytes",
        "Refuse writes that grow the state beyond this many bytes; 0 is no limit [default: 0]",
    ),
    f(
        "flightRecorderBytes",
        "Keep about this many bytes of what this replica was told, to be written out by SIGUSR1, at \
         /debug/flight-recorder of the admin port, and before it ends for a fault; 0 is off [default: 16777216]",
    ),
    f("logFormat", "plain or json, on stderr [default: plain]"),
    f(
        "tiers.onLag",
        "What becomes of clients' writes while a tier is behind by more than its lagLimit: alert (they go on), throttle (from \
         half the limit on they are taken ever more slowly) or block (they are refused) [default: alert]",
    ),
    f("tiers.nvme.path", "Directory on a local NVMe disk"),
    f("tiers.nvme.checkpointInterval", "Between two checkpoints there [default: 60s]"),
    f("tiers.nvme.logInterval", "Between two shipments of the committed log [default: 1s]"),
    f(
        "tiers.nvme.lagLimit",
        "How far it may be behind, see tiers.onLag [default: 10s, or three logIntervals]",
    ),
    f(
        "tiers.nvme.rateLimitBytes",
        "Bytes a second at which a checkpoint may be written there; the log never waits for it [default: no limit]",
    ),
    f("tiers.nvme.keep", "Checkpoints kept [default: 3]"),
    f("tiers.volume.path", "Directory on a volume that survives the node (EBS)"),
    f("tiers.volume.checkpointInterval", "Between two checkpoints there [default: 10m]"),
    f("tiers.volume.logInterval", "Between two shipments of the committed log [default: 1s]"),
    f(
        "tiers.volume.lagLimit",
        "How far it may be behind, see tiers.onLag [default: 10s, or three logIntervals]",
    ),
    f(
        "tiers.volume.rateLimitBytes",
        "Bytes a second at which a checkpoint may be written there; the log never waits for it [default: no limit]",
    ),
    f("tiers.volume.keep", "Checkpoints kept [default: 6]"),
    f("tiers.objectStore.endpoint", "URL of an S3 server other than AWS"),
    f("tiers.objectStore.bucket", "S3 bucket; credentials come from the AWS SDK's default chain"),
    f("tiers.objectStore.prefix", "Key prefix in the bucket [default: none]"),
    f("tiers.objectStore.region", "AWS region [default: what the AWS SDK finds, else us-east-1]"),
    f("tiers.objectStore.pathStyle", "Bucket in the path instead of the host name [default: false]"),
    f(
        "tiers.objectStore.kmsKeyId",
        "Key of KMS that objects are encrypted with [default: what the bucket is set to]",
    ),
    f("tiers.objectStore.checkpointInterval", "Between two checkpoints there [default: 24h]"),
    f("tiers.objectStore.logInterval", "Between two shipments of the committed log [default: 10s]"),
    f(
        "tiers.objectStore.lagLimit",
        "How far it may be behind, see tiers.onLag [default: 60s, or three logIntervals]",
    ),
    f(
        "tiers.objectStore.rateLimitBytes",
        "Bytes a second at which a checkpoint may be written there; the log never waits for it [default: no limit]",
    ),
    f(
        "tiers.objectStore.keep",
        "Newest checkpoints kept, with the log that leads on from them [default: 24]",
    ),
    f("tiers.objectStore.keepHourly", "As well the newest of each of so many hours [default: 0]"),
    f("tiers.objectStore.keepDaily", "As well the newest of each of so many days, UTC [default: 0]"),
    f("tiers.objectStore.keepMonthly", "As well the newest of each of so many months, UTC [default: 0]"),
    f("restore.fromGeneration", "Begin from a recovery point of this older generation"),
    f("restore.checkpoint", "Op of that recovery point's checkpoint"),
    f("restore.root", "Root of that checkpoint, hexadecimal"),
    f("restore.toOp", "Replay the shipped log up to this op"),
    f("restore.reservedRevision", "No revision above this one was handed out before"),
    f("restore.token", "Chosen at random by this restore, the same for all replicas"),
    f("restore.sources", "Directories to read beside this replica's own tiers, as YAML: [path, …]"),
];

/// The flag of a field: `tiers.nvme.path` is `tiers-nvme-path`.
#[must_use]
pub fn flag_of(path: &str) -> String {
    words(path).join("-")
}

/// The environment variable of a field: `tiers.nvme.path` is `VR_TIERS_NVME_PATH`.
#[must_use]
pub fn env_of(path: &str) -> String {
    format!("VR_{}", words(path).join("_").to_ascii_uppercase())
}

fn words(path: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in path.chars() {
        match c {
            '.' => words.push(String::new()),
            c if c.is_ascii_uppercase() => words.push(c.to_ascii_lowercase().to_string()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words
}

/// Adds `--config` and a flag for every field to a command.
pub fn arguments(command: clap::Command) -> clap::Command {
    let config = clap::Arg::new("config")
        .long("config")
        .env("VR_CONFIG")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("YAML file with any of the fields below; flags and environment win over it");
    FIELDS.iter().fold(command.arg(config), |command, field| {
        command.arg(
            clap::Arg::new(field.path)
                .long(flag_of(field.path))
                .env(env_of(field.path))
                .value_name(words(field.path).last().expect("never empty").to_ascii_uppercase())
                .hide_env_values(true)
                .help(field.help),
        )
    })
}

/// Reads file, environment and flags into a checked configuration.
///
/// # Errors
/// See [`ConfigError`]; a file that is refused is named with line and column.
pub fn load(matches: &clap::ArgMatches) -> Result<Config, ConfigError> {
    let file = matches.get_one::<PathBuf>("config");
    let text = match file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?,
    };
    let path = file.cloned().unwrap_or_else(|| PathBuf::from("configuration"));
    let parse = |source| ConfigError::Parse { path: path.clone(), source };
    // Only a parse of the text itself knows lines, so it comes first and on its own.
    let raw =
        if text.trim().is_empty() { Raw::default() } else { serde_yaml::from_str(&text).map_err(parse)? };
    let given: Vec<(&str, &String)> =
        FIELDS.iter().filter_map(|f| matches.get_one::<String>(f.path).map(|v| (f.path, v))).collect();
    overlay(raw, &given)?.resolve()
}

fn overlay(raw: Raw, given: &[(&str, &String)]) -> Result<Raw, ConfigError> {
    let mut tree = serde_yaml::to_value(&raw).expect("plain data is always YAML");
    let mut result = raw;
    for (path, text) in given {
        let wrong = |reason: String| ConfigError::Flag { flag: flag_of(path), env: env_of(path), reason };
        let parsed = serde_yaml::from_str::<Value>(text).map_err(|e| wrong(e.to_string()))?;
        // Addresses and the like read as strings, numbers as numbers; a field that wants a string gets the text.
        let before = tree.clone();
        set(&mut tree, path, parsed);
        result = match serde_yaml::from_value(tree.clone()) {
            Ok(raw) => raw,
            Err(first) => {
                tree = before;
                set(&mut tree, path, Value::String((*text).clone()));
                serde_yaml::from_value(tree.clone()).map_err(|_| wrong(first.to_string()))?
            }
        };
    }
    Ok(result)
}

fn set(tree: &mut Value, path: &str, value: Value) {
    let mut place = tree;
    for part in path.split('.') {
        if !place.is_mapping() {
            *place = Value::Mapping(Mapping::new());
        }
        let mapping = place.as_mapping_mut().expect("made one just now");
        place = mapping.entry(Value::String(part.to_owned())).or_insert(Value::Null);
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_checkpoint::writer::Retention;

    const FULL: &str = "
lineage: 6f1f3c52-9f0e-4a36-9d07-3f3f0c1e2a4b
generation: 2
replicaId: 1
members: [{id: 1, peer: '127.0.0.1:1', client: 'https://127.0.0.1:2'}]
clientAddress: 127.0.0.1:0
peerAddress: 127.0.0.1:0
adminAddress: 127.0.0.1:0
controlAddress: 127.0.0.1:0
tls:
  client: {certFile: /c.crt, keyFile: /c.key, clientCaFile: /c.ca, clientCertAuth: false}
  peer: {certFile: /p.crt, keyFile: /p.key, caFile: /p.ca, identity: lineage}
  control: {certFile: /o.crt, keyFile: /o.key, clientCaFile: /o.ca, clientCertAuth: true}
  admin: {certFile: /a.crt, keyFile: /a.key, clientCaFile: /a.ca, clientCertAuth: true}
  reloadInterval: 1s
initial: bootstrap
viewTimeout: 300ms
heartbeat: 20ms
maxRequestBytes: 1000
memoryLimitBytes: 5
flightRecorderBytes: 6
logFormat: json
tiers:
  onLag: throttle
  nvme: {path: /n, checkpointInterval: 1s, logInterval: 1s, lagLimit: 3s, rateLimitBytes: 1048576, keep: 2}
  volume: {path: /v, checkpointInterval: 2s, logInterval: 2s, lagLimit: 6s, rateLimitBytes: 2097152, keep: 3}
  objectStore: {endpoint: 'http://x', bucket: b, prefix: p, region: r, pathStyle: true, kmsKeyId: k, checkpointInterval: 3s,
    logInterval: 3s, lagLimit: 9s, rateLimitBytes: 3145728, keep: 4, keepHourly: 5, keepDaily: 6, keepMonthly: 7}
restore: {fromGeneration: 1, checkpoint: 5, root: 00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa, toOp: 6, reservedRevision: 7, token: t, sources: [/a]}
";

    fn run(file: &str, flags: &[&str]) -> Result<Config, String> {
        let path = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(path.path(), file).expect("write it");
        let config = path.path().to_string_lossy().into_owned();
        let args = ["serve", "--config", &config].into_iter().chain(flags.iter().copied());
        let matches =
            arguments(clap::Command::new("serve")).try_get_matches_from(args).map_err(|e| e.to_string())?;
        load(&matches).map_err(|e| e.to_string())
    }

    /// Every leaf of a full file has its line in the table, and the table has no others.
    #[test]
    fn the_table_names_every_field() {
        let raw: Raw = serde_yaml::from_str(FULL).expect("the full example");
        let tree = serde_yaml::to_value(&raw).expect("plain data");
        let mut leaves = Vec::new();
        leaf_paths("", &tree, &mut leaves);
        let mut table: Vec<String> = FIELDS.iter().map(|f| f.path.to_owned()).collect();
        leaves.sort();
        table.sort();
        assert_eq!(leaves, table);
    }

    fn leaf_paths(at: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Mapping(m) => {
                for (k, v) in m {
                    let key = k.as_str().expect("a name");
                    leaf_paths(&if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }, v, out);
                }
            }
            _ => out.push(at.to_owned()),
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let config = run(
            FULL,
            &[
                "--replica-id",
                "1",
                "--tiers-nvme-keep",
                "9",
                "--log-format",
                "plain",
                "--tiers-object-store-bucket",
                "2024",
                "--client-address",
                "127.0.0.1:7",
            ],
        )
        .expect("valid");
        assert_eq!(config.tiers.nvme.expect("given").cadence.keep, 9.into());
        let object_store = config.tiers.object_store.expect("given");
        assert_eq!(object_store.bucket, "2024");
        let expected = Retention { last: 4, hourly: 5, daily: 6, monthly: 7 };
        assert_eq!(object_store.cadence.keep, expected);
        assert_eq!(config.client.port(), 7);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |from: &str, to: &str| FULL.replace(from, to);
        for (file, flags, says) in [
            (with("heartbeat", "heartbeet"), vec![], "unknown field `heartbeet`"),
            (with("heartbeat", "heartbeet"), vec![], "line 18"),
            (with("generation: 2", "generation: two"), vec![], "generation"),
            (
                with("lineage:", "#"),
                vec![],
                "`lineage` is missing: set it in the configuration file, by --lineage or by VR_LINEAGE",
            ),
            (with("replicaId: 1", "replicaId: 4"), vec![], "replica 4 is not among the members"),
            (
                with("controlAddress: 127.0.0.1:0", "controlAddress: 0.0.0.0:2382")
                    .replace("  control: {", "  # {"),
                vec![],
                "not a loopback address",
            ),
            (with("controlAddress", "#"), vec![], "`tls.control`: there is no such port"),
            (with("keyFile: /c.key, ", ""), vec![], "`tls.client.keyFile` is missing"),
            (with("certFile: /p.crt, ", ""), vec![], "--tls-peer-cert-file or by VR_TLS_PEER_CERT_FILE"),
            (with(", caFile: /p.ca", ""), vec![], "`tls.peer.caFile` is missing"),
            (with(", clientCaFile: /o.ca", ""), vec![], "`tls.control.clientCaFile` is missing"),
            (
                with(
                    "clientCaFile: /o.ca, clientCertAuth: true",
                    "clientCaFile: /o.ca, clientCertAuth: false",
                ),
                vec![],
                "could take the cluster over",
            ),
            (with(", clientCaFile: /a.ca", ""), vec![], "does not say whose certificates count"),
            (with("client: 'https:", "client: 'http:"), vec![], "make it https://"),
            (with("identity: lineage", "identity: everybody"), vec![], "everybody"),
            (with("onLag: throttle", "onLag: panic"), vec![], "panic"),
            (
                with("lagLimit: 9s", "lagLimit: 8s"),
                vec![],
                "`tiers.objectStore.lagLimit`: must be at least 3 times `logInterval`, 9s",
            ),
            (
                with("rateLimitBytes: 1048576", "rateLimitBytes: 1000"),
                vec![],
                "`tiers.nvme.rateLimitBytes`: must be at least 1048576",
            ),
            (with("keep: 2", "keep: 0"), vec![], "tiers.nvme.keep"),
            (
                with("kmsKeyId: k", "kmsKeyId: 'a key'"),
                vec![],
                "`tiers.objectStore.kmsKeyId`: must be the id",
            ),
            (with("kmsKeyId: k", "kmsKeyId: ''"), vec![], "leave it out for what the bucket is set to"),
            (with("keepDaily: 6", "keepDaily: 1000"), vec![], "tiers.objectStore.keepDaily"),
            (with("keepDaily: 6", "keepYearly: 6"), vec![], "keepYearly"),
            (with("checkpointInterval: 1s", "checkpointInterval: 10ms"), vec![], "at least 1s"),
            (with("bucket: b, ", ""), vec![], "--tiers-object-store-bucket"),
            (with("fromGeneration: 1", "fromGeneration: 2"), vec![], "every restore adds one"),
            (with("viewTimeout: 300ms", "viewTimeout: 30ms"), vec![], "three heartbeats"),
            (with("{id: 1, peer: '127.0.0.1:1'", "{id: 1, peer: 'nowhere'"), vec![], "not host:port"),
            (FULL.to_owned(), vec!["--generation", "x"], "--generation (or VR_GENERATION)"),
            (FULL.to_owned(), vec!["--colour", "x"], "unexpected argument '--colour'"),
        ] {
            let error = run(&file, &flags).expect_err(says);
            assert!(error.contains(says), "{error}\ndoes not say {says}");
        }
    }
}
