//! What every task of a node needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::{broadcast, watch};
use towline_identity::{AccountId, Chain, DeviceId};
use towline_net::Net;

use super::passport::{Passport, Passports};
use crate::config::Config;
use crate::connection::Connection;
use crate::dht::Dht;
use crate::error::{CloseReason, ConnectError};
use crate::event::Event;
use crate::info::{ConnectionId, ConnectionState};
use crate::path::{Gathered, PathOptions};
use crate::policy::Peer;
use crate::reach::Means;
use crate::signal::{Extension, Signalling, StaticKey};

/// Shared, read-only.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) dht: Dht,
    pub(crate) signalling: Signalling,
    pub(crate) tls: towline_tls::Config,
    pub(super) passports: Passports,
    pub(crate) config: Config,
    pub(crate) path: PathOptions,
    pub(crate) means: Arc<Means>,
    pub(crate) device: DeviceId,
    pub(crate) account: AccountId,
    pub(crate) events: broadcast::Sender<Event>,
    /// Our certificate lies where others look for it.
    pub(crate) registration: watch::Receiver<bool>,
    /// How often the policy was enforced.
    pub(crate) enforced: AtomicU64,
}

impl Context {
    /// Tells whoever listens.
    pub(crate) fn emit(&self, event: Event) {
        // Without listeners there is nobody to tell.
        let _ = self.events.send(event);
    }

    /// Tells how far an attempt has come.
    pub(crate) fn progress(
        &self,
        connection: ConnectionId,
        device: DeviceId,
        state: ConnectionState,
        since: Instant,
    ) {
        let elapsed = towline_net::now().saturating_duration_since(since);
        self.emit(Event::Progress { connection, device, state, elapsed });
    }

    /// Ready when our certificate lies where others look for it. Cancel safe.
    pub(crate) async fn registered(&self) {
        let mut registration = self.registration.clone();
        // The sender lives as long as the node's tasks; after a shutdown there is nothing to wait for.
        let _ = registration.wait_for(|registered| *registered).await;
    }

    /// What is known of a device from its chain. A device needs an account: a self-signed one is refused, and so is
    /// one that its account has revoked.
    pub(crate) fn peer(&self, chain: &Chain) -> Result<Peer, ConnectError> {
        if chain.pack().len() > self.config.limits.certificate_chain {
            return Err(ConnectError::BadChain("it is longer than this node allows"));
        }
        chain.verify_links().map_err(|_| ConnectError::BadChain("its signatures do not hold"))?;
        let account = chain.account_id().ok_or(ConnectError::BadChain("no account signed it"))?;
        self.config.revocations.check(chain).map_err(ConnectError::Revoked)?;
        Ok(Peer { device: chain.device_id(), account, chain: chain.clone() })
    }

    /// What tells a Towline that we are one, too, with the key of the passport, if any, our UDP candidates and our NAT;
    /// nothing, if we are to speak as Jami does.
    pub(super) fn extension(&self, passport: Option<&Passport>, gathered: &Gathered) -> Option<Extension> {
        let channeler = passport.map(|passport| StaticKey(passport.key.public()));
        let datagrams = channeler.and_then(|_| gathered.datagram_description());
        let datagrams = datagrams.map(|description| description.to_blob());
        let more = channeler.is_some() && gathered.expects_more();
        let clock = Some(self.net.unix_time().as_secs());
        let party = channeler.and_then(|_| gathered.party());
        let extension = Extension { refused: None, channeler, datagrams, more, clock, party };
        self.config.native_dialect.then_some(extension)
    }

    /// What this node shows of itself in the channeler transport, if it is to speak that.
    pub(super) async fn passport(&self) -> Option<Passport> {
        let config = &self.config;
        if config.native_dialect && config.channeler {
            self.passports.get(self.net.as_ref()).await
        } else {
            None
        }
    }

    /// Whether the device may connect to us.
    pub(crate) fn admits(&self, peer: &Peer) -> bool {
        self.config.policy.admits(peer, self.account)
    }

    /// Whether a device with this chain may connect to us.
    pub(crate) fn admits_chain(&self, chain: &Chain) -> bool {
        self.peer(chain).is_ok_and(|peer| self.admits(&peer))
    }

    /// A number that grows whenever the policy is enforced.
    pub(crate) fn policy_age(&self) -> u64 {
        self.enforced.load(Ordering::Acquire)
    }

    /// Judgements of before count no longer.
    pub(crate) fn renew_policy(&self) {
        self.enforced.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends those of the connections that may not stand any more. Ready when they have ended.
    pub(crate) async fn enforce_on(self: Arc<Self>, connections: Vec<Connection>) {
        let ends = connections.iter().filter_map(|connection| {
            let reason = self.objection(connection)?;
            Some(async move { connection.dismiss(reason).await })
        });
        join_all(ends).await;
    }

    fn objection(&self, connection: &Connection) -> Option<CloseReason> {
        let peer = connection.peer();
        if let Err(why) = self.config.revocations.check(&peer.chain) {
            return Some(CloseReason::Revoked(why));
        }
        // A device that was dialled although the policy did not admit it was the program's wish, and stays so.
        (connection.shared.admitted && !self.admits(peer)).then_some(CloseReason::NotAdmitted)
    }
}
