//! The example as somebody runs it.

use std::process::Command;

#[test]
fn three_replicas_lose_one_and_end_with_the_same_records() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_vr-example-log")).output().expect("it was built with this test");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("all three hold the same"), "{said}");
}
