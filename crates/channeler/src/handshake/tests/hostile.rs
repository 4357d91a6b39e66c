//! Wrong peers, refusals, replays, and what somebody in between can do.

use std::{sync::Arc, time::Duration};

use super::network::{Blob, CIDS, DELAY, Fate, KEYS, Network, Strict, forge, key, packet, settings};
use crate::{
    ConnectionId, HandshakeError, KeyOnly, Peer, PeerId, Refused, Route, Side, StaticKey,
    handshake::{Cookies, Handshake, Progress, message},
    ranges::Ranges,
    wire::handshake::{HandshakePacket, parse},
};

const STRANGER: [u8; 32] = [0xCC; 32];

fn ways() -> [Peer; 3] {
    let public = key(Side::Responder).public();
    [Peer::Key(public), Peer::Id(PeerId::of_static(&public)), Peer::Trusted]
}

fn both(peer: Peer) -> Network {
    Network::new(peer, settings(Side::Initiator), settings(Side::Responder))
}

fn deliver(_: usize, _: Side, _: &[u8]) -> Fate {
    Fate::Deliver
}

#[test]
fn whoever_has_another_key_is_not_who_was_dialled() {
    let [known, named, anyone] = ways();
    let stranger = || {
        let mut settings = settings(Side::Responder);
        settings.key = StaticKey::from_bytes(STRANGER);
        settings
    };
    // The stranger cannot even read what is meant for another key; and its id is not in the packet.
    for (peer, error) in [(known, HandshakeError::TimedOut), (named, HandshakeError::TimedOut)] {
        let mut network = Network::new(peer, settings(Side::Initiator), stranger());
        network.run(deliver);
        assert_eq!(network.error(Side::Initiator), Some(&error), "{peer:?}");
        assert!(network.end(Side::Responder).done.is_none());
    }
    let mut initiator = settings(Side::Initiator);
    initiator.trust = Arc::new(KeyOnly::of([key(Side::Responder).public()]));
    let mut network = Network::new(anyone, initiator, stranger());
    network.run(deliver);
    let refused = HandshakeError::NotAdmitted(Refused::Unknown);
    assert_eq!(network.error(Side::Initiator), Some(&refused));
    assert!(network.end(Side::Responder).done.is_none(), "it is told nothing");
}

#[test]
fn who_answers_for_another_only_costs_patience() {
    let [_, named, _] = ways();
    for true_one_answers in [true, false] {
        let mut network = both(named);
        let mut hello = Vec::new();
        network.run(|number, side, packet| {
            if side == Side::Initiator && number < 2 {
                hello.push(packet.to_vec());
            }
            Fate::Lose
        });
        // Somebody in between answers, at once and properly, with a key of its own.
        let mut attacker = settings(Side::Responder);
        attacker.key = StaticKey::from_bytes(STRANGER);
        let public = key(Side::Responder).id();
        let mut network = both(named);
        let first = parse(&hello[0]).unwrap();
        let mut between =
            Handshake::responder(network.start, attacker, ConnectionId([0xEE; 8]), &first, true, [6; 32]);
        for bytes in &hello {
            let addressed = parse(bytes).unwrap();
            assert_eq!(addressed.recipient, public.0);
            let redirected = HandshakePacket { recipient: [0; 16], ..addressed };
            assert!(matches!(between.handle(network.start, &redirected, bytes.len()), Ok(Progress::More)));
        }
        let mut answer = Vec::new();
        while between.poll_transmit(network.start, 1200, &mut answer) {
            network.inject(network.start + DELAY, Side::Initiator, std::mem::take(&mut answer));
        }
        network.run(
            |_, side, _| {
                if side == Side::Responder && !true_one_answers { Fate::Lose } else { Fate::Deliver }
            },
        );
        if true_one_answers {
            network.assert_connected("though somebody else was faster");
        } else {
            let (at, error) = network.end(Side::Initiator).error.clone().unwrap();
            assert_eq!(error, HandshakeError::WrongPeer);
            assert_eq!(at, DELAY + Duration::from_secs(2));
        }
    }
}

#[test]
fn a_refused_initiator_is_told_why() {
    for peer in ways() {
        for lost in [usize::MAX, 2, 3, 4, 5] {
            let mut responder = settings(Side::Responder);
            responder.trust = Arc::new(Strict(|_| Err(Refused::Expired)));
            let mut network = Network::new(peer, settings(Side::Initiator), responder);
            network.run(|number, _, _| if number == lost { Fate::Lose } else { Fate::Deliver });
            let (at, error) = network.end(Side::Initiator).error.clone().unwrap();
            assert_eq!(error, HandshakeError::RefusedByPeer(Refused::Expired), "{peer:?}, {lost} lost");
            assert!(at < Duration::from_secs(1), "{at:?}");
            let refused = HandshakeError::NotAdmitted(Refused::Expired);
            assert_eq!(network.error(Side::Responder), Some(&refused));
        }
    }
}

