use std::time::{Duration, Instant};

use super::{
    ChannelOpen, ChannelSeal, ConnectionSecrets, Exhausted, Opener, SEAL_LIMIT, Sealer, Suite, UPDATE_AT,
    Undecryptable,
};
use crate::{ChannelId, ConnectionId, LinkId, Side, wire::header::Header};

const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

fn secrets(suite: Suite) -> ConnectionSecrets {
    ConnectionSecrets::new(suite, &[1; 32], &[2; 32], &[3; 32])
}

/// A sender and its receiver, with one channel.
struct Pair {
    sealer: Sealer,
    opener: Opener,
    seal: ChannelSeal,
    open: ChannelOpen,
    id: ChannelId,
    now: Instant,
    pn: u64,
}

impl Pair {
    fn new(suite: Suite) -> Self {
        let id = ChannelId::new(Side::Initiator, 7);
        Self {
            sealer: secrets(suite).split(Side::Initiator).0,
            opener: secrets(suite).split(Side::Responder).1,
            seal: ChannelSeal::new(id),
            open: ChannelOpen::new(id),
            id,
            now: Instant::now(),
            pn: 0,
        }
    }

    fn seal(&mut self, plain: &[u8]) -> (u64, Vec<u8>) {
        self.pn += 1;
        let cid = ConnectionId([9; 8]);
        let header = Header { phase: false, spin: true, pn: self.pn, channel: self.id, cid };
        let mut packet = header.encode().to_vec();
        packet.extend_from_slice(plain);
        self.sealer.seal(self.now, &mut self.seal, LinkId(4), self.pn, &mut packet, 0, &[]).unwrap();
        (self.pn, packet)
    }

    fn open(&mut self, pn: u64, packet: &[u8]) -> Result<Vec<u8>, Undecryptable> {
        let mut packet = packet.to_vec();
        let header = self.opener.unprotect(&mut packet).ok_or(Undecryptable::Forged)?;
        let length =
            self.opener.open(self.now, &mut self.open, LinkId(4), pn, header.phase, &mut packet, None)?;
        Ok(packet[16..16 + length].to_vec())
    }

    fn carry(&mut self, plain: &[u8]) -> bool {
        let (pn, packet) = self.seal(plain);
        let keys = self.seal.keys();
        let arrived = self.open(pn, &packet) == Ok(plain.to_vec());
        if arrived {
            self.seal.on_acked(self.now, keys);
        }
        arrived
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }
}

#[test]
fn what_is_sealed_opens_and_the_header_is_hidden() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        for plain in [&b""[..], b"x", b"hello", &[5; 1420]] {
            let (pn, packet) = pair.seal(plain);
            assert_eq!(packet.len(), 32 + plain.len());
            assert_eq!(packet[0] >> 2, 0b10, "the first byte still tells data packets");
            assert_eq!(packet[8..16], [9; 8], "the connection id is readable");
            let mut clear = packet.clone();
            let header = pair.opener.unprotect(&mut clear).unwrap();
            assert_eq!((header.pn, header.channel, header.spin), (pn, pair.id, true));
            assert_eq!(pair.open(pn, &packet), Ok(plain.to_vec()));
        }
    }
}

