//! Becoming contacts, and ceasing to be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use towline::account::contacts::{Contact, ContactError, ContactEvent};
use towline::account::presence::{PresenceEvent, PresenceState};
use towline::account::vcard::VCard;
use towline::account::{AccountConfig, AccountError, AccountEvent, AccountLimits};
use towline::dht::{Announcement, Dht, DhtConfig, ListenEvent, Query, Value};
use towline::signal::RefusalReason;
use towline::{Admit, ConnectError, Pattern, PeerKind};
use towline_account::announcement::{self, DeviceAnnouncement};
use towline_account::inbox;
use towline_dht::types::{Payload as _, TRUST_REQUEST, TrustRequest};

use crate::common::{Lab, pass, story};
use crate::people::{Device, NOW, befriend, event, friends, long_story, person, so_far, two, until};

const CONVERSATION: &str = "44e9279e676b9870783cdbf65742e9145fff3b39";

#[test]
fn asked_accepted_confirmed_and_then_connected() {
    story(1, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, _, bob) = two(&lab).await;
        let mut route = bob.router().serve(Pattern::exact("hello"), Admit::CONTACTS, 8).unwrap();
        let (mut seen_by_alice, mut seen_by_bob) = (alice.events(), bob.events());
        alice.add_contact_with(bob.id(), CONVERSATION).await.unwrap();
        until(&mut seen_by_bob, ContactEvent::Requested(alice.id())).await;
        let requests = bob.requests();
        let [(from, request)] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!((*from, request.conversation_id.as_str()), (alice.id(), CONVERSATION));
        assert_eq!(request.device, alice.node().device());
        assert_eq!(VCard::parse(&request.payload).unwrap().name, "Somebody");
        // Asking opens no doors.
        let refused = alice.node().connect(bob.node().device(), "hello").await.unwrap_err();
        assert_eq!(refused, ConnectError::Refused(RefusalReason::NotAllowed));

        bob.accept(alice.id()).await.unwrap();
        until(&mut seen_by_alice, ContactEvent::Confirmed(bob.id())).await;
        for (account, other) in [(&alice, &bob), (&bob, &alice)] {
            let contacts = account.contacts();
            let contact = contacts.get(other.id()).unwrap();
            assert!(contact.is_active() && contact.confirmed, "{contact:?}");
            assert_eq!(contact.conversation_id, CONVERSATION);
        }
        assert!(bob.requests().is_empty());
        let (opened, incoming) = tokio::join!(alice.node().connect(bob.node().device(), "hello"), async {
            route.next().await.unwrap().accept().await
        });
        assert_eq!((opened.unwrap().name(), incoming.unwrap().name()), ("hello", "hello"));
        assert_eq!(bob.accept(alice.id()).await, Err(AccountError::Contact(ContactError::NoRequest)));
    });
}

#[test]
fn who_asks_is_a_stranger_all_the_same() {
    story(12, async |world| {
        let lab = Lab::new(world).await;
        let alice = Device::new(&lab, &person(0), 0).start().await;
        let mut bob_device = Device::new(&lab, &person(1), 0);
        bob_device.config.limits.answers_to_strangers = 0;
        let bob = bob_device.start().await;
        let mut seen = bob.events();
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
        let refused = alice.node().dial(bob.node().device()).await.unwrap_err();
        assert_eq!(refused, ConnectError::Refused(RefusalReason::Busy));
    });
}

