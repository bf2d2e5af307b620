//! One seed, from its plan to its outcome. A panic of the code under test is an outcome like any other.

use crate::coverage::Coverage;
use crate::machine::Toy;
use crate::oracle::Broken;
use crate::plan::{MachineKind, Plan};
use crate::trace::Trace;
use crate::world::{Outcome, World};
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use vr_example_log::Log;
use vr_store::Store;

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics of simulated processes for the report instead of printing each.
pub(crate) fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let inside = LAST_PANIC.with(|last| match last.try_borrow_mut() {
                Ok(mut last) if last.is_some() => {
                    *last = Some(info.to_string());
                    true
                }
                _ => false,
            });
            if !inside {
                before(info);
            }
        }));
    });
}

/// What code under test comes to, or what it said when it panicked.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    LAST_PANIC.with(|last| *last.borrow_mut() = Some(String::new()));
    let done = panic::catch_unwind(AssertUnwindSafe(code));
    let said = LAST_PANIC.with(|last| last.borrow_mut().take()).unwrap_or_default();
    done.map_err(|_| said)
}

/// Plays a plan out.
#[must_use]
pub fn run(plan: Plan, trace: Trace) -> Outcome {
    keep_panics();
    let seed = plan.seed;
    let played = caught(|| match plan.machine {
        MachineKind::Toy => World::<Toy>::new(plan, trace).run(),
        MachineKind::Store => World::<Store>::new(plan, trace).run(),
        MachineKind::Log => World::<Log>::new(plan, trace).run(),
    });
    played.unwrap_or_else(|said| Outcome {
        seed,
        events: 0,
        trace: 0,
        time: 0,
        coverage: Coverage::default(),
        broken: Some(Broken::new("never-panics", said)),
    })
}

/// Plays a seed out, hashing its trace only.
#[must_use]
pub fn run_seed(seed: u64) -> Outcome {
    run(Plan::of(seed), Trace::quiet())
}
