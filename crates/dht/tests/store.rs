//! Server storage: life times, policies, quotas, listeners.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::key;
use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use towline_dht::store::{
    Change, Full, Listener, Notice, Origin, Refusal, Store, StoreLimits, Stored, Subscribed, UnknownKey,
};
use towline_dht::types::{
    self, CERTIFICATE, DhtMessage, ICE_CANDIDATES, IM_MESSAGE, IpServiceAnnouncement, Payload, PolicyError,
};
use towline_dht::value::{Content, SignatureError};
use towline_dht::{InfoHash, Query, Value};
use towline_identity::Chain;

const UNIX: i64 = 1_800_000_000;
const KEY: InfoHash = InfoHash([0x11; 20]);

fn from(host: u8) -> Origin {
    Origin::Remote(SocketAddr::from(([192, 0, 2, host], 4222)))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Fixture {
    store: Store,
    start: Instant,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self::with(StoreLimits::default())
    }

    fn with(limits: StoreLimits) -> Self {
        let now = Instant::now();
        Self { store: Store::new(limits), start: now, now }
    }

    fn at(&mut self, second: u64) {
        self.now = self.start + seconds(second);
        self.store.handle_timeout(self.now);
    }

    fn unix(&self) -> i64 {
        UNIX + self.now.duration_since(self.start).as_secs() as i64
    }

    fn put(&mut self, value: &Value) -> Result<Stored, Refusal> {
        self.put_from(KEY, value, from(1))
    }

    fn put_from(&mut self, key: InfoHash, value: &Value, origin: Origin) -> Result<Stored, Refusal> {
        self.store.put(self.now, self.unix(), key, Arc::new(value.clone()), None, origin)
    }

    fn put_created(&mut self, value: &Value, created: i64) -> Result<Stored, Refusal> {
        self.store.put(self.now, self.unix(), KEY, Arc::new(value.clone()), Some(created), from(1))
    }

    fn ids(&self) -> Vec<u64> {
        self.store.get(&KEY, &Query::all()).iter().map(|value| value.id).collect()
    }

    fn listen(&mut self, socket: u32, query: &str) -> Result<Subscribed, Refusal> {
        let query = query.parse().unwrap();
        self.store.listen(self.now, KEY, listener(socket), query)
    }

    fn notices(&mut self) -> Vec<(u32, Change)> {
        std::iter::from_fn(|| self.store.poll_notice())
            .map(|Notice { listener, key, change }| {
                assert_eq!(key, KEY);
                (listener.socket, change)
            })
            .collect()
    }
}

fn listener(socket: u32) -> Listener {
    let address = SocketAddr::from(([198, 51, 100, (socket / 100) as u8], 4222));
    Listener { node: InfoHash([(socket / 10) as u8; 20]), socket, address, version: 1 }
}

fn signed(id: u64, data: &[u8], by: &str, seq: u16) -> Value {
    let mut value = Value::new(id, 0, data);
    value.sign(&key(by), seq).unwrap();
    value
}

fn refused(policy: PolicyError) -> Result<Stored, Refusal> {
    Err(Refusal::Policy(policy))
}

#[test]
fn life_times_are_exact() {
    let mut it = Fixture::new();
    it.put(&Value::new(1, 0, *b"ten minutes")).unwrap();
    it.put(&Value::new(2, ICE_CANDIDATES, *b"one minute")).unwrap();
    it.put_created(&Value::new(3, ICE_CANDIDATES, *b"old"), UNIX - 30).unwrap();
    it.put_created(&Value::new(4, ICE_CANDIDATES, *b"from the future"), UNIX + 500).unwrap();
    it.put(&Value::new(5, 777, *b"unknown type")).unwrap();
    assert_eq!(it.put_created(&Value::new(6, ICE_CANDIDATES, *b"too old"), UNIX - 60), Err(Refusal::Expired));
    assert_eq!(it.put_created(&Value::new(6, 0, *b"absurd"), i64::MIN), Err(Refusal::Expired));
    for (second, ids) in [
        (29, &[1, 2, 3, 4, 5][..]),
        (30, &[1, 2, 4, 5]),
        (59, &[1, 2, 4, 5]),
        (60, &[1, 5]),
        (599, &[1, 5]),
        (600, &[]),
    ] {
        it.at(second);
        assert_eq!(it.ids(), ids, "after {second} s");
    }
    assert_eq!(it.store.poll_timeout(), None);
    assert_eq!((it.store.len(), it.store.remote_bytes()), (0, 0));
}

