//! Certificates that strangers issue for the key of a device, and publish after its own.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Lab, claimed, connected, echo, event, family, identity, ping_pong, story};
use towline::dht::{
    CertificateAnnouncement, Dht, FindCertificateError, InfoHash, PutOptions, RejectionReason, Value,
};
use towline::identity::{Chain, Identity};
use towline::signal::RefusalReason;
use towline::{AccountId, Config, ConnectError, ConnectionPolicy, DeviceIds, Event};
use towline_dht::types::CERTIFICATE;

/// Publishes a chain for the key of a device as its own node would, later than it.
async fn publish(lab: &Lab, name: &str, claim: Identity) -> (Dht, CertificateAnnouncement) {
    let dht = lab.bare_dht(name, claim).await;
    let published = dht.publish_certificate();
    published.announced().await.unwrap();
    published.announced_for_old_peers().await.unwrap();
    (dht, published)
}

fn only(accounts: impl IntoIterator<Item = AccountId>) -> ConnectionPolicy {
    ConnectionPolicy::Accounts(Arc::new(accounts.into_iter().collect()))
}

#[test]
fn a_lookup_goes_on_past_chains_that_are_not_wanted() {
    story(1, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        let own = alice.identity().chain();
        let rogue = claimed(&identity(0));
        let _published = publish(&lab, "rogue", rogue.clone()).await;
        let find = async |prefer: &Chain| {
            let prefer = prefer.clone();
            let found =
                bob.dht().find_certificate_preferring(alice.device(), move |chain| *chain == prefer).await;
            found.unwrap().chain
        };
        assert_eq!(&find(own).await, own);
        assert_eq!(&find(rogue.chain()).await, rogue.chain());
        // Liking none of them, it gets what there is.
        let any = find(identity(5).chain()).await;
        assert!(any == *own || any == *rogue.chain());
    });
}

#[test]
fn a_rogue_account_keeps_nobody_out() {
    for (seed, rogues) in (2..).zip([1, 3]) {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let (account, device) = family();
            let policy = only([device.account_id().unwrap()]);
            assert_eq!(account.chain().leaf().short_id(), device.account_id().unwrap().into());
            let bob = lab.node_with(1, lab.config().with_policy(policy)).await;
            tokio::spawn(echo(bob.clone()));
            let host = lab.host("alice");
            let alice = lab.node_on(&host, device.clone(), lab.config()).await;
            alice.registered().await;
            bob.registered().await;
            let mut published = Vec::new();
            for number in 0..rogues {
                published.push(publish(&lab, &format!("rogue-{number}"), claimed(&device)).await);
            }
            let mut channel = alice.connect(bob.device(), "it is me").await.unwrap();
            ping_pong(&mut channel, b"hello").await.unwrap();
            assert_eq!(bob.established()[0].peer().account, device.account_id().unwrap());
        });
    }
}

/// Whoever is first at a place keeps it, so the rogue was there before the device.
#[test]
fn nobody_makes_a_copy_in_the_name_of_a_device() {
    story(9, async |world| {
        let lab = Lab::new(world).await;
        let rogue = claimed(&identity(0));
        let dht = lab.bare_dht("rogue", identity(3)).await;
        let key = InfoHash::of_certificate(&identity(0).device_id());
        let pem = rogue.chain().pack().into_bytes();
        let copy = |id| Value::new(id, 0, pem.clone()).with_user_type("towline_certificate");
        for id in 1..50 {
            let _ = dht.put(key, copy(id), PutOptions::default()).await;
        }
        dht.put_signed(key, copy(0)).await.unwrap();
        let looker = lab.bare_dht("looker", identity(4)).await;
        let FindCertificateError::NotFound(evidence) =
            looker.find_certificate(identity(0).device_id()).await.unwrap_err()
        else {
            panic!("no such error")
        };
        assert!(evidence.values > 0, "{evidence:?}");
        assert!(evidence.rejected.iter().all(|rejected| rejected.why == RejectionReason::Unsigned));
        // The copy of the device itself is found among them all, behind a certificate that took the place of its own.
        let device = lab.node(0).await;
        device.registered().await;
        let _published = publish(&lab, "rogue too", rogue.clone()).await;
        let own = device.identity().chain();
        let found = looker.find_certificate_preferring(device.device(), |chain| chain == own).await.unwrap();
        assert_eq!(&found.chain, own);
    });
}

