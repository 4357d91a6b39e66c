//! Accounts that become contacts, see each other, write to each other, and stop doing so; as processes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::Instant;

use common::{DEADLINE, Running, World};

fn message(ended: &common::Ended) -> String {
    ended.event("error")["message"].as_str().unwrap().to_owned()
}

#[test]
fn from_a_request_to_a_ban() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let mut at_ben = ben.online(&[]);
    // A stranger gets nothing.
    let stranger = anna.run(&["text", &ben.account, "hello?"]).fails_with(4);
    assert!(message(&stranger).contains("contact"), "{stranger:?}");

    let asked = anna.run(&["contact", "add", &ben.account, "--name", "Ben"]).success();
    assert_eq!(asked.event("contact")["state"], "asked");
    assert_eq!(asked.event("request_sent")["devices"], 1);
    let request = at_ben.until("contact_request");
    assert_eq!((&request["account"], &request["device"]), (&(*anna.account).into(), &(*anna.id).into()));
    let waiting = ben.offline(&["contact", "requests", "--offline"]).success().event("contact_request");
    assert_eq!(waiting["account"], *anna.account);

    let mut at_anna = anna.online(&[]);
    let seen = at_anna.until_such("presence", |seen| seen["state"] == "announced");
    assert_eq!((&seen["account"], &seen["name"]), (&(*ben.account).into(), &"Ben".into()));
    let accepted = ben.run(&["contact", "accept", &anna.account]).success();
    assert_eq!(accepted.event("request_sent")["confirmation"], true);
    assert_eq!(at_anna.until("contact_confirmed")["account"], *ben.account);
    // The process that is online goes by what the other did.
    assert_eq!(at_ben.until("contact")["state"], "confirmed");
    at_ben.until_such("presence", |seen| seen["account"] == *anna.account && seen["state"] != "offline");
    assert_eq!(anna.offline(&["contact", "list"]).success().event("contact")["state"], "confirmed");

    let present = anna.run(&["presence"]).success().event("presence");
    assert_eq!(
        (&present["state"], &present["devices"][0]["device"]),
        (&"announced".into(), &(*ben.id).into())
    );
    let sent = anna.run(&["text", &ben.account, "Grüße\u{1b}!"]).success().event("text_sent");
    assert_eq!(sent["devices"], serde_json::json!([ben.id]));
    let text = at_ben.until("text");
    assert_eq!((&text["text"], &text["device"]), (&"Grüße\u{1b}!".into(), &(*anna.id).into()));
    assert_eq!(text["message_id"], sent["message_id"]);
    let mut lines = Running::spawn(ben.online_command(&["text", &anna.account]));
    lines.write(b"one\n\ntwo\r\n");
    assert_eq!(at_anna.until("text")["text"], "one");
    assert_eq!(at_anna.until("text")["text"], "two");
    lines.end_input();
    lines.ended().success();

    // Offline in one process, in force in the other.
    assert_eq!(ben.offline(&["contact", "ban", &anna.account]).success().event("contact")["state"], "banned");
    at_ben.until_such("contact", |contact| contact["state"] == "banned");
    let refused = anna.run(&["text", &ben.account, "why?", "--timeout", "3"]);
    assert!(matches!(refused.code, Some(3 | 4)), "{refused:?}");
    anna.offline(&["contact", "remove", &ben.account]).success();
    at_anna.until_such("contact", |contact| contact["state"] == "none");
    anna.run(&["contact", "add", &ben.account]).success();
    ben.offline(&["contact", "unban", &anna.account]).success();
    at_ben.until_such("contact", |contact| contact["state"] == "none");
    assert!(
        ben.offline(&["contact", "requests", "--offline"]).success().out.is_empty(),
        "asked while banned"
    );
}

