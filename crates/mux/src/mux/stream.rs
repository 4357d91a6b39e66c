//! Data and ends of channels, as the application sees them.

use std::time::Instant;

use bytes::Bytes;

use super::{Mux, Wire};
use crate::channel::{Channel, Phase, RecvSide, SendSide};
use crate::native::Message;
use crate::{ChannelError, ChannelId, Chunk, Event, MAX_BODY, Reason, WriteError, jami};

/// Chunks up to this size are appended to the one queued before them.
const GATHER: usize = 2048;

impl Mux {
    /// Queues `chunk`. An empty one does nothing. On [`WriteError::Full`] the chunk comes back and
    /// [`Event::Writable`] follows.
    pub fn write(&mut self, id: ChannelId, chunk: Chunk) -> Result<(), WriteError> {
        let room = self.writable(id);
        let channel =
            self.table.get_mut(id).filter(|channel| !channel.gone).ok_or(WriteError::UnknownChannel)?;
        let out = &mut channel.outgoing;
        if out.side != SendSide::Open {
            return Err(WriteError::Ended);
        }
        if channel.phase == Phase::Pending {
            return Err(WriteError::NotAccepted);
        }
        if chunk.is_empty() {
            return Ok(());
        }
        if chunk.len() > room {
            out.wants_room = true;
            return Err(WriteError::Full(chunk));
        }
        out.queued += chunk.len();
        self.queued += chunk.len();
        match out.queue.back_mut() {
            Some(last) if chunk.len() <= GATHER.min(last.room()) => {
                last.extend_from_slice(chunk.body());
            }
            _ => out.queue.push_back(chunk),
        }
        self.schedule(id);
        Ok(())
    }

    /// How many bytes [`write`](Self::write) is sure to take now; 0 if the channel takes none.
    pub fn writable(&self, id: ChannelId) -> usize {
        let Some(channel) = self.table.get(id).filter(|channel| !channel.gone) else { return 0 };
        if channel.outgoing.side != SendSide::Open || channel.phase == Phase::Pending {
            return 0;
        }
        self.room(channel)
    }

    fn room(&self, channel: &Channel) -> usize {
        let queued = channel.outgoing.queued;
        let own = self.config.send_buffer.saturating_sub(queued);
        let shared = self.config.send_budget.saturating_sub(self.queued);
        let least = if queued == 0 { MAX_BODY } else { 0 };
        own.min(shared).max(least)
    }

    /// Tells a channel whose write was turned down that there is room, once half of its buffer is free.
    pub(super) fn wake_writer(&mut self, id: ChannelId) {
        let Some(channel) = self.table.get(id).filter(|channel| channel.outgoing.wants_room) else { return };
        let queued = channel.outgoing.queued;
        if queued != 0 && (queued > self.config.send_buffer / 2 || self.room(channel) < MAX_BODY) {
            return;
        }
        if let Some(channel) = self.table.get_mut(id) {
            channel.outgoing.wants_room = false;
            self.events.push_back(Event::Writable { id });
        }
    }

    /// Ends our direction after what is queued. In the Jami dialect, which has no half-close, it closes the whole
    /// channel: what still arrives is dropped. Repeating it does nothing.
    pub fn finish(&mut self, id: ChannelId) -> Result<(), ChannelError> {
        let channel = self.table.known(id)?;
        if channel.phase == Phase::Pending {
            return Err(ChannelError::Pending);
        }
        if channel.outgoing.side == SendSide::Open {
            channel.outgoing.side = SendSide::Finishing;
            channel.outgoing.wants_room = false;
            self.schedule(id);
        }
        Ok(())
    }