/// Nobody is preferred here, as where somebody unknown writes: the device says whose it is.
#[test]
fn of_several_chains_the_one_that_the_device_has_signed_comes_first() {
    story(10, async |world| {
        let lab = Lab::new(world).await;
        let device = lab.node(0).await;
        device.registered().await;
        // Who claims the device has no key to sign a copy with.
        let pem = claimed(&identity(0)).chain().pack().into_bytes();
        let mallory = lab.bare_dht("mallory", identity(3)).await;
        let keys = [
            InfoHash::of_certificate(&device.device()),
            InfoHash::of_certificate_legacy(&device.identity().short_id()),
        ];
        for key in keys {
            mallory.put(key, Value::new(1, CERTIFICATE, pem.clone()), PutOptions::default()).await.unwrap();
        }
        let looker = lab.bare_dht("looker", identity(4)).await;
        let (mut seen, claims) = (0, Chain::unpack(&pem).unwrap());
        let (long, short) = (device.device(), device.identity().short_id());
        let found = looker.find_certificate_preferring(DeviceIds::both(long, short), |chain| {
            seen += usize::from(*chain == claims);
            false
        });
        assert_eq!(&found.await.unwrap().chain, device.identity().chain());
        assert!(seen > 0, "the claim is what lies there");
    });
}

#[test]
fn a_claim_remembered_from_before_is_looked_up_again() {
    story(4, async |world| {
        let lab = Lab::new(world).await;
        let policy = only([identity(0).account_id().unwrap()]);
        let config = lab.config();
        let (_lab, alice, bob) = lab.pair_with(config.clone(), config.with_policy(policy)).await;
        tokio::spawn(echo(bob.clone()));
        bob.remember(claimed(&identity(0)).chain().clone()).await;
        let mut channel = alice.connect(bob.device(), "it is me").await.unwrap();
        ping_pong(&mut channel, b"hello").await.unwrap();
    });
}

#[test]
fn a_rogue_account_lets_nobody_in() {
    story(5, async |world| {
        let lab = Lab::new(world).await;
        let rogue = claimed(&identity(0));
        let config = lab.config();
        // The account that claims the device is admitted, that of the device is not.
        let policy = only([rogue.account_id().unwrap()]);
        let (lab, alice, bob) = lab.pair_with(config.clone(), config.with_policy(policy)).await;
        let _published = publish(&lab, "rogue", rogue).await;
        let mut events = bob.events();
        alice.connect(bob.device(), "let me in").await.unwrap_err();
        let why = event(&mut events, |event| match event {
            Event::IncomingFailed { error, .. } => Some(error.clone()),
            _ => None,
        });
        assert_eq!(why.await, ConnectError::NotAdmitted);
        assert!(bob.established().is_empty());
    });
}

#[test]
fn a_heap_of_certificates_is_not_looked_through() {
    story(6, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        let heap = lab.bare_dht("heap", identity(3)).await;
        let key = InfoHash::of_certificate(&alice.device());
        // All with the id that a certificate has, each kept by the node that got it first; few nodes, so many
        // are refused. What matters is that the lookup ends, and by what it says.
        for number in 0..60_u8 {
            let value = Value::new(1, 0, vec![number; 10]);
            let _ = heap.put(key, value, PutOptions::default()).await;
        }
        let mut examined = 0;
        let found = bob.dht().find_certificate_preferring(alice.device(), |_| {
            examined += 1;
            false
        });
        assert_eq!(&found.await.unwrap().chain, alice.identity().chain());
        assert!(examined <= 32, "{examined}");
    });
}

#[test]
fn what_a_device_is_found_by_does_not_decide_whose_it_is() {
    story(7, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        let mut accepting = common::accepted(&bob);
        let _published = publish(&lab, "rogue", claimed(&identity(1))).await;
        let (near, _far) = connected(&alice, &bob, "whose", &mut accepting).await;
        assert_eq!(near.peer().account, bob.account());
    });
}

#[test]
fn a_refusal_comes_soon_although_all_chains_were_looked_at() {
    story(8, async |world| {
        let lab = Lab::new(world).await;
        let picky = Config { policy: ConnectionPolicy::OwnAccount, ..lab.config() };
        let config = lab.config();
        let (lab, alice, bob) = lab.pair_with(config, picky).await;
        let _published = publish(&lab, "rogue", claimed(&identity(0))).await;
        let begun = towline::net::now();
        let error = alice.connect(bob.device(), "anything").await.unwrap_err();
        assert_eq!(error, ConnectError::Refused(RefusalReason::NotAllowed));
        assert!(towline::net::now() - begun < Duration::from_secs(3));
    });
}
