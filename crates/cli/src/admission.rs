//! Who may connect, and whose files are taken without a question.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;

use towline::identity::{Distrust, Identity, TrustStore};
use towline::{ConnectionPolicy, Peer};

use crate::args;
use crate::failure::Failure;
use crate::home::Home;
use crate::ids::PeerId;

/// Who may connect. Whoever is banned in the file `trust` may not, whatever else is said.
#[derive(Debug, Clone)]
pub(crate) enum Admission {
    /// These only.
    Listed(BTreeSet<PeerId>),
    /// Devices of the own account, and those allowed in the file `trust`.
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

    /// The rule for the node.
    pub(crate) fn policy(self, home: &Home) -> Result<ConnectionPolicy, Failure> {
        self.policy_for(&home.identity()?, Some(home))
    }

    /// The rule for the node of an identity that need not lie in a home directory, and then knows nobody else.
    pub(crate) fn policy_for(
        self,
        identity: &Identity,
        home: Option<&Home>,
    ) -> Result<ConnectionPolicy, Failure> {
        let trust = home.map_or_else(|| Ok(TrustStore::new()), Home::trust)?;
        let own = identity.account_id();
        Ok(ConnectionPolicy::custom(move |peer| self.admits(peer, &trust, own == Some(peer.account))))
    }

    fn admits(&self, peer: &Peer, trust: &TrustStore, own_account: bool) -> bool {
        let said = trust.check(&peer.chain);
        if matches!(said, Err(Distrust::Banned(_) | Distrust::Chain(_))) {
            return false;
        }
        match self {
            Self::Listed(ids) => ids.iter().any(|id| id.names(peer)),
            Self::Known => own_account || said.is_ok(),
            Self::Asked | Self::Anyone => true,
        }
    }
}
