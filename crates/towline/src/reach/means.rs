//! What a node has for reaching out, common to all its attempts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use towline_ice::gather::{GatherConfig, Gatherer, Server, Via};
use towline_net::Net;
use towline_portmap::{PortMapper, Transport};

use super::relay::Relays;
use super::{Outside, Reach, with_port};

/// Names of servers are looked up again after this time, and sooner if one was not found.
const LOOK_UP_AGAIN: Duration = Duration::from_hours(1);
const RETRY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Means {
    net: Arc<dyn Net>,
    /// Addresses of STUN servers.
    stun: watch::Receiver<Vec<SocketAddr>>,
    relays: Option<Arc<Relays>>,
    mapper: Option<PortMapper>,
}

/// An address of a socket that is to be reached from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Base {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}

impl Means {
    pub(crate) fn start(net: &Arc<dyn Net>, reach: &Reach, tasks: &mut JoinSet<()>) -> Self {
        let (tell, stun) = watch::channel(Vec::new());
        let names: Vec<String> = reach.stun.iter().filter_map(|name| with_port(name)).collect();
        if !names.is_empty() {
            tasks.spawn(look_up(Arc::clone(net), names, tell));
        }
        let relays =
            (!reach.relays.is_empty()).then(|| Arc::new(Relays::new(Arc::clone(net), reach.relays.clone())));
        let mapper = reach
            .port_mapping
            .then(|| PortMapper::start(Arc::clone(net), towline_portmap::Options::default()));
        Self { net: Arc::clone(net), stun, relays, mapper }
    }

    /// Begins to find out how `bases` are seen from outside, for the agent with this user name fragment.
    pub(crate) fn begin(&self, bases: &[Base], ufrag: &str) -> Outside {
        let now = towline_net::now();
        let servers = self.stun.borrow().clone();
        let gatherer = (!servers.is_empty()).then(|| {
            let mut gatherer = Gatherer::new(GatherConfig::default(), now, self.net.seed());
            for address in servers {
                gatherer.add_server(now, Server { address, via: Via::Udp });
            }
            for base in bases.iter().filter(|base| base.transport == Transport::Udp) {
                gatherer.add_base(now, Via::Udp, base.address);
            }
            gatherer
        });
        let relay = self.relays.as_ref().map(|relays| Relays::port(Arc::clone(relays), ufrag.to_owned()));
        // Routers map for IPv4 only; one port is mapped once, whatever addresses it has.
        let mut mapped: Vec<Base> = bases.iter().copied().filter(|base| base.address.is_ipv4()).collect();
        mapped.dedup_by_key(|base| (base.transport, base.address.port()));
        let mapper = self.mapper.iter();
        let mappings = mapper
            .flat_map(|mapper| {
                mapped.iter().map(|base| (*base, mapper.map(base.transport, base.address.port())))
            })
            .collect();
        Outside::new(gatherer, relay, mappings)
    }

    /// The network has changed: what stands may not stand any more.
    pub(crate) fn check(&self) {
        if let Some(relays) = &self.relays {
            relays.check();
        }
    }
}

async fn look_up(net: Arc<dyn Net>, names: Vec<String>, tell: watch::Sender<Vec<SocketAddr>>) {
    loop {
        let (mut found, mut complete) = (Vec::new(), true);
        for name in &names {
            match net.resolve(name).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => {
                    tracing::debug!(%name, %error, "the STUN server was not found");
                    complete = false;
                }
            }
        }
        tell.send_replace(found);
        tokio::time::sleep(if complete { LOOK_UP_AGAIN } else { RETRY }).await;
    }
}
