//! Two accounts in one process become contacts and exchange a line of text, as Jami's do:
//! `cargo run -p towline --example two_accounts`.
#![allow(clippy::print_stdout, reason = "an example that shows something")]

use std::error::Error;
use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use towline::account::contacts::ContactEvent;
use towline::account::receipt::Receipt;
use towline::account::vcard::VCard;
use towline::account::{Account, AccountConfig, AccountEvent};
use towline::dht::{Dht, DhtConfig};
use towline::identity::{GenerateOptions, Hierarchy};
use towline::net::{Net, Os};
use towline::sip::{Texts, media};
use towline::{AccountId, Config};

/// Makes an account with one device and starts it.
async fn start(net: &Arc<dyn Net>, meeting_point: &str, name: &str) -> Result<Account, Box<dyn Error>> {
    let now = net.unix_time().as_secs().cast_signed();
    let keys = Hierarchy::generate(&GenerateOptions::new(now))?;
    let setup = AccountConfig {
        // Signed once by the account's key: by it others find this device.
        receipt: Some(Receipt::make(&keys.account, keys.device.key().public())),
        profile: Some(VCard::named(name)),
        ..AccountConfig::default()
    };
    let config = Config::loopback().with_bootstrap(meeting_point);
    Ok(Account::start(Arc::clone(net), config, keys.device, setup).await?)
}

/// Waits for something to happen with a contact.
async fn until(
    events: &mut Receiver<AccountEvent>,
    wanted: impl Fn(ContactEvent) -> bool,
) -> Result<(), Box<dyn Error>> {
    loop {
        if let AccountEvent::Contact(event) = events.recv().await?
            && wanted(event)
        {
            return Ok(());
        }
    }
}

fn card(account: &Account, of: AccountId) -> Option<String> {
    let contacts = account.contacts();
    Some(VCard::parse(&contacts.request(of)?.payload).ok()?.name)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let net: Arc<dyn Net> = Arc::new(Os);
    let dht = Dht::start(Arc::clone(&net), DhtConfig::on_loopback(), None).await?;
    let meeting_point = dht.local_addrs().v4.ok_or("no IPv4 on loopback")?.to_string();
    let alice = start(&net, &meeting_point, "Alice").await?;
    let bob = start(&net, &meeting_point, "Bob").await?;
    tokio::join!(alice.announced(), bob.announced());

    // Alice asks: all she knows is the id of Bob's account. Until Bob says yes, nothing of hers gets through to him.
    let (mut seen_by_alice, mut seen_by_bob) = (alice.events(), bob.events());
    alice.add_contact(bob.id()).await?;
    until(&mut seen_by_bob, |event| event == ContactEvent::Requested(alice.id())).await?;
    println!("{} asks to become a contact", card(&bob, alice.id()).as_deref().unwrap_or("somebody"));
    bob.accept(alice.id()).await?;
    until(&mut seen_by_alice, |event| event == ContactEvent::Confirmed(bob.id())).await?;
    println!("they are contacts");

    let mut presence = alice.presence(bob.id()).await?;
    let there = presence.wait_for(|bob| bob.state.is_online()).await.ok_or("the account was shut down")?;
    println!("{} device of Bob's is there", there.devices.len());

    let (hers, his) = (Texts::start(&alice)?, Texts::start(&bob)?);
    hers.send(bob.id(), media::TEXT, "hello, Bob").await?;
    let text = his.next().await.ok_or("the account was shut down")?;
    println!("Bob reads: {}", String::from_utf8_lossy(&text.body));
    his.send(text.peer.account, media::TEXT, "hello, Alice").await?;
    let text = hers.next().await.ok_or("the account was shut down")?;
    println!("Alice reads: {}", String::from_utf8_lossy(&text.body));

    bob.ban(alice.id()).await?;
    match alice.node().connect(bob.node().device(), "sip").await {
        Ok(_) => return Err("somebody who is banned got through".into()),
        Err(error) => println!("after a ban: {error}"),
    }
    alice.shutdown().await;
    bob.shutdown().await;
    Ok(())
}
