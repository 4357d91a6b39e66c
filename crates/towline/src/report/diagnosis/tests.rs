//! Each cause from the evidence that shows it.

use towline_ice::nat::{Allocation, Dependence};

use super::*;
use crate::dht::CertificateEvidence;
use crate::dht::Vitals;
use crate::eras::Eras;
use crate::report::evidence::{Families, Stun};
use crate::report::{Side, Surroundings};

const LONG: Duration = Duration::from_secs(2);

/// In a step, for long enough to wonder.
fn stuck(step: Step) -> Evidence {
    Evidence { step: Some((step, LONG)), ..Evidence::default() }
}

/// No pair works, though both sides have candidates.
fn pathless() -> Evidence {
    let both = Families { v4: 2, public: 2, ..Families::default() };
    Evidence { here: both, there: both, ..stuck(Step::Path) }
}

#[track_caller]
fn is(evidence: &Evidence, cause: &Cause) {
    assert_eq!(diagnose(evidence).first(), Some(cause), "{evidence:?}");
}

#[test]
fn as_long_as_nothing_takes_too_long_nobody_is_accused() {
    for step in [Step::Certificate, Step::Signalling, Step::Path, Step::Tls] {
        let evidence = Evidence { step: Some((step, PATIENCE / 2)), ..pathless() };
        assert_eq!(diagnose(&evidence), []);
    }
    assert_eq!(diagnose(&Evidence { stands: true, ..Evidence::default() }), []);
}

#[test]
fn a_step_that_takes_too_long_is_suspected_before_it_fails() {
    is(&stuck(Step::Certificate), &Cause::NotFoundThere);
    is(&stuck(Step::Signalling), &Cause::OfflineThere);
    is(&stuck(Step::Tls), &Cause::LargePacketsLost);
    is(&pathless(), &Cause::NothingPasses);
}

#[test]
fn errors_that_say_it_all() {
    let failed = |error| Evidence { error: Some(error), ..Evidence::default() };
    for (error, cause) in [
        (ConnectError::Cancelled, Cause::CancelledHere),
        (ConnectError::Busy { what: "dials", limit: 1 }, Cause::BusyHere),
        (ConnectError::NotAdmitted, Cause::NotAdmittedHere),
        (ConnectError::RequestNotStored, Cause::DhtRefuses),
        (ConnectError::Refused(RefusalReason::NotAllowed), Cause::RefusedThere),
        (ConnectError::Refused(RefusalReason::Busy), Cause::BusyThere),
        (ConnectError::Refused(RefusalReason::NoCandidates), Cause::MalformedThere),
        (ConnectError::BadChain("no account signed it"), Cause::ChainThere),
        (ConnectError::NoSocket(ErrorKind::AddrNotAvailable), Cause::PortsExhaustedHere),
        (ConnectError::NoSocket(ErrorKind::AddrInUse), Cause::PortsExhaustedHere),
        (ConnectError::NoSocket(ErrorKind::Other), Cause::FilesExhaustedHere),
        (ConnectError::TlsTransport(ErrorKind::ConnectionReset), Cause::PathBroke),
        (ConnectError::Handshake(towline_channeler::HandshakeError::WrongPeer), Cause::ImpostorThere),
        (ConnectError::Handshake(towline_channeler::HandshakeError::Malformed), Cause::HandshakeThere),
        (ConnectError::Tls(towline_tls::TlsError::Garbage), Cause::HandshakeThere),
        (ConnectError::TimedOut { step: Step::Tls, waited: LONG }, Cause::LargePacketsLost),
        (
            ConnectError::Certificate(FindCertificateError::NotFound(CertificateEvidence::default())),
            Cause::NotFoundThere,
        ),
        (ConnectError::NoAnswer { waited: LONG, stored_on: 8, asked: Eras::default() }, Cause::OfflineThere),
    ] {
        is(&failed(error), &cause);
    }
}

#[test]
fn sides_without_a_common_family() {
    let (four, six) =
        (Families { v4: 1, v6: 0, ..Families::default() }, Families { v4: 0, v6: 3, ..Families::default() });
    is(&Evidence { here: four, there: six, ..stuck(Step::Path) }, &Cause::NoCommonFamily);
    is(&Evidence { here: six, there: four, ..stuck(Step::Path) }, &Cause::NoCommonFamily);
    let both = Families { v4: 1, v6: 1, public: 2, ..Families::default() };
    is(&Evidence { here: both, there: six, ..stuck(Step::Path) }, &Cause::NothingPasses);
    is(&Evidence { here: Families::default(), there: six, ..stuck(Step::Path) }, &Cause::NoNetworkHere);
    is(&Evidence { here: six, there: Families::default(), ..stuck(Step::Path) }, &Cause::MalformedThere);
}