#[test]
fn what_is_sealed_in_two_pieces_and_opened_to_elsewhere_is_the_same() {
    for suite in SUITES {
        let (mut one, mut two) = (Pair::new(suite), Pair::new(suite));
        let plain: Vec<u8> = (0..20_000_u32).map(|at| (at * 7) as u8).collect();
        for (head, end) in [(0, 1), (0, 16), (1, 17), (13, 4109), (16, 5000), (200, 16_584), (5000, 20_000)] {
            let (pn, packet) = one.seal(&plain[..end]);
            two.pn = pn;
            let header = Header { phase: false, spin: true, pn, channel: two.id, cid: ConnectionId([9; 8]) };
            // Behind others, as in a batch.
            let mut pieces = [&[7; 5][..], &header.encode(), &plain[..head]].concat();
            let rest = &plain[head..end];
            two.sealer.seal(two.now, &mut two.seal, LinkId(4), pn, &mut pieces, 5, rest).unwrap();
            assert_eq!(pieces[5..], packet, "{head} of {end}");
            let mut sealed = packet.clone();
            let phase = two.opener.unprotect(&mut sealed).unwrap().phase;
            let mut apart = vec![1; end + 3];
            let (now, open) = (two.now, &mut two.open);
            let opened = two.opener.open(now, open, LinkId(4), pn, phase, &mut sealed, Some(&mut apart));
            assert_eq!((opened, &apart[..end]), (Ok(end), &plain[..end]));
            sealed[20] ^= 1;
            let opened = two.opener.open(now, open, LinkId(4), pn, phase, &mut sealed, Some(&mut apart));
            assert_eq!(opened, Err(Undecryptable::Forged));
        }
    }
}

#[test]
fn known_answers() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/protection-v1.json")).unwrap();
    for vector in vectors.as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let bytes = |name: &str| hex::decode(text(name)).unwrap();
        let secret = |name: &str| <[u8; 32]>::try_from(bytes(name)).unwrap();
        let number = |name: &str| vector[name].as_u64().unwrap();
        let suite = match text("suite") {
            "AES-256-GCM" => Suite::Aes256Gcm,
            "ChaCha20-Poly1305" => Suite::ChaCha20Poly1305,
            other => panic!("unknown suite {other}"),
        };
        let secrets =
            ConnectionSecrets::new(suite, &secret("k_initiator"), &secret("k_responder"), &secret("h"));
        let side = if text("sender") == "initiator" { Side::Initiator } else { Side::Responder };
        let (sealer, _) = secrets.split(side);
        let channel = ChannelId(number("channel") as u32);
        let mut keys = ChannelSeal::new(channel);
        let start = Instant::now();
        let now = start + Duration::from_secs(2);
        for _ in 0..number("generation") {
            keys.set_sealed(1);
            assert!(keys.update(now));
            let current = keys.keys();
            keys.on_acked(start, current);
        }
        let header = Header {
            phase: false,
            spin: false,
            pn: number("packet_number"),
            channel,
            cid: ConnectionId(bytes("connection_id").try_into().unwrap()),
        };
        let mut packet = header.encode().to_vec();
        packet.extend(bytes("plaintext"));
        let link = LinkId(number("link") as u32);
        sealer.seal(now, &mut keys, link, number("packet_number"), &mut packet, 0, &[]).unwrap();
        assert_eq!(hex::encode(packet), text("packet"), "{}", text("name"));
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        let (pn, packet) = pair.seal(b"some bytes");
        for bit in 0..packet.len() * 8 {
            let mut changed = packet.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(pair.open(pn, &changed), Err(Undecryptable::Forged), "bit {bit}");
        }
        for length in 0..packet.len() {
            assert_eq!(pair.open(pn, &packet[..length]), Err(Undecryptable::Forged), "length {length}");
        }
        assert_eq!(pair.open(pn + 1, &packet), Err(Undecryptable::Forged), "another packet number");
        assert!(pair.open(pn, &packet).is_ok());
    }
}

#[test]
fn keys_of_channels_directions_links_and_generations_differ() {
    let mut pair = Pair::new(Suite::Aes256Gcm);
    let (pn, packet) = pair.seal(b"x");
    let mut clear = packet.clone();
    pair.opener.unprotect(&mut clear).unwrap();
    let (now, phase) = (pair.now, false);
    let other = ChannelId::new(Side::Initiator, 8);
    let forged = Err(Undecryptable::Forged);
    let opener = &mut pair.opener;
    assert_eq!(
        opener.open(now, &mut ChannelOpen::new(other), LinkId(4), pn, phase, &mut clear.clone(), None),
        forged
    );
    assert_eq!(opener.open(now, &mut pair.open, LinkId(5), pn, phase, &mut clear.clone(), None), forged);
    assert_eq!(opener.open(now, &mut pair.open, LinkId(4), pn, true, &mut clear.clone(), None), forged);
    let (_, mut reflected) = secrets(Suite::Aes256Gcm).split(Side::Initiator);
    let mut own = ChannelOpen::new(pair.id);
    assert_eq!(reflected.open(now, &mut own, LinkId(4), pn, phase, &mut clear.clone(), None), forged);
    assert_eq!(opener.open(now, &mut pair.open, LinkId(4), pn, phase, &mut clear, None), Ok(1));
}

