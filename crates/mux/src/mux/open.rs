//! Requests: ours and the peer's.

use std::time::Instant;

use super::{Life, Mux, Wire};
use crate::channel::{Channel, Phase, SendSide};
use crate::native::Message;
use crate::{
    ChannelError, ChannelId, Code, Event, MAX_NAME, OpenError, OpenOptions, Priority, Reason, Side, jami,
};

/// First and last channel number of the half that is `side`'s to give.
pub(super) fn half(side: Side) -> (u16, u16) {
    match side {
        Side::TlsClient => (0x0001, 0x7fff),
        Side::TlsServer => (0x8000, 0xfffe),
    }
}

impl Mux {
    /// Requests a channel. Data may be written at once; it leaves when the peer has accepted, or earlier with
    /// [`OpenOptions::early`]. The answer is [`Event::Accepted`] or [`Event::Refused`].
    ///
    /// No more requests than the peer keeps undecided are on their way at once; the others wait here.
    #[doc(alias = "connectDevice")]
    pub fn open(&mut self, now: Instant, name: &str, options: OpenOptions) -> Result<ChannelId, OpenError> {
        match self.life {
            Life::Running { leaving: false, peer_leaving: false } => {}
            Life::Running { .. } => return Err(OpenError::GoingAway),
            Life::Closed | Life::Failed(_) => return Err(OpenError::Closed),
        }
        match name.len() {
            0 => return Err(OpenError::EmptyName),
            1..=MAX_NAME => {}
            len => return Err(OpenError::NameTooLong(len)),
        }
        let number = self.free_number().ok_or(OpenError::NoFreeNumber)?;
        let phase = Phase::Waiting { early: options.early && self.capabilities().early };
        let window = self.fresh_window();
        let windows = matches!(self.wire, Wire::Native(_));
        let id = self.table.insert(number, |id| {
            let mut channel = Channel::new(id, name.into(), true, options.priority, phase, now);
            if windows {
                (channel.incoming.window, channel.incoming.limit) = (window, window);
            } else {
                (channel.outgoing.limit, channel.incoming.limit) = (u64::MAX, u64::MAX);
            }
            channel
        });
        if windows {
            self.committed += window;
        }
        self.waiting.push_back(id);
        Ok(id)
    }

    /// A free number of our half, not lately used; in the Jami dialect, when there is none, one of the other half.
    pub(super) fn free_number(&mut self) -> Option<u16> {
        let (low, high) = half(self.side);
        let number = self.table.free_number(self.next_number, low, high).or_else(|| {
            let (low, high) = half(self.side.peer());
            matches!(self.wire, Wire::Jami(_)).then(|| self.table.free_number(low, low, high))?
        })?;
        self.next_number = if number < high { number + 1 } else { low };
        Some(number)
    }

    /// Accepts a request ([`Event::Requested`]). Data may be written at once.
    pub fn accept(&mut self, now: Instant, id: ChannelId) -> Result<(), ChannelError> {
        let fresh = self.fresh_window();
        let channel = self.table.pending(id)?;
        channel.phase = Phase::Open;
        let number = channel.number;
        let incoming = &mut channel.incoming;
        incoming.credited_at = now;
        let before = incoming.window;
        let limit = incoming.limit.max(incoming.consumed.saturating_add(fresh));
        let name = channel.name.clone();
        match &mut self.wire {
            Wire::Native(native) => {
                incoming.limit = limit;
                incoming.window = limit - incoming.consumed;
                self.committed = self.committed - before + incoming.window;
                native.say(Message::Accept { number, window: limit });
            }
            Wire::Jami(jami) => jami.say(jami::Message::Accept { number, name: name.as_bytes().into() }),
        }
        self.pending -= 1;
        self.pending_names -= name.len();
        self.schedule(id);
        Ok(())
    }

    /// Refuses a request; the channel is gone for the caller.
    pub fn refuse(&mut self, id: ChannelId, reason: Reason) -> Result<(), ChannelError> {
        let channel = self.table.pending(id)?;
        let number = channel.number;
        let allowance =
            (!channel.incoming.is_ended()).then(|| channel.incoming.limit - channel.incoming.received);
        match &mut self.wire {
            Wire::Native(native) => native.refuse(number, reason, allowance),
            Wire::Jami(jami) => {
                let name = channel.name.as_bytes().into();
                jami.say(jami::Message::Decline { number, name });
            }
        }
        channel.gone = true;
        channel.outgoing.side = SendSide::Ended;
        channel.incoming.end();
        self.settle(id);
        Ok(())
    }

    /// Why a request of the peer named `name` is not even shown to the application, if so.
    pub(super) fn objection(&self, name: &[u8]) -> Option<Code> {
        if matches!(self.life, Life::Running { leaving: true, .. }) {
            Some(Code::GoingAway)
        } else if name.is_empty() || name.len() > self.config.max_name || std::str::from_utf8(name).is_err() {
            Some(Code::BadName)
        } else if self.peer_channels >= self.config.max_channels {
            Some(Code::TooManyChannels)
        } else if self.pending >= self.config.max_pending
            || self.pending_names + name.len() > self.config.max_pending_names
        {
            Some(Code::TooManyPending)
        } else {
            None
        }
    }

    /// Shows a request of the peer to the application; `early` is what may be received before the decision.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        number: u16,
        name: Box<str>,
        priority: Priority,
        early: u64,
        credit: u64,
    ) {
        self.pending += 1;
        self.pending_names += name.len();
        self.peer_channels += 1;
        let windows = matches!(self.wire, Wire::Native(_));
        let id = self.table.insert(number, |id| {
            let mut channel = Channel::new(id, name.clone(), false, priority, Phase::Pending, now);
            channel.outgoing.limit = credit;
            channel.incoming.limit = early;
            channel.incoming.window = if windows { early } else { 0 };
            channel
        });
        if windows {
            self.committed += early;
        }
        self.events.push_back(Event::Requested { id, name, priority });
    }

    /// The peer accepted. `credit` is what it lets us send in all.
    pub(super) fn on_accepted(&mut self, id: ChannelId, credit: u64) {
        let Some(channel) = self.table.get_mut(id) else { return };
        channel.phase = Phase::Open;
        channel.outgoing.limit = credit;
        self.unanswered -= 1;
        if !channel.gone {
            self.events.push_back(Event::Accepted { id });
        }
        self.schedule(id);
    }

    /// The peer refused, or the request never left.
    pub(super) fn on_refused(&mut self, id: ChannelId, reason: Reason) {
        let Some(channel) = self.table.get_mut(id) else { return };
        if matches!(channel.phase, Phase::Requested { .. }) {
            self.unanswered -= 1;
        }
        if !std::mem::replace(&mut channel.gone, true) {
            self.events.push_back(Event::Refused { id, reason });
        }
        channel.incoming.end();
        self.held -= channel.incoming.drop_held();
        self.queued -= channel.outgoing.drop_queue();
        channel.outgoing.side = SendSide::Ended;
        self.settle(id);
    }

    /// The peer takes no new channels: requests that have not left are refused here.
    pub(super) fn on_go_away(&mut self, reason: &Reason) {
        if let Life::Running { peer_leaving, .. } = &mut self.life {
            *peer_leaving = true;
        }
        self.events.push_back(Event::GoAway { reason: reason.clone() });
        while let Some(id) = self.waiting.pop_front() {
            self.on_refused(id, Reason { code: Code::GoingAway, text: reason.text.clone() });
        }
    }
}
