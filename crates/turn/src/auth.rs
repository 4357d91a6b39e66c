//! The long-term mechanism as a client lives it: a challenge, and requests that answer it (RFC 8489 section 9.2).

use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use towline_ice::stun::{Encoder, IntegrityError, Message, Seal};

use crate::credentials::{Credentials, PasswordAlgorithm, user_hash};
use crate::wire::{attribute, find};

/// REALM and NONCE have fewer than 128 characters, so at most this many bytes (RFC 8489 sections 14.9 and 14.10).
pub(crate) const MAX_TEXT: usize = 763;

/// The longest USERNAME, in bytes (RFC 8489 section 14.3).
pub(crate) const MAX_USERNAME: usize = 508;

/// The longest list of algorithms that is echoed, in bytes.
const MAX_ALGORITHMS: usize = 64;

/// What a nonce begins with if its server wants to tell its features (RFC 8489 section 9.2); four characters follow.
pub(crate) const NONCE_COOKIE: &[u8] = b"obMatJos2";

/// The features in a nonce: the two lowest bits of 24 (RFC 8489 section 18.1).
pub(crate) const FEATURE_ALGORITHMS: u8 = 0x01;
pub(crate) const FEATURE_ANONYMITY: u8 = 0x02;

/// What is wrong with a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// No REALM, an empty one, or one that is too long or no UTF-8.
    #[error("the challenge has no usable REALM")]
    Realm,
    /// No NONCE, an empty one, or one that is too long.
    #[error("the challenge has no usable NONCE")]
    Nonce,
    /// The nonce promises a choice of password algorithms and there is none: somebody took it away.
    #[error("the password algorithms that the nonce announces are missing")]
    BidDown,
    /// None of the password algorithms is known.
    #[error("no password algorithm of the server is known")]
    NoAlgorithm,
}

/// A challenge, and the credentials to answer it.
#[derive(Clone)]
pub(crate) struct Auth {
    realm: String,
    nonce: Vec<u8>,
    key: Vec<u8>,
    identity: Identity,
    mechanism: Mechanism,
}

#[derive(Clone)]
enum Identity {
    Name(String),
    Hash([u8; 32]),
}

#[derive(Clone)]
enum Mechanism {
    /// Key by MD5, MESSAGE-INTEGRITY: what RFC 5389 knew.
    Classic,
    /// Key by a negotiated algorithm, MESSAGE-INTEGRITY-SHA256.
    Agile { algorithm: PasswordAlgorithm, offered: Vec<u8> },
}

impl Auth {
    /// Reads the challenge in a 401 or 438; a REALM that is missing stays what it was.
    pub(crate) fn answer(
        response: &Message<'_>,
        credentials: &Credentials,
        before: Option<&Self>,
    ) -> Result<Self, ChallengeError> {
        let find = |wanted| find(response, wanted);
        let realm = match (find(attribute::REALM), before) {
            (None, Some(before)) => before.realm.clone(),
            (realm, _) => {
                let realm = realm.filter(|realm| usable(realm)).ok_or(ChallengeError::Realm)?;
                std::str::from_utf8(realm).map_err(|_| ChallengeError::Realm)?.to_owned()
            }
        };
        let nonce = find(attribute::NONCE).filter(|nonce| usable(nonce)).ok_or(ChallengeError::Nonce)?;
        let features = features(nonce);
        let mechanism = if features & FEATURE_ALGORITHMS == 0 {
            Mechanism::Classic
        } else {
            let offered = find(attribute::PASSWORD_ALGORITHMS).ok_or(ChallengeError::BidDown)?;
            let algorithm = first_known(offered).ok_or(ChallengeError::NoAlgorithm)?;
            Mechanism::Agile { algorithm, offered: offered.to_vec() }
        };
        let algorithm = match &mechanism {
            Mechanism::Classic => PasswordAlgorithm::Md5,
            Mechanism::Agile { algorithm, .. } => *algorithm,
        };
        let username = credentials.username();
        let identity = if features & FEATURE_ANONYMITY == 0 {
            Identity::Name(username.to_owned())
        } else {
            Identity::Hash(user_hash(username, &realm))
        };
        let key = credentials.key(algorithm, &realm);
        Ok(Self { realm, nonce: nonce.to_vec(), key, identity, mechanism })
    }

    /// Ends a request with everything that proves who asks.
    pub(crate) fn seal(&self, request: Encoder) -> Bytes {
        let request = match &self.identity {
            Identity::Name(name) => request.username(name.as_bytes()),
            Identity::Hash(hash) => request.attribute(attribute::USERHASH, hash),
        };
        let request = request
            .attribute(attribute::REALM, self.realm.as_bytes())
            .attribute(attribute::NONCE, &self.nonce);
        match &self.mechanism {
            Mechanism::Classic => request.finish_with(Seal::Sha1(&self.key)),
            Mechanism::Agile { algorithm, offered } => {
                let [high, low] = algorithm.code().to_be_bytes();
                request
                    .attribute(attribute::PASSWORD_ALGORITHMS, offered)
                    .attribute(attribute::PASSWORD_ALGORITHM, &[high, low, 0, 0])
                    .finish_with(Seal::Sha256(&self.key))
            }
        }
    }

