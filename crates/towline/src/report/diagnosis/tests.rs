//! Each cause from the evidence that shows it.

use towline_ice::nat::{Allocation, Dependence};
use towline_ice::punch::{Party, Plan};

use super::*;
use crate::dht::CertificateEvidence;
use crate::dht::Vitals;
use crate::eras::Eras;
use crate::report::Surroundings;
use crate::report::dates::{Dates, Span};
use crate::report::evidence::{Families, Stun};
use crate::report::servers::Asked;

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
    let heard = |mut evidence: Evidence| {
        evidence.around.dht.heard = true;
        evidence
    };
    for (step, theirs) in [(Step::Certificate, Cause::NotFoundThere), (Step::Signalling, Cause::OfflineThere)]
    {
        is(&heard(stuck(step)), &theirs);
        assert_eq!(diagnose(&stuck(step)), [], "from a network that never said anything nothing follows");
    }
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
        (ConnectError::Refused(RefusalReason::Revoked), Cause::RevokedHere),
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
    is(&Evidence { tcp, ..pathless() }, &Cause::Rejected);
    let tcp = Pairs { received: 3, ..tcp };
    is(&Evidence { tcp, ..pathless() }, &Cause::Rejected);
    let tcp = Pairs { all: 2, unreachable: 2, ..Pairs::default() };
    is(&Evidence { tcp, ..pathless() }, &Cause::Rejected);
    let udp = Pairs { all: 2, silent: 2, sent: 12, received: 5, ..Pairs::default() };
    is(&Evidence { udp, ..pathless() }, &Cause::LostOutward);
    let udp = Pairs { received: 0, ..udp };
    is(&Evidence { udp, told: Some(Plight::Unheard), ..pathless() }, &Cause::LostInward);
    is(&Evidence { udp, told: Some(Plight::NoDatagrams), ..pathless() }, &Cause::UdpBlockedThere);
    is(&Evidence { udp, told: Some(Plight::OnlyWeb), ..pathless() }, &Cause::OnlyWebThere);
    let there = Families { v4: 1, relayed: 1, public: 1, ..Families::default() };
    is(&Evidence { there, udp, ..pathless() }, &Cause::RelayThere);
    is(&Evidence { udp, one_outside: true, ..pathless() }, &Cause::Isolated);
    let there = Families { v4: 1, public: 1, open: 1, ..Families::default() };
    is(&Evidence { there, udp, ..pathless() }, &Cause::NothingPasses);
    let silent = Evidence { there, udp, looked: PATIENCE + WORD, ..pathless() };
    is(&silent, &Cause::SilentThere);
    is(&Evidence { told: Some(Plight::Deaf), ..silent }, &Cause::NothingPasses);
}

#[test]
fn what_servers_say_of_us() {
    let homes = Evidence { here: Families { v4: 2, ..Families::default() }, ..pathless() };
    is(&homes, &Cause::NoStunHere);
    let stun = Stun { silent: 2, configured: true, ..Stun::default() };
    is(&Evidence { stun, ..homes.clone() }, &Cause::StunDown);
    let on = Dependence::AddressAndPort;
    let mapping = Mapping::Dependent { on, ports: Allocation::Random };
    let stun = Stun { answered: 2, mapping, ..Stun::default() };
    is(&Evidence { stun, ..homes.clone() }, &Cause::HardNats { random: Some(Side::Here), relay: false });
    let stun = Stun { answered: 1, lies: 1, ..Stun::default() };
    assert_eq!(diagnose(&Evidence { stun, ..pathless() }), [Cause::NothingPasses, Cause::StunLies]);
    assert_eq!(diagnose(&Evidence { stun, stands: true, ..homes }), [Cause::StunLies]);
}

fn server(name: &str, tcp: bool, said: Said) -> Asked {
    Asked { name: name.into(), relay: name.starts_with("turn"), tcp, said, relayed: Vec::new() }
}

const STUN: &str = "stun.example:3478";
const RELAY: &str = "turn:ann@relay.example:3478?transport=tcp";
const WEB: &str = "turn:ann@web.example:443?transport=tcp";