#[test]
fn an_update_waits_for_an_acknowledgement_and_overtaken_packets_still_open() {
    let mut pair = Pair::new(Suite::Aes256Gcm);
    assert!(!pair.seal.update(pair.now), "nothing was sealed yet");
    let (early, before) = pair.seal(b"before");
    assert!(pair.seal.update(pair.now));
    let (late, after) = pair.seal(b"after");
    assert!(!pair.seal.update(pair.now), "the peer is not known to have this one");
    pair.seal.on_acked(pair.now, 0);
    assert!(!pair.seal.update(pair.now), "an acknowledgement of the old generation says nothing");
    assert_eq!(pair.open(late, &after).as_deref(), Ok(&b"after"[..]));
    assert_eq!(pair.open(early, &before).as_deref(), Ok(&b"before"[..]));
    pair.seal.on_acked(pair.now, 1);
    pair.pass(1999);
    assert!(!pair.seal.update(pair.now), "too soon");
    pair.pass(1);
    assert!(pair.seal.update(pair.now));
    pair.seal.on_acked(pair.now, 0);
    pair.pass(3000);
    assert!(!pair.seal.update(pair.now), "a late acknowledgement of the same phase says nothing, either");
    assert!(pair.carry(b"two generations on"));
    assert_eq!(pair.open(early, &before), Err(Undecryptable::Forged), "keys two generations old are gone");
    assert_eq!(pair.open(late, &after).as_deref(), Ok(&b"after"[..]));
    pair.pass(1000);
    assert_eq!(pair.open(late, &after), Err(Undecryptable::Forged), "the old key is not kept for ever");
    assert!(pair.carry(b"and a forgery in between did no harm"));
}

#[test]
fn a_key_seals_no_more_than_it_may() {
    let mut pair = Pair::new(Suite::Aes256Gcm);
    assert!(pair.carry(b"x"));
    pair.seal.set_sealed(UPDATE_AT);
    assert!(pair.carry(b"the first of the next generation"));
    assert_eq!(pair.seal.keys(), 1);
    pair.seal.set_sealed(SEAL_LIMIT - 1);
    let (_, _) = pair.seal(b"the last");
    let mut packet = vec![8; 40];
    let refused = pair.sealer.seal(pair.now, &mut pair.seal, LinkId(4), 99, &mut packet, 0, &[]);
    assert_eq!((refused, packet), (Err(Exhausted), vec![8; 40]));
    pair.pass(2000);
    assert!(pair.carry(b"the update that was waited for"));
    assert_eq!(pair.seal.keys(), 2);
}

#[test]
fn idle_channels_derive_the_same_keys_again() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        assert!(pair.carry(b"x"));
        assert!(pair.seal.update(pair.now));
        let (overtaken, old) = pair.seal(b"y");
        pair.seal.idle();
        pair.open.idle(pair.now);
        assert!(pair.carry(b"z"));
        pair.open.idle(pair.now);
        assert_eq!(pair.open(overtaken, &old).as_deref(), Ok(&b"y"[..]));
        assert!(size_of::<ChannelSeal>() + size_of::<ChannelOpen>() <= 192);
    }
}

#[test]
fn secrets_are_not_shown() {
    let pair = Pair::new(Suite::Aes256Gcm);
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        pair.sealer,
        pair.opener,
        pair.seal,
        pair.open,
        secrets(Suite::Aes256Gcm)
    );
    assert!(!shown.contains("key"), "{shown}");
}
