//! The ids that other programs give, wherever one is dialled.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;

use common::{DEADLINE, Device, Running, World, names, towline};
use towline::account::receipt::Receipt;
use towline::account::{Account, AccountConfig};
use towline::dht::{Dht, DhtConfig};
use towline::identity::{Chain, GenerateOptions, Hierarchy, Identity, KeySize, PrivateKey, PublicKey};
use towline::{Admit, Config, Eras, Pattern};
use towline_account::announcement::{self, DeviceAnnouncement};

/// The account of a device, which can sign for it.
fn account(device: &Device) -> Identity {
    let read = |name: &str| std::fs::read_to_string(device.home.join(name)).unwrap();
    let chain = Chain::unpack(read("device.crt").as_bytes()).unwrap().issuer().unwrap();
    Identity::new(PrivateKey::from_pkcs8_pem(&read("account.key"), None).unwrap(), chain).unwrap()
}

fn key(device: &Device) -> PublicKey {
    Chain::unpack(&std::fs::read(device.home.join("device.crt")).unwrap()).unwrap().public_key().clone()
}

/// Says on the DHT that these devices belong to the account, as Jami does, and other things that do not count.
fn announce(world: &World, account: &Identity, devices: &[PublicKey]) -> (tokio::runtime::Runtime, Dht) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dht = runtime.block_on(async {
        let config = DhtConfig::on_loopback().with_bootstrap(&world.bootstrap);
        let dht = Dht::start(Arc::new(towline::net::Os), config, None).await.unwrap();
        tokio::time::timeout(DEADLINE, dht.connected()).await.unwrap().unwrap();
        let at = announcement::key(account.short_id().into());
        for (number, device) in (1..).zip(devices) {
            let mut value = DeviceAnnouncement::sign(account, device);
            value.id = number;
            dht.put(at, value, towline::dht::PutOptions::default()).await.unwrap();
        }
        dht
    });
    (runtime, dht)
}

#[test]
fn an_account_stands_for_its_devices() {
    let world = World::new();
    let (anna, ben, cara) = (world.device("anna"), world.device("ben"), world.device("cara"));
    // Ben's account has a second device, which is never there.
    let (_runtime, _dht) = announce(&world, &account(&ben), &[key(&ben), key(&cara)]);
    let into = world.path("in");
    let _receiving = ben.receive(&into, &["--accept-from", &anna.account]);
    let file = world.file("letter", b"dear");
    let mut sending = anna.send(&ben.account, &[&file]);
    let resolved = sending.until("resolved");
    assert_eq!(resolved["id"], *ben.account);
    assert_eq!(resolved["devices"].as_array().unwrap().len(), 2, "{resolved}");
    let sent = sending.ended().success();
    assert_eq!(sent.event("file_sent")["device"], *ben.id);
    assert_eq!(names(&into), ["letter"]);
    // From the device itself there is only the other one.
    let own = ben.send(&ben.account, &[&file]).ended().fails_with(3);
    assert_eq!(own.event("resolved")["devices"], serde_json::json!([cara.id]));
}

#[test]
fn short_ids_certificates_and_what_was_printed() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let into = world.path("in");
    let certificate = format!("@{}", anna.home.join("device.crt").display());
    let _receiving = ben.receive(&into, &["--accept-from", &certificate]);
    let id = towline(["id", "--json", "--home", ben.home.to_str().unwrap()]).event("identity");
    let short = id["short_id"].as_str().unwrap();
    let line = world.file("crtmgr", format!("Public key id: {short}\n").as_bytes());
    let file = world.file("letter", b"dear");
    for to in [
        short.to_owned(),
        format!("Public key id: {short}"),
        format!("@{}", line.display()),
        format!("@{}", ben.home.join("device.crt").display()),
    ] {
        anna.send(&to, &[&file]).ended().success();
    }
    assert_eq!(names(&into).len(), 4);
    // Itself, by whichever name.
    let own = towline(["id", "--json", "--home", anna.home.to_str().unwrap()]).event("identity");
    for to in [own["short_id"].as_str().unwrap(), &*certificate] {
        let wrong = anna.send(to, &[&file]).ended().fails_with(2);
        assert!(
            wrong.event("error")["message"].as_str().unwrap().contains("this device itself"),
            "{wrong:?}"
        );
    }
    // Nobody.
    let mut command = anna.command("send");
    command.args(["--timeout", "5", "--to", &"ab".repeat(20)]).arg(&file);
    let lost = Running::spawn(command).ended().fails_with(3);
    assert!(lost.event("error")["message"].as_str().unwrap().contains("64 digits"), "{lost:?}");
}

/// A device of 2023 is found by its account, though the key of its long id holds no certificate.
#[test]
fn an_account_stands_for_devices_of_the_short_id() {
    let world = World::new();
    let anna = world.device("anna");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ben = runtime.block_on(async {
        let mut options = GenerateOptions::new(1_700_000_000);
        options.key_size = KeySize::Rsa2048;
        let keys = Hierarchy::generate(&options).unwrap();
        let mut config = Config::loopback();
        config.dht.bootstrap = vec![world.bootstrap.clone()];
        config.eras = Eras::ShortOnly;
        let account = AccountConfig {
            receipt: Some(Receipt::make(&keys.account, keys.device.key().public())),
            strangers_may_connect: true,
            ..AccountConfig::default()
        };
        let ben = Account::start(Arc::new(towline::net::Os), config, keys.device, account).await.unwrap();
        tokio::time::timeout(DEADLINE, ben.announced()).await.unwrap();
        ben
    });
    let mut route = ben.router().serve(Pattern::exact("talk"), Admit::EVERYBODY, 1).unwrap();
    let taken = runtime.spawn(async move { route.next().await.unwrap().accept().await.unwrap() });
    let mut command = anna.command("pipe");
    command.args([&*ben.id().to_string(), "talk"]);
    let mut piping = Running::spawn(command);
    runtime.block_on(async { tokio::time::timeout(DEADLINE, taken).await.unwrap().unwrap() });
    piping.end_input();
    piping.ended().success();
    runtime.block_on(ben.shutdown());
}
