//! Progress on a terminal; silence in a pipe.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows what a drill is doing, on stderr.
pub struct Progress {
    bar: Option<RefCell<ProgressBar>>,
}

impl Progress {
    /// Shows something only if stderr is a terminal.
    #[must_use]
    pub fn on_terminal() -> Progress {
        Progress { bar: std::io::stderr().is_terminal().then(|| RefCell::new(ProgressBar::hidden())) }
    }

    /// A new phase begins; the one before is done.
    pub fn phase(&self, what: &'static str) {
        let Some(bar) = &self.bar else { return };
        let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg} {prefix}");
        let next = ProgressBar::new_spinner().with_message(what);
        next.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        next.enable_steady_tick(Duration::from_millis(100));
        bar.replace(next).finish();
    }

    /// How far the phase is, in words.
    pub fn detail(&self, detail: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.borrow().set_prefix(detail());
        }
    }

    /// Nothing more to come.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.borrow().finish();
        }
    }
}