#[test]
fn timeouts_name_the_next_expiry() {
    let mut it = Fixture::new();
    assert_eq!(it.store.poll_timeout(), None);
    it.listen(1, "").unwrap();
    assert_eq!(it.store.poll_timeout(), Some(it.start + seconds(600)));
    it.put(&Value::new(2, ICE_CANDIDATES, *b"x")).unwrap();
    assert_eq!(it.store.poll_timeout(), Some(it.start + seconds(60)));
}

#[test]
fn refreshing() {
    let mut it = Fixture::new();
    assert_eq!(it.store.refresh(it.now, &KEY, 1), Err(UnknownKey));
    let value = Value::new(1, ICE_CANDIDATES, *b"x");
    assert_eq!(it.put(&value), Ok(Stored::Added));
    it.at(50);
    assert_eq!(it.store.refresh(it.now, &KEY, 1), Ok(true));
    assert_eq!(it.store.refresh(it.now, &KEY, 2), Ok(false));
    it.at(100);
    assert_eq!(it.put(&value), Ok(Stored::Refreshed), "the same value again");
    it.at(159);
    assert_eq!(it.ids(), [1]);
    it.at(160);
    assert_eq!(it.ids(), [] as [u64; 0]);
}

#[test]
fn policies_of_unsigned_values() {
    let mut it = Fixture::new();
    assert_eq!(it.put(&Value::new(0, 0, *b"x")), refused(PolicyError::ZeroId));
    assert_eq!(it.put(&Value::new(1, 0, vec![0; 65_536])), Ok(Stored::Added));
    assert_eq!(it.put(&Value::new(2, 0, vec![0; 65_537])), refused(PolicyError::TooLarge));
    let squatted = signed(1, b"mine", "alice", 9);
    assert_eq!(it.put(&squatted), refused(PolicyError::NotReplaceable), "first writer wins");
    assert_eq!(it.put(&Value::new(1, 0, *b"y")), refused(PolicyError::NotReplaceable));
    let message = |service: &str| DhtMessage { service: service.into(), data: vec![1] }.to_value(3);
    assert_eq!(it.put(&message("")), refused(PolicyError::Payload));
    assert_eq!(it.put(&message("svc")), Ok(Stored::Added));
    assert_eq!(it.put(&Value::new(4, types::DHT_MESSAGE, *b"no message")), Ok(Stored::Added));
    assert_eq!(it.ids(), [1, 3, 4]);
}

#[test]
fn policies_of_signed_values() {
    let mut it = Fixture::new();
    let first = signed(1, b"one", "alice", 5);
    assert_eq!(it.put(&first), Ok(Stored::Added));
    assert_eq!(it.put(&first), Ok(Stored::Refreshed));
    let not_replaceable = refused(PolicyError::NotReplaceable);
    assert_eq!(it.put(&signed(1, b"other", "alice", 5)), not_replaceable, "equal seq, other body");
    assert_eq!(it.put(&signed(1, b"older", "alice", 4)), not_replaceable);
    assert_eq!(it.put(&signed(1, b"bob's", "bob", 6)), not_replaceable);
    assert_eq!(it.put(&Value::new(1, 0, *b"nobody's")), not_replaceable, "9.2");
    let encrypted = Value::new(1, 0, *b"x").encrypt_for(key("bob").public(), &key("alice"), 9).unwrap();
    assert_eq!(it.put(&encrypted), not_replaceable, "9.2");
    assert_eq!(it.put(&signed(1, b"two", "alice", 6)), Ok(Stored::Replaced));
    assert_eq!(it.store.value(&KEY, 1).unwrap().data(), b"two");

    let mut forged = signed(2, b"x", "alice", 1);
    let Content::Plain(body) = &mut forged.content else { panic!("plain") };
    body.data = b"y".to_vec();
    assert_eq!(it.put(&forged), refused(PolicyError::Signature(SignatureError::False)));
    // Of a type nobody knows, and replacing what may be replaced: still checked.
    let mut unknown = forged.clone();
    let Content::Plain(body) = &mut unknown.content else { panic!("plain") };
    body.value_type = 777;
    assert_eq!(it.put(&unknown), refused(PolicyError::Signature(SignatureError::False)));
    forged.id = 1;
    let Content::Plain(body) = &mut forged.content else { panic!("plain") };
    body.ownership.as_mut().unwrap().seq = 77;
    assert_eq!(it.put(&forged), refused(PolicyError::Signature(SignatureError::False)));
    let mut claimed = signed(3, b"x", "alice", 1);
    let Content::Plain(body) = &mut claimed.content else { panic!("plain") };
    body.ownership.as_mut().unwrap().signature.clear();
    assert_eq!(it.put(&claimed), refused(PolicyError::Signature(SignatureError::Empty)));
    // Unknown types are never edited, even by their owner.
    let mut typed = |seq| {
        let mut value = Value::new(4, 777, vec![seq as u8]);
        value.sign(&key("alice"), seq).unwrap();
        it.put(&value)
    };
    assert_eq!(typed(1), Ok(Stored::Added));
    assert_eq!(typed(2), not_replaceable);
}

