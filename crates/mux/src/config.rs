//! What a mux may spend.

use std::time::Duration;

/// Bounds and timings of one [`Mux`](crate::Mux). All sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Received bytes held for the application over all channels: read off the wire and not yet
    /// [`consumed`](crate::Mux::consumed). At this point [`wants_data`](crate::Mux::wants_data) turns false.
    /// The tuned windows of the native dialect stay inside it too. Default 16 MiB.
    pub receive_budget: u64,
    /// Receive window a native channel starts with while the budget is plentiful. Default 256 KiB.
    pub initial_window: u64,
    /// Receive window a native channel is never shrunk below. Default 4 KiB.
    pub min_window: u64,
    /// Receive window a native channel never grows beyond. Default 12 MiB: 1 Gbit/s at 100 ms.
    pub max_window: u64,
    /// Bytes a native peer may send on a channel before its request is answered; at least
    /// [`EARLY_MIN`](crate::EARLY_MIN), which also is the default. Paid out of the receive budget.
    pub early_window: u64,
    /// Bytes queued to be sent per channel. Default 256 KiB.
    pub send_buffer: usize,
    /// Bytes queued to be sent over all channels. A channel with nothing queued may exceed it by one chunk, so
    /// that channels whose peer does not read cannot lock out the others. Default 1 MiB.
    pub send_budget: usize,
    /// Channels the peer may have open at once; further requests are refused. Default 4096.
    pub max_channels: usize,
    /// Requests of the peer waiting for our decision; further ones are refused. At least 64. Default 1024.
    pub max_pending: usize,
    /// Bytes of names of requests waiting for our decision; further ones are refused. Default 1 MiB.
    pub max_pending_names: usize,
    /// Longest name taken from a peer. Default 1024; a Jami peer may send up to 65 535.
    pub max_name: usize,
    /// Bytes of replies the peer made us queue (pongs, refusals); beyond it we stop reading. Default 256 KiB.
    pub max_replies: usize,
    /// Keep-alive pings; `None` (the default) sends none.
    pub keep_alive: Option<KeepAlive>,
    /// How long [`liveness_probe`](crate::Mux::liveness_probe) waits for the answer. Default 3 s, as Jami does.
    pub probe_timeout: Duration,
}

/// When to ask a silent peer for a sign of life, and when to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence after which a ping is sent.
    pub interval: Duration,
    /// Time after that ping without any byte from the peer after which it is reported dead.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_budget: 16 << 20,
            initial_window: 256 << 10,
            min_window: 4 << 10,
            max_window: 12 << 20,
            early_window: crate::EARLY_MIN,
            send_buffer: 256 << 10,
            send_budget: 1 << 20,
            max_channels: 4096,
            max_pending: 1024,
            max_pending_names: 1 << 20,
            max_name: 1024,
            max_replies: 256 << 10,
            keep_alive: None,
            probe_timeout: Duration::from_secs(3),
        }
    }
}

impl Config {
    /// The same with every value brought into its legal range.
    pub(crate) fn checked(mut self) -> Self {
        self.min_window = self.min_window.clamp(1, crate::MAX_WINDOW);
        self.max_window = self.max_window.clamp(self.min_window, crate::MAX_WINDOW);
        self.initial_window = self.initial_window.clamp(self.min_window, self.max_window);
        self.early_window = self.early_window.clamp(crate::EARLY_MIN, crate::MAX_WINDOW);
        self.receive_budget = self.receive_budget.max(64 << 10);
        self.send_buffer = self.send_buffer.max(1);
        self.max_pending = self.max_pending.max(crate::PENDING_MIN);
        self.max_channels = self.max_channels.max(crate::PENDING_MIN);
        self.max_name = self.max_name.clamp(1, usize::from(u16::MAX));
        self
    }
}