    /// Whether a response comes from who knows the password.
    pub(crate) fn verify(&self, response: &Message<'_>) -> Result<(), IntegrityError> {
        match self.mechanism {
            Mechanism::Classic => response.verify_integrity(&self.key),
            Mechanism::Agile { .. } => response.verify_integrity_sha256(&self.key),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("realm", &self.realm).finish_non_exhaustive()
    }
}

fn usable(text: &[u8]) -> bool {
    (1..=MAX_TEXT).contains(&text.len())
}

/// The last byte of the features that a nonce tells; none, if it does not begin as such a nonce does.
pub(crate) fn features(nonce: &[u8]) -> u8 {
    let told = nonce.strip_prefix(NONCE_COOKIE).and_then(|rest| rest.get(..4));
    told.and_then(|text| BASE64.decode(text).ok()).and_then(|bits| bits.last().copied()).unwrap_or(0)
}

fn first_known(mut offered: &[u8]) -> Option<PasswordAlgorithm> {
    if offered.len() > MAX_ALGORITHMS {
        return None;
    }
    while let Some((head, rest)) = offered.split_first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let parameters = rest.get(..len)?;
        if let Some(known) = PasswordAlgorithm::from_entry(u16::from_be_bytes([head[0], head[1]]), parameters)
        {
            return Some(known);
        }
        offered = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use towline_ice::stun::{Class, TransactionId};

    use super::*;
    use crate::wire::method;

    fn challenge(realm: &[u8], nonce: &[u8], algorithms: Option<&[u8]>) -> Result<Auth, ChallengeError> {
        let mut response = Encoder::new(Class::Error, method::ALLOCATE, TransactionId([1; 12]))
            .error(401, "")
            .attribute(attribute::REALM, realm)
            .attribute(attribute::NONCE, nonce);
        if let Some(list) = algorithms {
            response = response.attribute(attribute::PASSWORD_ALGORITHMS, list);
        }
        let packet = response.finish(None);
        Auth::answer(&Message::decode(&packet).unwrap(), &Credentials::new("ann", "pw"), None)
    }

    fn kinds(auth: &Auth) -> Vec<u16> {
        let request = auth.seal(Encoder::new(Class::Request, method::ALLOCATE, TransactionId([2; 12])));
        let message = Message::decode(&request).unwrap();
        assert_eq!(auth.verify(&message), Ok(()));
        message.attributes().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn the_nonce_decides_what_is_sent() {
        let name = 0x0006;
        let classic = challenge(b"r", b"n", None).unwrap();
        assert_eq!(kinds(&classic), [name, attribute::REALM, attribute::NONCE]);
        // Only anonymity; an old server's list without the bit in the nonce is not listened to.
        let hidden = challenge(b"r", b"obMatJos2AAACx", Some(&[0, 2, 0, 0])).unwrap();
        assert_eq!(kinds(&hidden), [attribute::USERHASH, attribute::REALM, attribute::NONCE]);
        let agile = challenge(b"r", b"obMatJos2AAAB", Some(&[0, 9, 0, 1, 7, 0, 0, 0, 0, 2, 0, 0])).unwrap();
        assert_eq!(
            kinds(&agile),
            [
                name,
                attribute::REALM,
                attribute::NONCE,
                attribute::PASSWORD_ALGORITHMS,
                attribute::PASSWORD_ALGORITHM
            ]
        );
        assert!(matches!(agile.mechanism, Mechanism::Agile { algorithm: PasswordAlgorithm::Sha256, .. }));
    }

    #[test]
    fn bad_challenges_have_names() {
        let nonce = b"obMatJos2AAAB";
        assert_eq!(challenge(b"r", nonce, None).unwrap_err(), ChallengeError::BidDown);
        assert_eq!(challenge(b"r", nonce, Some(&[0, 7, 0, 0])).unwrap_err(), ChallengeError::NoAlgorithm);
        assert_eq!(challenge(b"r", nonce, Some(&[0, 2, 0, 9])).unwrap_err(), ChallengeError::NoAlgorithm);
        assert_eq!(challenge(b"", b"n", None).unwrap_err(), ChallengeError::Realm);
        assert_eq!(challenge(b"\xff", b"n", None).unwrap_err(), ChallengeError::Realm);
        assert_eq!(challenge(b"r", b"", None).unwrap_err(), ChallengeError::Nonce);
        assert_eq!(challenge(b"r", &[b'x'; 764], None).unwrap_err(), ChallengeError::Nonce);
    }
}
