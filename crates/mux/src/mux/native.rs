//! The native dialect: what the peer's frames and messages do.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Instant;

use super::{Mux, Wire, open};
use crate::channel::{Channel, Phase, RecvSide, SendSide};
use crate::msgpack::Reader;
use crate::native::{Decoder, FRAME_HEADER, MAX_MESSAGE, Message, Piece, Settings, VERSION, header};
use crate::{ChannelId, Code, Config, Event, MAX_WINDOW, PeerFault, Reason};

use super::transmit::RECORD;

/// State of the native dialect.
#[derive(Debug)]
pub(super) struct Native {
    decoder: Decoder,
    control: VecDeque<Queued>,
    /// Channels to give credit to.
    pub(super) credits: VecDeque<ChannelId>,
    /// What the peer said of itself, once it did.
    peer: Option<Settings>,
    /// Numbers of refused requests whose opener has not ended its direction yet, and the bytes it may still send.
    refused: BTreeMap<u16, u64>,
}

/// A message on its way out.
#[derive(Debug)]
struct Queued {
    message: Message,
    /// Bytes charged to the peer, who made us send it.
    charge: usize,
}

/// What a message the peer made us send is charged with, text aside.
const REPLY_CHARGE: usize = 16;

impl Native {
    pub(super) fn new(config: &Config) -> Self {
        let mut native = Self {
            decoder: Decoder::default(),
            control: VecDeque::new(),
            credits: VecDeque::new(),
            peer: None,
            refused: BTreeMap::new(),
        };
        native.say(Message::Settings(Settings::of(config)));
        native
    }

    /// Queues a message.
    pub(super) fn say(&mut self, message: Message) {
        self.control.push_back(Queued { message, charge: 0 });
    }

    /// Refuses a request; `allowance` is what its opener may still send, `None` if it has ended.
    pub(super) fn refuse(&mut self, number: u16, reason: Reason, allowance: Option<u64>) {
        self.say(Message::Refuse { number, reason });
        if let Some(allowance) = allowance {
            self.refused.insert(number, allowance);
        }
    }

    fn peer(&self) -> Settings {
        self.peer.unwrap_or(Settings::least())
    }
}

impl Mux {
    /// Queues a message the peer made us send.
    fn reply(&mut self, message: Message) {
        if let Wire::Native(native) = &mut self.wire {
            native.control.push_back(Queued { message, charge: REPLY_CHARGE });
            self.replies += REPLY_CHARGE;
        }
    }

    pub(super) fn say_go_away(&mut self, reason: Reason) {
        if let Wire::Native(native) = &mut self.wire {
            native.say(Message::GoAway { reason });
        }
    }

    /// Writes as many control messages as fit; says whether all did.
    pub(super) fn write_native_control(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        out.resize(FRAME_HEADER, 0);
        let full = |out: &Vec<u8>| out.len() + MAX_MESSAGE > RECORD;
        while let Wire::Native(native) = &mut self.wire
            && !full(out)
        {
            if let Some(queued) = native.control.pop_front() {
                queued.message.encode(out);
                self.replies -= queued.charge;
                if matches!(queued.message, Message::Ping { .. }) {
                    self.liveness.ping_left(now);
                }
            } else if let Some(id) = native.credits.pop_front() {
                if let Some(message) = self.table.get_mut(id).and_then(credit) {
                    message.encode(out);
                }
            } else if !self.write_request(out) {
                break;
            }
        }
        let done = !full(out);
        let body = out.len() - FRAME_HEADER;
        if body == 0 {
            out.clear();
        } else {
            out[..FRAME_HEADER].copy_from_slice(&header(0, body as u16));
        }
        done
    }

    /// Writes the next of our requests, if the peer would keep one more undecided.
    fn write_request(&mut self, out: &mut Vec<u8>) -> bool {
        let Wire::Native(native) = &mut self.wire else { return false };
        let peer = native.peer();
        if self.unanswered as u64 >= peer.pending {
            return false;
        }
        let Some(id) = self.waiting.pop_front() else { return false };
        let Some(channel) = self.table.get_mut(id) else { return true };
        let early = matches!(channel.phase, Phase::Waiting { early: true });
        let number = channel.number;
        channel.phase = Phase::Requested { early, collided: false };
        channel.outgoing.limit = if early { peer.early } else { 0 };
        Message::Open {
            number,
            name: channel.name.clone(),
            window: channel.incoming.limit,
            priority: channel.priority,
            early,
        }
        .encode(out);
        if channel.incoming.side == RecvSide::Discarding {
            native.say(Message::Stop { number, reason: Code::Cancelled.into() });
        }
        self.unanswered += 1;
        self.schedule(id);
        true
    }

