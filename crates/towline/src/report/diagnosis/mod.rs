//! From evidence to causes: the whole of the reasoning, without a clock or a network.
//!
//! Each rule says what it takes to accuse somebody. What several causes would explain is laid on the nearest one, and nobody is
//! accused of what this side may have done itself.

mod network;

use std::io::ErrorKind;
use std::time::Duration;

use towline_ice::nat::Mapping;

use super::Surroundings;
use super::cause::{Cause, Side};
use super::evidence::{Evidence, Pairs};
use super::servers::Said;
use crate::dht::{FindCertificateError, GetError};
use crate::error::{ConnectError, Step};
use crate::reach::{PunchReport, PunchResult};
use crate::signal::{Plight, RefusalReason};
use network::{is_out_of_mappings, of_network, of_servers, of_transports};

/// After this time without a sign of it something that usually takes a tenth of it counts as missing.
pub(super) const PATIENCE: Duration = Duration::from_millis(1500);

/// What the peer says of what it meets with takes this long, by the DHT.
const WORD: Duration = Duration::from_millis(800);

/// What is wrong, the deciding cause first; nothing, as long as all goes well.
pub(super) fn diagnose(evidence: &Evidence) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (beside, dates) = (of_servers(evidence), evidence.dates.cause());
    if evidence.stands {
        let (all, working) = evidence.links;
        let silent = all > 0 && working == 0;
        // What works refutes what the DHT says, and without the DHT a connection that stands goes on.
        let counts = |cause: &Cause| *cause == Cause::NoNetworkHere || (silent && *cause != Cause::DhtDown);
        causes.extend(of_network(evidence).filter(counts));
        if silent && causes.is_empty() {
            // If all went by a relay, that is nearer.
            causes.extend(evidence.relay.clone().map(|relay| Cause::RelayLost { relay }));
            causes.extend(beside.iter().filter(|cause| matches!(cause, Cause::RelayLost { .. })).cloned());
            if causes.is_empty() {
                causes.push(if evidence.relay_there { Cause::RelayThere } else { Cause::SilentThere });
            }
        }
        causes.extend(of_relayed(evidence));
    } else {
        causes.extend(of_error(evidence).or_else(|| so_far(evidence)));
    }
    match causes.first() {
        // Where there is no path, a relay would have been one.
        Some(cause) if !evidence.stands && wants_relay(cause) => {
            let relays: Vec<Cause> = beside.iter().filter(|cause| is_of_relay(cause)).cloned().collect();
            causes.splice(0..0, relays);
        }
        // What is shown in a handshake counts for a time, so that such a clock is enough to break it.
        Some(Cause::PathBroke | Cause::HandshakeThere | Cause::LargePacketsLost) if dates.is_some() => {
            causes.clear();
            causes.extend(dates.clone());
        }
        _ => {}
    }
    causes.extend(beside);
    causes.extend((evidence.stun.lies > 0).then_some(Cause::StunLies));
    causes.extend(evidence.around.revoked.then_some(Cause::RevokedHere));
    causes.extend(dates);
    let mut told = Vec::new();
    for cause in causes {
        if !told.contains(&cause) {
            told.push(cause);
        }
    }
    told
}

/// What does not leave this device's network, as servers show that were asked.
pub(super) fn shut_in(around: Surroundings) -> Option<Plight> {
    of_transports(&Evidence { around, ..Evidence::default() }).as_ref().and_then(to_tell)
}

/// What a cause means to the peer, which cannot see it.
pub(super) fn to_tell(cause: &Cause) -> Option<Plight> {
    match cause {
        Cause::LostOutward | Cause::Rejected => Some(Plight::Unheard),
        Cause::UdpBlockedHere => Some(Plight::NoDatagrams),
        Cause::OnlyWebHere => Some(Plight::OnlyWeb),
        Cause::SilentThere | Cause::NothingPasses => Some(Plight::Deaf),
        _ => None,
    }
}

/// A relay that works would be a way round it.
fn wants_relay(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::RandomNats { .. }
            | Cause::HardNats { .. }
            | Cause::NothingPasses
            | Cause::NoCommonFamily
            | Cause::Isolated
            | Cause::UdpBlockedThere
            | Cause::OnlyWebThere
            | Cause::StunDown
    )
}

fn is_of_relay(cause: &Cause) -> bool {
    matches!(
        cause,
        // Also by a name that nobody knows.
        Cause::NameUnknown { .. }
            | Cause::RelayDown { .. }
            | Cause::RelayCredentials { .. }
            | Cause::RelayFull { .. }
            | Cause::RelayRefuses { .. }
            | Cause::RelayBroken { .. }
            | Cause::RelayLost { .. }
    )
}

