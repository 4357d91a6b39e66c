//! What a connection takes from the allocator: nothing per packet once it runs, and little for what is idle.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]
#![allow(clippy::print_stdout, reason = "each proof shows its figure")]
#![allow(clippy::unchecked_time_subtraction, reason = "time runs forward in a world")]

mod support;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use allocation_counter::measure;
use towline_channeler::{
    Capabilities, ChannelId, Config, Connection, ConnectionHandle, Endpoint, Event, Handled, OpenOptions,
    Peer, Read, Resend, Route,
};

use support::{
    program::UNIX_TIME,
    world::{endpoint, key},
};

const MS: Duration = Duration::from_millis(1);

/// Two connections that hand each other their packets after a fixed delay, without an allocation of its own once it runs.
struct Shuttle {
    now: Instant,
    endpoints: [Endpoint; 2],
    ends: [Option<(ConnectionHandle, Box<Connection>)>; 2],
    /// To host 0 and to host 1.
    flight: [VecDeque<(Instant, Vec<u8>)>; 2],
    spare: Vec<Vec<u8>>,
    buffer: Vec<u8>,
    data: Vec<u8>,
    opened: Vec<ChannelId>,
    route: Route,
    delay: Duration,
    packets: u64,
    /// Drops one packet in so many.
    drop_each: u64,
    read: u64,
}

impl Shuttle {
    fn new(route: Route) -> Self {
        // Smaller windows than by default: nothing else limits the rate here.
        let config = Config { max_window: 1 << 20, send_buffer: 2 << 20, ..Config::default() };
        let config = Arc::new(config);
        Self {
            now: Instant::now(),
            endpoints: [endpoint(0, &config, 1), endpoint(1, &config, 1)],
            ends: [None, None],
            flight: [VecDeque::with_capacity(4096), VecDeque::with_capacity(4096)],
            spare: (0..8192).map(|_| Vec::with_capacity(1600)).collect(),
            buffer: Vec::with_capacity(1 << 17),
            data: vec![0x5a; 1 << 16],
            opened: Vec::with_capacity(4096),
            route,
            delay: 5 * MS,
            packets: 0,
            drop_each: u64::MAX,
            read: 0,
        }
    }

    fn connect(&mut self) {
        let peer = Peer::Key(key(1).public());
        let (handle, connection) = self.endpoints[0].connect(self.now, UNIX_TIME, peer, self.route).unwrap();
        self.ends[0] = Some((handle, Box::new(connection)));
    }

    fn end(&mut self, host: usize) -> &mut Connection {
        &mut self.ends[host].as_mut().unwrap().1
    }

    /// Lets so much time pass; both read all, and host 0 writes to these channels in pieces of this size for as long as it can.
    fn run(&mut self, time: Duration, write: &[ChannelId], size: usize) {
        let end = self.now + time;
        while self.now < end {
            for host in 0..2 {
                self.settle(host, write, size);
            }
            let arrivals = self.flight.iter().filter_map(|flight| flight.front()).map(|(at, _)| *at);
            let mut next = arrivals.min();
            for end in self.ends.iter_mut().flatten() {
                next = next.into_iter().chain(end.1.poll_timeout()).min();
            }
            self.now = next.unwrap_or(end).clamp(self.now, end);
            for to in 0..2 {
                self.deliver(to);
            }
        }
    }

    fn deliver(&mut self, to: usize) {
        while self.flight[to].front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, mut packet) = self.flight[to].pop_front().unwrap();
            match self.endpoints[to].handle(self.now, UNIX_TIME, self.route, &mut packet, &mut self.buffer) {
                Handled::New(handle, connection) => self.ends[to] = Some((handle, connection)),
                Handled::To(_) => {}
                other => panic!("{other:?}"),
            }
            let (now, route) = (self.now, self.route);
            self.end(to).handle(now, route, None, &mut packet);
            packet.clear();
            self.spare.push(packet);
        }
    }

    fn settle(&mut self, host: usize, write: &[ChannelId], size: usize) {
        let Some((handle, connection)) = &mut self.ends[host] else { return };
        let now = self.now;
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Readable(channel) | Event::Opened { channel, .. } => {
                    if let Event::Opened { .. } = event {
                        self.opened.push(channel);
                    }
                    while let Ok(Read::Data(len)) = connection.read(now, channel, &mut self.data) {
                        self.read += len as u64;
                    }
                }
                Event::Closed(error) => panic!("{error}"),
                _ => {}
            }
        }
        if host == 0 {
            for channel in write {
                while connection.write(now, *channel, &self.data[..size]).is_ok_and(|taken| taken == size) {}
            }
        }
        loop {
            self.buffer.clear();
            let Some(transmit) = connection.poll_transmit(now, 10, &mut self.buffer) else { break };
            let size = transmit.segment.unwrap_or(self.buffer.len());
            let mut rest = &self.buffer[..];
            while !rest.is_empty() {
                let packet = if self.route.is_stream() {
                    let (len, behind) = rest.split_first_chunk::<2>().unwrap();
                    let (packet, behind) = behind.split_at(usize::from(u16::from_be_bytes(*len)));
                    rest = behind;
                    packet
                } else {
                    let (packet, behind) = rest.split_at(size.min(rest.len()));
                    rest = behind;
                    packet
                };
                self.packets += 1;
                if self.packets.is_multiple_of(self.drop_each) {
                    continue;
                }
                let mut copy = self.spare.pop().expect("packets in reserve");
                copy.extend_from_slice(packet);
                self.flight[1 - host].push_back((now + self.delay, copy));
            }
        }
        while let Some(event) = connection.poll_endpoint_event() {
            self.endpoints[host].on_event(*handle, event);
        }
    }
}

