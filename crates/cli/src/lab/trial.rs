//! One dial between two whole devices, and what came of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use towline::dht::NodeMode;
use towline::ice::WEB_PORT;
use towline::{Channel, Connection, DeviceId, LinkInfo, Node, PathKind, Use};
use towline_lab::towline_nat::Families;
use towline_lab::{Link, Options, Place, Surroundings, World};

use super::keys;
use super::town::{Device, Town};
use crate::failure::Failure;

/// Time to become reachable by the DHT.
pub(super) const JOINING: Duration = Duration::from_secs(20);
/// Longest dial.
const DIALLING: Duration = Duration::from_secs(30);
/// A path from device to device counts if it carries data within this time from the beginning of the dial.
pub(super) const SOON: Duration = Duration::from_secs(10);
/// How long it is watched further: a better kind of path may follow.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// How often links are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Virtual time a trial may take.
pub(super) const LONGEST: Duration = Duration::from_mins(5);
/// What is sent there and back, so that a path is known to carry something.
const WORDS: [u8; 5] = *b"hello";

/// Two devices before the dial.
pub(super) struct Trial {
    /// When the world began.
    pub(super) start: Instant,
    pub(super) town: Town,
    pub(super) alice: Device,
    pub(super) bob: Device,
}

/// What came of a dial. Times are from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meeting {
    /// When words had gone there and back on a channel, or why they did not.
    pub(super) connected: Result<Duration, String>,
    /// What carried them.
    pub(super) first: Option<PathKind>,
    /// When a path from device to device carried what both send.
    pub(super) direct: Option<Duration>,
    /// What carried data at the end.
    pub(super) last: Option<PathKind>,
    /// Why nothing goes directly from device to device, as the one that dials sees it.
    pub(super) why: Option<String>,
}

impl Meeting {
    /// Only a relay carries data.
    pub(super) fn is_relayed(&self) -> bool {
        self.last.is_some_and(PathKind::is_relayed)
    }

    fn not(why: String) -> Self {
        Self { connected: Err(why), first: None, direct: None, last: None, why: None }
    }
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) meeting: Meeting,
    /// When the dial began, from the beginning of the world.
    pub(super) begun: Duration,
    /// A hash over everything that moved.
    pub(super) trace: u64,
}

/// Plays a trial from the first device to the second.
pub(super) fn play(places: [Place; 2], seed: u64) -> Result<Outcome, Failure> {
    let options = Options { limit: LONGEST, timeline: 0, ..Options::new(seed) };
    let played = options.run(|world| {
        Box::pin(async move {
            let trial = Trial::set(&world, places, seed).await?;
            Ok(trial.dial(&world).await)
        })
    });
    played.map_err(|error| Failure::Internal(format!("a trial did not end: {error}")))?
}

/// The TCP ports that both devices listen on beside others, which is a matter of configuration: that of the web, where it counts.
pub(super) fn ports(places: [Place; 2]) -> &'static [u16] {
    if places.contains(&Place::WebOnly) { &[WEB_PORT] } else { &[] }
}

/// The lines of the two devices: what is left to chance beside the NATs.
fn lines(seed: u64) -> [Link; 2] {
    let ms = |count: u64| Duration::from_millis(count);
    // Spread evenly, whatever the first seed: 41 delays, 5 jitters; a pair of lines comes again after 205 seeds.
    let line = |step: u64| Link {
        jitter: ms(seed.wrapping_mul(step) % 5),
        loss: 0.002,
        ..Link::delay(ms(3 + seed.wrapping_mul(step) % 41))
    };
    [line(7), line(23)]
}