/// What an attempt that failed says itself.
fn of_error(evidence: &Evidence) -> Option<Cause> {
    Some(match evidence.error.as_ref()? {
        ConnectError::Busy { .. } => Cause::BusyHere,
        ConnectError::NodeClosed
        | ConnectError::Cancelled
        | ConnectError::NotConnected
        | ConnectError::OwnDevice(_)
        | ConnectError::BadName { .. } => Cause::CancelledHere,
        ConnectError::Certificate(error) => of_certificate(evidence, error),
        ConnectError::Revoked(_) => Cause::RevokedThere,
        ConnectError::BadChain(_) => Cause::ChainThere,
        ConnectError::RequestNotStored => of_network(evidence).unwrap_or(Cause::DhtRefuses),
        ConnectError::NoAnswer { .. } | ConnectError::TimedOut { step: Step::Signalling, .. } => {
            of_network(evidence).unwrap_or(Cause::OfflineThere)
        }
        ConnectError::Refused(reason) => match reason {
            RefusalReason::NotAllowed | RefusalReason::Other(_) => Cause::RefusedThere,
            RefusalReason::Busy => Cause::BusyThere,
            RefusalReason::NoCandidates => Cause::MalformedThere,
            RefusalReason::Revoked => Cause::RevokedHere,
        },
        ConnectError::NotAdmitted => Cause::NotAdmittedHere,
        ConnectError::BadCandidates(_) => Cause::MalformedThere,
        ConnectError::NoSocket(ErrorKind::AddrNotAvailable) if evidence.around.addresses == Some(0) => {
            Cause::NoNetworkHere
        }
        ConnectError::NoSocket(ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => {
            Cause::PortsExhaustedHere
        }
        ConnectError::NoSocket(_) => Cause::FilesExhaustedHere,
        ConnectError::NoPath(_) | ConnectError::TimedOut { step: Step::Path, .. } => of_path(evidence),
        ConnectError::TimedOut { step: Step::Certificate, .. } => {
            of_network(evidence).unwrap_or(Cause::NotFoundThere)
        }
        ConnectError::TimedOut { .. } => Cause::LargePacketsLost,
        ConnectError::Tls(error) => match error {
            towline_tls::TlsError::WrongKey { .. } => Cause::ImpostorThere,
            _ => Cause::HandshakeThere,
        },
        ConnectError::Handshake(error) => match error {
            towline_channeler::HandshakeError::WrongPeer => Cause::ImpostorThere,
            towline_channeler::HandshakeError::TimedOut => Cause::LargePacketsLost,
            _ => Cause::HandshakeThere,
        },
        ConnectError::TlsTransport(_) => Cause::PathBroke,
        // The connection stands, so it is none of its faults.
        ConnectError::Channel(_) => return None,
    })
}

fn of_certificate(evidence: &Evidence, error: &FindCertificateError) -> Cause {
    match error {
        FindCertificateError::NotFound(_) | FindCertificateError::IdUnknown(_) => {
            of_network(evidence).unwrap_or(Cause::NotFoundThere)
        }
        FindCertificateError::Lookup(GetError::Unreachable) => of_network(evidence).unwrap_or(Cause::DhtDown),
        FindCertificateError::Lookup(GetError::Backlog | GetError::Busy) => Cause::BusyHere,
        FindCertificateError::Lookup(GetError::Closed) => Cause::CancelledHere,
    }
}

/// What a step that takes too long looks like.
fn so_far(evidence: &Evidence) -> Option<Cause> {
    let (step, took) = evidence.step?;
    if took < PATIENCE {
        return of_nats(evidence).filter(|_| step == Step::Path);
    }
    // Nobody is blamed for what a network does not hold from which nothing ever came.
    let theirs = |cause| evidence.around.dht.heard.then_some(cause);
    match step {
        Step::Certificate => of_network(evidence).or_else(|| theirs(Cause::NotFoundThere)),
        Step::Signalling => of_network(evidence).or_else(|| theirs(Cause::OfflineThere)),
        Step::Path => Some(of_path(evidence)),
        Step::Tls => Some(Cause::LargePacketsLost),
        Step::Arguments | Step::Channel => None,
    }
}

/// What the NATs of both sides leave no hope for: known as soon as they are, before anything has failed.
fn of_nats(evidence: &Evidence) -> Option<Cause> {
    let punch = evidence.punch.as_ref().filter(|punch| punch.result == PunchResult::Hopeless)?;
    // Who is behind the same one may do without it.
    if evidence.one_outside {
        return None;
    }
    let relay = has_relay(evidence);
    Some(match punch.random() {
        (true, true) => Cause::RandomNats { relay },
        _ => hard_nats(evidence),
    })
}

/// Ports are in the way, and which NAT takes those that nobody foretells.
fn hard_nats(evidence: &Evidence) -> Cause {
    let (here, there) = evidence.punch.as_ref().map_or((false, false), PunchReport::random);
    let random = match (here || evidence.stun.mapping.is_random(), there) {
        (true, false) => Some(Side::Here),
        (false, true) => Some(Side::There),
        _ => None,
    };
    Cause::HardNats { random, relay: has_relay(evidence) }
}

/// Whether any side has one.
fn has_relay(evidence: &Evidence) -> bool {
    let candidates = evidence.here.relayed + evidence.there.relayed;
    evidence.relayed || candidates > 0 || evidence.around.asked.iter().any(|server| server.relay)
}

/// Why a connection that stands has relays only.
fn of_relayed(evidence: &Evidence) -> Option<Cause> {
    if !evidence.relayed {
        return None;
    }
    let nats = of_nats(evidence);
    if nats.is_some() || evidence.looked < PATIENCE {
        return nats;
    }
    // Neither punching nor a network that lets more out would change that.
    if evidence.here.foreign_to(evidence.there) {
        return Some(Cause::NoCommonFamily);
    }
    if evidence.punch.as_ref().is_some_and(|punch| punch.result == PunchResult::UnderWay) {
        return None;
    }
    Some(of_transports(evidence).unwrap_or_else(|| match of_path(evidence) {
        // By the relay it is heard.
        Cause::SilentThere | Cause::MalformedThere => Cause::NothingPasses,
        cause => cause,
    }))
}

/// Why no pair works.
fn of_path(evidence: &Evidence) -> Cause {
    let Evidence { here, there, udp, tcp, stun, .. } = evidence;
    if here.v4 + here.v6 == 0 {
        return Cause::NoNetworkHere;
    }
    if there.v4 + there.v6 == 0 {
        return Cause::MalformedThere;
    }
    if here.foreign_to(*there) {
        return Cause::NoCommonFamily;
    }
    if let Some(cause) = of_nats(evidence) {
        return cause;
    }
    let Pairs { all, valid, unreachable, refused, received, .. } = udp.and(*tcp);
    // Whoever hears us says so, and we hear nothing of it.
    if evidence.told == Some(Plight::Unheard) && received == 0 && valid == 0 {
        return Cause::LostInward;
    }
    // Who says so, in whose name, is not to be seen; what the peer sends may come nevertheless.
    if (refused > 0 && valid == 0) || (all > 0 && unreachable == all) {
        return Cause::Rejected;
    }
    if valid == 0 && received > 0 {
        return Cause::LostOutward;
    }
    match evidence.told {
        Some(Plight::NoDatagrams) => return Cause::UdpBlockedThere,
        Some(Plight::OnlyWeb) => return Cause::OnlyWebThere,
        _ => {}
    }
    if there.relayed == there.v4 + there.v6 {
        return Cause::RelayThere;
    }
    if evidence.one_outside {
        return Cause::Isolated;
    }
    if stun.answered == 0 && here.public == 0 {
        let unknown = evidence.around.asked.iter().find(|server| server.said == Said::Unknown);
        return match unknown {
            Some(server) => Cause::NameUnknown { name: server.host().to_owned() },
            None if !stun.configured => Cause::NoStunHere,
            None if is_out_of_mappings(evidence) => Cause::MappingsExhaustedHere,
            None => of_transports(evidence).unwrap_or(Cause::StunDown),
        };
    }
    let punched = |punch: &PunchReport| punch.result == PunchResult::InVain;
    // Also if it is the peer's NAT that gives each destination another port.
    if matches!(stun.mapping, Mapping::Dependent { .. }) || evidence.punch.as_ref().is_some_and(punched) {
        return hard_nats(evidence);
    }
    // Whoever is on the internet itself, and has our addresses, has its own checks here by now, or says that it hears nothing.
    let says_nothing = evidence.told.is_none() && evidence.looked >= PATIENCE + WORD;
    if there.open > 0 && here.public > 0 && says_nothing {
        return Cause::SilentThere;
    }
    Cause::NothingPasses
}

#[cfg(test)]
mod tests;
