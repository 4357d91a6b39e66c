//! Ports that nobody uses.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use anyhow::{Context as _, Result, bail};

/// A UDP port that is free on both families: peer programs bind both.
///
/// The port is released before it is returned; the system hands out others before it comes round to this one
/// again.
///
/// # Errors
/// When the system gives none.
pub fn free_udp_port() -> Result<u16> {
    for _ in 0..64 {
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("a UDP port")?;
        let port = v4.local_addr()?.port();
        match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                // Linux counts an IPv6 socket as one on both families: without ours it must be free.
                drop(v4);
                if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
                    return Ok(port);
                }
            }
            // A machine without IPv6 has no second socket to lose.
            _ => return Ok(port),
        }
    }
    bail!("no UDP port is free on both families")
}