#[test]
fn requests_without_number_are_not_so_many_writes() {
    long_story(13, async |world| {
        let lab = Lab::new(world).await;
        let bob_device = Device::new(&lab, &person(1), 0);
        let bob = bob_device.start().await;
        let mallory = lab.bare_dht("mallory", person(2).devices[0].clone()).await;
        let published = mallory.publish_certificate();
        published.announced().await.unwrap();
        let mut seen = bob.events();
        let ask = async |payload: usize| {
            let payload = vec![b'x'; payload];
            let request = TrustRequest { service: "cx.ring".to_owned(), payload, ..TrustRequest::default() };
            let value = Value::new(0, TRUST_REQUEST, request.encode());
            let (key, to) = (inbox::key(bob_device.identity.short_id()), bob_device.identity.key().public());
            mallory.put_encrypted(key, to, value).await.unwrap();
        };
        ask(1).await;
        until(&mut seen, ContactEvent::Requested(person(2).id())).await;
        let saves = || bob_device.store.saves.load(Ordering::Relaxed);
        let before = saves();
        let payload = || bob.requests()[0].1.payload.len();
        for len in 2..22 {
            ask(len).await;
            while payload() != len {
                pass(Duration::from_millis(10)).await;
            }
        }
        pass(Duration::from_mins(1)).await;
        let after = saves() - before;
        assert!((1..=2).contains(&after), "{after} writes");
        assert_eq!(bob_device.setup().contacts.request(person(2).id()).unwrap().payload.len(), 21);
    });
}

/// Who asks may be gone when it is accepted, and its announcement with it. The answer lies in its inbox then.
#[test]
fn an_answer_waits_for_who_asked() {
    long_story(41, async |world| {
        let lab = Lab::new(world).await;
        let (alice_device, alice, _, bob) = two(&lab).await;
        let mut seen = bob.events();
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
        alice.shutdown().await;
        pass(Duration::from_mins(15)).await;
        assert!(bob.devices(alice.id()).await.unwrap().is_empty());
        bob.accept(alice.id()).await.unwrap();
        let sent = event(&mut seen, |event| match event {
            AccountEvent::Sent { account, confirmation: true, devices } => Some((*account, *devices)),
            _ => None,
        });
        assert_eq!(sent.await, (alice.id(), 1));
        assert_eq!(bob.contacts().get(alice.id()).unwrap().name.as_deref(), Some("Somebody"));
        let alice = alice_device.start().await;
        let confirmed = async {
            while !alice.contacts().get(bob.id()).is_some_and(|contact| contact.confirmed) {
                pass(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), confirmed).await.unwrap();
    });
}

/// The confirmation is tried again for a minute when nobody is there to get it.
#[test]
fn a_confirmation_does_not_outlive_the_contact() {
    long_story(47, async |world| {
        let lab = Lab::new(world).await;
        let bob_device = Device::new(&lab, &person(1), 0);
        // Of a device that is not there, and whose certificate is nowhere yet.
        let chain = person(2).devices[0].chain().clone();
        let request = TrustRequest { service: "cx.ring".to_owned(), ..TrustRequest::default() };
        let mut setup = bob_device.setup();
        setup.contacts.handle_request(NOW, person(1).id(), &chain, 1, request).unwrap();
        let bob = bob_device.start_with(setup).await;
        let mut seen = bob.events();
        bob.accept(person(2).id()).await.unwrap();
        pass(Duration::from_secs(1)).await;
        bob.ban(person(2).id()).await.unwrap();
        let mallory = lab.bare_dht("mallory", person(2).devices[0].clone()).await;
        let published = mallory.publish_certificate();
        published.announced().await.unwrap();
        pass(Duration::from_mins(2)).await;
        let sent = |event: &AccountEvent| matches!(event, AccountEvent::Sent { .. });
        assert!(!so_far(&mut seen).iter().any(sent), "neither told nor tried to the end");
    });
}

/// Who writes under a key that belongs to nobody is looked for in vain, for half a minute.
#[test]
fn letters_of_nobody_keep_no_others_out() {
    long_story(52, async |world| {
        let lab = Lab::new(world).await;
        let bob_device = Device::new(&lab, &person(1), 0);
        let limits = AccountLimits { senders: 2, ..AccountLimits::default() };
        let bob = bob_device.start_with(AccountConfig { limits, ..bob_device.setup() }).await;
        let friend = Device::new(&lab, &person(0), 0).start().await;
        let stranger = Device::new(&lab, &person(3), 0).start().await;
        befriend(&friend, &bob).await;
        let nobody = lab.bare_dht("nobody", person(2).devices[0].clone()).await;
        let request = TrustRequest { service: "cx.ring".to_owned(), ..TrustRequest::default() };
        for id in 1..=2 {
            let value = Value::new(id, TRUST_REQUEST, request.encode());
            let (key, to) = (inbox::key(bob_device.identity.short_id()), bob_device.identity.key().public());
            nobody.put_encrypted(key, to, value).await.unwrap();
        }
        pass(Duration::from_secs(2)).await;
        let (mut at_friend, mut at_bob) = (friend.events(), bob.events());
        stranger.add_contact(bob.id()).await.unwrap();
        friend.remove(bob.id()).await.unwrap();
        friend.add_contact(bob.id()).await.unwrap();
        let confirmed = until(&mut at_friend, ContactEvent::Confirmed(bob.id()));
        tokio::time::timeout(Duration::from_secs(10), confirmed).await.unwrap();
        // Sooner than it is asked again.
        let requested = until(&mut at_bob, ContactEvent::Requested(stranger.id()));
        tokio::time::timeout(Duration::from_secs(100), requested).await.unwrap();
    });
}

#[test]
fn a_banned_device_is_sent_nothing() {
    long_story(48, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, _, bob) = two(&lab).await;
        let mut seen = bob.events();
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
        bob.set_device_banned(alice.node().device(), true).await.unwrap();
        bob.accept(alice.id()).await.unwrap();
        let sent = event(&mut seen, |event| match event {
            AccountEvent::Sent { confirmation: true, devices, .. } => Some(*devices),
            _ => None,
        });
        assert_eq!(sent.await, 0);
        assert!(!alice.contacts().get(bob.id()).unwrap().confirmed);
    });
}

