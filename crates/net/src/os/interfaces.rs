//! Interfaces of the machine.

use std::{io, time::Duration};

use netdev::interface::ipv6_addr_flags::Ipv6AddrFlags;
use tokio::{sync::watch, task};

use super::notices::Notices;
use crate::{Changes, Gateway, Interface, InterfaceAddress};

/// How often the interfaces are compared with what they were, where the system does not tell of changes by itself. Asking
/// costs well under a millisecond.
const POLL: Duration = Duration::from_secs(3);
/// The same where it does: a notice can be missed.
const LONG_POLL: Duration = Duration::from_secs(30);
/// How long after the first notice the interfaces are compared: changes come in flocks.
const FLOCK: Duration = Duration::from_millis(50);

pub(super) fn list() -> io::Result<Vec<Interface>> {
    let mut found: Vec<_> = netdev::get_interfaces().into_iter().map(convert).collect();
    if found.is_empty() {
        // netdev swallows errors; a machine without even a loopback interface is one.
        return Err(io::Error::new(io::ErrorKind::NotFound, "the system named no network interface"));
    }
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

pub(super) fn gateways() -> Vec<Gateway> {
    let mut found = Vec::new();
    for interface in netdev::get_interfaces().into_iter().filter(netdev::Interface::is_up) {
        for router in interface.gateway.iter().flat_map(|gateway| &gateway.ipv4) {
            let shared = interface.ipv4.iter().find(|net| net.contains(router) && net.addr() != *router);
            found.extend(shared.map(|net| Gateway {
                router: (*router).into(),
                local: net.addr().into(),
                interface: interface.index,
            }));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn convert(from: netdev::Interface) -> Interface {
    let v4 = from.ipv4.iter().map(|net| (net.addr().into(), net.prefix_len()));
    // An address under duplicate detection cannot be bound yet; it will be a change when it can.
    let usable = |at: usize| {
        let flags = from.ipv6_addr_flags.get(at).copied().unwrap_or_default();
        !matches!(flags, Ipv6AddrFlags { tentative: true, .. } | Ipv6AddrFlags { duplicated: true, .. })
    };
    let v6 = from.ipv6.iter().enumerate().filter(|(at, _)| usable(*at));
    let v6 = v6.map(|(_, net)| (net.addr().into(), net.prefix_len()));
    let mut addresses: Vec<_> =
        v4.chain(v6).map(|(addr, prefix)| InterfaceAddress { addr, prefix }).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let (loopback, up, multicast) = (from.is_loopback(), from.is_up(), from.is_multicast());
    Interface { name: from.name, index: from.index, addresses, loopback, up, multicast }
}

/// Starts a task that compares the interfaces until the subscription is dropped.
pub(super) fn watch() -> Changes {
    let (generation, subscription) = watch::channel(0);
    // Listened first, then looked: what changes in between is told.
    let mut notices = Notices::open().inspect_err(|error| tracing::debug!(%error, "no notices")).ok();
    let mut last = list().ok();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = generation.closed() => return,
                () = due(&mut notices) => {}
            }
            let Ok(current) = task::spawn_blocking(list).await else { return };
            let current = current.ok();
            if current != last {
                tracing::debug!("interfaces changed");
                last = current;
                generation.send_modify(|number| *number += 1);
            }
        }
    });
    Changes::new(subscription)
}

/// Waits until it is time to compare.
async fn due(notices: &mut Option<Notices>) {
    let Some(heard) = notices else { return tokio::time::sleep(POLL).await };
    match tokio::time::timeout(LONG_POLL, heard.heard()).await {
        Ok(Ok(())) => tokio::time::sleep(FLOCK).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "no more notices");
            *notices = None;
        }
        Err(_) => {}
    }
}
