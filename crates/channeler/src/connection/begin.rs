//! The beginning: from the first packet of the handshake to keys on both sides.

use std::{sync::Arc, time::Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{
    Connection, Protection,
    links::Links,
    phase::{Early, Phase},
};
use crate::{
    Config, ConnectionError, ConnectionId, HandshakeError, Route, Side, Transmit, Violation,
    endpoint::EndpointEventKind,
    handshake::{Established, Handshake, Progress},
    parameters::{FIRST_IDS, Parameters},
    wire,
};

/// The handshake, for as long as anything of it may have to be sent again.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) handshake: Handshake,
    pub(super) route: Route,
    /// Whether a packet protected by the new keys came: then the peer has them, too, and is alive.
    pub(super) complete: bool,
}

/// What a connection is born with.
pub(crate) struct Birth {
    pub(crate) side: Side,
    pub(crate) config: Arc<Config>,
    pub(crate) route: Route,
    pub(crate) seed: [u8; 32],
    /// Own connection ids of links 0, 1, 2 and so on.
    pub(crate) ids: Vec<ConnectionId>,
}

impl Birth {
    /// Fresh ids and seed.
    pub(crate) fn new(side: Side, config: Arc<Config>, route: Route, rng: &mut StdRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let links = FIRST_IDS.min(2 * config.max_links);
        let ids = (0..=links).map(|_| ConnectionId(rng.random())).collect();
        Self { side, config, route, seed, ids }
    }

    /// What goes into the handshake.
    pub(crate) fn parameters(&self) -> Vec<u8> {
        Parameters::of(&self.config, self.ids[1..].to_vec()).encode()
    }
}