#[test]
fn what_was_put_off_is_saved_at_the_end() {
    long_story(49, async |world| {
        let lab = Lab::new(world).await;
        let bob_device = Device::new(&lab, &person(1), 0);
        let bob = bob_device.start().await;
        let alice = Device::new(&lab, &person(0), 0).start().await;
        let mut seen = bob.events();
        bob_device.store.broken.store(true, Ordering::Relaxed);
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
        bob_device.store.broken.store(false, Ordering::Relaxed);
        bob.shutdown().await;
        assert!(bob_device.setup().contacts.request(alice.id()).is_some());
        // Once more does no harm, and nothing can be done after it.
        bob.shutdown().await;
        assert_eq!(bob.accept(alice.id()).await, Err(AccountError::Closed));
    });
}

#[test]
fn a_contact_that_is_restored_again_is_no_news() {
    long_story(50, async |world| {
        let lab = Lab::new(world).await;
        let bob = Device::new(&lab, &person(1), 0).start().await;
        let mut seen = bob.events();
        let contact = Contact { added: 1, confirmed: true, ..Contact::default() };
        for _ in 0..2 {
            bob.restore(person(0).id(), contact.clone()).await.unwrap();
        }
        let contacts =
            so_far(&mut seen).into_iter().filter(|event| matches!(event, AccountEvent::Contact(_)));
        assert_eq!(contacts.count(), 1);
    });
}

/// Who is connected already, as a stranger may be, is seen to be there as soon as it is a contact.
#[test]
fn a_new_contact_that_is_connected_is_shown_as_such() {
    story(51, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, _, bob) = two(&lab).await;
        let mut seen = alice.events();
        // Once to be let in, and then to have no watch of it.
        bob.restore(alice.id(), Contact { added: 1, confirmed: true, ..Contact::default() }).await.unwrap();
        let _connection = alice.node().dial(bob.node().device()).await.unwrap();
        alice.restore(bob.id(), Contact { added: 1, confirmed: true, ..Contact::default() }).await.unwrap();
        let connected = event(&mut seen, |event| match event {
            AccountEvent::Presence(PresenceEvent::Account { account, state }) => Some((*account, *state)),
            _ => None,
        });
        assert_eq!(connected.await, (bob.id(), PresenceState::Connected));
    });
}

