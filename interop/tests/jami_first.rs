//! scratch
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use interop::jami::Lab;
use towline::dht::{InfoHash, Query, Value};
use towline::net::Os;
use towline::{Config, ConnectionPolicy, DeviceId, Node};
use towline_identity::{GenerateOptions, Hierarchy, KeySize, PublicKey};

fn bin(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < 256 {
        out.extend([0xc4, bytes.len() as u8]);
    } else {
        out.push(0xc5);
        out.extend((bytes.len() as u16).to_be_bytes());
    }
    out.extend(bytes);
}

#[test]
fn both_directions() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let t = Instant::now();
            let step = |what: &str| println!("{:>8} ms {what}", t.elapsed().as_millis());
            let mut jamid = lab.jamid("a").await?;
            step("jamid up");
            jamid.add_account(&[]).await?;
            step(&format!("jamid registered {} {}", jamid.uri(), jamid.device()));
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() as i64;
            let mut options = GenerateOptions::new(now - 3600);
            options.key_size = KeySize::Rsa2048;
            let h = Hierarchy::generate(&options)?;
            let mut config = Config::internet();
            config.dht.bootstrap = vec![lab.bootstrap().to_string()];
            config.policy = ConnectionPolicy::DangerouslyAnyone;
            let node = Node::start(Arc::new(Os), config, h.device.clone()).await?;
            let mut events = node.events();
            tokio::spawn(async move {
                while let Ok(e) = events.recv().await {
                    println!("EVENT {e:?}");
                }
            });
            node.registered().await;
            step("we are registered");
            // our announcement
            let device = h.device.chain().public_key().clone();
            let mut body = vec![0x82, 0xa3];
            body.extend(b"dev");
            bin(&mut body, &h.device.short_id().0);
            body.push(0xa2);
            body.extend(b"pk");
            bin(&mut body, device.spki_der());
            let mut value = Value::new(0, 0, body);
            value.sign(h.account.key(), 0)?;
            let key = InfoHash::from(node.account().0);
            let announcement = node.dht().announce(key, value);
            announcement.announced().await?;
            step("announced");
            // its device
            let account: [u8; 20] = hex::decode(jamid.uri())?.try_into().ok().context("20")?;
            let values = node.dht().get(InfoHash::from(account), Query::all()).collect().await?;
            step(&format!("{} values at its account", values.len()));
            for value in &values {
                println!("{}", hex::encode(&value.value.data()[..40]));
            }
            let data = values[0].value.data().to_vec();
            let pk = PublicKey::from_spki_der(&data[data.len() - 550..])?;
            step(&format!("its device {} {}", pk.device_id(), pk.short_id()));
            let device: DeviceId = pk.device_id();
            let found = node.dht().find_certificate_by_short_id(pk.short_id()).await?;
            step(&format!("found at {:?}", found.at));
            node.remember(found.chain).await;
            // presence
            let mark = jamid.mark();
            jamid.presence("subscribeBuddy", &(jamid.account(), node.account().to_string(), true)).await?;
            let s = jamid.wait(mark, "newBuddyNotification", |s| s.text(1) == node.account().to_string()).await?;
            step(&format!("jamid sees us: {:?}", s.args));
            // we to it
            let channel = node.connect(device, "sip").await;
            step(&format!("sip: {channel:?}"));
            let git = node.connect(device, &format!("git://{device}/0123456789012345678901234567890123456789")).await;
            step(&format!("git: {git:?}"));
            drop(channel);
            node.close_with(device).await;
            step("closed");
            // it to us
            let mark = jamid.mark();
            let media: Vec<std::collections::HashMap<&str, &str>> = vec![[("MEDIA_TYPE", "MEDIA_TYPE_AUDIO"), ("ENABLED", "true"), ("MUTED", "false"), ("SOURCE", ""), ("LABEL", "audio_0"), ("ON_HOLD", "false")].into()];
            let call = jamid.calls("placeCallWithMedia", &(jamid.account(), node.account().to_string(), media)).await?;
            step(&format!("call {call}"));
            let incoming = tokio::time::timeout(Duration::from_secs(20), node.incoming()).await.context("no sip")?.context("closed")?;
            step(&format!("incoming {} from {}", incoming.name(), incoming.peer().device));
            let mut channel = incoming.accept().await?;
            let mut buffer = vec![0; 4096];
            let n = tokio::io::AsyncReadExt::read(&mut channel, &mut buffer).await?;
            step(&format!("{}", String::from_utf8_lossy(&buffer[..n])));
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let mut reply = String::from("SIP/2.0 603 Decline\r\n");
            for line in text.lines() {
                for h in ["Via:", "From:", "Call-ID:", "CSeq:"] {
                    if line.starts_with(h) { reply += line; reply += "\r\n"; }
                }
                if line.starts_with("To:") { reply += line; reply += ";tag=abc\r\n"; }
            }
            reply += "Content-Length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut channel, reply.as_bytes()).await?;
            let n = tokio::io::AsyncReadExt::read(&mut channel, &mut buffer).await?;
            step(&format!("{}", String::from_utf8_lossy(&buffer[..n])));
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(channel);
            for s in jamid.signals().since(mark) {
                println!("{} {:?}", s.name, s.args);
            }
            step("end");
            jamid.stop().await?;
            node.shutdown().await;
            anyhow::bail!("keep the logs")
        })
    })
}
