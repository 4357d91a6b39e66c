//! A peer that knows the keys and breaks the rules, or whose packets come in the worst order.

use std::time::Duration;

use super::{Host, Pair, came_by, route};
use crate::{
    Capabilities, ChannelId, Code, Config, Event, Handled, LinkId, OpenOptions, Peer, Reason, Resend, Side,
    StaticKey,
    reset::{RESET_LEN, Reset},
    wire::message::{put_data, put_part, put_reset, put_retire_link},
};

/// An ACK of everything from 0 to `largest` on link 0, whatever was passed over.
fn ack_runs(pair: &mut Pair, by: usize) -> Vec<u8> {
    let connection = pair.hosts[by].connection();
    let mut plain = Vec::new();
    let link = connection.links.at(0);
    assert!(link.write_ack(pair.now, &mut plain, 1000, LinkId(0)));
    plain
}

/// The acknowledgement of the last thing that holds a channel comes in a packet of that channel.
#[test]
fn a_channel_is_released_by_a_packet_of_its_own() {
    let mut pair = Pair::connected();
    let id = pair.open(OpenOptions::default(), b"hello");
    pair.run(10);
    let now = pair.now;
    pair.hosts[1].connection().reset(now, id, Code::DONE).unwrap();
    // The first hears it and answers, and the second hears that, but its own acknowledgement waits in a packet of the channel.
    let [first, second] = &mut pair.hosts;
    for (route, mut packet) in second.drain(now) {
        first.take(now, came_by(route), &mut packet);
    }
    for (route, mut packet) in first.drain(now) {
        second.take(now, came_by(route), &mut packet);
    }
    assert!(second.drain(now).len() < 3);
    let mut plain = ack_runs(&mut pair, 1);
    put_data(&mut plain, 0, false, b"");
    pair.inject(1, id, &plain);
    pair.run(3);
    assert_eq!(pair.hosts[0].connection().closed(), None);
    assert!(pair.hosts[0].events.contains(&Event::Ended(id, Reason::Peer(Code::DONE))));
}

/// What was sent before a RESET overtakes nothing, but may be overtaken by it: nobody broke a rule.
#[test]
fn a_reset_overtakes_the_opening() {
    for capabilities in [Capabilities::stream(), Capabilities::datagram()] {
        let mut pair = Pair::connected();
        let now = pair.now;
        let first = pair.hosts[0].connection();
        let id = first.open(now, OpenOptions { capabilities, ..OpenOptions::default() }).unwrap();
        // More than a stream's first window.
        for _ in 0..40 {
            let _ = first.write(now, id, &[7; 10_000]);
        }
        let late = pair.hosts[0].drain(now);
        pair.hosts[0].connection().reset(now, id, Code::DONE).unwrap();
        pair.run(4);
        for (route, mut packet) in late {
            let now = pair.now;
            pair.hosts[1].take(now, came_by(route), &mut packet);
        }
        pair.run(10);
        for host in &mut pair.hosts {
            assert_eq!(host.connection().closed(), None, "{capabilities:?}");
            assert_eq!(host.connection().slots.len(), 0);
        }
    }
}

/// A RESET of a message channel of which nothing else ever arrived may count more than a stream's first window.
#[test]
fn a_reset_of_a_message_channel_may_have_used_its_larger_window() {
    let mut pair = Pair::connected();
    let mut plain = Vec::new();
    put_reset(&mut plain, ChannelId::new(Side::Initiator, 3), Code::DONE, 1 << 20);
    pair.inject(0, ChannelId::CONTROL, &plain);
    assert_eq!(pair.hosts[1].connection().closed(), None);
}

/// Links that the peer adds and retires at once are bounded, too.
#[test]
fn links_that_leave_are_bounded() {
    let mut pair = Pair::connected();
    for round in 1..100 {
        let now = pair.now;
        let connection = pair.hosts[0].connection();
        if let Ok(link) = connection.add_link(now, super::route(2 * round + 1)) {
            pair.run(1);
            let mut plain = Vec::new();
            put_retire_link(&mut plain, link, Code::DONE);
            pair.inject(0, ChannelId::CONTROL, &plain);
            let now = pair.now;
            pair.hosts[0].connection().close_link(now, link);
        }
        pair.run(1);
    }
    let places = pair.hosts[1].connection().links.iter().count();
    assert!(places <= 16, "{places}");
    assert_eq!(pair.hosts[1].connection().closed(), None);
}

/// The end of a channel whose keys were changed, lost on its way back.
#[test]
fn a_channel_that_is_forgotten_still_acknowledges_whatever_its_keys() {
    let mut pair = Pair::connected();
    let id = pair.open(OpenOptions::default(), b"hello");
    for _ in 0..3 {
        let now = pair.now;
        assert_eq!(pair.hosts[0].connection().update_keys(now, id), Ok(true));
        pair.hosts[0].connection().write(now, id, b"x").unwrap();
        pair.run(8);
        pair.now += Duration::from_secs(3);
        pair.run(2);
        let now = pair.now;
        assert!(pair.hosts[1].connection().read(now, id, &mut [0; 8]).is_ok());
    }
    let now = pair.now;
    pair.hosts[1].connection().finish(now, id).unwrap();
    pair.run(8);
    assert!(pair.hosts[0].connection().read(pair.now, id, &mut [0; 8]).is_ok());
    let now = pair.now;
    pair.hosts[0].connection().finish(now, id).unwrap();
    // It arrives; the acknowledgement does not.
    let [first, second] = &mut pair.hosts;
    for (route, mut packet) in first.drain(now) {
        second.take(now, came_by(route), &mut packet);
    }
    assert!(second.connection().read(now, id, &mut [0; 8]).is_ok());
    let _lost = second.drain(now + Duration::from_millis(50));
    assert_eq!(second.connection().slots.len(), 0);
    for _ in 0..40 {
        pair.now += Duration::from_millis(20);
        pair.run(2);
    }
    assert_eq!(pair.hosts[0].connection().slots.len(), 0, "{:?}", pair.hosts[1].connection().stats());
    assert_eq!(pair.hosts[1].connection().stats().undecryptable, 0);
}

