//! Who speaks with whom on a channel.

use std::net::SocketAddr;

use crate::limits::{Limits, Timers};
use crate::message::SipUri;

/// The domain that Jami writes behind the ids of accounts.
pub(super) const DOMAIN: &str = "ring.dht";

/// Who speaks with whom, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Our account's id, 40 hex digits: the user part of From.
    pub account: String,
    /// Our device's short id, 40 hex digits: the user part of Contact.
    pub device: String,
    /// Name shown beside the account.
    pub display: Option<String>,
    /// The account that the certificate of the other side names. Requests of any other are answered 403.
    pub peer_account: String,
    /// Our end of the path. Like [`remote`](Self::remote) it is only written in headers, as everything travels on
    /// the channel.
    pub local: SocketAddr,
    /// The peer's end of the path.
    pub remote: SocketAddr,
    /// The program, as User-Agent says it. Jami's daemon recognises its own versions by this and sends the others
    /// re-INVITEs of its oldest kind; Towline tells its own name all the same.
    pub user_agent: String,
    /// Bounds.
    pub limits: Limits,
    /// Timers.
    pub timers: Timers,
}

impl Config {
    /// A set-up with default bounds.
    pub fn new(
        account: impl Into<String>,
        device: impl Into<String>,
        peer_account: impl Into<String>,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Self {
        Self {
            account: account.into(),
            device: device.into(),
            display: None,
            peer_account: peer_account.into(),
            local,
            remote,
            user_agent: concat!("Towline ", env!("CARGO_PKG_VERSION")).to_owned(),
            limits: Limits::default(),
            timers: Timers::default(),
        }
    }

    /// `sips:user@our-end;transport=tls`, where we can be reached.
    pub(super) fn contact(&self) -> SipUri {
        at(self.local).with_user(&self.device).with_port(self.local.port()).with_parameter("transport", "tls")
    }

    /// `sips:account@their-end;transport=tls`, whom requests outside of dialogs are for.
    pub(super) fn target(&self) -> SipUri {
        at(self.remote)
            .with_user(&self.peer_account)
            .with_port(self.remote.port())
            .with_parameter("transport", "tls")
    }

    /// `sips:account@their-end`, as To has it.
    pub(super) fn peer(&self) -> SipUri {
        at(self.remote).with_user(&self.peer_account)
    }
}

fn at(end: SocketAddr) -> SipUri {
    SipUri::new(true, &host(end))
}

/// The address as a host: IPv6 in brackets.
pub(super) fn host(end: SocketAddr) -> String {
    match end {
        SocketAddr::V4(end) => end.ip().to_string(),
        SocketAddr::V6(end) => format!("[{}]", end.ip()),
    }
}
