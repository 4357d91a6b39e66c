//! Devices that are revoked.

use std::sync::atomic::Ordering;
use std::time::Duration;

use towline::account::{AccountConfig, AccountError, AccountEvent, AccountLimits};
use towline::dht::PutOptions;
use towline::identity::RevocationList;
use towline::{CloseReason, ConnectError};
use towline_account::announcement::DeviceAnnouncement;

use crate::common::{Lab, event as node_event, pass};
use crate::people::{Device, NOW, befriend, event, long_story, person};

fn revoking(number: usize, device: usize) -> RevocationList {
    let person = person(number);
    let leaf = person.devices[device].chain().leaf().clone();
    person.account.revoke(None, &[leaf], NOW).unwrap()
}

/// A device that is revoked may be told so, or nothing at all.
fn turned_away(error: &ConnectError) -> bool {
    matches!(error, ConnectError::NoAnswer { .. } | ConnectError::Refused(_))
}

#[test]
fn a_revoked_device_is_disconnected_everywhere_and_does_not_come_back() {
    long_story(41, async |world| {
        let lab = Lab::new(world).await;
        let bob = Device::new(&lab, &person(1), 0).start().await;
        let good = Device::new(&lab, &person(0), 0).start().await;
        let stolen_device = Device::new(&lab, &person(0), 1);
        let stolen = stolen_device.start().await;
        befriend(&good, &bob).await;
        // Both bob and the other device of the account are connected with it.
        stolen.node().dial(good.node().device()).await.unwrap();
        let connection = stolen.node().dial(bob.node().device()).await.unwrap();
        let mut watch = bob.presence(good.id()).await.unwrap();
        watch.wait_for(|account| account.devices.len() == 2).await.unwrap();

        let (mut at_bob, mut at_stolen) = (bob.events(), stolen.events());
        let mut closed = bob.node().events();
        good.revoke(revoking(0, 1)).await.unwrap();
        assert!(good.node().connection(stolen.node().device()).is_none(), "ready when it is enforced");
        let revoked = event(&mut at_bob, |event| match event {
            AccountEvent::Revoked { devices, .. } => Some(devices.clone()),
            _ => None,
        });
        assert_eq!(revoked.await, [stolen_device.identity.short_id()]);
        let reason = node_event(&mut closed, |event| match event {
            towline::Event::Disconnected { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert!(matches!(reason.await, CloseReason::Revoked(_)));
        connection.closed().await;
        event(&mut at_stolen, |event| matches!(event, AccountEvent::ThisDeviceRevoked).then_some(())).await;
        assert!(stolen.is_revoked() && !good.is_revoked());
        watch.wait_for(|account| account.devices.len() == 1).await.unwrap();

        for account in [&bob, &good] {
            let refused = stolen.node().dial(account.node().device()).await.unwrap_err();
            assert!(turned_away(&refused), "{refused:?}");
            let refused = account.node().dial(stolen.node().device()).await.unwrap_err();
            assert!(matches!(refused, ConnectError::Revoked(_)), "{refused:?}");
        }
        assert_eq!(bob.devices(good.id()).await.unwrap().len(), 1);
        assert!(bob.node().connection(good.node().device()).is_none());
        bob.node().dial(good.node().device()).await.unwrap();
    });
}

#[test]
fn a_list_is_kept_over_restarts_and_found_by_who_looks_later() {
    long_story(42, async |world| {
        let lab = Lab::new(world).await;
        let good_device = Device::new(&lab, &person(0), 0);
        let good = good_device.start().await;
        good.revoke(revoking(0, 1)).await.unwrap();
        good.shutdown().await;
        pass(Duration::from_mins(15)).await;
        // Published again by the next run.
        let good = good_device.start().await;
        let stolen = Device::new(&lab, &person(0), 1).start().await;
        let bob = Device::new(&lab, &person(1), 0).start().await;
        befriend(&good, &bob).await;
        assert_eq!(bob.devices(good.id()).await.unwrap().len(), 1);
        let refused = stolen.node().dial(bob.node().device()).await.unwrap_err();
        assert!(turned_away(&refused), "{refused:?}");
        let refused = stolen.node().dial(good.node().device()).await.unwrap_err();
        assert!(turned_away(&refused), "{refused:?}");
    });
}

#[test]
fn a_revocation_that_is_not_saved_counts_and_says_so() {
    long_story(44, async |world| {
        let lab = Lab::new(world).await;
        let good_device = Device::new(&lab, &person(0), 0);
        let good = good_device.start().await;
        let stolen = Device::new(&lab, &person(0), 1).start().await;
        good.node().dial(stolen.node().device()).await.unwrap();
        good_device.store.broken.store(true, Ordering::Relaxed);
        let full = Err(AccountError::NotSaved(std::io::ErrorKind::StorageFull));
        assert_eq!(good.revoke(revoking(0, 1)).await, full);
        assert!(good.node().connection(stolen.node().device()).is_none(), "in force all the same");
        assert_eq!(good.revoke(revoking(0, 1)).await, full, "not because it is known");
        good_device.store.broken.store(false, Ordering::Relaxed);
        good.revoke(revoking(0, 1)).await.unwrap();
        assert_eq!(good_device.setup().revocations.snapshot().lists().count(), 1);
    });
}

/// Anybody can store lists at the key of an account, before its certificate tells the genuine one.
#[test]
fn lists_of_others_do_not_push_the_genuine_one_out() {
    long_story(45, async |world| {
        let lab = Lab::new(world).await;
        let good = Device::new(&lab, &person(0), 0).start().await;
        let stolen = Device::new(&lab, &person(0), 1).start().await;
        let bob_device = Device::new(&lab, &person(1), 0);
        let bob = bob_device.start().await;
        befriend(&good, &bob).await;
        bob.shutdown().await;
        good.revoke(revoking(0, 1)).await.unwrap();
        // No room at all, as if somebody had been faster each time.
        let limits = AccountLimits { lists: 0, ..AccountLimits::default() };
        let bob = bob_device.start_with(AccountConfig { limits, ..bob_device.setup() }).await;
        assert_eq!(bob_device.setup().revocations.snapshot().lists().count(), 0);
        let mut seen = bob.events();
        let mut watch = bob.presence(good.id()).await.unwrap();
        let revoked = event(&mut seen, |event| match event {
            AccountEvent::Revoked { devices, .. } => Some(devices.clone()),
            _ => None,
        });
        assert_eq!(revoked.await, [stolen.node().identity().short_id()]);
        watch.wait_for(|account| account.devices.len() == 1).await.unwrap();
        assert_eq!(bob_device.setup().revocations.snapshot().lists().count(), 1);
    });
}

/// A list names certificates, so a device whose certificate is withheld is not on any.
#[test]
fn where_devices_are_revoked_one_without_a_certificate_is_left_out() {
    long_story(46, async |world| {
        let lab = Lab::new(world).await;
        let good = Device::new(&lab, &person(0), 0).start().await;
        let bob_device = Device::new(&lab, &person(1), 0);
        let bob = bob_device.start().await;
        befriend(&good, &bob).await;
        let thief = lab.bare_dht("thief", person(0).devices[1].clone()).await;
        let mut value = DeviceAnnouncement::sign(&person(0).account, person(0).devices[1].key().public());
        value.id = 7;
        let key = towline_account::revocation::key(good.id());
        thief.put(key, value, PutOptions::default()).await.unwrap();
        let mut watch = bob.presence(good.id()).await.unwrap();
        watch.wait_for(|account| account.devices.len() == 2).await.unwrap();
        assert_eq!(bob.devices(good.id()).await.unwrap().len(), 2, "nothing speaks against it");

        good.revoke(revoking(0, 1)).await.unwrap();
        let shown = watch.wait_for(|account| account.devices.len() == 1).await.unwrap();
        assert!(shown.devices.contains_key(&good.node().identity().short_id()));
        let devices = bob.devices(good.id()).await.unwrap();
        assert_eq!(
            devices.iter().map(towline::account::Device::short_id).collect::<Vec<_>>(),
            [good.node().identity().short_id()]
        );
        // Nor later, by a list that was kept, when no other device is there to tell whose it is.
        bob.shutdown().await;
        good.shutdown().await;
        let bob = bob_device.start().await;
        pass(Duration::from_mins(11)).await;
        let mut value = DeviceAnnouncement::sign(&person(0).account, person(0).devices[1].key().public());
        value.id = 8;
        thief.put(key, value, PutOptions::default()).await.unwrap();
        assert_eq!(bob.devices(person(0).id()).await.unwrap(), []);
        let watch = bob.presence(person(0).id()).await.unwrap();
        pass(Duration::from_secs(30)).await;
        assert!(!watch.current().state.is_online());
    });
}

#[test]
fn a_list_of_another_account_revokes_nothing() {
    long_story(43, async |world| {
        let lab = Lab::new(world).await;
        let alice = Device::new(&lab, &person(0), 0).start().await;
        let bob = Device::new(&lab, &person(1), 0).start().await;
        befriend(&alice, &bob).await;
        assert!(alice.revoke(revoking(1, 0)).await.is_err(), "not ours");
        // Put at the key of the account it would hurt.
        let mallory = lab.bare_dht("mallory", person(2).devices[0].clone()).await;
        let value = towline_account::revocation::value(&revoking(2, 0));
        let put = mallory.announce(towline_account::revocation::key(alice.id()), value);
        put.announced().await.unwrap();
        pass(Duration::from_secs(30)).await;
        assert_eq!(bob.devices(alice.id()).await.unwrap().len(), 1);
        bob.node().dial(alice.node().device()).await.unwrap();
    });
}
