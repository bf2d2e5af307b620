//! What waits to be sent over one connection between replicas.
//!
//! It is bounded: what comes beyond is dropped, and whoever misses it asks again. Where there is no connection nothing
//! waits at all: what was queued before it would be repeated by the protocol, or not be needed any more. Frames are shared
//! between peers, never copied, and as many as are there leave in one write.

use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::IoSlice;
use std::rc::{Rc, Weak};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// Bytes that may wait for one peer.
const QUEUE_BYTES: usize = 64 << 20;
/// Slices handed to the kernel in one write.
const GATHER: usize = 64;

/// The queue of one connection.
#[derive(Clone, Default)]
pub struct Outbox(Rc<Queue>);

/// The queue of a connection that somebody else keeps, and that may be gone.
pub struct WeakOutbox(Weak<Queue>);

#[derive(Default)]
struct Queue {
    waiting: RefCell<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    closed: bool,
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// The queue of a connection that is still to be made.
    #[must_use]
    pub fn closed() -> Outbox {
        let outbox = Outbox::default();
        outbox.close();
        outbox
    }

    /// Queues a frame; `false` if it was dropped, because the queue is full or there is no connection.
    pub fn push(&self, frame: Bytes) -> bool {
        let mut waiting = self.0.waiting.borrow_mut();
        if waiting.closed || waiting.bytes + frame.len() > QUEUE_BYTES {
            return false;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.0.wake.notify_one();
        true
    }

    /// The same queue, for as long as its connection is there.
    #[must_use]
    pub fn downgrade(&self) -> WeakOutbox {
        WeakOutbox(Rc::downgrade(&self.0))
    }

    /// There is a connection now.
    pub(super) fn open(&self) {
        *self.0.waiting.borrow_mut() = Waiting::default();
    }

    /// There is none any more: what waits is dropped.
    pub(super) fn close(&self) {
        *self.0.waiting.borrow_mut() = Waiting { closed: true, ..Waiting::default() };
    }

    /// Waits until something was queued since this was asked last.
    pub(super) async fn filled(&self) {
        self.0.wake.notified().await;
    }

    /// Sends what `begun` holds and then what is queued, for ever. What is taken from the queue stands in `begun` until
    /// it is written: where this is dropped half-way, that is what has to follow before anything else can be said.
    pub(super) async fn drain_into(
        &self,
        begun: &mut VecDeque<Bytes>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<Infallible> {
        loop {
            loop {
                self.take(begun);
                if begun.is_empty() {
                    break;
                }
                write_gathered(writer, begun).await?;
            }
            // TLS may still hold the end of the last record.
            writer.flush().await?;
            self.filled().await;
            // Let everything that is runnable now queue its frames first: one write for all of them.
            tokio::task::yield_now().await;
        }
    }

    /// Takes what one gathered write can carry.
    fn take(&self, into: &mut VecDeque<Bytes>) {
        let mut waiting = self.0.waiting.borrow_mut();
        while into.len() < GATHER {
            let Some(frame) = waiting.frames.pop_front() else { break };
            waiting.bytes -= frame.len();
            into.push_back(frame);
        }
    }
}

impl WeakOutbox {
    /// The queue, if its connection is still there.
    #[must_use]
    pub fn upgrade(&self) -> Option<Outbox> {
        self.0.upgrade().map(Outbox)
    }
}

async fn write_gathered(
    writer: &mut (impl AsyncWrite + Unpin),
    frames: &mut VecDeque<Bytes>,
) -> std::io::Result<()> {
    while !frames.is_empty() {
        let mut slices = [IoSlice::new(&[]); GATHER];
        for (slice, frame) in slices.iter_mut().zip(frames.iter()) {
            *slice = IoSlice::new(frame);
        }
        let mut written = writer.write_vectored(&slices[..frames.len().min(GATHER)]).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let first = frames.front_mut().expect("what was written was in the queue");
            let part = written.min(first.len());
            first.advance(part);
            written -= part;
            if first.is_empty() {
                frames.pop_front();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops() {
        let outbox = Outbox::default();
        let frame = Bytes::from(vec![0; QUEUE_BYTES / 2]);
        assert!(outbox.push(frame.clone()));
        assert!(outbox.push(frame));
        assert!(!outbox.push(Bytes::from_static(b"x")));
    }
}
