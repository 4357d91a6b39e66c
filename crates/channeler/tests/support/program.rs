//! One host: an endpoint, its connection, and a program that uses it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use towline_channeler::{
    Capabilities, ChannelId, Connection, ConnectionError, ConnectionHandle, Endpoint, Event, Handled, LinkId,
    LinkReport, OpenOptions, Route,
};

use super::{
    network::{Host, Network},
    reader::Reader,
    writer::{Plan, Writer},
};

/// Seconds since 1970 in every world.
pub const UNIX_TIME: i64 = 1_700_000_000;

/// Steps at one instant after which a connection does not come to rest.
const RESTLESS: u32 = 10_000;

#[derive(Debug)]
pub struct Program {
    pub host: Host,
    start: Instant,
    pub endpoint: Endpoint,
    pub handle: Option<ConnectionHandle>,
    pub connection: Option<Box<Connection>>,
    /// What else the endpoint took for the beginning of a connection.
    pub strays: BTreeMap<ConnectionHandle, Box<Connection>>,
    pub writers: Vec<Writer>,
    pub readers: BTreeMap<ChannelId, Reader>,
    /// Everything that the connection said but what was readable and writable.
    pub events: Vec<(Duration, Event)>,
    /// Messages given up by this side, and by the other.
    pub lost: BTreeMap<ChannelId, [u64; 2]>,
    pub closed: Option<ConnectionError>,
    /// Plans for channels that the other side opens, by their label: what is written back on them.
    pub replies: BTreeMap<Vec<u8>, Plan>,
    /// Whether a channel of the other side is left open, with a writer that has nothing to write yet.
    pub manual: bool,
    timeout: Option<Instant>,
    stray_timeout: Option<Instant>,
    buffer: Vec<u8>,
    /// Instant and number of steps at it.
    pace: (Instant, u32),
}

impl Program {
    pub fn new(host: Host, start: Instant, endpoint: Endpoint) -> Self {
        Self {
            host,
            start,
            endpoint,
            handle: None,
            connection: None,
            strays: BTreeMap::new(),
            writers: Vec::new(),
            readers: BTreeMap::new(),
            events: Vec::new(),
            lost: BTreeMap::new(),
            closed: None,
            replies: BTreeMap::new(),
            manual: false,
            timeout: None,
            stray_timeout: None,
            buffer: Vec::new(),
            pace: (start, 0),
        }
    }

