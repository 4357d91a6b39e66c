//! Whole handshakes through networks that lose, repeat, overtake and forge.

use std::{sync::Arc, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::network::{Blob, DELAY, Fate, Network, key, settings};
use crate::{
    PeerId, Side, Suite,
    handshake::{Cookies, Peer, Settings},
};

/// Every way to dial, with credentials that fit into few packets and such that do not.
fn cases() -> Vec<(String, Peer, [Settings; 2])> {
    let public = key(Side::Responder).public();
    let mut cases = Vec::new();
    for peer in [Peer::Key(public), Peer::Id(PeerId::of_static(&public)), Peer::Trusted] {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            for credentials in [[0, 0], [4000, 4000], [0, 4000], [4000, 0]] {
                let mut both = [settings(Side::Initiator), settings(Side::Responder)];
                both[0].suite = suite;
                for (settings, length) in both.iter_mut().zip(credentials) {
                    settings.credentials = Arc::new(Blob(length));
                }
                cases.push((format!("{peer:?} {suite:?} {credentials:?}"), peer, both));
            }
        }
    }
    cases
}

fn few() -> Vec<(String, Peer, [Settings; 2])> {
    cases().into_iter().filter(|(name, ..)| !name.contains("ChaCha") && !name.contains("Trusted")).collect()
}

fn network((_, peer, [initiator, responder]): &(String, Peer, [Settings; 2])) -> Network {
    Network::new(*peer, initiator.clone(), responder.clone())
}

/// Nothing more was sent to an unproven address than came from it: asked at every packet.
struct Balance {
    up: usize,
    down: usize,
    proved: bool,
}

impl Balance {
    fn new() -> Self {
        Self { up: 0, down: 0, proved: false }
    }

    fn look(&mut self, side: Side, packet: &[u8]) {
        match side {
            Side::Initiator => {
                self.up += packet.len();
                self.proved |= packet[20..28] == [0xBB; 8];
            }
            Side::Responder => {
                self.down += packet.len();
                assert!(self.proved || self.down <= self.up, "{} for {}", self.down, self.up);
            }
        }
    }
}

#[test]
fn without_trouble_it_takes_one_round_trip() {
    for case in cases() {
        let (name, mut network) = (&case.0, network(&case));
        let mut balance = Balance::new();
        network.run(|_, side, packet| {
            balance.look(side, packet);
            Fate::Deliver
        });
        network.assert_connected(name);
        let at = |side| network.end(side).done.as_ref().unwrap().at;
        let known = matches!(case.1, Peer::Key(_));
        // If the credentials of the responder are a surprise, there is no room for them at once.
        let surprise = name.contains("[0, 4000]");
        let trips = if surprise { 4 } else { 2 };
        assert_eq!(at(Side::Initiator), DELAY * trips, "{name}");
        let responder = if known { 1 } else { trips + 1 };
        assert_eq!(at(Side::Responder), DELAY * responder, "{name}");
    }
}

#[test]
fn any_one_packet_may_be_lost_repeated_late_or_forged() {
    for case in few() {
        let mut undisturbed = network(&case);
        undisturbed.run(|_, _, _| Fate::Deliver);
        for victim in 0..undisturbed.count {
            let late = Fate::Delay(Duration::from_millis(65));
            let very_late = Fate::Delay(Duration::from_secs(2));
            for fate in [Fate::Lose, Fate::Duplicate, late, very_late, Fate::Forge(700), Fate::Forge(60)] {
                let name = format!("{}, packet {victim}: {fate:?}", case.0);
                let mut network = network(&case);
                let mut balance = Balance::new();
                network.run(|number, side, packet| {
                    if number != victim {
                        balance.look(side, packet);
                        return Fate::Deliver;
                    }
                    let arrivals = match fate {
                        Fate::Lose if side == Side::Initiator => 0,
                        Fate::Duplicate if side == Side::Initiator => 2,
                        _ => 1,
                    };
                    (0..arrivals).for_each(|_| balance.look(side, packet));
                    fate
                });
                network.assert_connected(&name);
                let end = network.end(Side::Initiator).done.as_ref().unwrap().at;
                assert!(end <= Duration::from_millis(1500), "{name}: {end:?}");
            }
        }
    }
}

#[test]
fn any_two_packets_may_be_lost() {
    for case in few() {
        let mut undisturbed = network(&case);
        undisturbed.run(|_, _, _| Fate::Deliver);
        for first in 0..undisturbed.count {
            for second in first + 1..undisturbed.count + 2 {
                let mut network = network(&case);
                network.run(
                    |number, _, _| {
                        if number == first || number == second { Fate::Lose } else { Fate::Deliver }
                    },
                );
                network.assert_connected(&format!("{}, packets {first} and {second}", case.0));
            }
        }
    }
}

#[test]
fn a_third_of_all_packets_may_suffer() {
    for case in few() {
        let mut failed = 0;
        for seed in 0..40 {
            let mut rng = StdRng::from_seed([seed; 32]);
            let mut network = network(&case);
            network.run(|_, _, packet| match rng.random_range(0..24) {
                0..4 => Fate::Lose,
                4 | 5 => Fate::Duplicate,
                6 => Fate::Delay(Duration::from_millis(rng.random_range(0..400))),
                7 => Fate::Forge(rng.random_range(0..packet.len())),
                _ => Fate::Deliver,
            });
            failed += usize::from(network.ends.iter().any(|end| end.done.is_none()));
        }
        assert_eq!(failed, 0, "{}", case.0);
    }
}

#[test]
fn a_forged_byte_at_any_place_delays_and_does_no_more() {
    for case in few().into_iter().filter(|(name, ..)| name.contains("[0, 0]")) {
        let mut undisturbed = network(&case);
        undisturbed.run(|_, _, _| Fate::Deliver);
        for victim in 0..undisturbed.count {
            let length = undisturbed.record[victim].1.len();
            for byte in (victim % 2..length - 4).step_by(2) {
                let mut network = network(&case);
                network.run(|number, _, _| if number == victim { Fate::Forge(byte) } else { Fate::Deliver });
                network.assert_connected(&format!("{}, packet {victim}, byte {byte}", case.0));
            }
        }
    }
}

#[test]
fn under_load_a_cookie_costs_a_round_trip() {
    for case in few() {
        for lost in (0..8).chain([100]) {
            let mut network = network(&case);
            network.cookies = Some(Cookies::new([5; 32], network.start));
            network.run(|number, _, _| if number == lost { Fate::Lose } else { Fate::Deliver });
            network.assert_connected(&format!("{}, packet {lost} lost", case.0));
            assert!(network.retries > 0);
            if lost == 100 && case.0.contains("Key") {
                assert!(network.end(Side::Initiator).done.as_ref().unwrap().at <= DELAY * 5);
            }
        }
    }
}
