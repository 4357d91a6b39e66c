//! What goes out next.

use std::time::Instant;

use super::{Mux, Wire};
use crate::channel::SendSide;
use crate::chunk::HEAD_ROOM;
use crate::native::{self, FRAME_HEADER};
use crate::{ChannelId, MAX_BODY, Transmit, jami};

/// Plaintext of a full TLS record.
pub(super) const RECORD: usize = HEAD_ROOM + MAX_BODY;

/// Bodies of at least this size leave from where they are; smaller ones are gathered.
const BULK: usize = 2048;

impl Mux {
    /// The next plaintext to send, at most 16 384 bytes: either one large frame in place, or small frames gathered
    /// in `scratch` (cleared first; keep it for the next call). What is returned must be sent.
    pub fn poll_transmit<'a>(&'a mut self, now: Instant, scratch: &'a mut Vec<u8>) -> Option<Transmit<'a>> {
        scratch.clear();
        self.in_flight = None;
        let control_done = match &self.wire {
            Wire::Native(_) => self.write_native_control(now, scratch),
            Wire::Jami(_) => self.write_jami_control(now, scratch),
        };
        // Data waits until all control messages are out: what they say comes first.
        while let Some(turn) = self.scheduler.peek().filter(|_| control_done) {
            let id = turn.id;
            let Some(channel) = self.table.get_mut(id) else {
                self.scheduler.remove(turn);
                continue;
            };
            if !channel.is_sendable() {
                channel.outgoing.scheduled = false;
                self.scheduler.remove(turn);
                continue;
            }
            if !turn.has(channel.priority) {
                let priority = channel.priority;
                self.scheduler.remove(turn);
                self.scheduler.push(id, priority);
                continue;
            }
            let number = channel.number;
            let out = &mut channel.outgoing;
            let front = out.queue.front_mut();
            let room = usize::try_from(out.limit - out.sent).unwrap_or(usize::MAX);
            let body = front.as_ref().map_or(0, |front| front.len().min(turn.allowance).min(room));
            let in_place = body >= BULK;
            if (in_place && !scratch.is_empty()) || scratch.len() + HEAD_ROOM + body > RECORD {
                break;
            }
            let header = Header::new(&self.wire, number, body as u16);
            out.sent += body as u64;
            out.queued -= body;
            self.queued -= body;
            let whole = front.as_ref().is_some_and(|front| front.len() == body);
            if !in_place {
                scratch.extend_from_slice(header.as_slice());
                match front {
                    Some(front) => scratch.extend_from_slice(front.take_body(body)),
                    None => out.side = SendSide::Ended,
                }
            }
            let left = if whole { out.queue.pop_front() } else { None };
            let more = channel.is_sendable();
            channel.outgoing.scheduled = more;
            self.scheduler.charge(turn, body, more);
            self.wake_writer(id);
            if in_place {
                let chunk = match left {
                    Some(chunk) => self.in_flight.insert(chunk),
                    None => self.table.get_mut(id)?.outgoing.queue.front_mut()?,
                };
                return Some(Transmit { bytes: chunk.take_frame(header.as_slice(), body) });
            }
            if body == 0 {
                self.end_left(id);
            }
        }
        (!scratch.is_empty()).then_some(Transmit { bytes: scratch })
    }

    /// Our direction of the channel has ended.
    fn end_left(&mut self, id: ChannelId) {
        if let Some(channel) = self.table.get_mut(id)
            && matches!(self.wire, Wire::Jami(_))
        {
            channel.incoming.end();
        }
        self.settle(id);
    }
}

/// A frame header of either dialect.
struct Header {
    bytes: [u8; HEAD_ROOM],
    len: usize,
}

impl Header {
    fn new(wire: &Wire, number: u16, body: u16) -> Self {
        let mut bytes = [0; HEAD_ROOM];
        let len = match wire {
            Wire::Native(_) => {
                bytes[..FRAME_HEADER].copy_from_slice(&native::header(number, body));
                FRAME_HEADER
            }
            Wire::Jami(_) => jami::header(number, body, &mut bytes),
        };
        Self { bytes, len }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