#[test]
fn a_network_that_lets_no_udp_out() {
    for step in [Step::Certificate, Step::Signalling] {
        let mut evidence = silent_dht(step);
        evidence.around.asked = vec![server(STUN, false, Said::Silent), server(RELAY, true, Said::Answer)];
        assert_eq!(diagnose(&evidence), [Cause::UdpBlockedHere]);
        assert_eq!(shut_in(evidence.around.clone()), Some(Plight::NoDatagrams));
        evidence.around.asked.push(server(WEB, true, Said::Answer));
        is(&evidence, &Cause::UdpBlockedHere);
        evidence.around.asked[1].said = Said::Silent;
        assert_eq!(diagnose(&evidence), [Cause::OnlyWebHere]);
        assert_eq!(shut_in(evidence.around.clone()), Some(Plight::OnlyWeb));
        evidence.around.asked[2].said = Said::Garbage;
        assert_eq!(diagnose(&evidence), [Cause::PortalHere]);
        assert_eq!(shut_in(evidence.around.clone()), None);
        evidence.around.asked[2].said = Said::Silent;
        is(&evidence, &Cause::OfflineHere);
    }
}

/// The DHT answers, and so would a peer.
fn behind_nat(asked: Vec<Asked>) -> Evidence {
    let dht = Vitals { heard: true, ..Vitals::default() };
    let around = Surroundings { addresses: Some(1), dht, asked, ..Surroundings::default() };
    let stun = Stun { configured: true, asks: true, ..Stun::default() };
    Evidence { around, stun, elapsed: LONG, here: Families { v4: 2, ..Families::default() }, ..pathless() }
}

#[test]
fn servers_that_are_of_no_use() {
    let mut evidence = behind_nat(vec![server(STUN, false, Said::Silent), server(STUN, true, Said::Silent)]);
    is(&evidence, &Cause::StunDown);
    evidence.around.asked.push(server("stun.other:3478", false, Said::Silent));
    assert_eq!(diagnose(&evidence), [Cause::MappingsExhaustedHere], "who else would keep both away?");
    evidence.around.asked[2] = server(STUN, true, Said::Answer);
    assert_eq!(diagnose(&evidence), [Cause::MappingsExhaustedHere], "it lives");
    evidence.around.asked.truncate(1);
    evidence.around.asked.push(server(RELAY, false, Said::Credentials));
    let relay = || "relay.example:3478".to_owned();
    is(&evidence, &Cause::RelayCredentials { relay: relay() });
    // A connection that stands without them has the same to tell.
    evidence.stun.silent = 1;
    let stands = Evidence { stands: true, ..evidence.clone() };
    assert_eq!(diagnose(&stands), [Cause::RelayCredentials { relay: relay() }, Cause::StunDown]);
    evidence.stun.silent = 0;
    evidence.around.asked[0].said = Said::Unknown;
    is(&evidence, &Cause::NameUnknown { name: STUN.into() });
    evidence.around.asked = vec![server(STUN, false, Said::Answer)];
    is(&evidence, &Cause::StunDown);
    evidence.around.asked.push(server("stun.other:3478", false, Said::Answer));
    is(&evidence, &Cause::MappingsExhaustedHere);
    assert_eq!(diagnose(&Evidence { stands: true, ..evidence.clone() }), [], "it was asked anew just now");
    // With nothing but NATs in the way, a relay would have helped.
    evidence.around.asked = vec![server(RELAY, true, Said::Full)];
    let mapping =
        Mapping::Dependent { on: Dependence::AddressAndPort, ports: Allocation::Sequential { step: 1 } };
    evidence.stun = Stun { answered: 2, configured: true, mapping, ..Stun::default() };
    let told = [Cause::RelayFull { relay: relay() }, Cause::HardNats { random: None, relay: true }];
    assert_eq!(diagnose(&evidence), told);
    evidence.around.asked.clear();
    let [random, moving] = ["by-port-random 198.51.100.1:7", "by-port-sequential:1 198.51.100.2:7"];
    let known = "independent 198.51.100.3:7";
    let punched = |ours: &str, theirs: &str, result| {
        let (ours, theirs): (Party, Party) = (ours.parse().unwrap(), theirs.parse().unwrap());
        let plan = Some(Plan::choose(ours.mapping, theirs.mapping));
        let punch = PunchReport {
            ours: Some(ours),
            theirs: Some(theirs),
            plan,
            probes: 0,
            sockets: 0,
            shortage: None,
            result,
        };
        let stun = Stun { mapping: ours.mapping, ..evidence.stun };
        diagnose(&Evidence { punch: Some(punch), stun, ..evidence.clone() })
    };
    let hard = |random| [Cause::HardNats { random, relay: false }];
    let (here, there) = (hard(Some(Side::Here)), hard(Some(Side::There)));
    let both = [Cause::RandomNats { relay: false }];
    assert_eq!(punched(moving, random, PunchResult::Hopeless), there);
    assert_eq!(punched(random, moving, PunchResult::Hopeless), here);
    assert_eq!(punched(known, moving, PunchResult::InVain), hard(None));
    assert_eq!(punched(random, random, PunchResult::Hopeless), both);
    assert_eq!(punched(known, random, PunchResult::UnderWay), [Cause::NothingPasses]);
    assert_eq!(punched(known, random, PunchResult::InVain), there);
}

