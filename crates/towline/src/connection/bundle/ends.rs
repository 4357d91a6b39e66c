//! What the transport tells of channels and of its end, in the words of the connection.

use std::time::Instant;

use towline_channeler::{ChannelId, ConnectionError};
use towline_mux::{Code, Reason};

use super::control::Message;
use super::lanes::{End, Stage, Verdict};
use super::{Bundle, FIRST_CODE, HAS_TEXT, from_code, to_code};
use crate::connection::carrier::{ChannelId as Id, Event};
use crate::error::CloseReason;

impl Bundle {
    /// Handles one event of the transport.
    pub(super) fn on_event(&mut self, now: Instant, event: towline_channeler::Event) {
        use towline_channeler::Event as Transport;
        match event {
            Transport::Opened { channel, label, priority, capabilities } => {
                if capabilities == towline_channeler::Capabilities::stream() {
                    self.offer(now, channel, &label, priority);
                } else {
                    // None of a Towline's.
                    let _ = self.inner.refuse(now, channel, towline_channeler::Code::REFUSED);
                }
            }
            Transport::Accepted(channel) => {
                self.lanes.decide(channel);
                self.events.push_back(Event::Accepted { id: Id::Bundle(channel) });
            }
            Transport::Readable(channel) if Some(channel) == self.control_id => {
                self.read_control(now, channel);
            }
            Transport::Readable(channel) => {
                self.events.push_back(Event::Readable { id: Id::Bundle(channel) });
            }
            Transport::Writable(channel) if Some(channel) != self.control_id => {
                self.on_writable(now, channel);
            }
            Transport::Finished(channel) => {
                if let Some(lane) = self.lanes.get(channel) {
                    lane.finished = true;
                    self.events.push_back(Event::Finished { id: Id::Bundle(channel) });
                }
            }
            Transport::Ended(channel, reason) => self.on_ended(channel, reason),
            Transport::Link(report) => self.on_link(now, &report),
            _ => {}
        }
    }

    fn on_writable(&mut self, now: Instant, channel: ChannelId) {
        // Nothing is written: this only asks whether anything could be.
        if let Err(towline_channeler::WriteError::Ended(towline_channeler::Reason::Peer(code))) =
            self.inner.write(now, channel, &[])
        {
            self.on_stop(channel, code);
        } else {
            self.events.push_back(Event::Writable { id: Id::Bundle(channel) });
        }
    }

    fn on_stop(&mut self, channel: ChannelId, code: towline_channeler::Code) {
        let Some(lane) = self.lanes.get(channel) else { return };
        if std::mem::replace(&mut lane.stopped, true) {
            return;
        }
        let (code, has_text) = from_code(code);
        let verdict = Verdict { kind: End::Stopped, code };
        if let Some(reason) = self.lanes.judge(channel, verdict, has_text) {
            self.events.push_back(Event::Stopped { id: Id::Bundle(channel), reason });
        }
    }

    fn on_ended(&mut self, channel: ChannelId, reason: towline_channeler::Reason) {
        use towline_channeler::Reason as Why;
        let id = Id::Bundle(channel);
        // Those that this side has reset are known no more.
        let Some(lane) = self.lanes.get(channel) else { return };
        if let Some(Verdict { kind: End::Stopped, code }) = lane.waiting {
            self.events.push_back(Event::Stopped { id, reason: code.into() });
        }
        match reason {
            Why::Finished | Why::Local(_) => self.closed(channel),
            Why::Peer(code) if lane.finished => {
                self.on_stop(channel, code);
                self.closed(channel);
            }
            Why::Peer(code) => {
                let kind = if lane.stage == Stage::Asked { End::Refused } else { End::Reset };
                let (code, has_text) = from_code(code);
                if let Some(reason) = self.lanes.judge(channel, Verdict { kind, code }, has_text) {
                    self.over(channel, kind, reason);
                }
            }
            // Streams lose nothing while the connection lives, and its end has an event of its own.
            Why::Loss | Why::Connection => {}
        }
    }

    /// Both directions are over and all is delivered.
    fn closed(&mut self, channel: ChannelId) {
        self.lanes.remove(channel);
        self.events.push_back(Event::Closed { id: Id::Bundle(channel) });
    }

    fn over(&mut self, channel: ChannelId, kind: End, reason: Reason) {
        let id = Id::Bundle(channel);
        self.events.push_back(match kind {
            End::Stopped => Event::Stopped { id, reason },
            End::Refused => {
                self.lanes.remove(channel);
                Event::Refused { id, reason }
            }
            End::Reset => {
                self.lanes.remove(channel);
                Event::Reset { id, reason }
            }
        });
    }

    /// Sends the text of a reason, if there is one and the peer knows of the channel. Returns the code to say.
    pub(super) fn explain(&mut self, id: ChannelId, reason: &Reason) -> towline_channeler::Code {
        let code = to_code(reason.code);
        let known = self.lanes.look(id).is_some_and(|lane| lane.stage != Stage::Asked);
        if reason.text.is_empty() || !known {
            return code;
        }
        let channel = Id::Bundle(id).number();
        let said = self.control.say(&Message::Reason { channel, text: reason.text.clone() });
        if said { towline_channeler::Code(code.0 | HAS_TEXT) } else { code }
    }

    /// The text of a reason came on the control channel.
    pub(super) fn on_text(&mut self, number: u32, text: Box<str>) {
        if let Some((channel, kind, reason)) = self.lanes.explain(number, text) {
            self.over(channel, kind, reason);
        }
    }
}

/// Why the connection is over. `failure`: what befell its wires.
pub(super) fn close_reason(error: &ConnectionError, failure: Option<CloseReason>) -> CloseReason {
    match error {
        ConnectionError::ClosedHere => CloseReason::Here,
        ConnectionError::ClosedByPeer { code: towline_channeler::Code::DONE, .. } => CloseReason::Peer,
        ConnectionError::ClosedByPeer { code, text } => {
            let code = if code.0 < FIRST_CODE && *code == towline_channeler::Code::VIOLATION {
                Code::Protocol
            } else {
                from_code(*code).0
            };
            CloseReason::GoAway(Reason::new(code, text))
        }
        ConnectionError::Violation(violation) => CloseReason::Violation(*violation),
        ConnectionError::NoLink => failure.unwrap_or(CloseReason::Dead),
        // A handshake is over before there is a connection.
        _ => CloseReason::Dead,
    }
}