#[test]
fn announcements_get_the_senders_address() {
    let mut it = Fixture::new();
    let announce = |ip: [u8; 4], port: u16| IpServiceAnnouncement { address: (ip, port).into() }.to_value(7);
    assert_eq!(it.put(&announce([10, 0, 0, 1], 0)), refused(PolicyError::Payload));
    assert_eq!(it.put(&Value::new(7, types::IP_SERVICE_ANNOUNCEMENT, *b"?")), refused(PolicyError::Payload));
    assert_eq!(it.put(&announce([0, 0, 0, 0], 5060)), Ok(Stored::Added));
    let stored = IpServiceAnnouncement::decode(it.store.value(&KEY, 7).unwrap().data()).unwrap();
    assert_eq!(stored.address, "192.0.2.1:5060".parse().unwrap());
    assert_eq!(it.put(&announce([0, 0, 0, 0], 5060)), Ok(Stored::Refreshed));
    assert_eq!(it.put(&announce([0, 0, 0, 0], 5061)), refused(PolicyError::NotReplaceable));
}

#[test]
fn certificates_at_their_own_keys() {
    let pem = |name: &str| {
        let vectors = common::load(include_str!("vectors/certificates.json"));
        let mut all = vectors["certificates"].as_array().unwrap().iter();
        let found = all.find(|it| it["name"] == name).unwrap();
        Chain::unpack(found["pem"].as_str().unwrap().as_bytes()).unwrap()
    };
    let (chain, other) = (pem("rsa2048_ca_4x"), pem("rsa2048_child_4x"));
    let mut it = Fixture::new();
    for key in types::certificate_keys(&chain) {
        assert_eq!(it.put_from(key, &types::certificate_value(&chain), from(1)), Ok(Stored::Added));
        let found = it.store.get(&key, &types::certificate_query());
        assert_eq!(types::certificate_of(&found[0], &chain.device_id()), Some(chain.clone()));
        let foreign = it.put_from(key, &types::certificate_value(&other), from(1));
        assert_eq!(foreign, refused(PolicyError::NotReplaceable));
        // The same certificate in another form replaces the first.
        let bare = Value::new(types::CERTIFICATE_VALUE_ID, CERTIFICATE, chain.leaf().der());
        assert_eq!(it.put_from(key, &bare, from(1)), Ok(Stored::Replaced));
    }
    assert_eq!(it.put(&types::certificate_value(&chain)), refused(PolicyError::ForeignKey));
    assert_eq!(it.put(&Value::new(1, CERTIFICATE, *b"no certificate")), refused(PolicyError::Payload));
    it.at(7 * 24 * 3600 - 1);
    assert_eq!(it.store.len(), 2);
}

