//! Two devices on a simulated network: a transfer, small messages beside it, and what happens to the lines.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep_until;
use towline_channeler_tokio::proto::KeyOnly;
use towline_channeler_tokio::proto::{
    Capabilities, EndpointConfig, LinkId, LinkReport, LinkStatus, OpenOptions, Peer, Placement, Priority,
    StaticKey,
};
use towline_channeler_tokio::{Channel, Connection, Endpoint, News, SocketId};
use towline_lab::towline_nat::{Allocation, Config};
use towline_lab::{Host, Link, NatBox, NatHandle, Options, Plan, Prefix, World};
use towline_net::{Net, UdpBind};

use super::Name;
use super::scenario::{Act, Scenario};
use super::watch::Watch;
use crate::event::{LabEnd, LabEvent, LabLine, LabSample};
use crate::failure::Failure;
use crate::output::Output;
use crate::text::milliseconds;

/// Virtual time a scene may take.
const LONGEST: Duration = Duration::from_mins(5);
/// Time between two of the small messages.
const EVERY: Duration = Duration::from_millis(10);
/// What is written and read at once.
const PORTION: usize = 16 << 10;

/// Plays a scene to its end.
pub(super) fn play(name: Name, seed: u64, output: &Output, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let options = Options { limit: LONGEST, timeline: 0, ..Options::new(seed) };
    let played = options.run(|world| Box::pin(Stage::play(world, name, seed, output.clone(), stop)));
    played.map_err(|error| Failure::Internal(format!("the scene did not end: {error}")))?
}

/// The two devices and the ways between them.
struct Stage {
    world: World,
    output: Output,
    /// Set when nobody waits for the end any more.
    stop: Arc<AtomicBool>,
    scenario: Scenario,
    alice: Host,
    bob: Host,
    /// Interfaces of the dialling device, by line.
    interfaces: Vec<u32>,
    nat: Option<NatHandle>,
}

/// What the parts of a scene share.
struct Play {
    alice: Connection,
    bob: Connection,
    /// By line.
    links: Vec<LinkId>,
    watch: Watch,
}

impl Stage {
    async fn play(
        world: World,
        name: Name,
        seed: u64,
        output: Output,
        stop: Arc<AtomicBool>,
    ) -> Result<(), Failure> {
        let scenario = name.scenario();
        let word = name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let lines = scenario.lines.iter();
        let lines = lines.map(|line| LabLine { name: line.name.to_owned(), about: line.about() }).collect();
        let about = scenario.about.to_owned();
        output.say(&LabEvent::Scene { scenario: word, seed, about, lines }.into());
        let stage = Self::set(world, scenario, output, stop);
        let (alice, bob, links) = stage.connect().await?;
        let play = Arc::new(Play { alice, bob, links, watch: Watch::start() });
        stage.perform(&play).await
    }

    /// Builds the networks.
    fn set(world: World, scenario: Scenario, output: Output, stop: Arc<AtomicBool>) -> Self {
        let (alice, bob) = (world.host("alice"), world.host("bob"));
        let mut nat = None;
        let mut interfaces = Vec::new();
        for (number, line) in scenario.lines.iter().enumerate() {
            // Each line is a network of its own, whose addresses both find by themselves.
            let block = Some(Prefix::new(IpAddr::from([45, number as u8, 0, 0]), 16));
            let network = world.network(if line.nat {
                Plan::Internet { v4: block, v6: None }
            } else {
                Plan::Lan { v4: block, v6: None }
            });
            bob.attach(network, Link::delay(Duration::ZERO));
            if line.nat {
                let inside = world.lan();
                // Other ports after each restart, so that it is noticed.
                let config = Config { allocation: Allocation::Random, ..Config::port_restricted_cone() };
                let (middlebox, handle) = NatBox::new(&world, config);
                world.router("router", inside, network, line.link.clone(), middlebox);
                interfaces.push(alice.attach(inside, Link::ethernet()));
                nat = Some(handle);
            } else {
                interfaces.push(alice.attach(network, line.link.clone()));
            }
        }
        Self { world, output, stop, scenario, alice, bob, interfaces, nat }
    }

