//! What a relay shows on TLS: a certificate chain and its key, from files as certificate authorities and their programs leave them.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError as Fault, Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// Certificates of one chain; a longer one is shown by nobody.
const MAX_CHAIN: usize = 10;

/// Why a server cannot show this certificate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// There is none.
    #[error("there is no certificate in PEM in it")]
    NoCertificate,
    /// There are more than ten.
    #[error("there are more than {MAX_CHAIN} certificates in it; the chain of one server is wanted")]
    TooMany,
    /// The text is cut off or damaged.
    #[error("a certificate in it is damaged: {0}")]
    DamagedCertificate(String),
    /// The first one is no certificate of a server.
    #[error("the first certificate in it cannot be used: {0}")]
    Unusable(Error),
    /// The first one is expired, or not valid yet: clients would refuse it.
    #[error("the first certificate in it does not count now: {0}")]
    Date(Fault),
    /// There is no key.
    #[error("there is no private key in PEM in it")]
    NoKey,
    /// The key can only be read with a password.
    #[error("the private key in it is encrypted; one without a password is wanted")]
    EncryptedKey,
    /// The text is cut off or damaged.
    #[error("the private key in it is damaged: {0}")]
    DamagedKey(String),
    /// The key is of a kind that TLS does not have.
    #[error("the private key in it cannot be used: {0}")]
    UnusableKey(Error),
    /// It belongs to another certificate.
    #[error("the private key in it is not that of the certificate")]
    OtherKey,
}

impl CertificateError {
    /// Whether it is the key that is wrong, and not the chain.
    pub fn is_of_key(&self) -> bool {
        match self {
            Self::NoKey
            | Self::EncryptedKey
            | Self::DamagedKey(_)
            | Self::UnusableKey(_)
            | Self::OtherKey => true,
            Self::NoCertificate
            | Self::TooMany
            | Self::DamagedCertificate(_)
            | Self::Unusable(_)
            | Self::Date(_) => false,
        }
    }
}

/// TLS of a server that shows this chain, its own certificate first, and proves it by this key, both in PEM. `unix_time` is what the
/// wall clock says: who shows a certificate that is over will not be believed, and is told so before.
pub fn server_tls(
    chain: &[u8],
    key: &[u8],
    unix_time: Duration,
) -> Result<Arc<rustls::ServerConfig>, CertificateError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certified = CertifiedKey::new(read_chain(chain, unix_time, &provider)?, read_key(key, &provider)?);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err(CertificateError::OtherKey);
        }
        Err(error) => return Err(CertificateError::Unusable(error)),
    }
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(CertificateError::Unusable)?;
    let shown = Arc::new(SingleCertAndKey::from(certified));
    Ok(Arc::new(builder.with_no_client_auth().with_cert_resolver(shown)))
}

fn read_chain(
    pem: &[u8],
    unix_time: Duration,
    provider: &CryptoProvider,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        chain.push(certificate.map_err(|error| CertificateError::DamagedCertificate(error.to_string()))?);
        if chain.len() > MAX_CHAIN {
            return Err(CertificateError::TooMany);
        }
    }
    let own = chain.first().ok_or(CertificateError::NoCertificate)?;
    let own = ParsedCertificate::try_from(own).map_err(CertificateError::Unusable)?;
    // Who has signed it is for clients to judge; that is looked at after the dates.
    let judged = rustls::client::verify_server_cert_signed_by_trust_anchor(
        &own,
        &RootCertStore::empty(),
        &[],
        UnixTime::since_unix_epoch(unix_time),
        provider.signature_verification_algorithms.all,
    );
    match judged {
        Err(Error::InvalidCertificate(
            fault @ (Fault::Expired
            | Fault::ExpiredContext { .. }
            | Fault::NotValidYet
            | Fault::NotValidYetContext { .. }),
        )) => Err(CertificateError::Date(fault)),
        _ => Ok(chain),
    }
}

fn read_key(
    pem: &[u8],
    provider: &CryptoProvider,
) -> Result<Arc<dyn rustls::sign::SigningKey>, CertificateError> {
    let key = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => key,
        Err(_) if pem.windows(9).any(|word| word == b"ENCRYPTED") => {
            return Err(CertificateError::EncryptedKey);
        }
        Err(rustls_pki_types::pem::Error::NoItemsFound) => return Err(CertificateError::NoKey),
        Err(error) => return Err(CertificateError::DamagedKey(error.to_string())),
    };
    provider.key_provider.load_private_key(key).map_err(CertificateError::UnusableKey)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    const NOW: Duration = Duration::from_hours(500_000);

    /// A certificate that counts in the year 2027, when it is now, and its key.
    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(["relay.example".to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(2027, 1, 1);
        parameters.not_after = date_time_ymd(2027, 12, 31);
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn wrong(chain: &str, key: &str) -> CertificateError {
        server_tls(chain.as_bytes(), key.as_bytes(), NOW).unwrap_err()
    }

    #[test]
    fn a_chain_and_its_key_are_taken_also_from_one_file() {
        let (chain, key) = made();
        for (chain, key) in [(chain.clone(), key.clone()), (chain.clone() + &key, key.clone() + &chain)] {
            assert!(server_tls(chain.as_bytes(), key.as_bytes(), NOW).is_ok());
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_in_which_of_the_two() {
        let ((chain, key), (_, other)) = (made(), made());
        assert_eq!(wrong("", &key), CertificateError::NoCertificate);
        assert_eq!(wrong(&key, &key), CertificateError::NoCertificate);
        assert_eq!(wrong(&chain.repeat(MAX_CHAIN + 1), &key), CertificateError::TooMany);
        let cut = &chain[..chain.len() / 2];
        assert!(matches!(wrong(cut, &key), CertificateError::DamagedCertificate(_)));
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(wrong(nonsense, &key), CertificateError::Unusable(_)));
        assert_eq!(wrong(&chain, ""), CertificateError::NoKey);
        assert_eq!(wrong(&chain, &chain), CertificateError::NoKey);
        assert_eq!(wrong(&chain, &other), CertificateError::OtherKey);
        let cut = &key[..key.len() / 2];
        assert!(matches!(wrong(&chain, cut), CertificateError::DamagedKey(_)));
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(wrong(&chain, nonsense), CertificateError::UnusableKey(_)));
        for encrypted in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            assert_eq!(wrong(&chain, encrypted), CertificateError::EncryptedKey);
        }
        assert!(wrong(&chain, "").is_of_key() && wrong(&chain, &other).is_of_key());
        assert!(!wrong("", &key).is_of_key() && !wrong("", "").is_of_key());
    }

    #[test]
    fn dates_are_looked_at() {
        let (chain, key) = made();
        let at = |unix: u64| server_tls(chain.as_bytes(), key.as_bytes(), Duration::from_secs(unix));
        assert!(at(NOW.as_secs()).is_ok());
        for wrong in [1_700_000_000, 1_900_000_000] {
            let error = at(wrong).unwrap_err();
            assert!(matches!(error, CertificateError::Date(_)) && !error.is_of_key(), "{error}");
        }
    }
}