#[test]
fn a_relay_of_a_family_that_is_missing_here_is_not_blamed() {
    let [four, six] = ["turn:ann@192.0.2.9:443?transport=tcp", "turn:ann@[2001:db8::9]:443?transport=tcp"];
    for (v4, v6, own, other) in [(2, 0, four, six), (0, 2, six, four)] {
        let here = Families { v4, v6, public: 1, ..Families::default() };
        let silent = server(other, true, Said::Silent);
        let mut evidence = Evidence { stands: true, links: (1, 1), ..behind_nat(vec![silent.clone()]) };
        evidence.here = here;
        assert_eq!(diagnose(&evidence), []);
        evidence.around.asked.push(server(own, true, Said::Silent));
        let relay = evidence.around.asked[1].host().to_owned();
        assert_eq!(diagnose(&evidence), [Cause::RelayDown { relay }]);
        // Nor where there is no path: it would not have been one.
        let there = Families { v4: v6, v6: v4, public: 1, ..Families::default() };
        let apart = Evidence { here, there, ..behind_nat(vec![silent]) };
        assert_eq!(diagnose(&apart), [Cause::NoCommonFamily]);
    }
}

/// Both sides said what NAT they are behind.
fn punch(result: PunchResult) -> PunchReport {
    let party = |host: u8| Some(format!("by-port-random 198.51.100.{host}:7").parse().unwrap());
    let plan = Some(Plan::Hopeless);
    PunchReport { ours: party(1), theirs: party(2), plan, probes: 0, sockets: 0, shortage: None, result }
}

#[test]
fn what_is_hopeless_is_said_before_anything_has_failed() {
    let at_once = Evidence { step: Some((Step::Path, Duration::ZERO)), ..pathless() };
    let hopeless = Evidence { punch: Some(punch(PunchResult::Hopeless)), ..at_once };
    assert_eq!(diagnose(&hopeless), [Cause::RandomNats { relay: false }]);
    let refused = Pairs { all: 1, refused: 1, ..Pairs::default() };
    let late = Evidence { tcp: refused, ..pathless() };
    is(&Evidence { punch: Some(punch(PunchResult::Hopeless)), ..late }, &Cause::RandomNats { relay: false });
    // In one network they may meet, and if not, that is why.
    assert_eq!(diagnose(&Evidence { one_outside: true, ..hopeless.clone() }), []);
    let late = Evidence { step: Some((Step::Path, LONG)), one_outside: true, ..hopeless.clone() };
    assert_eq!(diagnose(&late), [Cause::Isolated]);
    assert_eq!(diagnose(&Evidence { punch: Some(punch(PunchResult::UnderWay)), ..hopeless }), []);
}

