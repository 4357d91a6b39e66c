//! From evidence to causes: the whole of the reasoning, without a clock or a network.
//!
//! Each rule says what it takes to accuse somebody. What several causes would explain is laid on the nearest one, and nobody is
//! accused of what this side may have done itself.

use std::io::ErrorKind;
use std::time::Duration;

use towline_ice::nat::Mapping;

use super::cause::Cause;
use super::evidence::{Evidence, Pairs};
use crate::dht::{FindCertificateError, GetError};
use crate::error::{ConnectError, Step};
use crate::signal::RefusalReason;

/// After this time without a sign of it something that usually takes a tenth of it counts as missing.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Several nodes of the DHT are asked at once, and again after a second: if none of them answers for so long, none can.
const SILENCE: Duration = Duration::from_millis(1200);

/// What is wrong, the deciding cause first; nothing, as long as all goes well.
pub(super) fn diagnose(evidence: &Evidence) -> Vec<Cause> {
    let mut causes = Vec::new();
    if !evidence.stands {
        causes.extend(of_error(evidence).or_else(|| so_far(evidence)));
    }
    causes.extend((evidence.stun.lies > 0).then_some(Cause::StunLies));
    causes.extend(evidence.around.revoked.then_some(Cause::RevokedHere));
    causes.extend(evidence.dates.cause());
    causes
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

/// What is wrong with the network here, if the DHT does not answer.
fn of_network(evidence: &Evidence) -> Option<Cause> {
    let Evidence { around, stun, .. } = evidence;
    if around.addresses == Some(0) {
        return Some(Cause::NoNetworkHere);
    }
    let dht = &around.dht;
    if let (false, Some(name)) = (dht.heard, dht.unknown.first()) {
        return Some(Cause::NameUnknown { name: name.clone() });
    }
    // One node that is known from before may be gone.
    if dht.silence < SILENCE || (dht.heard && dht.silent < 2) {
        return None;
    }
    let forbidden = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable, ErrorKind::PermissionDenied];
    if dht.rejected.is_some_and(|kind| forbidden.contains(&kind)) {
        return Some(Cause::RejectedHere);
    }
    // Datagrams do get out, and back.
    if stun.answered > 0 {
        return Some(Cause::DhtDown);
    }
    Some(if dht.heard || around.servers { Cause::OfflineHere } else { Cause::DhtDown })
}

/// What a step that takes too long looks like.
fn so_far(evidence: &Evidence) -> Option<Cause> {
    let (step, took) = evidence.step?;
    if took < PATIENCE {
        return None;
    }
    match step {
        Step::Certificate => Some(of_network(evidence).unwrap_or(Cause::NotFoundThere)),
        Step::Signalling => Some(of_network(evidence).unwrap_or(Cause::OfflineThere)),
        Step::Path => Some(of_path(evidence)),
        Step::Tls => Some(Cause::LargePacketsLost),
        Step::Arguments | Step::Channel => None,
    }
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
    let Pairs { all, valid, unreachable, refused, received, .. } = udp.and(*tcp);
    if valid == 0 && received > 0 {
        return Cause::LostOutward;
    }
    if all > 0 && unreachable == all {
        return Cause::RejectedHere;
    }
    if refused > 0 && refused + unreachable == all {
        return Cause::RejectedThere;
    }
    if stun.answered == 0 && here.public == 0 {
        return if stun.silent == 0 { Cause::NoStunHere } else { Cause::StunDown };
    }
    if matches!(stun.mapping, Mapping::Dependent { .. }) {
        return Cause::HardNats { relay: here.relayed + there.relayed > 0 };
    }
    Cause::NothingPasses
}

#[cfg(test)]
mod tests;
