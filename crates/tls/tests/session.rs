//! Pairs of sessions in memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion,
};
use towline_identity::{Chain, ChainError, DeviceId, GenerateOptions, Hierarchy, Identity, KeySize};
use towline_tls::{
    Clock, Config, Dialect, Expiry, Group, Incompatibility, Options, Session, Suite, TlsError, Version,
};

const BORN: i64 = 1_800_000_000;

fn generate(key_size: KeySize) -> Hierarchy {
    Hierarchy::generate(&GenerateOptions { key_size, ..GenerateOptions::new(BORN) }).unwrap()
}

type Versions = &'static [&'static SupportedProtocolVersion];

static ONLY_TLS12: Versions = &[&rustls::version::TLS12];
static ONLY_TLS13: Versions = &[&rustls::version::TLS13];

static ALICE: LazyLock<Hierarchy> = LazyLock::new(|| generate(KeySize::Rsa2048));
static BOB: LazyLock<Hierarchy> = LazyLock::new(|| generate(KeySize::Rsa2048));

fn alice() -> &'static Identity {
    &ALICE.device
}

fn bob() -> &'static Identity {
    &BOB.device
}

fn config(identity: &Identity) -> Config {
    Config::new(identity, Options::default()).unwrap()
}

fn client() -> Session {
    Session::client(&config(alice()), bob().device_id()).unwrap()
}

fn server() -> Session {
    Session::server(&config(bob()), alice().device_id()).unwrap()
}

fn no_data(_: &[u8]) {
    panic!("there is no data yet");
}

/// Feeds all of `wire`, in pieces of `step` bytes, as a driver would: what is left over comes again.
fn feed(to: &mut Session, wire: &[u8], step: usize, got: &mut Vec<u8>) -> Result<(), TlsError> {
    let mut buffer = Vec::new();
    for piece in wire.chunks(step) {
        buffer.extend_from_slice(piece);
        let used = to.receive(&mut buffer, &mut |plaintext| got.extend_from_slice(plaintext))?;
        buffer.drain(..used);
    }
    assert!(buffer.len() <= 5 + 16_384 + 256, "less than a record is left over");
    Ok(())
}

/// Exchanges handshake bytes until nobody has any; the first error of either side.
fn shake_in_steps(
    client: &mut Session,
    server: &mut Session,
    step: usize,
) -> Result<(), (&'static str, TlsError)> {
    let (mut wire, mut got) = (Vec::new(), Vec::new());
    loop {
        let mut quiet = true;
        for to_server in [true, false] {
            let (from, to, name) = if to_server {
                (&mut *client, &mut *server, "server")
            } else {
                (&mut *server, &mut *client, "client")
            };
            wire.clear();
            if from.poll_transmit(&mut wire) {
                quiet = false;
                feed(to, &wire, step, &mut got).map_err(|error| (name, error))?;
            }
        }
        if quiet {
            assert!(got.is_empty());
            return Ok(());
        }
    }
}

fn shake(client: &mut Session, server: &mut Session) -> Result<(), (&'static str, TlsError)> {
    shake_in_steps(client, server, usize::MAX)
}

fn pair() -> (Session, Session) {
    let (mut client, mut server) = (client(), server());
    shake(&mut client, &mut server).unwrap();
    (client, server)
}

fn carry(from: &mut Session, to: &mut Session, data: &[u8], step: usize) {
    let (mut wire, mut got) = (Vec::new(), Vec::new());
    from.send(data, &mut wire).unwrap();
    assert!(wire.len() <= data.len() + from.sealed_len(0) + 29 * (data.len() / 16_384 + 1));
    feed(to, &wire, step, &mut got).unwrap();
    assert_eq!(got, data);
}

#[test]
fn all_key_sizes() {
    for size in [KeySize::Rsa2048, KeySize::Rsa3072, KeySize::Rsa4096] {
        let (one, two) = (generate(size).device, generate(size).device);
        let mut client = Session::client(&config(&one), two.device_id()).unwrap();
        let mut server = Session::server(&config(&two), one.device_id()).unwrap();
        assert!(!client.is_established() && client.summary().is_none() && client.peer_chain().is_none());
        shake(&mut client, &mut server).unwrap();
        for (session, other) in [(&client, &two), (&server, &one)] {
            assert!(session.is_established());
            assert_eq!(session.peer_chain(), Some(other.chain()), "the full chain is presented");
            let summary = session.summary().unwrap();
            assert_eq!(summary.version, Version::Tls13);
            assert_eq!(summary.suite, Suite::Aes256Gcm);
            assert_eq!(summary.group, Group::Secp384r1);
            assert!(!summary.retried, "the key share fits at once");
            assert_eq!(summary.to_string(), "TLS 1.3, AES-256-GCM, P-384");
        }
        carry(&mut client, &mut server, b"there", usize::MAX);
        carry(&mut server, &mut client, b"and back", usize::MAX);
    }
}

