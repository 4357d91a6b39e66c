//! Two programs and the network between them, in virtual time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use towline_channeler::{
    Config, Endpoint, EndpointConfig, Event, KeyOnly, LinkId, LinkStatus, Peer, StaticKey,
};

use super::{
    network::{Arrival, Network},
    program::{Program, UNIX_TIME},
    way::Path,
};

/// The key of a host.
pub fn key(host: u8) -> StaticKey {
    StaticKey::from_bytes([host + 1; 32])
}

/// The endpoint of a host, with limits as they come.
pub fn endpoint(host: u8, config: &Arc<Config>, seed: u64) -> Endpoint {
    let anyone = Arc::new(KeyOnly::anyone());
    let config =
        EndpointConfig { config: config.clone(), ..EndpointConfig::new(key(host), anyone.clone(), anyone) };
    let mut chance = [host; 32];
    chance[..8].copy_from_slice(&seed.to_be_bytes());
    Endpoint::new(config, chance)
}

pub struct World {
    seed: u64,
    config: Arc<Config>,
    pub now: Instant,
    pub start: Instant,
    pub network: Network,
    pub hosts: [Program; 2],
}

impl World {
    /// Two hosts without wires.
    pub fn new(seed: u64, config: Config) -> Self {
        Self::at(Instant::now(), seed, config)
    }

    /// Two hosts without wires, from this instant on.
    pub fn at(now: Instant, seed: u64, config: Config) -> Self {
        let config = Arc::new(config);
        let host = |number: u8| Program::new(number.into(), now, endpoint(number, &config, seed));
        let hosts = [host(0), host(1)];
        Self { seed, config, now, start: now, network: Network::new(seed), hosts }
    }

    /// Two hosts with one wire, on which the first has dialled the second: the handshake is done.
    pub fn connected(seed: u64, config: Config, forth: Path, back: Path) -> Self {
        Self::new(seed, config).connect_by(forth, back)
    }

    /// A first wire, on which the first host has dialled the second: the handshake is done.
    pub fn connect_by(self, forth: Path, back: Path) -> Self {
        let mut world = self;
        world.network.add_datagrams(forth, back);
        world.connect(0);
        let up = world.run_until(Duration::from_secs(30), |world| {
            world.hosts.iter().all(|host| host.events.iter().any(|(_, event)| *event == Event::Connected))
        });
        assert!(up, "no connection: {:?}", world.hosts[0].closed);
        world
    }

    /// The same path both ways, and settings as they come.
    pub fn on(seed: u64, path: &Path) -> Self {
        Self::connected(seed, Config::default(), path.clone(), path.clone())
    }

    /// A host's program is killed and started again: it has its key, and knows nothing else.
    pub fn restart(&mut self, host: usize) {
        self.seed += 1000;
        let number = u8::try_from(host).unwrap();
        self.hosts[host] = Program::new(host, self.now, endpoint(number, &self.config, self.seed));
    }

    /// The first host dials the second by this wire.
    pub fn connect(&mut self, wire: usize) {
        let route = self.network.route(wire, 0);
        let peer = Peer::Key(key(1).public());
        let host = &mut self.hosts[0];
        let (handle, connection) = host.endpoint.connect(self.now, UNIX_TIME, peer, route).unwrap();
        host.handle = Some(handle);
        host.connection = Some(Box::new(connection));
    }

    /// Adds a wire as a link from host 0, and waits until both can use it.
    pub fn add_link(&mut self, wire: usize) -> LinkId {
        let route = self.network.route(wire, 0);
        let now = self.now;
        let link = self.hosts[0].connection().add_link(now, route).unwrap();
        let active = |report: towline_channeler::LinkReport| {
            report.link == link && report.status == LinkStatus::Active
        };
        let up = self.run_until(Duration::from_secs(10), |world| {
            world.hosts.iter_mut().all(|host| host.connection().links().any(active))
        });
        assert!(up, "{link} is not active after ten seconds");
        link
    }

    /// Since the world began.
    pub fn time(&self) -> Duration {
        self.now - self.start
    }

    /// Lets so much time pass.
    pub fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until something holds, at most so much. Whether it holds.
    pub fn run_until(&mut self, at_most: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + at_most;
        self.settle();
        loop {
            if done(self) {
                return true;
            }
            let Some(next) = self.next().filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn next(&self) -> Option<Instant> {
        self.hosts.iter().filter_map(Program::due).chain(self.network.next()).min()
    }

    /// Lets several worlds go through time together, up to this instant: what they share sees all in its order.
    pub fn run_together(worlds: &mut [Self], end: Instant) {
        for world in &mut *worlds {
            world.settle();
        }
        while let Some((next, world)) = worlds
            .iter_mut()
            .filter_map(|world| Some((world.next()?, world)))
            .min_by_key(|(next, _)| *next)
            .filter(|(next, _)| *next <= end)
        {
            world.now = world.now.max(next);
            world.step();
        }
        for world in worlds {
            world.now = world.now.max(end);
        }
    }

    /// Lets both programs work after something was changed from outside.
    pub fn settle(&mut self) {
        for host in &mut self.hosts {
            host.settle(self.now, &mut self.network);
        }
    }

    fn step(&mut self) {
        let now = self.now;
        let mut busy = [false; 2];
        for (busy, host) in busy.iter_mut().zip(&self.hosts) {
            *busy = host.due().is_some_and(|due| due <= now);
        }
        while let Some(arrival) = self.network.pop(now) {
            match arrival {
                Arrival::Packet { to, route, ecn, mut bytes } => {
                    busy[to] = true;
                    self.hosts[to].handle(now, route, ecn, &mut bytes, &mut self.network);
                    self.network.recycle(bytes);
                }
                Arrival::Ready { to, route } => {
                    busy[to] = true;
                    self.hosts[to].connection().set_ready(route, true);
                }
                Arrival::Broken { to, route } => {
                    busy[to] = true;
                    self.hosts[to].connection().link_lost(now, route);
                }
            }
        }
        for (host, _) in self.hosts.iter_mut().zip(busy).filter(|(_, busy)| *busy) {
            host.settle(now, &mut self.network);
        }
    }
}