#[test]
fn requests_are_accepted_and_refused_without_being_online() {
    let world = World::new();
    let (anna, ben, carl) = (world.device("anna"), world.device("ben"), world.device("carl"));
    // Nobody to ask yet: the account announces no device.
    let lost = anna.run(&["contact", "add", &ben.account, "--timeout", "5"]).fails_with(3);
    assert!(message(&lost).contains("announces"), "{lost:?}");
    assert_eq!(anna.offline(&["contact", "list"]).success().event("contact")["state"], "asked");
    let no_request = ben.run(&["contact", "accept", &anna.account]).fails_with(2);
    assert!(message(&no_request).contains("no request"), "{no_request:?}");

    // It was announced a moment ago, and that lasts.
    ben.online(&[]).kill();
    anna.run(&["contact", "add", &ben.account]).success();
    carl.run(&["contact", "add", &ben.account]).success();
    let asked = ben.run(&["contact", "requests"]).success();
    assert_eq!(
        asked.events().iter().filter(|event| event["event"] == "contact_request").count(),
        2,
        "{asked:?}"
    );
    ben.run(&["contact", "refuse", &carl.account]).success();
    let _at_anna = anna.online(&["--accept-requests"]);
    ben.run(&["contact", "accept", &anna.account]).success();
    assert!(ben.offline(&["contact", "requests", "--offline"]).success().out.is_empty());
    // Refused for now, however often it asks.
    carl.run(&["contact", "add", &ben.account]).success();
    assert!(!ben.run(&["contact", "requests"]).success().out.contains(&carl.account));

    let wrong = ben.run(&["contact", "add", &ben.account]).fails_with(2);
    assert!(message(&wrong).contains("own account"), "{wrong:?}");
    for words in [["contact", "remove", &carl.account], ["contact", "unban", &carl.account]] {
        ben.offline(&words).fails_with(2);
    }
    ben.offline(&["contact", "ban", &carl.id]).success();
    let listed = ben.offline(&["contact", "list"]).success();
    assert_eq!(listed.event("banned_device")["device"], *carl.id);
}

#[test]
fn all_devices_are_seen_and_a_revoked_one_is_refused() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let phone = anna.further(world.path("phone"));
    // Contacts by what is written, in both homes of the account.
    ben.offline(&["contact", "add", &anna.account, "--no-request"]).success();
    for device in [&anna, &phone] {
        device.offline(&["contact", "add", &ben.account, "--no-request"]).success();
    }
    let mut at_ben = ben.online(&[]);
    let mut at_anna = anna.online(&[]);
    let at_phone = phone.online(&[]);
    at_ben.until_such("presence", |seen| seen["devices"].as_array().unwrap().len() == 2);
    let new = at_anna.until("own_device");
    assert_eq!(new["device"], *phone.id);
    let seen = ben.run(&["presence", &anna.account]).success().event("presence");
    assert_eq!(seen["devices"].as_array().unwrap().len(), 2);
    let sent = ben.run(&["text", &anna.account, "to both"]).success().event("text_sent");
    assert_eq!(sent["devices"].as_array().unwrap().len(), 2, "{sent}");
    assert_eq!(at_anna.until("text")["text"], "to both");
    phone.run(&["text", &ben.account, "from the phone"]).success();
    assert_eq!(at_ben.until("text")["device"], *phone.id);

    let own = anna.run(&["account", "revoke", &anna.id]).fails_with(2);
    assert!(message(&own).contains("this device"), "{own:?}");
    let foreign = anna.run(&["account", "revoke", &ben.id]).fails_with(2);
    assert!(message(&foreign).contains("not a device of this account"), "{foreign:?}");
    let revoked = anna.run(&["account", "revoke", &phone.id]).success().event("device_revoked");
    assert_eq!(revoked["device"], *phone.id);
    assert!(revoked["published_on"].as_u64() >= Some(1), "{revoked}");
    assert_eq!(at_ben.until("revocation")["account"], *anna.account);
    // It does not say itself that it is revoked, as `text` does once it knows.
    let refused = phone.run(&["pipe", &ben.id, "sip", "--timeout", "3"]);
    assert!(matches!(refused.code, Some(3 | 4)), "{refused:?}");
    let refused = phone.run(&["text", &ben.account, "still me", "--timeout", "3"]);
    assert!(matches!(refused.code, Some(3 | 4 | 6)), "{refused:?}");
    let seen = ben.run(&["presence", &anna.account]).success().event("presence");
    assert_eq!(seen["devices"].as_array().unwrap().len(), 1, "{seen}");
    anna.run(&["text", &ben.account, "me"]).success();
    assert_eq!(at_ben.until("text")["text"], "me");
    // Those who come later know it too: it is kept here, and kept on the DHT by those of the account who are online.
    drop((at_ben, at_phone));
    assert_eq!(anna.offline(&["account", "show"]).success().event("account")["revoked"], 1);
    let _again = ben.online(&[]);
    let refused = phone.run(&["pipe", &ben.id, "sip", "--timeout", "3"]);
    assert!(matches!(refused.code, Some(3 | 4)), "{refused:?}");
}

