//! What comes in.

use std::{net::SocketAddr, time::Instant};

use super::{
    Cookie, DEFAULT_CHANNEL, Endpoint, Event, HalfOrder, Handle, Malformed, Message, Messages, OVERHEAD,
    OpenOptions, PROTOCOL, Packet, UNSET_HALF,
    channel::{Again, Opener, Proof, State},
    cookie::Subject,
    endpoint::Answer,
};

/// Of the flags of a packet.
const ENCRYPTED: u16 = 1;

impl Endpoint {
    /// Takes a datagram that came from this address.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.counters.received += 1;
        let packet = match Packet::parse(PROTOCOL, datagram) {
            Ok(packet) if packet.recipient == self.own && packet.sender == self.peer => packet,
            Ok(_) | Err(Malformed::Protocol) => {
                self.counters.foreign += 1;
                return;
            }
            Err(_) => {
                self.counters.malformed += 1;
                return;
            }
        };
        if packet.flags & ENCRYPTED != 0 {
            self.counters.encrypted += 1;
            return;
        }
        if Messages::new(packet.payload).any(|message| message.is_err()) {
            self.counters.malformed += 1;
            return;
        }
        let messages = Messages::new(packet.payload).flatten();
        if packet.channel == DEFAULT_CHANNEL {
            self.negotiate(now, from, datagram.len(), messages);
        } else {
            self.receive(now, from, packet.channel, messages);
        }
    }

    fn negotiate<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        received: usize,
        messages: impl Iterator<Item = Message<'a>>,
    ) {
        let mut answer = Answer {
            to: from,
            size: received.min(usize::from(self.config.packet_size)),
            payload: Vec::new(),
        };
        for message in messages {
            match message {
                Message::New { half, cookie } => self.grant(now, half, cookie, &mut answer),
                Message::Acknowledge { id, cookie1, cookie2 } => {
                    self.granted(now, from, id, cookie1, Some(cookie2));
                }
                Message::Finalize { id, cookie2, capabilities } => {
                    self.proven(now, from, id, cookie2, capabilities);
                }
                Message::Cookie { .. } | Message::Data(_) => self.counters.out_of_place += 1,
            }
        }
        if !answer.payload.is_empty() {
            self.answers.push_back(answer);
        }
    }

    /// Adds a grant to the answer, if it fits. Nothing else is stored.
    fn grant(&mut self, now: Instant, half: u16, cookie1: Cookie, answer: &mut Answer) {
        if half == UNSET_HALF {
            self.counters.out_of_place += 1;
            return;
        }
        let known = self.by_name.get(&(Opener::Peer, half)).and_then(|handle| self.channels.get(handle));
        let id = match known.map(|channel| &channel.state) {
            Some(State::Open { id, .. }) => *id,
            _ if self.is_full() => {
                self.counters.refused += 1;
                return;
            }
            _ => loop {
                let id = self.config.half_order.join(half, self.draw_half());
                if !self.by_id.contains_key(&id) {
                    break id;
                }
            },
        };
        let cookie2 = self.bake(now, answer.to, Opener::Peer, Subject::Id(id));
        let message = Message::Acknowledge { id, cookie1, cookie2 };
        if OVERHEAD + answer.payload.len() + message.encoded_len() > answer.size
            || self.answers.len() >= self.config.max_answers
        {
            self.counters.refused += 1;
            return;
        }
        message.put(&mut answer.payload);
    }

    /// A grant of a channel that this side wants, if the cookie is ours. Without `cookie2`, the peer needs no proof.
    fn granted(
        &mut self,
        now: Instant,
        from: SocketAddr,
        id: u32,
        cookie1: Cookie,
        cookie2: Option<Cookie>,
    ) -> Option<Handle> {
        let mut wanted = false;
        for order in HalfOrder::both() {
            let (half, theirs) = order.split(id);
            let Some(&handle) = self.by_name.get(&(Opener::Own, half)) else {
                continue;
            };
            let Some(State::Pending { .. }) = self.channels.get(&handle).map(|channel| &channel.state) else {
                continue;
            };
            wanted = true;
            if theirs == UNSET_HALF
                || self.by_id.contains_key(&id)
                || !self.is_ours(now, from, Opener::Own, Subject::Half(half), cookie1)
            {
                continue;
            }
            let due = now + self.interval(1);
            let proof = cookie2.map(|cookie| Proof {
                cookie,
                repeats: self.config.finalize_repeats,
                again: Again { send: true, due, times: 1 },
            });
            self.by_id.insert(id, handle);
            if let Some(channel) = self.channels.get_mut(&handle) {
                channel.state = State::Open { id, proof };
                channel.active = now;
            }
            self.events.push_back(Event::Established(handle));
            self.arm(handle);
            self.wake(handle);
            return Some(handle);
        }
        // What is not wanted any more was granted twice.
        self.counters.bad_cookie += u64::from(wanted);
        None
    }

    /// A channel of the peer's, if the cookie is ours.
    fn proven(
        &mut self,
        now: Instant,
        from: SocketAddr,
        id: u32,
        cookie2: Cookie,
        capabilities: u16,
    ) -> Option<Handle> {
        let (half, ours) = self.config.half_order.split(id);
        let name = (Opener::Peer, half);
        if self.by_id.contains_key(&id) || self.by_name.contains_key(&name) {
            return None;
        }
        if half == UNSET_HALF
            || ours == UNSET_HALF
            || !self.is_ours(now, from, Opener::Peer, Subject::Id(id), cookie2)
        {
            self.counters.bad_cookie += 1;
            return None;
        }
        if self.is_full() {
            self.counters.refused += 1;
            return None;
        }
        let options = OpenOptions { capabilities, early_data: false };
        let handle = self.add(name, State::Open { id, proof: None }, from, options, now);
        self.events.push_back(Event::Opened { channel: handle, capabilities });
        Some(handle)
    }

    /// Messages on a channel with an id.
    fn receive<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        id: u32,
        messages: impl Iterator<Item = Message<'a>>,
    ) {
        let mut messages = messages.peekable();
        let known = self.by_id.get(&id).copied();
        let handle = known.or_else(|| match messages.peek() {
            Some(Message::Cookie { cookie, capabilities }) => self
                .granted(now, from, id, *cookie, None)
                .or_else(|| self.proven(now, from, id, *cookie, *capabilities)),
            _ => None,
        });
        let Some((handle, channel)) =
            handle.and_then(|handle| Some((handle, self.channels.get_mut(&handle)?)))
        else {
            self.counters.unknown_channel += 1;
            return;
        };
        channel.active = now;
        if let State::Open { proof, .. } = &mut channel.state
            && known.is_some()
        {
            // The peer knows the channel: there is nothing left to prove.
            *proof = None;
        }
        let was_empty = channel.incoming.is_empty();
        for message in messages {
            match message {
                Message::Data(bytes) => {
                    if !channel.incoming.push(bytes, self.config.receive_buffer) {
                        self.counters.overflow += 1;
                    }
                }
                // Said again, or said first and dealt with above.
                Message::Cookie { .. } => {}
                _ => self.counters.out_of_place += 1,
            }
        }
        if was_empty && !channel.incoming.is_empty() {
            self.events.push_back(Event::Readable(handle));
        }
    }

    /// Whether the peer may open no more channels: too many exist, or a program does not ask what happened.
    fn is_full(&self) -> bool {
        self.channels.len() >= self.config.max_channels || self.events.len() >= 4 * self.config.max_channels
    }
}
