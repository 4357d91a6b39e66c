//! What it costs, in optimised builds: `cargo test --release -p towline-channeler --lib -- --nocapture cost`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use towline_identity::KeySize;

use super::{
    certified::{NOW, hierarchy},
    network::{CIDS, key, settings},
};
use crate::{
    Certified, CertifiedPeers, ChannelId, ConnectionId, LinkId, Peer, Side, Suite,
    crypto::{ChannelOpen, ChannelSeal, ConnectionSecrets},
    handshake::{Handshake, Progress, Settings},
    wire::{handshake::parse, header::Header},
};

/// Both sides of one connect, with a perfect network between them.
fn connect(peer: Peer, both: &[Settings; 2], seed: u8) {
    let now = Instant::now();
    let [initiator, responder] = both;
    let mut a = Handshake::initiator(now, initiator.clone(), peer, CIDS[0], [seed; 32]).unwrap();
    let mut b: Option<Handshake> = None;
    let mut done = 0;
    while done < 2 {
        let mut bytes = Vec::new();
        while a.poll_transmit(now, 1200, &mut bytes) {
            let packet = parse(&bytes).unwrap();
            let b = b.get_or_insert_with(|| {
                Handshake::responder(now, responder.clone(), CIDS[1], &packet, false, [seed ^ 0xFF; 32])
            });
            done += usize::from(matches!(b.handle(now, &packet, bytes.len()), Ok(Progress::Complete(_))));
            bytes.clear();
        }
        while b.as_mut().unwrap().poll_transmit(now, 1200, &mut bytes) {
            let packet = parse(&bytes).unwrap();
            done += usize::from(matches!(a.handle(now, &packet, bytes.len()), Ok(Progress::Complete(_))));
            bytes.clear();
        }
    }
}

/// What this thread had of a processor so far.
fn processor_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split_whitespace().next().unwrap().parse().unwrap())
}

/// The fastest of several rounds, each divided by `times`.
fn best(times: u32, mut work: impl FnMut(u32)) -> Duration {
    let round = |work: &mut dyn FnMut(u32)| {
        let start = processor_time();
        (0..times).for_each(work);
        processor_time().saturating_sub(start) / times
    };
    (0..7).map(|_| round(&mut work)).min().unwrap()
}

#[test]
fn cost_of_a_connect() {
    if cfg!(debug_assertions) {
        return;
    }
    let public = key(Side::Responder).public();
    let plain = [settings(Side::Initiator), settings(Side::Responder)];
    let identities = [hierarchy(KeySize::default()).device, hierarchy(KeySize::default()).device];
    let credentials: Vec<_> = [Side::Initiator, Side::Responder]
        .map(|side| Arc::new(Certified::new(&identities[side as usize], &key(side), NOW + 1000)))
        .into();
    let certified = |memory: bool| {
        let remembered = CertifiedPeers::new(|_, _| Ok(()));
        let credentials = credentials.clone();
        move || {
            [Side::Initiator, Side::Responder].map(|side| {
                let trust = if memory { remembered.clone() } else { CertifiedPeers::new(|_, _| Ok(())) };
                let credentials = Arc::clone(&credentials[side as usize]);
                Settings { credentials, trust: Arc::new(trust), ..settings(side) }
            })
        }
    };
    for (name, peer) in [("IK", Peer::Key(public)), ("XX", Peer::Trusted)] {
        let time = best(200, |i| connect(peer, &plain, i as u8));
        eprintln!("connect {name}, keys only, both ends: {time:?}");
        for (memory, word) in [(false, "first time"), (true, "remembered")] {
            let make = certified(memory);
            let time = best(200, |i| connect(peer, &make(), i as u8));
            eprintln!("connect {name}, RSA-3072 chain of three, {word}, both ends: {time:?}");
        }
    }
}

#[test]
fn cost_of_a_packet() {
    const PACKET: usize = 1452;
    if cfg!(debug_assertions) {
        return;
    }
    let raw = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).unwrap());
    let mut buffer = vec![0; PACKET - 32];
    let nonce = |i: u32| {
        let mut nonce = [0; 12];
        nonce[8..].copy_from_slice(&i.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    };
    let both_raw = best(100_000, |i| {
        let tag = raw.seal_in_place_separate_tag(nonce(i), Aad::from([0; 16]), &mut buffer).unwrap();
        buffer.extend_from_slice(tag.as_ref());
        raw.open_in_place(nonce(i), Aad::from([0; 16]), &mut buffer).unwrap();
        buffer.truncate(PACKET - 32);
    });
    eprintln!("AES-256-GCM alone, seal and open {PACKET} bytes: {both_raw:?}");
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let secrets = || ConnectionSecrets::new(suite, &[1; 32], &[2; 32], &[3; 32]);
        let (sealer, _) = secrets().split(Side::Initiator);
        let (_, mut opener) = secrets().split(Side::Responder);
        let id = ChannelId::new(Side::Initiator, 1);
        let (mut seal, mut open) = (ChannelSeal::new(id), ChannelOpen::new(id));
        let now = Instant::now();
        let mut packet = Vec::with_capacity(PACKET);
        let mut pn = 0;
        let time = best(100_000, |_| {
            pn += 1;
            let header = Header { phase: false, spin: false, pn, channel: id, cid: ConnectionId([7; 8]) };
            packet.resize(PACKET - 16, 0);
            packet[..16].copy_from_slice(&header.encode());
            sealer.seal(now, &mut seal, LinkId(0), pn, &mut packet, 0).unwrap();
            let header = opener.unprotect(&mut packet).unwrap();
            opener.open(now, &mut open, LinkId(0), pn, header.phase, &mut packet).unwrap();
            packet.truncate(PACKET - 16);
        });
        assert!(suite != Suite::Aes256Gcm || time < both_raw * 2, "{time:?} for {both_raw:?}");
        eprintln!("{suite:?}: seal and open a packet of {PACKET} bytes, header masked: {time:?}");
    }
}
