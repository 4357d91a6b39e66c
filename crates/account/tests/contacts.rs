//! Stories of contacts: asked, answered, lost on the way, refused, banned, saved.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::sync::OnceLock;

use towline_account::PeerKind;
use towline_account::contacts::{
    Contact, ContactEffect, ContactError, ContactEvent, ContactLimits, Contacts, Ignored, MAX_NAME,
    MAX_PAYLOAD, REQUEST_LIFE,
};
use towline_dht::types::TrustRequest;
use towline_identity::{AccountId, Chain, DeviceId, Identity, KeySize, PrivateKey, ShortId, Validity};

const NOW: i64 = 1_800_000_000;
const MINUTE: i64 = 60;
const OWN: AccountId = AccountId([9; 20]);
const CONVERSATION: &str = "44e9279e676b9870783cdbf65742e9145fff3b39";
const OTHER_CONVERSATION: &str = "55e9279e676b9870783cdbf65742e9145fff3b39";

/// Devices: two of one account, one of another.
fn chains() -> &'static [Chain; 3] {
    static MADE: OnceLock<[Chain; 3]> = OnceLock::new();
    MADE.get_or_init(|| {
        let validity = Validity::ten_years_from(NOW);
        let key = || PrivateKey::generate(KeySize::Rsa2048).unwrap();
        let bob = Identity::self_signed(key(), "bob", validity).unwrap();
        let carol = Identity::self_signed(key(), "carol", validity).unwrap();
        let device = |of: &Identity| of.issue_device(key(), "device", validity).unwrap().chain().clone();
        [device(&bob), device(&bob), device(&carol)]
    })
}

fn bob() -> (&'static Chain, AccountId) {
    (&chains()[0], chains()[0].account_id().unwrap())
}

fn carol() -> (&'static Chain, AccountId) {
    (&chains()[2], chains()[2].account_id().unwrap())
}

fn request(conversation_id: &str) -> TrustRequest {
    TrustRequest {
        service: "cx.ring".to_owned(),
        conversation_id: conversation_id.to_owned(),
        payload: b"BEGIN:VCARD".to_vec(),
        confirm: false,
        invited_ms: None,
    }
}

fn answer() -> TrustRequest {
    TrustRequest { confirm: true, payload: Vec::new(), ..request(CONVERSATION) }
}

fn event(event: ContactEvent) -> ContactEffect {
    ContactEffect::Event(event)
}

fn confirmation(to: &Chain, conversation_id: &str) -> ContactEffect {
    ContactEffect::SendConfirmation {
        account: to.account_id().unwrap(),
        device: to.device_id(),
        short_id: Some(to.short_id()),
        conversation_id: conversation_id.to_owned(),
    }
}

fn asking(account: AccountId, conversation_id: &str) -> ContactEffect {
    let conversation_id = conversation_id.to_owned();
    ContactEffect::SendRequest { account, conversation_id, invited_ms: NOW * 1000 }
}

#[test]
fn a_request_waits_for_the_user_and_is_told_once() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    let told = contacts.handle_request(NOW, OWN, device, 1, request(CONVERSATION));
    assert_eq!(told, Ok(vec![event(ContactEvent::Requested(account))]));
    assert!(contacts.take_changed());
    // The same value again; the other device of the account; a repetition that names no conversation.
    assert_eq!(contacts.handle_request(NOW, OWN, device, 1, request(CONVERSATION)), Err(Ignored::Duplicate));
    assert!(!contacts.take_changed(), "a duplicate is no reason to save");
    assert!(contacts.has_treated(device.device_id(), 1));
    assert_eq!(contacts.handle_request(NOW, OWN, &chains()[1], 2, request(CONVERSATION)), Ok(vec![]));
    assert_eq!(contacts.handle_request(NOW + 5, OWN, device, 3, request("")), Ok(vec![]));
    let pending = contacts.request(account).unwrap();
    assert_eq!((pending.conversation_id.as_str(), pending.received), (CONVERSATION, NOW));
    assert_eq!(&*pending.payload, b"BEGIN:VCARD");
    assert_eq!(contacts.kind_of(device, OWN), PeerKind::Stranger, "asking makes nobody a contact");

    let accepted = contacts.accept(NOW + 9, account).unwrap();
    assert_eq!(accepted, [event(ContactEvent::Added(account)), confirmation(device, CONVERSATION)]);
    assert!(contacts.get(account).is_some_and(|contact| contact.is_active() && contact.confirmed));
    assert_eq!(contacts.kind_of(&chains()[1], OWN), PeerKind::Contact, "all its devices are");
    assert_eq!(contacts.accept(NOW, account), Err(ContactError::NoRequest));
}