#[test]
fn input_in_pieces_of_any_size() {
    for step in [1, 2, 3, 4, 5, 6, 7, 100, 1000, 5000] {
        let (mut client, mut server) = (client(), server());
        shake_in_steps(&mut client, &mut server, step).unwrap();
        let data: Vec<u8> = (0..40_000_u32).map(|n| n as u8).collect();
        let step = if step < 5 { step * 1000 + 1 } else { step };
        carry(&mut client, &mut server, &data, step);
        carry(&mut server, &mut client, &data, step);
        carry(&mut client, &mut server, b"short", 1);
    }
}

/// The end of the handshake, and data right behind it, in one piece.
#[test]
fn data_behind_the_handshake() {
    let (mut client, mut server) = (client(), server());
    let mut wire = Vec::new();
    client.poll_transmit(&mut wire);
    feed(&mut server, &wire, usize::MAX, &mut Vec::new()).unwrap();
    wire.clear();
    server.poll_transmit(&mut wire);
    feed(&mut client, &wire, usize::MAX, &mut Vec::new()).unwrap();
    wire.clear();
    client.send(b"early bird", &mut wire).unwrap();
    for cut in 0..wire.len() {
        let mut got = Vec::new();
        if cut == wire.len() - 1 {
            feed(&mut server, &wire, cut, &mut got).unwrap();
            assert_eq!(got, b"early bird");
        }
    }
}

#[test]
fn the_wrong_key_is_refused_by_name() {
    let stranger = BOB.account.device_id();
    let mut client = Session::client(&config(alice()), stranger).unwrap();
    let mut server = server();
    let wrong = TlsError::WrongKey { expected: stranger, found: bob().device_id() };
    assert_eq!(shake(&mut client, &mut server), Err(("client", wrong.clone())));
    assert_eq!(client.error(), Some(&wrong));
    assert_eq!(client.receive(&mut [], &mut no_data), Err(wrong.clone()));
    assert_eq!(client.send(b"x", &mut Vec::new()), Err(wrong), "a failed session sends nothing");
    let refused = shake(&mut client, &mut server).unwrap_err();
    assert!(matches!(refused, ("server", TlsError::PeerAlert(_))), "{refused:?}");

    let mut client = self::client();
    let mut server = Session::server(&config(bob()), stranger).unwrap();
    let wrong = TlsError::WrongKey { expected: stranger, found: alice().device_id() };
    assert_eq!(shake(&mut client, &mut server), Err(("server", wrong)));
    assert!(client.is_established(), "TLS 1.3: the client is done before the server judges");
    let refused = shake(&mut client, &mut server).unwrap_err();
    assert!(matches!(refused, ("client", TlsError::PeerAlert(_))), "{refused:?}");
}

#[test]
fn a_broken_chain_is_refused() {
    let mixed = Chain::new([
        alice().chain().leaf().clone(),
        BOB.account.chain().leaf().clone(),
        BOB.authority.chain().leaf().clone(),
    ])
    .unwrap();
    let forger = Identity::new(alice().key().clone(), mixed).unwrap();
    let mut client = Session::client(&config(&forger), bob().device_id()).unwrap();
    let error = shake(&mut client, &mut server()).unwrap_err();
    assert!(matches!(error, ("server", TlsError::Chain(ChainError::Link { index: 0, .. }))), "{error:?}");
}

#[test]
fn dates_count_only_when_asked_for() {
    let far = BORN + 20 * 365 * 86_400;
    let expiry = Expiry::Enforced(Clock::new(move || far));
    let strict = Config::new(bob(), Options { expiry, ..Options::default() }).unwrap();
    let mut server = Session::server(&strict, alice().device_id()).unwrap();
    let expired = TlsError::Chain(ChainError::Expired { index: 0 });
    assert_eq!(shake(&mut client(), &mut server), Err(("server", expired)));
    let expiry = Expiry::Enforced(Clock::new(|| BORN));
    let strict = Config::new(bob(), Options { expiry, ..Options::default() }).unwrap();
    let mut server = Session::server(&strict, alice().device_id()).unwrap();
    assert_eq!(shake(&mut client(), &mut server), Ok(()));
}

