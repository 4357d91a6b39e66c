//! One channel: two directions, no keys, no links.
//!
//! A direction is a row of offsets. On a stream each byte has one. On a message channel the messages follow each other, each with
//! as many offsets as bytes, but an empty one with one, so that windows bound their number; beside that messages are numbered
//! from 0. A message longer than a packet travels in parts. Only a channel that is ordered and repairs for ever
//! is a stream.
//!
//! # What the kinds do
//!
//! What the sender does about a lost packet depends on the repair, and always concerns whole messages:
//!
//! | resend | bytes are kept until | a lost packet | given up |
//! | --- | --- | --- | --- |
//! | `No` | they are sent | gives its messages up | at once |
//! | `Tries(n)` | acknowledged or given up | is repaired, its range at most n times | when the last repair is lost |
//! | `Until(d)` | acknowledged or given up | is repaired before the deadline | when the deadline passes, and it is known to be lost or was never sent |
//! | `Forever` | acknowledged | is repaired | never |
//!
//! What was given up is told by ABANDON until the peer knows. A message whose parts were partly sent, or that expired unsent, still uses
//! all of its offsets and its number: it is passed over when the windows allow it.
//!
//! What the receiver does (a row for each, R O C as in `spec/channeler.md` section 2.2, close on loss being C):
//!
//! | R O C | delivery | a hole | given up |
//! | --- | --- | --- | --- |
//! | 0 0 0 | as messages become whole | nobody waits | counted |
//! | 0 0 1 | the same | the same | closes |
//! | 0 1 0 | in order | waited for until ABANDON, or for `Config::reorder_wait` since it opened, then skipped; what comes later is dropped | skipped and counted |
//! | 0 1 1 | in order | the same | closes; so does the end of the wait |
//! | 1 0 0 | as messages become whole | nobody waits | counted |
//! | 1 0 1 | the same | the same | closes |
//! | 1 1 0 | in order | waited for until ABANDON | skipped and counted |
//! | 1 1 1 | in order; with `Forever`, as a stream | the same | closes |
//!
//! *Reorder*: data has its offsets, so it only matters where the table says in order. *Duplicates*: an offset counts once, whatever
//! brings it again is ignored, also when it was abandoned or skipped. A message that arrived whole is delivered even if
//! the sender gave it up. *Closes* means that whichever side knows first ends the channel as by a reset with [`Code::LOSS`],
//! which both programs hear as [`Reason::Loss`]; what was not yet read is dropped.
//!
//! # The end
//!
//! *Finish*: what was written is still sent and repaired as always, then the end is told (DATA_FIN, MESSAGE_FIN, FINISH) until
//! the peer knows it, on every kind of channel. The peer's program hears `Finished` when all before the end was read or given up.
//! The other direction goes on.
//!
//! *Stop*: the reader drops what it has and says STOP until it hears where the direction ends. The writer drops
//! what it has, ends the direction where sending was, and its program is refused further writes. The other direction goes on.
//!
//! *Reset*: both directions end at once on both sides. Each side says RESET with the end of its own direction until that is
//! known, the second one as an answer, so that both count the same offsets.
//!
//! `Ended` is told once: after a reset, at once; otherwise when the peer's direction was read to its end or
//! stopped, and the peer knows all of the own one: data, end, and what was given up. The reason is `Finished` unless a side stopped. The
//! channel can be forgotten when [`Channel::is_gone`]; after a reset that is when the peer knows of it and its own end is known.
//!
//! # Windows
//!
//! The receiver grants offsets and message numbers, both as bounds (WINDOW). Its floor is the lowest offset that is neither
//! read nor given up; the bounds are the floor, and the number of the message there, plus a window. So what is held lies within one
//! window whatever the order of reading. A WINDOW is due when half was used up; the window of offsets doubles, up to
//! `Config::max_window`, when an eighth was consumed within a round trip. A message channel's window is never below
//! two of the longest messages: each can be read only when it is whole.
//!
//! Of the connection's window a direction uses what its highest offset says, sent or given up ([`Effects::sent`],
//! [`Effects::received`]), and gives back what the floor passed ([`Effects::consumed`]); a direction that ends gives back all.
//!
//! The sender holds at most `Config::send_buffer`, at first 64 KiB; that doubles while a writer waits though everything is on its
//! way. Nor does it hold more than its share of what the connection may hold, which is given with each write.
//!
//! Bytes that are handed over in buffers of 4 KiB and more stay in them until they are acknowledged, and those of long packets in one of
//! their own until they are read. All others lie in chunks of 4 KiB from a pool of the connection, and only where there are bytes: a chunk goes back as soon as its bytes
//! were read, or acknowledged, and is the next to be taken, by whichever channel. So memory is what is held, however wide the
//! windows once were and however many channels there are, and what is read as it comes stays in the caches. Queues keep their size
//! while a channel is used, so that nothing is allocated per packet, and are freed one to two seconds after its last use; so are
//! chunks that nobody needed for a second.

