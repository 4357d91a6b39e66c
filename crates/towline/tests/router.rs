//! Channels by name: who gets which, and what becomes of the others.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Lab, event, identity, ping_pong, sibling, story};
use towline::net::now;
use towline::{
    Admit, Channel, ChannelError, Code, ConnectError, Event, Node, Pattern, PeerKind, Route, Router,
};
use towline_lab::World;

/// Bob, who belongs to the account of [`sibling`]s and to whom everybody else is what the test says.
struct Cast {
    lab: Lab,
    bob: Node,
    router: Router,
    others_are: Arc<Mutex<PeerKind>>,
}

impl Cast {
    async fn new(world: World) -> Self {
        let lab = Lab::new(world).await;
        let bob = lab.node_on(&lab.host("bob"), sibling(0), lab.config()).await;
        bob.registered().await;
        let others_are = Arc::new(Mutex::new(PeerKind::Stranger));
        let (own, others) = (bob.account(), Arc::clone(&others_are));
        let router =
            Router::new(
                move |peer| {
                    if peer.account == own { PeerKind::OwnDevice } else { *others.lock().unwrap() }
                },
            );
        let (running, node) = (router.clone(), bob.clone());
        tokio::spawn(async move { running.run(&node).await });
        Self { lab, bob, router, others_are }
    }

    fn others_are(&self, kind: PeerKind) {
        *self.others_are.lock().unwrap() = kind;
    }

    /// A route whose channels are echoed.
    fn echoed(&self, pattern: Pattern, admit: Admit) {
        let mut route = self.router.serve(pattern, admit, 16).unwrap();
        tokio::spawn(async move { echo(&mut route).await });
    }

    /// Another device of Bob's account, and one of another.
    async fn askers(&self) -> (Node, Node) {
        let own = self.lab.node_on(&self.lab.host("own"), sibling(1), self.lab.config()).await;
        let other = self.lab.node_on(&self.lab.host("other"), identity(0), self.lab.config()).await;
        own.registered().await;
        other.registered().await;
        (own, other)
    }
}

async fn echo(route: &mut Route) {
    while let Some(incoming) = route.next().await {
        tokio::spawn(async move {
            let (mut reader, mut writer) = incoming.accept().await.unwrap().split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
    }
}

async fn open(from: &Node, to: &Node, name: &str) -> Result<Channel, Code> {
    match from.connect(to.device(), name).await {
        Ok(mut channel) => {
            ping_pong(&mut channel, b"hello").await.unwrap();
            Ok(channel)
        }
        Err(ConnectError::Channel(ChannelError::Refused(reason))) => {
            assert_eq!(&*reason.text, "", "a refusal says nothing of why");
            Err(reason.code)
        }
        Err(error) => panic!("{name}: {error:?}"),
    }
}

#[test]
fn each_kind_of_peer_gets_what_is_for_it() {
    story(1, async |world| {
        let cast = Cast::new(world).await;
        cast.echoed(Pattern::exact("sip"), Admit::EVERYBODY);
        cast.echoed(Pattern::prefix("file://"), Admit::default());
        cast.echoed(Pattern::prefix("sync://"), Admit::OWN);
        let (own, other) = cast.askers().await;
        let names = ["sip", "file://one", "sync://two", "sip2", "file:/", "nothing of the kind"];
        for (kind, asker, admitted) in [
            (PeerKind::Stranger, &other, [true, false, false, false, false, false]),
            (PeerKind::Contact, &other, [true, true, false, false, false, false]),
            (PeerKind::Banned, &other, [false; 6]),
            (PeerKind::Stranger, &own, [true, true, true, false, false, false]),
        ] {
            cast.others_are(kind);
            for (name, admitted) in names.into_iter().zip(admitted) {
                let begun = now();
                let opened = open(asker, &cast.bob, name).await;
                assert_eq!(opened.as_ref().err(), (!admitted).then_some(&Code::Declined), "{kind:?} {name}");
                assert!(now() - begun < Duration::from_secs(2));
            }
        }
    });
}

#[test]
fn the_longest_pattern_decides_even_if_it_refuses() {
    story(2, async |world| {
        let cast = Cast::new(world).await;
        cast.echoed(Pattern::prefix("nc://"), Admit::EVERYBODY);
        let secret = cast.router.serve(Pattern::prefix("nc://secret"), Admit::OWN, 16).unwrap();
        let (_own, other) = cast.askers().await;
        open(&other, &cast.bob, "nc://host:22").await.unwrap();
        assert_eq!(open(&other, &cast.bob, "nc://secret:22").await.unwrap_err(), Code::Declined);
        drop(secret);
        assert_eq!(open(&other, &cast.bob, "nc://secret:22").await.unwrap_err(), Code::Declined);
        cast.router.serve(Pattern::prefix("nc://secret"), Admit::OWN, 16).unwrap().withdraw();
        open(&other, &cast.bob, "nc://secret:22").await.unwrap();
    });
}

#[test]
fn a_full_route_refuses_and_the_others_go_on() {
    story(3, async |world| {
        let cast = Cast::new(world).await;
        let mut slow = cast.router.serve(Pattern::exact("slow"), Admit::EVERYBODY, 2).unwrap();
        cast.echoed(Pattern::exact("quick"), Admit::EVERYBODY);
        let (_own, other) = cast.askers().await;
        let connection = other.dial(cast.bob.device()).await.unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let connection = connection.clone();
                tokio::spawn(async move { connection.open("slow").await })
            })
            .collect();
        common::pass(Duration::from_secs(1)).await;
        assert_eq!(open(&other, &cast.bob, "slow").await.unwrap_err(), Code::TooManyPending);
        open(&other, &cast.bob, "quick").await.unwrap();
        for open in waiting {
            let _channel = slow.next().await.unwrap().accept().await.unwrap();
            open.await.unwrap().unwrap();
        }
        // What waits in a route that is dropped is refused.
        let last = tokio::spawn(async move { connection.open("slow").await });
        common::pass(Duration::from_secs(1)).await;
        drop(slow);
        let refused = last.await.unwrap().unwrap_err();
        assert!(matches!(refused, ChannelError::Refused(_)), "{refused:?}");
    });
}

#[test]
fn routes_end_with_their_node() {
    story(4, async |world| {
        let cast = Cast::new(world).await;
        let mut route = cast.router.serve(Pattern::exact("sip"), Admit::EVERYBODY, 2).unwrap();
        let waiting = tokio::spawn(async move { route.next().await.is_none() });
        common::pass(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        cast.bob.shutdown().await;
        assert!(waiting.await.unwrap(), "a channel out of nowhere");
    });
}

#[test]
fn a_router_serves_several_nodes() {
    story(5, async |world| {
        let cast = Cast::new(world).await;
        let second = cast.lab.node(3).await;
        second.registered().await;
        let (router, node) = (cast.router.clone(), second.clone());
        tokio::spawn(async move { router.run(&node).await });
        cast.echoed(Pattern::exact("both"), Admit::EVERYBODY);
        let (_own, other) = cast.askers().await;
        open(&other, &cast.bob, "both").await.unwrap();
        open(&other, &second, "both").await.unwrap();
        let mut events = other.events();
        second.shutdown().await;
        event(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
        open(&other, &cast.bob, "both").await.unwrap();
    });
}