    /// Gives the channel up at once: what is queued or unread is dropped, the id is unknown from now on.
    /// A request that waits for our decision is refused, one of ours withdrawn.
    pub fn reset(&mut self, id: ChannelId, reason: Reason) -> Result<(), ChannelError> {
        if self.table.known(id)?.phase == Phase::Pending {
            return self.refuse(id, reason);
        }
        let channel = self.table.known(id)?;
        channel.gone = true;
        self.committed -= std::mem::take(&mut channel.incoming.window);
        self.held -= channel.incoming.drop_held();
        self.queued -= channel.outgoing.drop_queue();
        let number = channel.number;
        let unanswered = matches!(channel.phase, Phase::Requested { .. });
        if matches!(channel.phase, Phase::Waiting { .. }) {
            // The peer has never heard of it.
            channel.incoming.end();
            channel.outgoing.side = SendSide::Ended;
            self.settle(id);
            return Ok(());
        }
        match &mut self.wire {
            Wire::Native(native) => {
                if channel.outgoing.side != SendSide::Ended {
                    channel.outgoing.side = SendSide::Ended;
                    native.say(Message::Reset { number, reason });
                } else if channel.incoming.side == RecvSide::Open {
                    native.say(Message::Stop { number, reason });
                }
                if !channel.incoming.is_ended() {
                    channel.incoming.side = RecvSide::Discarding;
                }
            }
            // Without an answer the peer may not know the number yet: the end goes out after it.
            Wire::Jami(_) if unanswered => channel.incoming.side = RecvSide::Discarding,
            Wire::Jami(jami) => {
                if channel.outgoing.side != SendSide::Ended {
                    jami.say(jami::Message::End { number });
                }
                channel.outgoing.side = SendSide::Ended;
                channel.incoming.end();
            }
        }
        self.settle(id);
        Ok(())
    }

    /// Takes no more data: what is unread or still arrives is dropped, and the peer is asked to stop (in the Jami
    /// dialect it cannot be asked).
    pub fn stop(&mut self, id: ChannelId, reason: Reason) -> Result<(), ChannelError> {
        let channel = self.table.known(id)?;
        if channel.phase == Phase::Pending {
            return Err(ChannelError::Pending);
        }
        let number = channel.number;
        self.committed -= std::mem::take(&mut channel.incoming.window);
        self.held -= channel.incoming.drop_held();
        if channel.incoming.side == RecvSide::Open {
            channel.incoming.side = RecvSide::Discarding;
            match (&mut self.wire, channel.phase) {
                // The request has to leave first: the stop follows it (see `send_requests`).
                (Wire::Native(_), Phase::Waiting { .. }) | (Wire::Jami(_), _) => {}
                (Wire::Native(native), _) => native.say(Message::Stop { number, reason }),
            }
        }
        self.settle(id);
        Ok(())
    }

    /// The next received bytes; `None` when there are none at present (or ever again, after
    /// [`Event::Finished`]).
    pub fn read(&mut self, id: ChannelId) -> Option<Bytes> {
        let incoming = &mut self.table.get_mut(id)?.incoming;
        let piece = incoming.inbox.pop();
        match &piece {
            Some(bytes) => incoming.handed += bytes.len() as u64,
            None => incoming.told = false,
        }
        piece
    }

    /// The application has used `bytes` of what [`read`](Self::read) returned: the peer may send as many more.
    /// More than was read counts as all that was read; unknown channels are ignored.
    pub fn consumed(&mut self, now: Instant, id: ChannelId, bytes: u64) {
        let Some(channel) = self.table.get_mut(id) else { return };
        let incoming = &mut channel.incoming;
        let bytes = bytes.min(incoming.handed - incoming.consumed);
        incoming.consumed += bytes;
        self.held -= bytes;
        if channel.is_over() {
            self.settle(id);
        } else {
            self.consider_credit(now, id);
        }
    }

    /// Payload bytes that fit the window have arrived.
    pub(super) fn deliver(&mut self, number: u16, bytes: &[u8]) {
        let Some(channel) = self.table.by_number(number) else { return };
        let incoming = &mut channel.incoming;
        incoming.received += bytes.len() as u64;
        if incoming.side == RecvSide::Open {
            incoming.inbox.push(&self.pool, bytes);
            self.held += bytes.len() as u64;
            if !std::mem::replace(&mut incoming.told, true) {
                self.events.push_back(Event::Readable { id: channel.id });
            }
        }
    }
}