    /// Connects over the first line, and adds the others.
    async fn connect(&self) -> Result<(Connection, Connection, Vec<LinkId>), Failure> {
        let (from, to) = (addresses(&self.alice)?, addresses(&self.bob)?);
        let alice = endpoint(&self.alice, from[0], 1)?;
        let bob = endpoint(&self.bob, to[0], 2)?;
        let at = |endpoint: &Endpoint, socket| {
            endpoint.local_addr(socket).ok_or_else(|| broken("socket", &"closed"))
        };
        let peer = Peer::Key(StaticKey::from_bytes([2; 32]).public());
        let (ours, theirs) =
            tokio::join!(biased; alice.connect(peer, at(&bob, SocketId::FIRST)?), bob.accept());
        let ours = ours.map_err(|error| broken("connect", &error))?;
        let theirs = theirs.ok_or_else(|| broken("accept", &"closed"))?;
        let mut links = vec![ours.links()[0].link];
        for (number, line) in self.scenario.lines.iter().enumerate().skip(1) {
            let link = if line.tcp {
                let listening =
                    bob.listen((to[number], 0).into()).map_err(|error| broken("listen", &error))?;
                ours.add_tcp(listening).await
            } else {
                let bind = |ip: IpAddr| UdpBind::new((ip, 0).into());
                let there = bob.add_socket(&bind(to[number])).map_err(|error| broken("bind", &error))?;
                let here = alice.add_socket(&bind(from[number])).map_err(|error| broken("bind", &error))?;
                ours.add_link_from(here, at(&bob, there)?).await
            };
            let link = link.map_err(|error| broken("add a link", &error))?;
            ours.link_active(link).await.map_err(|error| broken("add a link", &error))?;
            links.push(link);
        }
        Ok((ours, theirs, links))
    }

    async fn perform(&self, play: &Arc<Play>) -> Result<(), Failure> {
        let placement =
            self.scenario.prefer.map_or(Placement::Aggregate, |line| Placement::Prefer(play.links[line]));
        let options = OpenOptions { placement, label: b"bulk".into(), ..OpenOptions::default() };
        let bulk = play.alice.open(options).await.map_err(|error| broken("open", &error))?;
        let probe = OpenOptions {
            capabilities: Capabilities::datagram(),
            priority: Priority::URGENT,
            label: b"messages".into(),
            ..OpenOptions::default()
        };
        let probe = play.alice.open(probe).await.map_err(|error| broken("open", &error))?;
        let messages = tokio::spawn(Arc::clone(play).send_messages(probe));
        let (bytes, placer) = (self.scenario.bytes, Arc::new(tokio::sync::watch::Sender::new(placement)));
        let sender = tokio::spawn(send(bulk, bytes, placer.subscribe()));
        let receivers = tokio::spawn(Arc::clone(play).receive(bytes));
        let result = tokio::select! {
            biased;
            received = receivers => received.unwrap_or_else(|error| Err(broken("receive", &error))),
            () = self.direct(play, &placer) => unreachable!("the director stays until the end"),
            stopped = self.sample(play) => Err(stopped),
            () = self.tell(play) => Err(broken("transfer", &"the connection ended")),
        };
        messages.abort();
        result?;
        sender.await.unwrap_or_else(|error| Err(broken("send", &error)))?;
        self.end(play);
        Ok(())
    }