#[test]
fn nobody_else_can_refuse() {
    let [_, named, _] = ways();
    let mut network = both(named);
    let mut done = false;
    let mut replies = Vec::new();
    network.run(|_, side, bytes| {
        if side == Side::Initiator && bytes[20..28] == CIDS[1].0 && !done {
            done = true;
            let mut payload = Vec::new();
            message::put_fragment(&mut payload, 3, 17, 0, &[2; 17]);
            let names: [[u8; 16]; 2] = [bytes[20..36].try_into().unwrap(), bytes[4..20].try_into().unwrap()];
            replies.push(packet(&names[0], &names[1], &payload));
        }
        Fate::Deliver
    });
    assert_eq!(replies.len(), 1, "the third message was seen");
    let mut again = both(named);
    again.inject(again.start + DELAY * 2 + Duration::from_millis(1), Side::Initiator, replies.remove(0));
    again.run(deliver);
    again.assert_connected("in spite of a false refusal");
}

#[test]
fn the_responder_shows_nothing_to_who_it_refuses_by_key() {
    let [known, ..] = ways();
    let mut responder = settings(Side::Responder);
    responder.trust = Arc::new(KeyOnly::of([STRANGER]));
    responder.credentials = Arc::new(Blob(4000));
    let mut network = Network::new(known, settings(Side::Initiator), responder);
    network.run(deliver);
    let shown =
        network.record.iter().filter(|(side, _)| *side == Side::Responder).map(|(_, packet)| packet.len());
    assert!(shown.max().unwrap() < 1200, "a refusal has no room for credentials");
}

#[test]
fn a_shared_secret_must_be_shared() {
    for peer in ways() {
        for (ours, theirs, alike) in [
            (Some([1; 32]), Some([1; 32]), true),
            (Some([1; 32]), Some([2; 32]), false),
            (Some([1; 32]), None, false),
            (None, Some([1; 32]), false),
        ] {
            let (mut a, mut b) = (settings(Side::Initiator), settings(Side::Responder));
            (a.shared_secret, b.shared_secret) = (ours, theirs);
            let mut network = Network::new(peer, a, b);
            network.run(deliver);
            if alike {
                network.assert_connected("with a shared secret");
            } else {
                assert_eq!(network.error(Side::Initiator), Some(&HandshakeError::TimedOut));
                assert!(
                    network.end(Side::Responder).done.as_ref().is_none_or(|_| matches!(peer, Peer::Key(_)))
                );
                assert_eq!(
                    network.error(Side::Responder),
                    Some(&HandshakeError::TimedOut),
                    "never confirmed"
                );
            }
        }
    }
}

#[test]
fn another_ciphertext_is_noticed() {
    // The ciphertext stands in clear at the front of the answer: each of its bytes counts, as does the key that it is for.
    for peer in ways() {
        let mut undisturbed = both(peer);
        undisturbed.run(deliver);
        let answer = undisturbed.record.iter().position(|(side, _)| *side == Side::Responder).unwrap();
        for byte in (60..1150).step_by(97) {
            let mut network = both(peer);
            network.run(|number, side, _| match side {
                Side::Responder if number == answer => Fate::Forge(byte),
                Side::Responder if number > answer && number < answer + 2 => Fate::Deliver,
                Side::Responder => Fate::Lose,
                Side::Initiator => Fate::Deliver,
            });
            assert!(network.end(Side::Initiator).done.is_none(), "{peer:?}, byte {byte}");
        }
    }
}

#[test]
fn replays_come_to_nothing() {
    for peer in ways() {
        let mut network = both(peer);
        network.run(deliver);
        network.assert_connected("the original");
        // All that the initiator sent, to a responder that has forgotten it and draws other numbers.
        let sent: Vec<_> = network.record.iter().filter(|(side, _)| *side == Side::Initiator).collect();
        let first = parse(&sent[0].1).unwrap();
        let own = settings(Side::Responder);
        let mut again =
            Handshake::responder(network.now, own, ConnectionId([0xB3; 8]), &first, false, [77; 32]);
        let mut answered = 0;
        for (_, bytes) in &sent {
            let progress = again.handle(network.now, &parse(bytes).unwrap(), bytes.len()).unwrap();
            if let Progress::Complete(established) = progress {
                assert!(!established.confirmed && matches!(peer, Peer::Key(_)), "{peer:?}");
            }
            let mut out = Vec::new();
            while again.poll_transmit(network.now, 1200, &mut out) {}
            answered += out.len();
        }
        assert!(answered <= sent.iter().map(|(_, bytes)| bytes.len()).sum());
        // And what the responder sent, to another attempt of the initiator.
        let mut fresh =
            Handshake::initiator(network.now, settings(Side::Initiator), peer, CIDS[0], [78; 32]).unwrap();
        for (_, bytes) in network.record.iter().filter(|(side, _)| *side == Side::Responder) {
            assert!(matches!(
                fresh.handle(network.now, &parse(bytes).unwrap(), bytes.len()),
                Ok(Progress::More)
            ));
        }
    }
}

