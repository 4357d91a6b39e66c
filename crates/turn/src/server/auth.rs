//! The long-term mechanism as a server lives it (RFC 8489 section 9.2.4).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, hmac};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use towline_ice::stun::{Encoder, Message, Seal};

use super::config::ServerConfig;
use crate::auth::NONCE_COOKIE;
use crate::credentials::{Credentials, PasswordAlgorithm, time_limited_password};
use crate::refusal::Refusal;
use crate::wire::{attribute, find};

/// After the cookie: the feature of password algorithms, in 24 bits of base64.
const FEATURES: &[u8] = b"AAAB";

/// What is offered: SHA-256 first, then MD5, neither with parameters.
const ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

/// Bytes of the code in a nonce.
const CODE_LEN: usize = 15;

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// The whole username.
    pub(super) name: String,
    /// Whom quotas are counted for: time-limited names begin with a time.
    pub(super) account: String,
    pub(super) key: Vec<u8>,
    pub(super) sha256: bool,
}

impl User {
    /// Ends a response to this user.
    pub(super) fn seal(&self, response: Encoder) -> Bytes {
        response.finish_with(if self.sha256 { Seal::Sha256(&self.key) } else { Seal::Sha1(&self.key) })
    }
}

/// Makes and checks nonces, which say themselves when and for whom they were made.
#[derive(Debug)]
pub(super) struct Nonces {
    key: hmac::Key,
    start: Instant,
}

impl Nonces {
    pub(super) fn new(secret: [u8; 32], start: Instant) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), start }
    }

    pub(super) fn make(&self, now: Instant, client: SocketAddr) -> Vec<u8> {
        self.write(now.saturating_duration_since(self.start).as_secs() as u32, client)
    }

    fn write(&self, second: u32, client: SocketAddr) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&second.to_be_bytes());
        context.update(client.to_string().as_bytes());
        let mut told = second.to_be_bytes().to_vec();
        told.extend_from_slice(&context.sign().as_ref()[..CODE_LEN]);
        [NONCE_COOKIE, FEATURES, BASE64URL_NOPAD.encode(&told).as_bytes()].concat()
    }

    fn is_fresh(&self, nonce: &[u8], now: Instant, client: SocketAddr, lifetime: Duration) -> bool {
        let told = nonce.get(NONCE_COOKIE.len() + FEATURES.len()..).unwrap_or_default();
        let Some(second) = BASE64URL_NOPAD
            .decode(told)
            .ok()
            .and_then(|told| told.first_chunk().map(|s| u32::from_be_bytes(*s)))
        else {
            return false;
        };
        let made = self.start + Duration::from_secs(second.into());
        constant_time::verify_slices_are_equal(&self.write(second, client), nonce).is_ok()
            && now.saturating_duration_since(made) <= lifetime
    }
}

/// What is wrong with who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// Answered by a challenge: 401 or 438.
    Challenge(Refusal),
    /// Answered by 400.
    BadRequest,
}

/// Finds out who sent a request. Time-limited names must not have expired at `unix`, in seconds since 1970.
pub(super) fn authenticate(
    config: &ServerConfig,
    nonces: &Nonces,
    now: Instant,
    unix: u64,
    client: SocketAddr,
    request: &Message<'_>,
) -> Result<User, Denial> {
    let unauthenticated = Denial::Challenge(Refusal::Unauthenticated);
    if !request.has_integrity() {
        return Err(unauthenticated);
    }
    let find = |wanted| find(request, wanted);
    let (Some(name), Some(realm), Some(nonce)) =
        (request.username, find(attribute::REALM), find(attribute::NONCE))
    else {
        return Err(Denial::BadRequest);
    };
    // Both or none; the list must be the one that was offered, or somebody changed it on the way.
    let algorithm = match (find(attribute::PASSWORD_ALGORITHMS), find(attribute::PASSWORD_ALGORITHM)) {
        (None, None) => PasswordAlgorithm::Md5,
        (Some(list), Some([high, low, 0, 0])) if list == ALGORITHMS => {
            PasswordAlgorithm::from_entry(u16::from_be_bytes([*high, *low]), &[]).ok_or(Denial::BadRequest)?
        }
        _ => return Err(Denial::BadRequest),
    };
    if !nonces.is_fresh(nonce, now, client, config.nonce_lifetime) {
        return Err(Denial::Challenge(Refusal::StaleNonce));
    }
    let name = std::str::from_utf8(name).map_err(|_| unauthenticated)?;
    let (password, account) = password(config, unix, name).ok_or(unauthenticated)?;
    if realm != config.realm.as_bytes() {
        return Err(unauthenticated);
    }
    let key = Credentials::new(name, password).key(algorithm, &config.realm);
    let sha256 = request.verify_integrity(&key).is_err();
    if sha256 && request.verify_integrity_sha256(&key).is_err() {
        return Err(unauthenticated);
    }
    Ok(User { name: name.to_owned(), account, key, sha256 })
}

// The password that belongs to a name, and whom to count for.
fn password(config: &ServerConfig, unix: u64, name: &str) -> Option<(String, String)> {
    if let Some(password) = config.users.fixed.get(name) {
        return Some((password.clone(), name.to_owned()));
    }
    let secret = config.users.secret.as_ref()?;
    let (expires, user) = name.split_once(':').unwrap_or((name, ""));
    let expires: u64 = expires.parse().ok()?;
    (expires >= unix).then(|| (time_limited_password(secret, name), format!(":{user}")))
}

/// Adds what a client needs to answer a challenge.
pub(super) fn challenge(config: &ServerConfig, nonce: &[u8], response: Encoder) -> Encoder {
    response
        .attribute(attribute::REALM, config.realm.as_bytes())
        .attribute(attribute::NONCE, nonce)
        .attribute(attribute::PASSWORD_ALGORITHMS, &ALGORITHMS)
}
