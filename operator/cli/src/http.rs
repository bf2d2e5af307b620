//! One HTTP GET: what asking a replica's admin port takes.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Nothing useful came back.
#[derive(Debug, thiserror::Error)]
#[error("GET http://{address}{path}: {what}")]
pub struct HttpError {
    address: SocketAddr,
    path: String,
    what: String,
}

/// The body of the answer, whatever its status, and whether that was a success.
///
/// # Errors
/// When no whole answer came in time.
pub async fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<(bool, Bytes), HttpError> {
    let failed = |what: String| HttpError { address, path: path.to_owned(), what };
    let exchange = async {
        let stream = TcpStream::connect(address).await.map_err(|error| failed(error.to_string()))?;
        let (mut requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
        let connection = tokio::spawn(connection);
        let request = Request::get(path)
            .header("host", address.to_string())
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        let answer = requests.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let success = answer.status().is_success();
        let body = answer.into_body().collect().await.map_err(|error| failed(error.to_string()))?.to_bytes();
        connection.abort();
        Ok((success, body))
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(answer) => answer,
        Err(_too_long) => Err(failed(format!("no answer within {timeout:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn status_and_body_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1_024];
            let length = stream.read(&mut request).await.expect("a request");
            assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream
                .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno")
                .await
                .expect("answered");
        };
        let (answer, ()) = tokio::join!(get(address, "/readyz", Duration::from_secs(5)), server);
        let (success, body) = answer.expect("an answer");
        assert_eq!((success, &body[..]), (false, &b"no"[..]));
    }

    #[tokio::test]
    async fn who_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let error =
            get(address, "/status", Duration::from_millis(50)).await.expect_err("silence").to_string();
        assert!(error.contains("/status: no answer within 50ms"), "{error}");
    }
}