#[test]
fn dialects() {
    let jami =
        |identity| Config::new(identity, Options { native_dialect: false, ..Options::default() }).unwrap();
    for (ours, theirs, dialect) in [
        (config(alice()), config(bob()), Dialect::Native),
        (config(alice()), jami(bob()), Dialect::Jami),
        (jami(alice()), config(bob()), Dialect::Jami),
        (jami(alice()), jami(bob()), Dialect::Jami),
    ] {
        let mut client = Session::client(&ours, bob().device_id()).unwrap();
        let mut server = Session::server(&theirs, alice().device_id()).unwrap();
        shake(&mut client, &mut server).unwrap();
        assert_eq!((client.dialect(), server.dialect()), (Some(dialect), Some(dialect)));
    }
}

#[test]
fn the_client_hello_satisfies_gnutls() {
    let mut hello = Vec::new();
    client().poll_transmit(&mut hello);
    // Record header 5, handshake header 4, version 2, random 32, session id, suites.
    assert_eq!(hello[0], 22);
    let session_id = usize::from(hello[43]);
    let suites = &hello[44 + session_id..];
    let len = usize::from(u16::from_be_bytes([suites[0], suites[1]]));
    let suites: Vec<_> = suites[2..2 + len].chunks(2).map(|s| u16::from_be_bytes([s[0], s[1]])).collect();
    assert_eq!(suites, [0x1302, 0x1303, 0xc030, 0xcca8, 0x00ff]);
    let name = b"device.invalid";
    assert!(!hello.windows(name.len()).any(|window| window == name), "no name is sent");
}

#[test]
fn closing() {
    let (mut client, mut server) = pair();
    let mut wire = Vec::new();
    client.send(b"last words", &mut wire).unwrap();
    client.close(&mut wire);
    assert_eq!(client.send(b"x", &mut Vec::new()), Err(TlsError::Closed));
    wire.extend_from_slice(b"noise behind the farewell");
    let mut got = Vec::new();
    feed(&mut server, &wire, usize::MAX, &mut got).unwrap();
    assert_eq!(got, b"last words");
    assert!(server.peer_closed() && !client.peer_closed());
    assert_eq!(server.receive_eof(), Ok(()));
    carry(&mut server, &mut client, b"one side still talks", usize::MAX);
    wire.clear();
    server.close(&mut wire);
    feed(&mut client, &wire, usize::MAX, &mut got).unwrap();
    assert_eq!((client.peer_closed(), client.receive_eof()), (true, Ok(())));
    wire.clear();
    client.close(&mut wire);
    assert!(wire.is_empty(), "the farewell is said once");
}

#[test]
fn an_end_without_farewell_is_no_end() {
    let (mut client, mut server) = pair();
    assert_eq!(client.receive_eof(), Err(TlsError::Truncated));
    assert_eq!(server.receive_eof(), Err(TlsError::Truncated));
    assert_eq!(self::client().receive_eof(), Err(TlsError::Truncated));
    assert_eq!(server.receive(&mut [], &mut no_data), Err(TlsError::Truncated));
}

#[test]
fn no_sending_before_the_handshake_is_done() {
    assert_eq!(client().send(b"x", &mut Vec::new()), Err(TlsError::NotEstablished));
    let mut out = Vec::new();
    server().close(&mut out);
    assert!(out.is_empty());
}

#[test]
fn tampering_is_noticed() {
    let (mut client, mut server) = pair();
    let mut wire = Vec::new();
    client.send(b"transfer 1", &mut wire).unwrap();
    *wire.last_mut().unwrap() ^= 1;
    assert_eq!(server.receive(&mut wire, &mut no_data), Err(TlsError::Tampered));
    let mut alert = Vec::new();
    assert!(server.poll_transmit(&mut alert));
    assert_eq!(feed(&mut client, &alert, usize::MAX, &mut Vec::new()), Err(TlsError::PeerAlert(20)));
}

