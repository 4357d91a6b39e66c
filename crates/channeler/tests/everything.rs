//! Everything that can happen to two hosts, their channels, links and the network between them, in any order. Whatever it was: when
//! the network is well again, what was promised is kept, nothing runs in circles, and no rule was broken.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]
#![allow(clippy::print_stdout, reason = "each proof shows its figure")]
#![allow(clippy::unchecked_time_subtraction, reason = "time runs forward in a world")]

mod support;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use proptest::{prelude::*, test_runner::FileFailurePersistence};
use towline_channeler::{
    Capabilities, ChannelId, Code, ConnectionError, OpenOptions, Placement, Priority, Reason, Resend,
};

use support::{
    network::Host,
    reader::Reader,
    way::{Burst, Path, Reorder},
    world::World,
    writer::Writer,
};

#[derive(Clone, Copy, Debug)]
enum Op {
    Open {
        host: Host,
        ordered: bool,
        resend: u8,
        close_on_loss: bool,
        priority: u8,
        placement: u8,
    },
    Write {
        host: Host,
        at: usize,
        count: u64,
    },
    Finish {
        host: Host,
        at: usize,
    },
    Reset {
        host: Host,
        at: usize,
    },
    Stop {
        host: Host,
        at: usize,
    },
    Accept {
        host: Host,
        at: usize,
    },
    Refuse {
        host: Host,
        at: usize,
    },
    /// Stops or goes on reading.
    Pause {
        host: Host,
        at: usize,
    },
    Priority {
        host: Host,
        at: usize,
        priority: u8,
    },
    Placement {
        host: Host,
        at: usize,
        placement: u8,
    },
    UpdateKeys {
        host: Host,
        at: usize,
    },
    AddDatagrams {
        host: Host,
        milliseconds: u64,
    },
    AddStream {
        host: Host,
        milliseconds: u64,
    },
    CloseLink {
        host: Host,
        at: usize,
    },
    Available {
        host: Host,
        at: usize,
        available: bool,
    },
    Cut {
        wire: usize,
    },
    Mend {
        wire: usize,
    },
    Break {
        wire: usize,
    },
    Rebind {
        wire: usize,
    },
    Weather {
        wire: usize,
        kind: u8,
        percent: u32,
    },
    NetworkChanged {
        host: Host,
    },
    Close {
        host: Host,
    },
    Pass {
        milliseconds: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let host = || 0..2_usize;
    let at = || 0..6_usize;
    let wire = || 0..4_usize;
    prop_oneof![
        60 => (host(), any::<bool>(), 0..4_u8, any::<bool>(), any::<u8>(), 0..8_u8).prop_map(
            |(host, ordered, resend, close_on_loss, priority, placement)| Op::Open {
                host, ordered, resend, close_on_loss, priority, placement
            }
        ),
        160 => (host(), at(), prop_oneof![1..5_u64, 50..400_u64])
            .prop_map(|(host, at, count)| Op::Write { host, at, count }),
        30 => (host(), at()).prop_map(|(host, at)| Op::Finish { host, at }),
        10 => (host(), at()).prop_map(|(host, at)| Op::Reset { host, at }),
        10 => (host(), at()).prop_map(|(host, at)| Op::Stop { host, at }),
        10 => (host(), at()).prop_map(|(host, at)| Op::Accept { host, at }),
        10 => (host(), at()).prop_map(|(host, at)| Op::Refuse { host, at }),
        30 => (host(), at()).prop_map(|(host, at)| Op::Pause { host, at }),
        10 => (host(), at(), any::<u8>()).prop_map(|(host, at, priority)| Op::Priority { host, at, priority }),
        20 => (host(), at(), 0..8_u8).prop_map(|(host, at, placement)| Op::Placement { host, at, placement }),
        20 => (host(), at()).prop_map(|(host, at)| Op::UpdateKeys { host, at }),
        30 => (host(), 1..80_u64).prop_map(|(host, milliseconds)| Op::AddDatagrams { host, milliseconds }),
        20 => (host(), 1..80_u64).prop_map(|(host, milliseconds)| Op::AddStream { host, milliseconds }),
        10 => (host(), at()).prop_map(|(host, at)| Op::CloseLink { host, at }),
        10 => (host(), at(), any::<bool>()).prop_map(|(host, at, available)| Op::Available { host, at, available }),
        20 => wire().prop_map(|wire| Op::Cut { wire }),
        20 => wire().prop_map(|wire| Op::Mend { wire }),
        10 => wire().prop_map(|wire| Op::Break { wire }),
        20 => wire().prop_map(|wire| Op::Rebind { wire }),
        50 => (wire(), 0..6_u8, 0..30_u32).prop_map(|(wire, kind, percent)| Op::Weather { wire, kind, percent }),
        10 => host().prop_map(|host| Op::NetworkChanged { host }),
        2 => host().prop_map(|host| Op::Close { host }),
        160 => prop_oneof![4 => 1..50_u64, 2 => 50..500_u64, 1 => 500..5000_u64]
            .prop_map(|milliseconds| Op::Pass { milliseconds }),
    ]
}

fn resend(kind: u8) -> Resend {
    match kind {
        0 => Resend::No,
        1 => Resend::Tries(2),
        2 => Resend::Until(Duration::from_millis(200)),
        _ => Resend::Forever,
    }
}

/// A world, and what was done to it that explains what is missing.
struct Story {
    world: World,
    streams: BTreeSet<usize>,
    wires: usize,
    /// Channels that somebody reset, stopped or refused.
    torn: BTreeSet<ChannelId>,
    closed: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut world = World::on(seed, &Path::bottleneck(20, 20));
        for host in &mut world.hosts {
            host.manual = true;
        }
        Self { world, streams: BTreeSet::new(), wires: 1, torn: BTreeSet::new(), closed: false }
    }

