//! Making a failing world small: what can be taken away while the same rule still breaks is taken away.
//!
//! It promises a world that still breaks the same rule. With enough tries no single number of its plan can be set to its
//! least or halved any more; that is not the smallest world there is.

use crate::plan::Plan;
use crate::plan::knobs::Knob;
use crate::run::run;
use crate::trace::Trace;

/// Worlds played out, at most: one that fails to heal takes a while.
const MOST_TRIES: u64 = 300;
/// Rounds over all knobs, at most: each takes something away, or it is the last.
const MOST_ROUNDS: u32 = 8;

/// A small world that breaks a rule.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// What was changed, as `name=value`: with the seed, enough to repeat it.
    pub set: Vec<String>,
    /// Worlds played out on the way.
    pub tried: u64,
    /// Steps of the world before and after.
    pub events: (u64, u64),
}

/// Makes a world small in which a rule breaks; `None` if none does.
#[must_use]
pub fn shrink(plan: Plan) -> Option<Shrunk> {
    let mut tried = 1;
    let first = run(plan.clone(), Trace::quiet());
    let oracle = first.broken?.oracle;
    let mut small = plan.clone();
    let mut events = first.events;
    for _ in 0..MOST_ROUNDS {
        let before = small.clone();
        for knob in Knob::ALL {
            // All of it, or else half of it again and again.
            let mut value = knob.of(&small);
            let mut smaller = knob.least;
            while smaller < value && tried < MOST_TRIES {
                let changed = knob.set(&small, smaller);
                tried += 1;
                let outcome = run(changed.clone(), Trace::quiet());
                // A shorter time between two faults makes a longer story.
                let same =
                    outcome.broken.is_some_and(|broken| broken.oracle == oracle) && outcome.events <= events;
                if same {
                    (small, value, events) = (changed, smaller, outcome.events);
                } else if smaller > knob.least {
                    break;
                }
                smaller = (value / 2).max(knob.least + 1);
            }
        }
        if Knob::ALL.iter().all(|knob| knob.of(&before) == knob.of(&small)) {
            break;
        }
    }
    let changed = Knob::ALL.iter().filter(|knob| knob.of(&plan) != knob.of(&small));
    let set = changed.map(|knob| format!("{}={}", knob.name, knob.of(&small))).collect();
    Some(Shrunk { plan: small, set, tried, events: (first.events, events) })
}