#[test]
fn garbage_is_refused_at_its_first_byte() {
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x05\x01", b"\x16\x03\x01\xff\xff", b"\x80"] {
        assert_eq!(server().receive(&mut garbage.to_vec(), &mut no_data), Err(TlsError::Garbage));
        assert_eq!(client().receive(&mut garbage.to_vec(), &mut no_data), Err(TlsError::Garbage));
        let (mut client, _) = pair();
        assert_eq!(client.receive(&mut garbage.to_vec(), &mut no_data), Err(TlsError::Garbage));
    }
}

#[test]
fn a_handshake_is_bounded() {
    let options = Options { max_handshake_len: 1000, ..Options::default() };
    let mut server = Session::server(&Config::new(bob(), options).unwrap(), alice().device_id()).unwrap();
    let too_long = TlsError::HandshakeTooLong { limit: 1000 };
    assert_eq!(shake(&mut client(), &mut server), Err(("server", too_long)));
    // A ClientHello that announces 60,000 bytes, in small records.
    let mut server = self::server();
    let mut record = [&[22, 3, 1, 0, 104, 1, 0, 0xea, 0x60][..], &[0; 100]].concat();
    let error = (0..1000).find_map(|_| {
        let mut copy = record.clone();
        record[5..].fill(0);
        server.receive(&mut copy, &mut no_data).err()
    });
    assert!(error.is_some());
    assert!(matches!(
        error,
        Some(TlsError::HandshakeTooLong { .. } | TlsError::Garbage | TlsError::Misbehaved)
    ));
}

/// A peer that is not us: the TLS library with other settings.
#[derive(Debug)]
struct Careless;

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

/// What such a client offers, and whether it has a certificate.
struct Stranger {
    versions: Versions,
    provider: CryptoProvider,
    /// The key to sign with, and the chain to show.
    identity: Option<(&'static Identity, &'static Identity)>,
    alpn: &'static [&'static [u8]],
}

impl Default for Stranger {
    fn default() -> Self {
        Self {
            versions: rustls::ALL_VERSIONS,
            provider: default_provider(),
            identity: Some((alice(), alice())),
            alpn: &[],
        }
    }
}

impl Stranger {
    fn meets(self, server: &mut Session) -> Result<ClientConnection, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider))
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Careless));
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((signer, shown)) => {
                let key = signer.key().to_pkcs8_der();
                let key = sign::any_supported_type(&PrivatePkcs8KeyDer::from(&key[..]).into()).unwrap();
                let certified = CertifiedKey::new(shown.chain().ders(), key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("x.invalid").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut wire = Vec::new();
        for _ in 0..10 {
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            feed(server, &wire, usize::MAX, &mut Vec::new())?;
            wire.clear();
            server.poll_transmit(&mut wire);
            let mut input = &wire[..];
            while !input.is_empty() {
                client.read_tls(&mut input).unwrap();
                client.process_new_packets().unwrap();
            }
            wire.clear();
        }
        assert!(!client.is_handshaking());
        Ok(client)
    }
}

#[test]
fn a_client_without_certificate_is_refused() {
    for versions in [ONLY_TLS13, ONLY_TLS12] {
        let stranger = Stranger { identity: None, versions, ..Stranger::default() };
        assert_eq!(stranger.meets(&mut server()).err(), Some(TlsError::NoCertificate));
    }
}

#[test]
fn showing_a_chain_is_not_holding_its_key() {
    for versions in [ONLY_TLS13, ONLY_TLS12] {
        let stranger = Stranger { identity: Some((bob(), alice())), versions, ..Stranger::default() };
        assert_eq!(stranger.meets(&mut server()).err(), Some(TlsError::BadSignature));
    }
}

#[test]
fn a_peer_with_tls12_only() {
    let mut server = server();
    let stranger = Stranger { versions: ONLY_TLS12, ..Stranger::default() };
    let mut client = stranger.meets(&mut server).unwrap();
    let summary = *server.summary().unwrap();
    assert_eq!((summary.version, summary.suite), (Version::Tls12, Suite::Aes256Gcm));
    let mut wire = Vec::new();
    server.send(&vec![7; 20_000], &mut wire).unwrap();
    assert!(client.read_tls(&mut &wire[..]).unwrap() > 0);
    client.process_new_packets().unwrap();
    std::io::Write::write_all(&mut client.writer(), b"hello").unwrap();
    wire.clear();
    client.write_tls(&mut wire).unwrap();
    let mut got = Vec::new();
    feed(&mut server, &wire, 1, &mut got).unwrap();
    assert_eq!(got, b"hello");
}