    fn over(&self) -> bool {
        self.world.hosts.iter().any(|host| host.closed.is_some())
    }

    /// One of the channels that a host knows.
    fn channel(&self, host: Host, at: usize) -> Option<ChannelId> {
        let writers = &self.world.hosts[host].writers;
        Some(writers.get(at % writers.len().max(1))?.channel)
    }

    fn writer(&mut self, host: Host, at: usize) -> Option<&mut Writer> {
        let writers = &mut self.world.hosts[host].writers;
        let at = at % writers.len().max(1);
        writers.get_mut(at)
    }

    fn link(&mut self, host: Host, at: usize) -> Option<towline_channeler::LinkId> {
        self.world.hosts[host].connection().links().nth(at).map(|report| report.link)
    }

    fn placement(&mut self, host: Host, kind: u8) -> Placement {
        match (kind, self.link(host, usize::from(kind / 2 % 3))) {
            (0 | 1, Some(link)) => Placement::Prefer(link),
            (2, Some(link)) => Placement::Pin(link),
            (3, _) => Placement::Duplicate,
            _ => Placement::Aggregate,
        }
    }

    fn apply(&mut self, op: Op) {
        let now = self.world.now;
        match op {
            Op::Open { host, ordered, resend: kind, close_on_loss, priority, placement } => {
                let capabilities = Capabilities { ordered, resend: resend(kind), close_on_loss };
                let placement = self.placement(host, placement);
                let label = b"records".to_vec();
                let options = OpenOptions { capabilities, label, priority: Priority(priority), placement };
                let program = &mut self.world.hosts[host];
                let channel = program.connection().open(now, options).unwrap();
                program.readers.insert(channel, Reader::new(channel, capabilities, b"records"));
                program.writers.push(Writer::idle(channel, now));
            }
            Op::Write { host, at, count } => {
                if let Some(writer) = self.writer(host, at).filter(|writer| !writer.ended()) {
                    writer.extend(count, now);
                }
            }
            Op::Finish { host, at } => {
                if let Some(channel) = self.channel(host, at) {
                    self.world.hosts[host].end(now, channel);
                }
            }
            Op::Reset { host, at } => {
                self.tear(host, at, |connection, channel| connection.reset(now, channel, Code(400)).is_ok());
            }
            Op::Stop { host, at } => {
                self.tear(host, at, |connection, channel| connection.stop(now, channel, Code(401)).is_ok());
            }
            Op::Refuse { host, at } => self
                .tear(host, at, |connection, channel| connection.refuse(now, channel, Code::REFUSED).is_ok()),
            Op::Accept { host, at } => {
                if let Some(channel) = self.channel(host, at) {
                    let _ = self.world.hosts[host].connection().accept(now, channel);
                }
            }
            Op::Pause { host, at } => {
                if let Some(channel) = self.channel(host, at) {
                    let paused = self.world.hosts[host].readers[&channel].paused;
                    self.world.hosts[host].pause(now, channel, !paused);
                }
            }
            Op::Priority { host, at, priority } => {
                if let Some(channel) = self.channel(host, at) {
                    let _ = self.world.hosts[host].connection().set_priority(channel, Priority(priority));
                }
            }
            Op::Placement { host, at, placement } => {
                let placement = self.placement(host, placement);
                if let Some(channel) = self.channel(host, at) {
                    let _ = self.world.hosts[host].connection().set_placement(channel, placement);
                }
            }
            Op::UpdateKeys { host, at } => {
                if let Some(channel) = self.channel(host, at) {
                    let _ = self.world.hosts[host].connection().update_keys(now, channel);
                }
            }
            Op::AddDatagrams { host, milliseconds } => {
                let path = Path::bottleneck(10, milliseconds);
                let wire = self.world.network.add_datagrams(path.clone(), path);
                self.add(host, wire);
            }
            Op::AddStream { host, milliseconds } => {
                let path = Path::bottleneck(10, milliseconds);
                let wire = self.world.network.add_stream(path.clone(), path, 100_000);
                self.streams.insert(wire);
                self.add(host, wire);
            }
            Op::CloseLink { host, at } => {
                if let Some(link) = self.link(host, at) {
                    self.world.hosts[host].connection().close_link(now, link);
                }
            }
            Op::Available { host, at, available } => {
                if let Some(link) = self.link(host, at) {
                    self.world.hosts[host].connection().set_available(link, available);
                }
            }
            Op::Cut { wire } if wire < self.wires => self.world.network.set_up(wire, false),
            Op::Mend { wire } if wire < self.wires && !self.streams.contains(&wire) => {
                self.world.network.set_up(wire, true);
            }
            Op::Break { wire } if self.streams.contains(&wire) => self.world.network.break_stream(now, wire),
            Op::Rebind { wire } if wire < self.wires && !self.streams.contains(&wire) => {
                self.world.network.rebind(wire);
            }
            Op::Weather { wire, kind, percent } if wire < self.wires && !self.streams.contains(&wire) => {
                let share = f64::from(percent) / 100.0;
                self.world.network.each_way(wire, |path| match kind {
                    0 => path.loss = share,
                    1 => path.burst = (percent > 0).then(|| Burst::of(share, 6.0)),
                    2 => path.reorder = Some(Reorder { share, by: Duration::from_millis(15) }),
                    3 => path.duplicate = share,
                    4 => path.corrupt = share,
                    _ => path.mtu = 1200 + percent as usize * 10,
                });
            }
            Op::NetworkChanged { host } => self.world.hosts[host].connection().network_changed(now),
            Op::Close { host } => {
                self.closed = true;
                self.world.hosts[host].connection().close(now, Code(402), "the end");
            }
            Op::Pass { milliseconds } => self.world.run(Duration::from_millis(milliseconds)),
            Op::Cut { .. } | Op::Mend { .. } | Op::Break { .. } | Op::Rebind { .. } | Op::Weather { .. } => {}
        }
        self.world.settle();
    }

