//! `etcdctl` over TLS, with the flags that its users know.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use vr_replica::config::{RawPortTls, RawTls};

use crate::authority::{Authority, Pair};
use crate::cluster::Cluster;
use crate::server;

fn write(dir: &Path, stem: &str, pair: &Pair) {
    fs::write(dir.join(format!("{stem}.crt")), &pair.cert).expect("writable");
    fs::write(dir.join(format!("{stem}.key")), &pair.key).expect("writable");
}

#[tokio::test]
async fn etcdctl_speaks_tls_and_is_told_why_not() {
    let Some(binary) = server::binary("VR_ETCDCTL", "etcdctl") else { return };
    let files = tempfile::tempdir().expect("a temporary directory");
    let dir = files.path();
    let ours = Authority::new("ours");
    fs::write(dir.join("ca.crt"), &ours.pem).expect("writable");
    write(dir, "server", &ours.sign(&["127.0.0.1"], None));
    write(dir, "user", &ours.sign(&[], None));
    let cluster = Cluster::start_as(1, |raw| {
        raw.members.iter_mut().flatten().for_each(|m| m.client = m.client.replace("http://", "https://"));
        let port = RawPortTls {
            cert_file: Some(dir.join("server.crt")),
            key_file: Some(dir.join("server.key")),
            client_ca_file: Some(dir.join("ca.crt")),
            client_cert_auth: None,
        };
        raw.tls = Some(RawTls { client: Some(port), ..RawTls::default() });
    })
    .await;
    let address = cluster.replicas[0].client;
    let ctl = |scheme: &str, flags: &[&str], arguments: &[&str]| -> Output {
        let mut command = Command::new(&binary);
        command.env_clear().current_dir(dir).arg(format!("--endpoints={scheme}://{address}"));
        command.args(["--command-timeout=2s", "--dial-timeout=2s"]).args(flags).args(arguments);
        command.output().expect("etcdctl starts")
    };
    let ours = ["--cacert=ca.crt", "--cert=user.crt", "--key=user.key"];
    let output = ctl("https", &ours, &["put", "greeting", "hello"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = ctl("https", &ours, &["get", "greeting"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "greeting\nhello\n");
    for (scheme, flags) in [("https", &ours[..1]), ("http", &[][..])] {
        let output = ctl(scheme, flags, &["get", "greeting"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{scheme} {flags:?}: {said}");
    }
}
