//! How far a node reaches: what it has beside its own addresses.
//!
//! A device behind a NAT is met at the address that the NAT gives it, which only others can tell: STUN servers. Where no direct
//! path exists, datagrams go by a relay, a TURN server. Nobody is asked who is not named in [`Reach`].

mod config;
mod dials;
mod doors;
mod means;
mod memory;
mod outside;
mod punching;
mod questions;
mod relay;
mod relaying;
mod share;
mod stun;

pub use config::{Reach, Relay, RelaySecret, RelaySyntaxError, RelayTransport};
pub use doors::ListenError;
pub(crate) use doors::{Caller, listen};
pub(crate) use means::{Base, Means};
pub(crate) use memory::{Outcome, ServerError, ServerKind, ServerReport};
pub(crate) use outside::{Finding, Outside};
pub(crate) use punching::Punching;
pub use punching::{PunchReport, PunchResult, Shortage};
pub(crate) use share::RelayPort;

/// The port of STUN and TURN servers (RFC 8489 section 18.6).
const PORT: u16 = 3478;
/// The same on TLS.
const TLS_PORT: u16 = 5349;

/// `host:port` of `host` or `host:port`; IPv6 addresses stand in brackets.
pub(crate) fn with_port(server: &str) -> Option<String> {
    with_port_or(server, PORT)
}

fn with_port_or(server: &str, port: u16) -> Option<String> {
    let end_of_host = server.rfind(']').map_or(0, |at| at + 1);
    match server[end_of_host..].rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok_and(|port| port != 0).then(|| server.to_owned()),
        None => Some(format!("{server}:{port}")),
    }
    .filter(|server| !server.starts_with(':'))
}
