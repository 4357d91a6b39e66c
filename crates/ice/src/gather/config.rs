//! Timers and limits of gathering.

use std::time::Duration;

/// Timers and limits of a [`super::Gatherer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatherConfig {
    /// Ta: the time between two new questions once the burst is used up. Default 50 ms (RFC 8445 section 14.2).
    pub pacing: Duration,
    /// Questions that may start at once. Default 4.
    pub burst: u32,
    /// RTO of a question over UDP; doubles with each repetition. Default 500 ms (RFC 8489 section 6.2.1).
    pub rto: Duration,
    /// Transmissions of one question. Default 7 (Rc of RFC 8489); the deadline comes first.
    pub transmissions: u32,
    /// When servers are asked that are asked only if others do not answer ([`super::Gatherer::add_spare`]). Default 400 ms: most
    /// servers have answered by then, also over TCP.
    pub spare_after: Duration,
    /// When the work ends, whoever has not answered. Default 5 s.
    pub deadline: Duration,
    /// The most servers, those of both transports together. Default 8.
    pub max_servers: usize,
    /// The most local addresses, those of both transports together. Default 16.
    pub max_bases: usize,
    /// The most outside addresses offered of one local address; further ones are noted only. Default 2.
    pub max_reflexive: usize,
    /// Put into SOFTWARE of every question; empty for none. Default `towline`.
    pub software: String,
}

impl Default for GatherConfig {
    fn default() -> Self {
        Self {
            pacing: Duration::from_millis(50),
            burst: 4,
            rto: Duration::from_millis(500),
            transmissions: 7,
            spare_after: Duration::from_millis(400),
            deadline: Duration::from_secs(5),
            max_servers: 8,
            max_bases: 16,
            max_reflexive: 2,
            software: "towline".to_owned(),
        }
    }
}
