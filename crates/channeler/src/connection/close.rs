//! The end of a connection.

use std::time::{Duration, Instant};

use super::{
    Connection,
    packet::Lone,
    phase::{Closing, Phase, linger},
};
use crate::{
    Code, ConnectionError, Transmit,
    endpoint::EndpointEventKind,
    link::{Class, Permit},
    wire::{
        header::OVERHEAD,
        message::{MAX_CLOSE_TEXT, put_close},
    },
};

impl Connection {
    /// Ends the connection: everything not delivered is lost, and the peer is told. The text is cut to 256 bytes.
    pub fn close(&mut self, now: Instant, code: Code, text: &str) {
        self.end(now, ConnectionError::ClosedHere, Some((code, text)));
    }

    /// Something went wrong.
    pub(super) fn fail(&mut self, now: Instant, error: ConnectionError) {
        match &error {
            ConnectionError::Violation(violation) => {
                let text = violation.to_string();
                self.end(now, error, Some((Code::VIOLATION, &text)));
            }
            _ => self.end(now, error, None),
        }
    }

    /// The peer ended it.
    pub(super) fn on_close(&mut self, now: Instant, error: ConnectionError) {
        let until = now + self.linger();
        self.end(now, error, None);
        if matches!(self.phase, Phase::Drained) {
            return;
        }
        self.phase = Phase::Draining { until };
    }

    fn linger(&self) -> Duration {
        let longest = self.links.iter().map(|(_, entry)| entry.link.pto()).max();
        linger(longest.unwrap_or(Duration::from_millis(300)))
    }

    /// Ends it, once. With `last`, the peer hears that.
    fn end(&mut self, now: Instant, error: ConnectionError, last: Option<(Code, &str)>) {
        if self.error.is_some() {
            return;
        }
        let heard = matches!(error, ConnectionError::ClosedByPeer { .. });
        self.error = Some(error);
        self.events.closed = true;
        self.schedule.clear();
        self.deadlines.clear();
        self.warm.clear();
        self.control.clear();
        self.due.clear();
        self.waiting.clear();
        self.twin.place = None;
        self.beginning = None;
        match last {
            Some((code, text)) if self.protection.is_some() => {
                self.phase = Phase::Closing(Closing::new(code, text, now + self.linger()));
            }
            _ if heard => self.phase = Phase::Draining { until: now + self.linger() },
            _ => self.drain(),
        }
    }

    /// Nothing more is said or understood.
    pub(super) fn drain(&mut self) {
        self.phase = Phase::Drained;
        self.protection = None;
        self.records.clear();
        self.events.tell_endpoint(EndpointEventKind::Drained);
    }

    /// Tells the peer that it is over.
    pub(super) fn transmit_close(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        let place = self.links.for_control()?;
        let Phase::Closing(closing) = &mut self.phase else { return None };
        if !closing.due {
            return None;
        }
        let room = MAX_CLOSE_TEXT + 32;
        let size = (room + OVERHEAD) as u32;
        if self.links.at(place).can_send(now, size, Class::Probe) != Permit::Yes {
            return None;
        }
        closing.due = false;
        let (code, text) = (closing.code, closing.text.clone());
        self.control_packet(now, place, buf, Lone::QUIET, |buf| {
            put_close(buf, code, &text, room);
        })
    }
}