#[test]
fn our_request_is_answered() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    let added = contacts.add(NOW, OWN, account, CONVERSATION).unwrap();
    assert_eq!(added, [event(ContactEvent::Added(account)), asking(account, CONVERSATION)]);
    let (to, message) = added[1].message(b"card").unwrap();
    assert_eq!((to, message.confirm, message.payload.as_slice()), (account, false, b"card".as_slice()));
    assert_eq!((message.service.as_str(), message.invited_ms), ("cx.ring", Some(NOW * 1000)));
    // Answers of its two devices, or of one to two requests, are told once.
    let told = contacts.handle_request(NOW, OWN, device, 1, answer());
    assert_eq!(told, Ok(vec![event(ContactEvent::Confirmed(account))]));
    assert_eq!(contacts.handle_request(NOW, OWN, &chains()[1], 2, answer()), Ok(vec![]));
    assert_eq!(contacts.handle_online(NOW + 99, account), []);
    assert_eq!(contacts.add(NOW, OWN, account, CONVERSATION), Ok(vec![]), "nothing is left to do");
}

#[test]
fn who_asks_again_is_answered_again() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    contacts.handle_request(NOW, OWN, device, 1, request(CONVERSATION)).unwrap();
    contacts.accept(NOW, account).unwrap();
    // Our answer was lost. It asks again for the same conversation, or for another: ours is the one that counts.
    for (value, conversation) in [(2, CONVERSATION), (3, OTHER_CONVERSATION), (4, "")] {
        let told = contacts.handle_request(NOW, OWN, device, value, request(conversation));
        assert_eq!(told, Ok(vec![confirmation(device, CONVERSATION)]));
    }
}

#[test]
fn requests_that_cross_confirm_each_other() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    contacts.add(NOW, OWN, account, CONVERSATION).unwrap();
    let told = contacts.handle_request(NOW, OWN, device, 1, request(OTHER_CONVERSATION));
    let expected = vec![event(ContactEvent::Confirmed(account)), confirmation(device, CONVERSATION)];
    assert_eq!(told, Ok(expected));
    // And who has asked us already is accepted, not asked.
    let (device, account) = carol();
    contacts.handle_request(NOW, OWN, device, 1, request("")).unwrap();
    let added = contacts.add(NOW, OWN, account, CONVERSATION).unwrap();
    assert_eq!(added, [event(ContactEvent::Added(account)), confirmation(device, "")]);
}

#[test]
fn a_contact_that_has_not_answered_is_asked_again_with_and_without_the_conversation() {
    let (_, account) = bob();
    let mut contacts = Contacts::default();
    contacts.add(NOW, OWN, account, CONVERSATION).unwrap();
    assert_eq!(contacts.poll_timeout(), None, "nobody is asked that is not there");
    assert_eq!(contacts.handle_online(NOW + 10, account), [], "it was asked just now");
    // It stays online: 2, 4, 8 minutes and so on after the one before.
    let mut at = NOW;
    for (pause, conversation) in [(2, CONVERSATION), (4, ""), (8, CONVERSATION), (16, "")] {
        at += pause * MINUTE;
        assert_eq!(contacts.poll_timeout(), Some(at));
        assert_eq!(contacts.handle_timeout(at - 1), []);
        assert_eq!(contacts.handle_timeout(at), [asking(account, conversation)]);
    }
    // It goes and comes.
    contacts.handle_offline(account);
    assert_eq!(contacts.poll_timeout(), None);
    assert_eq!(contacts.handle_online(at + MINUTE, account), [asking(account, CONVERSATION)]);
    // After a week only when it comes online.
    at = NOW + REQUEST_LIFE;
    contacts.handle_timeout(at - 1);
    assert_eq!(contacts.poll_timeout(), None);
    contacts.handle_offline(account);
    assert_eq!(contacts.handle_online(at + MINUTE, account).len(), 1);
    // The answer ends it; so does the end of the contact.
    contacts.handle_offline(account);
    contacts.remove(at, account).unwrap();
    assert_eq!(contacts.handle_online(at + MINUTE, account), []);
}