mod control;
mod effects;
mod fill;
mod inbox;
mod loss;
mod outbox;
mod program;
mod ranges;
mod receive;
mod ring;
mod rope;
mod send;
#[cfg(test)]
mod tests;

pub(crate) use control::Said;
pub(crate) use effects::{Context, Effects, Room};
pub(crate) use inbox::Part;
pub(crate) use ring::{CHUNK, Pool};
pub(crate) use rope::PIECE;
pub(crate) use send::{Carried, Load, Wants};

use std::time::{Duration, Instant};

use bytes::Bytes;

use self::{
    receive::{Receiver, first_window, reason},
    send::{LossCloses, Sender},
};
use crate::{
    Capabilities, ChannelId, Code, Config, Reason, Violation,
    wire::message::{AbandonedRange, CONTROL_MAX, kind},
};

use kind::{ABANDON, DATA, MESSAGE_FIN, PART};

/// Bytes that a MESSAGE_FIN never exceeds.
const FIN_ROOM: usize = CONTROL_MAX;

/// How long a channel has to be unused before its memory is given back.
const IDLE: Duration = Duration::from_secs(1);

/// What the peer's transport parameters say about each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerLimits {
    /// First window, bytes.
    pub(crate) window: u64,
    /// First window, messages.
    pub(crate) messages: u64,
    /// Longest message.
    pub(crate) max_message: u64,
}

/// What has become of a message that has to arrive once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Once {
    /// It is not to be sent.
    No,
    Due,
    /// On its way.
    Sent,
    /// It arrived.
    Known,
}

impl Once {
    /// It was lost.
    fn again(&mut self) {
        if *self == Self::Sent {
            *self = Self::Due;
        }
    }
}

