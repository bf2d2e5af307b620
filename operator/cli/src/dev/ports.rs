//! Free ports for servers that will be killed and started again.
//!
//! Ports are looked for below the range from which the system takes ports for outgoing connections: a port from that
//! range can be taken by any connection of this machine while its server is down, and the restart then fails.
//! Nothing is reserved: another program may still take a port between the look and the server's start, which then
//! says so.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Where to look when the system does not say where its own range begins.
const DEFAULT_END: u16 = 32_768;
/// Below are the well-known ports of others.
const START: u16 = 12_000;

/// No ports to be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PortError {
    /// The whole range is in use.
    #[error(
        "fewer than {wanted} free ports between {START} and {end}: stop what uses them, or give --base-port"
    )]
    Exhausted {
        /// How many were wanted.
        wanted: usize,
        /// End of the range.
        end: u16,
    },
    /// One of the ports that were asked for.
    #[error("port {0} is in use: stop what listens there, or give another --base-port")]
    InUse(u16),
    /// They do not fit below 65,536.
    #[error("--base-port {base} leaves no room for {wanted} ports: give one below {}", 65_536 - wanted)]
    BeyondEnd {
        /// The first one.
        base: u16,
        /// How many were wanted.
        wanted: usize,
    },
}

/// `count` different ports on which nobody listens now; consecutive from `base` when that is given.
///
/// # Errors
/// When there are not as many.
pub fn free(count: usize, base: Option<u16>) -> Result<Vec<u16>, PortError> {
    match base {
        Some(base) => consecutive(count, base),
        None => scattered(count),
    }
}

fn consecutive(count: usize, base: u16) -> Result<Vec<u16>, PortError> {
    let beyond = PortError::BeyondEnd { base, wanted: count };
    let end = u16::try_from(usize::from(base) + count - 1).map_err(|_| beyond)?;
    (base..=end).map(|port| if is_free(port) { Ok(port) } else { Err(PortError::InUse(port)) }).collect()
}

fn scattered(count: usize) -> Result<Vec<u16>, PortError> {
    let range = START..outgoing_range_start().max(START + 1);
    let width = range.end - range.start;
    // Two clusters that start in one moment are to look in different places.
    let offset = (uuid::Uuid::new_v4().as_u128() % u128::from(width)) as u16;
    let candidates = candidates(&range, offset);
    let found: Vec<u16> = candidates.filter(|&port| is_free(port)).take(count).collect();
    if found.len() < count {
        return Err(PortError::Exhausted { wanted: count, end: range.end });
    }
    Ok(found)
}

fn candidates(range: &Range<u16>, offset: u16) -> impl Iterator<Item = u16> + use<> {
    let middle = range.start + offset;
    (middle..range.end).chain(range.start..middle)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn outgoing_range_start() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|start| start.parse().ok()).unwrap_or(DEFAULT_END)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_and_free() {
        let mut ports = free(9, None).expect("nine free ports");
        for &port in &ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free");
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9);
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        assert_eq!(free(1, Some(port)), Err(PortError::InUse(port)));
    }

    #[test]
    fn ports_end_at_65535() {
        let error = free(9, Some(65_530)).expect_err("only six are left");
        assert!(error.to_string().contains("--base-port 65530"), "{error}");
    }

    #[test]
    fn every_candidate_comes_once() {
        let all: Vec<u16> = candidates(&(10..15), 3).collect();
        assert_eq!(all, [13, 14, 10, 11, 12]);
    }
}