#[test]
fn contacts_count_for_files_too() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (into, file) = (world.path("in"), world.file("letter", b"Dear Ben"));
    ben.offline(&["contact", "add", &anna.account, "--no-request"]).success();
    let mut receiving = ben.receive(&into, &["--yes"]);
    // By the account: `receive` announces the device.
    anna.send(&ben.account, &[&file]).ended().success();
    receiving.until("file_received");
    ben.offline(&["contact", "ban", &anna.account]).success();
    // It goes by that soon.
    let until = Instant::now() + DEADLINE;
    let mut last = anna.send(&ben.id, &[&file]).ended();
    while last.code != Some(4) && Instant::now() < until {
        last = anna.send(&ben.id, &[&file]).ended();
    }
    last.fails_with(4);
    // Nor is anything sent to somebody banned.
    ben.offline(&["contact", "unban", &anna.account]).success();
    anna.offline(&["contact", "ban", &ben.account]).success();
    let banned = anna.send(&ben.id, &[&file]).ended().fails_with(2);
    assert!(message(&banned).contains("banned"), "{banned:?}");
}

#[test]
fn presence_is_watched() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let nobody = anna.run(&["presence"]).success();
    assert_eq!(nobody.out, "");
    let offline = anna.run(&["presence", &ben.account]).success().event("presence");
    assert_eq!((&offline["state"], &offline["devices"]), (&"offline".into(), &serde_json::json!([])));
    let mut watching = Running::spawn(anna.online_command(&["presence", &ben.account, "--watch"]));
    assert_eq!(watching.until("presence")["state"], "offline");
    let _at_ben = ben.online(&[]);
    let online = watching.until("presence");
    assert_eq!((&online["state"], &online["devices"][0]["device"]), (&"announced".into(), &(*ben.id).into()));
    watching.signal("INT");
    watching.ended().fails_with(130);
}

#[test]
fn without_a_network() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let phone = anna.further(world.path("phone"));
    let nowhere = ["--timeout", "1", "--loopback", "--bootstrap", "127.0.0.1:9"];
    let run = |words: &[&str]| anna.offline(&[words, &nowhere].concat());
    for words in [&["contact", "add", &ben.account][..], &["contact", "requests"]] {
        let lost = run(words).fails_with(3);
        assert!(message(&lost).contains("DHT"), "{lost:?}");
    }
    // What can be done is done: the contact is kept, the device is revoked.
    assert_eq!(anna.offline(&["contact", "list"]).success().event("contact")["state"], "asked");
    let revoked = run(&["account", "revoke", &phone.id]).success().event("device_revoked");
    assert_eq!(revoked["published_on"], 0);
    assert_eq!(anna.offline(&["account", "show"]).success().event("account")["revoked"], 1);
    let lost = run(&["account", "revoke", &ben.id]).fails_with(3);
    assert!(message(&lost).contains("@FILE"), "{lost:?}");
}

#[test]
fn an_answer_that_is_faster_than_the_news_of_the_question() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let mut at_ben = ben.online(&["--accept-requests"]);
    let mut at_anna = anna.online(&[]);
    // One process asks; the answer comes to the other, which may not know of the question yet.
    anna.run(&["contact", "add", &ben.account]).success();
    assert_eq!(at_anna.until("contact_confirmed")["account"], *ben.account);
    assert_eq!(anna.offline(&["contact", "list"]).success().event("contact")["state"], "confirmed");
    at_ben.until_such("contact", |contact| contact["state"] == "confirmed");
}