#[test]
fn a_refused_account_is_not_heard_again() {
    long_story(2, async |world| {
        let lab = Lab::new(world).await;
        let (alice_device, alice, _, bob) = two(&lab).await;
        let mut seen = bob.events();
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
        bob.refuse(alice.id()).await.unwrap();
        until(&mut seen, ContactEvent::Refused(alice.id())).await;
        alice.add_contact(bob.id()).await.unwrap();
        // It is asked again on both occasions.
        pass(Duration::from_mins(20)).await;
        alice.shutdown().await;
        let alice = alice_device.start().await;
        pass(Duration::from_mins(5)).await;
        let contacts =
            so_far(&mut seen).into_iter().filter(|event| matches!(event, AccountEvent::Contact(_)));
        assert_eq!(contacts.count(), 0);
        assert!(!alice.contacts().get(bob.id()).unwrap().confirmed);
        let refused = alice.node().connect(bob.node().device(), "hello").await.unwrap_err();
        assert_eq!(refused, ConnectError::Refused(RefusalReason::NotAllowed));
    });
}

#[test]
fn a_ban_ends_connections_and_admits_no_others() {
    story(3, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, _, bob) = friends(&lab).await;
        let _route = bob.router().serve(Pattern::prefix(""), Admit::CONTACTS, 8).unwrap();
        let connection = alice.node().dial(bob.node().device()).await.unwrap();
        assert_eq!(bob.node().established().len(), 1);
        bob.ban(alice.id()).await.unwrap();
        assert!(bob.node().established().is_empty(), "ready when they are closed");
        connection.closed().await;
        let refused = alice.node().dial(bob.node().device()).await.unwrap_err();
        assert_eq!(refused, ConnectError::Refused(RefusalReason::NotAllowed));
        // Nor from the other side, should the program dial all the same.
        if let Ok(dialled) = bob.node().dial(alice.node().device()).await {
            tokio::time::timeout(Duration::from_secs(5), dialled.closed()).await.unwrap();
        }
        // What it sends is dropped.
        let mut seen = bob.events();
        alice.remove(bob.id()).await.unwrap();
        alice.add_contact(bob.id()).await.unwrap();
        pass(Duration::from_mins(1)).await;
        let told = so_far(&mut seen).into_iter().filter(|event| matches!(event, AccountEvent::Contact(_)));
        assert_eq!(told.count(), 0);
        let error = bob.add_contact(alice.id()).await.unwrap_err();
        assert_eq!(error, AccountError::Contact(ContactError::Banned));
        // Lifted, it may ask again.
        bob.unban(alice.id()).await.unwrap();
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
    });
}

#[test]
fn a_removed_contact_is_disconnected() {
    story(4, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, _, bob) = friends(&lab).await;
        let connection = alice.node().dial(bob.node().device()).await.unwrap();
        bob.remove(alice.id()).await.unwrap();
        connection.closed().await;
        assert_eq!(bob.kind_of(alice.node().identity().chain()), PeerKind::Stranger);
        let refused = alice.node().dial(bob.node().device()).await.unwrap_err();
        assert_eq!(refused, ConnectError::Refused(RefusalReason::NotAllowed));
    });
}

#[test]
fn a_stranger_opens_nothing() {
    story(5, async |world| {
        let lab = Lab::new(world).await;
        let (bob_device, stranger) = (Device::new(&lab, &person(1), 0), Device::new(&lab, &person(2), 0));
        // Even where strangers may connect.
        let setup = AccountConfig { strangers_may_connect: true, ..bob_device.setup() };
        let (bob, stranger) = (bob_device.start_with(setup).await, stranger.start().await);
        let _sip = bob.router().serve(Pattern::exact("sip"), Admit::CONTACTS, 8).unwrap();
        let _sync = bob.router().serve(Pattern::prefix("sync://"), Admit::OWN, 8).unwrap();
        for name in ["sip", "sync://1234", "anything"] {
            let error = stranger.node().connect(bob.node().device(), name).await.unwrap_err();
            assert!(matches!(error, ConnectError::Channel(_)), "{name}: {error:?}");
        }
        assert_eq!(bob.node().established().len(), 1, "one connection, and nothing on it");
    });
}