#[test]
fn a_refusal_holds_for_a_week() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    contacts.handle_request(NOW, OWN, device, 1, request(CONVERSATION)).unwrap();
    assert_eq!(contacts.refuse(NOW, account), Ok(vec![event(ContactEvent::Refused(account))]));
    assert_eq!(contacts.refuse(NOW, account), Err(ContactError::NoRequest));
    let again = |contacts: &mut Contacts, at, value| {
        contacts.handle_request(at, OWN, device, value, request(CONVERSATION))
    };
    assert_eq!(again(&mut contacts, NOW + REQUEST_LIFE - 1, 2), Err(Ignored::Refused));
    assert!(again(&mut contacts, NOW + REQUEST_LIFE, 3).is_ok_and(|effects| effects.len() == 1));
    // Our own mind may change.
    contacts.refuse(NOW, account).unwrap();
    let added = contacts.add(NOW, OWN, account, "").unwrap();
    assert_eq!(added[1], asking(account, ""));
}

#[test]
fn what_is_banned_does_not_exist() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    contacts.handle_request(NOW, OWN, device, 1, request("")).unwrap();
    let banned = contacts.ban(NOW, OWN, account).unwrap();
    assert_eq!(banned, [event(ContactEvent::Banned(account)), ContactEffect::Enforce]);
    assert_eq!(contacts.ban(NOW, OWN, account), Ok(vec![]));
    assert!(contacts.request(account).is_none());
    assert_eq!(contacts.kind_of(device, OWN), PeerKind::Banned);
    assert_eq!(contacts.handle_request(NOW, OWN, device, 2, request("")), Err(Ignored::Banned));
    assert_eq!(contacts.add(NOW, OWN, account, ""), Err(ContactError::Banned));
    contacts.unban(account).unwrap();
    assert_eq!(contacts.unban(account), Err(ContactError::NotBanned));
    assert_eq!(contacts.kind_of(device, OWN), PeerKind::Stranger);
    // A single device, of whatever account.
    assert_eq!(contacts.set_device_banned(device.device_id(), true), Ok(vec![ContactEffect::Enforce]));
    assert_eq!(contacts.set_device_banned(device.device_id(), true), Ok(vec![]));
    assert_eq!(contacts.kind_of(device, account), PeerKind::Banned, "even of the own account");
    assert_eq!(contacts.kind_of(&chains()[1], account), PeerKind::OwnDevice);
    assert_eq!(contacts.handle_request(NOW, OWN, device, 2, request("")), Err(Ignored::Banned));
    assert_eq!(contacts.set_device_banned(device.device_id(), false), Ok(vec![]));
}

#[test]
fn a_removed_contact_is_a_stranger_and_its_old_requests_are_old() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    contacts.add(NOW, OWN, account, "").unwrap();
    assert_eq!(contacts.remove(NOW, account).unwrap()[1], ContactEffect::Enforce);
    assert_eq!(contacts.remove(NOW, account), Err(ContactError::NotAContact));
    assert_eq!(contacts.kind_of(device, OWN), PeerKind::Stranger);
    assert_eq!(contacts.handle_request(NOW, OWN, device, 1, answer()), Err(Ignored::Unasked));
    let old = TrustRequest { invited_ms: Some((NOW - 9) * 1000), ..request("") };
    assert_eq!(contacts.handle_request(NOW, OWN, device, 2, old), Err(Ignored::Outdated));
    let new = TrustRequest { invited_ms: Some((NOW + 9) * 1000), ..request("") };
    assert!(contacts.handle_request(NOW, OWN, device, 3, new).is_ok());
    contacts.accept(NOW, account).unwrap();
    assert!(contacts.get(account).unwrap().is_active(), "in the same second, too");
}

#[test]
fn what_cannot_be_a_request_is_dropped() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    let mut handle =
        |request: TrustRequest| contacts.handle_request(NOW, OWN, device, 1, request).unwrap_err();
    assert_eq!(handle(TrustRequest { service: "cx.other".to_owned(), ..request("") }), Ignored::Service);
    assert_eq!(handle(TrustRequest { payload: vec![0; MAX_PAYLOAD + 1], ..request("") }), Ignored::Payload);
    assert_eq!(handle(request("../../etc")), Ignored::ConversationId);
    assert_eq!(handle(request(&"a".repeat(65))), Ignored::ConversationId);
    assert_eq!(handle(answer()), Ignored::Unasked);
    let own = contacts.handle_request(NOW, account, device, 1, request(""));
    assert_eq!(own, Err(Ignored::OwnAccount));
    let alone = device.issuer().unwrap();
    assert_eq!(contacts.handle_request(NOW, OWN, &alone, 1, request("")), Err(Ignored::NoAccount));
    assert_eq!(contacts.kind_of(&alone, OWN), PeerKind::Stranger);
    assert!(!contacts.take_changed());
    assert_eq!(contacts.add(NOW, OWN, OWN, ""), Err(ContactError::OwnAccount));
    assert_eq!(contacts.ban(NOW, OWN, OWN), Err(ContactError::OwnAccount));
    assert_eq!(contacts.add(NOW, OWN, account, "x"), Err(ContactError::ConversationId));
}