fn udp() -> Route {
    Route::datagram(([10, 0, 0, 1], 4000).into())
}

/// Allocations of a second of writing, after three seconds of it.
fn steady(name: &str, route: Route, capabilities: Capabilities, size: usize, drop_each: u64) {
    let mut shuttle = Shuttle::new(route);
    shuttle.connect();
    shuttle.run(100 * MS, &[], 0);
    shuttle.drop_each = drop_each;
    let now = shuttle.now;
    let channel = shuttle.end(0).open(now, OpenOptions { capabilities, ..OpenOptions::default() }).unwrap();
    shuttle.run(3000 * MS, &[channel], size);
    let (packets, read) = (shuttle.packets, shuttle.read);
    let taken = measure(|| shuttle.run(200 * MS, &[channel], size));
    let packets = shuttle.packets - packets;
    println!(
        "{name}: {} allocations in {packets} packets, {} bytes read",
        taken.count_total,
        shuttle.read - read
    );
    assert!(packets > 1000);
    assert_eq!(taken.count_total, 0, "{name}");
}

#[test]
fn no_packet_of_a_stream_allocates() {
    steady("stream", udp(), Capabilities::stream(), 16_384, u64::MAX);
}

#[test]
fn no_packet_of_a_lossy_stream_allocates() {
    steady("stream with 1 % loss", udp(), Capabilities::stream(), 16_384, 101);
}

#[test]
fn no_datagram_allocates() {
    steady("datagrams", udp(), Capabilities::datagram(), 1000, u64::MAX);
}

#[test]
fn no_message_allocates() {
    let messages = Capabilities { ordered: false, resend: Resend::Forever, close_on_loss: false };
    steady("messages", udp(), messages, 3000, 101);
}

#[test]
fn no_packet_on_a_stream_link_allocates() {
    steady("over a stream link", Route::Stream(1), Capabilities::stream(), 16_384, u64::MAX);
}

#[test]
fn an_idle_connection_is_small() {
    let mut shuttle = Shuttle::new(udp());
    // What an endpoint needs for its first connection only is not counted.
    let taken = measure(|| {
        shuttle.connect();
        shuttle.run(20_000 * MS, &[], 0);
    });
    let each = taken.bytes_current / 2;
    println!("an idle connection: {each} bytes (at most {} while it began)", taken.bytes_max / 2);
    assert!(each <= 20 << 10, "{each}");
}

#[test]
fn an_idle_channel_is_small() {
    let mut shuttle = Shuttle::new(udp());
    shuttle.connect();
    shuttle.run(100 * MS, &[], 0);
    let count = 1000;
    let mut channels = Vec::with_capacity(count);
    let taken = measure(|| {
        let now = shuttle.now;
        for _ in 0..count {
            channels.push(shuttle.end(0).open(now, OpenOptions::default()).unwrap());
        }
        for channel in &channels {
            assert_eq!(shuttle.end(0).write(now, *channel, b"x"), Ok(1));
        }
        shuttle.run(2000 * MS, &[], 0);
        // And one byte back on each.
        let now = shuttle.now;
        for channel in std::mem::take(&mut shuttle.opened) {
            assert_eq!(shuttle.end(1).write(now, channel, b"y"), Ok(1));
        }
        shuttle.run(10_000 * MS, &[], 0);
    });
    assert_eq!(shuttle.read, 2 * count as u64);
    let each = taken.bytes_current / 2 / count as i64;
    println!("an idle channel: {each} bytes on each side");
    assert!(each <= 1 << 10, "{each}");
}
