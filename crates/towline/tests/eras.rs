//! Peers of two eras: which keys a node publishes, listens, looks and asks at (`connection.md` 3.3).
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::rogue::{NOWHERE, Rogue, public, request};
use common::{Lab, echo, identity, ping_pong, story};
use towline::dht::{CertificateKey, FindCertificateError};
use towline::signal::PeerRequest;
use towline::{ConnectError, DeviceIds, Dialect, Eras, Node, Step};
use towline_lab::World;

const ERAS: [Eras; 3] = [Eras::Both, Eras::LongOnly, Eras::ShortOnly];
const KEYS: [CertificateKey; 2] = [CertificateKey::Long, CertificateKey::Short];

/// Two nodes of these eras that speak as Jami does, or as Towline does.
async fn pair(world: World, eras: [Eras; 2], native_dialect: bool) -> (Lab, Node, Node) {
    let lab = Lab::new(world).await;
    let of = |eras| towline::Config { native_dialect, ..lab.config().with_eras(eras) };
    let (first, second) = (of(eras[0]), of(eras[1]));
    let (lab, alice, bob) = lab.pair_with(first, second).await;
    // `registered` is about the newer key, where there is one.
    common::pass(Duration::from_secs(5)).await;
    (lab, alice, bob)
}

#[test]
fn whoever_has_a_key_in_common_connects_in_both_directions() {
    for (seed, native) in (1..).zip([false, true]) {
        for (one, other) in ERAS.into_iter().flat_map(|one| ERAS.map(|other| (one, other))) {
            story(seed, async |world| {
                let (_lab, alice, bob) = pair(world, [one, other], native).await;
                for node in [&alice, &bob] {
                    tokio::spawn(echo(node.clone()));
                }
                let common = KEYS.into_iter().any(|key| one.uses(key) && other.uses(key));
                for (from, to) in [(&alice, &bob), (&bob, &alice)] {
                    // Who knows a key knows both ids that are made of it.
                    let found = from.find(&public(to)).await;
                    if common {
                        assert_eq!(&found.unwrap(), to.identity().chain());
                        let mut channel = from.connect(to.device(), "hello").await.unwrap();
                        ping_pong(&mut channel, b"hello").await.unwrap();
                        let dialect = from.established()[0].info().established.unwrap().dialect;
                        assert_eq!(dialect, if native { Dialect::Native } else { Dialect::Jami });
                        drop(channel);
                        from.close_with(to.device()).await;
                        common::pass(Duration::from_secs(2)).await;
                    } else {
                        let error = found.unwrap_err();
                        assert_eq!(error.step(), Step::Certificate, "{one:?} {other:?}: {error:?}");
                    }
                }
            });
        }
    }
}

#[test]
fn certificates_lie_where_the_eras_say() {
    for eras in ERAS {
        story(3, async |world| {
            let lab = Lab::new(world).await;
            let _node = lab.node_with(0, lab.config().with_eras(eras)).await;
            let looker = lab.bare_dht("looker", identity(1)).await;
            common::pass(Duration::from_secs(5)).await;
            let long = looker.find_certificate(identity(0).device_id()).await;
            let short = looker.find_certificate_by_short_id(identity(0).short_id()).await;
            assert_eq!(long.is_ok(), eras.uses(CertificateKey::Long), "{eras:?}: {long:?}");
            assert_eq!(short.is_ok(), eras.uses(CertificateKey::Short), "{eras:?}: {short:?}");
        });
    }
}

#[test]
fn a_device_is_dialled_by_forty_digits_where_it_can_be_found_so() {
    story(4, async |world| {
        let (_lab, alice, bob) = pair(world, [Eras::Both, Eras::ShortOnly], false).await;
        tokio::spawn(echo(bob.clone()));
        // By its long id alone it is not found: it publishes nothing there.
        let error = alice.connect(bob.device(), "early").await.unwrap_err();
        assert!(matches!(error, ConnectError::Certificate(FindCertificateError::NotFound(_))), "{error:?}");
        let chain = alice.find(identity(1).short_id()).await.unwrap();
        assert_eq!(chain.device_id(), bob.device());
        let mut channel = alice.connect(chain.device_id(), "hello").await.unwrap();
        ping_pong(&mut channel, b"hello").await.unwrap();
        // From now on it is known, by either id.
        assert_eq!(alice.find(bob.device()).await.unwrap(), chain);
        // Ids of two devices are no device's.
        let mixed = DeviceIds::both(alice.device(), identity(1).short_id());
        let error = alice.find(mixed).await.unwrap_err();
        assert!(matches!(error, ConnectError::Certificate(FindCertificateError::NotFound(_))), "{error:?}");
    });
}

#[test]
fn where_no_id_makes_a_key_nothing_is_looked_for() {
    story(5, async |world| {
        let (_lab, old, new) = pair(world, [Eras::ShortOnly, Eras::LongOnly], false).await;
        let unknown = |key| ConnectError::Certificate(FindCertificateError::IdUnknown(key));
        let by_long = old.connect(new.device(), "hello").await.unwrap_err();
        assert_eq!(by_long, unknown(CertificateKey::Short));
        let by_short = new.find(identity(0).short_id()).await.unwrap_err();
        assert_eq!(by_short, unknown(CertificateKey::Long));
    });
}

