//! What counts as the right peer (`spec/connection.md` 2.6): its key is the one we dialled, and it proves to hold
//! it. The chain above the leaf must hold up to its own top; whom that makes the peer is decided elsewhere.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    UnparsedPublicKey,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use towline_identity::{Chain, ChainError, DeviceId, KeyKind};

use crate::config::Expiry;

/// Signatures that are accepted, best first. TLS 1.3 uses the PSS ones only.
const SCHEMES: [(SignatureScheme, &RsaParameters); 6] = [
    (SignatureScheme::RSA_PSS_SHA512, &RSA_PSS_2048_8192_SHA512),
    (SignatureScheme::RSA_PSS_SHA384, &RSA_PSS_2048_8192_SHA384),
    (SignatureScheme::RSA_PSS_SHA256, &RSA_PSS_2048_8192_SHA256),
    (SignatureScheme::RSA_PKCS1_SHA512, &RSA_PKCS1_2048_8192_SHA512),
    (SignatureScheme::RSA_PKCS1_SHA384, &RSA_PKCS1_2048_8192_SHA384),
    (SignatureScheme::RSA_PKCS1_SHA256, &RSA_PKCS1_2048_8192_SHA256),
];

/// Why a peer's certificates were refused. Travels through the TLS library as an opaque error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the peer is {found}, not {expected}")]
    WrongKey { expected: DeviceId, found: DeviceId },
    #[error(transparent)]
    Chain(ChainError),
    #[error("the peer's key is not an RSA key")]
    NotRsa,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// Accepts one device, and keeps the chain that it presented.
#[derive(Debug)]
pub(crate) struct PinnedPeer {
    expected: DeviceId,
    expiry: Expiry,
    chain: OnceLock<Chain>,
}

impl PinnedPeer {
    pub(crate) fn new(expected: DeviceId, expiry: Expiry) -> Self {
        Self { expected, expiry, chain: OnceLock::new() }
    }

    /// The chain presented, once it was accepted.
    pub(crate) fn chain(&self) -> Option<&Chain> {
        self.chain.get()
    }

    fn check(&self, leaf: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<(), Refusal> {
        let ders = std::iter::once(leaf).chain(above).map(AsRef::as_ref);
        let chain = Chain::from_ders(ders).map_err(Refusal::Chain)?;
        let found = chain.device_id();
        if found != self.expected {
            return Err(Refusal::WrongKey { expected: self.expected, found });
        }
        let KeyKind::Rsa { .. } = chain.public_key().kind() else { return Err(Refusal::NotRsa) };
        chain.verify_links().map_err(Refusal::Chain)?;
        if let Expiry::Enforced(clock) = &self.expiry {
            chain.verify_validity(clock.now()).map_err(Refusal::Chain)?;
        }
        // TLS 1.3 has one handshake and 1.2 is never renegotiated, so this is the first chain.
        let _ = self.chain.set(chain);
        Ok(())
    }

    fn verify_signature(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = Error::InvalidCertificate(CertificateError::BadSignature);
        let Some((_, parameters)) = SCHEMES.iter().find(|(scheme, _)| *scheme == signed.scheme) else {
            return Err(bad);
        };
        let Some(chain) = self.chain.get() else { return Err(bad) };
        UnparsedPublicKey::new(*parameters, chain.public_key().spki_der())
            .verify(message, signed.signature())
            .map(|()| HandshakeSignatureValid::assertion())
            .map_err(|_| bad)
    }

    fn verify_signature_tls13(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // RFC 8446 4.2.3: PKCS#1 v1.5 is for certificates only.
        if !matches!(
            signed.scheme,
            SignatureScheme::RSA_PSS_SHA512
                | SignatureScheme::RSA_PSS_SHA384
                | SignatureScheme::RSA_PSS_SHA256
        ) {
            return Err(Error::InvalidCertificate(CertificateError::BadSignature));
        }
        self.verify_signature(message, signed)
    }

    fn schemes() -> Vec<SignatureScheme> {
        SCHEMES.iter().map(|(scheme, _)| *scheme).collect()
    }
}

impl ServerCertVerifier for PinnedPeer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, above)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        _leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature_tls13(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for PinnedPeer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, above)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        _leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature_tls13(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}
