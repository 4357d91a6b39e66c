//! The Jami dialect: what the peer's frames do (connection.md sections 6.3 to 6.7).

use std::collections::VecDeque;
use std::mem;
use std::time::Instant;

use super::transmit::RECORD;
use super::{Mux, Wire};
use crate::channel::{Phase, RecvSide, SendSide};
use crate::jami::{Decoder, Inbound, Message, PROTOCOL, Piece, RequestState};
use crate::msgpack::Reader;
use crate::{ChannelId, Code, Event, PeerFault, Priority};

/// Requests of ours that may be unanswered at once. The peer keeps any number; this bounds what we ask of it.
const MAX_UNANSWERED: usize = 1024;

/// Collisions of one request, beyond which it counts as refused. Peers of 2023 draw one of 65 534 numbers, so two in a
/// row are no accident.
const MAX_RENUMBERED: u8 = 8;

/// State of the Jami dialect.
#[derive(Debug)]
pub(super) struct Jami {
    decoder: Decoder,
    control: VecDeque<Queued>,
    /// The rest of control frames that did not fit one record (long names).
    spill: Vec<u8>,
    /// As the peer announced it; from 1 on it answers beacons.
    pub(super) peer_version: Option<u64>,
}

/// A message on its way out.
#[derive(Debug)]
struct Queued {
    message: Message,
    /// Bytes charged to the peer, who made us send it.
    charge: usize,
}

impl Jami {
    pub(super) fn new() -> Self {
        let mut jami = Self {
            decoder: Decoder::default(),
            control: VecDeque::new(),
            spill: Vec::new(),
            peer_version: None,
        };
        jami.say(Message::Version);
        jami
    }

    /// Queues a message.
    pub(super) fn say(&mut self, message: Message) {
        self.control.push_back(Queued { message, charge: 0 });
    }
}

impl Mux {
    /// Queues a message the peer made us send.
    fn answer(&mut self, message: Message, charge: usize) {
        if let Wire::Jami(jami) = &mut self.wire {
            jami.control.push_back(Queued { message, charge });
            self.replies += charge;
        }
    }

    /// Writes as many control messages as fit; says whether all did.
    pub(super) fn write_jami_control(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let Wire::Jami(jami) = &mut self.wire else { return true };
        out.append(&mut jami.spill);
        while out.len() < RECORD {
            let Wire::Jami(jami) = &mut self.wire else { break };
            if let Some(queued) = jami.control.pop_front() {
                queued.message.encode(out);
                self.replies -= queued.charge;
                if queued.message == (Message::Beacon { request: true }) {
                    self.liveness.ping_left(now);
                }
            } else if let Some(id) =
                (self.unanswered < MAX_UNANSWERED).then(|| self.waiting.pop_front()).flatten()
            {
                let Some(channel) = self.table.get_mut(id) else { continue };
                channel.phase = Phase::Requested { early: false, collided: false };
                let name = channel.name.as_bytes().into();
                Message::Request { number: channel.number, name }.encode(out);
                self.unanswered += 1;
            } else {
                return true;
            }
        }
        if let Wire::Jami(jami) = &mut self.wire {
            jami.spill = out.split_off(RECORD.min(out.len()));
        }
        false
    }

    pub(super) fn handle_jami(&mut self, now: Instant, mut data: &[u8]) -> Result<(), PeerFault> {
        let Wire::Jami(jami) = &mut self.wire else { return Ok(()) };
        let mut decoder = mem::take(&mut jami.decoder);
        while let Some(piece) = decoder.next(&mut data)? {
            match piece {
                Piece::Data { number, bytes } => self.on_jami_data(number, bytes),
                Piece::End { number } => self.on_jami_end(number),
                Piece::Control { number, bytes } => self.on_jami_control(now, number, bytes),
            }
        }
        if let Wire::Jami(jami) = &mut self.wire {
            jami.decoder = decoder;
        }
        Ok(())
    }

    /// Data of unknown channels is dropped. So is what arrives before an answer: it was meant for a former channel
    /// of the same number.
    fn on_jami_data(&mut self, number: u16, bytes: &[u8]) {
        if self.table.by_number(number).is_some_and(|channel| channel.phase == Phase::Open) {
            self.deliver(number, bytes);
        }
    }

    fn on_jami_end(&mut self, number: u16) {
        let Some(channel) = self.table.by_number(number) else { return };
        let id = channel.id;
        match channel.phase {
            Phase::Waiting { .. } | Phase::Requested { .. } => return,
            Phase::Pending => self.events.push_back(Event::Reset { id, reason: Code::Unspecified.into() }),
            Phase::Open => {
                if !channel.gone {
                    self.events.push_back(Event::Finished { id });
                    if channel.outgoing.side == SendSide::Open {
                        self.events.push_back(Event::Stopped { id, reason: Code::Unspecified.into() });
                    }
                }
            }
        }
        channel.incoming.end();
        channel.outgoing.side = SendSide::Ended;
        self.queued -= channel.outgoing.drop_queue();
        self.settle(id);
    }

