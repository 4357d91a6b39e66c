//! How a node is set up, and every bound it keeps.

use crate::InfoHash;
use crate::fragment::AssemblerLimits;
use crate::rate::RateLimits;
use crate::store::StoreLimits;

/// How a [`Node`](super::Node) is set up. The default is a node of the public network that serves where it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The id of this node; drawn from the seed if not given, so that it cannot be linked to a device.
    pub node_id: Option<InfoHash>,
    /// Messages of other networks are ignored. 0 is the public one, which Jami uses.
    pub network: u32,
    /// Whether to serve others, or only to ask.
    pub mode: Mode,
    /// Keep a finer routing table everywhere, as a node that many start from.
    pub is_bootstrap: bool,
    /// We expect to stay reachable at our address: listens are renewed every 290 s instead of every 20 s.
    pub public_stable: bool,
    /// Hand stored values on when other nodes are nearer to them than we are.
    pub maintain_storage: bool,
    /// Use IPv4.
    pub ipv4: bool,
    /// Use IPv6.
    pub ipv6: bool,
    /// The bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_id: None,
            network: 0,
            mode: Mode::default(),
            is_bootstrap: false,
            public_stable: false,
            maintain_storage: false,
            ipv4: true,
            ipv6: true,
            limits: Limits::default(),
        }
    }
}

/// Whether a node serves others. One that does not is answered and may store, get and listen; but nobody remembers it,
/// stores values on it or names it to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It serves whom it can be reached by, as far as the evidence goes ([`Reachability`](super::Reachability)): its
    /// neighbours unless a NAT is seen between, the public network once it is seen that no NAT or firewall is.
    #[default]
    Automatic,
    /// It only asks: for what ends soon, and for batteries.
    Client,
    /// It serves, wherever it is: for those who know that it can be reached. A node behind a NAT that does so makes
    /// others wait for answers that never come, and values unreachable.
    Full,
}

/// What a node holds at most, whatever its peers and its program do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests served per second.
    pub rates: RateLimits,
    /// Values and listeners stored.
    pub store: StoreLimits,
    /// Values being received in parts.
    pub assembly: AssemblerLimits,
    /// Records of other nodes, per family.
    pub peers: usize,
    /// Searches, both families together. An idle one makes room for a new one.
    pub searches: usize,
    /// Operations (gets, puts, listens) under way.
    pub operations: usize,
    /// Requests of ours that wait for an answer.
    pub requests: usize,
    /// Datagrams waiting to be taken by the driver. More are dropped, as a full socket would.
    pub transmits: usize,
    /// Values that one get delivers, and that one listen remembers.
    pub values_per_operation: usize,
    /// Large answers held until the asker's address is proved.
    pub held_answers: usize,
    /// Addresses remembered as proved, and, apart from those, addresses denied.
    pub addresses: usize,
    /// Hosts remembered for ten minutes because something went there or came from there: they are no strangers.
    pub contacts: usize,
    /// Bootstrap addresses.
    pub bootstrap_addresses: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rates: RateLimits::default(),
            store: StoreLimits::default(),
            assembly: AssemblerLimits::default(),
            peers: 4096,
            searches: 4096,
            operations: 4096,
            requests: 8192,
            transmits: 16_384,
            values_per_operation: 4096,
            held_answers: 256,
            addresses: 4096,
            contacts: 32_768,
            bootstrap_addresses: 64,
        }
    }
}
