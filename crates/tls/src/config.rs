//! What all sessions of a device have in common.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group, sign};
use rustls::pki_types::{PrivatePkcs8KeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use towline_identity::Identity;

use crate::verify::PinnedPeer;

/// The application protocol that stands for Towline's own dialect above TLS.
pub const NATIVE_ALPN: &[u8] = b"towline/1";

/// TLS 1.2 must be among them: only then a client sends the suite 0x00FF, without which dhtnet hangs up even on TLS 1.3
/// (`spec/connection.md` 5.1, "renegotiation trap").
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// What is spoken above TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// What Jami speaks: chosen when either side does not offer the other.
    Jami,
    /// What two Towlines speak.
    Native,
}

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// A function that gives the time in seconds since the Unix epoch.
    pub fn new(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What is done about certificates whose time is over, or has not come.
#[derive(Debug, Clone, Default)]
pub enum Expiry {
    /// Nothing, as Jami does: who holds the key is the peer, whatever the calendar says.
    #[default]
    Tolerated,
    /// The peer is refused, by this clock.
    Enforced(Clock),
}

/// Choices of a [`Config`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Offer and accept [`Dialect::Native`]. Default: yes.
    pub native_dialect: bool,
    /// What is done about the dates of certificates. Default: nothing.
    pub expiry: Expiry,
    /// Most bytes of a peer's handshake, records included. Default: 64 KiB; a Jami peer's has 5 KiB.
    pub max_handshake_len: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { native_dialect: true, expiry: Expiry::Tolerated, max_handshake_len: 64 * 1024 }
    }
}

/// Why there is no configuration for an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The TLS library does not take the private key: it is larger than 8,192 bits.
    #[error("the TLS library does not take the private key")]
    Key,
}

/// Everything that the sessions of one identity share. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Config(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: Arc<CryptoProvider>,
    certified: Arc<SingleCertAndKey>,
    options: Options,
}

impl Config {
    /// Prepares sessions of this identity.
    pub fn new(identity: &Identity, options: Options) -> Result<Self, ConfigError> {
        let key = identity.key().to_pkcs8_der();
        let key = sign::any_supported_type(&PrivatePkcs8KeyDer::from(&key[..]).into())
            .map_err(|_| ConfigError::Key)?;
        // Not built by `CertifiedKey::from_der`: it reads the leaf, more strictly than Jami writes.
        let certified = CertifiedKey::new(identity.chain().ders(), key);
        let provider = CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
            // dhtnet's servers choose P-384: sending its key share first saves a round trip.
            kx_groups: vec![kx_group::SECP384R1, kx_group::X25519],
            ..default_provider()
        };
        let certified = Arc::new(SingleCertAndKey::from(certified));
        Ok(Self(Arc::new(Inner { provider: Arc::new(provider), certified, options })))
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    fn alpn(native: bool) -> Vec<Vec<u8>> {
        if native { vec![NATIVE_ALPN.to_vec()] } else { Vec::new() }
    }

    pub(crate) fn client(&self, peer: Arc<PinnedPeer>) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_details(self.0.provider.clone(), Arc::new(NoClock))
            .with_protocol_versions(VERSIONS)
            .expect("suites and groups of both versions are there")
            .dangerous()
            .with_custom_certificate_verifier(peer)
            .with_client_cert_resolver(self.0.certified.clone());
        config.alpn_protocols = Self::alpn(self.0.options.native_dialect);
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        // For `record`, which takes the records over.
        config.enable_secret_extraction = true;
        Arc::new(config)
    }

    /// `native`: whether the client offers the native dialect. A list without a common entry would
    /// end the handshake, so the dialect is only accepted from those who offer it.
    pub(crate) fn server(&self, peer: Arc<PinnedPeer>, native: bool) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_details(self.0.provider.clone(), Arc::new(NoClock))
            .with_protocol_versions(VERSIONS)
            .expect("suites and groups of both versions are there")
            .with_client_cert_verifier(peer)
            .with_cert_resolver(self.0.certified.clone());
        config.alpn_protocols = Self::alpn(native && self.0.options.native_dialect);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        Arc::new(config)
    }
}

/// The TLS library asks for the time in order to date tickets, which we do not use, and to pass it to
/// the verifier, which has a clock of its own.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::ZERO))
    }
}
