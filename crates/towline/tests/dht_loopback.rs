//! The DHT node over real sockets on loopback.

mod dht_common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dht_common::{identities, network, soon};
use towline::dht::{
    CertificateKey, Dht, DhtConfig, Field, FieldValue, FindCertificateError, GetError, InfoHash, ListenEvent,
    PutError, PutOptions, Query, StartError, Status, Value,
};
use towline::net::{Net, Os};

fn os() -> Arc<dyn Net> {
    Arc::new(Os)
}

fn key(name: &str) -> InfoHash {
    InfoHash::digest(name)
}

async fn shut_down(nodes: Vec<Dht>) {
    for node in nodes {
        soon("the shutdown", node.shutdown()).await.expect("nothing has to be saved");
    }
}

#[tokio::test]
async fn what_one_puts_the_others_get() {
    let nodes = network(&os(), &[None, None, None, None]).await;
    let value = Value::new(0, 0, *b"hello").with_user_type("text/plain");
    let stored = soon("the put", nodes[1].put(key("greeting"), value, PutOptions::default())).await.unwrap();
    assert!(stored.stored_on >= 2, "{stored:?}");
    for node in &nodes {
        let found = soon("the get", node.get(key("greeting"), Query::all()).collect()).await.unwrap();
        let [found] = found.as_slice() else { panic!("one value was put, these came: {found:?}") };
        assert_eq!(found.value.data(), b"hello");
        assert_eq!(found.value.user_type(), "text/plain");
        assert_eq!(found.value.id, stored.id);
        assert_eq!((&found.from, found.encrypted), (&None, false));
    }
    let mut query = nodes[2].query(key("greeting"), Query::select([Field::Id, Field::UserType]));
    let rows = soon("the query", query.next()).await.unwrap().expect("a node answers with rows");
    assert!(rows.rows.iter().any(|row| row.contains(&FieldValue::Id(stored.id))));
    shut_down(nodes).await;
}

#[tokio::test]
async fn a_get_on_a_warm_network_takes_about_a_millisecond() {
    let nodes = network(&os(), &[None, None, None]).await;
    let put = nodes[0].put(key("speed"), Value::new(7, 0, *b"x"), PutOptions::default());
    soon("the put", put).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        let found = soon("the get", nodes[1].get(key("speed"), Query::all()).collect()).await.unwrap();
        times.push(began.elapsed());
        assert_eq!(found.len(), 1);
    }
    times.sort_unstable();
    // The real figure is below one; a loaded machine and a debug build get room.
    assert!(times[25] < Duration::from_millis(20), "the median is {:?}", times[25]);
    println!("median {:?}, 90 % {:?}", times[25], times[45]);
    shut_down(nodes).await;
}

