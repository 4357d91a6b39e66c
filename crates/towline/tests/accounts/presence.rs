//! Who is there.

use std::time::Duration;

use towline::account::presence::PresenceState::{Announced, Connected, Offline};
use towline::dht::PutOptions;
use towline::net::now;
use towline_account::announcement::{self, DeviceAnnouncement};

use crate::common::{Lab, pass};
use crate::people::{Device, friends, long_story, person, two};

#[test]
fn online_connected_and_gone_after_a_crash() {
    long_story(21, async |world| {
        let lab = Lab::new(world).await;
        let bob = Device::new(&lab, &person(1), 0).start().await;
        let alice_device = Device::new(&lab, &person(0), 0);
        let mut watch = bob.presence(person(0).id()).await.unwrap();
        assert_eq!(watch.current().state, Offline);
        let alice = alice_device.start().await;
        let seen = watch.wait_for(|alice| alice.state == Announced).await.unwrap();
        let [(device, presence)] = seen.devices.iter().collect::<Vec<_>>()[..] else { panic!("{seen:?}") };
        assert_eq!((*device, presence.id), (alice_device.identity.short_id(), Some(alice.node().device())));

        alice.add_contact(bob.id()).await.unwrap();
        let connection = bob.node().dial(alice.node().device()).await.unwrap();
        watch.wait_for(|alice| alice.state == Connected).await.unwrap();
        connection.close().await;
        watch.wait_for(|alice| alice.state == Announced).await.unwrap();

        alice_device.host.crash();
        drop(alice);
        let begun = now();
        watch.wait_for(|alice| alice.state == Offline).await.unwrap();
        let took = now() - begun;
        assert!(took < Duration::from_mins(11), "{took:?}");
        assert!(watch.current().devices.is_empty());
    });
}

#[test]
fn a_device_that_was_restarted_stays_online() {
    long_story(22, async |world| {
        let lab = Lab::new(world).await;
        let (alice_device, alice, _, bob) = two(&lab).await;
        let mut watch = bob.presence(alice.id()).await.unwrap();
        watch.wait_for(|alice| alice.state == Announced).await.unwrap();
        let flapped = async {
            watch.wait_for(|alice| alice.state == Offline).await;
        };
        let restarts = async {
            let mut alice = alice;
            for _ in 0..3 {
                // Without a word, as a crash is.
                drop(alice);
                pass(Duration::from_secs(20)).await;
                alice = alice_device.start().await;
                pass(Duration::from_mins(3)).await;
            }
            // All the old values expire meanwhile.
            pass(Duration::from_mins(12)).await;
            alice
        };
        tokio::select! {
            biased;
            () = flapped => panic!("offline for a moment"),
            alice = restarts => drop(alice),
        }
        assert_eq!(watch.current().devices.len(), 1);
        watch.wait_for(|alice| alice.state == Offline).await.unwrap();
    });
}

/// What an account has signed anybody can store, as often as he likes.
#[test]
fn announcements_without_number_are_looked_into_once() {
    let requests = |copies: u64| {
        long_story(25, async |world| {
            let lab = Lab::new(world).await;
            let bob = Device::new(&lab, &person(1), 0).start().await;
            let mallory = lab.bare_dht("mallory", person(2).devices[0].clone()).await;
            // Of a device that is not there, and whose certificate is nowhere.
            let gone = person(0);
            let mut value = DeviceAnnouncement::sign(&gone.account, gone.devices[0].key().public());
            let key = announcement::key(gone.id());
            for id in 1..=copies {
                value.id = id;
                mallory.put(key, value.clone(), PutOptions::default()).await.unwrap();
            }
            let before = bob.node().dht().stats().await.unwrap().requests;
            let mut watch = bob.presence(gone.id()).await.unwrap();
            watch.wait_for(|gone| gone.state == Announced).await.unwrap();
            pass(Duration::from_secs(20)).await;
            bob.node().dht().stats().await.unwrap().requests - before
        })
    };
    let (one, many) = (requests(1), requests(100));
    assert!(many <= one + 10, "{many} requests, and {one} because of a single announcement");
}

#[test]
fn presence_survives_an_outage_of_the_network() {
    long_story(23, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, bob_device, bob) = friends(&lab).await;
        let mut watch = bob.presence(alice.id()).await.unwrap();
        watch.wait_for(|alice| alice.state.is_online()).await.unwrap();
        bob_device.host.set_up(2, false);
        pass(Duration::from_mins(15)).await;
        assert_eq!(watch.current().state, Offline, "nothing is known any more");
        bob_device.host.set_up(2, true);
        let back = watch.wait_for(|alice| alice.state.is_online());
        tokio::time::timeout(Duration::from_mins(5), back).await.unwrap().unwrap();
    });
}

#[test]
fn a_watch_ends_with_its_last_clone() {
    long_story(24, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, _, bob) = two(&lab).await;
        let mut watch = bob.presence(alice.id()).await.unwrap();
        watch.wait_for(|alice| alice.state == Announced).await.unwrap();
        let mut clone = watch.clone();
        drop(watch);
        drop(alice);
        clone.wait_for(|alice| alice.state == Offline).await.unwrap();
        drop(clone);
        pass(Duration::from_secs(1)).await;
        // Begun anew, it sees what there is.
        let again = Device::new(&lab, &person(2), 0).start().await;
        let mut watch = bob.presence(again.id()).await.unwrap();
        watch.wait_for(|again| again.state == Announced).await.unwrap();
        bob.shutdown().await;
        assert_eq!(watch.wait_for(|again| again.state == Offline).await, None, "an end is no news");
    });
}