#[test]
fn two_that_dial_each_other_at_once_get_two_connections() {
    for peer in ways() {
        let mut there = both(peer);
        let own = key(Side::Initiator).public();
        let back = match peer {
            Peer::Key(_) => Peer::Key(own),
            Peer::Id(_) => Peer::Id(PeerId::of_static(&own)),
            Peer::Trusted => Peer::Trusted,
        };
        let mut other_way = Network::new(back, settings(Side::Responder), settings(Side::Initiator));
        there.run(deliver);
        other_way.run(deliver);
        there.assert_connected("there");
        let peer_of = |side| other_way.end(side).done.as_ref().unwrap().peer.static_key;
        assert_eq!(peer_of(Side::Initiator), StaticKey::from_bytes(KEYS[0]).public());
        assert_eq!(peer_of(Side::Responder), StaticKey::from_bytes(KEYS[1]).public());
    }
}

#[test]
fn garbage_from_the_peers_address_is_bounded_and_kills_nothing() {
    let mut network = both(ways()[1]);
    let mut poison = Vec::new();
    network.run(|number, side, bytes| {
        if number == 0 && side == Side::Initiator {
            let own: [u8; 16] = bytes[4..20].try_into().unwrap();
            let mut theirs = own;
            theirs[..8].copy_from_slice(&CIDS[1].0);
            for (step, total) in [(0, 16_384), (1, 16_384), (2, 9000), (3, 1), (4, 0)] {
                for piece in 0..100_u32 {
                    let mut payload = Vec::new();
                    let offset = (piece * 160 + step).min(total);
                    let length = (total - offset).min(3) as usize;
                    message::put_fragment(&mut payload, 1, total, offset, &[0x5A; 3][..length]);
                    message::put_received(&mut payload, 0, &Ranges::of(0, 16_384));
                    message::put_retry(&mut payload, &[piece as u8; 17]);
                    poison.push(packet(&theirs, &own, &payload));
                }
            }
            poison.push(packet(&theirs, &own, &[0xFF; 900]));
            poison.push(packet(&theirs, &own, &[64, 0, 64, 1, 9, 65, 1, 1, 67, 2, 0, 200]));
        }
        Fate::Deliver
    });
    network.assert_connected("first, undisturbed");
    let mut network = both(ways()[1]);
    for (index, bytes) in poison.into_iter().enumerate() {
        network.inject(network.start + Duration::from_millis(index as u64 / 20), Side::Initiator, bytes);
    }
    network.run(deliver);
    network.assert_connected("in spite of five hundred packets of garbage");
    assert!(network.end(Side::Initiator).packets < 520, "{}", network.end(Side::Initiator).packets);
}

#[test]
fn a_cookie_is_for_one_sender_address_and_time() {
    let mut network = both(ways()[0]);
    network.run(deliver);
    let bytes = &network.record[0].1;
    let hello = parse(bytes).unwrap();
    let start = network.start;
    let cookies = Cookies::new([3; 32], start);
    let here = Route::datagram("192.0.2.1:4000".parse().unwrap());
    assert!(Cookies::may_begin(&hello, here, 1200));
    assert!(!Cookies::may_begin(&hello, here, 1199), "the answer to a short one could be larger");
    assert!(!Cookies::may_begin(&parse(&network.record.last().unwrap().1).unwrap(), here, 1200));
    let mut retry = Vec::new();
    assert!(cookies.retry(start, here, &hello, &mut retry));
    assert!(retry.len() < 100);
    let asked = parse(&retry).unwrap();
    let Some(message::Message::Retry(cookie)) = message::parse(asked.payload).next() else {
        panic!("no cookie")
    };
    let with = |cookie: &[u8; 17]| {
        let mut payload = Vec::new();
        message::put_cookie(&mut payload, cookie);
        payload
    };
    let payload = with(cookie);
    let shown = HandshakePacket { payload: &payload, ..hello };
    let later = |seconds| start + Duration::from_secs(seconds);
    assert!(cookies.check(later(0), here, &shown) && cookies.check(later(19), here, &shown));
    assert!(!cookies.check(later(20), here, &shown), "too old");
    let elsewhere = ["192.0.2.1:4001", "192.0.2.2:4000", "[2001:db8::1]:4000"];
    for address in elsewhere {
        assert!(!cookies.check(start, Route::datagram(address.parse().unwrap()), &shown), "{address}");
    }
    assert!(!cookies.check(start, Route::Stream(0), &shown));
    assert!(!cookies.check(start, here, &HandshakePacket { sender: [1; 16], ..shown }), "another attempt");
    assert!(!Cookies::new([4; 32], start).check(start, here, &shown), "another endpoint");
    for byte in 1..17 {
        let mut forged = *cookie;
        forged[byte] ^= 1;
        assert!(!cookies.check(start, here, &HandshakePacket { payload: &with(&forged), ..hello }));
    }
    assert!(!cookies.check(start, here, &hello), "none at all");
    assert!(parse(&forge(&retry, 50)).is_ok(), "the envelope proves nothing");
}
