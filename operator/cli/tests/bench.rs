//! `vr bench` as a script uses it.

mod common;

use common::{run, vr};

#[test]
fn what_cannot_be_measured_is_said() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = nobody.local_addr().expect("an address").to_string();
    drop(nobody);
    for (arguments, status, expected) in [
        (vec!["--endpoints", closed.as_str()], 1, "cannot connect to http://127.0.0.1:"),
        (vec!["--endpoints", "https://a:1"], 1, "give --cacert"),
        (vec!["--cacert", "/nowhere"], 1, "is not https"),
        (vec!["--endpoints", "https://a:1", "--cacert", "/nowhere"], 1, "cannot read /nowhere"),
        (vec!["--cacert", "/nowhere", "--cert", "/nowhere"], 2, "--key"),
        (vec!["--endpoints", "nowhere"], 2, "is not an endpoint"),
        (vec!["--rate", "0"], 2, "is not a rate"),
        (vec!["--size", "4k"], 2, "is not a size"),
        (vec!["--duration", "10"], 2, "is not a duration"),
        (vec!["--sessions", "0"], 2, "--sessions"),
        (vec!["--total", "5", "--duration", "1s"], 2, "cannot be used with"),
    ] {
        let output = run(vr(["bench", "put"]).args(&arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?} does not say {expected:?}: {said}");
    }
}
