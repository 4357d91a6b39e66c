//! UDP hole punching between every two places, as theory has it.

use towline_lab::{
    Place, Punch, run,
    towline_nat::{Config, Filtering},
};

fn punched(a: Place, b: Place, seed: u64) -> Punch {
    run(seed, async |world| {
        let pair = world.behind(a, b);
        world.punch(&pair).await
    })
}

/// What a place demands of the other: `None` if it has no UDP over IPv4.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Hardness {
    /// Lets everybody in, at the end that the rendezvous saw.
    Open,
    /// Lets in an address that it has sent to, at that end.
    ByAddress,
    /// Lets in an end that it has sent to, at that end.
    ByEnd,
    /// The same, and it is seen at another end by each.
    Symmetric,
}

fn hardness(place: Place) -> Option<Hardness> {
    Some(match place {
        Place::Open | Place::FullCone | Place::CarrierGrade => Hardness::Open,
        Place::RestrictedCone => Hardness::ByAddress,
        Place::PortRestricted
        | Place::PortMapping
        | Place::DoubleNat
        | Place::Firewalled
        | Place::DualStack
        | Place::BrokenIpv6 => Hardness::ByEnd,
        Place::Symmetric | Place::SequentialSymmetric => Hardness::Symmetric,
        Place::UdpBlocked | Place::WebOnly | Place::Ipv6Only => return None,
    })
}

#[test]
fn every_pair_of_places_meets_where_theory_says() {
    for a in Place::ALL {
        for b in Place::ALL {
            let punch = punched(a, b, 7);
            let both_six = |place| matches!(place, Place::DualStack | Place::Ipv6Only | Place::Open);
            let six = (a == Place::Ipv6Only || b == Place::Ipv6Only) && both_six(a) && both_six(b);
            let wanted = six
                || match (hardness(a), hardness(b)) {
                    (Some(a), Some(b)) => {
                        let (easy, hard) = if a <= b { (a, b) } else { (b, a) };
                        hard < Hardness::Symmetric || easy < Hardness::ByEnd
                    }
                    _ => false,
                };
            assert_eq!(punch.is_through(), wanted, "{a} and {b}: {punch:?}");
            assert_eq!(punch.why_not.is_empty(), wanted, "{a} and {b}: {punch:?}");
        }
    }
}

#[test]
fn failures_name_their_cause() {
    let why = |a, b| punched(a, b, 1).why_not.join("; ");
    let both = why(Place::Symmetric, Place::Symmetric);
    assert_eq!(both.matches("a mapping per destination").count(), 2, "{both}");
    let one = why(Place::Symmetric, Place::PortRestricted);
    assert!(
        one.contains("NAT of alice uses") && one.contains("before bob lets in only who was sent to"),
        "{one}"
    );
    assert!(!one.contains("NAT of bob uses"), "bob is not blamed for it: {one}");
    let blocked = why(Place::Open, Place::UdpBlocked);
    assert_eq!(blocked, "the firewall before bob lets no UDP through");
    assert!(why(Place::Ipv6Only, Place::PortRestricted).contains("no family of addresses in common"));
}

#[test]
fn a_punch_repeats() {
    let told = |seed| {
        run(seed, async |world| {
            let pair = world.behind(Place::Symmetric, Place::DoubleNat);
            (world.punch(&pair).await, world.trace())
        })
    };
    assert_eq!(told(5), told(5));
    assert_ne!(told(5).1.hash(), told(6).1.hash(), "other random ports");
}

/// Two devices behind one carrier's NAT meet through it, if it lets packets turn round.
#[test]
fn neighbours_meet_by_a_hairpin() {
    use std::time::Duration;
    use tokio::time::timeout;
    use towline_net::{Net, UdpBind};

    for hairpin in [true, false] {
        run(1, async |world| {
            let config =
                Config { hairpin, filtering: Filtering::EndpointIndependent, ..Config::carrier_grade() };
            let pair = world.behind(config, Place::Open);
            let neighbour = world.host("neighbour");
            neighbour.attach(pair.a.network, towline_lab::Link::ethernet());
            let server = pair.rendezvous.bind_udp(&UdpBind::any_v4()).unwrap();
            let at = (pair.rendezvous.ipv4(), server.local_addr().port()).into();
            let (one, other) = (
                pair.a.host.bind_udp(&UdpBind::any_v4()).unwrap(),
                neighbour.bind_udp(&UdpBind::any_v4()).unwrap(),
            );
            let mut buf = [0; 8];
            let mut seen = Vec::new();
            for socket in [&one, &other] {
                socket.send(b"who am I", at).await.unwrap();
                seen.push(server.recv(&mut buf).await.unwrap().from);
            }
            one.send(b"hello", seen[1]).await.unwrap();
            let came = timeout(Duration::from_secs(1), other.recv(&mut buf)).await;
            assert_eq!(
                came.ok().map(|got| got.unwrap().from),
                hairpin.then_some(seen[0]),
                "as it is seen outside"
            );
        });
    }
}