    pub(super) fn handle_native(&mut self, now: Instant, mut data: &[u8]) -> Result<(), PeerFault> {
        let Wire::Native(native) = &mut self.wire else { return Ok(()) };
        let mut decoder = mem::take(&mut native.decoder);
        while let Some(piece) = decoder.next(&mut data)? {
            match piece {
                Piece::Start { number, len } => self.on_frame(number, len)?,
                Piece::Data { number, bytes } => self.deliver(number, bytes),
                Piece::End { number } => self.on_end(number)?,
                Piece::Control(bytes) => self.on_control(now, bytes)?,
            }
        }
        if let Wire::Native(native) = &mut self.wire {
            native.decoder = decoder;
        }
        Ok(())
    }

    fn on_frame(&mut self, number: u16, len: u16) -> Result<(), PeerFault> {
        let Some(channel) = self.table.by_number(number) else {
            let Wire::Native(native) = &mut self.wire else { return Ok(()) };
            let allowance = native.refused.get_mut(&number).ok_or(PeerFault::UnknownChannel(number))?;
            return match allowance.checked_sub(len.into()) {
                Some(left) => {
                    *allowance = left;
                    Ok(())
                }
                None => Err(PeerFault::WindowExceeded { channel: number, by: u64::from(len) - *allowance }),
            };
        };
        let incoming = &channel.incoming;
        if incoming.is_ended() {
            return Err(PeerFault::UsedAfterEnd(number));
        }
        if channel.is_unanswered() {
            return Err(PeerFault::UnexpectedAnswer(number));
        }
        let after = incoming.received + u64::from(len);
        if after > incoming.limit {
            return Err(PeerFault::WindowExceeded { channel: number, by: after - incoming.limit });
        }
        Ok(())
    }

    fn on_end(&mut self, number: u16) -> Result<(), PeerFault> {
        let Some(channel) = self.table.by_number(number) else {
            return self.refused_ended(number);
        };
        if channel.is_unanswered() {
            return Err(PeerFault::UnexpectedAnswer(number));
        }
        let id = channel.id;
        if channel.incoming.is_ended() {
            return Err(PeerFault::UsedAfterEnd(number));
        }
        if channel.incoming.side == RecvSide::Open {
            self.events.push_back(Event::Finished { id });
        }
        channel.incoming.end();
        self.committed -= mem::take(&mut channel.incoming.window);
        self.settle(id);
        Ok(())
    }

    /// The opener of a request that was refused has ended its direction.
    fn refused_ended(&mut self, number: u16) -> Result<(), PeerFault> {
        let Wire::Native(native) = &mut self.wire else { return Ok(()) };
        native.refused.remove(&number).map(drop).ok_or(PeerFault::UnknownChannel(number))
    }

