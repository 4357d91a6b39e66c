//! Finding the routers that open ports: all protocols at once.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};
use towline_net::{Gateway, Net, UdpBind};

use crate::{
    request::Protocol,
    service::{Service, Way, describe, probe},
    upnp,
};

/// How long answers to a UPnP search are waited for. Routers spread them over the second that the search says.
const SEARCH: Duration = Duration::from_millis(2500);
/// The search is repeated once: it goes by multicast, which wireless networks lose.
const REPEAT: Duration = Duration::from_millis(500);
/// Devices whose description is fetched, for each network.
const DESCRIPTIONS: usize = 4;
/// Longest answer to a search.
const MAX_ANSWER: usize = 2048;
/// Answers that are looked at in a search.
const ANSWERS: usize = 128;
/// How often is looked again when nothing was found.
const AGAIN: Duration = Duration::from_mins(15);

/// What is known of routers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Grows with each search.
    pub(crate) round: u64,
    /// The search is over.
    pub(crate) complete: bool,
    /// Who answered, in the order of the answers.
    pub(crate) services: Vec<Service>,
}

/// Searches now, when the network changes, and now and then while nothing is found.
pub(crate) async fn keep_looking(net: Arc<dyn Net>, protocols: Vec<Protocol>, tell: watch::Sender<Known>) {
    let mut changes = net.changes();
    loop {
        tell.send_modify(|known| {
            known.round += 1;
            known.complete = false;
            known.services.clear();
        });
        look(&net, &protocols, &tell).await;
        tell.send_modify(|known| known.complete = true);
        let found = !tell.borrow().services.is_empty();
        tokio::select! {
            biased;
            () = changes.changed() => {}
            () = tokio::time::sleep(AGAIN), if !found => {}
        }
    }
}

async fn look(net: &Arc<dyn Net>, protocols: &[Protocol], tell: &watch::Sender<Known>) {
    let gateways = net.gateways().unwrap_or_else(|error| {
        tracing::debug!(%error, "the routers of this host are not known");
        Vec::new()
    });
    let mut searches = JoinSet::new();
    for Gateway { router, local, interface } in gateways {
        let IpAddr::V4(local) = local else { continue };
        for protocol in protocols.iter().copied() {
            let (net, tell) = (Arc::clone(net), tell.clone());
            searches.spawn(async move {
                let found = |service: Service| {
                    tracing::debug!(?service, "a router answers");
                    tell.send_if_modified(|known| {
                        let new = !known.services.contains(&service);
                        if new {
                            known.services.push(service);
                        }
                        new
                    });
                };
                if protocol == Protocol::Upnp {
                    search(&net, router, local, interface, found).await;
                } else if let Some(service) = probe(net.as_ref(), router, local, protocol).await {
                    found(service);
                }
            });
        }
    }
    while searches.join_next().await.is_some() {}
}

/// A UPnP search in the network of `local`, by multicast and at the router itself. Who answers is asked for its description;
/// the router itself is asked in any case.
async fn search(
    net: &Arc<dyn Net>,
    router: IpAddr,
    local: Ipv4Addr,
    interface: u32,
    found: impl Fn(Service),
) {
    let bind = UdpBind {
        multicast_interface: Some(interface),
        multicast_ttl: 2,
        multicast_loop: false,
        ..UdpBind::new(SocketAddr::new(local.into(), 0))
    };
    let socket = match net.bind_udp(&bind) {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "no UPnP search"),
    };
    let mut described: Vec<upnp::Location> = Vec::new();
    let mut descriptions = JoinSet::new();
    let ask = async || {
        for target in upnp::TARGETS {
            let question = upnp::search(target, 1);
            // Lost, when it fails; the other one may arrive.
            let _ = socket.try_send(question.as_bytes(), upnp::GROUP);
            let _ = socket.try_send(question.as_bytes(), SocketAddr::new(router, upnp::GROUP.port()));
        }
    };
    let end = tokio::time::sleep(SEARCH);
    let again = tokio::time::sleep(REPEAT);
    tokio::pin!(end, again);
    let (mut buffer, mut answers, mut repeated) = (vec![0; MAX_ANSWER], 0, false);
    ask().await;
    loop {
        tokio::select! {
            biased;
            Some(services) = descriptions.join_next() => services.into_iter().flatten().for_each(&found),
            () = &mut end => break,
            () = &mut again, if !repeated => {
                repeated = true;
                ask().await;
            }
            received = socket.recv(&mut buffer), if answers < ANSWERS => {
                let Ok(received) = received else { break };
                answers += 1;
                let sender = received.from.ip();
                let answer = match upnp::Answer::parse(&buffer[..received.len], sender) {
                    Ok(answer) => answer,
                    Err(error) => {
                        tracing::debug!(%sender, %error, "an answer to the UPnP search does not count");
                        continue;
                    }
                };
                if described.contains(&answer.location) || described.len() == DESCRIPTIONS {
                    continue;
                }
                described.push(answer.location.clone());
                let net = Arc::clone(net);
                descriptions.spawn(async move { services_at(net.as_ref(), &answer.location, local).await });
            }
        }
    }
    while let Some(services) = descriptions.join_next().await {
        services.into_iter().flatten().for_each(&found);
    }
}

/// The services of the router whose description lies there: one for each uplink, of which only some may be connected.
async fn services_at(net: &dyn Net, at: &upnp::Location, local: Ipv4Addr) -> Vec<Service> {
    let service = |service| Service { router: at.server.ip(), local, way: Way::Upnp(service) };
    match describe(net, at).await {
        Ok(description) => description.services.into_iter().map(service).collect(),
        Err(error) => {
            tracing::debug!(%at, %error, "a UPnP router cannot be used");
            Vec::new()
        }
    }
}
