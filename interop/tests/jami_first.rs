//! scratch
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use interop::jami::{Lab, Mark};
use towline::dht::{InfoHash, ListenEvent, Query, Value};
use towline::net::Os;
use towline::{Config, ConnectionPolicy, DeviceId, Node};
use towline_dht::types::{Payload, TrustRequest};
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
            node.registered().await;
            let me = node.account().to_string();
            let device = h.device.chain().public_key().clone();
            let mut body = vec![0x82, 0xa3];
            body.extend(b"dev");
            bin(&mut body, &h.device.short_id().0);
            body.push(0xa2);
            body.extend(b"pk");
            bin(&mut body, device.spki_der());
            let mut value = Value::new(0, 0, body);
            value.sign(h.account.key(), 0)?;
            let announcement = node.dht().announce(InfoHash::from(node.account().0), value);
            announcement.announced().await?;
            step("announced");
            let account: [u8; 20] = hex::decode(jamid.uri())?.try_into().ok().context("20")?;
            let values = node.dht().get(InfoHash::from(account), Query::all()).collect().await?;
            let data = values[0].value.data().to_vec();
            let pk = PublicKey::from_spki_der(&data[data.len() - 550..])?;
            let device: DeviceId = pk.device_id();
            let found = node.dht().find_certificate_by_short_id(pk.short_id()).await?;
            node.remember(found.chain).await;
            for n in 0..6 {
                tokio::time::sleep(Duration::from_millis(1000)).await;
                let begun = Instant::now();
                let c = node.dial(device).await?;
                let took = begun.elapsed().as_millis();
                let channel = node.connect(device, if n < 3 { "sip" } else { "nc://x" }).await;
                let all = begun.elapsed().as_millis();
                step(&format!(
                    "{n} {took} {all} {:?} {}",
                    c.info().established.map(|e| e.timeline),
                    channel.is_ok()
                ));
                drop(channel);
                node.close_with(device).await;
            }
            let begun = Instant::now();
            for n in 0..1000 {
                let channel = node.connect(device, "nc://x").await;
                if let Err(towline::ConnectError::Channel(towline::ChannelError::Refused(_))) = channel {
                } else {
                    step(&format!("{n}: {channel:?}"));
                    break;
                }
            }
            step(&format!("1000 refused {:?}", begun.elapsed()));
            for s in jamid.signals().since(Mark::default()) {
                if s.name.starts_with("volatile") || s.name == "certificatePinned" {
                    continue;
                }
                println!("{} {:?}", s.name, s.args);
            }
            anyhow::bail!("keep the logs")
        })
    })
}
