//! Every bound of a node in one place. A peer that exceeds one is refused with a named error.

use std::time::Duration;

/// Bounds of a node. `Default` suits a desktop program with a few dozen connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Established connections of the node, both directions.
    pub connections: usize,
    /// Dials under way at once; further [`connect`](crate::Node::connect) calls to new devices fail with
    /// [`ConnectError::Busy`](crate::ConnectError::Busy).
    pub dials: usize,
    /// Calls waiting on one dial.
    pub waiters_per_dial: usize,
    /// Incoming connection requests being negotiated at once; more are refused as busy.
    pub answers: usize,
    /// Of these, requests of devices nothing is known of yet: strangers leave room for friends.
    pub answers_to_strangers: usize,
    /// The same from one device.
    pub answers_per_device: usize,
    /// Remembered request ids, for dropping duplicates. The oldest are forgotten first.
    pub treated_requests: usize,
    /// The same of one sender: whoever sends many pushes out its own.
    pub treated_per_sender: usize,
    /// Channels the peer may have open on one connection; its further requests are refused. Those that this side opens are
    /// bounded by the numbers of its half.
    pub channels: usize,
    /// Channel requests of one connection that wait for the program's decision; more are refused.
    pub pending_channel_requests: usize,
    /// Incoming channels of the whole node that wait in [`Node::incoming`](crate::Node::incoming).
    pub incoming_queue: usize,
    /// Bytes of one channel accepted from the program and not yet sent.
    pub channel_send_buffer: usize,
    /// Bytes of one connection received and not yet read by the program, all channels together.
    pub connection_receive_budget: usize,
    /// Longest channel name in bytes of UTF-8.
    pub channel_name: usize,
    /// Longest certificate chain of a device that is dialled or dials, in bytes of PEM.
    pub certificate_chain: usize,
    /// What all attempts and connections together may send to an IP address that has answered none of them: checks, and TCP
    /// connects. Peers choose these addresses. Each of them is bounded further by
    /// [`Config::ice`](crate::Config::ice).
    pub targets: towline_ice::TargetLimits,
    /// Wait for the peer's certificate.
    pub certificate_timeout: Duration,
    /// Wait for the answer to a connection request.
    pub answer_timeout: Duration,
    /// Wait for a path.
    pub path_timeout: Duration,
    /// Wait for the path to be secured, by TLS (`connection.md` 5.4 uses 40 s) or by channeler.
    pub tls_timeout: Duration,
    /// Wait for the peer's program to accept or refuse a channel.
    pub channel_timeout: Duration,
    /// How long a connection between Towlines may be without a path that works, while new ones are looked for: the network was
    /// changed, or is gone for a moment.
    pub adrift_timeout: Duration,
    /// How long a closing connection may take to hand over what is already queued.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            dials: 256,
            waiters_per_dial: 1024,
            answers: 64,
            answers_to_strangers: 32,
            answers_per_device: 4,
            treated_requests: 16 * 1024,
            treated_per_sender: 256,
            channels: 65_534,
            pending_channel_requests: 1024,
            incoming_queue: 1024,
            channel_send_buffer: 128 * 1024,
            connection_receive_budget: 16 * 1024 * 1024,
            channel_name: 1024,
            certificate_chain: 64 * 1024,
            targets: towline_ice::TargetLimits::of_program(),
            certificate_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            path_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(20),
            channel_timeout: Duration::from_secs(30),
            adrift_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(3),
        }
    }
}