    fn tear(
        &mut self,
        host: Host,
        at: usize,
        how: impl FnOnce(&mut towline_channeler::Connection, ChannelId) -> bool,
    ) {
        if let Some(channel) = self.channel(host, at)
            && how(self.world.hosts[host].connection(), channel)
        {
            self.torn.insert(channel);
        }
    }

    fn add(&mut self, host: Host, wire: usize) {
        self.wires = wire + 1;
        let now: Instant = self.world.now;
        let route = self.world.network.route(wire, host);
        // The limits, or a lack of ids, may refuse it.
        let _ = self.world.hosts[host].connection().add_link(now, route);
    }

    /// Good weather for all, everybody reads and says that it is done; then a long time.
    fn conclude(&mut self) {
        if !self.over() {
            for wire in (0..self.wires).filter(|wire| !self.streams.contains(wire)) {
                let (rate, queue, delay) = {
                    let path = &self.world.network.way(wire, 0).path;
                    (path.rate, path.queue, path.delay)
                };
                self.world
                    .network
                    .each_way(wire, |path| *path = Path { delay, rate, queue, ..Path::default() });
            }
            let now = self.world.now;
            // What died in silence is heard of at last.
            for wire in &self.streams {
                if !self.world.network.way(*wire, 0).path.up {
                    self.world.network.break_stream(now, *wire);
                }
            }
            for host in 0..2 {
                let channels: Vec<_> = self.world.hosts[host].readers.keys().copied().collect();
                for channel in channels {
                    self.world.hosts[host].pause(now, channel, false);
                }
            }
            // Channels that the other side has not heard of yet open meanwhile.
            for _ in 0..90 {
                for program in &mut self.world.hosts {
                    let Some(connection) = program.connection.as_mut().filter(|_| program.closed.is_none())
                    else {
                        continue;
                    };
                    for writer in &mut program.writers {
                        writer.end(self.world.now, connection);
                    }
                }
                self.world.run(Duration::from_secs(1));
            }
        }
        self.world.run(Duration::from_mins(1));
    }

