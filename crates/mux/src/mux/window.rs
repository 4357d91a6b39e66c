//! Receive windows: how large, and when credit is given.
//!
//! * A channel starts with 1/16 of what is left of a quarter of the budget, or with an eighth of `initial_window` if that
//!   is more: the first few have room at once, and a hundred do not fill more memory than the cache holds. Always
//!   between `min_window` and `initial_window`.
//! * Credit is given when half of a window is consumed.
//! * If that half took less than two round trips, the window is the bottleneck: it doubles, as far as
//!   `max_window` and the budget let it.
//! * A channel that cannot grow because the budget is committed takes from the others: those that are idle are
//!   asked for their unused credit (a clock hand goes round, a few channels at a time), and the next one that
//!   consumes more than its fair share halves its window.

use std::time::Instant;

use super::{Mux, Wire};
use crate::channel::{Phase, RecvSide};
use crate::native::Message;
use crate::{ChannelId, Config};

/// Channels looked at each time an idle window is searched.
const HAND_STEPS: usize = 8;

impl Mux {
    /// The window a new channel starts with.
    pub(super) fn fresh_window(&self) -> u64 {
        let Config { receive_budget, initial_window, min_window, .. } = self.config;
        let share = (receive_budget / 4).saturating_sub(self.committed) / 16;
        let floor = (receive_budget.saturating_sub(self.committed) / 64).min(initial_window / 8);
        share.max(floor).clamp(min_window, initial_window)
    }

    /// After consumption: gives credit if half of the window can be given.
    pub(super) fn consider_credit(&mut self, now: Instant, id: ChannelId) {
        let Some(channel) = self.table.get_mut(id) else { return };
        let incoming = &mut channel.incoming;
        if incoming.side != RecvSide::Open || channel.phase != Phase::Open || incoming.credit_due {
            return;
        }
        let unused = incoming.limit.saturating_sub(incoming.consumed);
        if incoming.window == 0 || unused > incoming.window / 2 {
            return;
        }
        self.tune(now, id);
        let Some(channel) = self.table.get_mut(id) else { return };
        let incoming = &mut channel.incoming;
        if incoming.consumed + incoming.window > incoming.limit
            && let Wire::Native(native) = &mut self.wire
        {
            incoming.credited_at = now;
            incoming.credit_due = true;
            native.credits.push_back(id);
            self.measure(now);
        }
    }

    /// Fits the window to what the last credit has shown.
    fn tune(&mut self, now: Instant, id: ChannelId) {
        // Not the present round trip: a full pipe makes that long, and larger windows would fill it further.
        let rtt = self.liveness.rtt_floor();
        let budget = self.config.receive_budget;
        let fair = (budget / self.table.len().max(1) as u64).max(self.config.min_window);
        let free = budget.saturating_sub(self.committed);
        let Some(channel) = self.table.get_mut(id) else { return };
        let incoming = &mut channel.incoming;
        let before = incoming.window;
        let quick = rtt.is_some_and(|rtt| now.saturating_duration_since(incoming.credited_at) < 2 * rtt);
        let unused = incoming.limit - incoming.consumed;
        let mut denied = false;
        if quick && before < self.config.max_window {
            let wanted = before.min(self.config.max_window - before);
            let gain = wanted.min(free);
            incoming.window += gain;
            denied = gain < wanted;
        }
        if before > fair && self.pressed_by.is_some_and(|other| other != id) {
            incoming.window = (before / 2).max(fair).max(unused);
            self.pressed_by = None;
        }
        self.committed = self.committed - before + incoming.window;
        if denied {
            self.pressed_by = Some(id);
            self.ask_idle_windows_back();
        }
    }

    /// Moves the clock hand on: a channel that received nothing since it passed last is asked for its unused credit.
    fn ask_idle_windows_back(&mut self) {
        let Wire::Native(native) = &mut self.wire else { return };
        for _ in 0..HAND_STEPS.min(self.table.slots()) {
            self.hand = (self.hand + 1) % self.table.slots();
            let Some(channel) = self.table.at_slot(self.hand) else { continue };
            let number = channel.number;
            let incoming = &mut channel.incoming;
            let idle = std::mem::replace(&mut incoming.mark, incoming.received) == incoming.received;
            let spare = (incoming.limit - incoming.received).saturating_sub(self.config.min_window);
            if idle
                && spare > 0
                && channel.phase == Phase::Open
                && incoming.side == RecvSide::Open
                && !std::mem::replace(&mut incoming.shrinking, true)
            {
                native.say(Message::Shrink { number, credit: spare });
            }
        }
    }
}
