//! scratch
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use interop::jami::Lab;
use towline::account::{Account, AccountConfig};
use towline::account::receipt::Receipt;
use towline::net::Os;
use towline::sip::{Texts, media};
use towline::{AccountId, Config};
use towline_identity::{GenerateOptions, Hierarchy, KeySize};

#[test]
fn texts_scratch() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let t = Instant::now();
            let step = |what: &str| println!("{:>8} ms {what}", t.elapsed().as_millis());
            let mut jamid = lab.jamid("a").await?;
            jamid.add_account(&[]).await?;
            step(&format!("jamid registered {} {}", jamid.uri(), jamid.device()));
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() as i64;
            let mut options = GenerateOptions::new(now - 3600);
            options.key_size = KeySize::Rsa2048;
            let h = Hierarchy::generate(&options)?;
            let mut config = Config::internet();
            config.dht.bootstrap = vec![lab.bootstrap().to_string()];
            let receipt = Receipt::make(&h.account, h.device.chain().public_key());
            let setup = AccountConfig { receipt: Some(receipt), ..AccountConfig::default() };
            let account = Account::start(Arc::new(Os), config, h.device.clone(), setup).await?;
            account.announced().await;
            step("announced");
            let friend: AccountId = jamid.uri().parse()?;
            let texts = Texts::start(&account)?;
            account.add_contact(friend).await?;
            let mark = jamid.mark();
            let me = account.id().to_string();
            jamid.wait(mark, "incomingTrustRequest", |_| true).await.ok();
            step("request arrived");
            // Before anything: a text of a stranger.
            jamid.accept(&me).await?;
            step("accepted");
            for n in 0..3 {
                let mark = jamid.mark();
                let begun = Instant::now();
                let sent = texts.send(friend, media::TEXT, format!("from us {n} é")).await;
                step(&format!("send {:?} {:?}", begun.elapsed(), sent));
                let got = jamid.wait(mark, "incomingAccountMessage", |_| true).await;
                step(&format!("{got:?}"));
            }
            for n in 0..3 {
                let begun = Instant::now();
                let mark = jamid.mark();
                jamid.send_text(&me, &format!("from jamid {n} é")).await?;
                let got = tokio::time::timeout(Duration::from_secs(10), texts.next()).await;
                step(&format!("got {:?} {:?}", begun.elapsed(), got.map(|t| t.map(|t| (t.content_type, String::from_utf8(t.body), t.message_id)))));
                let status = jamid.wait(mark, "accountMessageStatusChanged", |s| s.number(4) != 1).await;
                step(&format!("{status:?}"));
            }
            for s in jamid.signals().since(interop::jami::Mark::default()) {
                if s.name.starts_with("volatile") || s.name == "certificatePinned" {
                    continue;
                }
                println!("{} {:?}", s.name, s.args);
            }
            let mark = jamid.mark();
            let call = jamid.call(&me).await?;
            let over = jamid.wait(mark, "callStateChanged", |s| s.text(1) == call && s.text(2) == "OVER").await;
            step(&format!("{over:?}"));
            // Long
            for length in [7000, 7380, 7390, 7400] {
                let mark = jamid.mark();
                let sent = texts.send(friend, media::TEXT, "x".repeat(length)).await;
                step(&format!("{length} {sent:?}"));
                if sent.is_ok() {
                    let got = jamid.wait(mark, "incomingAccountMessage", |_| true).await;
                    step(&format!("{:?}", got.map(|g| g.member(3, "text/plain").len())));
                }
            }
            // First text again after the connection went.
            account.node().close_with(friend).await;
            let mark = jamid.mark();
            let begun = Instant::now();
            jamid.send_text(&me, "after the close").await?;
            let got = tokio::time::timeout(Duration::from_secs(70), texts.next()).await;
            step(&format!("after close got {:?} {:?}", begun.elapsed(), got.map(|t| t.map(|t| (t.content_type, String::from_utf8(t.body), t.message_id)))));
            let status = jamid.wait(mark, "accountMessageStatusChanged", |s| s.number(4) != 1).await;
            step(&format!("{status:?}"));
            account.shutdown().await;
            anyhow::bail!("keep the logs")
        })
    })
}
