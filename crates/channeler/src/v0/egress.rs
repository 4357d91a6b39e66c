//! What goes out.

use std::{net::SocketAddr, time::Instant};

use super::{
    DEFAULT_CHANNEL, Endpoint, Event, Handle, Message, OVERHEAD, PROTOCOL, Packet,
    channel::{Channel, Opener, State},
    cookie::Subject,
};

impl Endpoint {
    /// Appends one datagram to `out` and gives its destination. `None`: nothing more to send for now.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<SocketAddr> {
        if let Some(answer) = self.answers.pop_front() {
            let sequence = next(&mut self.sequence);
            self.put(DEFAULT_CHANNEL, sequence, &answer.payload, answer.size, out);
            return Some(answer.to);
        }
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        let sent = loop {
            let Some(handle) = self.ready.pop_front() else {
                break None;
            };
            if let Some((to, channel)) = self.fill(now, handle, &mut payload) {
                break Some((to, channel));
            }
        };
        if let Some((_, (id, sequence))) = sent {
            self.put(id, sequence, &payload, usize::from(self.config.packet_size), out);
        }
        self.scratch = payload;
        sent.map(|(to, _)| to)
    }

    fn put(&self, channel: u32, sequence: u16, payload: &[u8], size: usize, out: &mut Vec<u8>) {
        let packet = Packet { sender: self.own, recipient: self.peer, channel, flags: 0, sequence, payload };
        let fits = packet.put(PROTOCOL, size, out);
        debug_assert!(fits, "a payload is never longer than a packet of 16-bit size carries");
    }

    /// Writes the messages of the next packet of a channel. Gives its destination, its channel id and sequence number.
    fn fill(
        &mut self,
        now: Instant,
        handle: Handle,
        payload: &mut Vec<u8>,
    ) -> Option<(SocketAddr, (u32, u16))> {
        let room = usize::from(self.config.packet_size) - OVERHEAD;
        let channel = self.channels.get_mut(&handle)?;
        channel.queued = false;
        let remote = channel.remote;
        let half = channel.name.1;
        let early = std::mem::take(&mut channel.early_data);
        let filled = match &mut channel.state {
            State::Pending { again, .. } => {
                channel.early_data = early;
                if !std::mem::take(&mut again.send) {
                    return None;
                }
                let cookie = self.bake(now, remote, Opener::Own, Subject::Half(half));
                Message::New { half, cookie }.put(payload);
                (DEFAULT_CHANNEL, next(&mut self.sequence))
            }
            State::Open { id, proof } => {
                let id = *id;
                let due = proof.as_mut().filter(|proof| proof.again.send);
                let cookie = due.map(|proof| {
                    proof.again.send = false;
                    proof.cookie
                });
                let capabilities = channel.capabilities;
                if let Some(cookie) = cookie {
                    Message::Cookie { cookie, capabilities }.put(payload);
                    if early && put_data(channel, payload, room) {
                        (id, next(&mut channel.sequence))
                    } else {
                        payload.clear();
                        Message::Finalize { id, cookie2: cookie, capabilities }.put(payload);
                        (DEFAULT_CHANNEL, next(&mut self.sequence))
                    }
                } else if put_data(channel, payload, room) {
                    (id, next(&mut channel.sequence))
                } else {
                    return None;
                }
            }
        };
        if let Some(channel) = self.channels.get_mut(&handle) {
            channel.active = now;
            if channel.blocked && channel.outgoing.cost() <= self.config.send_buffer / 2 {
                channel.blocked = false;
                self.events.push_back(Event::Writable(handle));
            }
        }
        self.wake(handle);
        Some((remote, filled))
    }
}

/// Moves messages to a payload while they fit. Whether there were any.
fn put_data(channel: &mut Channel, payload: &mut Vec<u8>, room: usize) -> bool {
    let before = payload.len();
    while let Some(bytes) = channel.outgoing.front() {
        let message = Message::Data(bytes);
        if payload.len() + message.encoded_len() > room {
            break;
        }
        message.put(payload);
        channel.outgoing.pop();
    }
    payload.len() > before
}

/// A sequence number, and moves on to the next.
fn next(sequence: &mut u16) -> u16 {
    std::mem::replace(sequence, sequence.wrapping_add(1))
}
