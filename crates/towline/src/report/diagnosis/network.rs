//! What is wrong around this device: its network, the DHT, servers.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::PATIENCE;
use crate::dht::{SILENCE, Vitals};
use crate::error::Step;
use crate::report::Cause;
use crate::report::evidence::Evidence;
use crate::report::servers::{Asked, Said};

/// What is wrong with the network here, if the DHT does not answer.
pub(super) fn of_network(evidence: &Evidence) -> Option<Cause> {
    let around = &evidence.around;
    if around.addresses == Some(0) {
        return Some(Cause::NoNetworkHere);
    }
    let dht = &around.dht;
    if let (false, Some(name)) = (dht.heard, dht.unknown.first()) {
        return Some(Cause::NameUnknown { name: name.clone() });
    }
    if !is_silent(dht) {
        return None;
    }
    let forbidden = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable, ErrorKind::PermissionDenied];
    if dht.rejected.is_some_and(|kind| forbidden.contains(&kind)) {
        return Some(Cause::RejectedHere);
    }
    if let Some(cause) = of_transports(evidence) {
        return Some(cause);
    }
    let served = around.asked.iter().any(|server| !server.tcp && server.is_reached());
    if served || evidence.stun.answered > 0 {
        return Some(Cause::DhtDown);
    }
    let asked = around.asked.iter().any(|server| server.said == Said::Silent);
    Some(if dht.heard || asked { Cause::OfflineHere } else { Cause::DhtDown })
}

/// One node that is known from before may be gone; several are not at once, and while one is asked in vain again, others are asked
/// as well: if they do not answer either, it is all that are known.
fn is_silent(dht: &Vitals) -> bool {
    dht.silence >= SILENCE && (!dht.heard || dht.silent > 1 || dht.silence >= 2 * SILENCE)
}

/// Datagrams get out and back.
fn udp_works(evidence: &Evidence) -> bool {
    let around = &evidence.around;
    (around.dht.heard && !is_silent(&around.dht))
        || evidence.stun.answered > 0
        || around.asked.iter().any(|server| !server.tcp && server.is_reached())
}

/// What servers that are of no use say of the network here.
pub(super) fn of_transports(evidence: &Evidence) -> Option<Cause> {
    let asked = &evidence.around.asked;
    let silent = |server: &&Asked| server.said == Said::Silent;
    if udp_works(evidence) || !asked.iter().filter(silent).any(|server| !server.tcp) {
        return None;
    }
    let mut reached = asked.iter().filter(|server| server.tcp && server.is_reached()).peekable();
    if reached.peek().is_none() {
        let replaced = asked.iter().any(|server| server.tcp && server.said == Said::Garbage);
        return replaced.then_some(Cause::PortalHere);
    }
    let others = asked.iter().filter(silent).any(|server| server.tcp && !server.is_on_web_port());
    let web_only = others && reached.all(Asked::is_on_web_port);
    Some(if web_only { Cause::OnlyWebHere } else { Cause::UdpBlockedHere })
}

/// New flows of datagrams do not get out while an old one goes on: the DHT is reached, and no server is, though one of them lives
/// by TCP, or there are two of them.
pub(super) fn is_out_of_mappings(evidence: &Evidence) -> bool {
    let dht = &evidence.around.dht;
    let looking = evidence.stands || evidence.step.is_some_and(|(step, _)| step == Step::Path);
    let asks = evidence.stun.asks && evidence.elapsed >= PATIENCE && evidence.stun.answered == 0;
    if !looking || !asks || !dht.heard || is_silent(dht) {
        return false;
    }
    let asked = || evidence.around.asked.iter().filter(|server| server.said != Said::Nothing);
    let by_udp = || asked().filter(|server| !server.tcp);
    let hosts: BTreeSet<&str> = by_udp().map(Asked::host_alone).collect();
    // One that answered before and tells this attempt nothing counts as well; a connection that stands asks anew at any time.
    let before = |server: &Asked| !server.relay && server.said == Said::Answer && !evidence.stands;
    let mute = by_udp().all(|server| server.said == Said::Silent || before(server));
    let lives = asked().any(|server| server.tcp && server.is_reached());
    mute && !hosts.is_empty() && (hosts.len() > 1 || lives)
}

/// What is wrong with the servers, as far as it is they that are at fault, and else with the way to them.
pub(super) fn of_servers(evidence: &Evidence) -> Vec<Cause> {
    if of_network(evidence).is_some_and(|cause| cause != Cause::DhtDown) {
        return Vec::new();
    }
    if is_out_of_mappings(evidence) {
        return vec![Cause::MappingsExhaustedHere];
    }
    let here = of_transports(evidence);
    // There is no way from here to a server that is known by an address of the other family.
    let foreign = |server: &Asked| server.address().is_some_and(|at| evidence.here.lacks(at.ip()));
    let excused = |server: &Asked| match (&here, server.said) {
        (_, Said::Silent) if foreign(server) => true,
        (Some(Cause::UdpBlockedHere), Said::Silent) => !server.tcp,
        (Some(Cause::OnlyWebHere), Said::Silent) => !server.tcp || !server.is_on_web_port(),
        (Some(Cause::PortalHere), Said::Silent | Said::Garbage) => true,
        _ => false,
    };
    let servers = evidence.around.asked.iter().filter(|server| !excused(server));
    let mut causes: Vec<Cause> = servers.filter_map(Asked::cause).collect();
    if here.is_none() && evidence.stun.silent > 0 && udp_works(evidence) {
        causes.push(Cause::StunDown);
    }
    here.into_iter().chain(causes).collect()
}
