//! The questions of one attempt to STUN servers, over UDP and TCP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use towline_ice::Candidate;
use towline_ice::gather::{GatherAction, GatherConfig, GatherEvent, Gatherer, Server, Via};
use towline_net::Net;

use super::dials::Dials;
use super::memory::Promise;
use super::outside::Ask;
use super::stun::{MAX_TARGETS, StunServer};

/// Connections to servers are kept for this time, as a NAT keeps the mapping as long as there is one: until there is a path, or none.
pub(super) const KEEP: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Questions {
    pub(super) gatherer: Gatherer,
    dials: Dials,
    servers: BTreeMap<Server, Arc<StunServer>>,
    /// When each was asked first, and from where.
    asked: BTreeMap<(Server, SocketAddr), Instant>,
    /// Answers that the memory has, by datagrams and on TCP.
    noted: [usize; 2],
    /// Those that may well be answered soon.
    promising: BTreeSet<(Server, SocketAddr)>,
    /// Addresses of ours of which we know how they are seen, and how many servers have said so.
    seen: BTreeMap<(Via, SocketAddr), usize>,
    /// When connections are closed, as long as there may be some.
    closes: Option<Instant>,
}

impl Questions {
    /// None without anybody to ask. The `spares` are asked on TCP if the others do not answer there, and at once if there are none.
    pub(super) fn new(
        net: &Arc<dyn Net>,
        targets: Vec<(Server, Arc<StunServer>)>,
        spares: &[SocketAddr],
        bases: &[(Via, SocketAddr)],
    ) -> Option<Self> {
        if targets.is_empty() && spares.is_empty() {
            return None;
        }
        let now = towline_net::now();
        let config = GatherConfig { max_servers: MAX_TARGETS + spares.len(), ..GatherConfig::default() };
        let mut gatherer = Gatherer::new(config, now, net.seed());
        for (server, _) in &targets {
            gatherer.add_server(now, *server);
        }
        for &address in spares {
            gatherer.add_spare(now, Server { address, via: Via::Tcp });
        }
        // Datagrams first: they are answered sooner, and the questions are paced.
        for via in [Via::Udp, Via::Tcp] {
            for (_, base) in bases.iter().filter(|(of, _)| *of == via) {
                gatherer.add_base(now, via, *base);
            }
        }
        Some(Self {
            gatherer,
            dials: Dials::new(Arc::clone(net)),
            servers: targets.into_iter().collect(),
            asked: BTreeMap::new(),
            noted: [0; 2],
            promising: BTreeSet::new(),
            seen: BTreeMap::new(),
            closes: Some(now + KEEP),
        })
    }

    /// Keeps the connections for longer. False if none is left: what was seen by them may not be so any more.
    pub(super) fn keep(&mut self, now: Instant) -> bool {
        if self.gatherer.is_done() && self.dials.is_empty() {
            return false;
        }
        self.closes = self.closes.map(|_| now + KEEP);
        self.closes.is_some()
    }

    /// Every server has answered or failed.
    pub(super) fn is_done(&self) -> bool {
        self.gatherer.is_done()
    }

    /// An address of ours may be seen soon of which we do not know yet how; from two servers, as one cannot tell what NAT stands there.
    /// Servers that were dead the last time are not waited for, nor are those on TCP that are not known to answer: most do not.
    pub(super) fn is_promising(&self) -> bool {
        self.promising.iter().any(|(server, base)| {
            let enough = if server.via == Via::Udp { 2 } else { 1 };
            self.seen.get(&(server.via, *base)).is_none_or(|answers| *answers < enough)
        })
    }

    /// The next question to be sent by a socket of ours.
    pub(super) fn poll_ask(&mut self) -> Option<Ask> {
        loop {
            match self.gatherer.poll_action()? {
                GatherAction::SendUdp { local, remote, payload } => {
                    self.asks(Server { address: remote, via: Via::Udp }, local);
                    return Some(Ask { local, remote, payload });
                }
                GatherAction::Connect { question, local, remote } => {
                    self.asks(Server { address: remote, via: Via::Tcp }, local);
                    self.dials.connect(question, local, remote);
                }
                GatherAction::Write { question, payload } => self.dials.write(question, &payload),
                GatherAction::Close { question } => self.dials.close(question),
            }
        }
    }

