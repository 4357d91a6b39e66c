//! A dial between two whole devices, as it is seen from above: the network, the steps of both sides, mappings, links.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use towline::{ConnectionState, DeviceId, Event, LinkInfo, Node, Use};
use towline_lab::{BoxEvent, NatHandle, Options, Place, World};

use super::nat::{Names, sides};
use super::tally::word;
use super::trial::{LONGEST, Outcome, Trial, ports};
use crate::event::{LabEvent, LabReach};
use crate::failure::Failure;
use crate::output::Output;
use crate::text::milliseconds;

/// How often links are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Mappings of a router that are told one by one.
const MOST_MAPPINGS: usize = 12;

/// Plays a dial to its end.
pub(super) fn play(places: [Place; 2], seed: u64, output: &Output) -> Result<(), Failure> {
    let options = Options { limit: LONGEST, timeline: 0, ..Options::new(seed) };
    let played = options.run(|world| Box::pin(scene(world, places, seed, output.clone())));
    played.map_err(|error| Failure::Internal(format!("the scene did not end: {error}")))?
}

async fn scene(world: World, places: [Place; 2], seed: u64, output: Output) -> Result<(), Failure> {
    let trial = Trial::set(&world, places, seed).await?;
    let servers: Vec<_> = trial.town.names().into_iter().map(|(ip, name)| format!("{name} {ip}")).collect();
    let network = LabEvent::Network {
        seed,
        about: about(places),
        internet: servers.join(", "),
        rendezvous: None,
        sides: sides(&world, [(&trial.alice.site, places[0]), (&trial.bob.site, places[1])]),
    };
    output.say(&network.into());
    let story = Story { start: trial.start, notes: Arc::default() };
    let devices = [(&trial.alice, &trial.bob), (&trial.bob, &trial.alice)];
    for (device, peer) in devices {
        let name = device.site.host.name();
        tokio::spawn(story.clone().steps(name.clone(), device.node.clone()));
        tokio::spawn(story.clone().links(name, device.node.clone(), peer.node.device()));
    }
    let outcome = trial.dial(&world).await;
    let mut notes = story.taken();
    notes.extend(mappings(&world, &trial, outcome.begun));
    // Stable: what a device says at a moment stays in its order.
    notes.sort_by_key(|(at, _)| *at);
    for (at, text) in notes {
        output.say(&LabEvent::Note { at: at.as_secs_f64(), text }.into());
    }
    for (device, peer) in devices {
        // Who never got so far has nothing to tell.
        let Some(report) = device.node.report(peer.node.device()).await else { continue };
        let text = format!("{} as servers see it: {}", device.site.host.name(), report.nat);
        output.say(&LabEvent::Note { at: trial.start.elapsed().as_secs_f64(), text }.into());
    }
    output.say(&LabEvent::Reach(told(&outcome)).into());
    Ok(())
}

fn about(places: [Place; 2]) -> String {
    let ports: Vec<_> = ports(places).iter().map(ToString::to_string).collect();
    let listen = if ports.is_empty() {
        String::new()
    } else {
        format!("; both listen on TCP port {}, too", ports.join(", "))
    };
    format!("alice dials bob by its key{listen}")
}

fn told(outcome: &Outcome) -> LabReach {
    let kind = |kind| Some(word(kind?).to_owned());
    let meeting = &outcome.meeting;
    LabReach {
        connected_ms: meeting.connected.as_ref().ok().copied().map(milliseconds),
        direct_ms: meeting.direct.map(milliseconds),
        first: kind(meeting.first),
        last: kind(meeting.last),
        why_not: meeting.connected.as_ref().err().or(meeting.why.as_ref()).cloned(),
        trace: format!("{:016x}", outcome.trace),
    }
}

/// What is told of a dial, with the time since the world began.
#[derive(Debug, Clone)]
struct Story {
    start: Instant,
    notes: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Story {
    fn note(&self, text: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push((self.start.elapsed(), text));
    }

    fn taken(&self) -> Vec<(Duration, String)> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells what a node says of its attempts.
    async fn steps(self, name: String, node: Node) {
        let mut events = node.events();
        while let Ok(event) = events.recv().await {
            let text = match event {
                Event::Registered => "can be dialled: the DHT has its certificate".to_owned(),
                Event::Progress { state, .. } => match state {
                    ConnectionState::Signalling => {
                        "looks for the other, and says where it is itself".to_owned()
                    }
                    ConnectionState::Path => "knows where the other may be, and tries".to_owned(),
                    ConnectionState::Securing => "has a path, and secures it".to_owned(),
                    ConnectionState::Established => "is connected".to_owned(),
                },
                Event::Connected { path, .. } => format!("is connected over {path}"),
                Event::ConnectFailed { error, .. } | Event::IncomingFailed { error, .. } => {
                    format!("gives up: {error}")
                }
                Event::Disconnected { reason, .. } => format!("has lost the connection: {reason}"),
                _ => continue,
            };
            self.note(format!("{name} {text}"));
        }
    }

    /// Tells what becomes of the links of a connection.
    async fn links(self, name: String, node: Node, peer: DeviceId) {
        let mut known: BTreeMap<(SocketAddr, SocketAddr, &str), Use> = BTreeMap::new();
        loop {
            sleep(LOOK).await;
            let Some(connection) = node.connection(peer) else { continue };
            for LinkInfo { path, kind, purpose, .. } in connection.links().await {
                let key = (path.local, path.remote, word(kind));
                if known.insert(key, purpose) != Some(purpose) {
                    let (kind, remote) = (word(kind), path.remote);
                    self.note(format!("{name}: {kind} from {} to {remote} {purpose}", path.local));
                }
            }
        }
    }
}

/// What the NATs opened from this time on.
fn mappings(world: &World, trial: &Trial, since: Duration) -> Vec<(Duration, String)> {
    let names = Names::of(world, trial.town.names(), [&trial.alice.site, &trial.bob.site]);
    let mut notes = Vec::new();
    for gateway in trial.alice.site.gateways.iter().chain(&trial.bob.site.gateways) {
        let name = world.name(gateway.router.node());
        let opened = gateway.nat.iter().flat_map(NatHandle::log).filter_map(|(at, event)| match event {
            BoxEvent::Opened(mapped) if at >= since => Some((at, mapped)),
            _ => None,
        });
        let opened: Vec<_> = opened.collect();
        for (at, mapped) in opened.iter().take(MOST_MAPPINGS) {
            let whom = names.whom(mapped.scope);
            let (transport, inside, outside) = (mapped.transport, mapped.inside, mapped.outside);
            notes.push((*at, format!("+ {name} maps {transport:?} {inside} to {outside}, for {whom}")));
        }
        if let Some((at, _)) = opened.get(MOST_MAPPINGS) {
            notes.push((
                *at,
                format!("+ {name}: {} further mappings from here on", opened.len() - MOST_MAPPINGS),
            ));
        }
    }
    notes
}