#[test]
fn listeners_hear_what_they_asked_for() {
    let mut it = Fixture::new();
    let value = |id, value_type| Value::new(id, value_type, *b"x");
    it.put(&value(1, 0)).unwrap();
    assert_eq!(it.listen(10, ""), Ok(Subscribed::New(it.store.get(&KEY, &Query::all()))));
    assert_eq!(it.listen(10, ""), Ok(Subscribed::Renewed));
    assert_eq!(it.listen(11, "WHERE value_type=3"), Ok(Subscribed::New(vec![])));
    assert_eq!(it.notices(), []);

    let stored = |value: &Value| Change::Stored(vec![Arc::new(value.clone())]);
    it.put(&value(2, 0)).unwrap();
    assert_eq!(it.notices(), [(10, stored(&value(2, 0)))]);
    it.put(&value(3, IM_MESSAGE)).unwrap();
    let both = stored(&value(3, IM_MESSAGE));
    assert_eq!(it.notices(), [(10, both.clone()), (11, both)]);
    it.put(&value(2, 0)).unwrap();
    assert_eq!(it.notices(), [(10, Change::Refreshed(vec![2]))]);
    it.store.refresh(it.now, &KEY, 3).unwrap();
    assert_eq!(it.notices(), [10, 11].map(|socket| (socket, Change::Refreshed(vec![3]))));
    assert!(it.put(&value(0, 0)).is_err());
    assert_eq!(it.notices(), []);

    // The query can change with a renewal.
    it.listen(11, "WHERE id=1").unwrap();
    it.at(300);
    assert_eq!(it.notices(), [(10, Change::Expired(vec![3]))]);
    it.listen(10, "").unwrap();
    it.listen(11, "WHERE id=1").unwrap();
    it.at(600);
    assert_eq!(it.notices(), [(10, Change::Expired(vec![1, 2])), (11, Change::Expired(vec![1]))]);
}

#[test]
fn listeners_that_do_not_renew_are_dropped() {
    let mut it = Fixture::new();
    it.listen(1, "").unwrap();
    it.listen(12, "").unwrap();
    it.at(599);
    it.listen(1, "").unwrap();
    it.at(600);
    assert_eq!(it.store.listener_count(), 1);
    it.put(&Value::new(1, 0, *b"x")).unwrap();
    assert_eq!(it.notices().len(), 1);
    it.store.drop_listeners_of(&listener(1).node, listener(101).address);
    assert_eq!(it.store.listener_count(), 1, "another address");
    it.store.drop_listeners_of(&listener(1).node, listener(1).address);
    assert_eq!(it.store.listener_count(), 0);
    assert_eq!(it.listen(1, "WHERE id=9"), Ok(Subscribed::New(vec![])));
}

#[test]
fn local_values() {
    let limits = StoreLimits { bytes: 0, values_per_key: 0, ..StoreLimits::default() };
    let mut it = Fixture::with(limits);
    let value = Value::new(1, 0, *b"mine");
    assert_eq!(it.put_from(KEY, &value, Origin::Local), Ok(Stored::Added), "not charged");
    assert_eq!(it.put(&value), Ok(Stored::Refreshed));
    assert_eq!(it.store.remote_bytes(), 0, "still ours");
    it.listen(1, "").unwrap();
    let changed = Value::new(1, 0, *b"changed");
    assert_eq!(it.put_from(KEY, &changed, Origin::Local), Ok(Stored::Replaced), "what is ours we may change");
    assert_eq!(it.notices(), [(1, Change::Stored(vec![Arc::new(changed)]))]);
    assert!(it.store.remove_local(&KEY, 1) && !it.store.remove_local(&KEY, 1));
    assert_eq!(it.notices(), [(1, Change::Expired(vec![1]))]);

    let mut it = Fixture::new();
    it.put(&value).unwrap();
    assert!(!it.store.remove_local(&KEY, 1), "another node put it");
    assert!(it.store.remote_bytes() > 0);
    assert_eq!(it.put_from(KEY, &value, Origin::Local), Ok(Stored::Refreshed));
    assert_eq!(it.store.remote_bytes(), 0, "ours now");
    assert!(it.store.discard(&KEY, 1) && it.store.is_empty());
}

