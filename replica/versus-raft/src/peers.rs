//! The members among themselves: one connection in each direction, a message to a frame, as many as there are in a write.

use crate::with;
use bytes::BytesMut;
use protobuf::Message as _;
use raft::eraftpb::Message;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use vr_proto::frame;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);
/// Beyond this, what is to be sent is dropped, and raft sends it again.
const QUEUE: usize = 64 << 20;

/// What waits to be sent somewhere.
#[derive(Clone, Default)]
pub struct Link(Rc<Queue>);

#[derive(Default)]
struct Queue {
    frames: RefCell<BytesMut>,
    bell: Notify,
    scratch: RefCell<Vec<u8>>,
}

impl Link {
    /// Queues what `write` appends, as a frame.
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut scratch = self.0.scratch.borrow_mut();
        scratch.clear();
        write(&mut scratch);
        let mut frames = self.0.frames.borrow_mut();
        if frames.len() + scratch.len() <= QUEUE {
            let start = frame::begin(&mut frames);
            frames.extend_from_slice(&scratch);
            frame::end(&mut frames, start);
            self.0.bell.notify_one();
        }
    }

    /// Sends what is queued until the connection breaks.
    pub async fn drain_into(&self, writer: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        loop {
            std::mem::swap(&mut out, &mut self.0.frames.borrow_mut());
            if out.is_empty() {
                self.0.bell.notified().await;
                tokio::task::yield_now().await;
                continue;
            }
            writer.write_all_buf(&mut out).await?;
            out.clear();
        }
    }
}

/// Keeps a connection to each of the others, for ever.
pub fn dial(id: u64, members: &[SocketAddr]) -> Vec<(u64, Link)> {
    let others = (1..).zip(members.iter().copied()).filter(|(other, _)| *other != id);
    others
        .map(|(other, address)| {
            let link = Link::default();
            let queue = link.clone();
            tokio::task::spawn_local(async move {
                loop {
                    if let Ok(mut stream) = TcpStream::connect(address).await
                        && stream.set_nodelay(true).is_ok()
                    {
                        // It comes again.
                        let _ = queue.drain_into(&mut stream).await;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            });
            (other, link)
        })
        .collect()
}

pub async fn accept(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::task::spawn_local(async move {
            let mut buffer = BytesMut::with_capacity(256 << 10);
            while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                while let Ok(Some(payload)) = frame::next_payload(&mut buffer) {
                    let Ok(message) = Message::parse_from_bytes(&payload) else { return };
                    with(|member| member.heard(message));
                }
                buffer.reserve(64 << 10);
            }
        });
    }
}
