//! Write tokens: proof that a sender can receive at the address it writes from (`dht.md` 1.7).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Token;

/// Shortest time a secret is current.
const ROTATE_MIN: Duration = Duration::from_mins(15);
/// Longest time a secret is current.
const ROTATE_MAX: Duration = Duration::from_mins(45);

/// Issues write tokens and recognises them; nothing is stored per token.
///
/// A token is SHA-256 over a secret, the address and the port. Two secrets are kept, so a token lives for 15 to 90
/// minutes. Unlike the reference, the secrets have 256 bits from a cryptographic generator.
pub struct Tokens {
    rng: StdRng,
    current: [u8; 32],
    previous: [u8; 32],
    rotate_at: Instant,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("rotate_at", &self.rotate_at).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Fresh secrets from `seed`.
    pub fn new(now: Instant, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let current = rng.random();
        let previous = rng.random();
        let rotate_at = now + rng.random_range(ROTATE_MIN..=ROTATE_MAX);
        Self { rng, current, previous, rotate_at }
    }

    /// The token for whoever receives at `address`.
    pub fn issue(&self, address: SocketAddr) -> Token {
        Token::new(seal(&self.current, address)).expect("a SHA-256 digest has 32 bytes")
    }

    /// Whether `token` was issued to `address` under one of the two secrets. Takes the same time either way.
    pub fn verify(&self, address: SocketAddr, token: &Token) -> bool {
        let matches =
            |secret| constant_time::verify_slices_are_equal(&seal(secret, address), token.as_bytes()).is_ok();
        matches(&self.current) | matches(&self.previous)
    }

    /// When the secrets rotate next.
    pub const fn poll_timeout(&self) -> Instant {
        self.rotate_at
    }

    /// Rotates the secrets if their time has come. After a long sleep both are replaced.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.rotate_at {
            return;
        }
        let overslept = now.duration_since(self.rotate_at) >= ROTATE_MAX;
        self.previous = if overslept { self.rng.random() } else { self.current };
        self.current = self.rng.random();
        self.rotate_at = now + self.rng.random_range(ROTATE_MIN..=ROTATE_MAX);
    }
}

fn seal(secret: &[u8; 32], address: SocketAddr) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(secret);
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => context.update(&ip.octets()),
        IpAddr::V6(ip) => context.update(&ip.octets()),
    }
    context.update(&address.port().to_be_bytes());
    context.finish().as_ref().try_into().expect("SHA-256 yields 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn bound_to_address_and_port() {
        let tokens = Tokens::new(Instant::now(), [1; 32]);
        let here = address("192.0.2.1:4222");
        let token = tokens.issue(here);
        assert_eq!(token.as_bytes().len(), 32);
        assert!(tokens.verify(here, &token));
        assert!(tokens.verify(address("[::ffff:192.0.2.1]:4222"), &token));
        assert!(!tokens.verify(address("192.0.2.1:4223"), &token));
        assert!(!tokens.verify(address("192.0.2.2:4222"), &token));
        assert!(!tokens.verify(here, &Token::new([0; 5]).unwrap()));
        assert!(!Tokens::new(Instant::now(), [2; 32]).verify(here, &token));
    }

    #[test]
    fn lives_for_two_rotations() {
        let mut now = Instant::now();
        let mut tokens = Tokens::new(now, [1; 32]);
        let here = address("[2001:db8::1]:4222");
        let token = tokens.issue(here);
        for round in 0..4 {
            let wait = tokens.poll_timeout() - now;
            assert!((ROTATE_MIN..=ROTATE_MAX).contains(&wait));
            tokens.handle_timeout(tokens.poll_timeout().checked_sub(Duration::from_nanos(1)).unwrap());
            assert_eq!(tokens.verify(here, &token), round < 2, "round {round}");
            now = tokens.poll_timeout();
            tokens.handle_timeout(now);
        }
    }

    #[test]
    fn nothing_survives_a_long_sleep() {
        let now = Instant::now();
        let mut tokens = Tokens::new(now, [1; 32]);
        let here = address("192.0.2.1:1");
        let token = tokens.issue(here);
        tokens.handle_timeout(now + Duration::from_hours(24));
        assert!(!tokens.verify(here, &token));
    }
}