#[test]
fn quotas() {
    let full = |which| Err(Refusal::Full(which));
    let value = |id| Value::new(id, 0, vec![0; 100]);
    let size = value(1).packed_size();
    let put_all = |limits: StoreLimits, keys: u8| {
        let mut it = Fixture::with(limits);
        let mut results = Vec::new();
        for key in 0..keys {
            results.extend((1..=4).map(|id| it.put_from(InfoHash([key; 20]), &value(id), from(1))));
        }
        (it, results)
    };
    let default = StoreLimits::default();
    let (_, results) = put_all(StoreLimits { keys: 1, ..default }, 2);
    assert_eq!(results[4], full(Full::Keys));
    let (_, results) = put_all(StoreLimits { values_per_key: 3, ..default }, 2);
    assert_eq!((results[3], results[4]), (full(Full::KeyValues), Ok(Stored::Added)));
    let (mut it, results) = put_all(StoreLimits { values_per_source_and_key: 3, ..default }, 1);
    assert_eq!(results[3], full(Full::SourceKeyValues));
    assert_eq!(it.put_from(InfoHash([0; 20]), &value(4), from(2)), Ok(Stored::Added));
    let (mut it, results) = put_all(StoreLimits { values_per_source: 5, ..default }, 2);
    assert_eq!((results[4], results[5]), (Ok(Stored::Added), full(Full::SourceValues)));
    it.at(600);
    assert_eq!(it.put(&value(1)), Ok(Stored::Added), "all was given back");
    let (mut it, results) = put_all(StoreLimits { bytes_per_source: 2 * size + 1, ..default }, 1);
    assert_eq!((results[1], results[2]), (Ok(Stored::Added), full(Full::SourceBytes)));
    // The key of an owner counts, too.
    assert_eq!(it.put_from(KEY, &signed(1, b"", "alice", 0), from(2)), full(Full::SourceBytes));
}

#[test]
fn eviction_hits_whoever_has_most() {
    let value = |id, value_type| Value::new(id, value_type, vec![0; 1000]);
    let size = value(1, 0).packed_size();
    let mut it = Fixture::with(StoreLimits { bytes: 4 * size, ..StoreLimits::default() });
    it.listen(10, "").unwrap();
    it.put_from(KEY, &value(1, 0), from(1)).unwrap();
    it.put_from(KEY, &value(2, ICE_CANDIDATES), from(1)).unwrap();
    it.put_from(KEY, &value(3, 0), from(1)).unwrap();
    it.put_from(KEY, &value(4, ICE_CANDIDATES), from(2)).unwrap();
    it.notices();
    assert_eq!(it.put_from(KEY, &value(5, 0), from(2)), Ok(Stored::Added));
    assert_eq!(it.ids(), [1, 3, 4, 5], "of the largest, the soonest to expire");
    let told = it.notices();
    assert_eq!(told[0], (10, Change::Expired(vec![2])));
    assert_eq!(told.len(), 2);
    // Who has most pushes out its own.
    it.put_from(KEY, &value(6, 0), from(2)).unwrap();
    it.notices();
    assert_eq!(it.put_from(KEY, &value(7, ICE_CANDIDATES), from(2)), Err(Refusal::Full(Full::Bytes)));
    assert_eq!(it.notices(), []);
    assert_eq!(it.store.remote_bytes(), 4 * size);
}

#[test]
fn listeners_are_bounded() {
    let limits =
        StoreLimits { listeners: 5, listeners_per_source: 2, listeners_per_key: 4, ..StoreLimits::default() };
    let mut it = Fixture::with(limits);
    let mut listen = |socket| it.listen(socket, "").map(|_| ());
    // The hundreds of a socket number make its address.
    assert_eq!([listen(101), listen(102)], [Ok(()); 2]);
    assert_eq!(listen(103), Err(Refusal::Full(Full::SourceListeners)));
    assert_eq!(listen(101), Ok(()), "renewing is always possible");
    assert_eq!([listen(201), listen(202)], [Ok(()); 2]);
    assert_eq!(listen(301), Err(Refusal::Full(Full::KeyListeners)));
    let elsewhere = InfoHash([0x22; 20]);
    let mut listen = |socket| it.store.listen(it.now, elsewhere, listener(socket), Query::all()).map(|_| ());
    assert_eq!(listen(301), Ok(()));
    assert_eq!(listen(302), Err(Refusal::Full(Full::Listeners)));
    it.at(600);
    assert_eq!(it.store.listener_count(), 0);
    assert!(it.listen(101, "").is_ok());
}

