//! Two devices behind NATs and firewalls: the network, what moves in it, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use towline_lab::towline_nat::{Scope, Transport};
use towline_lab::{
    BoxEvent, Drop, Event, Host, Kind, Options, Pair, Place, Punch, Record, Site, Surroundings, World,
};
use towline_net::Net as _;

use crate::event::{LabEvent, LabGate, LabPlace, LabPunch, LabSide};
use crate::failure::Failure;
use crate::output::Output;
use crate::text::milliseconds;

/// Virtual time a scene may take.
const LONGEST: Duration = Duration::from_mins(5);

/// Where a device can be.
pub(super) fn places() -> LabEvent {
    let place = |place: Place| LabPlace {
        name: place.name().to_owned(),
        about: Surroundings::from(place).to_string(),
    };
    LabEvent::Places { places: Place::ALL.map(place).to_vec() }
}

/// Plays a hole punch to its end.
pub(super) fn play(alice: Place, bob: Place, seed: u64, output: &Output) -> Result<(), Failure> {
    let options = Options { limit: LONGEST, ..Options::new(seed) };
    let played = options.run(|world| {
        Box::pin(async move {
            let pair = world.behind(alice, bob);
            let sides = sides(&world, [(&pair.a, alice), (&pair.b, bob)]);
            let rendezvous = addresses(&pair.rendezvous)[0].to_string();
            let network = LabEvent::Network {
                seed,
                about: "a UDP hole punch by a rendezvous".to_owned(),
                internet: format!("the rendezvous at {rendezvous}"),
                rendezvous: Some(rendezvous),
                sides,
            };
            output.say(&network.into());
            let punch = world.punch(&pair).await;
            for (at, text) in timeline(&world, &pair) {
                output.say(&LabEvent::Note { at: at.as_secs_f64(), text }.into());
            }
            output.say(&outcome(&world, punch).into());
        })
    });
    played.map_err(|error| Failure::Internal(format!("the scene did not end: {error}")))
}

fn addresses(host: &Host) -> Vec<IpAddr> {
    let interfaces = host.interfaces().unwrap_or_default();
    let own = interfaces.iter().filter(|interface| !interface.loopback);
    own.flat_map(|interface| interface.addresses.iter().map(|own| own.addr)).collect()
}

fn words(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// The two devices, and the routers before them.
pub(super) fn sides(world: &World, sites: [(&Site, Place); 2]) -> Vec<LabSide> {
    let side = |(site, place): (&Site, Place)| {
        let about = Surroundings::from(place).gates;
        let gates = site.gateways.iter().zip(about).map(|(gateway, gate)| LabGate {
            name: world.name(gateway.router.node()),
            about: gate.to_string(),
            addresses: words(&gateway.router.addresses()),
        });
        LabSide {
            name: site.host.name(),
            place: place.name().to_owned(),
            addresses: words(&addresses(&site.host)),
            gates: gates.collect(),
        }
    };
    sites.map(side).to_vec()
}

fn outcome(world: &World, punch: Punch) -> LabEvent {
    LabEvent::Punch(LabPunch {
        through: punch.is_through(),
        reached: punch.reached.iter().map(|end| end.map(|end| end.to_string())).collect(),
        ms: punch.took.map(milliseconds),
        why_not: punch.why_not,
        trace: format!("{:016x}", world.trace().hash()),
    })
}

/// Names of addresses that only one in the world has.
pub(super) struct Names(BTreeMap<IpAddr, String>);

impl Names {
    /// Those of the servers, and of what the internet sees of the two sites.
    pub(super) fn of(world: &World, servers: BTreeMap<IpAddr, String>, sites: [&Site; 2]) -> Self {
        let mut names = servers;
        for site in sites {
            let (name, own) = match site.border() {
                Some(border) => (world.name(border.router.node()), border.router.addresses()),
                None => (site.host.name(), addresses(&site.host)),
            };
            names.extend(own.into_iter().map(|ip| (ip, name.clone())));
        }
        Self(names)
    }

    fn call(&self, end: SocketAddr) -> String {
        match self.0.get(&end.ip()) {
            Some(name) => format!("{name}:{}", end.port()),
            None => end.to_string(),
        }
    }

    /// Whom a mapping is for.
    pub(super) fn whom(&self, scope: Scope) -> String {
        match scope {
            Scope::Any => "everybody".to_owned(),
            Scope::Address(ip) => self.0.get(&ip).cloned().unwrap_or_else(|| ip.to_string()),
            Scope::End(end) => self.call(end),
        }
    }
}

/// What moved, and what the boxes did about it. What happens again is said once.
fn timeline(world: &World, pair: &Pair) -> Vec<(Duration, String)> {
    let rendezvous = addresses(&pair.rendezvous).into_iter().map(|ip| (ip, pair.rendezvous.name()));
    let names = Names::of(world, rendezvous.collect(), [&pair.a, &pair.b]);
    let mut lines = Vec::new();
    for gateway in pair.a.gateways.iter().chain(&pair.b.gateways) {
        let name = world.name(gateway.router.node());
        for (at, event) in gateway.nat.iter().flat_map(towline_lab::NatHandle::log) {
            if let BoxEvent::Opened(mapped) = event
                && mapped.transport == Transport::Udp
            {
                let whom = names.whom(mapped.scope);
                let (inside, outside) = (mapped.inside, mapped.outside);
                lines.push((at, format!("+ {name} maps {inside} to {outside}, for {whom}")));
            }
        }
    }
    lines.extend(world.trace().timeline().filter_map(|record| row(world, &names, record)));
    // Stable: at one moment, what the boxes did precedes what moved on.
    lines.sort_by_key(|(at, _)| *at);
    let mut said = BTreeSet::new();
    let total = lines.len();
    lines.retain(|(_, text)| said.insert(text.clone()));
    if let Some(last) = lines.last().map(|(at, _)| *at).filter(|_| lines.len() < total) {
        lines.push((last, format!("… and {} lines more that say the same again", total - lines.len())));
    }
    lines
}

fn row(world: &World, names: &Names, record: &Record) -> Option<(Duration, String)> {
    match record {
        Record::Note { at, text } => Some((*at, text.clone())),
        Record::Packet { at, node, event, kind: Kind::Udp, from, to, .. } => {
            let here = world.name(*node);
            let text = match event {
                Event::Sent => format!("{here}:{} → {}", from.port(), names.call(*to)),
                Event::Arrived => format!("{here}:{} ← {}", to.port(), names.call(*from)),
                Event::Dropped(why) => {
                    let why = match why {
                        Drop::Box(reason) => reason.to_string(),
                        Drop::NoRoute => "no way leads there".to_owned(),
                        other => format!("{other:?}"),
                    };
                    format!("✗ {here} drops {} → {}: {why}", names.call(*from), names.call(*to))
                }
            };
            Some((*at, text))
        }
        Record::Packet { .. } => None,
    }
}
