//! Ports on which nobody listens, for servers that are killed and started again.
//!
//! They lie below the range from which the system takes ports for outgoing connections: one of those could be taken by
//! any connection while its server is down.

use std::net::{Ipv4Addr, TcpListener};

const START: u16 = 12_000;
const DEFAULT_END: u16 = 32_768;

/// `count` different ones; another process may still take one before it is used.
pub(crate) fn free(count: usize) -> Vec<u16> {
    let width = outgoing().max(START + 1) - START;
    // Tests that run at once look in different places.
    let offset = (uuid::Uuid::new_v4().as_u128() % u128::from(width)) as u16;
    let candidates = (0..width).map(|step| START + (offset + step) % width);
    let found: Vec<u16> = candidates.filter(|port| is_free(*port)).take(count).collect();
    assert_eq!(found.len(), count, "this machine has no {count} free ports");
    found
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn outgoing() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|start| start.parse().ok()).unwrap_or(DEFAULT_END)
}
