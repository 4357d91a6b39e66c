//! What a connection may spend.

use std::time::Duration;

use crate::{ChannelId, congestion::Algorithm};

/// No time of a configuration is longer: sums of times and moments cannot overflow.
const LONGEST: Duration = Duration::from_secs(1 << 30);

/// Bounds and timings of one connection. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Congestion control of datagram links. Default: BBR.
    pub congestion: Algorithm,
    /// Receive window that a channel starts with. Default 256 KiB.
    pub initial_window: u64,
    /// Receive window that a channel never grows beyond. Default 24 MiB: 1 Gbit/s at 100 ms, and as much again for repairs.
    pub max_window: u64,
    /// Memory for received bytes that the application has not read, over all channels. Two chunks of 4 KiB for each of `max_channels`, but
    /// at most half of it, are set aside, as bytes may lie scattered; the peer may send ahead the rest, or two of the longest messages if
    /// that is more. Long packets stay in their buffers: a peer that sends a few bytes between them, which take a chunk, makes it up to a
    /// third more. Default 64 MiB.
    pub receive_budget: u64,
    /// Written bytes held until they are acknowledged or given up, by one channel or by all of one priority together: they have
    /// equal shares, and those of lower priority do not count. A share is 16 KiB, or one message, at least. More than 16 channels take
    /// turns to write streams instead, so that little waits to be sent. Default 24 MiB.
    pub send_buffer: u64,
    /// Received messages that a channel holds for the application (message channels). Default 1024.
    pub max_messages: u64,
    /// Longest message written or taken. Default 1 MiB.
    pub max_message: usize,
    /// Channels that the peer may have open at once. Default 4096.
    pub max_channels: u32,
    /// Longest label of a channel. Default 1024.
    pub max_label: usize,
    /// Links at once. Default 8.
    pub max_links: usize,
    /// Silence after which the connection is dead. Default 30 s; at least 1 s. Both sides' values count; the smaller one holds.
    pub idle_timeout: Duration,
    /// How long a connection whose every link was closed, or broke, waits for another to be added by either side. Default 5 s. A link that
    /// is only silent counts as one until `idle_timeout`.
    pub no_link_timeout: Duration,
    /// How long a handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// Longest that an acknowledgement is held back. Default 10 ms.
    pub max_ack_delay: Duration,
    /// How long an ordered channel without repair waits for what was overtaken. `None`: half a round trip, 5 to 100 ms. Default `None`.
    pub reorder_wait: Option<Duration>,
    /// UDP payload that every path is taken to carry. Default 1200, the least allowed.
    pub min_mtu: u16,
    /// Largest UDP payload to search for. Default 1452: Ethernet with IPv6.
    pub max_mtu: u16,
    /// Largest packet on a stream link. Default 16 640: 16 KiB of data, and what stands before them, so that they can stay in their
    /// buffer at both ends; at most 65 535.
    pub max_stream_packet: u16,
    /// Keeps NAT mappings open while nothing is sent. Default true: the interval is learned, 15 s at first, 5 s to 2 min, and never
    /// more than half of `idle_timeout`, so that one lost packet does not end the connection: only who sets a longer timeout, on both
    /// sides, sends less. Each longer interval is tried once; if that was too long, packets from outside are lost until it ends.
    pub keep_alive: bool,
    /// Whether datagrams are sent with ECT(0). Default true; a path that loses such packets stops it.
    pub ecn: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            congestion: Algorithm::Bbr,
            initial_window: 256 << 10,
            max_window: 24 << 20,
            receive_budget: 64 << 20,
            send_buffer: 24 << 20,
            max_messages: 1024,
            max_message: 1 << 20,
            max_channels: 4096,
            max_label: 1024,
            max_links: 8,
            idle_timeout: Duration::from_secs(30),
            no_link_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            max_ack_delay: Duration::from_millis(10),
            reorder_wait: None,
            min_mtu: 1200,
            max_mtu: 1452,
            max_stream_packet: 16_640,
            keep_alive: true,
            ecn: true,
        }
    }
}

impl Config {
    /// What the peer may send ahead over all channels, so that it fits into [`Self::receive_budget`] wherever it lies in its chunks.
    pub(crate) fn receive_window(&self) -> u64 {
        let scattered = 2 * crate::channel::CHUNK as u64 * u64::from(self.max_channels);
        self.receive_budget - scattered.min(self.receive_budget / 2)
    }

    /// The same within the bounds that the protocol sets.
    pub(crate) fn sound(&self) -> Self {
        use crate::parameters::{EARLY_CHANNELS, EARLY_LABEL, EARLY_MESSAGE, MAX_LABEL};
        let min_mtu = self.min_mtu.clamp(1200, 65_507);
        Self {
            congestion: self.congestion,
            initial_window: self.initial_window.min(1 << 40),
            max_window: self.max_window.min(1 << 40).max(self.initial_window.min(1 << 40)),
            receive_budget: self.receive_budget.min(1 << 48),
            max_messages: self.max_messages.clamp(1, 1 << 40),
            max_message: self.max_message.clamp(EARLY_MESSAGE as usize, 1 << 40),
            max_channels: self.max_channels.clamp(EARLY_CHANNELS as u32, ChannelId::SERIALS),
            max_label: self.max_label.clamp(EARLY_LABEL as usize, MAX_LABEL as usize),
            max_links: self.max_links.clamp(1, 64),
            idle_timeout: self.idle_timeout.clamp(Duration::from_secs(1), LONGEST),
            no_link_timeout: self.no_link_timeout.min(LONGEST),
            handshake_timeout: self.handshake_timeout.clamp(Duration::from_millis(1), LONGEST),
            max_ack_delay: self.max_ack_delay.min(Duration::from_secs(1)),
            reorder_wait: self.reorder_wait.map(|wait| wait.clamp(Duration::from_millis(1), LONGEST)),
            min_mtu,
            max_mtu: self.max_mtu.clamp(min_mtu, 65_507),
            max_stream_packet: self.max_stream_packet.max(1200),
            ..self.clone()
        }
    }
}