#[test]
fn a_connection_by_relays_says_what_keeps_it_from_a_direct_path() {
    let relayed = || Evidence { stands: true, relayed: true, links: (1, 1), looked: LONG, ..pathless() };
    let hopeless = || Evidence { punch: Some(punch(PunchResult::Hopeless)), ..relayed() };
    let random = || Cause::RandomNats { relay: true };
    assert_eq!(diagnose(&Evidence { looked: Duration::ZERO, ..hopeless() }), [random()]);
    assert_eq!(diagnose(&Evidence { punch: Some(punch(PunchResult::UnderWay)), ..relayed() }), []);
    assert_eq!(diagnose(&Evidence { looked: PATIENCE / 2, ..relayed() }), []);
    for (told, cause) in
        [(Plight::NoDatagrams, Cause::UdpBlockedThere), (Plight::OnlyWeb, Cause::OnlyWebThere)]
    {
        assert_eq!(diagnose(&Evidence { told: Some(told), ..relayed() }), [cause]);
    }
    let families = |v4, v6| Families { v4, v6, public: 1, ..Families::default() };
    for (here, there) in [(families(0, 1), families(2, 0)), (families(2, 0), families(0, 1))] {
        for result in [PunchResult::UnderWay, PunchResult::InVain, PunchResult::NotNeeded] {
            let apart = Evidence { here, there, punch: Some(punch(result)), ..relayed() };
            assert_eq!(diagnose(&apart), [Cause::NoCommonFamily]);
            assert_eq!(diagnose(&Evidence { looked: Duration::ZERO, ..apart }), []);
        }
    }
    // Another relay that is down matters less: one works.
    let mut beside = hopeless();
    beside.around.asked = vec![server(RELAY, false, Said::Silent)];
    let down = || Cause::RelayDown { relay: "relay.example:3478".into() };
    assert_eq!(diagnose(&beside), [random(), down()]);
    assert_eq!(diagnose(&Evidence { relayed: false, ..beside.clone() }), [down()]);
    beside.around.asked.push(server(WEB, true, Said::Answer));
    assert_eq!(diagnose(&Evidence { punch: None, ..beside })[0], Cause::UdpBlockedHere);
    // It is heard by the relay, so it is not taken for silent.
    let there = Families { v4: 1, public: 1, open: 1, ..Families::default() };
    for there in [there, Families::default()] {
        assert_eq!(diagnose(&Evidence { there, ..relayed() }), [Cause::NothingPasses]);
    }
}

#[test]
fn a_connection_that_stands_and_hears_nothing() {
    let mut evidence = Evidence { stands: true, links: (2, 1), ..behind_nat(Vec::new()) };
    assert_eq!(diagnose(&evidence), []);
    evidence.links = (2, 0);
    assert_eq!(diagnose(&evidence), [Cause::SilentThere]);
    evidence.relay = Some("relay.example:3478".into());
    assert_eq!(diagnose(&evidence), [Cause::RelayLost { relay: "relay.example:3478".into() }]);
    (evidence.relay, evidence.relay_there) = (None, true);
    assert_eq!(diagnose(&evidence), [Cause::RelayThere], "its relay is no fault of the device");
    evidence.around.addresses = Some(0);
    assert_eq!(diagnose(&evidence), [Cause::NoNetworkHere]);
}

#[test]
fn a_wrong_clock_breaks_handshakes() {
    let dates = Dates { now: 5, ahead: None, ours: Some(Span::new(10, 20)), theirs: None };
    let mut evidence = Evidence {
        error: Some(ConnectError::TlsTransport(ErrorKind::ConnectionReset)),
        dates,
        ..Evidence::default()
    };
    assert_eq!(diagnose(&evidence), [Cause::ClockHere]);
    evidence.error = Some(ConnectError::Refused(RefusalReason::Busy));
    assert_eq!(diagnose(&evidence), [Cause::BusyThere, Cause::ClockHere]);
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
    evidence.around.dht.silence = 2 * crate::dht::SILENCE;
    is(&evidence, &Cause::OfflineHere);
    let mut evidence = silent_dht(Step::Certificate);
    evidence.around.asked = vec![server("stun.example:3478", false, Said::Silent)];
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
        around,
        ..Evidence::default()
    };
    assert_eq!(diagnose(&failed), [Cause::RefusedThere, Cause::RevokedHere]);
    let error = Some(ConnectError::Refused(RefusalReason::Revoked));
    assert_eq!(diagnose(&Evidence { error, ..failed }), [Cause::RevokedHere]);
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
        Cause::OnlyWebThere,
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