#[test]
fn what_pairs_met_with() {
    let tcp = Pairs { all: 2, refused: 2, sent: 0, ..Pairs::default() };
    is(&Evidence { tcp, ..pathless() }, &Cause::RejectedThere);
    let tcp = Pairs { all: 2, unreachable: 2, ..Pairs::default() };
    is(&Evidence { tcp, ..pathless() }, &Cause::RejectedHere);
    let udp = Pairs { all: 2, silent: 2, sent: 12, received: 5, ..Pairs::default() };
    is(&Evidence { udp, ..pathless() }, &Cause::LostOutward);
}

#[test]
fn what_servers_say_of_us() {
    let homes = Evidence { here: Families { v4: 2, ..Families::default() }, ..pathless() };
    is(&homes, &Cause::NoStunHere);
    let stun = Stun { silent: 2, ..Stun::default() };
    is(&Evidence { stun, ..homes.clone() }, &Cause::StunDown);
    let on = Dependence::AddressAndPort;
    let mapping = Mapping::Dependent { on, ports: Allocation::Random };
    let stun = Stun { answered: 2, mapping, ..Stun::default() };
    is(&Evidence { stun, ..homes.clone() }, &Cause::HardNats { relay: false });
    let stun = Stun { answered: 1, lies: 1, ..Stun::default() };
    assert_eq!(diagnose(&Evidence { stun, ..pathless() }), [Cause::NothingPasses, Cause::StunLies]);
    assert_eq!(diagnose(&Evidence { stun, stands: true, ..homes }), [Cause::StunLies]);
}

/// The DHT does not answer.
fn silent_dht(step: Step) -> Evidence {
    let dht = Vitals { silence: LONG, silent: 2, ..Vitals::default() };
    Evidence { around: Surroundings { addresses: Some(1), dht, ..Surroundings::default() }, ..stuck(step) }
}

#[test]
fn a_network_that_is_down_here_is_nobody_elses_fault() {
    for step in [Step::Certificate, Step::Signalling] {
        let mut evidence = silent_dht(step);
        is(&evidence, &Cause::DhtDown);
        evidence.around.dht.heard = true;
        is(&evidence, &Cause::OfflineHere);
        evidence.stun.answered = 1;
        is(&evidence, &Cause::DhtDown);
        evidence.around.dht.rejected = Some(ErrorKind::NetworkUnreachable);
        is(&evidence, &Cause::RejectedHere);
        evidence.around.addresses = Some(0);
        is(&evidence, &Cause::NoNetworkHere);
    }
    let mut evidence = silent_dht(Step::Signalling);
    (evidence.around.dht.heard, evidence.around.dht.silent) = (true, 1);
    is(&evidence, &Cause::OfflineThere);
    let mut evidence = silent_dht(Step::Certificate);
    evidence.around.servers = true;
    is(&evidence, &Cause::OfflineHere);
    evidence.around.dht.unknown = vec!["bootstrap.example:4222".into()];
    is(&evidence, &Cause::NameUnknown { name: "bootstrap.example:4222".into() });
    evidence.around.dht = Vitals { heard: true, ..Vitals::default() };
    is(&evidence, &Cause::NotFoundThere);
    evidence.error = Some(ConnectError::RequestNotStored);
    is(&evidence, &Cause::DhtRefuses);
    evidence.around.addresses = Some(0);
    is(&evidence, &Cause::NoNetworkHere);
    evidence.error = Some(ConnectError::NoSocket(ErrorKind::AddrNotAvailable));
    is(&evidence, &Cause::NoNetworkHere);
}

#[test]
fn what_is_known_of_our_own_certificates_is_told_beside() {
    let around = Surroundings { revoked: true, ..Surroundings::default() };
    let failed = Evidence {
        error: Some(ConnectError::Refused(RefusalReason::NotAllowed)),
        around: around.clone(),
        ..Evidence::default()
    };
    assert_eq!(diagnose(&failed), [Cause::RefusedThere, Cause::RevokedHere]);
}

#[test]
fn every_sentence_is_plain_and_names_a_side() {
    let relay = || "turn:ann@relay.example:3478".to_owned();
    let causes = [
        Cause::NameUnknown { name: "stun.example:3478".into() },
        Cause::RelayRefuses { relay: relay(), code: 403 },
        Cause::RelayFull { relay: relay() },
        Cause::RandomNats { relay: false },
        Cause::UdpBlockedThere,
    ];
    for cause in causes {
        let (sentence, advice) = (cause.to_string(), cause.advice());
        assert!(sentence.len() > 20 && !sentence.ends_with('.') && advice.ends_with('.'), "{cause:?}");
    }
    assert_eq!(
        Cause::RandomNats { relay: false }.to_string(),
        "both NATs allocate random ports per destination: no direct path exists; no relay is configured"
    );
    assert_eq!(Cause::RandomNats { relay: false }.side(), Side::Between);
    assert_eq!(Cause::RelayFull { relay: relay() }.side(), Side::Server);
}
