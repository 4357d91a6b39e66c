//! What programs see.

use std::time::Duration;

use super::Pair;
use crate::{Capabilities, ChannelId, Config, Event, OpenOptions, Peer, Resend, WriteError};

#[test]
fn connected_is_told_once() {
    type Dial = fn(&crate::StaticKey) -> Peer;
    let ways: [Dial; 3] = [|key| Peer::Key(key.public()), |key| Peer::Id(key.id()), |_| Peer::Trusted];
    for (number, way) in ways.into_iter().enumerate() {
        let pair = Pair::new(&Config::default(), way);
        for host in &pair.hosts {
            let told = host.events.iter().filter(|event| **event == Event::Connected).count();
            assert_eq!(told, 1, "{number}: {:?}", host.events);
        }
    }
}

#[test]
fn the_control_channel_is_no_channel() {
    let mut pair = Pair::connected();
    let now = pair.now;
    let written = pair.hosts[0].connection().write(now, ChannelId::CONTROL, b"hello");
    assert_eq!(written, Err(WriteError::Unknown));
}

/// Timeouts that make no sense are as good as some that do.
#[test]
fn extreme_times() {
    for time in [Duration::ZERO, Duration::MAX] {
        let config = Config {
            idle_timeout: time,
            handshake_timeout: time.max(Duration::from_secs(1)),
            max_ack_delay: time,
            reorder_wait: Some(time),
            ..Config::default()
        };
        let mut pair = Pair::new(&config, |key| Peer::Key(key.public()));
        assert!(pair.hosts[1].events.contains(&Event::Connected), "{time:?}");
        pair.run(50);
    }
}

/// Messages that are begun on many channels together must not fill the window of the connection, for none of them can be
/// read before it is whole.
#[test]
fn many_long_messages_at_once() {
    let config = Config { receive_budget: 256 << 10, max_message: 64 << 10, ..Config::default() };
    let mut pair = Pair::new(&config, |key| Peer::Key(key.public()));
    let capabilities = Capabilities { ordered: false, resend: Resend::Forever, close_on_loss: false };
    let now = pair.now;
    let first = pair.hosts[0].connection();
    let channels: Vec<_> = (0..16)
        .map(|_| {
            let id = first.open(now, OpenOptions { capabilities, ..OpenOptions::default() }).unwrap();
            assert_eq!(first.write(now, id, &vec![7; 60_000]), Ok(60_000));
            id
        })
        .collect();
    let (mut arrived, mut buf) = (0, vec![0; 60_000]);
    for _ in 0..400 {
        pair.run(5);
        let now = pair.now;
        for &id in &channels {
            arrived += usize::from(pair.hosts[1].connection().read(now, id, &mut buf).is_ok());
        }
    }
    assert_eq!(arrived, channels.len());
}

/// A ping that is due while the route takes nothing leaves when it does again.
#[test]
fn a_ping_that_is_held_back_is_not_forgotten() {
    let mut pair = Pair::connected();
    pair.run(20);
    let now = pair.now;
    let host = &mut pair.hosts[0];
    let route = host.connection().links.at(0).route();
    host.connection().set_ready(route, false);
    host.connection().network_changed(now);
    assert_eq!(host.drain(now), []);
    host.connection().set_ready(route, true);
    assert_eq!(host.drain(now).len(), 1);
    assert_eq!(host.drain(now), [], "once");
}
