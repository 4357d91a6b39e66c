//! How far a node reaches: what it has beside its own addresses.
//!
//! A device behind a NAT is met at the address that the NAT gives it, which only others can tell: STUN servers. Where no direct
//! path exists, datagrams go by a relay, a TURN server. Nobody is asked who is not named in [`Reach`].

mod means;
mod outside;
mod relay;

use std::fmt;
use std::str::FromStr;

pub(crate) use means::{Base, Means};
pub(crate) use outside::{Finding, Outside};
pub(crate) use relay::RelayPort;

/// The port of STUN and TURN servers (RFC 8489 section 18.6).
const PORT: u16 = 3478;
/// Longest host, name or secret that is taken.
const MAX_PART: usize = 255;

/// What helps a node to be reached, and to reach others, from behind NATs and firewalls. Connections to other Towlines use it;
/// Jami peers get to see the host's own addresses only. The default asks nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// STUN servers as `host:port`, asked over UDP. Each learns this device's address and that it connects to somebody; not to
    /// whom. At most eight addresses are asked; two servers are enough. A TURN server is one, too. Default: none.
    pub stun: Vec<String>,
    /// Relays. All are asked for an address when one may be needed, and the fastest is used. Default: none.
    pub relays: Vec<Relay>,
    /// Ask the router to let peers in, by PCP, NAT-PMP and UPnP at once. Default: off;
    /// [`Config::internet`](crate::Config::internet) turns it on.
    pub port_mapping: bool,
}

/// A relay: a TURN server for datagrams (RFC 8656), with the long-term credentials it asks for.
///
/// As text `turn:USER:SECRET@HOST[:PORT][?transport=udp|tcp]`. The secret may hold any character but `@`.
#[derive(Clone, PartialEq, Eq)]
pub struct Relay {
    /// `host:port`.
    pub server: String,
    /// How the server is spoken to. What it relays are datagrams either way.
    pub transport: RelayTransport,
    /// The user's name.
    pub user: String,
    /// The user's password. Not shown by `Debug` and `Display`.
    pub secret: String,
}

/// How a relay is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayTransport {
    /// By datagrams.
    #[default]
    Udp,
    /// On a TCP connection: also from where no UDP leaves.
    Tcp,
}

/// Why a text names no relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelaySyntaxError {
    /// It does not begin with `turn:`.
    #[error("a relay is turn:USER:SECRET@HOST:PORT")]
    Scheme,
    /// There is no `USER:SECRET@`.
    #[error("user and secret are missing: turn:USER:SECRET@HOST:PORT")]
    Credentials,
    /// There is no host, or its port is no number.
    #[error("no server is named: turn:USER:SECRET@HOST:PORT")]
    Server,
    /// What stands behind the question mark is not `transport=udp` or `transport=tcp`.
    #[error("the transport is neither udp nor tcp")]
    Transport,
    /// A part is longer than 255 bytes.
    #[error("a part is longer than {MAX_PART} bytes")]
    TooLong,
}

impl FromStr for Relay {
    type Err = RelaySyntaxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("turn:").ok_or(RelaySyntaxError::Scheme)?;
        let (credentials, server) = rest.rsplit_once('@').ok_or(RelaySyntaxError::Credentials)?;
        let (user, secret) = credentials.split_once(':').ok_or(RelaySyntaxError::Credentials)?;
        if user.is_empty() || secret.is_empty() {
            return Err(RelaySyntaxError::Credentials);
        }
        let (server, transport) = match server.split_once('?') {
            None => (server, RelayTransport::Udp),
            Some((server, "transport=udp")) => (server, RelayTransport::Udp),
            Some((server, "transport=tcp")) => (server, RelayTransport::Tcp),
            Some(_) => return Err(RelaySyntaxError::Transport),
        };
        let server = with_port(server).ok_or(RelaySyntaxError::Server)?;
        if [user, secret, &server].iter().any(|part| part.len() > MAX_PART) {
            return Err(RelaySyntaxError::TooLong);
        }
        Ok(Self { server, transport, user: user.to_owned(), secret: secret.to_owned() })
    }
}

/// `host:port` of `host` or `host:port`; IPv6 addresses stand in brackets.
pub(crate) fn with_port(server: &str) -> Option<String> {
    let end_of_host = server.rfind(']').map_or(0, |at| at + 1);
    match server[end_of_host..].rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok_and(|port| port != 0).then(|| server.to_owned()),
        None => Some(format!("{server}:{PORT}")),
    }
    .filter(|server| !server.starts_with(':'))
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            RelayTransport::Udp => "udp",
            RelayTransport::Tcp => "tcp",
        };
        write!(f, "turn:{}@{}?transport={transport}", self.user, self.server)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_read_and_its_secret_not_shown() {
        let relay: Relay = "turn:ann:a:b?c@relay.example:3479?transport=tcp".parse().unwrap();
        assert_eq!(relay.user, "ann");
        assert_eq!(relay.secret, "a:b?c");
        assert_eq!((relay.server.as_str(), relay.transport), ("relay.example:3479", RelayTransport::Tcp));
        assert_eq!(relay.to_string(), "turn:ann@relay.example:3479?transport=tcp");
        assert!(!format!("{relay:?}").contains("a:b"));
        let relay: Relay = "turn:ann:b@[2001:db8::1]".parse().unwrap();
        assert_eq!((relay.server.as_str(), relay.transport), ("[2001:db8::1]:3478", RelayTransport::Udp));
    }

    #[test]
    fn what_is_no_relay_is_told() {
        let refused = |text: &str| text.parse::<Relay>().unwrap_err();
        assert_eq!(refused("stun:a:b@c"), RelaySyntaxError::Scheme);
        assert_eq!(refused("turn:relay.example"), RelaySyntaxError::Credentials);
        assert_eq!(refused("turn:ann@relay.example"), RelaySyntaxError::Credentials);
        assert_eq!(refused("turn::b@c"), RelaySyntaxError::Credentials);
        assert_eq!(refused("turn:a:b@c:port"), RelaySyntaxError::Server);
        assert_eq!(refused("turn:a:b@:3478"), RelaySyntaxError::Server);
        assert_eq!(refused("turn:a:b@"), RelaySyntaxError::Server);
        assert_eq!(refused("turn:a:b@c?transport=tls"), RelaySyntaxError::Transport);
        assert_eq!(refused(&format!("turn:a:{}@c", "b".repeat(256))), RelaySyntaxError::TooLong);
    }
}