/// A part of a message beyond a hole, on a channel that is told not to wait for any.
#[test]
fn no_wait_is_no_loop() {
    let config = crate::Config { reorder_wait: Some(Duration::ZERO), ..crate::Config::default() };
    let mut pair = Pair::new(&config, |key| crate::Peer::Key(key.public()));
    let capabilities = Capabilities { ordered: true, resend: Resend::No, close_on_loss: false };
    let id = pair.open(OpenOptions { capabilities, ..OpenOptions::default() }, b"hello");
    let mut plain = Vec::new();
    put_part(&mut plain, Some(2), false, 10, b"half of");
    pair.inject(0, id, &plain);
    pair.run(20);
}

/// Many such channels that end together.
#[test]
fn many_channels_that_are_forgotten_still_acknowledge_whatever_their_keys() {
    let mut pair = Pair::connected();
    let ids: Vec<_> = (0..200).map(|_| pair.open(OpenOptions::default(), b"hello")).collect();
    let each = |pair: &mut Pair, host: usize, act: &dyn Fn(&mut crate::Connection, ChannelId)| {
        for &id in &ids {
            act(pair.hosts[host].connection(), id);
        }
    };
    let now = pair.now;
    each(&mut pair, 0, &|first, id| {
        assert_eq!(first.update_keys(now, id), Ok(true));
        first.write(now, id, b"x").unwrap();
    });
    pair.run(100);
    let now = pair.now;
    each(&mut pair, 1, &|second, id| {
        assert_eq!(second.read(now, id, &mut [0; 8]), Ok(crate::Read::Data(1)));
        second.finish(now, id).unwrap();
    });
    pair.run(100);
    let now = pair.now;
    each(&mut pair, 0, &|first, id| {
        assert_eq!(first.read(now, id, &mut [0; 8]), Ok(crate::Read::Finished));
        first.finish(now, id).unwrap();
    });
    // All of it arrives, and no acknowledgement.
    for _ in 0..500 {
        let [first, second] = &mut pair.hosts;
        for (route, mut packet) in first.drain(pair.now) {
            second.take(pair.now, came_by(route), &mut packet);
        }
        for &id in &ids {
            let _ = second.connection().read(pair.now, id, &mut [0; 8]);
        }
        let _lost = second.drain(pair.now);
        pair.now += Duration::from_millis(1);
        if first.connection().poll_timeout().is_some_and(|at| at <= pair.now) {
            first.connection().handle_timeout(pair.now);
        }
    }
    assert_eq!(pair.hosts[1].connection().slots.len(), 0);
    assert!(pair.hosts[0].connection().slots.len() > 100, "the first does not know yet");
    for _ in 0..100 {
        pair.now += Duration::from_millis(20);
        pair.run(2);
    }
    assert_eq!(pair.hosts[0].connection().slots.len(), 0, "{:?}", pair.hosts[1].connection().stats());
    assert_eq!(pair.hosts[1].connection().stats().undecryptable, 0);
}

/// A peer chooses the names of its resets: by such that others write in their packets it would get theirs.
#[test]
fn the_name_of_a_reset_takes_no_packets_of_others() {
    let key = StaticKey::from_bytes([2; 32]);
    for dialled in [Peer::Key(key.public()), Peer::Trusted] {
        let mut pair = Pair::connected();
        let own = pair.hosts[1].connection().links.at(0).our_cid();
        let peer_id = *key.id().0.first_chunk().unwrap();
        for (link, name) in [(2, peer_id), (4, [0; 8]), (6, own.0)] {
            let now = pair.now;
            let second = pair.hosts[1].connection();
            let (own, mut theirs) = second.links.take_ids(LinkId(link)).unwrap();
            let mut reset = [7; RESET_LEN];
            reset[..8].copy_from_slice(&name);
            theirs.reset = Some(Reset(reset));
            second.start_link(now, LinkId(link), came_by(route(11)), own, theirs);
        }
        pair.run(2);
        // Somebody else begins a connection.
        let now = pair.now;
        let mut third = Host::new(2, &Config::default());
        let (handle, connection) = third.endpoint.connect(now, 0, dialled, route(3)).unwrap();
        (third.handle, third.connection) = (Some(handle), Some(connection));
        let (by, mut packet) = third.drain(now).swap_remove(0);
        let taken = pair.hosts[1].endpoint.handle(now, 0, came_by(by), &mut packet, &mut Vec::new());
        assert!(matches!(taken, Handled::New(..)), "{dialled:?}: {taken:?}");
        // The link with the id of another as its name goes, and that one stays.
        let known = pair.hosts[1].handle;
        let second = pair.hosts[1].connection();
        let place = second.links.by_id(LinkId(6)).unwrap();
        second.forget_link(now, place);
        pair.hosts[1].drain(now);
        let mut late = [&[8; 8], &own.0[..], &[0; 32]].concat();
        let taken = pair.hosts[1].endpoint.handle(now, 0, came_by(by), &mut late, &mut Vec::new());
        assert!(matches!(taken, Handled::To(handle) if Some(handle) == known), "{taken:?}");
    }
}
