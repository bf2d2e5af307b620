//! A fixed rate: which operation is due when, whoever carries it out.
//!
//! Latency is to be taken from the moment an operation was *due*, not from the moment a session became free for it:
//! otherwise a server that stalls for a second hides the thousand operations that should have started meanwhile
//! (coordinated omission). A thread of its own keeps the time, because the runtime's timers are good to a millisecond
//! only, which is more than a whole operation takes; it says that operations are due at most 100 us late.

use std::cell::Cell;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Operations that become due closer together than this are announced together.
const RESOLUTION: Duration = Duration::from_micros(100);
/// How long the thread outlives its pacer at most.
const NAP: Duration = Duration::from_millis(50);

/// Hands out the moments at which operations are due, in order, to as many sessions of one thread as ask.
pub struct Pacer {
    start: Instant,
    rate: f64,
    taken: Cell<u64>,
    // A permit for each operation that is due; the waiting are served in the order in which they came.
    due: Arc<Semaphore>,
}

impl Pacer {
    /// `rate` operations a second, the first one due at `start`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(rate: f64, start: Instant) -> std::io::Result<Pacer> {
        let due = Arc::new(Semaphore::new(0));
        let announced = Arc::downgrade(&due);
        thread::Builder::new().name("pace".to_owned()).spawn(move || announce(rate, start, &announced))?;
        Ok(Pacer { start, rate, taken: Cell::new(0), due })
    }

    /// Waits until the next operation is due, and says when that was: now, or earlier when all sessions were busy.
    pub async fn next(&self) -> Instant {
        let permit = self.due.acquire().await.expect("the semaphore is never closed");
        permit.forget();
        let number = self.taken.get();
        self.taken.set(number + 1);
        due_time(self.rate, self.start, number)
    }
}

fn due_time(rate: f64, start: Instant, number: u64) -> Instant {
    start + Duration::from_secs_f64(number as f64 / rate)
}

fn announce(rate: f64, start: Instant, permits: &Weak<Semaphore>) {
    let mut announced = 0u64;
    loop {
        let next = due_time(rate, start, announced);
        let wait = next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait.clamp(RESOLUTION, NAP));
        }
        let Some(permits) = permits.upgrade() else { return };
        let now = Instant::now();
        if now >= next {
            let due = (now.duration_since(start).as_secs_f64() * rate) as u64 + 1;
            permits.add_permits((due - announced) as usize);
            announced = due;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn operations_are_due_at_even_distances_and_never_early() {
        let start = Instant::now();
        let pacer = Pacer::new(2_000.0, start).expect("a thread");
        for n in 0..40 {
            let due = pacer.next().await;
            assert_eq!(due, start + n * Duration::from_micros(500));
            assert!(Instant::now() >= due, "handed out before it was due");
        }
    }

    #[tokio::test]
    async fn what_was_due_while_nobody_asked_keeps_its_time() {
        let start =
            Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine is up for a second");
        let pacer = Pacer::new(10.0, start).expect("a thread");
        for n in 0..10 {
            assert_eq!(pacer.next().await, start + n * Duration::from_millis(100));
        }
    }
}
