//! What is wrong, and on which side.

use std::fmt;

/// Where a fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// With this device or its network.
    Here,
    /// With the other device or its network.
    There,
    /// Neither side alone: in what lies between them, or in how the two go together.
    Between,
    /// With a server that one of the sides uses: of names, of the DHT, a STUN server, a relay.
    Server,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here => "here",
            Self::There => "there",
            Self::Between => "between",
            Self::Server => "server",
        })
    }
}

/// What makes an attempt fail, or keeps a connection from a better path. `Display` is one plain sentence that names the fault
/// and whose it is; [`advice`](Self::advice) says what can be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// No interface of this device is up and has an address.
    NoNetworkHere,
    /// Nobody outside answers: not the DHT, no server, over no transport.
    OfflineHere,
    /// The DHT, and servers over UDP, do not answer; over TCP they do.
    UdpBlockedHere,
    /// As before, and of TCP only port 443 gets out.
    OnlyWebHere,
    /// Somebody answers in place of the servers that were asked.
    PortalHere,
    /// What is sent is rejected on the spot: no route, or forbidden.
    RejectedHere,
    /// This process has as many files and sockets open as it may.
    FilesExhaustedHere,
    /// No local port, or no local address, is left to open a socket on.
    PortsExhaustedHere,
    /// Old flows get out, new ones do not: the NAT before this device has no room for them.
    MappingsExhaustedHere,
    /// The wall clock of this device is wrong.
    ClockHere,
    /// The certificate of this device, or one above it, is past its end.
    ExpiredHere,
    /// A certificate of this device is revoked.
    RevokedHere,
    /// This node is at one of its own limits.
    BusyHere,
    /// The policy of this node does not admit the device.
    NotAdmittedHere,
    /// This device is behind a NAT and knows nobody who tells it how it is seen from outside.
    NoStunHere,
    /// The attempt was given up by this program.
    CancelledHere,

    /// The name of a server cannot be resolved.
    NameUnknown {
        /// The name.
        name: String,
    },
    /// No node of the DHT answers, while other servers do over UDP, or no other was asked.
    DhtDown,
    /// Nodes of the DHT answer, and none of them keeps what it is given.
    DhtRefuses,
    /// No STUN server answers, while other datagrams get out.
    StunDown,
    /// A STUN server tells an address that is not ours.
    StunLies,
    /// A relay does not answer, or refuses connections.
    RelayDown {
        /// The relay, as `host:port`; so below.
        relay: String,
    },
    /// A relay does not accept the credentials configured: wrong, expired, or none.
    RelayCredentials {
        /// The relay.
        relay: String,
    },
    /// A relay has no room: the quota of the user is used up (486), or its capacity (508).
    RelayFull {
        /// The relay.
        relay: String,
    },
    /// A relay refuses for another reason.
    RelayRefuses {
        /// The relay.
        relay: String,
        /// Its code (RFC 8656 section 19).
        code: u16,
    },
    /// What a relay answers is no TURN, or breaks its rules.
    RelayBroken {
        /// The relay.
        relay: String,
    },
    /// A relay that was in use is gone.
    RelayLost {
        /// The relay.
        relay: String,
    },

    /// The device's certificate is nowhere: no such device, or it has not been on the DHT for long.
    NotFoundThere,
    /// The device does not answer the connection request: it is off, or has no network.
    OfflineThere,
    /// The device does not admit this one.
    RefusedThere,
    /// The device has no room for a connection now.
    BusyThere,
    /// A certificate of the device is revoked.
    RevokedThere,
    /// The certificate of the device, or one above it, is past its end.
    ExpiredThere,
    /// The wall clock of the device is wrong.
    ClockThere,
    /// The certificate chain of the device does not hold.
    ChainThere,
    /// What the device says in signalling is malformed, or holds no candidates.
    MalformedThere,
    /// No datagram leaves the device's network, as it says itself.
    UdpBlockedThere,
    /// As before, and of TCP only port 443 gets out.
    OnlyWebThere,
    /// The device answered, then no packet of it was seen: it hangs, went away, or its network drops everything.
    SilentThere,
    /// All that the device offers is an address on a relay, and that does not answer.
    RelayThere,
    /// Another device answers at its addresses.
    ImpostorThere,
    /// The device breaks off, or breaks the rules of, the handshake.
    HandshakeThere,

    /// One side has IPv4 only, the other IPv6 only.
    NoCommonFamily,
    /// Both sides are in one network that lets devices not see each other, and its NAT turns no packets round.
    Isolated,
    /// Both NATs take random ports for each destination: no direct path exists.
    RandomNats {
        /// Whether any side has a relay; if so, its own failure is told beside.
        relay: bool,
    },
    /// One NAT takes another port for each destination and the other lets in nobody unknown.
    HardNats {
        /// Which of the two takes random ports, if one is known to: [`Side::Here`] or [`Side::There`].
        random: Option<Side>,
        /// Whether any side has a relay; if so, its own failure is told beside.
        relay: bool,
    },
    /// Small packets arrive, large ones do not.
    LargePacketsLost,
    /// What this side sends is rejected: refused or forbidden. At which end cannot be seen from here.
    Rejected,
    /// What this side sends is lost, what the other sends arrives.
    LostOutward,
    /// What the other side sends is lost, what this one sends arrives.
    LostInward,
    /// No pair of candidates answers, and no more is known.
    NothingPasses,
    /// The path worked and broke during the handshake.
    PathBroke,
}

