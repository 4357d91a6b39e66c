//! Who may connect. The first of the two points of decision (the second, per channel, is
//! [`Node::incoming`](crate::Node::incoming)).

use std::fmt;
use std::sync::Arc;

use towline_identity::{AccountId, Chain, DeviceId};

/// A remote device as far as it is known when a decision is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The device: SHA-256 of its public key.
    pub device: DeviceId,
    /// The account that signed the device's certificate.
    #[doc(alias = "uri")]
    pub account: AccountId,
    /// The certificate chain it presented or published, device first.
    pub chain: Chain,
}

/// Which devices may connect to this node.
///
/// The default admits nobody who is not known: strangers cost a certificate lookup, and a
/// refusal where they understand one.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ConnectionPolicy {
    /// Nobody: this node only dials. Requests are not even answered, so that another process of the same device may
    /// admit them.
    RefuseAll,
    /// Devices of the node's own account.
    #[default]
    OwnAccount,
    /// Devices of these accounts, and of the own one.
    Accounts(Arc<std::collections::BTreeSet<AccountId>>),
    /// These devices only.
    Devices(Arc<std::collections::BTreeSet<DeviceId>>),
    /// Any device at all. Every stranger who learns this device's id may open connections and ask for channels.
    DangerouslyAnyone,
    /// The program decides. Called on a task of the node: it must not block.
    #[doc(alias = "onICERequest")]
    Custom(Arc<dyn Fn(&Peer) -> bool + Send + Sync>),
}

impl ConnectionPolicy {
    /// A policy that asks `decide`, which must not block.
    pub fn custom(decide: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(decide))
    }

    /// Whether `peer` may connect to a node of the account `own`.
    pub fn admits(&self, peer: &Peer, own: AccountId) -> bool {
        match self {
            Self::RefuseAll => false,
            Self::OwnAccount => peer.account == own,
            Self::Accounts(accounts) => peer.account == own || accounts.contains(&peer.account),
            Self::Devices(devices) => devices.contains(&peer.device),
            Self::DangerouslyAnyone => true,
            Self::Custom(decide) => decide(peer),
        }
    }
}

impl fmt::Debug for ConnectionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RefuseAll => f.write_str("RefuseAll"),
            Self::OwnAccount => f.write_str("OwnAccount"),
            Self::Accounts(accounts) => f.debug_tuple("Accounts").field(&accounts.len()).finish(),
            Self::Devices(devices) => f.debug_tuple("Devices").field(&devices.len()).finish(),
            Self::DangerouslyAnyone => f.write_str("DangerouslyAnyone"),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}
