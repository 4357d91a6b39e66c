//! What every task of a node needs.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::broadcast;
use towline_identity::{AccountId, Chain, DeviceId};
use towline_net::Net;

use crate::config::Config;
use crate::dht::Dht;
use crate::error::ConnectError;
use crate::event::Event;
use crate::info::{ConnectionId, ConnectionState};
use crate::path::PathOptions;
use crate::policy::Peer;
use crate::signal::Signalling;

/// Shared, read-only.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) dht: Dht,
    pub(crate) signalling: Signalling,
    pub(crate) tls: towline_tls::Config,
    pub(crate) config: Config,
    pub(crate) path: PathOptions,
    pub(crate) device: DeviceId,
    pub(crate) account: AccountId,
    pub(crate) events: broadcast::Sender<Event>,
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

    /// What is known of a device from its chain. A device needs an account: a self-signed one is refused.
    pub(crate) fn peer(&self, chain: &Chain) -> Result<Peer, ConnectError> {
        if chain.pack().len() > self.config.limits.certificate_chain {
            return Err(ConnectError::BadChain("it is longer than this node allows"));
        }
        chain.verify_links().map_err(|_| ConnectError::BadChain("its signatures do not hold"))?;
        let account = chain.account_id().ok_or(ConnectError::BadChain("no account signed it"))?;
        Ok(Peer { device: chain.device_id(), account, chain: chain.clone() })
    }
}
