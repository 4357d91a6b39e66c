//! One side of a channel to one device.

mod compose;
mod config;
mod event;
mod receive;
mod server;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

pub use config::Config;
pub use event::{ClientId, Event, OutgoingRequest, OutgoingResponse, RequestError, RespondError, ServerId};

use server::{Server, State};

use crate::error::StreamFault;
use crate::message::{Message, Method, Status};
use crate::stream::StreamParser;

/// One side of a channel to one device: cuts the stream into messages, keeps transactions in both directions, answers
/// what needs no program, and tells of the rest by [`Event`]s.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    parser: StreamParser,
    servers: BTreeMap<ServerId, Server>,
    clients: BTreeMap<ClientId, Client>,
    output: VecDeque<Vec<u8>>,
    /// Bytes in `output`.
    queued: usize,
    events: VecDeque<Event>,
    rng: StdRng,
    /// For ids; they are never used again.
    count: u64,
    /// CSeq of the latest request of ours.
    sequence: u32,
    ended: bool,
}

/// A request of ours without a final response: the states Trying and Proceeding of 17.1.2 differ in retransmissions only,
/// and Completed has no duration over a reliable transport.
#[derive(Debug)]
struct Client {
    branch: String,
    method: Method,
    /// Timer F.
    until: Instant,
}

impl Endpoint {
    /// At the start of a channel. Branches, tags and Call-IDs come from `seed`.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            parser: StreamParser::new(config.limits.clone()),
            config,
            servers: BTreeMap::new(),
            clients: BTreeMap::new(),
            output: VecDeque::new(),
            queued: 0,
            events: VecDeque::new(),
            rng: StdRng::from_seed(seed),
            count: 0,
            sequence: 0,
            ended: false,
        }
    }

    /// The set-up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes what came on the channel. A fault is final: nothing is read or sent afterwards.
    pub fn handle_data(&mut self, now: Instant, bytes: &[u8]) -> Result<(), StreamFault> {
        self.parser.push(bytes);
        loop {
            match self.parser.next_message() {
                Ok(Some(Message::Request(request))) => self.handle_request(now, request),
                Ok(Some(Message::Response(response))) => self.handle_response(response),
                Ok(None) => return Ok(()),
                Err(fault) => {
                    self.ended = true;
                    return Err(fault);
                }
            }
        }
    }

    /// To be called when the peer has ended the stream: whether it did so between two messages. What was asked of it
    /// is not answered any more, and nothing can be asked.
    pub fn handle_end(&mut self) -> Result<(), StreamFault> {
        self.ended = true;
        self.parser.end()
    }

    /// Whether received bytes should be given to [`handle_data`](Self::handle_data): not while more waits to be sent than
    /// [`Limits::output`](crate::Limits::output) or events wait to be polled.
    pub fn wants_data(&self) -> bool {
        !self.ended && self.queued < self.config.limits.output && self.events.is_empty()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes to send next: one message.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let message = self.output.pop_front()?;
        self.queued -= message.len();
        Some(message)
    }

    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Requests under way, in both directions.
    pub fn transactions(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let servers = self.servers.values().map(Server::deadline);
        servers.chain(self.clients.values().map(|client| client.until)).min()
    }

    /// To be called when the time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late: Vec<_> =
            self.clients.iter().filter(|(_, client)| client.until <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.clients.remove(&id);
            self.events.push_back(Event::TimedOut { id });
        }
        let due: Vec<_> =
            self.servers.iter().filter(|(_, server)| server.deadline() <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.server_due(now, id);
        }
    }

    fn server_due(&mut self, now: Instant, id: ServerId) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        match &mut server.state {
            State::Undecided { until, trying, .. } if *until > now => {
                *trying = None;
                let response = self.compose_plain(id, Status::TRYING);
                self.provisional(id, response);
            }
            State::Undecided { .. } => {
                self.events.push_back(Event::Expired { id });
                if server.method == Method::Invite {
                    let response = self.compose_plain(id, Status::TEMPORARILY_UNAVAILABLE);
                    self.finish(now, id, response);
                } else {
                    // The peer has given it up at the same time; an answer would find nobody (RFC 4320 4.2).
                    self.servers.remove(&id);
                }
            }
            State::Refused { .. } => {
                self.servers.remove(&id);
            }
        }
    }

    /// Sends a provisional response, and remembers it.
    fn provisional(&mut self, id: ServerId, response: Vec<u8>) {
        if let Some(Server { state: State::Undecided { provisional, trying, .. }, .. }) =
            self.servers.get_mut(&id)
        {
            *trying = None;
            *provisional = Some(response.clone());
            self.send(response);
        }
    }

    /// Sends a final response. An INVITE then waits for its ACK, anything else is done: a reliable transport
    /// brings no repetitions (timer J is 0).
    fn finish(&mut self, now: Instant, id: ServerId, response: Vec<u8>) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if server.method == Method::Invite {
            let until = now + self.config.timers.transaction;
            server.state = State::Refused { response: response.clone(), until };
        } else {
            self.servers.remove(&id);
        }
        self.send(response);
    }

    fn send(&mut self, message: Vec<u8>) {
        self.queued += message.len();
        self.output.push_back(message);
    }

    fn next_id(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}
