//! Our Noise against another implementation, in both roles.

use rand::{SeedableRng as _, rngs::StdRng};
use zeroize::Zeroizing;

use super::super::{
    StaticKey,
    noise::{Noise, Pattern, Unauthentic},
};
use crate::{Side, Suite};

const CASES: [(Pattern, Suite, &str); 4] = [
    (Pattern::Ik, Suite::Aes256Gcm, "Noise_IKpsk2_25519_AESGCM_SHA256"),
    (Pattern::Ik, Suite::ChaCha20Poly1305, "Noise_IKpsk2_25519_ChaChaPoly_SHA256"),
    (Pattern::Xx, Suite::Aes256Gcm, "Noise_XXpsk2_25519_AESGCM_SHA256"),
    (Pattern::Xx, Suite::ChaCha20Poly1305, "Noise_XXpsk2_25519_ChaChaPoly_SHA256"),
];
const INITIATOR: [u8; 32] = [0x11; 32];
const RESPONDER: [u8; 32] = [0x22; 32];
const PSK: [u8; 32] = [0x33; 32];

fn ours(pattern: Pattern, suite: Suite, side: Side) -> Noise {
    let (own, peer) = match side {
        Side::Initiator => (INITIATOR, Some(StaticKey::from_bytes(RESPONDER).public())),
        Side::Responder => (RESPONDER, None),
    };
    let mut noise = Noise::new(pattern, suite, side, StaticKey::from_bytes(own), peer, b"a prologue");
    noise.set_psk(Zeroizing::new(PSK));
    noise
}

fn theirs(pattern: Pattern, name: &str, side: Side) -> snow::HandshakeState {
    let responder = StaticKey::from_bytes(RESPONDER).public();
    let builder =
        snow::Builder::new(name.parse().unwrap()).prologue(b"a prologue").unwrap().psk(2, &PSK).unwrap();
    match side {
        Side::Initiator => {
            let mut builder = builder.local_private_key(&INITIATOR).unwrap();
            if pattern == Pattern::Ik {
                builder = builder.remote_public_key(&responder).unwrap();
            }
            builder.build_initiator().unwrap()
        }
        Side::Responder => builder.local_private_key(&RESPONDER).unwrap().build_responder().unwrap(),
    }
}

#[test]
fn another_implementation_understands_us_and_we_understand_it() {
    for (pattern, suite, name) in CASES {
        for side in [Side::Initiator, Side::Responder] {
            let (mut ours, mut theirs) = (ours(pattern, suite, side), theirs(pattern, name, side.peer()));
            let mut rng = StdRng::from_seed([7; 32]);
            for message in 0..pattern.messages() {
                let payload = vec![message as u8; 100 * message];
                if (message % 2 == 0) == (side == Side::Initiator) {
                    let mut bytes = Vec::new();
                    ours.write(&payload, &mut rng, &mut bytes).unwrap();
                    let mut plain = vec![0; bytes.len()];
                    let length = theirs.read_message(&bytes, &mut plain).unwrap();
                    assert_eq!(plain[..length], payload, "{name} {side:?} {message}");
                } else {
                    let mut bytes = vec![0; 1000];
                    let length = theirs.write_message(&payload, &mut bytes).unwrap();
                    assert_eq!(ours.read(&bytes[..length]).unwrap(), payload, "{name} {side:?} {message}");
                }
            }
            let split = ours.split().unwrap();
            let (initiator, responder) = theirs.dangerously_get_raw_split();
            assert_eq!((*split.initiator, *split.responder), (initiator, responder), "{name} {side:?}");
            assert_eq!(split.hash[..], *theirs.get_handshake_hash());
            let peer = if side == Side::Initiator { RESPONDER } else { INITIATOR };
            assert_eq!(ours.peer_static(), Some(StaticKey::from_bytes(peer).public()));
        }
    }
}

#[test]
fn a_forged_message_leaves_no_trace() {
    for (pattern, suite, _) in CASES {
        let (mut a, mut b) = (ours(pattern, suite, Side::Initiator), ours(pattern, suite, Side::Responder));
        let mut rng = StdRng::from_seed([8; 32]);
        for message in 0..pattern.messages() {
            let mut bytes = Vec::new();
            a.write(b"payload", &mut rng, &mut bytes).unwrap();
            for at in 0..bytes.len() {
                let mut forged = bytes.clone();
                forged[at] ^= 0x40;
                assert_eq!(b.read(&forged), Err(Unauthentic), "{pattern:?} message {message} byte {at}");
                assert_eq!(b.read(&bytes[..at]), Err(Unauthentic));
            }
            assert_eq!(b.read(&bytes).unwrap(), b"payload");
            (a, b) = (b, a);
        }
        assert!(a.split().unwrap().hash == b.split().unwrap().hash);
    }
}

#[test]
fn keys_of_low_order_are_refused() {
    let mut point = [0; 32];
    for low in [0, 1] {
        point[0] = low;
        let key = StaticKey::from_bytes(INITIATOR);
        let mut noise = Noise::new(Pattern::Ik, Suite::Aes256Gcm, Side::Initiator, key, Some(point), b"");
        let mut rng = StdRng::from_seed([9; 32]);
        assert_eq!(noise.write(b"", &mut rng, &mut Vec::new()), Err(Unauthentic));
    }
}
