//! CPU time of processes, from `/proc/<pid>/stat`: user and system time of all threads.
//!
//! The kernel counts in ticks (100 a second), so a figure is good to 10 ms per process. A measurement of seconds is
//! long enough for that to vanish.

use std::time::Duration;

/// Why a process's CPU time is unknown.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// No such process, or not ours to see.
    #[error("process {pid}: cannot read its CPU time; give the pid of a running process of this machine")]
    Unreadable {
        /// The process.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a Linux `/proc`.
    #[error(
        "process {pid}: /proc/{pid}/stat has no user and system time where proc(5) says they are: {line:?}"
    )]
    Unexpected {
        /// The process.
        pid: u32,
        /// What stands there.
        line: String,
    },
}

/// User and system time that process `pid` has used since its start, ended and waited-for children excluded.
///
/// # Errors
/// When there is no such process, or no `/proc`.
pub fn used_by(pid: u32) -> Result<Duration, CpuError> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(|source| CpuError::Unreadable { pid, source })?;
    let ticks = ticks(&line).ok_or(CpuError::Unexpected { pid, line })?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks * (1_000_000_000 / per_second)))
}

/// Fields 14 and 15. The second field, the program's name in parentheses, may hold spaces and parentheses itself.
fn ticks(line: &str) -> Option<u64> {
    let after_name = &line[line.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 17 5 99 99 20 0 1 0 1 2 3";
        assert_eq!(ticks(line), Some(22));
    }

    #[test]
    fn a_short_line_is_refused() {
        assert_eq!(ticks("42 (x) S 1 42"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn busy_work_is_seen() {
        let before = used_by(std::process::id()).expect("this process has a /proc entry");
        let mut sum = 0u64;
        // Two ticks of work at least, however fast the machine: the loop ends by the clock that is measured.
        while used_by(std::process::id()).expect("this process has a /proc entry")
            < before + Duration::from_millis(20)
        {
            sum = (0..100_000u64).fold(sum, |a, b| a.wrapping_mul(31).wrapping_add(b));
        }
        assert_ne!(sum, 1);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = used_by(u32::MAX).expect_err("no such pid").to_string();
        assert!(error.contains("process 4294967295"), "{error}");
    }
}
