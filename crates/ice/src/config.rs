//! Timers and limits of an agent.

use std::time::Duration;

use crate::policy::RemotePolicy;
use crate::preference::Preference;

/// How many paths of a session stay in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Paths {
    /// The selected one. Everything else is closed when it is selected, and its end is the end of the session: what
    /// Jami peers do.
    #[default]
    One,
    /// Every pair that works: the agent goes on checking, keeps each alive and tells of each. Both sides must do so.
    Many,
}

/// Consent freshness (RFC 7675): a datagram path is used only as long as the peer answers on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consent {
    /// Mean time between two questions; each wait is 0.8 to 1.2 times as long.
    pub interval: Duration,
    /// How long an answer counts.
    pub expiry: Duration,
}

impl Default for Consent {
    /// 5 s and 30 s (RFC 7675 section 5.1).
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), expiry: Duration::from_secs(30) }
    }
}

/// What may be sent to one IP address that has not answered a check yet, whatever the restarts of an agent: UDP checks with
/// their repetitions, and TCP connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetLimits {
    /// Packets per second. Default 40: pacing and repetitions of one list of candidates stay below it.
    pub rate: u32,
    /// Packets at once. Default 32.
    pub burst: u32,
    /// Packets within [`Self::memory`]. Default 512, about 60 kB.
    pub max_packets: u32,
    /// Addresses that are told apart; further ones get nothing. Default 256.
    pub max_targets: usize,
    /// When an address to which nothing is sent may be forgotten to make room for another, and how long packets count: an
    /// agent may live for weeks, and restart in each. Default 10 min.
    pub memory: Duration,
}

impl Default for TargetLimits {
    fn default() -> Self {
        Self { rate: 40, burst: 32, max_packets: 512, max_targets: 256, memory: Duration::from_mins(10) }
    }
}

impl TargetLimits {
    /// For all agents of a program together ([`SharedTargets`](crate::SharedTargets)): 100 packets per second, 200 at once and 2,048
    /// in all, to each of 4,096 addresses.
    pub fn of_program() -> Self {
        Self { rate: 100, burst: 200, max_packets: 2048, max_targets: 4096, ..Self::default() }
    }
}

