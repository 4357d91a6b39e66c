//! The user name fragment and password of one session (RFC 8445 section 5.3, spec 4.1).

use std::fmt;

use rand::{Rng, rngs::StdRng};

/// A user name fragment and the password that goes with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    ufrag: String,
    password: String,
}

/// Why a text cannot be a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// No characters at all.
    #[error("the credential is empty")]
    Empty,
    /// More than [`Credentials::MAX_LEN`] bytes (RFC 8445 section 5.3).
    #[error("the credential is longer than 256 characters")]
    TooLong,
    /// Blank, control or non-ASCII characters, or a colon in the user name.
    #[error("the credential holds a character that has no place in it")]
    BadCharacter,
}

impl Credentials {
    /// The longest fragment or password accepted from a peer, in bytes.
    pub const MAX_LEN: usize = 256;

    /// Fresh credentials: 8 and 24 lowercase hexadecimal digits, as peers expect them.
    pub(crate) fn generate(rng: &mut StdRng) -> Self {
        let mut word = |octets: usize| -> String {
            let mut bytes = [0; 12];
            rng.fill_bytes(&mut bytes[..octets]);
            let digits = bytes[..octets].iter().flat_map(|b| [b >> 4, b & 15]);
            digits.map(|d| char::from_digit(d.into(), 16).expect("four bits are one digit")).collect()
        };
        Self { ufrag: word(4), password: word(12) }
    }

    /// Credentials as a peer sent them: any length up to [`Self::MAX_LEN`], any printable characters.
    pub fn parse(ufrag: &str, password: &str) -> Result<Self, CredentialsError> {
        for text in [ufrag, password] {
            if text.is_empty() {
                return Err(CredentialsError::Empty);
            }
            if text.len() > Self::MAX_LEN {
                return Err(CredentialsError::TooLong);
            }
            if !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(CredentialsError::BadCharacter);
            }
        }
        // USERNAME is cut at the first colon, so one inside the fragment could never match.
        if ufrag.contains(':') {
            return Err(CredentialsError::BadCharacter);
        }
        Ok(Self { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }

    /// The user name fragment.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password: key of MESSAGE-INTEGRITY. A secret.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn generated_ones_have_the_lengths_of_the_peers() {
        let made = Credentials::generate(&mut StdRng::from_seed([7; 32]));
        assert_eq!((made.ufrag().len(), made.password().len()), (8, 24));
        assert!(
            made.ufrag()
                .bytes()
                .chain(made.password().bytes())
                .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        );
        assert_ne!(made, Credentials::generate(&mut StdRng::from_seed([8; 32])));
        assert!(!format!("{made:?}").contains(made.password()), "a password must not reach a log");
    }

    #[test]
    fn other_lengths_are_accepted_within_bounds() {
        assert!(Credentials::parse("a", "+/b").is_ok());
        assert_eq!(Credentials::parse("", "x"), Err(CredentialsError::Empty));
        assert_eq!(Credentials::parse("a:b", "x"), Err(CredentialsError::BadCharacter));
        assert_eq!(Credentials::parse("a", "x y"), Err(CredentialsError::BadCharacter));
        assert_eq!(Credentials::parse("a", &"x".repeat(257)), Err(CredentialsError::TooLong));
    }
}
