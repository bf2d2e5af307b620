//! Where a server listens, as people type it: `host:port`, `http://host:port` or `https://host:port`.

use std::fmt;
use std::str::FromStr;

/// A host and a port, spoken to in HTTP/2, with TLS or without.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
    tls: bool,
}

impl Endpoint {
    /// The name or address, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is spoken to with TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The same place, spoken to with TLS or without.
    #[must_use]
    pub fn with_tls(self, tls: bool) -> Endpoint {
        Endpoint { tls, ..self }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// What was typed is not an endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// No port, no host, or something behind them.
    #[error("{0:?} is not an endpoint: give host:port, for example 127.0.0.1:2379")]
    Malformed(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(typed: &str) -> Result<Endpoint, EndpointError> {
        let malformed = || EndpointError::Malformed(typed.to_owned());
        let (tls, rest) = match typed.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(malformed()),
            None => (false, typed),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let port: u16 = port.parse().map_err(|_| malformed())?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let clean =
            host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%'));
        if host.is_empty() || port == 0 || !clean || (bare.is_none() && host.contains(':')) {
            return Err(malformed());
        }
        Ok(Endpoint { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        for (typed, shown) in [
            ("127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("http://db-0.db:2379/", "http://db-0.db:2379"),
            ("[::1]:2379", "http://[::1]:2379"),
            ("https://[::1]:2379", "https://[::1]:2379"),
        ] {
            assert_eq!(typed.parse::<Endpoint>().expect(typed).to_string(), shown);
        }
    }

    #[test]
    fn what_is_refused_says_what_to_type() {
        for typed in [
            "",
            "localhost",
            "localhost:",
            ":2379",
            "localhost:0",
            "a:99999",
            "::1:2379",
            "ftp://a:1",
            "a b:1",
        ] {
            let error = typed.parse::<Endpoint>().expect_err(typed);
            assert_eq!(error, EndpointError::Malformed(typed.to_owned()));
            assert!(error.to_string().contains("host:port"));
        }
    }
}
