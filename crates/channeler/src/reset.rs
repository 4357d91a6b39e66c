//! How a peer hears that nothing is known here of the connection that it speaks of: this endpoint was started again, or gave the
//! connection up (as the stateless reset of RFC 9000, section 10.3).
//!
//! Along with each connection id goes, encrypted, what a reset for it will hold: a keyed hash of the id. Whoever has the key of the
//! endpoint can make it again without remembering the id; nobody else can, and nobody who saw none can tell one from a data packet.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{constant_time, hmac};
use rand::{Rng as _, RngExt as _, rngs::StdRng};

use crate::{
    ConnectionId, StaticKey,
    wire::header::{OVERHEAD, random_first},
};

/// Bytes of a [`Reset`].
pub(crate) const RESET_LEN: usize = 24;
/// Of these, what stands where a data packet has its connection id; the rest is the end of the packet.
const NAME_LEN: usize = 8;
/// No reset is longer: among packets that only acknowledge it is nothing special.
const LONGEST: usize = 63;
/// The time for which resets are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// What a reset for one connection id holds: a name, by which its receiver finds the connection, and a proof.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reset(pub(crate) [u8; RESET_LEN]);

impl Reset {
    /// What stands in the place of a connection id.
    pub(crate) fn name(&self) -> ConnectionId {
        ConnectionId(*self.0.first_chunk().expect("eight of 24 bytes"))
    }

    /// Whether a packet that has the name ends with the proof. Takes the same time for all that do not.
    pub(crate) fn proves(&self, packet: &[u8]) -> bool {
        let proof = &self.0[NAME_LEN..];
        packet.len() >= OVERHEAD
            && constant_time::verify_slices_are_equal(&packet[packet.len() - proof.len()..], proof).is_ok()
    }
}

impl fmt::Debug for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reset").field(&self.name()).finish()
    }
}

/// Makes the [`Reset`]s of an endpoint's connection ids; all its connections share it.
#[derive(Clone)]
pub(crate) struct ResetKey(Arc<hmac::Key>);

impl ResetKey {
    /// The same for the same key and instance, whenever the endpoint is started.
    pub(crate) fn new(key: &StaticKey, instance: u64) -> Self {
        let secret = key.derive(&[b"channeler v1 reset", &instance.to_be_bytes()]);
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &*secret)))
    }

    /// That of one connection id.
    pub(crate) fn of(&self, id: ConnectionId) -> Reset {
        let tag = hmac::sign(&self.0, &id.0);
        Reset(*tag.as_ref().first_chunk().expect("24 of 32 bytes"))
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetKey").finish_non_exhaustive()
    }
}

/// Answers packets of connections that are not known, so many per second and not more.
#[derive(Debug)]
pub(crate) struct Resets {
    key: ResetKey,
    per_second: u32,
    /// Since when, and how many in this second.
    since: Option<Instant>,
    count: u32,
}

impl Resets {
    pub(crate) fn new(key: ResetKey, per_second: u32) -> Self {
        Self { key, per_second, since: None, count: 0 }
    }

    /// What the resets of this endpoint are made with.
    pub(crate) fn key(&self) -> &ResetKey {
        &self.key
    }

    /// Whether there may be one more now.
    #[inline]
    fn allows(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count < self.per_second
    }

    /// Appends the answer to a data packet whose id nobody has: shorter than that, so that two who know nothing of each other do
    /// not go on for ever. False if it is too short, or there were enough.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        packet: &[u8],
        rng: &mut StdRng,
        out: &mut Vec<u8>,
    ) -> bool {
        if packet.len() <= OVERHEAD || !self.allows(now) {
            return false;
        }
        self.count += 1;
        self.write(packet, rng, out);
        true
    }

    #[cold]
    fn write(&self, packet: &[u8], rng: &mut StdRng, out: &mut Vec<u8>) {
        let id = *packet[8..].first_chunk().expect("longer than a header");
        let reset = self.key.of(ConnectionId(id));
        let len = rng.random_range(OVERHEAD..=LONGEST.min(packet.len() - 1));
        let start = out.len();
        out.resize(start + len, 0);
        let reply = &mut out[start..];
        rng.fill_bytes(reply);
        reply[0] = random_first(reply[0]);
        reply[8..16].copy_from_slice(&reset.0[..NAME_LEN]);
        reply[len - (RESET_LEN - NAME_LEN)..].copy_from_slice(&reset.0[NAME_LEN..]);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;
    use crate::wire::header::is_data;

    fn key(byte: u8, instance: u64) -> ResetKey {
        ResetKey::new(&StaticKey::from_bytes([byte; 32]), instance)
    }

    #[test]
    fn made_again_by_the_same_endpoint_only() {
        let (one, other) = (ConnectionId([1; 8]), ConnectionId([2; 8]));
        assert_eq!(key(1, 0).of(one), key(1, 0).of(one));
        assert_ne!(key(1, 0).of(one), key(1, 0).of(other));
        assert_ne!(key(1, 0).of(one), key(1, 1).of(one), "another endpoint of the same key");
        assert_ne!(key(1, 0).of(one), key(2, 0).of(one));
    }

    #[test]
    fn shorter_than_the_question_and_well_formed() {
        let mut rng = StdRng::from_seed([7; 32]);
        let mut resets = Resets::new(key(1, 0), u32::MAX);
        let now = Instant::now();
        for len in 0..1500 {
            let packet: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut out = Vec::new();
            assert_eq!(resets.answer(now, &packet, &mut rng, &mut out), len > OVERHEAD);
            if len <= OVERHEAD {
                continue;
            }
            assert!((OVERHEAD..=LONGEST).contains(&out.len()) && out.len() < len);
            assert!(is_data(out[0]));
            let reset = resets.key.of(ConnectionId([8, 9, 10, 11, 12, 13, 14, 15]));
            assert!(out[8..16] == reset.name().0 && reset.proves(&out));
            *out.last_mut().unwrap() ^= 1;
            assert!(!reset.proves(&out) && !reset.proves(&out[..15]));
        }
    }

    /// Two endpoints that know nothing of each other, and send each other what each takes for data.
    #[test]
    fn no_loop() {
        let mut rng = StdRng::from_seed([8; 32]);
        let mut resets = Resets::new(key(1, 0), u32::MAX);
        let now = Instant::now();
        for _ in 0..100 {
            let (mut packet, mut count) = (vec![8; 1200], 0);
            loop {
                let mut out = Vec::new();
                if !resets.answer(now, &packet, &mut rng, &mut out) {
                    break;
                }
                packet = out;
                count += 1;
            }
            assert!(count <= LONGEST - OVERHEAD + 1, "{count}");
        }
    }

    #[test]
    fn so_many_per_second() {
        let mut rng = StdRng::from_seed([9; 32]);
        let mut resets = Resets::new(key(1, 0), 10);
        let start = Instant::now();
        let mut answers = 0;
        for ms in 0..3000_u32 {
            let now = start + Duration::from_millis(ms.into());
            for _ in 0..5 {
                answers += u32::from(resets.answer(now, &[8; 100], &mut rng, &mut Vec::new()));
            }
        }
        assert_eq!(answers, 30);
        let mut none = Resets::new(key(1, 0), 0);
        assert!(!none.answer(start, &[8; 100], &mut rng, &mut Vec::new()));
    }
}
