//! Who may connect, and whose files are taken without a question.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::sync::Arc;

use towline::identity::Identity;
use towline::{ConnectionPolicy, Peer, PeerKind};

use crate::args;
use crate::failure::Failure;
use crate::ids::PeerId;
use crate::known::Known;

/// Who may connect. Whoever is banned, as a contact or in the file `trust`, may not, whatever else is said.
#[derive(Debug, Clone)]
pub(crate) enum Admission {
    /// These only.
    Listed(BTreeSet<PeerId>),
    /// Devices of the own account, of contacts, and those allowed in the file `trust`.
    Known,
    /// Everybody, but the user is asked about each file.
    Asked,
    /// Everybody.
    Anyone,
}

impl Admission {
    /// For a command that cannot ask.
    pub(crate) fn without_questions(args: &args::Admission) -> Self {
        if args.accept_anyone {
            Self::Anyone
        } else if args.accept_from.is_empty() {
            Self::Known
        } else {
            Self::Listed(args.accept_from.iter().copied().collect())
        }
    }

    /// For a command that asks, unless it was told whom to accept.
    pub(crate) fn with_questions(args: &args::Admission, yes: bool) -> Result<Self, Failure> {
        match Self::without_questions(args) {
            Self::Known if !yes && std::io::stdin().is_terminal() => Ok(Self::Asked),
            Self::Known if !yes => Err(Failure::Usage(
                "there is no terminal to ask on: say with --accept-from, --accept-anyone or --yes whose files to \
                 accept"
                    .to_owned(),
            )),
            other => Ok(other),
        }
    }

    /// The rule for the node. An identity that does not lie in a home directory knows nobody but its own account.
    pub(crate) fn policy(self, identity: &Identity, known: Option<&Arc<Known>>) -> ConnectionPolicy {
        let own = identity.account_id();
        let known = known.cloned();
        ConnectionPolicy::custom(move |peer| {
            let kind = match &known {
                Some(known) => known.kind_of(&peer.chain),
                None if peer.chain.verify_links().is_err() => PeerKind::Banned,
                None if own == Some(peer.account) => PeerKind::OwnDevice,
                None => PeerKind::Stranger,
            };
            self.admits(peer, kind)
        })
    }

    fn admits(&self, peer: &Peer, kind: PeerKind) -> bool {
        match (self, kind) {
            (_, PeerKind::Banned) => false,
            (Self::Listed(ids), _) => ids.iter().any(|id| id.names(peer)),
            (Self::Known, kind) => matches!(kind, PeerKind::Contact | PeerKind::OwnDevice),
            (Self::Asked | Self::Anyone, _) => true,
        }
    }
}
