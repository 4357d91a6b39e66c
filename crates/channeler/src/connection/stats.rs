//! What a connection counted.

/// Counters of one connection since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ConnectionStats {
    /// Packets sent, on all links.
    pub packets_sent: u64,
    /// Packets received that authenticated.
    pub packets_received: u64,
    /// Bytes sent, UDP payload or stream packets.
    pub bytes_sent: u64,
    /// Bytes received in packets that authenticated.
    pub bytes_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Packets received twice.
    pub duplicates: u64,
    /// Packets that did not authenticate.
    pub undecryptable: u64,
    /// Packets for nobody here: unknown channel or link, or before their time.
    pub unexpected: u64,
    /// Messages of unknown types skipped.
    pub skipped: u64,
    /// Channels opened, by either side.
    pub channels_opened: u64,
    /// Key updates, own and followed.
    pub key_updates: u64,
}