    fn asks(&mut self, server: Server, base: SocketAddr) {
        let now = towline_net::now();
        if self.asked.contains_key(&(server, base)) {
            return;
        }
        self.asked.insert((server, base), now);
        if let Some(known) = self.servers.get(&server) {
            let memory = known.memory(server.via);
            let promising = match (memory.promise(now), server.via) {
                (Promise::Good(_), _) | (Promise::Unknown, Via::Udp) => true,
                (Promise::Unknown, Via::Tcp) | (Promise::Doubtful | Promise::Rests(_), _) => false,
            };
            if promising {
                self.promising.insert((server, base));
            }
            memory.asked(now);
        }
    }

    /// Moves connections on. True if there was anything; what was found out follows by [`Questions::poll_candidate`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        self.dials.poll(cx, now, &mut self.gatherer)
    }

    /// The next address that we are seen at.
    pub(super) fn poll_candidate(&mut self, now: Instant) -> Option<Candidate> {
        self.note(now);
        loop {
            match self.gatherer.poll_event()? {
                GatherEvent::Candidate(candidate) => return Some(candidate),
                GatherEvent::ServerFailed { server, base, error } => {
                    self.promising.remove(&(server, base));
                    // It may have answered to another address.
                    let observations = self.gatherer.observations(server.via);
                    let answers = observations.iter().any(|seen| seen.server == server.address);
                    let silent = error == towline_ice::gather::ServerError::Silent;
                    if let Some(known) = self.servers.get(&server).filter(|_| !(answers && silent)) {
                        known.memory(server.via).failed(now, error.into());
                    }
                }
                GatherEvent::Done => self.promising.clear(),
            }
        }
    }

    /// Remembers the answers that came since the last call.
    fn note(&mut self, now: Instant) {
        for (via, noted) in [Via::Udp, Via::Tcp].into_iter().zip(&mut self.noted) {
            let observations = self.gatherer.observations(via);
            if observations.len() == *noted {
                continue;
            }
            *noted = observations.len();
            for observation in observations {
                let (base, server) = (observation.base, Server { address: observation.server, via });
                if let Some(asked) = self.asked.remove(&(server, base))
                    && let Some(known) = self.servers.get(&server)
                {
                    *self.seen.entry((via, base)).or_default() += 1;
                    self.promising.remove(&(server, base));
                    known.memory(via).answered(now, now - asked, observation.mapped, Vec::new());
                }
            }
        }
    }

    /// A datagram came to `local`. True if it was an answer.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        !self.gatherer.is_done() && self.gatherer.handle_udp(now, local, from, datagram)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.gatherer.poll_timeout().into_iter().chain(self.closes).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.gatherer.poll_timeout().is_some_and(|at| at <= now) {
            self.gatherer.handle_timeout(now);
        }
        if self.closes.is_some_and(|at| at <= now) {
            self.closes = None;
            self.gatherer.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use towline_lab::{Link, World, run};

    use super::*;

    #[test]
    fn connections_that_are_gone_are_not_kept() {
        run(1, async |world: World| {
            let internet = world.internet();
            let [device, server] = ["device", "server"].map(|name| {
                let host = world.host(name);
                host.attach(internet, Link::delay(Duration::from_millis(10)));
                host
            });
            // Nobody listens there.
            let (at, base) = (SocketAddr::new(server.ipv4(), 443), SocketAddr::new(device.ipv4(), 4000));
            let net: Arc<dyn Net> = Arc::new(device);
            let mut questions = Questions::new(&net, Vec::new(), &[at], &[(Via::Tcp, base)]).unwrap();
            assert!(questions.keep(towline_net::now()), "it is being connected");
            while !questions.is_done() {
                while questions.poll_ask().is_some() {}
                poll_fn(|cx| Poll::Ready(questions.poll(cx, towline_net::now()))).await;
                towline_net::sleep_until(towline_net::now() + Duration::from_millis(10)).await;
                questions.handle_timeout(towline_net::now());
            }
            while questions.poll_ask().is_some() {}
            assert!(!questions.keep(towline_net::now()));
        });
    }
}
