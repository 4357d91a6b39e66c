//! The text blob, against what unmodified peers wrote (spec 4.1, 4.2).
#![allow(clippy::unwrap_used, reason = "only tests are here")]

use std::fmt::Write as _;

use towline_ice::{
    BlobError, CandidateKind, CredentialsError, Description, SkipReason, TcpType, Transport, blob,
};

/// Logged by a 20230206 daemon.
const OLD: &str = "13e86381\n1a2b3c4d5e6f708192a3b4c5\n\
Ha4d0003 1 TCP 2130706431 10.77.0.3 55707 typ host tcptype passive\n\
Ha4d0003 1 TCP 2130706175 10.77.0.3 9 typ host tcptype active\n\
Sa4d0003 1 TCP 1694498303 10.77.0.3 9 typ srflx tcptype active\n";

/// Of a current one, with link-local IPv6 and a relay.
const NEW: &str = "5a887299\n0a2b3c4d5e6f708192a3b4c5\n\
Ha580101 1 TCP 2130706431 10.88.1.1 56867 typ host tcptype passive\n\
Ha580101 1 TCP 2130706175 10.88.1.1 9 typ host tcptype active\n\
H58af7b18 1 TCP 2130706431 fe80::1c23:7fff:fe9b:1133 39437 typ host tcptype passive\n\
H58af7b18 1 TCP 2130706175 fe80::1c23:7fff:fe9b:1133 9 typ host tcptype active\n\
Ra580901 1 TCP 16777215 10.88.9.1 51923 typ relay tcptype passive\n";

#[test]
fn blobs_of_peers_survive_a_round_trip_byte_for_byte() {
    for text in [OLD, NEW] {
        let parsed = Description::from_blob(text.as_bytes()).unwrap();
        assert!(parsed.skipped.is_empty());
        assert_eq!(parsed.description.to_blob(), text);
    }
}

#[test]
fn fields_are_what_they_say() {
    let parsed = Description::from_blob(NEW.as_bytes()).unwrap().description;
    assert_eq!(
        (parsed.credentials.ufrag(), parsed.credentials.password()),
        ("5a887299", "0a2b3c4d5e6f708192a3b4c5")
    );
    let relay = &parsed.candidates[4];
    assert_eq!(relay.kind, CandidateKind::Relayed);
    assert_eq!(relay.transport, Transport::Tcp(TcpType::Passive));
    assert_eq!((relay.priority, relay.address), (16_777_215, "10.88.9.1:51923".parse().unwrap()));
}

fn line(text: &str) -> Result<towline_ice::Candidate, SkipReason> {
    blob::from_line(text)
}

#[test]
fn a_bad_line_is_skipped_and_named() {
    let long = "x".repeat(32);
    let cases = [
        ("H1 1 TCP 1 10.0.0.1 5000 typ host tcptype passive".to_owned(), None),
        ("H1 1 UDP 1 10.0.0.1 5000 typ host".to_owned(), None),
        ("H1 1 tcp 1 10.0.0.1 5000 typ host".to_owned(), None), // not "TCP": UDP
        ("H1 257 UDP 1 10.0.0.1 5000 typ host".to_owned(), None), // cut to eight bits: 1
        ("H1 1 TCP 1 10.0.0.1 5000 typ srflx raddr 10.0.0.2 rport 9 tcptype so".to_owned(), None),
        ("H1 1 TCP 1 10.0.0.1 5000 typ host".to_owned(), Some(SkipReason::MissingTcpType)),
        ("H1 1 TCP 1 10.0.0.1 5000 typ host tcptype".to_owned(), Some(SkipReason::MissingTcpType)),
        ("H1 1 TCP 1 10.0.0.1 5000 typ host tcptype idle".to_owned(), Some(SkipReason::UnknownTcpType)),
        ("H1 1 UDP 1 10.0.0.1 5000 typ".to_owned(), Some(SkipReason::MissingFields)),
        ("H1 1 UDP 1 10.0.0.1 5000 type host".to_owned(), Some(SkipReason::UnknownType)),
        ("H1 1 UDP 1 10.0.0.1 5000 typ moon".to_owned(), Some(SkipReason::UnknownType)),
        ("H1 1 UDP 1 example.org 5000 typ host".to_owned(), Some(SkipReason::BadAddress)),
        ("H1 1 UDP 1 10.0.0.1 65536 typ host".to_owned(), Some(SkipReason::BadNumber)),
        ("H1 1 UDP 4294967296 10.0.0.1 1 typ host".to_owned(), Some(SkipReason::BadNumber)),
        ("H1 1 UDP -1 10.0.0.1 1 typ host".to_owned(), Some(SkipReason::BadNumber)),
        (format!("{long} 1 UDP 1 10.0.0.1 1 typ host"), Some(SkipReason::FieldTooLong)),
        ("H1 1 ABCDEFGHIJKL 1 10.0.0.1 1 typ host".to_string(), Some(SkipReason::FieldTooLong)),
        (format!("H1 1 UDP 1 10.0.0.1 1 typ host {}", "y".repeat(300)), Some(SkipReason::LineTooLong)),
    ];
    let mut text = "u\np\n".to_owned();
    let mut expected = Vec::new();
    for (n, (case, reason)) in cases.iter().enumerate() {
        assert_eq!(line(case).err(), *reason, "{case}");
        writeln!(text, "{case}").unwrap();
        expected.extend(reason.map(|reason| (n + 3, reason)));
    }
    let parsed = Description::from_blob(text.as_bytes()).unwrap();
    assert_eq!(parsed.skipped.iter().map(|s| (s.line, s.reason)).collect::<Vec<_>>(), expected);
    assert_eq!(parsed.description.candidates.len(), cases.len() - expected.len());
    assert!(parsed.description.candidates.iter().all(|c| c.component == 1));
}

