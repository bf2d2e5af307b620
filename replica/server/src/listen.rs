//! HTTP/1.1 and HTTP/2 on one port, with TLS or without: the client, admin and control ports are all served here.
//!
//! Who speaks TLS to a port without it, or the other way round, is told so in a way that its library shows, and in the
//! log. Nothing is served before a handshake has succeeded.

use crate::front::Front;
use crate::native;
use crate::node;
use crate::refusal::Refusals;
use crate::tls::{self, Port};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// For a whole handshake: longer is nobody who means it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection, and of no HTTP request.
pub(crate) const TLS_FIRST_BYTE: u8 = 0x16;

/// The field of the client port's address.
pub(crate) const CLIENT_PORT: &str = "clientAddress";

const USE_PLAIN: &str = "this port speaks no TLS: use http:// instead of https://";
const USE_TLS: &str =
    "this port speaks TLS: use https:// instead of http://, with --cacert for etcdctl and vr";

/// Serves on one port, for ever. `name` is the field of its address.
pub(crate) async fn serve(name: &'static str, listener: TcpListener, front: Front, tls: Option<Arc<Port>>) {
    // Native clients are clients: no other port lets them in.
    let natives = name == CLIENT_PORT;
    let refusals = Rc::new(Refusals::default());
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (front, tls, refusals) = (front.clone(), tls.clone(), refusals.clone());
                tokio::task::spawn_local(async move {
                    if let Err(reason) = connection(stream, front, tls, natives).await {
                        refusals.tell(name, from, &reason);
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, port = name, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// An error is why it was refused; what happens after that is between the client and its requests.
async fn connection(
    mut stream: TcpStream,
    front: Front,
    tls: Option<Arc<Port>>,
    natives: bool,
) -> Result<(), String> {
    let mut first = [0];
    let got_one = stream.set_nodelay(true).is_ok() && matches!(stream.peek(&mut first).await, Ok(1));
    if !got_one {
        return Ok(());
    }
    let Some(port) = tls else {
        if first[0] == TLS_FIRST_BYTE {
            // Its library will show the answer, or say that it is not TLS.
            answer_http1(&mut stream, USE_PLAIN).await;
            return Err(format!("it began with TLS, and {USE_PLAIN}"));
        }
        speak(stream, front, natives).await;
        return Ok(());
    };
    if first[0] != TLS_FIRST_BYTE {
        // A connection with prior knowledge of HTTP/2 begins with "PRI * HTTP/2.0".
        if first[0] == b'P' && is_http2(&stream).await {
            answer_http2(&mut stream).await
        } else {
            answer_http1(&mut stream, USE_TLS).await
        }
        return Err(format!("it came without TLS, and {USE_TLS}"));
    }
    let handshake = TlsAcceptor::from(port.server()).accept(stream);
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => {
            speak(stream, front, natives).await;
            Ok(())
        }
        // Gone by itself: a probe of the port, say.
        Ok(Err(error)) => tls::explain(&error).map_or(Ok(()), Err),
        Err(_too_long) => Err(format!("no whole TLS handshake within {HANDSHAKE:?}")),
    }
}

async fn is_http2(stream: &TcpStream) -> bool {
    let mut begin = [0; 3];
    matches!(stream.peek(&mut begin).await, Ok(3)) && &begin == b"PRI"
}

async fn answer_http1(stream: &mut TcpStream, text: &str) {
    let length = text.len() + 1;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}\n"
    );
    last_words(stream, answer.as_bytes()).await;
}

/// SETTINGS, then GOAWAY with INADEQUATE_SECURITY and the text, which gRPC libraries show (RFC 9113, 6.5 and 6.8).
async fn answer_http2(stream: &mut TcpStream) {
    let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    let length = u8::try_from(8 + USE_TLS.len()).expect("a short text");
    frames.extend([0, 0, length, 7, 0, 0, 0, 0, 0]);
    frames.extend([0, 0, 0, 0, 0, 0, 0, 0x0c]);
    frames.extend(USE_TLS.as_bytes());
    last_words(stream, &frames).await;
}

/// Says something and reads until the other side has heard it: to close with bytes unread would take it back.
pub(crate) async fn last_words(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &[u8]) {
    let farewell = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut unheard = [0; 1024];
        while stream.read(&mut unheard).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whoever does not listen misses it.
    let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, front: Front, natives: bool) {
    if !natives {
        http(stream, front).await;
    } else if let Some(stream) = native::or_http(stream).await {
        http(stream, front).await;
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, front: Front) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // As etcd: streams are not what is scarce, and a thousand watchers share a connection.
    server.http2().max_concurrent_streams(u32::MAX).initial_stream_window_size(1 << 20);
    server.http2().initial_connection_window_size(4 << 20);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), front).await {
        tracing::debug!(error, "a client's connection ended");
        node::try_with(|node| node.counters.client_connections_broken += 1);
    }
}
