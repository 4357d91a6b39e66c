//! What a channel says beside its data. What was lost is said again if it is still true.

use super::{Channel, Context, Effects, Life, Once, Wants, outbox::RANGES};
use crate::wire::message::{
    CONTROL_MAX, put_abandon, put_accept, put_finish, put_reset, put_stop, put_window,
};

/// A control message of a channel that is on its way, to be returned when its packet was acknowledged or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// ACCEPT.
    Accept,
    /// WINDOW, with the bounds.
    Window(u64, u64),
    /// ABANDON, with ranges of offsets; unused ones are empty.
    Abandon([(u64, u64); RANGES]),
    /// FINISH.
    Finish,
    /// STOP.
    Stop,
    /// RESET.
    Reset,
}

impl Channel {
    /// Whether a control message is to be sent.
    #[inline]
    pub(crate) fn control_due(&self) -> bool {
        match self.life {
            Life::Reset { told, .. } => told == Once::Due,
            Life::Finished(_) => false,
            Life::Open => {
                self.receiver.window_due
                    || self.stop == Once::Due
                    || self.accept == Once::Due
                    || self.sender.has_untold()
                    || self.sender.wants() == Wants::End
            }
        }
    }

    /// Appends one control message. `None`: there is none, or no room.
    pub(crate) fn write_control(&mut self, out: &mut Vec<u8>, room: usize) -> Option<Said> {
        if room < CONTROL_MAX || !self.control_due() {
            return None;
        }
        if let Life::Reset { code, told, .. } = &mut self.life {
            *told = Once::Sent;
            put_reset(out, self.id, *code, self.sender.sent());
            return Some(Said::Reset);
        }
        if self.accept == Once::Due {
            self.accept = Once::Sent;
            put_accept(out, self.id);
            return Some(Said::Accept);
        }
        if self.stop == Once::Due {
            self.stop = Once::Sent;
            put_stop(out, self.id, self.stop_code);
            return Some(Said::Stop);
        }
        if let Some(outbox) = self.sender.outbox()
            && outbox.has_untold()
        {
            let count = put_abandon(out, self.id, outbox.untold(), room);
            return (count > 0).then(|| Said::Abandon(outbox.told(count)));
        }
        if self.sender.wants() == Wants::End {
            let (final_offset, messages) = self.sender.tell_end();
            put_finish(out, self.id, final_offset, messages);
            return Some(Said::Finish);
        }
        let (bytes, messages) = self.receiver.window();
        put_window(out, self.id, bytes, messages);
        Some(Said::Window(bytes, messages))
    }

    /// A control message arrived at the peer.
    pub(crate) fn on_control_acked(&mut self, cx: &mut Context<'_>, said: &Said, fx: &mut Effects) {
        match said {
            Said::Accept => self.accept = Once::Known,
            Said::Stop => self.stop = Once::Known,
            Said::Finish if self.life == Life::Open => {
                self.sender.on_end_acked();
                self.check_end(cx, fx);
            }
            Said::Finish | Said::Window(..) => {}
            Said::Abandon(ranges) => {
                if let Some(outbox) = self.sender.outbox() {
                    outbox.known(ranges);
                }
                self.check_end(cx, fx);
            }
            Said::Reset => {
                if let Life::Reset { told, .. } = &mut self.life {
                    *told = Once::Known;
                }
            }
        }
    }

    /// A control message was lost: what it said is said again, if it is still true.
    pub(crate) fn on_control_lost(&mut self, said: &Said) {
        match said {
            Said::Accept => self.accept.again(),
            Said::Stop => {
                if self.receiver.knows_end() {
                    self.stop = Once::Known;
                }
                self.stop.again();
            }
            Said::Finish => self.sender.on_end_lost(),
            Said::Window(bytes, messages) => self.receiver.window_lost(*bytes, *messages),
            Said::Abandon(ranges) => {
                if let Some(outbox) = self.sender.outbox() {
                    outbox.forgotten(ranges);
                }
            }
            Said::Reset => {
                if let Life::Reset { told, .. } = &mut self.life {
                    told.again();
                }
            }
        }
    }
}