#[test]
fn a_long_list_is_cut_to_8_host_4_relayed_31_in_all() {
    let mut text = "u\np\n".to_owned();
    for kind in ["host", "relay", "srflx"] {
        for port in 5000..5040 {
            writeln!(text, "F 1 TCP 1 10.0.0.1 {port} typ {kind} tcptype passive").unwrap();
        }
    }
    let parsed = Description::from_blob(text.as_bytes()).unwrap();
    let kept = parsed.description.candidates;
    let count = |kind| kept.iter().filter(|c| c.kind == kind).count();
    assert_eq!(kept.len(), 31);
    assert_eq!(
        (count(CandidateKind::Host), count(CandidateKind::Relayed), count(CandidateKind::ServerReflexive)),
        (8, 4, 19)
    );
    assert_eq!(parsed.skipped[0].line, 11);
    assert_eq!(parsed.skipped[0].reason, SkipReason::TooMany);
    assert!(parsed.skipped.len() <= 31, "the list of faults is bounded too");
}

#[test]
fn up_to_31_candidates_nothing_is_cut() {
    let mut text = "u\np\n".to_owned();
    for port in 5000..5031 {
        writeln!(text, "F 1 TCP 1 10.0.0.1 {port} typ host tcptype passive").unwrap();
    }
    assert_eq!(Description::from_blob(text.as_bytes()).unwrap().description.candidates.len(), 31);
}

#[test]
fn what_is_no_blob_is_refused() {
    let error = |bytes: &[u8]| Description::from_blob(bytes).unwrap_err();
    assert_eq!(error(b""), BlobError::MissingCredentials);
    assert_eq!(error(b"user\n"), BlobError::MissingCredentials);
    assert_eq!(error(b"\xff\n\xfe\n"), BlobError::NotText);
    assert_eq!(error(b"a b\npassword\n"), BlobError::Credentials(CredentialsError::BadCharacter));
    assert_eq!(error(&vec![b'x'; blob::MAX_BLOB_LEN + 1]), BlobError::TooLong);
    assert!(Description::from_blob(b"\r\nuser\r\n\r\npassword\r\n").is_ok(), "line ends are read liberally");
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "(\\PC|\n| |TCP|UDP|typ|host|relay|tcptype|passive|[0-9]{1,6}|10\\.0\\.0\\.1){0,80}") {
        if let Ok(parsed) = Description::from_blob(text.as_bytes()) {
            let again = Description::from_blob(parsed.description.to_blob().as_bytes()).unwrap();
            proptest::prop_assert!(again.skipped.is_empty());
            proptest::prop_assert_eq!(again.description, parsed.description);
        }
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..500)) {
        drop(Description::from_blob(&bytes));
    }
}
