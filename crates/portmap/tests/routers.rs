//! Mappings of routers with all sorts of manners, in virtual time.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![expect(clippy::cast_possible_truncation, reason = "ports have 16 bits")]

mod support;

use std::time::Duration;

use support::{EXTERNAL, Manners, Router, home};
use tokio::time::sleep;
use towline_lab::{Link, Options as LabOptions, World};
use towline_net::{Net as _, now};
use towline_portmap::{
    Failure, Granted, MappingState, Options, PortMapper, PortMapping, Protocol, ServiceError, Transport,
    natpmp::NatPmpError, pcp::PcpError,
};

fn tell<F: Future<Output = ()>>(seed: u64, story: impl FnOnce(World) -> F) {
    LabOptions::new(seed).run(story).unwrap();
}

fn start(world: &World, manners: Manners) -> (PortMapper, Router) {
    let (device, router) = home(world, manners);
    (PortMapper::start(device, Options::default()), router)
}

async fn granted(mapping: &mut PortMapping) -> Granted {
    match mapping.settled().await.unwrap() {
        MappingState::Granted(granted) => granted,
        other => panic!("{other:?}"),
    }
}

async fn refused(mapping: &mut PortMapping) -> Failure {
    match mapping.settled().await.unwrap() {
        MappingState::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_protocol_maps_and_gives_back() {
    let upnp2 = Manners { upnp: Some(vec![]), version: 2, ..Manners::default() };
    for (number, (manners, protocol, shift)) in [
        (Manners { pcp: Some(0), ..Manners::default() }, Protocol::Pcp, 1000),
        (Manners { natpmp: Some(0), ..Manners::default() }, Protocol::NatPmp, 1000),
        (Manners { upnp: Some(vec![]), ..Manners::default() }, Protocol::Upnp, 0),
        (upnp2, Protocol::Upnp, 0),
    ]
    .into_iter()
    .enumerate()
    {
        tell(number as u64, async |world| {
            let (mapper, router) = start(&world, manners);
            let begun = now();
            let (mut udp, mut tcp) = (mapper.map(Transport::Udp, 4222), mapper.map(Transport::Tcp, 4223));
            let granted_udp = granted(&mut udp).await;
            assert!(now() - begun < Duration::from_millis(100), "{protocol}: {:?}", now() - begun);
            assert_eq!(granted_udp.external, (EXTERNAL, 4222 + shift).into());
            assert_eq!((granted_udp.protocol, granted_udp.router), (protocol, router.host.ipv4()));
            assert!(granted_udp.until.unwrap() > now() + Duration::from_mins(119));
            granted(&mut tcp).await;
            assert_eq!(router.mappings(), [(6, 4223 + shift, 4223), (17, 4222 + shift, 4222)]);
            drop(udp);
            sleep(Duration::from_millis(500)).await;
            assert_eq!(router.mappings(), [(6, 4223 + shift, 4223)], "{protocol}");
            mapper.shutdown().await;
            assert_eq!(router.mappings(), [], "{protocol}");
            assert_eq!(tcp.changed().await, None);
            assert_eq!(tcp.settled().await, None, "it stands no more");
        });
    }
}

/// However far the question is when nobody wants the answer any more.
#[test]
fn what_is_granted_too_late_is_given_back() {
    for (seed, wait) in (0..20).map(|step| (step, Duration::from_millis(step))) {
        for manners in [
            Manners { pcp: Some(0), ..Manners::default() },
            Manners { upnp: Some(vec![718]), ..Manners::default() },
        ] {
            tell(100 + seed, async |world| {
                let (mapper, router) = start(&world, manners);
                // The router is found first, so that asking begins at once.
                granted(&mut mapper.map(Transport::Tcp, 4221)).await;
                sleep(Duration::from_secs(5)).await;
                let asked = router.asked();
                let mapping = mapper.map(Transport::Udp, 4222);
                sleep(wait).await;
                drop(mapping);
                sleep(Duration::from_secs(5)).await;
                assert_eq!(router.mappings(), [], "dropped after {wait:?}");
                assert!(wait.is_zero() || router.asked() > asked);
            });
        }
    }
}

#[test]
fn a_port_that_is_reserved_is_asked_for_as_it_is() {
    tell(12, async |world| {
        let (mapper, _router) = start(&world, Manners { upnp: Some(vec![]), ..Manners::default() });
        assert_eq!(granted(&mut mapper.map(Transport::Tcp, 443)).await.external.port(), 443);
    });
}

/// The first of two uplinks is not there.
#[test]
fn the_second_service_of_a_router_is_asked_too() {
    tell(13, async |world| {
        let service = |control: &str| {
            format!(
                "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>{control}\
                 </controlURL></service>"
            )
        };
        let description = format!("<root>{}{}</root>", service("/nothing"), service("/ctl"));
        let manners = Manners { upnp: Some(vec![]), description: Some(description), ..Manners::default() };
        let (mapper, _router) = start(&world, manners);
        assert_eq!(granted(&mut mapper.map(Transport::Tcp, 4222)).await.protocol, Protocol::Upnp);
    });
}

#[test]
fn who_refuses_gives_way() {
    tell(10, async |world| {
        let manners = Manners { pcp: Some(2), natpmp: Some(3), upnp: Some(vec![718]), ..Manners::default() };
        let (mapper, router) = start(&world, manners);
        let mut mapping = mapper.map(Transport::Tcp, 4222);
        let got = granted(&mut mapping).await;
        assert_eq!(got.protocol, Protocol::Upnp);
        assert_ne!(got.external.port(), 4222, "that one was taken");
        assert_eq!(router.mappings(), [(6, got.external.port(), 4222)]);
    });
    tell(11, async |world| {
        let manners =
            Manners { pcp: Some(2), natpmp: Some(4), upnp: Some(vec![501; 9]), ..Manners::default() };
        let (mapper, router) = start(&world, manners);
        let mut mapping = mapper.map(Transport::Tcp, 4222);
        let failure = refused(&mut mapping).await;
        let Failure::Refused(reasons) = &failure else { panic!("{failure:?}") };
        let mut errors: Vec<_> =
            reasons.iter().map(|(found, error)| (found.protocol, error.clone())).collect();
        errors.sort_by_key(|(protocol, _)| *protocol);
        assert_eq!(errors[0], (Protocol::Pcp, ServiceError::Pcp(PcpError::NotAuthorized)));
        assert_eq!(errors[1], (Protocol::NatPmp, ServiceError::NatPmp(NatPmpError::OutOfResources)));
        let said = failure.to_string();
        assert!(said.contains("UPnP at ") && said.contains("the action failed (UPnP error 501)"), "{said}");
        // Its owner changes the settings: it is tried again after a while.
        router.state().0.pcp = Some(0);
        sleep(Duration::from_secs(70)).await;
        assert_eq!(granted(&mut mapping).await.protocol, Protocol::Pcp);
    });
}

#[test]
fn without_a_router_that_is_said_soon() {
    tell(20, async |world| {
        let (mapper, _router) = start(&world, Manners::default());
        let begun = now();
        assert_eq!(refused(&mut mapper.map(Transport::Udp, 4222)).await, Failure::NoRouter);
        assert!(now() - begun < Duration::from_secs(5));
        assert_eq!(mapper.routers(), (vec![], true));
    });
    // A host that does not know its router.
    tell(21, async |world| {
        let (device, _router) = home(&world, Manners { pcp: Some(0), ..Manners::default() });
        device.set_gateways(Vec::new());
        let mapper = PortMapper::start(device, Options::default());
        assert_eq!(refused(&mut mapper.map(Transport::Udp, 4222)).await, Failure::NoRouter);
    });
}

#[test]
fn a_mapping_is_renewed_and_survives_the_router() {
    for (seed, manners) in [
        (30, Manners { pcp: Some(0), lifetime: 300, ..Manners::default() }),
        (31, Manners { natpmp: Some(0), lifetime: 300, ..Manners::default() }),
        (32, Manners { upnp: Some(vec![]), ..Manners::default() }),
        // One that only makes mappings without an end.
        (33, Manners { upnp: Some(vec![725]), ..Manners::default() }),
    ] {
        tell(seed, async |world| {
            let (mapper, router) = start(&world, manners);
            let mut mapping = mapper.map(Transport::Udp, 4222);
            let first = granted(&mut mapping).await;
            assert_eq!(first.until.is_none(), seed == 33);
            let asked = router.asked();
            sleep(Duration::from_hours(1)).await;
            assert_eq!(granted(&mut mapping).await.external, first.external);
            let again = router.asked() - asked;
            assert!((5..=24).contains(&again), "asked {again} times in an hour");
            // The router forgets everything.
            router.state().1.clear();
            sleep(Duration::from_mins(11)).await;
            assert_eq!(router.mappings().len(), 1);
            // It is gone for good, which is noticed.
            router.state().0 = Manners::default();
            sleep(Duration::from_mins(30)).await;
            assert!(!matches!(mapping.state(), MappingState::Granted(_)), "{:?}", mapping.state());
        });
    }
}

#[test]
fn answers_that_are_lies() {
    // A lifetime of nothing and one of for ever make neither a storm nor a sleep of years.
    for (seed, lifetime, least, most) in [(40, 1, 100, 130), (41, u32::MAX, 5, 8)] {
        tell(seed, async |world| {
            let (mapper, router) = start(&world, Manners { natpmp: Some(0), lifetime, ..Manners::default() });
            let mut mapping = mapper.map(Transport::Udp, 4222);
            let got = granted(&mut mapping).await;
            assert!(got.until.unwrap() <= now() + Duration::from_hours(24));
            sleep(Duration::from_hours(1)).await;
            assert!((least..=most).contains(&router.asked()), "{}", router.asked());
        });
    }
    for (seed, external) in [(42, [0, 0, 0, 0]), (43, [127, 0, 0, 1]), (44, [224, 0, 0, 1])] {
        tell(seed, async |world| {
            let manners = Manners { pcp: Some(0), external: external.into(), ..Manners::default() };
            let (mapper, _router) = start(&world, manners);
            let failure = refused(&mut mapper.map(Transport::Udp, 4222)).await;
            assert!(failure.to_string().contains("is its external address"), "{failure}");
        });
    }
    tell(45, async |world| {
        let manners = Manners { natpmp: Some(0), external: [192, 168, 0, 2].into(), ..Manners::default() };
        let (mapper, _router) = start(&world, manners);
        assert!(!granted(&mut mapper.map(Transport::Udp, 4222)).await.is_global(), "behind another router");
    });
}

/// Somebody on the network answers the UPnP search with another's address: nobody is talked to there.
#[test]
fn no_third_party_is_talked_to() {
    tell(50, async |world| {
        let (device, router) = home(&world, Manners { upnp: Some(vec![]), ..Manners::default() });
        let third = world.host("third");
        third.attach(world.internet(), Link::delay(Duration::from_millis(2)));
        let mut listener = third.listen_tcp((third.ipv4(), 80).into()).unwrap();
        for said in [
            format!("http://{}/rootDesc.xml", third.ipv4()),
            format!("http://{}:80/", device.ipv4()),
            "http://router.example/".to_owned(),
            "file:///etc/passwd".to_owned(),
        ] {
            router.state().0.elsewhere = Some(said);
            let mapper = PortMapper::start(device.clone(), Options::default());
            assert_eq!(refused(&mut mapper.map(Transport::Tcp, 4222)).await, Failure::NoRouter);
        }
        router.state().0.elsewhere = None;
        let control = format!(
            "<root><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>http://{}/ctl\
             </controlURL></service></root>",
            third.ipv4()
        );
        for description in [control, "<root/>".to_owned(), "rubbish".to_owned(), "x".repeat(400 * 1024)] {
            router.state().0.description = Some(description);
            let mapper = PortMapper::start(device.clone(), Options::default());
            assert_eq!(refused(&mut mapper.map(Transport::Tcp, 4222)).await, Failure::NoRouter);
        }
        assert!(
            futures_util::FutureExt::now_or_never(listener.accept()).is_none(),
            "a third party was reached"
        );
    });
}

#[test]
fn another_network_has_another_router() {
    tell(60, async |world| {
        let (device, router) = home(&world, Manners { pcp: Some(0), ..Manners::default() });
        let mapper = PortMapper::start(device.clone(), Options::default());
        let mut mapping = mapper.map(Transport::Udp, 4222);
        granted(&mut mapping).await;
        // The old router does not answer any more; the host gets another address, and learns of no router at all.
        router.state().0 = Manners::default();
        let old = device.gateways().unwrap()[0];
        device.set_gateways(Vec::new());
        device.readdress(old.interface);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(refused(&mut mapping).await, Failure::NoRouter);
        // And then of one.
        router.state().0.natpmp = Some(0);
        device.readdress(old.interface);
        device.set_gateways(vec![towline_net::Gateway { local: device.ipv4(), ..old }]);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(granted(&mut mapping).await.protocol, Protocol::NatPmp);
    });
}
