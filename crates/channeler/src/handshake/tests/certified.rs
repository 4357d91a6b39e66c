//! Certificates of devices.

use std::sync::Arc;

use towline_identity::{Chain, GenerateOptions, Hierarchy, Identity, KeySize, PrivateKey, Validity};

use super::network::{Fate, Network, key, settings};
use crate::{
    Certified, CertifiedPeers, Credentials, HandshakeError, Peer, PeerId, Refused, Side, StaticKey, Trust,
    handshake::Settings,
};

pub(super) const NOW: i64 = 1_800_000_000;

pub(super) fn hierarchy(size: KeySize) -> Hierarchy {
    let options = GenerateOptions { key_size: size, ..GenerateOptions::new(NOW) };
    Hierarchy::generate(&options).unwrap()
}

fn certified(side: Side, identity: &Identity, trust: CertifiedPeers) -> Settings {
    let mut settings = settings(side);
    settings.credentials = Arc::new(Certified::new(identity, &settings.key, NOW + 1000));
    settings.trust = Arc::new(trust);
    settings
}

#[test]
fn devices_know_each_other_by_their_certificates() {
    let (a, b) = (hierarchy(KeySize::Rsa2048).device, hierarchy(KeySize::Rsa2048).device);
    for peer in [Peer::Key(key(Side::Responder).public()), Peer::Id(key(Side::Responder).id()), Peer::Trusted]
    {
        let mut network = Network::new(
            peer,
            certified(Side::Initiator, &a, CertifiedPeers::device(b.device_id())),
            certified(Side::Responder, &b, CertifiedPeers::new(|_, _| Ok(()))),
        );
        network.run(|_, _, _| Fate::Deliver);
        network.assert_connected("certified");
        for (side, other) in [(Side::Initiator, &b), (Side::Responder, &a)] {
            let identity = &network.end(side).done.as_ref().unwrap().peer;
            assert_eq!(identity.device(), Some(other.device_id()));
            assert_eq!(identity.account(), other.account_id());
            assert_eq!(identity.id(), PeerId::of_static(&key(side.peer()).public()));
        }
        // Another device than the one that is meant, and an account whose devices are not wanted any more.
        for (trust, reason) in [
            (CertifiedPeers::device(a.device_id()), Refused::WrongDevice),
            (CertifiedPeers::new(|_, _| Err(Refused::Unknown)), Refused::Unknown),
        ] {
            let mut network = Network::new(
                peer,
                certified(Side::Initiator, &a, trust),
                certified(Side::Responder, &b, CertifiedPeers::new(|_, _| Ok(()))),
            );
            network.run(|_, _, _| Fate::Deliver);
            assert_eq!(
                network.error(Side::Initiator),
                Some(&HandshakeError::NotAdmitted(reason)),
                "{peer:?}"
            );
        }
    }
}

#[test]
fn a_word_that_is_false_or_old_or_for_another_key_is_refused() {
    let Hierarchy { account, device, .. } = hierarchy(KeySize::Rsa2048);
    let (own, other) = (StaticKey::from_bytes([1; 32]), StaticKey::from_bytes([2; 32]));
    let payload = Certified::new(&device, &own, NOW).payload();
    let admit = |peers: &CertifiedPeers, key: &StaticKey, payload: &[u8], now| {
        peers.admit(&key.public(), payload, now).map(|identity| identity.device())
    };
    let anyone = || CertifiedPeers::new(|_, _| Ok(()));
    let peers = anyone();
    for _ in 0..2 {
        // The second time from memory.
        assert_eq!(admit(&peers, &own, &payload, NOW), Ok(Some(device.device_id())));
        assert_eq!(admit(&peers, &own, &payload, NOW + 1), Err(Refused::Expired));
        assert_eq!(admit(&peers, &other, &payload, NOW), Err(Refused::False));
    }
    assert_eq!(admit(&peers, &own, &[], NOW), Err(Refused::Malformed));
    // What the root says about itself is nobody's word; all before it is.
    let root = device.chain().top().der().len();
    for byte in (0..payload.len() - root).step_by(23) {
        let mut forged = payload.to_vec();
        forged[byte] ^= 1;
        assert!(admit(&peers, &own, &forged, NOW).is_err(), "byte {byte}");
        assert!(admit(&peers, &own, &payload[..byte], NOW).is_err(), "{byte} bytes");
    }
    // A chain whose links do not hold: the device's certificate before another account's.
    let stranger = hierarchy(KeySize::Rsa2048).account;
    let chain = [&device.chain().certificates()[..1], stranger.chain().certificates()].concat();
    let patched = Identity::new(device.key().clone(), Chain::new(chain).unwrap()).unwrap();
    let payload = Certified::new(&patched, &own, NOW).payload();
    assert_eq!(admit(&peers, &own, &payload, NOW), Err(Refused::False));
    // Whoever names a device means it as long as its certificates count.
    let validity = Validity { not_before: NOW - 100, not_after: NOW + 100 };
    let short = PrivateKey::generate(KeySize::Rsa2048).unwrap();
    let short = account.issue_device(short, "short", validity).unwrap();
    let payload = Certified::new(&short, &own, NOW + 1000).payload();
    let peers = CertifiedPeers::device(short.device_id());
    assert_eq!(admit(&peers, &own, &payload, NOW), Ok(Some(short.device_id())));
    for now in [NOW - 101, NOW + 101] {
        assert_eq!(admit(&peers, &own, &payload, now), Err(Refused::Expired));
        assert!(admit(&anyone(), &own, &payload, now).is_ok(), "the policy of others is their own");
    }
    // Trust that is withdrawn counts at once, though the signatures are remembered.
    let revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = Arc::clone(&revoked);
    let peers = CertifiedPeers::new(move |_, _| {
        if asked.load(std::sync::atomic::Ordering::Relaxed) { Err(Refused::Unknown) } else { Ok(()) }
    });
    let second = PrivateKey::generate(KeySize::Rsa2048).unwrap();
    let second = account.issue_device(second, "second", Validity::ten_years_from(NOW)).unwrap();
    let payload = Certified::new(&second, &own, NOW).payload();
    assert_eq!(admit(&peers, &own, &payload, NOW), Ok(Some(second.device_id())));
    revoked.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(admit(&peers, &own, &payload, NOW), Err(Refused::Unknown));
}