    /// The connection, which must exist.
    pub fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("connected")
    }

    /// Opens a channel for a plan and writes it, then finishes.
    pub fn start(&mut self, now: Instant, capabilities: Capabilities, plan: Plan) -> ChannelId {
        self.start_with(now, &OpenOptions { capabilities, ..OpenOptions::default() }, plan, true)
    }

    pub fn start_with(&mut self, now: Instant, options: &OpenOptions, plan: Plan, finish: bool) -> ChannelId {
        let label = plan.label();
        let options = OpenOptions { label: label.to_vec(), ..options.clone() };
        let capabilities = options.capabilities;
        let channel = self.connection().open(now, options).unwrap();
        self.readers.insert(channel, Reader::new(channel, capabilities, label));
        self.writers.push(Writer::new(channel, plan, finish, now));
        channel
    }

    /// Ends this side's direction of a channel behind what is to be written.
    pub fn end(&mut self, now: Instant, channel: ChannelId) {
        let connection = self.connection.as_mut().expect("connected");
        for writer in self.writers.iter_mut().filter(|writer| writer.channel == channel) {
            writer.end(now, connection);
        }
    }

    /// Stops or goes on reading a channel.
    pub fn pause(&mut self, now: Instant, channel: ChannelId, paused: bool) {
        let Some(reader) = self.readers.get_mut(&channel) else { return };
        reader.paused = paused;
        let connection = self.connection.as_mut().expect("connected");
        reader.read(self.start, now, connection);
    }

    /// The report of a link.
    pub fn link(&mut self, link: LinkId) -> LinkReport {
        self.connection().links().find(|report| report.link == link).expect("a link of the connection")
    }

    /// When something is to be done here, if nothing arrives.
    pub fn due(&self) -> Option<Instant> {
        self.writers.iter().filter_map(Writer::due).chain(self.timeout).chain(self.stray_timeout).min()
    }

    pub fn handle(
        &mut self,
        now: Instant,
        route: Route,
        ecn: Option<towline_channeler::Ecn>,
        packet: &mut [u8],
        network: &mut Network,
    ) {
        let connection = match self.endpoint.handle(now, UNIX_TIME, route, packet, &mut self.buffer) {
            Handled::Dropped => return,
            Handled::Respond(transmit) => {
                let prefix = if route.is_stream() { 2 } else { 0 };
                assert!(
                    self.buffer.len() <= prefix + packet.len(),
                    "an answer without state is no longer than the question"
                );
                network.send(now, self.host, transmit, &self.buffer);
                return;
            }
            Handled::New(handle, mut stray) if self.handle.is_some() => {
                stray.handle(now, route, ecn, packet);
                self.strays.insert(handle, stray);
                return;
            }
            Handled::New(handle, connection) => {
                self.handle = Some(handle);
                self.connection.insert(connection)
            }
            Handled::To(handle) if Some(handle) != self.handle => {
                self.strays.get_mut(&handle).expect("known to the endpoint").handle(now, route, ecn, packet);
                return;
            }
            Handled::To(_) => self.connection.as_mut().expect("known to the endpoint"),
        };
        connection.handle(now, route, ecn, packet);
    }

    /// Lets time, program and connection work until nothing is left to do at this instant.
    pub fn settle(&mut self, now: Instant, network: &mut Network) {
        self.settle_strays(now, network);
        let Some(mut connection) = self.connection.take() else { return };
        if connection.poll_timeout().is_some_and(|timeout| timeout <= now) {
            connection.handle_timeout(now);
        }
        loop {
            while let Some(event) = connection.poll_event() {
                self.hear(event, now, &mut connection);
            }
            for writer in &mut self.writers {
                writer.write(self.start, now, &mut connection);
            }
            let mut sent = false;
            loop {
                self.buffer.clear();
                let Some(transmit) = connection.poll_transmit(now, 10, &mut self.buffer) else { break };
                assert!(!self.buffer.is_empty(), "a transmit has bytes");
                sent = true;
                self.rest(now, "sends");
                if !network.send(now, self.host, transmit, &self.buffer) {
                    connection.set_ready(transmit.route, false);
                }
            }
            while let Some(event) = connection.poll_endpoint_event() {
                self.endpoint.on_event(self.handle.expect("made with the connection"), event);
            }
            if !sent {
                break;
            }
        }
        self.timeout = connection.poll_timeout();
        if self.timeout.is_some_and(|timeout| timeout <= now) {
            self.rest(now, "has a timeout in the past");
        }
        self.connection = Some(connection);
    }

    fn settle_strays(&mut self, now: Instant, network: &mut Network) {
        for (handle, stray) in &mut self.strays {
            if stray.poll_timeout().is_some_and(|timeout| timeout <= now) {
                stray.handle_timeout(now);
            }
            while let Some(event) = stray.poll_event() {
                assert!(
                    matches!(event, Event::Closed(_) | Event::Link(_)),
                    "{event:?} of a stray connection"
                );
            }
            loop {
                self.buffer.clear();
                let Some(transmit) = stray.poll_transmit(now, 10, &mut self.buffer) else { break };
                network.send(now, self.host, transmit, &self.buffer);
            }
            while let Some(event) = stray.poll_endpoint_event() {
                self.endpoint.on_event(*handle, event);
            }
        }
        self.strays.retain(|_, stray| !stray.is_drained());
        self.stray_timeout = self.strays.values_mut().filter_map(|stray| stray.poll_timeout()).min();
    }

    /// Counts steps at one instant; too many are a circle.
    fn rest(&mut self, now: Instant, what: &str) {
        self.pace = if self.pace.0 == now { (now, self.pace.1 + 1) } else { (now, 0) };
        assert!(self.pace.1 < RESTLESS, "host {} {what} without end at {:?}", self.host, now - self.start);
    }

    fn hear(&mut self, event: Event, now: Instant, connection: &mut Connection) {
        assert_eq!(self.closed, None, "{event:?} after the end");
        match &event {
            Event::Opened { channel, capabilities, label, .. } => {
                let mut reader = Reader::new(*channel, *capabilities, label);
                reader.read(self.start, now, connection);
                assert!(self.readers.insert(*channel, reader).is_none(), "{channel} opened twice");
                match self.replies.get(label) {
                    None if self.manual => self.writers.push(Writer::idle(*channel, now)),
                    Some(plan) => self.writers.push(Writer::new(*channel, plan.clone(), true, now)),
                    None => connection.finish(now, *channel).unwrap(),
                }
            }
            Event::Readable(channel) => {
                if let Some(reader) = self.readers.get_mut(channel) {
                    reader.read(self.start, now, connection);
                }
                return;
            }
            Event::Writable(channel) => {
                for writer in self.writers.iter_mut().filter(|writer| writer.channel == *channel) {
                    writer.blocked = false;
                }
                return;
            }
            Event::Lost { channel, messages, sent } => {
                self.lost.entry(*channel).or_default()[usize::from(!sent)] += messages;
            }
            Event::Ended(channel, reason) => {
                if let Some(reader) = self.readers.get_mut(channel) {
                    assert_eq!(reader.ended, None, "{channel} ended twice");
                    reader.ended = Some(*reason);
                }
                for writer in self.writers.iter_mut().filter(|writer| writer.channel == *channel) {
                    writer.done = true;
                }
            }
            Event::Closed(error) => {
                self.closed = Some(error.clone());
                for writer in &mut self.writers {
                    writer.done = true;
                }
            }
            Event::Connected
            | Event::Accepted(_)
            | Event::WindowChanged { .. }
            | Event::Finished(_)
            | Event::Link(_) => {}
        }
        self.events.push((now - self.start, event));
    }
}
