//! The port of the DHT on the router of the home.

use std::net::IpAddr;

use towline_portmap::{Granted, MappingState, PortMapper, Transport};

use crate::dht::{Dht, NodeMode};

/// Keeps the port open and tells the DHT of it, for as long as this runs and the ports of routers are not given back.
pub(super) async fn keep(mapper: PortMapper, dht: Dht) {
    // Routers map for IPv4 only. Who only asks needs nobody to come.
    let port = match dht.local_addrs().v4 {
        Some(local) if !local.ip().is_loopback() && dht.mode() != NodeMode::Client => local.port(),
        _ => return,
    };
    let mut mapping = mapper.map(Transport::Udp, port);
    let mut state = mapping.settled().await;
    while let Some(known) = state {
        let router = match known {
            MappingState::Granted(granted) => passes_on(port, granted),
            MappingState::Asking | MappingState::Failed(_) => None,
        };
        if dht.passed_on(router).await.is_err() {
            return;
        }
        state = mapping.changed().await;
    }
}

/// The address at which others reach the port. They go where they see us: if the router gave another port than ours, what we
/// send may leave it by a third one, and then they come to a closed door. Behind another router nobody comes at all.
fn passes_on(port: u16, granted: Granted) -> Option<IpAddr> {
    (granted.is_global() && granted.external.port() == port).then(|| granted.external.ip())
}
