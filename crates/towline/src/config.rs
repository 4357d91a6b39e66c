//! How a node is set up.

use std::path::PathBuf;
use std::time::Duration;

use crate::connection::bundle::Bounds;
use crate::dht::DhtConfig;
use crate::discovery::DiscoveryConfig;
use crate::eras::Eras;
use crate::limits::Limits;
use crate::path::HostAddresses;
use crate::policy::ConnectionPolicy;
use crate::reach::Reach;
use crate::revocations::SharedRevocations;

/// Channels above the limit that a peer may open to learn that they are refused.
const REFUSALS: u32 = 64;
/// Whoever is above the transport gives up first, and knows more.
const NO_LINK_MARGIN: Duration = Duration::from_secs(5);

/// Everything about a node that is not its identity. `Default` is [`Config::internet`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The DHT node: ports, bootstrap nodes, state file.
    pub dht: DhtConfig,
    /// Multicast discovery on the local network.
    pub discovery: DiscoveryConfig,
    /// Who may connect.
    pub policy: ConnectionPolicy,
    /// Which devices lost their certificate: they are refused in both directions. A handle; the program goes on adding
    /// lists to it, and has them enforced on what stands with [`Node::enforce_policy`](crate::Node::enforce_policy).
    pub revocations: SharedRevocations,
    /// Which generations of peers this node is found by and speaks to.
    pub eras: Eras,
    /// Where the node remembers which connection requests it has treated, so that after a restart it does not answer
    /// those again that still lie on the DHT. Without a file it remembers them for as long as it runs.
    ///
    /// Any file of this name is replaced.
    pub treated_path: Option<PathBuf>,
    /// Which addresses of this host peers get to see.
    pub addresses: HostAddresses,
    /// What helps beside them: STUN servers, relays, the router. Nobody is asked who is not named.
    pub reach: Reach,
    /// Timers, limits and policies of path negotiation. Of its preferences, [`Preference::UdpFirst`](towline_ice::Preference::UdpFirst) has data go by datagrams wherever
    /// both they and TCP work, in both directions; with any other it is TCP unless the other device says so.
    pub ice: towline_ice::Config,
    /// Windows and limits of channels. Its limits on channels and budgets are overridden by [`Config::limits`].
    pub mux: towline_mux::Config,
    /// Offer and accept Towline's own dialect. Without it every peer is spoken to as Jami speaks: connection requests do
    /// not say that we are a Towline, and are refused by silence.
    pub native_dialect: bool,
    /// Run connections to Towlines that offer the same on the channeler transport. Without it, and towards older ones, they run on
    /// TLS. Nothing of this without [`native_dialect`](Self::native_dialect).
    pub channeler: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// A device on the public OpenDHT network. LAN discovery listens but does not announce; the router is asked to let peers in.
    pub fn internet() -> Self {
        Self {
            dht: DhtConfig::default().with_bootstrap("bootstrap.jami.net:4222"),
            reach: Reach { port_mapping: true, ..Reach::default() },
            ..Self::base()
        }
    }

    /// A device that finds others on the local network only: no bootstrap node, discovery in both directions.
    pub fn lan() -> Self {
        Self { discovery: DiscoveryConfig::full(), ..Self::base() }
    }

    /// A device that is reachable from this host only: for trials and tests.
    pub fn loopback() -> Self {
        Self {
            dht: DhtConfig::on_loopback(),
            discovery: DiscoveryConfig::off(),
            addresses: HostAddresses::Loopback,
            ..Self::base()
        }
    }

    /// The same with another DHT node to join through, as `host` or `host:port` (default port 4222).
    #[must_use]
    pub fn with_bootstrap(mut self, host: impl Into<String>) -> Self {
        self.dht = self.dht.with_bootstrap(host);
        self
    }

    /// The same with another policy.
    #[must_use]
    pub fn with_policy(mut self, policy: ConnectionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The same with other help in reaching and being reached.
    #[must_use]
    pub fn with_reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// The same for other eras of peers.
    #[must_use]
    pub fn with_eras(mut self, eras: Eras) -> Self {
        self.eras = eras;
        self
    }

    fn base() -> Self {
        Self {
            dht: DhtConfig::default(),
            discovery: DiscoveryConfig::listen_only(),
            policy: ConnectionPolicy::default(),
            revocations: SharedRevocations::default(),
            eras: Eras::default(),
            treated_path: None,
            addresses: HostAddresses::default(),
            reach: Reach::default(),
            ice: towline_ice::Config::default(),
            mux: towline_mux::Config {
                keep_alive: Some(towline_mux::KeepAlive {
                    interval: Duration::from_secs(20),
                    timeout: Duration::from_secs(20),
                }),
                ..towline_mux::Config::default()
            },
            native_dialect: true,
            channeler: true,
            limits: Limits::default(),
        }
    }

    /// The mux's configuration with the node's limits in it.
    pub(crate) fn mux(&self) -> towline_mux::Config {
        let limits = &self.limits;
        towline_mux::Config {
            receive_budget: limits.connection_receive_budget as u64,
            send_buffer: (limits.channel_send_buffer / 2).max(1),
            max_channels: limits.channels,
            max_pending: limits.pending_channel_requests,
            max_name: limits.channel_name,
            ..self.mux.clone()
        }
    }

    /// The bounds of the channeler transport that carries connections to other Towlines.
    pub(crate) fn transport(&self) -> towline_channeler::Config {
        let (limits, mux) = (&self.limits, &self.mux);
        let budget = limits.connection_receive_budget as u64;
        let channels = u32::try_from(limits.channels).unwrap_or(u32::MAX);
        towline_channeler::Config {
            // The rest is what readers may have in hand.
            receive_budget: budget - budget / 4,
            initial_window: mux.initial_window.min(budget / 16),
            max_window: mux.max_window.min(budget / 2),
            send_buffer: mux.max_window,
            // Beyond the limit requests are refused with a reason, and a few have to come for that.
            max_channels: channels.saturating_add(REFUSALS),
            max_label: limits.channel_name,
            // Whether the peer lives is found out above it; this is for a peer that only its own side believes alive.
            idle_timeout: mux.keep_alive.map_or(Duration::MAX, |keep| 2 * (keep.interval + keep.timeout)),
            keep_alive: mux.keep_alive.is_some(),
            // Links that were closed may be replaced as well as those that are silent.
            no_link_timeout: limits.adrift_timeout + NO_LINK_MARGIN,
            ..towline_channeler::Config::default()
        }
    }

    /// What a connection on that transport bounds itself.
    pub(crate) fn bounds(&self) -> Bounds {
        let limits = &self.limits;
        Bounds {
            channels: limits.channels,
            undecided: limits.pending_channel_requests,
            name: limits.channel_name,
            handed_over: limits.connection_receive_budget / 4,
            probe_timeout: self.mux.probe_timeout,
            adrift: limits.adrift_timeout,
            keep_alive: self.mux.keep_alive,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::internet()
    }
}
