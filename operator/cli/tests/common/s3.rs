//! A running `vr s3-server`: an S3 server of its own, as somebody's would be.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::vr;

/// Killed when the test ends.
pub(crate) struct S3Server {
    child: Child,
    pub(crate) endpoint: String,
}

impl S3Server {
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> S3Server {
        let mut command = vr(["s3-server", "--dir"]);
        let mut child = command.arg(dir).args(arguments).stdout(Stdio::piped()).spawn().expect("vr starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("readable");
        let endpoint = line.trim().rsplit(' ').next().expect("an endpoint").to_owned();
        S3Server { child, endpoint }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