#[tokio::test]
async fn a_large_value_travels_in_parts() {
    let nodes = network(&os(), &[None, None, None]).await;
    let data: Vec<u8> = (0..60 * 1024_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let put = nodes[1].put(key("large"), Value::new(1, 0, data.clone()), PutOptions::default());
    soon("the put", put).await.unwrap();
    let found = soon("the get", nodes[2].get(key("large"), Query::all()).collect()).await.unwrap();
    assert_eq!(found[0].value.data(), data);

    let too_large = Value::new(2, 0, vec![0; Value::MAX_SIZE + 1]);
    let refused = nodes[1].put(key("large"), too_large, PutOptions::default()).await;
    assert_eq!(refused, Err(PutError::TooLarge { size: Value::MAX_SIZE + 1 }));
    shut_down(nodes).await;
}

#[tokio::test]
async fn a_listener_hears_what_comes_changes_and_goes() {
    let [alice, _] = identities();
    let nodes = network(&os(), &[None, Some(Arc::clone(alice)), None]).await;
    let mut listening = nodes[2].listen(key("news"), Query::all());
    nodes[0].put(key("news"), Value::new(5, 0, *b"first"), PutOptions::default()).await.unwrap();
    match soon("the first value", listening.next()).await {
        Some(ListenEvent::New(new)) => assert_eq!(new[0].value.data(), b"first"),
        other => panic!("{other:?}"),
    }
    nodes[1].put_signed(key("news"), Value::new(6, 0, *b"signed")).await.unwrap();
    match soon("the signed value", listening.next()).await {
        Some(ListenEvent::New(new)) => {
            assert_eq!(new[0].value.data(), b"signed");
            assert_eq!(new[0].from.as_ref(), Some(alice.key().public()));
        }
        other => panic!("{other:?}"),
    }
    nodes[1].put_signed(key("news"), Value::new(6, 0, *b"signed again")).await.unwrap();
    match soon("the later version", listening.next()).await {
        Some(ListenEvent::New(new)) => {
            assert_eq!(new[0].value.data(), b"signed again");
            assert_eq!(new[0].value.seq(), 1);
        }
        other => panic!("{other:?}"),
    }
    let elsewhere = nodes[0].listen(key("other news"), Query::all());
    drop(elsewhere);
    shut_down(nodes).await;
    assert_eq!(soon("the end", listening.next()).await, None);
}

#[tokio::test]
async fn what_is_encrypted_is_for_its_recipient_only() {
    let [alice, bob] = identities();
    let nodes = network(&os(), &[None, Some(Arc::clone(alice)), Some(Arc::clone(bob))]).await;
    let mut bobs = nodes[2].listen(key("inbox"), Query::all());
    let mut others = nodes[0].listen(key("inbox"), Query::all());
    let secret = Value::new(0, 0, *b"for bob").with_user_type("secret");
    let put = nodes[1].put_encrypted(key("inbox"), bob.key().public(), secret);
    soon("the put", put).await.unwrap();
    nodes[1].put(key("inbox"), Value::new(9, 0, *b"for all"), PutOptions::default()).await.unwrap();

    match soon("the secret", bobs.next()).await {
        Some(ListenEvent::New(new)) => {
            assert_eq!((new[0].value.data(), new[0].value.user_type()), (&b"for bob"[..], "secret"));
            assert_eq!(new[0].from.as_ref(), Some(alice.key().public()));
            assert!(new[0].encrypted);
        }
        other => panic!("{other:?}"),
    }
    match soon("the open value", others.next()).await {
        Some(ListenEvent::New(new)) => assert_eq!(new[0].value.data(), b"for all", "the secret is hidden"),
        other => panic!("{other:?}"),
    }
    let alices = soon("a get", nodes[1].get(key("inbox"), Query::all()).collect()).await.unwrap();
    assert_eq!(alices.len(), 1, "not even the sender can read it");
    let raw = nodes[0].get_raw(key("inbox"), towline::dht::GetOptions::default());
    let raw = soon("a raw get", raw.collect()).await.unwrap();
    assert!(raw.iter().any(|value| value.is_encrypted()), "tools see that it is there");
    shut_down(nodes).await;
}

#[tokio::test]
async fn certificates_are_found_at_both_keys() {
    let [alice, bob] = identities();
    let nodes = network(&os(), &[None, Some(Arc::clone(alice)), Some(Arc::clone(bob))]).await;
    let published = nodes[1].publish_certificate();
    soon("the publication", published.announced()).await.unwrap();
    soon("the old publication", published.announced_for_old_peers()).await.unwrap();

    let found = soon("by long id", nodes[2].find_certificate(alice.device_id())).await.unwrap();
    assert_eq!((&found.chain, found.at), (alice.chain(), CertificateKey::Long));
    let found = soon("by short id", nodes[2].find_certificate_by_short_id(alice.short_id())).await.unwrap();
    assert_eq!((&found.chain, found.at), (alice.chain(), CertificateKey::Short));
    let both = nodes[0].find_certificate_at(Some(alice.device_id()), Some(alice.short_id()));
    assert_eq!(&soon("by both", both).await.unwrap().chain, alice.chain());

    // Bob's is not published.
    match soon("the failure", nodes[1].find_certificate(bob.device_id())).await {
        Err(FindCertificateError::NotFound(evidence)) => {
            assert!(evidence.answers > 0);
            assert_eq!((evidence.values, evidence.rejected.len()), (0, 0));
        }
        other => panic!("{other:?}"),
    }
    let nobody = nodes[0].publish_certificate();
    assert_eq!(nobody.announced().await, Err(PutError::NoIdentity));
    shut_down(nodes).await;
}

#[tokio::test]
async fn what_is_started_at_once_goes_out_when_a_node_is_known() {
    let nodes = network(&os(), &[None, None]).await;
    nodes[0].put(key("early"), Value::new(1, 0, *b"bird"), PutOptions::default()).await.unwrap();
    let first = nodes[0].local_addrs().v4.unwrap();
    let config = DhtConfig::on_loopback().with_bootstrap(format!("localhost:{}", first.port()));
    let late = Dht::start(os(), config, None).await.unwrap();
    let began = Instant::now();
    // None of these waits to be connected.
    let mut listening = late.listen(key("early"), Query::all());
    let announcement = late.announce(key("own"), Value::new(0, 0, *b"worm"));
    let found = soon("the get", late.get(key("early"), Query::all()).collect()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        matches!(soon("the listen", listening.next()).await, Some(ListenEvent::New(new)) if new.len() == 1)
    );
    soon("the announcement", announcement.announced()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    shut_down(nodes).await;
    shut_down(vec![late]).await;
}

#[tokio::test]
async fn without_a_network_operations_fail_and_say_so() {
    let alone = Dht::start(os(), DhtConfig::on_loopback(), None).await.unwrap();
    assert_eq!(alone.status(), Status::Disconnected);
    let got = soon("the get", alone.get(key("x"), Query::all()).collect()).await;
    assert_eq!(got, Err(GetError::Unreachable));
    let put = soon("the put", alone.put(key("x"), Value::new(1, 0, *b"x"), PutOptions::default())).await;
    assert_eq!(put, Err(PutError::NotStored));

    // A permanent put waits for better times.
    let announcement = alone.announce(key("y"), Value::new(1, 0, *b"y"));
    let other = Dht::start(os(), DhtConfig::on_loopback(), None).await.unwrap();
    other.insert_node(alone.node_id(), alone.local_addrs().v4.unwrap()).await.unwrap();
    soon("the announcement", announcement.announced()).await.unwrap();

    soon("the shutdown", alone.shutdown()).await.unwrap();
    assert_eq!(alone.get(key("x"), Query::all()).collect().await, Err(GetError::Closed));
    assert_eq!(
        alone.put(key("x"), Value::new(1, 0, *b"x"), PutOptions::default()).await,
        Err(PutError::Closed)
    );
    assert_eq!(alone.listen(key("x"), Query::all()).next().await, None);
    assert!(alone.connected().await.is_err());
    assert_eq!(alone.shutdown().await, Ok(()), "a second time does nothing");
    shut_down(vec![other]).await;
}

#[tokio::test]
async fn state_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dht.state");
    let nodes = network(&os(), &[None, None]).await;
    let config = || DhtConfig { state_path: Some(path.clone()), ..DhtConfig::on_loopback() };
    let first = nodes[0].local_addrs().v4.unwrap().to_string();
    let before = Dht::start(os(), config().with_bootstrap(first), None).await.unwrap();
    soon("being connected", before.connected()).await.unwrap();
    nodes[1].put(key("kept"), Value::new(3, 0, *b"kept"), PutOptions::default()).await.unwrap();
    let (id, addr) = (before.node_id(), before.local_addrs());
    soon("the shutdown", before.shutdown()).await.unwrap();

    // No bootstrap host this time: the nodes of last time are in the file.
    let after = Dht::start(os(), config(), None).await.unwrap();
    assert_eq!((after.node_id(), after.local_addrs()), (id, addr), "same id, same port");
    let found = soon("the get", after.get(key("kept"), Query::all()).collect()).await.unwrap();
    assert_eq!(found[0].value.data(), b"kept");
    soon("being connected", after.connected()).await.unwrap();
    soon("the shutdown", after.shutdown()).await.unwrap();
    shut_down(nodes).await;

    std::fs::write(&path, "these are my notes").unwrap();
    let refused = Dht::start(os(), config(), None).await.unwrap_err();
    assert!(matches!(refused, StartError::NotAStateFile { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"these are my notes");
}

#[tokio::test]
async fn more_operations_than_allowed_are_refused_and_places_come_back() {
    let mut config = DhtConfig::on_loopback();
    config.limits.operations = 2;
    let dht = Dht::start(os(), config, None).await.unwrap();
    let held = [dht.listen(key("a"), Query::all()), dht.listen(key("b"), Query::all())];
    assert_eq!(dht.get(key("c"), Query::all()).collect().await, Err(GetError::Busy));
    drop(held);
    // The places are free when the task has seen that the handles are gone.
    let admitted = async {
        while dht.get(key("c"), Query::all()).collect().await == Err(GetError::Busy) {
            tokio::task::yield_now().await;
        }
    };
    soon("a free place", admitted).await;
    dht.shutdown().await.unwrap();
}