    fn check(&mut self) {
        let errors = self.world.hosts.each_ref().map(|host| host.closed.clone());
        for error in errors.iter().flatten() {
            let allowed = match error {
                ConnectionError::ClosedByPeer { code, .. } => self.closed && *code == Code(402),
                ConnectionError::ClosedHere => self.closed,
                ConnectionError::TimedOut | ConnectionError::NoLink => true,
                // The other side ended it, and its word was lost.
                ConnectionError::Forgotten => errors.iter().all(Option::is_some),
                other => panic!("{other}"),
            };
            assert!(allowed, "{errors:?}");
        }
        if self.over() {
            for host in &mut self.world.hosts {
                assert!(
                    host.closed.is_some() && host.connection().is_drained(),
                    "host {}: {errors:?}",
                    host.host
                );
                assert_eq!(host.endpoint.connections(), 0);
            }
            return;
        }
        for host in 0..2 {
            for writer in &self.world.hosts[host].writers {
                let channel = writer.channel;
                let near = &self.world.hosts[host].readers[&channel];
                if self.torn.contains(&channel) {
                    continue;
                }
                let Some(far) = self.world.hosts[1 - host].readers.get(&channel) else {
                    // Lost with its first message, before the other side heard of it.
                    assert_eq!(near.ended, Some(Reason::Loss), "{channel} never opened at host {}", 1 - host);
                    continue;
                };
                assert!(near.ended.is_some(), "{channel} did not end at host {host}");
                let got = far.records.len() as u64;
                if near.ended != far.ended {
                    // A sender gave up what did arrive, when the other side was through with the channel already.
                    let ends = [near.ended, far.ended];
                    let both = ends.contains(&Some(Reason::Finished)) && ends.contains(&Some(Reason::Loss));
                    assert!(both && near.capabilities.close_on_loss, "{channel}: {ends:?}");
                    assert_ne!(near.capabilities.resend, Resend::Forever, "{channel}: {ends:?}");
                    continue;
                }
                if near.capabilities.resend == Resend::Forever {
                    assert_eq!(near.ended, Some(Reason::Finished), "{channel}");
                    assert_eq!(got, writer.count(), "{channel}");
                } else if near.ended == Some(Reason::Finished) {
                    let lost = |host: usize, side: usize| {
                        self.world.hosts[host].lost.get(&channel).map_or(0, |lost| lost[side])
                    };
                    assert_eq!(lost(1 - host, 1), writer.count() - got, "{channel} of host {host}");
                    assert!(!near.capabilities.close_on_loss || got == writer.count(), "{channel}");
                } else {
                    assert_eq!(near.ended, Some(Reason::Loss), "{channel}");
                    assert!(near.capabilities.close_on_loss);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        max_shrink_iters: 2000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/everything.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens(seed in 0..1000_u64, ops in prop::collection::vec(op(), 1..150)) {
        let mut story = Story::new(seed);
        for op in ops {
            if story.over() {
                break;
            }
            story.apply(op);
        }
        story.conclude();
        story.check();
    }
}
