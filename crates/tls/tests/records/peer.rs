//! The TLS library, with its buffered API and ordinary settings, as the peer of a session.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, sign};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName, ServerConfig,
    ServerConnection, SignatureScheme,
};
use towline_identity::{GenerateOptions, Identity, KeySize};
use towline_tls::{Config, Options, Session, TlsError};

static OURS: LazyLock<Identity> = LazyLock::new(generate);
static THEIRS: LazyLock<Identity> = LazyLock::new(generate);

fn generate() -> Identity {
    let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(1_800_000_000) };
    Identity::generate(&options).unwrap()
}

/// The part of our session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

pub(crate) const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// What the peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Aes256,
    ChaCha20,
    Tls12,
}

/// Our session, nothing said yet.
pub(crate) fn session(role: Role) -> Session {
    let config = Config::new(&OURS, Options::default()).unwrap();
    match role {
        Role::Client => Session::client(&config, THEIRS.device_id()),
        Role::Server => Session::server(&config, THEIRS.device_id()),
    }
    .unwrap()
}

/// The peer of a session with that role, nothing said yet. `small`: it writes records of 32 bytes.
pub(crate) fn peer(role: Role, speaks: Speaks, small: bool) -> Connection {
    let mut provider = default_provider();
    match speaks {
        Speaks::Aes256 => provider.cipher_suites = vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
        Speaks::ChaCha20 => provider.cipher_suites = vec![cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        Speaks::Tls12 => {}
    }
    let provider: Arc<CryptoProvider> = Arc::new(provider);
    let versions = if speaks == Speaks::Tls12 { [&TLS12] } else { [&TLS13] };
    let key = THEIRS.key().to_pkcs8_der();
    let key = sign::any_supported_type(&PrivatePkcs8KeyDer::from(&key[..]).into()).unwrap();
    let certified = Arc::new(SingleCertAndKey::from(CertifiedKey::new(THEIRS.chain().ders(), key)));
    let max_fragment_size = small.then_some(32);
    let mut connection: Connection = match role {
        Role::Server => {
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&versions)
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone))
                .with_client_cert_resolver(certified);
            config.enable_secret_extraction = true;
            config.max_fragment_size = max_fragment_size;
            let name = ServerName::try_from("x.invalid").unwrap();
            ClientConnection::new(Arc::new(config), name).unwrap().into()
        }
        Role::Client => {
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&versions)
                .unwrap()
                .with_client_cert_verifier(Arc::new(Anyone))
                .with_cert_resolver(certified);
            config.enable_secret_extraction = true;
            config.max_fragment_size = max_fragment_size;
            ServerConnection::new(Arc::new(config)).unwrap().into()
        }
    };
    connection.set_buffer_limit(None);
    connection
}

/// All that the peer has to send.
pub(crate) fn said(peer: &mut Connection) -> Vec<u8> {
    let mut wire = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut wire).unwrap();
    }
    wire
}

/// All plaintext that the peer gets from these bytes.
pub(crate) fn tell(peer: &mut Connection, mut wire: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut heard = Vec::new();
    while !wire.is_empty() {
        peer.read_tls(&mut wire).unwrap();
        let mut room = vec![0; peer.process_new_packets()?.plaintext_bytes_to_read()];
        peer.reader().read_exact(&mut room).unwrap();
        heard.extend_from_slice(&room);
    }
    Ok(heard)
}

pub(crate) fn write(peer: &mut Connection, data: &[u8]) {
    peer.writer().write_all(data).unwrap();
}

/// The handshake, and what a server says right behind it (tickets).
pub(crate) fn shake(session: &mut Session, peer: &mut Connection) -> Result<(), TlsError> {
    for _ in 0..4 {
        let mut wire = Vec::new();
        session.poll_transmit(&mut wire);
        assert_eq!(tell(peer, &wire), Ok(Vec::new()));
        super::hear_in_steps(session, &said(peer), usize::MAX, &mut Vec::new())?;
    }
    assert!(session.is_established() && !peer.is_handshaking());
    Ok(())
}

/// Both, established.
pub(crate) fn pair(role: Role, speaks: Speaks) -> (Session, Connection) {
    let (mut session, mut peer) = (session(role), peer(role, speaks, false));
    shake(&mut session, &mut peer).unwrap();
    (session, peer)
}

/// Believes everything.
#[derive(Debug)]
struct Anyone;

type Valid = HandshakeSignatureValid;

impl ServerCertVerifier for Anyone {
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
    ) -> Result<Valid, rustls::Error> {
        Ok(Valid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<Valid, rustls::Error> {
        Ok(Valid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::RSA_PSS_SHA512, SignatureScheme::RSA_PKCS1_SHA512]
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<Valid, rustls::Error> {
        Ok(Valid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<Valid, rustls::Error> {
        Ok(Valid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::RSA_PSS_SHA512, SignatureScheme::RSA_PKCS1_SHA512]
    }
}