/// The program gives a chain, which tells nothing about where the device listens: it is asked at both keys.
#[test]
fn a_remembered_device_is_reached_whatever_its_era() {
    for (seed, eras) in (6..).zip(ERAS) {
        story(seed, async |world| {
            let (_lab, alice, bob) = pair(world, [Eras::Both, eras], false).await;
            tokio::spawn(echo(bob.clone()));
            alice.remember(identity(1).chain().clone()).await;
            let mut events = bob.events();
            let mut channel = alice.connect(bob.device(), "hello").await.unwrap();
            ping_pong(&mut channel, b"hello").await.unwrap();
            common::pass(Duration::from_secs(20)).await;
            assert_eq!((alice.connections().await.len(), bob.connections().await.len()), (1, 1));
            while let Ok(event) = events.try_recv() {
                assert!(!matches!(event, towline::Event::IncomingFailed { .. }), "{event:?}");
            }
        });
    }
}

/// At which of its keys a silent device is asked: at first, and in the end.
async fn asked(device: &Rogue, alice: &Node) -> ([usize; 2], [usize; 2]) {
    let dialling = tokio::spawn({
        let (alice, device) = (alice.clone(), device.identity.device_id());
        async move { alice.connect(device, "anybody?").await }
    });
    let count = async || {
        let mut counts = [0; 2];
        for (count, key) in counts.iter_mut().zip(KEYS) {
            *count = device.lying_at(key).await.len();
        }
        counts
    };
    common::pass(Duration::from_secs(5)).await;
    let first = count().await;
    let error = dialling.await.unwrap().unwrap_err();
    let ConnectError::NoAnswer { stored_on, asked, waited } = error else { panic!("{error:?}") };
    assert!(stored_on >= 1 && waited == Duration::from_secs(30));
    let last = count().await;
    assert_eq!(asked.uses(CertificateKey::Long), last[0] > 0);
    assert_eq!(asked.uses(CertificateKey::Short), last[1] > 0);
    (first, last)
}

#[test]
fn a_device_is_asked_where_it_was_found_and_later_everywhere() {
    for (seed, at) in (9..).zip([Eras::LongOnly, Eras::ShortOnly]) {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let silent = Rogue::of(&lab, identity(2), at).await;
            let alice = lab.node(0).await;
            alice.registered().await;
            alice.find(silent.identity.key().public()).await.unwrap();
            let ([long, short], [later_long, later_short]) = asked(&silent, &alice).await;
            let expected = if at == Eras::LongOnly { (1, 0) } else { (0, 1) };
            assert_eq!((long, short), expected, "{at:?}");
            assert!(later_long >= 1 && later_short >= 1);
            // Where it was found has proved wrong: next time it is asked everywhere at once.
            let (again, _) = asked(&silent, &alice).await;
            assert!(again[0] > later_long && again[1] > later_short, "{again:?}");
        });
    }
}

#[test]
fn a_node_of_one_era_never_uses_the_other_key() {
    for (seed, eras) in (11..).zip([Eras::LongOnly, Eras::ShortOnly]) {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let silent = Rogue::new(&lab, identity(2)).await;
            let alice = lab.node_with(0, lab.config().with_eras(eras)).await;
            alice.registered().await;
            alice.remember(identity(2).chain().clone()).await;
            let (_, [long, short]) = asked(&silent, &alice).await;
            assert_eq!((long > 0, short > 0), (eras == Eras::LongOnly, eras == Eras::ShortOnly));
            // Nor does it listen there.
            let other = if eras == Eras::LongOnly { CertificateKey::Short } else { CertificateKey::Long };
            silent.put_at(other, &public(&alice), request(77, NOWHERE).encode()).await;
            common::pass(Duration::from_secs(5)).await;
            assert!(alice.connections().await.is_empty());
        });
    }
}

#[test]
fn an_answer_goes_where_the_request_came_by() {
    for (seed, (at, other)) in (13..).zip([(KEYS[0], KEYS[1]), (KEYS[1], KEYS[0])]) {
        story(seed, async |world| {
            let (lab, _alice, bob) = Lab::pair(world).await;
            let jami = Rogue::new(&lab, identity(2)).await;
            jami.put_at(at, &public(&bob), request(21, NOWHERE).encode()).await;
            let is_ours = |message: &PeerRequest| message.is_answer && message.id == 21;
            jami.find_at(at, is_ours).await;
            assert!(jami.lying_at(other).await.is_empty(), "an answer at the other key, too");
        });
    }
}

#[test]
fn a_request_at_both_keys_is_treated_once() {
    story(15, async |world| {
        let (lab, _alice, bob) = Lab::pair(world).await;
        let jami = Rogue::new(&lab, identity(2)).await;
        let key = public(&bob);
        let put = |at| jami.put_at(at, &key, request(22, NOWHERE).encode());
        tokio::join!(put(KEYS[0]), put(KEYS[1]));
        common::pass(Duration::from_secs(5)).await;
        assert_eq!(bob.connections().await.len(), 1);
        let answers = [jami.lying_at(KEYS[0]).await, jami.lying_at(KEYS[1]).await].concat();
        assert_eq!(answers.len(), 1, "{answers:?}");
    });
}
