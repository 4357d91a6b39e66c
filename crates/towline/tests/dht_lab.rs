//! The DHT node in the simulated network: whole networks, failures and hours.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod dht_common;

use std::sync::Arc;
use std::time::Duration;

use dht_common::soon;
use towline::dht::{Dht, DhtConfig, InfoHash, ListenEvent, Listening, PutOptions, Query, Status, Value};
use towline::net::{Net, now};
use towline_lab::{Host, Link, Network, World, run};

fn key(name: &str) -> InfoHash {
    InfoHash::digest(name)
}

fn host(world: &World, internet: Network, name: impl Into<String>) -> Host {
    let host = world.host(name);
    host.attach(internet, Link::delay(Duration::from_millis(10)));
    host
}

async fn node(host: &Host, config: DhtConfig) -> Dht {
    Dht::start(Arc::new(host.clone()), config, None).await.unwrap()
}

/// `count` nodes that start from the first.
async fn network(world: &World, internet: Network, count: usize) -> Vec<(Host, Dht)> {
    let mut nodes: Vec<(Host, Dht)> = Vec::new();
    for number in 0..count {
        let host = host(world, internet, format!("node-{number}"));
        let config = match nodes.first() {
            None => DhtConfig::on_port(DhtConfig::DEFAULT_PORT),
            Some((first, _)) => DhtConfig::default().with_bootstrap(first.ipv4().to_string()),
        };
        let dht = node(&host, config).await;
        nodes.push((host, dht));
    }
    for (_, dht) in &nodes {
        soon("being connected", dht.connected()).await.unwrap();
    }
    nodes
}

async fn next_new(listening: &mut Listening) -> Vec<u64> {
    loop {
        match soon("a new value", listening.next()).await {
            Some(ListenEvent::New(values)) => return values.iter().map(|secure| secure.value.id).collect(),
            Some(_) => {}
            None => panic!("the listen has ended"),
        }
    }
}

#[test]
fn thirty_nodes_agree_and_a_seed_repeats_the_run() {
    let story = async |world: World| {
        let nodes = network(&world, world.internet(), 30).await;
        let mut listening = nodes[20].1.listen(key("agreement"), Query::all());
        let stored =
            nodes[7].1.put(key("agreement"), Value::new(1, 0, *b"yes"), PutOptions::default()).await.unwrap();
        assert_eq!(next_new(&mut listening).await, [1]);
        for (_, dht) in nodes.iter().step_by(5) {
            let began = now();
            let found = dht.get(key("agreement"), Query::all()).collect().await.unwrap();
            assert_eq!(found.len(), 1);
            assert!(now() - began < Duration::from_secs(1), "{:?}", now() - began);
        }
        // Half an hour of upkeep.
        tokio::time::sleep(Duration::from_mins(30)).await;
        (stored.stored_on, world.trace().hash(), world.trace().sent())
    };
    let first = run(11, story);
    assert_eq!(first.0, 8);
    assert_eq!(first, run(11, story), "the same seed gives the same packets");
    let other = run(12, story);
    assert_eq!(other.0, 9, "the eight nearest, and one beside them that everybody reaches");
    assert_ne!(first.1, other.1);
}