/// Timers and limits of an agent; the defaults are for two devices on any network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Ta: the time between two new checks once the burst is used up. Default 50 ms (RFC 8445 section 14.2).
    pub pacing: Duration,
    /// Checks that may start at once, before pacing begins. Default 8: on a LAN the first round decides. With 1 the agent keeps to
    /// the letter of RFC 8445 section 6.1.4.2; ARCHITECTURE.md says why that is not the default.
    pub burst: u32,
    /// TCP connects in flight at once. Default 32.
    pub max_connecting: usize,
    /// How long one TCP connect may take. Default 15 s (spec 4.5).
    pub connect_timeout: Duration,
    /// How often a refused connect to a relayed candidate is repeated: the permission may still be under way.
    /// Default 24 (spec 4.5).
    pub relay_retries: u32,
    /// Time between those. Default 500 ms.
    pub relay_retry_delay: Duration,
    /// How often a connect of simultaneous open is repeated: it may fail until the peer has begun its own. Default 20.
    pub so_retries: u32,
    /// Time between those. Default 250 ms.
    pub so_retry_delay: Duration,
    /// The least RTO of the first transmission of a UDP check; doubles with each. Default 500 ms; with more than ten UDP
    /// pairs open it is Ta for each of them (RFC 8445 section 14.3).
    pub udp_rto: Duration,
    /// Transmissions of one UDP check. Default 5: with the wait for the answer to the last one a pair is given up after
    /// 15.5 s, like a connect. Rc of RFC 8489 section 6.2.1 is 7 and makes 39.5 s, longer than people wait for a path; a check
    /// of the peer begins ours anew.
    pub udp_transmissions: u32,
    /// How long a check over TCP, or the last transmission over UDP, waits for its answer.
    /// Default 8 s = 16 × 500 ms (spec 4.5; Rm of RFC 8489).
    pub response_timeout: Duration,
    /// Controlling: how long a valid pair waits for a better one that is still being checked. Default 50 ms.
    pub nomination_delay: Duration,
    /// Controlled: how long a peer that sends USE-CANDIDATE with its first checks may still prefer another pair.
    /// Default 100 ms. Its data on a pair ends the wait.
    pub aggressive_settle: Duration,
    /// Controlled: how long to wait for checks from the peer after all of ours failed, and for its nomination after
    /// all of ours are done. Default 10 s (spec 4.5).
    pub controlled_patience: Duration,
    /// Controlling: the same wait for checks from the peer. It begins its own when our answer has reached it, which
    /// takes a round through the DHT. Default 5 s.
    pub controlling_patience: Duration,
    /// Shortest time between two keep-alives. Default 20 s (spec 4.8).
    pub keepalive: Duration,
    /// Random part added to it. Default 4 s.
    pub keepalive_jitter: Duration,
    /// More remote candidates may come after the description: the agent does not fail before
    /// [`crate::Agent::end_of_remote_candidates`]. Default false, as Jami does not trickle.
    pub trickle: bool,
    /// The most candidate pairs, those of accepted connections included. Default 256.
    pub max_pairs: usize,
    /// The most local candidates. Default 32 (spec 4.10).
    pub max_local_candidates: usize,
    /// The most sockets taken over from punching ([`crate::Agent::adopt`]). Default 4.
    pub max_adopted: usize,
    /// Accepted TCP connections that have not shown a valid check yet. Default 32. Addresses the peer did not announce may
    /// use half of it.
    pub max_unauthenticated: usize,
    /// Of these, those from one IP address. Default 8.
    pub max_unauthenticated_per_address: usize,
    /// Accepted TCP connections with a valid check. Default 64.
    pub max_accepted: usize,
    /// How long an accepted connection may stay without a valid check. Default 10 s.
    pub unauthenticated_timeout: Duration,
    /// Bytes an accepted connection may send before a valid check. Default 2048: a check has about 120.
    pub unauthenticated_bytes: usize,
    /// Application bytes that may arrive on a path before it is selected. Default 128 KiB.
    pub early_data: usize,
    /// Put into SOFTWARE of every check; empty for none. Default `towline`.
    pub software: String,
    /// Which kind of path is chosen where several work. Default [`Preference::Priority`].
    pub preference: Preference,
    /// How many paths stay in use. Default [`Paths::One`], as Jami peers know no more.
    pub paths: Paths,
    /// Whether paths over UDP, and relayed ones, need the peer's fresh consent. Default none: pjnath gives and asks none.
    /// The questions take the place of keep-alives.
    pub consent: Option<Consent>,
    /// With [`Paths::Many`]: how long the pairs of before a restart stay after a new one was selected, for what is under
    /// way on them. Default 2 s.
    pub linger: Duration,
    /// With [`Paths::Many`], once there is a path: after how long a pair that failed is tried again; doubles with each
    /// failure, up to eight times as long. Default 10 s.
    pub recheck: Duration,
    /// How often a pair that never worked is tried again so. Default 3: nobody asked that address to take part.
    pub rechecks: u32,
    /// What may be sent to an address that has not answered.
    pub targets: TargetLimits,
    /// The filter on remote candidates.
    pub policy: RemotePolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pacing: Duration::from_millis(50),
            burst: 8,
            max_connecting: 32,
            connect_timeout: Duration::from_secs(15),
            relay_retries: 24,
            relay_retry_delay: Duration::from_millis(500),
            so_retries: 20,
            so_retry_delay: Duration::from_millis(250),
            udp_rto: Duration::from_millis(500),
            udp_transmissions: 5,
            response_timeout: Duration::from_secs(8),
            nomination_delay: Duration::from_millis(50),
            aggressive_settle: Duration::from_millis(100),
            controlled_patience: Duration::from_secs(10),
            controlling_patience: Duration::from_secs(5),
            keepalive: Duration::from_secs(20),
            keepalive_jitter: Duration::from_secs(4),
            trickle: false,
            max_pairs: 256,
            max_local_candidates: 32,
            max_adopted: 4,
            max_unauthenticated: 32,
            max_unauthenticated_per_address: 8,
            max_accepted: 64,
            unauthenticated_timeout: Duration::from_secs(10),
            unauthenticated_bytes: 2048,
            early_data: 128 * 1024,
            software: "towline".to_owned(),
            preference: Preference::default(),
            paths: Paths::default(),
            consent: None,
            linger: Duration::from_secs(2),
            recheck: Duration::from_secs(10),
            rechecks: 3,
            targets: TargetLimits::default(),
            policy: RemotePolicy::default(),
        }
    }
}

impl Config {
    /// For a session between two Towlines: candidates trickle, all paths that work stay in use, each with consent, and
    /// TCP is preferred for bulk.
    pub fn parallel() -> Self {
        Self {
            trickle: true,
            paths: Paths::Many,
            consent: Some(Consent::default()),
            preference: Preference::TcpFirst,
            ..Self::default()
        }
    }
}
