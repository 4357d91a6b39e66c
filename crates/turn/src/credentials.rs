//! Who asks a server for an allocation: long-term credentials, fixed or made for a limited time.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use data_encoding::BASE64;
use md5::{Digest as _, Md5};

/// A username and a password of the long-term mechanism (RFC 8489 section 9.2).
///
/// Names and passwords are used as they are: text beyond ASCII must be in the form of the OpaqueString profile already
/// (RFC 8265), which is what people's keyboards produce.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: String,
    password: String,
}

impl Credentials {
    /// Fixed ones.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into() }
    }

    /// Those that a server with the shared `secret` accepts until `expires`, in seconds since 1970
    /// (draft-uberti-behave-turn-rest-00; `use-auth-secret` of coturn). An empty `user` leaves the name out.
    ///
    /// An allocation made in time may live on afterwards: that is for the server to decide.
    pub fn time_limited(secret: &[u8], user: &str, expires: u64) -> Self {
        let username = if user.is_empty() { expires.to_string() } else { format!("{expires}:{user}") };
        let password = time_limited_password(secret, &username);
        Self { username, password }
    }

    /// The username.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The key of the mechanism in a realm.
    pub(crate) fn key(&self, algorithm: PasswordAlgorithm, realm: &str) -> Vec<u8> {
        let text = format!("{}:{realm}:{}", self.username, self.password);
        match algorithm {
            PasswordAlgorithm::Md5 => Md5::digest(text.as_bytes()).to_vec(),
            PasswordAlgorithm::Sha256 => digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The password that goes with a username of the form `expires[:user]`.
pub(crate) fn time_limited_password(secret: &[u8], username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    BASE64.encode(hmac::sign(&key, username.as_bytes()).as_ref())
}

/// The content of USERHASH: who asks, for the server's eyes only (RFC 8489 section 14.4).
pub(crate) fn user_hash(username: &str, realm: &str) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, format!("{username}:{realm}").as_bytes());
    hash.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

/// How a password becomes a key (RFC 8489 section 18.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordAlgorithm {
    Md5,
    Sha256,
}

impl PasswordAlgorithm {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Md5 => 1,
            Self::Sha256 => 2,
        }
    }

    /// Reads one entry of PASSWORD-ALGORITHMS; both that are known have no parameters.
    pub(crate) fn from_entry(code: u16, parameters: &[u8]) -> Option<Self> {
        match (code, parameters) {
            (1, []) => Some(Self::Md5),
            (2, []) => Some(Self::Sha256),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn keys_and_hashes_of_the_rfcs() {
        // RFC 5769 section 2.4 and RFC 8489 appendix B.1.
        let matrix = Credentials::new("マトリックス", "TheMatrIX");
        let md5 = matrix.key(PasswordAlgorithm::Md5, "example.org");
        assert_eq!(HEXLOWER.encode(&md5), "e8ca7ad59d5eb0518e312911d2dab2a9");
        assert_eq!(
            HEXLOWER.encode(&user_hash(matrix.username(), "example.org")),
            "4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
        );
    }

    #[test]
    fn time_limited_ones_are_made_of_the_secret() {
        // By another implementation: HMAC-SHA1 of "1700000000:ann" under "north", in base64.
        let made = Credentials::time_limited(b"north", "ann", 1_700_000_000);
        assert_eq!(made.username(), "1700000000:ann");
        assert_eq!(made.password, "jeamH6dA5l2I9g3jmieza7CzEDo=");
        assert_eq!(Credentials::time_limited(b"north", "", 5).username(), "5");
        assert!(!format!("{made:?}").contains(&made.password));
    }
}
