//! A UDP hole punch as it is done by hand, without ICE: what two devices can reach with the least.

use std::{net::SocketAddr, time::Duration};

use tokio::time::{Instant, timeout_at};
use towline_nat::{Reason, Scope, Transport, Way};
use towline_net::{Net, UdpBind, UdpSocket};

use crate::{
    host::Host,
    nat::{BoxEvent, FirewallHandle, NatHandle},
    place::{Pair, Site},
    shared::World,
};

/// The port of the rendezvous.
const PORT: u16 = 3478;
/// Time between two packets to the same end.
const EVERY: Duration = Duration::from_millis(250);
/// Packets that each device sends before it gives up.
const TRIES: u32 = 12;

/// What came of it, of `alice` and of `bob`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punch {
    /// What the rendezvous saw of each, and told the other.
    pub told: [Option<SocketAddr>; 2],
    /// Where each heard the other from, and knew that it was heard.
    pub reached: [Option<SocketAddr>; 2],
    /// How long it took after both were told.
    pub took: Option<Duration>,
    /// Why it failed, in words; empty if it did not.
    pub why_not: Vec<String>,
}

impl Punch {
    /// Whether each of the two hears the other.
    pub fn is_through(&self) -> bool {
        self.reached.iter().all(Option::is_some)
    }
}

impl World {
    /// Two devices ask the rendezvous how they are seen, are told how the other is, and send to there. Whoever hears the
    /// other answers to where it came from.
    pub async fn punch(&self, pair: &Pair) -> Punch {
        let both = |ipv6| has(&pair.a.host, ipv6) && has(&pair.b.host, ipv6);
        let Some(ipv6) = [false, true].into_iter().find(|ipv6| both(*ipv6)) else {
            return Punch::nothing("the two have no family of addresses in common".to_owned());
        };
        let server = if ipv6 { pair.rendezvous.ipv6() } else { pair.rendezvous.ipv4() };
        let meeting = SocketAddr::new(server, PORT);
        let listening = pair.rendezvous.bind_udp(&UdpBind::new(meeting));
        let bind =
            |site: &Site| site.host.bind_udp(&if ipv6 { UdpBind::any_v6() } else { UdpBind::any_v4() }).ok();
        let (Ok(listening), Some(a), Some(b)) = (listening, bind(&pair.a), bind(&pair.b)) else {
            return Punch::nothing("a socket could not be bound".to_owned());
        };
        let told = introduce(&*listening, [&*a, &*b], meeting).await;
        for (name, seen) in ["alice", "bob"].iter().zip(told) {
            if let Some(seen) = seen {
                self.note(format!("the rendezvous sees {name} as {seen}"));
            }
        }
        let [Some(seen_a), Some(seen_b)] = told else {
            let why_not = explain(pair, told);
            return Punch { told, why_not, ..Punch::nothing(String::new()) };
        };
        let start = Instant::now();
        let (of_a, of_b) = tokio::join!(biased; knock(&*a, seen_b), knock(&*b, seen_a));
        let reached = [of_a.map(|(from, _)| from), of_b.map(|(from, _)| from)];
        let took = of_a.zip(of_b).map(|((_, at), (_, other))| at.max(other) - start);
        let why_not = if took.is_some() { Vec::new() } else { explain(pair, told) };
        Punch { told, reached, took, why_not }
    }
}

/// Why the two did not meet, as the boxes between them know.
fn explain(pair: &Pair, told: [Option<SocketAddr>; 2]) -> Vec<String> {
    let mut why = Vec::new();
    let sides = [("alice", &pair.a, told[0], told[1]), ("bob", &pair.b, told[1], told[0])];
    for (name, site, seen, other) in sides {
        let refused: Vec<Reason> = refusals(site, Way::Out).collect();
        if refused.contains(&Reason::Forbidden) {
            why.push(format!("the firewall before {name} lets no UDP through"));
        } else if let Some(reason) = refused.first() {
            why.push(format!("the box before {name} refused what it sent: {reason}"));
        } else if seen.is_none() {
            why.push(format!("{name} did not reach the rendezvous"));
        }
        let (Some(seen), Some(other)) = (seen, other) else { continue };
        if let Some(used) = towards(site, other).filter(|used| *used != seen) {
            why.push(format!(
                "the NAT of {name} uses {used} towards the other, who was told {seen}: a mapping per destination"
            ));
        }
        if refusals(site, Way::In).any(|reason| reason == Reason::Filtered) {
            why.push(format!("the box before {name} lets in only who was sent to"));
        } else if refusals(site, Way::In).any(|reason| reason == Reason::NoMapping) {
            why.push(format!("the NAT of {name} has no mapping where the other sent to"));
        }
    }
    if why.is_empty() {
        why.push("no box refused anything: the packets were lost".to_owned());
    }
    why
}