#[test]
fn a_restarted_program_knows_what_it_knew() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    contacts.handle_request(NOW, OWN, device, u64::MAX, request(CONVERSATION)).unwrap();
    let bytes = TrustRequest { payload: vec![0xff, 0], ..request("") };
    contacts.handle_request(NOW, OWN, carol().0, 2, bytes).unwrap();
    contacts.add(NOW, OWN, AccountId([1; 20]), CONVERSATION).unwrap();
    contacts.set_name(AccountId([1; 20]), Some("é".repeat(MAX_NAME))).unwrap();
    contacts.ban(NOW, OWN, AccountId([2; 20])).unwrap();
    contacts.set_device_banned(DeviceId([3; 32]), true).unwrap();
    assert!(contacts.note_own_device(NOW, ShortId([4; 20])));
    contacts.handle_online(NOW, AccountId([1; 20]));
    contacts.take_changed();

    let mut again = Contacts::from_json(&contacts.to_json()).unwrap();
    assert_eq!(again.handle_request(NOW, OWN, device, u64::MAX, request("")), Err(Ignored::Duplicate));
    assert!(!again.note_own_device(NOW, ShortId([4; 20])));
    assert_eq!(again.poll_timeout(), None, "who is online is seen anew");
    contacts.handle_offline(AccountId([1; 20]));
    assert_eq!(again, contacts);
    assert_eq!(again.get(AccountId([1; 20])).unwrap().name.as_ref().map(String::len), Some(MAX_NAME));
    again.refuse(NOW, account).unwrap();
    let mut again = Contacts::from_json(&again.to_json()).unwrap();
    let told = again.handle_request(NOW, OWN, device, 7, request(""));
    assert_eq!(told, Err(Ignored::Refused), "nor what was refused");

    for text in ["", "[]", r#"{"contacts":{"zz":{}}}"#, r#"{"seen":[["x","1",0]]}"#] {
        assert!(Contacts::from_json(text).is_err(), "{text}");
    }
    assert_eq!(Contacts::from_json("{}").unwrap(), Contacts::default());
}

#[test]
fn a_contact_reads_as_in_the_archive_of_jami() {
    let text = r#"{"added":1700000000,"confirmed":true,"conversationId":"44e9279e676b9870783cdbf65742e9145fff3b39"}"#;
    let contact: Contact = serde_json::from_str(text).unwrap();
    assert!(contact.is_active() && contact.confirmed);
    assert_eq!(serde_json::to_string(&contact).unwrap(), text);
    let text = r#"{"added":1700000000,"banned":true,"removed":1700000001}"#;
    let banned: Contact = serde_json::from_str(text).unwrap();
    let mut contacts = Contacts::default();
    assert!(contacts.restore(bob().1, banned));
    assert_eq!(contacts.kind_of(bob().0, OWN), PeerKind::Banned);
}

#[test]
fn times_that_no_clock_has_shown_do_no_harm() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    for (added, removed) in [(i64::MAX, i64::MAX), (0, i64::MAX), (i64::MAX, 0), (i64::MIN, i64::MIN)] {
        let contact = Contact { added, removed, ..Contact::default() };
        assert!(contacts.restore(account, contact));
        if contacts.get(account).is_some_and(Contact::is_active) {
            contacts.remove(NOW, account).unwrap();
        }
        for later in 1..4 {
            contacts.add(NOW + later * 10, OWN, account, "").unwrap();
            assert!(contacts.get(account).unwrap().is_active(), "{added} {removed}");
            contacts.remove(NOW + later * 10 + 1, account).unwrap();
            assert!(!contacts.get(account).unwrap().is_active(), "{added} {removed}");
        }
    }
    let contact = Contact { removed: i64::MAX, ..Contact::default() };
    assert!(contacts.restore(account, contact));
    let invited = TrustRequest { invited_ms: Some(NOW * 1000), ..request("") };
    let told = contacts.handle_request(NOW, OWN, device, 1, invited);
    assert_eq!(told, Ok(vec![event(ContactEvent::Requested(account))]));
}