/// How far the channel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// Both directions were finished.
    Finished(Reason),
    /// It was reset: by whom, and whether the peer knows, and whether it said where its direction ends.
    Reset {
        reason: Reason,
        code: Code,
        told: Once,
        heard: bool,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Channel {
    id: ChannelId,
    capabilities: Capabilities,
    sender: Sender,
    receiver: Receiver,
    life: Life,
    accept: Once,
    stop: Once,
    stop_code: Code,
    /// When to look whether it is unused.
    look_at: Option<Instant>,
    /// It was used since the last look.
    used: bool,
}

impl Channel {
    pub(crate) fn new(id: ChannelId, capabilities: Capabilities, config: &Config, peer: PeerLimits) -> Self {
        let window = first_window(capabilities, peer.window, peer.max_message);
        Self {
            id,
            capabilities,
            sender: Sender::new(capabilities, window, peer.messages.max(1), peer.max_message),
            receiver: Receiver::new(capabilities, config),
            life: Life::Open,
            accept: Once::No,
            stop: Once::No,
            stop_code: Code::DONE,
            look_at: None,
            used: false,
        }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Why it ended, once it has.
    pub(crate) fn ended(&self) -> Option<Reason> {
        match self.life {
            Life::Open => None,
            Life::Finished(reason) | Life::Reset { reason, .. } => Some(reason),
        }
    }

    /// Whether nothing is to be said or heard any more: it can be forgotten.
    pub(crate) fn is_gone(&self) -> bool {
        match self.life {
            Life::Open => false,
            Life::Finished(_) => true,
            Life::Reset { told, heard, .. } => told == Once::Known && heard,
        }
    }

    // ---- the program; reading and writing: `program`

    /// Tells the peer that the program took the channel.
    pub(crate) fn accept(&mut self) {
        if self.accept == Once::No {
            self.accept = Once::Due;
        }
    }

    /// Wants no more of the peer's direction. The own one goes on.
    pub(crate) fn stop(&mut self, cx: &mut Context<'_>, code: Code, fx: &mut Effects) {
        if self.life != Life::Open || self.receiver.discarding {
            return;
        }
        self.stop_code = code;
        if !self.receiver.knows_end() {
            self.stop = Once::Due;
        }
        self.receiver.discard(cx, fx);
        self.check_end(cx, fx);
    }

    /// Ends both directions at once.
    pub(crate) fn reset(&mut self, cx: &mut Context<'_>, code: Code, fx: &mut Effects) {
        self.end(cx, Reason::Local(code), code, fx);
    }

    fn end(&mut self, cx: &mut Context<'_>, reason: Reason, code: Code, fx: &mut Effects) {
        if self.life != Life::Open {
            return;
        }
        self.sender.abort(cx);
        self.receiver.discard(cx, fx);
        self.stop = Once::No;
        self.accept = Once::No;
        self.life = Life::Reset { reason, code, told: Once::Due, heard: self.receiver.knows_end() };
        fx.ended = Some(reason);
    }

    fn lost(&mut self, cx: &mut Context<'_>, lost: Result<(), LossCloses>, fx: &mut Effects) {
        if lost == Err(LossCloses) {
            self.end(cx, Reason::Loss, Code::LOSS, fx);
        }
    }

    /// Notes the end of both directions.
    #[inline]
    fn check_end(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        if self.life == Life::Open && self.receiver.is_done() && self.sender.is_done() {
            let reason = match self.sender.stopped() {
                _ if self.receiver.discarding => Reason::Local(self.stop_code),
                Some(code) => reason(code),
                None => Reason::Finished,
            };
            self.life = Life::Finished(reason);
            self.sender.shrink(cx);
            self.receiver.shrink(cx);
            fx.ended = Some(reason);
        }
    }

    // ---- sending

    /// What it holds that was written, and how much of that is to be sent and may be.
    #[inline]
    pub(crate) fn load(&self) -> Load {
        self.sender.load(self.capabilities.resend)
    }

    /// Whether the program may still write.
    pub(crate) fn is_writable(&self) -> bool {
        self.life == Life::Open && self.sender.is_writable()
    }

    /// Whether the peer has yet to hear of anything that was written, or of an end.
    pub(crate) fn owes(&self) -> bool {
        match self.life {
            Life::Open => self.sender.owes(),
            Life::Finished(_) => false,
            Life::Reset { told, .. } => told != Once::Known,
        }
    }

    /// Whether there is data to send.
    #[inline]
    pub(crate) fn wants(&self) -> Wants {
        self.sender.wants()
    }

    /// Whether only the peer's window for this channel holds data back.
    #[cfg(test)]
    pub(crate) fn is_blocked(&self) -> bool {
        self.sender.is_blocked()
    }

    /// What the peer's window leaves: bytes, messages (`u64::MAX` on a stream).
    pub(crate) fn send_window(&self) -> (u64, u64) {
        self.sender.window()
    }

    /// What [`fill`](Self::fill) has left out.
    #[inline]
    pub(crate) fn left_out(&self, carried: &Carried, fx: &Effects) -> &[u8] {
        self.sender.left_out(carried, fx)
    }

    /// Appends data to `out`, repairs first. What was left out of it, as `room` allows, is the end of the packet: `fx.left_out` bytes,
    /// which [`left_out`](Self::left_out) gives. What was used of the connection's window is added to `fx.sent`, even if nothing is
    /// appended. `None`: nothing to send, no room, or no window.
    #[inline]
    pub(crate) fn fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        room: Room,
        fx: &mut Effects,
    ) -> Option<Carried> {
        match self.sender.fill(cx, self.capabilities, out, room, fx) {
            Ok(filled) => filled,
            Err(LossCloses) => {
                self.lost(cx, Err(LossCloses), fx);
                None
            }
        }
    }

    /// Data arrived at the peer.
    #[inline]
    pub(crate) fn on_acked(&mut self, cx: &mut Context<'_>, carried: &Carried, fx: &mut Effects) {
        if self.life == Life::Open {
            self.sender.on_acked(cx, self.capabilities.resend, carried, fx);
            self.check_end(cx, fx);
        }
    }

    /// Data did not arrive.
    pub(crate) fn on_lost(&mut self, cx: &mut Context<'_>, carried: &Carried, fx: &mut Effects) {
        if self.life == Life::Open {
            let lost = self.sender.on_lost(cx, self.capabilities, carried, fx);
            self.lost(cx, lost, fx);
            self.check_end(cx, fx);
        }
    }

    /// Data is to go out once more, on another link, though it may yet arrive. Nothing happens on a channel without repair.
    pub(crate) fn repeat(&mut self, carried: &Carried) {
        if self.life == Life::Open {
            self.sender.repeat(self.capabilities.resend, carried);
        }
    }

    // ---- what the peer sent

    /// DATA, DATA_FIN. `whole`: the buffer that the bytes lie in, if it may be kept.
    #[inline]
    pub(crate) fn on_data(
        &mut self,
        cx: &mut Context<'_>,
        offset: u64,
        fin: bool,
        bytes: &[u8],
        whole: Option<&Bytes>,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        self.touch(cx);
        self.receiver.on_data(cx, offset, fin, bytes, whole, fx)?;
        self.heard_end(cx, fx);
        Ok(())
    }

    /// MESSAGE.
    pub(crate) fn on_part(
        &mut self,
        cx: &mut Context<'_>,
        part: Part<'_>,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        self.touch(cx);
        self.receiver.on_part(cx, self.capabilities, part, fx)
    }

    /// MESSAGE_FIN.
    pub(crate) fn on_message_fin(
        &mut self,
        cx: &mut Context<'_>,
        final_offset: u64,
        messages: u64,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        self.receiver.on_message_fin(cx, self.capabilities, final_offset, messages, fx)?;
        self.heard_end(cx, fx);
        Ok(())
    }

    /// FINISH.
    pub(crate) fn on_finish(
        &mut self,
        cx: &mut Context<'_>,
        final_offset: u64,
        messages: u64,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        if self.capabilities.is_stream() {
            self.on_data(cx, final_offset, true, &[], None, fx)
        } else {
            self.on_message_fin(cx, final_offset, messages, fx)
        }
    }

    /// One range of ABANDON.
    pub(crate) fn on_abandon(
        &mut self,
        cx: &mut Context<'_>,
        range: AbandonedRange,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        let lost = self.receiver.on_abandon(cx, self.capabilities, range, fx)?;
        self.missed(cx, lost, fx);
        Ok(())
    }

    /// The peer's limits, of a channel that was opened before they were known. They are no less than those that it began with.
    pub(crate) fn on_limits(&mut self, peer: PeerLimits, fx: &mut Effects) {
        let window = first_window(self.capabilities, peer.window, peer.max_message);
        self.sender.on_window(window, peer.messages.max(1), fx);
        if let Some(outbox) = self.sender.outbox() {
            outbox.set_max_message(peer.max_message);
        }
    }

    /// What is left to send of a message that was begun, in offsets.
    #[inline]
    pub(crate) fn begun(&self) -> u64 {
        self.sender.begun()
    }

    /// What waits to be sent for the first time, in bytes.
    #[inline]
    pub(crate) fn backlog(&self) -> u64 {
        self.sender.backlog()
    }

    /// WINDOW.
    pub(crate) fn on_window(&mut self, max_offset: u64, max_messages: u64, fx: &mut Effects) {
        self.sender.on_window(max_offset, max_messages, fx);
    }

    /// RESET.
    pub(crate) fn on_reset(
        &mut self,
        cx: &mut Context<'_>,
        code: Code,
        final_offset: u64,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        self.receiver.on_reset(cx, final_offset, fx)?;
        self.end(cx, reason(code), code, fx);
        if let Life::Reset { heard, .. } = &mut self.life {
            *heard = true;
        }
        Ok(())
    }

    /// STOP.
    pub(crate) fn on_stop(&mut self, cx: &mut Context<'_>, code: Code, fx: &mut Effects) {
        if self.life == Life::Open {
            self.sender.on_stop(cx, code, fx);
            self.check_end(cx, fx);
        }
    }

    /// The end of the peer's direction may have become known.
    #[inline]
    fn heard_end(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        match &mut self.life {
            Life::Open => self.check_end(cx, fx),
            Life::Reset { heard, .. } => *heard |= self.receiver.knows_end(),
            Life::Finished(_) => {}
        }
    }

    fn missed(&mut self, cx: &mut Context<'_>, lost: bool, fx: &mut Effects) {
        if lost && self.capabilities.close_on_loss {
            self.end(cx, Reason::Loss, Code::LOSS, fx);
        } else {
            self.check_end(cx, fx);
        }
    }

    // ---- time and memory

    #[inline]
    fn touch(&mut self, cx: &mut Context<'_>) {
        self.used = true;
        if self.look_at.is_none() {
            self.look_at = cx.now.checked_add(IDLE);
        }
    }

    /// When [`Channel::handle_timeout`] is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.sender.poll_timeout(), self.receiver.poll_timeout(), self.look_at].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        if self.look_at.is_some_and(|at| at <= cx.now) {
            self.look(cx);
        }
        if self.life != Life::Open {
            return;
        }
        let lost = self.sender.handle_timeout(cx, self.capabilities, fx);
        self.lost(cx, lost, fx);
        if self.life == Life::Open {
            let lost = self.receiver.handle_timeout(cx, self.capabilities, fx);
            self.missed(cx, lost, fx);
        }
    }

    /// Gives memory back if nothing happened for a while.
    fn look(&mut self, cx: &mut Context<'_>) {
        self.look_at = None;
        let used = std::mem::take(&mut self.used);
        if !used && self.sender.is_idle() {
            self.sender.shrink(cx);
        }
        if !used && self.receiver.is_idle() {
            self.receiver.shrink(cx);
        }
        if self.sender.holds_memory() || self.receiver.holds_memory() {
            self.look_at = cx.now.checked_add(IDLE);
        }
    }

    /// Memory in bytes, this struct included.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.sender.memory() + self.receiver.memory()
    }
}