#[test]
fn a_restarted_node_tells_nothing_twice() {
    long_story(6, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, bob_device, bob) = two(&lab).await;
        let mut seen = bob.events();
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
        bob.shutdown().await;
        // The request still lies in the inbox, and as bob is seen online again it is repeated there, too.
        let bob = bob_device.start().await;
        let mut seen = bob.events();
        pass(Duration::from_mins(12)).await;
        let told = so_far(&mut seen).into_iter().filter(|event| matches!(event, AccountEvent::Contact(_)));
        assert_eq!(told.count(), 0);
        assert_eq!(bob.requests().len(), 1);
        // It can still be accepted, and then is no request any more for a later run.
        let mut seen = alice.events();
        bob.accept(alice.id()).await.unwrap();
        until(&mut seen, ContactEvent::Confirmed(bob.id())).await;
        bob.shutdown().await;
        let bob = bob_device.start().await;
        let mut seen = bob.events();
        pass(Duration::from_mins(2)).await;
        let told = so_far(&mut seen).into_iter().filter(|event| matches!(event, AccountEvent::Contact(_)));
        assert_eq!((told.count(), bob.requests().len()), (0, 0));
        assert!(bob.contacts().get(alice.id()).unwrap().confirmed);
    });
}

#[test]
fn a_confirmation_that_was_lost_is_asked_for() {
    long_story(7, async |world| {
        let lab = Lab::new(world).await;
        let (alice_device, alice, _, bob) = two(&lab).await;
        let mut seen = bob.events();
        alice.add_contact_with(bob.id(), CONVERSATION).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
        alice.shutdown().await;
        bob.accept(alice.id()).await.unwrap();
        // Longer than the confirmation lies in the inbox.
        pass(Duration::from_mins(15)).await;
        let alice = alice_device.start().await;
        assert!(!alice.contacts().get(bob.id()).unwrap().confirmed);
        let mut seen = alice.events();
        let confirmed = until(&mut seen, ContactEvent::Confirmed(bob.id()));
        tokio::time::timeout(Duration::from_secs(30), confirmed).await.unwrap();
    });
}

/// A device that accepted us and does as a Jami of 2023 does: a request for the conversation it has is answered with
/// nothing, as if nothing were amiss; one for another conversation is confirmed.
struct Jami2023 {
    dht: Dht,
    _announced: Announcement,
}

impl Jami2023 {
    async fn start(lab: &Lab) -> Self {
        let identity = person(3).devices[0].clone();
        let config = DhtConfig::default().with_bootstrap(lab.bootstrap.to_string());
        let host = Arc::new(lab.host("jami-2023"));
        let dht = Dht::start(host, config, Some(Arc::new(identity.clone()))).await.unwrap();
        let published = dht.publish_certificate();
        published.announced_for_old_peers().await.unwrap();
        let value = DeviceAnnouncement::sign(&person(3).account, identity.key().public());
        let announced = dht.announce(announcement::key(person(3).id()), value);
        announced.announced().await.unwrap();
        // The certificate stays for as long as the story.
        std::mem::forget(published);
        Self { dht, _announced: announced }
    }

    /// Answers until it has confirmed; how many requests it took.
    async fn answer(&self, to: &Device) -> usize {
        let own = person(3).devices[0].short_id();
        let mut listening = self.dht.listen(inbox::key(own), Query::all());
        let mut requests = 0;
        while let Some(event) = listening.next().await {
            let ListenEvent::New(values) = event else { continue };
            for value in values {
                let request = TrustRequest::decode(value.value.data()).unwrap();
                assert!(value.encrypted && !request.confirm);
                assert_eq!(value.from.as_ref(), Some(to.identity.key().public()));
                requests += 1;
                if request.conversation_id != CONVERSATION {
                    let answer = TrustRequest {
                        service: "cx.ring".to_owned(),
                        conversation_id: CONVERSATION.to_owned(),
                        confirm: true,
                        ..TrustRequest::default()
                    };
                    let value = Value::new(0, TRUST_REQUEST, answer.encode());
                    let (key, to) = (inbox::key(to.identity.short_id()), to.identity.key().public());
                    self.dht.put_encrypted(key, to, value).await.unwrap();
                    return requests;
                }
            }
        }
        panic!("the listen ended")
    }
}