impl Trial {
    /// Builds the network and starts the devices.
    pub(super) async fn set(world: &World, places: [Place; 2], seed: u64) -> Result<Self, Failure> {
        let start = Instant::now();
        let ipv6 = places.iter().any(|place| Surroundings::from(*place).families != Families::V4);
        let town = Town::build(world, ipv6).await?;
        let [near, far] = lines(seed);
        let mode = NodeMode::default();
        let ports = ports(places);
        let alice = town.device("alice", places[0], near, keys::device(0)?, mode, ports).await?;
        let bob = town.device("bob", places[1], far, keys::device(1)?, mode, ports).await?;
        Ok(Self { start, town, alice, bob })
    }

    /// `alice` dials `bob`, as soon as both are reachable.
    pub(super) async fn dial(&self, world: &World) -> Outcome {
        let (alice, bob) = (&self.alice.node, &self.bob.node);
        let joined = joined([alice, bob]).await;
        let begun = self.start.elapsed();
        let meeting = match joined {
            Ok(()) => {
                tokio::spawn(answer(bob.clone()));
                meet(alice, bob).await
            }
            Err(why) => Meeting::not(why),
        };
        Outcome { meeting, begun, trace: world.trace().hash() }
    }
}

/// One node dials another, which [answers](answer).
pub(super) async fn meet(alice: &Node, bob: &Node) -> Meeting {
    let begun = Instant::now();
    let greeted = timeout(DIALLING, greet(alice, bob.device())).await;
    // The channel stays open for as long as paths are watched.
    let _channel = match greeted {
        Ok(Ok(channel)) => channel,
        Ok(Err(why)) => return Meeting::not(why),
        Err(_) => return Meeting::not(format!("nothing after {DIALLING:?}")),
    };
    let connected = Ok(begun.elapsed());
    let stands = alice.connection(bob.device()).zip(bob.connection(alice.device()));
    let Some((near, far)) = stands else { return Meeting::not("the connection ended at once".to_owned()) };
    let first = carrying(&near).await;
    let mut direct = None;
    let mut why = None;
    if timeout_at(begun + SOON, both_direct(&near, &far)).await.is_ok() {
        direct = Some(begun.elapsed());
        sleep(AFTERWARDS).await;
    } else {
        why = near.report().await.cause().map(ToString::to_string);
    }
    Meeting { connected, first, direct, last: carrying(&near).await, why }
}

/// Waits until both are reachable by the DHT.
async fn joined(nodes: [&Node; 2]) -> Result<(), String> {
    for (node, name) in nodes.into_iter().zip(["alice", "bob"]) {
        let joined = timeout(JOINING, node.registered()).await;
        joined.map_err(|_| format!("{name} did not get into the DHT"))?;
    }
    Ok(())
}

/// Opens a channel, and sends words there and back.
async fn greet(node: &Node, device: DeviceId) -> Result<Channel, String> {
    let mut channel = node.connect(device, "trial").await.map_err(|error| error.to_string())?;
    let mut heard = WORDS;
    let exchanged = async {
        channel.write_all(&WORDS).await?;
        channel.read_exact(&mut heard).await
    };
    exchanged.await.map_err(|error| error.to_string())?;
    if heard == WORDS { Ok(channel) } else { Err("what came back is not what was sent".to_owned()) }
}

/// Sends back what comes on each channel.
pub(super) async fn answer(node: Node) {
    while let Some(incoming) = node.incoming().await {
        // What cannot be answered any more, nobody waits for.
        let Ok(channel) = incoming.accept().await else { continue };
        tokio::spawn(async move {
            let (mut reader, mut writer) = channel.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
    }
}

/// Ready when what both send goes from device to device.
async fn both_direct(near: &Connection, far: &Connection) {
    loop {
        let (of_near, of_far) = (carrying(near).await, carrying(far).await);
        if [of_near, of_far].iter().all(|kind| kind.is_some_and(|kind| !kind.is_relayed())) {
            return;
        }
        sleep(LOOK).await;
    }
}

/// What kind of path carries data.
async fn carrying(connection: &Connection) -> Option<PathKind> {
    let carries = |link: &LinkInfo| link.purpose == Use::Data;
    connection.links().await.iter().filter(|link| carries(link)).map(|link| link.kind).min()
}