#[test]
fn a_ban_stands_although_there_is_a_request() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    contacts.handle_request(NOW, OWN, device, 1, request("")).unwrap();
    // As a file may say that was put together from two.
    let mut file: serde_json::Value = serde_json::from_str(&contacts.to_json()).unwrap();
    file["contacts"][account.to_string()] = serde_json::json!({ "banned": true });
    let mut contacts = Contacts::from_json(&file.to_string()).unwrap();
    assert!(contacts.request(account).is_some());
    assert_eq!(contacts.add(NOW, OWN, account, ""), Err(ContactError::Banned));
    assert_eq!(contacts.accept(NOW, account), Err(ContactError::Banned));
    assert!(contacts.get(account).unwrap().banned);
}

#[test]
fn the_short_id_of_who_asked_is_kept_and_may_be_missing() {
    let (device, account) = bob();
    let mut contacts = Contacts::default();
    contacts.handle_request(NOW, OWN, device, 1, request("")).unwrap();
    let mut contacts = Contacts::from_json(&contacts.to_json()).unwrap();
    assert_eq!(contacts.request(account).unwrap().short_id, Some(device.short_id()));
    let mut file: serde_json::Value = serde_json::from_str(&contacts.to_json()).unwrap();
    let request = file["requests"][account.to_string()].as_object_mut().unwrap();
    request.remove("shortId").unwrap();
    let mut old = Contacts::from_json(&file.to_string()).unwrap();
    assert_eq!(old.request(account).unwrap().short_id, None);
    let asked = |effects: Vec<ContactEffect>| effects.iter().find_map(ContactEffect::device).unwrap();
    assert_eq!(asked(old.accept(NOW, account).unwrap()), (device.device_id(), None));
    let known = (device.device_id(), Some(device.short_id()));
    assert_eq!(asked(contacts.accept(NOW, account).unwrap()), known);
}

#[test]
fn everything_is_bounded() {
    let limits =
        ContactLimits { contacts: 3, requests: 1, refused: 2, banned_devices: 1, seen: 2, own_devices: 2 };
    let mut contacts = Contacts::new(limits);
    let id = |number| AccountId([number; 20]);
    for number in 1..=3 {
        contacts.add(NOW, OWN, id(number), "").unwrap();
    }
    assert_eq!(contacts.add(NOW, OWN, id(4), ""), Err(ContactError::Full { limit: 3 }));
    assert_eq!(contacts.ban(NOW, OWN, id(4)), Err(ContactError::Full { limit: 3 }));
    contacts.remove(NOW, id(2)).unwrap();
    contacts.add(NOW, OWN, id(4), "").unwrap();
    assert!(contacts.get(id(2)).is_none(), "a removed one makes room");

    let (device, account) = bob();
    contacts.handle_request(NOW, OWN, device, 1, request("")).unwrap();
    let late = contacts.handle_request(NOW + REQUEST_LIFE, OWN, carol().0, 1, request(""));
    assert_eq!(late, Err(Ignored::Full));
    assert!(!contacts.has_treated(carol().0.device_id(), 1), "it may come again when there is room");
    contacts.handle_request(NOW + REQUEST_LIFE + 1, OWN, carol().0, 1, request("")).unwrap();
    assert!(contacts.request(account).is_none(), "an old one makes room");
    for value in 10..20 {
        contacts.handle_request(NOW + value, OWN, carol().0, value as u64, request("")).unwrap();
    }
    let remembered = (0..20).filter(|value| contacts.has_treated(carol().0.device_id(), *value)).count();
    assert_eq!(remembered, 2);
    contacts.set_device_banned(DeviceId([1; 32]), true).unwrap();
    let full = contacts.set_device_banned(DeviceId([2; 32]), true);
    assert_eq!(full, Err(ContactError::Full { limit: 1 }));
    for number in 0..9 {
        contacts.note_own_device(NOW + i64::from(number), ShortId([number; 20]));
    }
    assert_eq!(contacts.own_devices().collect::<Vec<_>>(), [ShortId([7; 20]), ShortId([8; 20])]);
}