    /// Lets happen what is to happen.
    async fn direct(&self, play: &Play, placer: &tokio::sync::watch::Sender<Placement>) {
        let line = |number: usize| &self.scenario.lines[number];
        for (after, act) in &self.scenario.acts {
            sleep_until(play.watch.start_time() + *after).await;
            let text = match *act {
                Act::Silence(number) => {
                    self.alice.set_outage(self.interfaces[number], true);
                    format!("{} falls silent", line(number).name)
                }
                Act::Heal(number) => {
                    self.alice.set_outage(self.interfaces[number], false);
                    format!("{} works again", line(number).name)
                }
                Act::Narrow(number, mtu) => {
                    let link = Link { mtu, ..line(number).link.clone() };
                    self.alice.set_link(self.interfaces[number], link.clone(), link);
                    format!("{} loses packets of more than {mtu} bytes from now on", line(number).name)
                }
                Act::Forget => {
                    self.nat.iter().for_each(NatHandle::forget);
                    "the router forgets its mappings".to_owned()
                }
                Act::Prefer(number) => {
                    placer.send_replace(Placement::Prefer(play.links[number]));
                    format!("the channel is to take {}", line(number).name)
                }
            };
            self.note(play, text);
        }
        std::future::pending::<()>().await;
    }

    /// Says what moved, step by step, until it is told to stop.
    async fn sample(&self, play: &Play) -> Failure {
        let fastest = self.scenario.lines.iter().filter_map(|line| line.link.rate).max().unwrap_or(1);
        let total: u64 = self.scenario.lines.iter().filter_map(|line| line.link.rate).sum();
        let full = if self.scenario.prefer.is_some() { fastest } else { total } as f64 * 8e-6;
        let (mut arrived, mut read) = (vec![0; play.links.len()], 0);
        for number in 1u32.. {
            sleep_until(play.watch.start_time() + self.scenario.step * number).await;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let mbits = |bytes: u64| bytes as f64 * 8e-6 / self.scenario.step.as_secs_f64();
            let reports = play.bob.links();
            let now = |link: &LinkId| {
                reports.iter().find(|report| report.link == *link).map(|report| report.bytes_received)
            };
            let lines = play.links.iter().zip(&mut arrived).map(|(link, before)| {
                let total = now(link).unwrap_or(*before);
                mbits(total - std::mem::replace(before, total))
            });
            let lines = lines.collect();
            let total = play.watch.bytes();
            self.output.say(
                &LabEvent::Sample(LabSample {
                    at: play.watch.at(),
                    mbits: lines,
                    program_mbits: mbits(total - std::mem::replace(&mut read, total)),
                    delay_ms: play.watch.take_delay().map(milliseconds),
                    full_mbits: full,
                })
                .into(),
            );
        }
        Failure::Interrupted
    }

    /// Says what becomes of the links, as the sender sees it. Ends with the connection.
    async fn tell(&self, play: &Play) {
        let mut events = play.alice.events();
        let mut last: Vec<Option<(LinkStatus, u16)>> = vec![None; play.links.len()];
        while let Some(news) = events.next().await {
            let News::Link(LinkReport { link, status, mtu, .. }) = news else { continue };
            let Some(number) = play.links.iter().position(|known| *known == link) else { continue };
            let name = self.scenario.lines[number].name;
            match last[number].replace((status, mtu)) {
                Some((before, _)) if before != status => {
                    let what = match status {
                        LinkStatus::Validating => "is being checked again",
                        LinkStatus::Active => "is in use",
                        LinkStatus::Suspect => "is suspect: what matters is repeated elsewhere",
                        LinkStatus::Dead => "is dead: probes only",
                        LinkStatus::Closed => "is closed",
                    };
                    self.note(play, format!("{name} {what}"));
                }
                Some((_, before)) if before != mtu => {
                    self.note(play, format!("{name} carries packets of {mtu} bytes"));
                }
                _ => {}
            }
        }
    }

    fn note(&self, play: &Play, text: String) {
        self.world.note(text.as_str());
        self.output.say(&LabEvent::Note { at: play.watch.at(), text }.into());
    }

    fn end(&self, play: &Play) {
        let stats = play.alice.stats();
        self.output.say(
            &LabEvent::End(LabEnd {
                bytes: play.watch.bytes(),
                seconds: play.watch.at(),
                stall_ms: milliseconds(play.watch.stall()),
                messages_sent: play.watch.messages_sent.load(Ordering::Relaxed),
                messages_received: play.watch.messages_received.load(Ordering::Relaxed),
                packets_sent: stats.packets_sent,
                packets_lost: stats.packets_lost,
                trace: format!("{:016x}", self.world.trace().hash()),
            })
            .into(),
        );
    }
}