/// One node, one socket, another address: the charge moves along.
#[test]
fn a_listener_that_moves() {
    let mut it = Fixture::with(StoreLimits { listeners_per_source: 1, ..StoreLimits::default() });
    it.listen(101, "").unwrap();
    let moved = Listener { address: ([203, 0, 113, 9], 1).into(), ..listener(101) };
    assert_eq!(it.store.listen(it.now, KEY, moved, Query::all()), Ok(Subscribed::Renewed));
    assert!(matches!(it.listen(102, ""), Ok(Subscribed::New(_))), "the old address is free again");
    it.put(&Value::new(1, 0, *b"x")).unwrap();
    let told: Vec<_> = std::iter::from_fn(|| it.store.poll_notice()).map(|it| it.listener.address).collect();
    assert!(told.contains(&moved.address));
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, id: u64, value_type: u16, len: usize, host: u8 },
    Refresh { key: u8, id: u64 },
    Listen { key: u8, socket: u32 },
    Leave { socket: u32 },
    Discard { key: u8, id: u64 },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let value_type = proptest::sample::select(vec![0, ICE_CANDIDATES, IM_MESSAGE, 777]);
    prop_oneof![
        6 => (0..4_u8, 1..5_u64, value_type, 0..900_usize, 0..5_u8)
            .prop_map(|(key, id, value_type, len, host)| Step::Put { key, id, value_type, len, host }),
        2 => (0..4_u8, 1..5_u64).prop_map(|(key, id)| Step::Refresh { key, id }),
        2 => (0..4_u8, 0..500_u32).prop_map(|(key, socket)| Step::Listen { key, socket }),
        1 => (0..500_u32).prop_map(|socket| Step::Leave { socket }),
        1 => (0..4_u8, 1..5_u64).prop_map(|(key, id)| Step::Discard { key, id }),
        2 => (0..200_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever happens, the books are right, the bounds hold, and in the end everything is given back.
    #[test]
    fn accounts_balance(steps in proptest::collection::vec(step(), 1..120)) {
        let limits = StoreLimits {
            bytes: 4000,
            bytes_per_source: 2500,
            keys: 3,
            values_per_source: 5,
            values_per_key: 4,
            values_per_source_and_key: 2,
            listeners: 6,
            listeners_per_source: 3,
            listeners_per_key: 3,
            ..StoreLimits::default()
        };
        let mut it = Fixture::with(limits);
        for step in steps {
            match step {
                Step::Put { key, id, value_type, len, host } => {
                    // Host 0 is this node.
                    let origin = if host == 0 { Origin::Local } else { from(host) };
                    it.put_from(InfoHash([key; 20]), &Value::new(id, value_type, vec![0; len]), origin).ok();
                }
                Step::Refresh { key, id } => drop(it.store.refresh(it.now, &InfoHash([key; 20]), id)),
                Step::Listen { key, socket } => {
                    let key = InfoHash([key; 20]);
                    it.store.listen(it.now, key, listener(socket), Query::all()).ok();
                }
                Step::Leave { socket } => {
                    let listener = listener(socket);
                    it.store.drop_listeners_of(&listener.node, listener.address);
                },
                Step::Discard { key, id } => drop(it.store.discard(&InfoHash([key; 20]), id)),
                Step::Wait { seconds: wait } => {
                    it.now += seconds(wait);
                    it.store.handle_timeout(it.now);
                }
            }
            while it.store.poll_notice().is_some() {}
            let remote = it.store.iter().filter(|(_, held)| held.origin != Origin::Local);
            prop_assert_eq!(it.store.remote_bytes(), remote.map(|(_, held)| held.value.packed_size()).sum::<usize>());
            prop_assert!(it.store.remote_bytes() <= limits.bytes);
            prop_assert!(it.store.listener_count() <= limits.listeners);
            prop_assert_eq!(it.store.iter().count(), it.store.len());
            prop_assert!(it.store.iter().all(|(_, held)| held.expires > it.now));
        }
        it.now += seconds(601);
        it.store.handle_timeout(it.now);
        prop_assert!(it.store.is_empty() && it.store.poll_timeout().is_none());
        prop_assert_eq!((it.store.remote_bytes(), it.store.listener_count()), (0, 0));
        // A source that had reached its share starts anew.
        for id in 1..=2 {
            prop_assert!(it.put(&Value::new(id, 0, *b"x")).is_ok());
        }
    }
}