impl Cause {
    /// Where the fault lies.
    pub const fn side(&self) -> Side {
        match self {
            Self::NoNetworkHere
            | Self::OfflineHere
            | Self::UdpBlockedHere
            | Self::OnlyWebHere
            | Self::PortalHere
            | Self::RejectedHere
            | Self::FilesExhaustedHere
            | Self::PortsExhaustedHere
            | Self::MappingsExhaustedHere
            | Self::ClockHere
            | Self::ExpiredHere
            | Self::RevokedHere
            | Self::BusyHere
            | Self::NotAdmittedHere
            | Self::NoStunHere
            | Self::CancelledHere => Side::Here,
            Self::NameUnknown { .. }
            | Self::DhtDown
            | Self::DhtRefuses
            | Self::StunDown
            | Self::StunLies
            | Self::RelayDown { .. }
            | Self::RelayCredentials { .. }
            | Self::RelayFull { .. }
            | Self::RelayRefuses { .. }
            | Self::RelayBroken { .. }
            | Self::RelayLost { .. }
            | Self::RelayThere => Side::Server,
            Self::NotFoundThere
            | Self::OfflineThere
            | Self::RefusedThere
            | Self::BusyThere
            | Self::RevokedThere
            | Self::ExpiredThere
            | Self::ClockThere
            | Self::ChainThere
            | Self::MalformedThere
            | Self::UdpBlockedThere
            | Self::OnlyWebThere
            | Self::SilentThere
            | Self::ImpostorThere
            | Self::HandshakeThere => Side::There,
            Self::NoCommonFamily
            | Self::Isolated
            | Self::RandomNats { .. }
            | Self::HardNats { .. }
            | Self::LargePacketsLost
            | Self::Rejected
            | Self::LostOutward
            | Self::LostInward
            | Self::NothingPasses
            | Self::PathBroke => Side::Between,
        }
    }

