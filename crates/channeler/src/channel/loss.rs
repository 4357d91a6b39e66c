//! What becomes of what was sent: acknowledged, sent again, or given up.

use std::time::Instant;

use super::{
    effects::{Context, Effects},
    ranges::Repair,
    send::{Carried, Fin, LossCloses, Sender},
};
use crate::{Capabilities, Resend};

impl Sender {
    #[inline]
    pub(super) fn on_acked(
        &mut self,
        cx: &mut Context<'_>,
        resend: Resend,
        content: &Carried,
        fx: &mut Effects,
    ) {
        if content.len > 0 {
            let (start, end) = (content.start, content.start + u64::from(content.len));
            if !self.repairs.is_empty() {
                self.repairs.remove(start, end);
            }
            if let Some(half_lost) = &mut self.half_lost {
                half_lost.remove(start, end);
            }
            self.settle(cx, resend, start, end);
        }
        if content.fin {
            self.on_end_acked();
        }
        if self.awaited > 0 {
            self.wake_writer(cx, resend, fx);
        }
    }

    /// The peer knows where the direction ends.
    pub(super) fn on_end_acked(&mut self) {
        if self.fin != Fin::Open {
            self.fin = Fin::Known;
        }
    }

    /// What told of the end was lost, or is to go out once more.
    pub(super) fn on_end_lost(&mut self) {
        if self.fin == Fin::Sent {
            self.fin = Fin::Again;
        }
    }

    /// The bytes of `start..end` are not needed any more.
    #[inline]
    pub(super) fn settle(&mut self, cx: &mut Context<'_>, resend: Resend, start: u64, end: u64) {
        if end <= self.floor {
            return;
        }
        if start > self.floor {
            self.settled.insert(start, end);
            return;
        }
        let from = std::mem::replace(&mut self.floor, end);
        while let Some((low, high)) = self.settled.first()
            && low <= self.floor
        {
            self.floor = self.floor.max(high);
            self.settled.pop_first();
        }
        if resend != Resend::No {
            self.rope.release(cx.pool, from, self.floor..self.written);
        }
        if let Some(outbox) = &mut self.outbox {
            outbox.forget(self.floor);
        }
    }

    pub(super) fn wake_writer(&mut self, cx: &mut Context<'_>, resend: Resend, fx: &mut Effects) {
        let most = self.most(cx);
        let held = self.held(resend);
        if held == 0 || self.has_room(held, u64::from(self.awaited), most) {
            self.awaited = 0;
            fx.writable = true;
        }
    }

    /// A packet was lost. What of it matters is sent again, or its messages are given up.
    pub(super) fn on_lost(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        content: &Carried,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        if content.fin {
            self.on_end_lost();
        }
        let (mut at, end) = (content.start, content.start + u64::from(content.len));
        at = at.max(self.floor);
        while at < end
            && let Some((low, high)) = self.settled.gap(at, end)
        {
            at = high;
            if content.mirrored && self.half(low, high) {
                continue;
            }
            self.lose(cx, capabilities, low, high, content.tries, fx)?;
            at = at.max(self.floor);
        }
        if self.awaited > 0 {
            self.wake_writer(cx, capabilities.resend, fx);
        }
        Ok(())
    }

    /// Whether this was the first of the two copies.
    fn half(&mut self, start: u64, end: u64) -> bool {
        let half_lost = self.half_lost.get_or_insert_default();
        if half_lost.contains(start, end) {
            half_lost.remove(start, end);
            return false;
        }
        half_lost.insert(start, end);
        true
    }

    /// `start..end` is neither acknowledged nor given up, and did not arrive.
    fn lose(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        start: u64,
        end: u64,
        tries: u8,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        if capabilities.resend == Resend::Forever {
            self.repairs.insert(start, end, tries.saturating_add(1));
            return Ok(());
        }
        let mut at = start;
        while at < end {
            let Some(outbox) = &self.outbox else { return Ok(()) };
            let number = outbox.number_at(at);
            let Some((_, message)) = outbox.get(number) else { return Ok(()) };
            let stop = message.end.min(end);
            let again = match capabilities.resend {
                Resend::No => false,
                Resend::Tries(most) => tries < most,
                Resend::Until(_) => message.expires.is_none_or(|expires| cx.now < expires),
                Resend::Forever => true,
            };
            if again && !message.gone {
                self.repairs.insert(at, stop, tries.saturating_add(1));
            } else {
                self.give_up(cx, capabilities, number, fx)?;
            }
            at = stop;
        }
        Ok(())
    }

    /// Forgets a whole message. The peer is told as soon as all of its offsets are used up.
    pub(super) fn give_up(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        number: u64,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        let Some(outbox) = &mut self.outbox else { return Ok(()) };
        let Some((start, message)) = outbox.get(number) else { return Ok(()) };
        if message.gone {
            return Ok(());
        }
        fx.lost_sent += 1;
        outbox.mark_gone(number);
        self.repairs.remove(start, message.end);
        if let Some(half_lost) = &mut self.half_lost {
            half_lost.remove(start, message.end);
        }
        if message.end <= self.next {
            outbox.abandon(start, message.end, number + 1);
            self.settle(cx, capabilities.resend, start, message.end);
        }
        if capabilities.close_on_loss { Err(LossCloses) } else { Ok(()) }
    }

    /// Forgets the message at the beginning of what waits for repair.
    pub(super) fn give_up_repair(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        repair: Repair,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        let number = outbox.number_at(repair.start);
        let end = outbox.get(number).map_or(repair.end, |(_, message)| message.end);
        self.repairs.remove(repair.start, end);
        self.give_up(cx, capabilities, number, fx)
    }

    /// What a packet carried goes out once more, on another link, though nothing says that it was lost.
    pub(super) fn repeat(&mut self, resend: Resend, content: &Carried) {
        if content.fin {
            self.on_end_lost();
        }
        if resend == Resend::No {
            return;
        }
        let (mut at, end) = (content.start.max(self.floor), content.start + u64::from(content.len));
        while at < end
            && let Some((low, high)) = self.settled.gap(at, end)
        {
            self.repairs.insert(low, high, content.tries);
            at = high;
        }
    }

    /// When the first message that waits for repair is to be given up.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let outbox = self.outbox.as_ref()?;
        let repair = self.repairs.first()?;
        outbox.get(outbox.number_at(repair.start))?.1.expires
    }

    pub(super) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        while let Some(repair) = self.repairs.first()
            && self.poll_timeout().is_some_and(|expires| expires <= cx.now)
        {
            self.give_up_repair(cx, capabilities, repair, fx)?;
        }
        if self.awaited > 0 {
            self.wake_writer(cx, capabilities.resend, fx);
        }
        Ok(())
    }
}
