//! Texts between accounts.

use std::time::Duration;

use futures_util::FutureExt as _;
use towline::account::Account;
use towline::account::contacts::ContactEvent;
use towline::dht::{ListenEvent, Query, SecureValue, Value};
use towline::sip::{DeviceError, TextError, Texts, media};
use towline_account::inbox;
use towline_dht::types::{IM_MESSAGE, ImMessage, Payload as _};

use crate::common::{Lab, pass, story};
use crate::people::{Device, NOW, friends, person, two, until};

#[test]
fn contacts_write_to_all_devices_of_each_other() {
    story(61, async |world| {
        let lab = Lab::new(world).await;
        let (alice, a, _bob, b) = friends(&lab).await;
        let second = Device::new(&lab, &alice.person, 1);
        let a2 = second.start().await;
        // Contacts are not shared between devices yet: the second one asks for itself.
        let mut seen = a2.events();
        a2.add_contact(b.id()).await.unwrap();
        until(&mut seen, ContactEvent::Confirmed(b.id())).await;
        let (of_a, of_a2, of_b) =
            (Texts::start(&a).unwrap(), Texts::start(&a2).unwrap(), Texts::start(&b).unwrap());
        let delivery = of_b.send(a.id(), media::TEXT, "to both of you").await.unwrap();
        assert_eq!((delivery.delivered.len(), &delivery.failed[..]), (2, &[][..]));
        for texts in [&of_a, &of_a2] {
            let text = texts.next().await.unwrap();
            assert_eq!((text.peer.account, &text.body[..]), (b.id(), &b"to both of you"[..]));
        }
        of_a2.send(b.id(), media::TEXT, "from the second").await.unwrap();
        assert_eq!(of_b.next().await.unwrap().peer.device, a2.node().device());
        // To the own account means: to the other device.
        let delivery = of_a.send(a.id(), media::TEXT, "to myself").await.unwrap();
        assert_eq!(delivery.delivered, [a2.node().device()]);
        assert_eq!(of_a2.next().await.unwrap().body, b"to myself");
        assert!(Texts::start(&a).is_err(), "the name is taken");
    });
}

#[test]
fn strangers_write_in_vain() {
    story(62, async |world| {
        let lab = Lab::new(world).await;
        let (_alice, a, bob, _b) = two(&lab).await;
        let texts = Texts::start(&a).unwrap();
        let error = texts.send(bob.person.id(), media::TEXT, "hello?").await.unwrap_err();
        let TextError::Unreachable(failed) = error else { panic!("{error:?}") };
        assert!(matches!(failed[..], [(_, DeviceError::Connect(_) | DeviceError::TimedOut)]), "{failed:?}");
    });
}

#[test]
fn a_ban_ends_the_conversation() {
    story(63, async |world| {
        let lab = Lab::new(world).await;
        let (_alice, a, _bob, b) = friends(&lab).await;
        let (of_a, of_b) = (Texts::start(&a).unwrap(), Texts::start(&b).unwrap());
        of_a.send(b.id(), media::TEXT, "one").await.unwrap();
        b.ban(a.id()).await.unwrap();
        assert!(of_a.send(b.id(), media::TEXT, "two").await.is_err());
        assert_eq!(of_b.next().await.unwrap().body, b"one");
        b.shutdown().await;
        assert_eq!(of_b.next().await.map(|text| text.body), None);
        a.shutdown().await;
        assert_eq!(of_a.send(b.id(), media::TEXT, "three").await, Err(TextError::Closed));
    });
}

/// Puts a message where the daemon does when it has no channel.
async fn post(from: &Account, to: &Account, message: &ImMessage) {
    let to = to.node().identity();
    let value = Value::new(0, IM_MESSAGE, message.encode());
    from.node().dht().put_encrypted(inbox::key(to.short_id()), to.key().public(), value).await.unwrap();
}

fn letter(id: u64, text: &str, age: i64) -> ImMessage {
    ImMessage { id, message: text.to_owned(), date: NOW - age, ..ImMessage::default() }
}

#[test]
fn what_lies_in_the_inbox_is_told_and_acknowledged() {
    story(64, async |world| {
        let lab = Lab::new(world).await;
        let (_alice, a, _bob, b) = friends(&lab).await;
        let stranger = Device::new(&lab, &person(2), 0).start().await;
        let texts = Texts::start(&a).unwrap();
        // The answers lie beside the letters, and only their sender can read them.
        let inbox_of_a = inbox::key(a.node().identity().short_id());
        let mut answers = b.node().dht().listen(inbox_of_a, Query::all());

        post(&stranger, &a, &letter(1, "let me in", 0)).await;
        post(&b, &a, &letter(2, "too old", 3600)).await;
        post(&b, &a, &letter(3, "", 0)).await;
        let composing = "<isComposing><state>active</state></isComposing>";
        let typed = ImMessage { datatype: media::COMPOSING.to_owned(), ..letter(4, composing, 0) };
        post(&b, &a, &typed).await;
        let text = texts.next().await.unwrap();
        assert_eq!((text.peer.account, text.peer.device), (b.id(), b.node().device()));
        assert_eq!((&*text.content_type, &text.body[..]), (media::COMPOSING, composing.as_bytes()));
        assert_eq!(text.message_id.as_deref(), Some("0000000000000004"));

        // The same again, as another value: it is neither told nor acknowledged again.
        post(&b, &a, &typed).await;
        post(&b, &a, &letter(5, "plain", 0)).await;
        let text = texts.next().await.unwrap();
        assert_eq!((&*text.content_type, &text.body[..]), (media::TEXT, &b"plain"[..]));

        let mut acknowledged = Vec::new();
        while acknowledged.len() < 2 {
            let Some(ListenEvent::New(values)) = answers.next().await else { panic!("it is heard") };
            acknowledged.extend(values.iter().filter_map(acknowledgement));
        }
        acknowledged.sort_unstable();
        assert_eq!(acknowledged, [4, 5]);
        post(&b, &a, &typed).await;
        pass(Duration::from_secs(30)).await;
        while let Some(Some(event)) = answers.next().now_or_never() {
            let ListenEvent::New(values) = event else { continue };
            assert_eq!(values.iter().find_map(acknowledgement), None);
        }
        a.shutdown().await;
        assert_eq!(texts.next().await.map(|text| text.body), None);
    });
}

fn acknowledgement(value: &SecureValue) -> Option<u64> {
    if value.value.value_type() != IM_MESSAGE {
        return None;
    }
    let message = ImMessage::decode(value.value.data()).unwrap();
    assert!(value.encrypted && message.message.is_empty());
    Some(message.id)
}

#[test]
fn who_is_banned_is_not_even_dialled() {
    story(68, async |world| {
        let lab = Lab::new(world).await;
        let (_alice, a, _bob, b) = friends(&lab).await;
        let texts = Texts::start(&a).unwrap();
        a.ban(b.id()).await.unwrap();
        let mut steps = a.node().events();
        assert_eq!(texts.send(b.id(), media::TEXT, "why?").await, Err(TextError::Nobody(b.id())));
        assert!(steps.try_recv().is_err(), "no attempt was made");
    });
}