impl Punch {
    fn nothing(why: String) -> Self {
        Self { told: [None; 2], reached: [None; 2], took: None, why_not: vec![why] }
    }
}

fn has(host: &Host, ipv6: bool) -> bool {
    let own = host.interfaces().unwrap_or_default();
    let mut addresses = own.iter().filter(|one| !one.loopback).flat_map(|one| &one.addresses);
    addresses.any(|own| own.addr.is_ipv6() == ipv6)
}

/// Why the boxes of a site refused UDP of this way.
fn refusals(site: &Site, way: Way) -> impl Iterator<Item = Reason> {
    let logs = site.gateways.iter().flat_map(|gateway| {
        let nat = gateway.nat.iter().flat_map(NatHandle::log);
        nat.chain(gateway.firewall.iter().flat_map(FirewallHandle::log))
    });
    logs.filter_map(move |(_, event)| match event {
        BoxEvent::Refused { way: of, transport: Transport::Udp, reason, .. } if of == way => Some(reason),
        _ => None,
    })
}

/// What the outermost NAT opened for this destination alone.
fn towards(site: &Site, other: SocketAddr) -> Option<SocketAddr> {
    let nats = site.gateways.iter().rev().filter_map(|gateway| gateway.nat.as_ref());
    nats.take(1).flat_map(NatHandle::log).find_map(|(_, event)| match event {
        BoxEvent::Opened(mapped) => match mapped.scope {
            Scope::Address(to) if to == other.ip() => Some(mapped.outside),
            Scope::End(to) if to == other => Some(mapped.outside),
            _ => None,
        },
        _ => None,
    })
}

/// Both ask how they are seen until they know how the other is.
async fn introduce(
    server: &dyn UdpSocket,
    peers: [&dyn UdpSocket; 2],
    meeting: SocketAddr,
) -> [Option<SocketAddr>; 2] {
    let ask = async |number: u8| {
        let socket = peers[usize::from(number)];
        let mut buf = [0; 64];
        for _ in 0..TRIES {
            if socket.send(&[number], meeting).await.is_err() {
                return;
            }
            if let Ok(Ok(received)) = timeout_at(Instant::now() + EVERY, socket.recv(&mut buf)).await
                && received.from == meeting
            {
                return;
            }
        }
    };
    let mut seen = [None; 2];
    tokio::select! {
        biased;
        () = serve(server, &mut seen) => {}
        _ = async { tokio::join!(biased; ask(0), ask(1)) } => {}
    }
    seen
}

/// Tells each of two how the other is seen, as soon as both have asked. Ends only with its socket.
async fn serve(server: &dyn UdpSocket, seen: &mut [Option<SocketAddr>; 2]) {
    let mut buf = [0; 1];
    while let Ok(received) = server.recv(&mut buf).await {
        if let Some(seen) = seen.get_mut(usize::from(buf[0])) {
            *seen = Some(received.from);
        }
        if let [Some(first), Some(second)] = *seen {
            for (to, about) in [(first, second), (second, first)] {
                if server.send(about.to_string().as_bytes(), to).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Sends to the other until it is heard, and knows that it is. Returns where from, and when.
async fn knock(socket: &dyn UdpSocket, told: SocketAddr) -> Option<(SocketAddr, Instant)> {
    let (mut to, mut heard) = (told, None);
    let mut buf = [0; 64];
    for _ in 0..TRIES {
        // The other is told whether it was heard.
        socket.send(&[u8::from(heard.is_some())], to).await.ok()?;
        let until = Instant::now() + EVERY;
        while let Ok(Ok(received)) = timeout_at(until, socket.recv(&mut buf)).await {
            if received.len != 1 {
                continue;
            }
            to = received.from;
            if buf[0] == 1 && heard.is_some() {
                // Once more, in case the other waits for this.
                let _ = socket.try_send(&[1], to);
                return Some((to, Instant::now()));
            }
            if heard.replace(to).is_none() {
                let _ = socket.try_send(&[1], to);
            }
        }
    }
    None
}