    /// A word for programs: the name of the variant in small letters.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoNetworkHere => "no_network_here",
            Self::OfflineHere => "offline_here",
            Self::UdpBlockedHere => "udp_blocked_here",
            Self::OnlyWebHere => "only_web_here",
            Self::PortalHere => "portal_here",
            Self::RejectedHere => "rejected_here",
            Self::FilesExhaustedHere => "files_exhausted_here",
            Self::PortsExhaustedHere => "ports_exhausted_here",
            Self::MappingsExhaustedHere => "mappings_exhausted_here",
            Self::ClockHere => "clock_here",
            Self::ExpiredHere => "expired_here",
            Self::RevokedHere => "revoked_here",
            Self::BusyHere => "busy_here",
            Self::NotAdmittedHere => "not_admitted_here",
            Self::NoStunHere => "no_stun_here",
            Self::CancelledHere => "cancelled_here",
            Self::NameUnknown { .. } => "name_unknown",
            Self::DhtDown => "dht_down",
            Self::DhtRefuses => "dht_refuses",
            Self::StunDown => "stun_down",
            Self::StunLies => "stun_lies",
            Self::RelayDown { .. } => "relay_down",
            Self::RelayCredentials { .. } => "relay_credentials",
            Self::RelayFull { .. } => "relay_full",
            Self::RelayRefuses { .. } => "relay_refuses",
            Self::RelayBroken { .. } => "relay_broken",
            Self::RelayLost { .. } => "relay_lost",
            Self::NotFoundThere => "not_found_there",
            Self::OfflineThere => "offline_there",
            Self::RefusedThere => "refused_there",
            Self::BusyThere => "busy_there",
            Self::RevokedThere => "revoked_there",
            Self::ExpiredThere => "expired_there",
            Self::ClockThere => "clock_there",
            Self::ChainThere => "chain_there",
            Self::MalformedThere => "malformed_there",
            Self::UdpBlockedThere => "udp_blocked_there",
            Self::OnlyWebThere => "only_web_there",
            Self::SilentThere => "silent_there",
            Self::RelayThere => "relay_there",
            Self::ImpostorThere => "impostor_there",
            Self::HandshakeThere => "handshake_there",
            Self::NoCommonFamily => "no_common_family",
            Self::Isolated => "isolated",
            Self::RandomNats { .. } => "random_nats",
            Self::HardNats { .. } => "hard_nats",
            Self::LargePacketsLost => "large_packets_lost",
            Self::Rejected => "rejected",
            Self::LostOutward => "lost_outward",
            Self::LostInward => "lost_inward",
            Self::NothingPasses => "nothing_passes",
            Self::PathBroke => "path_broke",
        }
    }

    /// What can be done, in one sentence for people.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::NoNetworkHere => "Connect this device to a network.",
            Self::OfflineHere => {
                "Check this device's connection to the internet; other programs should fail, too."
            }
            Self::UdpBlockedHere => {
                "Let UDP out in the firewall here, or configure a relay that is spoken to over TCP."
            }
            Self::OnlyWebHere => {
                "Let the other device listen on TCP port 443 (`--tcp-port 443`), which its NAT has to keep or its router to open, \
                 configure a relay that listens there, or use another network."
            }
            Self::PortalHere => "Log in to this network with a browser, then try again.",
            Self::RejectedHere => "Look at the firewall and the routes of this device and its network.",
            Self::FilesExhaustedHere => {
                "Raise the limit on open files (`ulimit -n`), or open fewer connections."
            }
            Self::PortsExhaustedHere => {
                "Close programs that hold many sockets, or widen the range of local ports."
            }
            Self::MappingsExhaustedHere => {
                "Restart the router here, or close programs with many connections; a carrier's NAT has a limit per customer."
            }
            Self::ClockHere => "Set the clock of this device.",
            Self::ExpiredHere => "Renew the certificate of this device where the account's key is.",
            Self::RevokedHere => {
                "This device was taken off its account: add it again where the account's key is."
            }
            Self::BusyHere => "Close connections, or raise the limits of this node.",
            Self::NotAdmittedHere => "Allow the device, or its account, on this side.",
            Self::NoStunHere => "Configure a STUN server on both sides (`--stun`), or a relay (`--relay`).",
            Self::CancelledHere => "Try again if that was not meant.",
            Self::NameUnknown { .. } => {
                "Check the name, and the name servers of this device; an address works in place of a name."
            }
            Self::DhtDown => {
                "Bootstrap from another node (`--bootstrap`), or use the local network on both sides."
            }
            Self::DhtRefuses => "Try again in a minute, or bootstrap from another network of nodes.",
            Self::StunDown => "Configure another STUN server, or a second one.",
            Self::StunLies => "Take this STUN server off the configuration.",
            Self::RelayDown { .. } => {
                "See whether the relay runs, and whether its port can be reached from here."
            }
            Self::RelayCredentials { .. } => {
                "Check the name and the secret; those that are limited in time must be renewed, and need a right clock."
            }
            Self::RelayFull { .. } => {
                "Try again later, raise the relay's quota, or configure a second relay."
            }
            Self::RelayRefuses { .. } => "Ask whoever runs the relay, or configure another one.",
            Self::RelayBroken { .. } => "Check host and port: it may be a server of another kind.",
            Self::RelayLost { .. } => "See whether the relay runs; configure a second relay.",
            Self::NotFoundThere => {
                "Check that the id is right, and that a program of Towline or Jami runs on the device; programs of Jami of 2023 are \
                 found by their account or their 40 digits, not by 64."
            }
            Self::OfflineThere => "Start the program on the device, and see whether it is online.",
            Self::RefusedThere => {
                "Let the device accept this one: `--accept-from` with the id of this account."
            }
            Self::BusyThere => "Try again in a moment.",
            Self::RevokedThere => "Ask the owner which device took its place.",
            Self::ExpiredThere => "The certificate of the device must be renewed where its account's key is.",
            Self::ClockThere => "Set the clock of the device.",
            Self::ChainThere => {
                "Ask for the id again; somebody may have published a chain for it that is not its own."
            }
            Self::MalformedThere => "Update the program on the device.",
            Self::UdpBlockedThere => {
                "Let UDP out in the firewall there, or configure on both sides a relay that is spoken to over TCP."
            }
            Self::OnlyWebThere => {
                "Let this device listen on TCP port 443 (`--tcp-port 443`), which its NAT has to keep or its router to open, \
                 configure on both sides a relay that listens there, or use another network there."
            }
            Self::SilentThere => "See whether the program there still runs, and what its firewall lets in.",
            Self::RelayThere => "The relay of the device has to be looked at, on its side.",
            Self::ImpostorThere => "Do not trust this network: somebody answers in the name of the device.",
            Self::HandshakeThere => "Update the programs on both sides.",
            Self::NoCommonFamily => {
                "Configure a relay that has both IPv4 and IPv6, or give one side the other family."
            }
            Self::Isolated => {
                "Switch off the isolation of clients at the access point, or configure a relay."
            }
            Self::RandomNats { relay: false } | Self::HardNats { relay: false, .. } => {
                "Configure a relay on one of the sides (`--relay`), or port mapping in a router."
            }
            Self::RandomNats { relay: true } | Self::HardNats { relay: true, .. } => {
                "Only a relay gets round that (see that it works), or port mapping in one of the routers."
            }
            Self::LargePacketsLost => {
                "Somewhere on the way a link is narrower than it says: lower the MTU, or let ICMP through (RFC 4821)."
            }
            Self::Rejected => {
                "Let the program through the firewalls, first that of the device, then the one here; or configure a relay."
            }
            Self::LostOutward => "Look at the firewalls on the way from here to the device.",
            Self::LostInward => "Look at the firewalls on the way from the device to here.",
            Self::NothingPasses => {
                "Configure STUN servers and a relay on both sides; look at firewalls on both."
            }
            Self::PathBroke => "Try again; if it repeats, look at what stands between the two.",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::NoNetworkHere => "this device has no network: no interface is up with an address",
            Self::OfflineHere => {
                "this device is cut off: nothing outside answers, neither over UDP nor over TCP"
            }
            Self::UdpBlockedHere => "the network here lets no UDP out; TCP works",
            Self::OnlyWebHere => "the network here lets nothing out but TCP to port 443",
            Self::PortalHere => {
                "the network here answers in place of the servers that were asked: a portal wants a login first"
            }
            Self::RejectedHere => {
                "what this device sends is rejected on the spot: no route here, or a firewall here forbids it"
            }
            Self::FilesExhaustedHere => "this process has no file left to open a socket with",
            Self::PortsExhaustedHere => "this device has no local port or address left to open a socket on",
            Self::MappingsExhaustedHere => {
                "the NAT here has no room for new flows: those that stand go on, new ones get no port"
            }
            Self::ClockHere => "the clock of this device is wrong",
            Self::ExpiredHere => "the certificate of this device has expired",
            Self::RevokedHere => "a certificate of this device is revoked, so others refuse it",
            Self::BusyHere => "this node is at one of its own limits",
            Self::NotAdmittedHere => "the policy of this node does not admit the device",
            Self::NoStunHere => {
                "this device has private addresses only, and no STUN server is configured here that tells how it is seen \
                 from outside"
            }
            Self::CancelledHere => "the attempt was cancelled here",
            Self::NameUnknown { name } => {
                return write!(
                    f,
                    "the name of the server {name} cannot be resolved: the name servers fail, or know no such name"
                );
            }
            Self::DhtDown => {
                "no node of the DHT answers: the nodes to join through are down, or nothing comes back from them"
            }
            Self::DhtRefuses => "the nodes of the DHT answer, but none keeps the connection request",
            Self::StunDown => "no STUN server answers, though other datagrams get out: the servers are down",
            Self::StunLies => "a STUN server tells an address that is not ours",
            Self::RelayDown { relay } => return write!(f, "the relay {relay} does not answer"),
            Self::RelayCredentials { relay } => {
                return write!(f, "the relay {relay} does not accept the name and secret configured here");
            }
            Self::RelayFull { relay } => {
                return write!(f, "the relay {relay} has no room: a quota or its capacity is used up");
            }
            Self::RelayRefuses { relay, code } => {
                return write!(f, "the relay {relay} refuses with code {code}");
            }
            Self::RelayBroken { relay } => {
                return write!(f, "what answers at the relay {relay} is no working TURN server");
            }
            Self::RelayLost { relay } => return write!(f, "the relay {relay} went away while it was in use"),
            Self::NotFoundThere => {
                "nodes of the DHT answer, but none has the device's certificate: it was not online for long, or the id is \
                 wrong"
            }
            Self::OfflineThere => {
                "the device does not answer the connection request: it is off or has no network"
            }
            Self::RefusedThere => "the device refuses: its policy does not admit this one",
            Self::BusyThere => "the device has no room for another connection now",
            Self::RevokedThere => "a certificate of the device is revoked",
            Self::ExpiredThere => "the certificate of the device has expired",
            Self::ClockThere => "the clock of the device is wrong",
            Self::ChainThere => "the certificate chain of the device does not hold",
            Self::MalformedThere => "the device has no candidates, or they are malformed",
            Self::UdpBlockedThere => "the device's network lets no UDP out",
            Self::OnlyWebThere => "the device's network lets nothing out but TCP to port 443",
            Self::SilentThere => {
                "the device answered, and then fell silent: it hangs or went away, or its firewall drops everything"
            }
            Self::RelayThere => {
                "the device can be reached by its relay only, and that does not pass anything on"
            }
            Self::ImpostorThere => "another device answers at the addresses of the one that was dialled",
            Self::HandshakeThere => "the device breaks off the handshake, or breaks its rules",
            Self::NoCommonFamily => "one side has IPv4 only and the other IPv6 only: no direct path exists",
            Self::Isolated => {
                "both are behind the same NAT, which turns no packets round, and devices in there do not see each other"
            }
            Self::RandomNats { relay } => {
                let both = "both NATs allocate random ports per destination: no direct path exists";
                return without(both, *relay, f);
            }
            Self::HardNats { random, relay } => {
                let what = match random {
                    Some(Side::Here) => {
                        "the NAT here allocates random ports per destination, and the device's does not let them in"
                    }
                    Some(Side::There) => {
                        "the device's NAT allocates random ports per destination, and the one here does not let them in"
                    }
                    _ => "the NATs of the two sides let no direct path through",
                };
                return without(what, *relay, f);
            }
            Self::LargePacketsLost => "large packets vanish on the way between the two; small ones arrive",
            Self::Rejected => {
                "what is sent from here to the device is refused or forbidden, by a firewall there or here"
            }
            Self::LostOutward => "what is sent from here is lost on the way; what the device sends arrives",
            Self::LostInward => "what the device sends is lost on the way; what is sent from here arrives",
            Self::NothingPasses => "none of the device's own addresses answers, and nothing comes from them",
            Self::PathBroke => "a path was found, and broke during the handshake",
        };
        f.write_str(sentence)
    }
}

/// A sentence, and that there is no relay, if so.
fn without(what: &str, relay: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(what)?;
    if relay { Ok(()) } else { f.write_str("; no relay is configured") }
}