impl Play {
    /// Sends the time, again and again.
    async fn send_messages(self: Arc<Self>, mut channel: Channel) {
        for number in 0u32.. {
            sleep_until(self.watch.start_time() + EVERY * number).await;
            let now = (self.watch.at() * 1e9) as u64;
            if channel.send(&now.to_be_bytes()).await.is_err() {
                return;
            }
            self.watch.messages_sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes both channels, whichever comes first, and reads the transfer to its end.
    async fn receive(self: Arc<Self>, bytes: u64) -> Result<(), Failure> {
        let mut bulk = None;
        for _ in 0..2 {
            let incoming = self.bob.accept().await.map_err(|error| broken("accept", &error))?;
            let channel = incoming.accept();
            let play = Arc::clone(&self);
            if channel.label() == b"bulk" {
                bulk = Some(tokio::spawn(async move { play.read(channel, bytes).await }));
            } else {
                tokio::spawn(async move { play.receive_messages(channel).await });
            }
        }
        let Some(bulk) = bulk else { return Err(broken("accept", &"the transfer was not opened")) };
        bulk.await.unwrap_or_else(|error| Err(broken("read", &error)))
    }

    async fn receive_messages(&self, mut channel: Channel) {
        let mut buf = [0; 8];
        while let Ok(Some(_)) = channel.recv(&mut buf).await {
            self.watch.message(Duration::from_nanos(u64::from_be_bytes(buf)));
        }
    }

    async fn read(&self, mut channel: Channel, bytes: u64) -> Result<(), Failure> {
        let mut buf = vec![0; PORTION];
        let mut at = 0;
        loop {
            let len = channel.read(&mut buf).await.map_err(|error| broken("read", &error))?;
            if len == 0 {
                break;
            }
            if let Some(wrong) = (0..len).find(|index| buf[*index] != byte_at(at + *index as u64)) {
                return Err(broken("check", &format!("byte {} is wrong", at + wrong as u64)));
            }
            at += len as u64;
            self.watch.read(len);
        }
        if at == bytes { Ok(()) } else { Err(broken("check", &format!("{at} of {bytes} bytes came"))) }
    }
}

async fn send(
    mut channel: Channel,
    bytes: u64,
    mut placement: tokio::sync::watch::Receiver<Placement>,
) -> Result<Channel, Failure> {
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(PORTION as u64);
        let portion: Vec<u8> = (at..at + len).map(byte_at).collect();
        channel.set_placement(*placement.borrow_and_update());
        channel.write_all(&portion).await.map_err(|error| broken("write", &error))?;
        at += len;
    }
    channel.shutdown().await.map_err(|error| broken("finish", &error))?;
    Ok(channel)
}

/// What is transferred: no two stretches of it are alike.
fn byte_at(offset: u64) -> u8 {
    (offset % 251 + offset / 65_536) as u8
}

fn endpoint(host: &Host, at: IpAddr, seed: u8) -> Result<Endpoint, Failure> {
    let (key, anyone) = (StaticKey::from_bytes([seed; 32]), Arc::new(KeyOnly::anyone()));
    let config = EndpointConfig::new(key, anyone.clone(), anyone);
    Endpoint::bind(Arc::new(host.clone()), (at, 0).into(), config).map_err(|error| broken("bind", &error))
}

/// The addresses of a host, by line.
fn addresses(host: &Host) -> Result<Vec<IpAddr>, Failure> {
    let interfaces = host.interfaces().map_err(|error| broken("interfaces", &error))?;
    let all = interfaces.iter().flat_map(|interface| &interface.addresses).map(|address| address.addr);
    Ok(all.filter(|ip| ip.is_ipv4() && !ip.is_loopback()).collect())
}

fn broken(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::Internal(format!("{what}: {why}"))
}