    /// A malformed object ends the frame, and only that.
    fn on_jami_control(&mut self, now: Instant, number: u16, bytes: &[u8]) {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let Ok(inbound) = Inbound::decode(&mut reader) else {
                tracing::debug!(number, "malformed control object");
                return;
            };
            let understood = match inbound {
                // Requests do not belong on the protocol channel.
                Inbound::Request { .. } if number == PROTOCOL => false,
                Inbound::Request { state: RequestState::Request, number, name } => {
                    self.on_jami_request(now, number, name);
                    true
                }
                Inbound::Request { state: RequestState::Accept, number, name } => {
                    self.on_jami_accept(number, name);
                    true
                }
                Inbound::Request { state: RequestState::Decline, number, name } => {
                    self.on_jami_decline(number, name);
                    true
                }
                Inbound::Version(version) => {
                    if let Wire::Jami(jami) = &mut self.wire {
                        jami.peer_version = Some(version);
                    }
                    true
                }
                Inbound::Beacon { request: true } => {
                    self.answer(Message::Beacon { request: false }, 16);
                    true
                }
                Inbound::Beacon { request: false } => {
                    self.on_pong(now, None);
                    true
                }
                Inbound::Unknown => false,
            };
            if understood && number == PROTOCOL {
                return;
            }
        }
    }

    fn on_jami_request(&mut self, now: Instant, number: u16, name: &[u8]) {
        let free = match self.table.by_number(number) {
            Some(channel) => {
                if let Phase::Requested { collided, .. } = &mut channel.phase {
                    // Both sides took the same number; ours will be declined, and gets another.
                    *collided = true;
                }
                false
            }
            None => number != 0 && number != PROTOCOL,
        };
        let text = std::str::from_utf8(name).ok().filter(|_| free && self.objection(name).is_none());
        match text {
            Some(text) => self.admit(now, number, text.into(), Priority::default(), u64::MAX, u64::MAX),
            None => self.answer(Message::Decline { number, name: name.into() }, 16 + name.len()),
        }
    }

    /// The channel of ours under `number` and `name` that waits for an answer.
    fn jami_requested(&mut self, number: u16, name: &[u8]) -> Option<&mut crate::channel::Channel> {
        self.table.by_number(number).filter(|channel| {
            matches!(channel.phase, Phase::Requested { .. }) && channel.name.as_bytes() == name
        })
    }

    /// Answers to what was not asked are ignored.
    fn on_jami_accept(&mut self, number: u16, name: &[u8]) {
        let Some(channel) = self.jami_requested(number, name) else { return };
        let (id, gone) = (channel.id, channel.gone);
        if !gone && matches!(channel.phase, Phase::Requested { collided: true, .. }) {
            // A peer of 2023 accepts a number in use and means the channel that it had requested itself, which our
            // refusal ends. Nothing tells this from a true answer, so the number is given up.
            self.answer(Message::End { number }, 16);
            if !self.request_again(id) {
                self.on_refused(id, Code::Unspecified.into());
            }
            return;
        }
        if gone {
            // Withdrawn meanwhile.
            channel.incoming.side = RecvSide::Ended;
            channel.outgoing.side = SendSide::Ended;
            self.answer(Message::End { number }, 16);
        }
        self.on_accepted(id, u64::MAX);
        self.settle(id);
    }

    fn on_jami_decline(&mut self, number: u16, name: &[u8]) {
        let Some(channel) = self.jami_requested(number, name) else { return };
        let id = channel.id;
        let collided = matches!(channel.phase, Phase::Requested { collided: true, .. }) && !channel.gone;
        if !(collided && self.request_again(id)) {
            self.on_refused(id, Code::Unspecified.into());
        }
    }

    /// Requests a channel of ours under another number. `false` if none is free, or it was done too often.
    fn request_again(&mut self, id: ChannelId) -> bool {
        if self.table.get(id).is_none_or(|channel| channel.renumbered >= MAX_RENUMBERED) {
            return false;
        }
        let Some(number) = self.free_number() else { return false };
        self.table.rebind(id, number);
        if let Some(channel) = self.table.get_mut(id) {
            channel.phase = Phase::Waiting { early: false };
            channel.renumbered += 1;
        }
        self.unanswered -= 1;
        self.waiting.push_back(id);
        true
    }
}
