//! The simulated network does what it says.

use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::StdRng};
use towline_channeler::{Ecn, Route, Transmit};

use crate::support::{
    network::{Arrival, Network},
    way::{Burst, HEADERS, Path, Reorder, Way},
};

fn datagram(network: &Network, wire: usize, from: usize) -> Transmit {
    Transmit { route: network.route(wire, from), ecn: Some(Ecn::Ect0), segment: None }
}

#[test]
fn a_wire_delays_and_keeps_its_rate() {
    let mut network = Network::new(1);
    let path = Path { rate: Some(1_000_000), ..Path::rtt(40) };
    let wire = network.add_datagrams(path.clone(), path);
    let start = Instant::now();
    let size = 1000 - HEADERS;
    let transmit = Transmit { segment: Some(size), ..datagram(&network, wire, 0) };
    assert!(network.send(start, 0, transmit, &vec![7; size * 3 + 10]));
    let mut seen = Vec::new();
    while let Some(now) = network.next() {
        while let Some(arrival) = network.pop(now) {
            let Arrival::Packet { to: 1, bytes, route, .. } = arrival else { panic!("{arrival:?}") };
            assert_eq!(route, network.route(wire, 1));
            seen.push(((now - start).as_micros(), bytes.len()));
        }
    }
    assert_eq!(seen, [(21_000, size), (22_000, size), (23_000, size), (23_038, 10)]);
}

#[test]
fn a_queue_overflows_and_marks() {
    let path = Path { queue: 10_000, mark_above: Some(5_000), rate: Some(1_000_000), ..Path::default() };
    let mut way = Way::new(path);
    let mut rng = StdRng::seed_from_u64(2);
    let now = Instant::now();
    for _ in 0..15 {
        way.carry(now, 1000 - HEADERS, Some(Ecn::Ect0), &mut rng);
    }
    assert_eq!((way.tally.arrived, way.tally.overflowed, way.tally.marked), (10, 5, 4));
}

#[test]
fn chance_has_the_shares_that_were_asked_for() {
    let now = Instant::now();
    let share = |path: Path, of: fn(&Way, &[[bool; 2]]) -> f64| {
        let mut way = Way::new(path);
        let mut rng = StdRng::seed_from_u64(3);
        let fates: Vec<_> =
            (0..100_000).map(|_| way.carry(now, 100, None, &mut rng).map(|fate| fate.is_some())).collect();
        of(&way, &fates) / 100_000.0
    };
    let lost = |way: &Way, _: &[[bool; 2]]| way.tally.lost as f64;
    let near =
        |value: f64, target: f64| assert!((value - target).abs() < 0.1 * target, "{value} for {target}");
    near(share(Path::default().with_loss(0.05), lost), 0.05);
    near(share(Path { burst: Some(Burst::of(0.05, 8.0)), ..Path::default() }, lost), 0.05);
    let bursts = |_: &Way, fates: &[[bool; 2]]| {
        fates.windows(2).filter(|pair| pair[0][0] && !pair[1][0]).count() as f64
    };
    near(share(Path { burst: Some(Burst::of(0.05, 8.0)), ..Path::default() }, bursts), 0.05 / 8.0);
    let twice = |_: &Way, fates: &[[bool; 2]]| fates.iter().filter(|fate| fate[1]).count() as f64;
    near(share(Path { duplicate: 0.1, ..Path::default() }, twice), 0.1);
}

#[test]
fn packets_are_overtaken_and_damaged() {
    let now = Instant::now();
    let mut rng = StdRng::seed_from_u64(4);
    let reorder = Some(Reorder { share: 0.5, by: Duration::from_millis(5) });
    let mut way = Way::new(Path { reorder, corrupt: 1.0, ..Path::rtt(20) });
    let fates: Vec<_> = (0..100).filter_map(|_| way.carry(now, 10, None, &mut rng)[0]).collect();
    assert!(fates.iter().all(|fate| fate.turned.is_some_and(|bit| bit < 80)));
    assert!(fates.iter().all(|fate| [10, 15].contains(&(fate.at - now).as_millis())));
    assert!(fates.iter().any(|fate| (fate.at - now).as_millis() == 10));
}

#[test]
fn a_mapping_that_is_gone_takes_nothing_more() {
    let mut network = Network::new(5);
    let wire = network.add_datagrams(Path::default(), Path::default());
    let now = Instant::now();
    let old = datagram(&network, wire, 1);
    network.rebind(wire);
    network.send(now, 1, old, b"old");
    assert_eq!(network.next(), None);
    let new = datagram(&network, wire, 1);
    network.send(now, 1, new, b"new");
    assert!(matches!(network.pop(now), Some(Arrival::Packet { to: 0, bytes, .. }) if bytes == b"new"));
}

#[test]
fn holes_and_outages() {
    let mut network = Network::new(6);
    let wire = network.add_datagrams(Path { mtu: 1300, ..Path::default() }, Path::default());
    let now = Instant::now();
    let transmit = datagram(&network, wire, 0);
    network.send(now, 0, transmit, &[0; 1301]);
    assert_eq!(network.next(), None);
    network.each_way(wire, |path| path.hole = Some((600, 800)));
    network.send(now, 0, transmit, &[0; 700]);
    assert_eq!(network.next(), None);
    network.set_up(wire, false);
    network.send(now, 0, transmit, &[0; 100]);
    assert_eq!(network.next(), None);
    network.set_up(wire, true);
    network.send(now, 0, transmit, &[0; 100]);
    assert_eq!(network.next(), Some(now));
}

#[test]
fn a_stream_keeps_order_through_loss_says_when_it_is_full_and_breaks() {
    let mut network = Network::new(7);
    let path = Path { rate: Some(1_000_000), ..Path::rtt(20) }.with_loss(0.3);
    let wire = network.add_stream(path.clone(), path, 2000);
    let start = Instant::now();
    let transmit = Transmit { route: Route::Stream(0), ecn: None, segment: None };
    let mut ready = true;
    for number in 0..4_u8 {
        assert!(ready);
        let mut bytes = vec![2, 0];
        bytes.extend([number; 512]);
        ready = network.send(start, 0, transmit, &bytes);
    }
    assert!(!ready, "2056 bytes in a buffer of 2000");
    let (mut seen, mut told) = (Vec::new(), None);
    while let Some(now) = network.next() {
        while let Some(arrival) = network.pop(now) {
            match arrival {
                Arrival::Packet { to: 1, bytes, .. } => seen.push(bytes[0]),
                Arrival::Ready { to: 0, .. } => told = Some((now - start).as_micros()),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(seen, [0, 1, 2, 3]);
    assert_eq!(told, Some(1056));
    network.break_stream(start, wire);
    assert_eq!(network.pop(start), Some(Arrival::Broken { to: 0, route: Route::Stream(0) }));
    assert_eq!(network.pop(start), Some(Arrival::Broken { to: 1, route: Route::Stream(0) }));
    network.send(start, 0, transmit, &[0, 1, 9]);
    assert_eq!(network.next(), None);
}
