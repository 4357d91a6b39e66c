//! One side of a multiplexed connection.

use std::time::Instant;

use bytes::Bytes;

use crate::{
    Capabilities, ChannelError, ChannelId, ChannelInfo, Chunk, Config, Dialect, Event, OpenError, OpenOptions,
    PeerFault, PingId, ProbeError, Reason, Side, Transmit, WriteError,
};

/// One side of a multiplexed connection. See the [crate documentation](crate) for how to drive it.
#[derive(Debug)]
#[doc(alias = "MultiplexedSocket")]
pub struct Mux {}

impl Mux {
    /// A mux at the start of the stream. Values of `config` out of range are brought into it.
    pub fn new(dialect: Dialect, side: Side, config: Config, now: Instant) -> Self {
        todo!()
    }
    /// Which dialect is spoken.
    pub fn dialect(&self) -> Dialect {
        todo!()
    }
    /// What can be done on this connection.
    pub fn capabilities(&self) -> Capabilities {
        todo!()
    }
    /// Takes plaintext as received, split anywhere. After an error nothing more is taken.
    pub fn handle_data(&mut self, now: Instant, data: &[u8]) -> Result<(), PeerFault> {
        todo!()
    }
    /// Whether to read from the transport. Ask again after every other call.
    pub fn wants_data(&self) -> bool {
        todo!()
    }
    /// The next plaintext to send: either one bulk frame in place, or small frames gathered in `scratch`
    /// (cleared first; keep it for the next call). What is returned must be sent.
    pub fn poll_transmit<'a>(&'a mut self, now: Instant, scratch: &'a mut Vec<u8>) -> Option<Transmit<'a>> {
        todo!()
    }
    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// Does what is due by `now`; harmless when called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    /// Requests a channel. Data may be written at once; it leaves when the peer has accepted, or earlier with
    /// [`OpenOptions::early`]. The answer is [`Event::Accepted`] or [`Event::Refused`].
    #[doc(alias = "connectDevice")]
    pub fn open(&mut self, now: Instant, name: &str, options: OpenOptions) -> Result<ChannelId, OpenError> {
        todo!()
    }
    /// Accepts a request ([`Event::Requested`]). Data may be written at once.
    pub fn accept(&mut self, now: Instant, id: ChannelId) -> Result<(), ChannelError> {
        todo!()
    }
    /// Refuses a request; the channel is gone for the caller.
    pub fn refuse(&mut self, id: ChannelId, reason: Reason) -> Result<(), ChannelError> {
        todo!()
    }
    /// Queues `chunk`. An empty one does nothing. On [`WriteError::Full`] the chunk comes back and
    /// [`Event::Writable`] follows.
    pub fn write(&mut self, id: ChannelId, chunk: Chunk) -> Result<(), WriteError> {
        todo!()
    }
    /// How many bytes [`write`](Self::write) is sure to take now; 0 if there is no such channel.
    pub fn writable(&self, id: ChannelId) -> usize {
        todo!()
    }
    /// Ends our direction after what is queued. In the Jami dialect, which has no half-close, it closes the whole
    /// channel. Repeating it does nothing.
    pub fn finish(&mut self, id: ChannelId) -> Result<(), ChannelError> {
        todo!()
    }
    /// Gives the channel up at once: what is queued or unread is dropped, the id is unknown from now on.
    pub fn reset(&mut self, id: ChannelId, reason: Reason) -> Result<(), ChannelError> {
        todo!()
    }
    /// Takes no more data: what is unread or still arrives is dropped, and the peer is asked to stop.
    pub fn stop(&mut self, id: ChannelId, reason: Reason) -> Result<(), ChannelError> {
        todo!()
    }
    /// The next received bytes; `None` when there are none at present (or ever again, after
    /// [`Event::Finished`]).
    pub fn read(&mut self, id: ChannelId) -> Option<Bytes> {
        todo!()
    }
    /// The application has used `bytes` of what [`read`](Self::read) returned: the peer may send as many more.
    /// More than was read counts as all that was read; unknown channels are ignored.
    pub fn consumed(&mut self, now: Instant, id: ChannelId, bytes: u64) {
        todo!()
    }
    /// Measures the round trip: [`Event::Pong`] follows.
    pub fn ping(&mut self, now: Instant) -> Result<PingId, ProbeError> {
        todo!()
    }
    /// As [`ping`](Self::ping), but [`Event::Dead`] follows if no answer comes within
    /// [`Config::probe_timeout`].
    #[doc(alias = "sendBeacon")]
    pub fn liveness_probe(&mut self, now: Instant) -> Result<PingId, ProbeError> {
        todo!()
    }
    /// Takes no new channels from now on, and says so where the dialect can; present ones go on.
    pub fn go_away(&mut self, reason: Reason) {
        todo!()
    }
    /// Drops all channels and says go-away. Poll transmits until `None`, then close the transport.
    pub fn close(&mut self, reason: Reason) {
        todo!()
    }
    /// Whether [`close`](Self::close) was called or the peer broke a rule.
    pub fn is_closed(&self) -> bool {
        todo!()
    }
    /// All channels, ordered by age.
    pub fn channels(&self) -> impl Iterator<Item = ChannelInfo<'_>> {
        std::iter::empty()
    }
    /// One channel.
    pub fn info(&self, id: ChannelId) -> Option<ChannelInfo<'_>> {
        todo!()
    }
    /// Latest smoothed round trip, if one was measured.
    pub fn rtt(&self) -> Option<std::time::Duration> {
        todo!()
    }
    /// Received payload bytes held at present: received and not consumed, over all channels.
    pub fn held(&self) -> u64 {
        todo!()
    }
}