#[test]
fn a_jami_of_2023_that_has_accepted_is_made_to_say_so() {
    long_story(8, async |world| {
        let lab = Lab::new(world).await;
        let jami = Jami2023::start(&lab).await;
        let alice_device = Device::new(&lab, &person(0), 0);
        let alice = alice_device.start().await;
        let mut seen = alice.events();
        alice.add_contact_with(person(3).id(), CONVERSATION).await.unwrap();
        let confirmed = until(&mut seen, ContactEvent::Confirmed(person(3).id()));
        let both = async { tokio::join!(jami.answer(&alice_device), confirmed) };
        // Two that name the conversation, and one that does not, 2 and 4 minutes later.
        let (requests, ()) = tokio::time::timeout(Duration::from_mins(7), both).await.unwrap();
        assert_eq!(requests, 3);
    });
}

#[test]
fn each_device_of_an_account_is_asked() {
    story(9, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, _, bob) = two(&lab).await;
        let bob_2 = Device::new(&lab, &person(1), 1).start().await;
        let (mut at_first, mut at_second) = (bob.events(), bob_2.events());
        let mut seen = alice.events();
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut at_first, ContactEvent::Requested(alice.id())).await;
        until(&mut at_second, ContactEvent::Requested(alice.id())).await;
        let sent = event(&mut seen, |event| match event {
            AccountEvent::Sent { devices, confirmation: false, .. } => Some(*devices),
            _ => None,
        });
        assert_eq!(sent.await, 2);
    });
}

#[test]
fn what_cannot_be_saved_is_not_said() {
    story(10, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, bob_device, bob) = two(&lab).await;
        let (mut seen_by_alice, mut seen) = (alice.events(), bob.events());
        alice.add_contact(bob.id()).await.unwrap();
        until(&mut seen, ContactEvent::Requested(alice.id())).await;
        bob_device.store.broken.store(true, Ordering::Relaxed);
        let error = bob.accept(alice.id()).await.unwrap_err();
        assert_eq!(error, AccountError::NotSaved(std::io::ErrorKind::StorageFull));
        pass(Duration::from_secs(30)).await;
        let confirmed =
            |event: &AccountEvent| matches!(event, AccountEvent::Contact(ContactEvent::Confirmed(_)));
        assert!(!so_far(&mut seen_by_alice).iter().any(confirmed));
        // When there is room again, the next repetition of the request is answered.
        bob_device.store.broken.store(false, Ordering::Relaxed);
        let repeated = until(&mut seen_by_alice, ContactEvent::Confirmed(bob.id()));
        tokio::time::timeout(Duration::from_mins(5), repeated).await.unwrap();
    });
}

#[test]
fn requests_that_cross_make_contacts() {
    story(11, async |world| {
        let lab = Lab::new(world).await;
        let (_, alice, _, bob) = two(&lab).await;
        let (mut seen_by_alice, mut seen_by_bob) = (alice.events(), bob.events());
        let (first, second) = tokio::join!(alice.add_contact(bob.id()), bob.add_contact(alice.id()));
        first.and(second).unwrap();
        until(&mut seen_by_alice, ContactEvent::Confirmed(bob.id())).await;
        until(&mut seen_by_bob, ContactEvent::Confirmed(alice.id())).await;
        // And it works a second time with the same program.
        let carol = Device::new(&lab, &person(2), 0).start().await;
        befriend(&carol, &alice).await;
    });
}
