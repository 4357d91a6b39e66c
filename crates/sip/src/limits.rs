//! Every bound of the protocol in one place.

use std::time::Duration;

/// Bounds of an endpoint. `Default` suits a channel to one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest message taken, in bytes: start line, headers and body. The stream of who sends more ends.
    pub message_in: usize,
    /// Longest start line and headers taken, in bytes, the empty line included.
    pub head: usize,
    /// Most header fields of a message taken.
    pub headers: usize,
    /// Longest message sent, in bytes. Jami's SIP stack reads up to 8000.
    pub message_out: usize,
    /// Requests of the peer that are undecided or await their ACK; further ones are answered 503.
    pub server_transactions: usize,
    /// Requests to the peer that have no final response yet; further ones fail.
    pub client_transactions: usize,
    /// Bytes that wait to be sent. Beyond it nothing more is read, and no request is taken from the program.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_in: 64 << 10,
            head: 16 << 10,
            headers: 128,
            message_out: 8000,
            server_transactions: 64,
            client_transactions: 64,
            output: 256 << 10,
        }
    }
}

/// Timers of the transactions, RFC 3261 17 and its table of timers. Those that space retransmissions do not exist here: the
/// transport is reliable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timers {
    /// 64 × T1 (500 ms): the wait for a final response (timers B and F), for the ACK (timer H), and how long a
    /// request other than INVITE may stay undecided here, since its sender waits no longer.
    pub transaction: Duration,
    /// An INVITE undecided for so long is answered 100 Trying, so that the caller knows it arrived (17.2.1).
    pub trying: Duration,
    /// An INVITE undecided for so long is answered 480 (timer C, 16.6).
    pub ringing: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            transaction: Duration::from_secs(32),
            trying: Duration::from_millis(200),
            ringing: Duration::from_mins(3),
        }
    }
}