#[test]
fn unknown_protocols_above_get_the_jami_dialect() {
    let others: [&'static [&'static [u8]]; 3] = [&[], &[b"h2"], &[b"h2", b"towline/2"]];
    for alpn in others {
        let mut server = server();
        Stranger { alpn, ..Stranger::default() }.meets(&mut server).unwrap();
        assert_eq!(server.dialect(), Some(Dialect::Jami));
    }
    let mut server = server();
    let client = Stranger { alpn: &[b"h2", b"towline/1"], ..Stranger::default() }.meets(&mut server).unwrap();
    assert_eq!(server.dialect(), Some(Dialect::Native));
    assert_eq!(client.alpn_protocol(), Some(&b"towline/1"[..]));
}

#[test]
fn key_updates_of_the_peer() {
    let mut server = server();
    let mut client = Stranger { versions: ONLY_TLS13, ..Stranger::default() }.meets(&mut server).unwrap();
    for round in 0..5_u8 {
        client.refresh_traffic_keys().unwrap();
        std::io::Write::write_all(&mut client.writer(), &[round; 10]).unwrap();
        let (mut wire, mut got) = (Vec::new(), Vec::new());
        client.write_tls(&mut wire).unwrap();
        feed(&mut server, &wire, 7, &mut got).unwrap();
        assert_eq!(got, [round; 10]);
        wire.clear();
        server.send(&[round; 5], &mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
        let mut back = [0; 5];
        std::io::Read::read_exact(&mut client.reader(), &mut back).unwrap();
        assert_eq!(back, [round; 5]);
    }
}

#[test]
fn nothing_in_common() {
    let mut provider = default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::SECP256R1];
    let stranger = Stranger { provider, ..Stranger::default() };
    assert_eq!(stranger.meets(&mut server()).err(), Some(TlsError::Incompatible(Incompatibility::Group)));
    let mut provider = default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let versions = ONLY_TLS13;
    let stranger = Stranger { versions, provider, ..Stranger::default() };
    assert_eq!(
        stranger.meets(&mut server()).err(),
        Some(TlsError::Incompatible(Incompatibility::CipherSuite))
    );
    // A ClientHello of TLS 1.1: version 3.2, and signature algorithms as the only extension.
    let extensions = [0, 8, 0, 13, 0, 4, 0, 2, 8, 4];
    let body = [&[3, 2][..], &[9; 32], &[0, 0, 2, 0, 47, 1, 0], &extensions].concat();
    let len = body.len() as u8;
    let mut hello = [&[22, 3, 1, 0, len + 4, 1, 0, 0, len][..], &body].concat();
    let error = server().receive(&mut hello, &mut no_data).unwrap_err();
    assert_eq!(error, TlsError::Incompatible(Incompatibility::Version));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
        kind in 20_u8..24,
        step in 1_usize..50,
    ) {
        let (established, _) = pair();
        for mut session in [client(), server(), established] {
            let record = [&[kind, 3, 3], &(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
            let _ = feed(&mut session, &record, step, &mut Vec::new());
            let _ = session.receive(&mut bytes.clone(), &mut |_| {});
            session.poll_transmit(&mut Vec::new());
            session.close(&mut Vec::new());
        }
    }

    #[test]
    fn a_damaged_handshake_fails_on_one_side(flight in 0_usize..3, index in 0_usize..5000, bit in 0_u32..8) {
        let (mut client, mut server) = (client(), server());
        let mut wire = Vec::new();
        let mut failed = false;
        for round in 0..4 {
            let (from, to) = if round % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
            wire.clear();
            from.poll_transmit(&mut wire);
            if round == flight {
                let index = index % wire.len();
                wire[index] ^= 1 << bit;
            }
            failed |= feed(to, &wire, usize::MAX, &mut Vec::new()).is_err();
        }
        // A byte that nobody protects (a record's version) may change without effect.
        if !failed && client.is_established() && server.is_established() {
            carry(&mut client, &mut server, b"sound", usize::MAX);
        }
        proptest::prop_assert_ne!(client.peer_chain().map(Chain::device_id), Some(DeviceId([0; 32])));
    }
}