    fn on_control(&mut self, now: Instant, bytes: &[u8]) -> Result<(), PeerFault> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let message = Message::decode(&mut reader).map_err(|_| PeerFault::MalformedControl)?;
            let Wire::Native(native) = &mut self.wire else { return Ok(()) };
            let is_settings = matches!(message, Some(Message::Settings(_)));
            if is_settings == native.peer.is_some() {
                return Err(PeerFault::Settings);
            }
            if let Some(message) = message {
                self.on_message(now, message)?;
            }
        }
        Ok(())
    }

    fn on_message(&mut self, now: Instant, message: Message) -> Result<(), PeerFault> {
        match message {
            Message::Settings(settings) => {
                if settings.version != VERSION {
                    return Err(PeerFault::Version(settings.version));
                }
                if let Wire::Native(native) = &mut self.wire {
                    native.peer = Some(settings);
                }
                Ok(())
            }
            Message::Open { number, name, window, priority, early } => {
                let (low, high) = open::half(self.side.peer());
                let Wire::Native(native) = &mut self.wire else { return Ok(()) };
                if !(low..=high).contains(&number)
                    || self.table.is_bound(number)
                    || native.refused.contains_key(&number)
                {
                    return Err(PeerFault::BadNumber(number));
                }
                if window > MAX_WINDOW {
                    return Err(PeerFault::BadCredit(number));
                }
                let allowance = if early { self.config.early_window } else { 0 };
                if let Some(code) = self.objection(name.as_bytes()) {
                    self.reply(Message::Refuse { number, reason: code.into() });
                    if let Wire::Native(native) = &mut self.wire {
                        native.refused.insert(number, allowance);
                    }
                } else {
                    self.admit(now, number, name, priority, allowance, window);
                }
                Ok(())
            }
            Message::Accept { number, window } => {
                let (id, sent) = self.requested(number)?;
                if window < sent || window - sent > MAX_WINDOW {
                    return Err(PeerFault::BadCredit(number));
                }
                self.on_accepted(id, window);
                Ok(())
            }
            Message::Refuse { number, reason } => {
                let (id, _) = self.requested(number)?;
                self.end_our_side(id);
                self.on_refused(id, reason);
                Ok(())
            }
            Message::Window { number, credit } => {
                if let Some(channel) = self.answered(number) {
                    let out = &mut channel.outgoing;
                    let limit = out.limit.checked_add(credit).ok_or(PeerFault::BadCredit(number))?;
                    if limit - out.sent > MAX_WINDOW {
                        return Err(PeerFault::BadCredit(number));
                    }
                    out.limit = limit;
                    let id = channel.id;
                    self.schedule(id);
                }
                Ok(())
            }
            Message::Reset { number, reason } => self.on_reset(number, reason),
            Message::Stop { number, reason } => {
                if let Some(channel) = self.answered(number)
                    && channel.outgoing.side != SendSide::Ended
                {
                    let (id, gone) = (channel.id, channel.gone);
                    channel.outgoing.side = SendSide::Finishing;
                    self.queued -= channel.outgoing.drop_queue();
                    if !gone {
                        self.events.push_back(Event::Stopped { id, reason });
                    }
                    self.schedule(id);
                }
                Ok(())
            }
            Message::Shrink { number, credit } => {
                if let Some(channel) = self.answered(number)
                    && channel.outgoing.side != SendSide::Ended
                {
                    let out = &mut channel.outgoing;
                    let given = credit.min(out.limit - out.sent);
                    out.limit -= given;
                    self.reply(Message::Shrunk { number, credit: given });
                }
                Ok(())
            }
            Message::Shrunk { number, credit } => self.on_shrunk(now, number, credit),
            Message::Ping { nonce } => {
                self.reply(Message::Pong { nonce });
                Ok(())
            }
            Message::Pong { nonce } => {
                self.on_pong(now, Some(nonce));
                Ok(())
            }
            Message::GoAway { reason } => {
                self.on_go_away(&reason);
                Ok(())
            }
        }
    }

    /// The channel of ours that waits for an answer, and what was sent on it early.
    fn requested(&mut self, number: u16) -> Result<(ChannelId, u64), PeerFault> {
        match self.table.by_number(number) {
            Some(channel) if matches!(channel.phase, Phase::Requested { .. }) => {
                Ok((channel.id, channel.outgoing.sent))
            }
            _ => Err(PeerFault::UnexpectedAnswer(number)),
        }
    }

    /// The channel a window, stop or shrink is for. Before its answer such a message can only be for a former
    /// channel of the same number, as when there is none.
    fn answered(&mut self, number: u16) -> Option<&mut Channel> {
        self.table.by_number(number).filter(|channel| !channel.is_unanswered())
    }

    /// Ends our direction without more data, if it has not ended.
    fn end_our_side(&mut self, id: ChannelId) {
        let Some(channel) = self.table.get_mut(id) else { return };
        let number = channel.number;
        self.queued -= channel.outgoing.drop_queue();
        if mem::replace(&mut channel.outgoing.side, SendSide::Ended) != SendSide::Ended {
            self.reply(Message::Reset { number, reason: Code::Cancelled.into() });
        }
    }

    fn on_reset(&mut self, number: u16, reason: Reason) -> Result<(), PeerFault> {
        let Some(channel) = self.table.by_number(number) else {
            return self.refused_ended(number);
        };
        let id = channel.id;
        match channel.phase {
            Phase::Waiting { .. } => return Err(PeerFault::UnexpectedAnswer(number)),
            Phase::Requested { .. } => {
                // The answer to a withdrawal that came before the decision.
                self.end_our_side(id);
                self.on_refused(id, reason);
                return Ok(());
            }
            Phase::Pending | Phase::Open => {}
        }
        if channel.incoming.is_ended() {
            return Err(PeerFault::UsedAfterEnd(number));
        }
        if !channel.gone {
            self.events.push_back(Event::Reset { id, reason });
        }
        channel.incoming.end();
        self.committed -= mem::take(&mut channel.incoming.window);
        self.held -= channel.incoming.drop_held();
        self.end_our_side(id);
        self.settle(id);
        Ok(())
    }

    /// The peer gave credit back, perhaps all it had, while the channel was waking up: what arrived meanwhile may be
    /// read already, and then nothing else would bring new credit.
    fn on_shrunk(&mut self, now: Instant, number: u16, credit: u64) -> Result<(), PeerFault> {
        let least = self.config.min_window;
        let Some(channel) = self.answered(number).filter(|channel| !channel.incoming.is_ended()) else {
            return Ok(());
        };
        let id = channel.id;
        let incoming = &mut channel.incoming;
        if !mem::replace(&mut incoming.shrinking, false) || credit > incoming.limit - incoming.received {
            return Err(PeerFault::BadCredit(number));
        }
        incoming.limit -= credit;
        if incoming.side == RecvSide::Open {
            let before = incoming.window;
            incoming.window = before.saturating_sub(credit).max(least);
            let after = incoming.window;
            self.committed = self.committed - before + after;
            self.consider_credit(now, id);
        }
        Ok(())
    }
}

/// The message that tops the channel's window up.
fn credit(channel: &mut Channel) -> Option<Message> {
    let incoming = &mut channel.incoming;
    incoming.credit_due = false;
    let limit = incoming.consumed + incoming.window;
    if incoming.side != RecvSide::Open || limit <= incoming.limit {
        return None;
    }
    let credit = limit - mem::replace(&mut incoming.limit, limit);
    Some(Message::Window { number: channel.number, credit })
}
