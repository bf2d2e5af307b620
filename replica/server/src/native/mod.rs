//! Native clients: the store's operations in sessions of the clients' own, many to a frame, without gRPC.
//!
//! They come in on the client port and are told from HTTP by the first eight bytes, so that whatever that port trusts
//! (addresses, certificates) is what native clients need, and a peer's certificate gives a client nothing.
//!
//! It promises that a request is executed at most once however often and to whichever replicas it is sent, and that an
//! answer is the store's, "not taken", or "not known". A client that breaks the rules of the connection loses the
//! connection, and nothing else.

mod answer;
mod connection;
mod link;
mod requests;
mod rewind;

pub(crate) use answer::Kept;
pub(crate) use link::Link;

use bytes::BytesMut;
use rewind::Rewind;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use vr_proto::client::MAGIC;

/// How long a connection may take to say what it is.
const FIRST_BYTES: Duration = Duration::from_secs(30);

/// Serves a native client to its end; gives the connection back if it speaks something else.
pub(crate) async fn or_http<S: AsyncRead + AsyncWrite + Unpin + 'static>(mut stream: S) -> Option<Rewind<S>> {
    let mut seen = BytesMut::with_capacity(64);
    let whole = async {
        while seen.len() < MAGIC.len() && MAGIC.starts_with(&seen) {
            if stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
                continue;
            }
            return false;
        }
        true
    };
    if !tokio::time::timeout(FIRST_BYTES, whole).await.unwrap_or(false) {
        return None;
    }
    if !seen.starts_with(MAGIC) {
        return Some(Rewind::new(seen, stream));
    }
    let buffer = seen.split_off(MAGIC.len());
    if let Err(reason) = connection::serve(stream, buffer).await {
        tracing::warn!(reason, "a native client's connection ended");
    }
    None
}
