//! The devices of an account.

use std::sync::Arc;
use std::time::Duration;

use towline::PeerKind;
use towline::account::presence::PresenceState::Announced;
use towline::account::{AccountConfig, AccountEvent, AccountStartError};
use towline::dht::{CertificateKey, Dht, DhtConfig, Value};
use towline_account::announcement;

use crate::common::{Lab, pass, story};
use crate::people::{Device, event, long_story, person, so_far};

#[test]
fn a_second_device_appears_once() {
    long_story(31, async |world| {
        let lab = Lab::new(world).await;
        let first_device = Device::new(&lab, &person(0), 0);
        let bob = Device::new(&lab, &person(1), 0).start().await;
        let first = first_device.start().await;
        let mut watch = bob.presence(first.id()).await.unwrap();
        let mut seen = first.events();
        let second_device = Device::new(&lab, &person(0), 1);
        let second = second_device.start().await;
        let new = event(&mut seen, |event| match event {
            AccountEvent::NewOwnDevice(device) => Some(*device),
            _ => None,
        });
        assert_eq!(new.await, second_device.identity.short_id());
        let both = watch.wait_for(|account| account.devices.len() == 2).await.unwrap();
        assert!(both.devices.values().all(|device| device.state == Announced));
        let mut devices = bob.devices(first.id()).await.unwrap();
        devices.sort_by_key(|device| device.id() != Some(first.node().device()));
        let ids: Vec<_> = devices.iter().map(|device| device.id().unwrap()).collect();
        assert_eq!(ids, [first.node().device(), second.node().device()]);
        assert!(devices.iter().all(|device| device.chain.is_some()));
        // Devices of one account need no introduction.
        assert_eq!(first.kind_of(second.node().identity().chain()), PeerKind::OwnDevice);
        second.node().dial(first.node().device()).await.unwrap();
        // What was there before anybody listened is told to the first who does, once.
        let told = so_far(&mut second.events_since_start().unwrap());
        let new = |event: &&AccountEvent| matches!(event, AccountEvent::NewOwnDevice(id) if *id == first_device.identity.short_id());
        assert_eq!(told.iter().filter(new).count(), 1);
        assert!(second.events_since_start().is_none());

        first.shutdown().await;
        let first = first_device.start().await;
        let mut seen = first.events();
        pass(Duration::from_mins(1)).await;
        let again = |event: &AccountEvent| matches!(event, AccountEvent::NewOwnDevice(_));
        assert!(!so_far(&mut seen).iter().any(again), "it is known");
    });
}

#[test]
fn a_device_of_2023_that_announces_no_key_is_found_by_its_short_id() {
    story(32, async |world| {
        let lab = Lab::new(world).await;
        let old = person(2).devices[0].clone();
        let config = DhtConfig::default().with_bootstrap(lab.bootstrap.to_string());
        let dht = Dht::start(Arc::new(lab.host("old")), config, Some(Arc::new(old.clone()))).await.unwrap();
        let published = dht.publish_certificate();
        published.announced_for_old_peers().await.unwrap();
        // {"dev": …}, signed by the account.
        let body = [&[0x81, 0xa3][..], b"dev", &[0xc4, 20], old.short_id().as_bytes()].concat();
        let mut value = Value::new(0, 0, body);
        value.sign(person(2).account.key(), 0).unwrap();
        let announced = dht.announce(announcement::key(person(2).id()), value);
        announced.announced().await.unwrap();

        let alice = Device::new(&lab, &person(0), 0).start().await;
        let devices = alice.devices(person(2).id()).await.unwrap();
        let [device] = devices.as_slice() else { panic!("{devices:?}") };
        assert_eq!((device.id(), device.at), (Some(old.device_id()), Some(CertificateKey::Short)));
        let mut watch = alice.presence(person(2).id()).await.unwrap();
        let shown = watch.wait_for(|seen| seen.devices.values().any(|device| device.id.is_some())).await;
        assert_eq!(shown.unwrap().devices[&old.short_id()].id, Some(old.device_id()));
    });
}

#[test]
fn nobody_announces_for_another() {
    story(33, async |world| {
        let lab = Lab::new(world).await;
        let alice = Device::new(&lab, &person(0), 0).start().await;
        let mallory = lab.bare_dht("mallory", person(2).devices[0].clone()).await;
        // Signed by another account, by nobody, and plain rubbish.
        let key = announcement::key(person(1).id());
        let device = person(2).devices[0].key().public().clone();
        let signed = announcement::DeviceAnnouncement::sign(&person(2).account, &device);
        let unsigned = Value::new(0, 0, signed.data().to_vec());
        let rubbish = Value::new(0, 0, *b"\xc4\x02\x30\x80");
        let puts = [signed, unsigned, rubbish].map(|value| mallory.announce(key, value));
        for put in &puts {
            put.announced().await.unwrap();
        }
        assert_eq!(alice.devices(person(1).id()).await.unwrap(), []);
        let watch = alice.presence(person(1).id()).await.unwrap();
        pass(Duration::from_secs(30)).await;
        assert!(!watch.current().state.is_online());
    });
}

#[test]
fn a_receipt_of_another_device_is_refused() {
    story(34, async |world| {
        let lab = Lab::new(world).await;
        let (one, other) = (Device::new(&lab, &person(0), 0), Device::new(&lab, &person(0), 1));
        let setup = AccountConfig { receipt: other.setup().receipt, ..one.setup() };
        let started = towline::account::Account::start(
            Arc::new(one.host.clone()),
            lab.config(),
            one.identity.clone(),
            setup,
        );
        assert!(matches!(started.await, Err(AccountStartError::Receipt(_))));
    });
}