#[test]
fn an_announcement_outlives_the_nodes_that_stored_it() {
    run(13, async |world| {
        let internet = world.internet();
        let nodes = network(&world, internet, 24).await;
        let (_, announcer) = &nodes[1];
        let announcement = announcer.announce(key("lasting"), Value::new(1, 0, *b"here"));
        soon("the announcement", announcement.announced()).await.unwrap();
        // All others go, one after the other, and as many come.
        let first = nodes[0].0.ipv4().to_string();
        let mut newcomers = Vec::new();
        for (number, (old, _)) in nodes.iter().enumerate().skip(2) {
            old.crash();
            let new = host(&world, internet, format!("newcomer-{number}"));
            newcomers.push(node(&new, DhtConfig::default().with_bootstrap(&first)).await);
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        let asker = newcomers.last().unwrap();
        let found = asker.get(key("lasting"), Query::all()).collect().await.unwrap();
        assert_eq!(found.len(), 1, "22 minutes later, on nodes that were not there at first");
        // Without the guard it is renewed no more.
        drop(announcement);
        tokio::time::sleep(Duration::from_mins(11)).await;
        assert_eq!(asker.get(key("lasting"), Query::all()).collect().await.unwrap().len(), 0);
    });
}

#[test]
fn a_bootstrap_host_that_comes_late_is_found() {
    run(14, async |world| {
        let internet = world.internet();
        let (first, second) = (host(&world, internet, "late"), host(&world, internet, "early"));
        first.crash();
        let early = node(&second, DhtConfig::default().with_bootstrap(first.ipv4().to_string())).await;
        let announcement = early.announce(key("patience"), Value::new(1, 0, *b"x"));
        let mut listening = early.listen(key("patience"), Query::by_id(2));
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_ne!(early.status(), Status::Connected);
        first.boot();
        let late = node(&first, DhtConfig::on_port(DhtConfig::DEFAULT_PORT)).await;
        // At 10, 20, 40, 80 and 160 s after the one before.
        tokio::time::timeout(Duration::from_secs(200), early.connected())
            .await
            .expect("it is asked again")
            .unwrap();
        soon("the announcement", announcement.announced()).await.unwrap();
        late.put(key("patience"), Value::new(2, 0, *b"y"), PutOptions::default()).await.unwrap();
        assert_eq!(next_new(&mut listening).await, [2]);
    });
}

#[test]
fn a_device_that_moves_keeps_its_listens() {
    run(15, async |world| {
        let nodes = network(&world, world.internet(), 12).await;
        let (mover, dht) = &nodes[5];
        let mut listening = dht.listen(key("moving"), Query::all());
        nodes[2].1.put(key("moving"), Value::new(1, 0, *b"before"), PutOptions::default()).await.unwrap();
        assert_eq!(next_new(&mut listening).await, [1]);
        mover.readdress(2);
        tokio::time::sleep(Duration::from_secs(2)).await;
        soon("being connected again", dht.connected()).await.unwrap();
        nodes[3].1.put(key("moving"), Value::new(2, 0, *b"after"), PutOptions::default()).await.unwrap();
        assert_eq!(next_new(&mut listening).await, [2]);
        let own = mover.ipv4();
        let addresses = async {
            while dht.public_addresses().await.first() != Some(&own) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        soon("the new public address", addresses).await;
    });
}

#[test]
fn nodes_that_disagree_about_an_id_are_all_heard() {
    run(18, async |world| {
        let nodes = network(&world, world.internet(), 3).await;
        let mut listening = nodes[0].1.listen(key("disputed"), Query::all());
        let mut heard = async |told: &[u8]| match soon("a content", listening.next()).await {
            Some(ListenEvent::New(values)) => {
                assert_eq!((values.len(), values[0].value.id, values[0].value.data()), (1, 1, told));
            }
            other => panic!("{other:?}"),
        };
        nodes[1].1.put(key("disputed"), Value::new(1, 0, *b"lie"), PutOptions::default()).await.unwrap();
        heard(b"lie").await;
        // The others have something under this id already; a node stores what it puts itself.
        let _ = nodes[2].1.put(key("disputed"), Value::new(1, 0, *b"truth"), PutOptions::default()).await;
        heard(b"truth").await;
    });
}

#[test]
fn a_lossy_network_still_works() {
    run(16, async |world| {
        let internet = world.internet();
        let lossy = || Link { loss: 0.1, ..Link::delay(Duration::from_millis(30)) };
        let mut nodes: Vec<(Host, Dht)> = Vec::new();
        for number in 0..12 {
            let host = world.host(format!("node-{number}"));
            host.attach(internet, lossy());
            let config = match nodes.first() {
                None => DhtConfig::on_port(DhtConfig::DEFAULT_PORT),
                Some((first, _)) => DhtConfig::default().with_bootstrap(first.ipv4().to_string()),
            };
            let dht = node(&host, config).await;
            nodes.push((host, dht));
        }
        for (_, dht) in &nodes {
            tokio::time::timeout(Duration::from_mins(1), dht.connected()).await.unwrap().unwrap();
        }
        let mut listening = nodes[3].1.listen(key("rain"), Query::all());
        // About 4 parts to each node; all of them arrive one time in two.
        let value = Value::new(1, 0, vec![7; 4000]);
        nodes[4].1.put(key("rain"), value, PutOptions::default()).await.unwrap();
        assert_eq!(next_new(&mut listening).await, [1]);
        let found = nodes[9].1.get(key("rain"), Query::all()).collect().await.unwrap();
        assert_eq!(found[0].value.data().len(), 4000);
    });
}

#[test]
fn client_nodes_use_the_network_and_are_not_named_in_it() {
    run(17, async |world| {
        let internet = world.internet();
        let nodes = network(&world, internet, 6).await;
        let mut config = DhtConfig::default().with_bootstrap(nodes[0].0.ipv4().to_string());
        config.node.mode = towline::dht::NodeMode::Client;
        let host: Arc<dyn Net> = Arc::new(host(&world, internet, "client"));
        let client = Dht::start(host, config, None).await.unwrap();
        assert_eq!(client.mode(), towline::dht::NodeMode::Client);
        soon("being connected", client.connected()).await.unwrap();
        client.put(key("client"), Value::new(1, 0, *b"x"), PutOptions::default()).await.unwrap();
        assert_eq!(nodes[3].1.get(key("client"), Query::all()).collect().await.unwrap().len(), 1);
        let others = nodes[3].1.stats().await.unwrap().nodes.v4;
        assert_eq!(others.good + others.dubious, 5);
    });
}
