//! Known answers, computed by an independent program from the description of the protocol.

use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::network::{CIDS, KEYS, key, settings};
use crate::{
    Peer, Side, Suite,
    crypto::ChannelSeal,
    handshake::{Handshake, Progress, message, noise::sha256},
    wire::handshake::parse,
};

const SEEDS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// What the two draw from their seeds, in the order in which they do.
fn chance() -> Value {
    let [mut a, mut b] = SEEDS.map(StdRng::from_seed);
    json!({
        "attempt": hex::encode(a.random::<[u8; 8]>()),
        "kem_seed": hex::encode(a.random::<[u8; 64]>()),
        "initiator_ephemeral": hex::encode(a.random::<[u8; 32]>()),
        "kem_message": hex::encode(b.random::<[u8; 32]>()),
        "responder_ephemeral": hex::encode(b.random::<[u8; 32]>()),
    })
}

/// The handshake messages, each put together from its fragments, and a packet of each side.
fn run(peer: Peer, suite: Suite, shared_secret: Option<[u8; 32]>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let now = Instant::now();
    let [mut one, mut two] = [settings(Side::Initiator), settings(Side::Responder)];
    (one.suite, one.shared_secret, two.shared_secret) = (suite, shared_secret, shared_secret);
    let mut a = Handshake::initiator(now, one, peer, CIDS[0], SEEDS[0]).unwrap();
    let (mut b, mut messages, mut sealed) = (None, vec![Vec::new(); 3], vec![Vec::new(); 2]);
    while sealed.contains(&Vec::new()) {
        for side in [Side::Initiator, Side::Responder] {
            let mut bytes = Vec::new();
            loop {
                bytes.clear();
                let sender = if side == Side::Initiator { Some(&mut a) } else { b.as_mut() };
                if !sender.is_some_and(|sender| sender.poll_transmit(now, 1200, &mut bytes)) {
                    break;
                }
                let packet = parse(&bytes).unwrap();
                for part in message::parse(packet.payload) {
                    if let message::Message::Fragment { message, bytes, .. } = part {
                        messages[usize::from(message)].extend_from_slice(bytes);
                    }
                }
                let receiver = match side {
                    Side::Responder => &mut a,
                    Side::Initiator => b.get_or_insert_with(|| {
                        Handshake::responder(now, two.clone(), CIDS[1], &packet, true, SEEDS[1])
                    }),
                };
                if let Progress::Complete(established) = receiver.handle(now, &packet, bytes.len()).unwrap() {
                    let own = side.peer();
                    let (sealer, _) = established.secrets.split(own);
                    let mut packet =
                        [&[8, 0, 0, 0, 0xF0, 0xF0, 0xF0, 0xF0][..], &established.peer_cid.0, b"known answer"]
                            .concat();
                    let mut channel = ChannelSeal::new(crate::ChannelId::CONTROL);
                    sealer.seal(now, &mut channel, crate::LinkId(0), 0, &mut packet, 0, &[]).unwrap();
                    sealed[own as usize] = packet;
                }
            }
        }
    }
    (messages, sealed)
}

#[test]
fn known_answers() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/handshake-v1.json")).unwrap();
    assert_eq!(vectors["chance"], chance());
    assert_eq!(vectors["static_keys"], json!(KEYS.map(hex::encode)));
    for vector in vectors["handshakes"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let public = key(Side::Responder).public();
        let peer = if text("pattern") == "IK" { Peer::Key(public) } else { Peer::Trusted };
        let suite = if text("suite") == "AES-256-GCM" { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 };
        let secret =
            vector["shared_secret"].as_str().map(|secret| hex::decode(secret).unwrap().try_into().unwrap());
        let (messages, sealed) = run(peer, suite, secret);
        let hashes: Vec<_> = messages
            .iter()
            .filter(|message| !message.is_empty())
            .map(|message| hex::encode(sha256(&[message])))
            .collect();
        assert_eq!(vector["message_hashes"], json!(hashes), "{vector}");
        assert_eq!(vector["packets"], json!(sealed.iter().map(hex::encode).collect::<Vec<_>>()), "{vector}");
    }
}
