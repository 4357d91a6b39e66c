//! scratch
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use interop::jami::Lab;
use towline::account::DeviceAnnouncement;
use towline::dht::{Dht, DhtConfig, InfoHash, ListenEvent, Listening, Query, Value};
use towline::net::Os;
use towline_dht::types::{Payload as _, TRUST_REQUEST, TrustRequest};
use towline_identity::{GenerateOptions, Hierarchy, KeySize, ShortId};

const C: &str = "44e9279e676b9870783cdbf65742e9145fff3b39";

async fn within(listening: &mut Listening, time: Duration) -> Vec<TrustRequest> {
    let mut all = Vec::new();
    let _ = tokio::time::timeout(time, async {
        while let Some(event) = listening.next().await {
            if let ListenEvent::New(values) = event {
                all.extend(values.iter().filter_map(|value| TrustRequest::decode(value.value.data()).ok()));
            }
        }
    })
    .await;
    all
}

#[test]
fn lost_confirmation_scratch() -> Result<()> {
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
            let me = h.account.short_id().to_string();
            let config = DhtConfig::default().with_bootstrap(lab.bootstrap().to_string());
            let dht = Dht::start(Arc::new(Os), config, Some(Arc::new(h.device.clone()))).await?;
            let cert = dht.publish_certificate();
            cert.announced_for_old_peers().await?;
            let key = InfoHash::from(h.account.short_id());
            let ann = dht.announce(key, DeviceAnnouncement::sign(&h.account, h.device.key().public()));
            ann.announced().await?;
            step("announced");
            let at: ShortId = jamid.uri().parse()?;
            let values = dht.get(InfoHash::from(at), Query::all()).collect().await?;
            let device = values
                .iter()
                .find_map(|value| DeviceAnnouncement::read(&value.value, at.into()).ok())
                .unwrap();
            step(&format!("announcement of jamid has a key: {}", device.key.is_some()));
            let found = dht.find_certificate_by_short_id(device.device).await?;
            let to = found.chain.public_key().clone();
            let send = |conversation: &str| {
                let request = TrustRequest {
                    service: "cx.ring".into(),
                    conversation_id: conversation.into(),
                    payload: b"BEGIN:VCARD\r\nVERSION:2.1\r\nFN:Us\r\nEND:VCARD".to_vec(),
                    confirm: false,
                    invited_ms: Some(now * 1000),
                };
                let dht = dht.clone();
                let to = to.clone();
                async move {
                    let key = InfoHash::digest(format!("inbox:{}", to.short_id()));
                    dht.put_encrypted(key, &to, Value::new(0, TRUST_REQUEST, request.encode())).await
                }
            };
            let mut inbox = dht.listen(InfoHash::digest(format!("inbox:{}", h.device.short_id())), Query::all());
            let mark = jamid.mark();
            send(C).await?;
            jamid.wait(mark, "incomingTrustRequest", |_| true).await?;
            step("request arrived");
            jamid.accept(&me).await?;
            step(&format!("first: {:?}", within(&mut inbox, Duration::from_secs(4)).await));
            step(&format!("contact: {:?}", jamid.contact(&me).await?));
            for conversation in [C, C, "", "", C, "55e9279e676b9870783cdbf65742e9145fff3b39"] {
                let mark = jamid.mark();
                send(conversation).await?;
                step(&format!("again {conversation:?}: {:?}", within(&mut inbox, Duration::from_secs(4)).await));
                for signal in jamid.signals().since(mark) {
                    step(&format!("    {signal:?}"));
                }
            }
            step(&format!("contact: {:?}", jamid.contact(&me).await?));
            Ok(())
        })
    })
}
