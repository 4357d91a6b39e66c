//! What programs see.

use std::time::Duration;

use super::Pair;
use crate::{ChannelId, Config, Event, Peer, WriteError};

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
