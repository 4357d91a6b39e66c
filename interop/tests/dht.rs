//! Our DHT node in one network with Debian's `dhtnode` and the newest OpenDHT, over loopback: each of the
//! three as the bootstrap, and what each can do, done to each other.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use interop::{Dhtnode, Peer, Put, PyOpendht, eventually, require};
use towline::dht::{Dht, DhtConfig, InfoHash, ListenEvent, Listening, PutOptions, Query, SecureValue, Value};
use towline::net::Os;
use towline_dht::fragment::PART_BYTES;
use towline_identity::{DeviceId, GenerateOptions, Identity, KeySize, ShortId};

const KEY: &str = "1123456789012345678901234567890123456789";

/// Longer than any operation may take here.
const LIMIT: Duration = Duration::from_secs(30);

macro_rules! programs {
    () => {
        match require(&[Peer::Dhtnode, Peer::PyOpendht]) {
            Some(paths) => paths,
            None => return Ok(()),
        }
    };
}

/// The three of them in one network.
struct Trio {
    ours: Dht,
    dhtnode: Dhtnode,
    python: PyOpendht,
}

enum Bootstrap {
    Ours,
    Dhtnode,
    Python,
}

async fn start_ours(bootstrap: Option<std::net::SocketAddr>) -> Result<Dht> {
    let mut options = GenerateOptions::new(1_800_000_000);
    options.key_size = KeySize::Rsa2048;
    let identity = Identity::generate(&options)?;
    let mut config = DhtConfig::on_loopback();
    config.bootstrap = bootstrap.map(|address| address.to_string()).into_iter().collect();
    Ok(Dht::start(Arc::new(Os), config, Some(Arc::new(identity))).await?)
}

fn address_of(node: &Dht) -> Result<std::net::SocketAddr> {
    node.local_addrs().v4.context("our node has an IPv4 socket")
}

impl Trio {
    async fn start(programs: &[std::path::PathBuf], bootstrap: Bootstrap) -> Result<Self> {
        let [dhtnode, python] = programs else { unreachable!("two programs were asked for") };
        let mut trio = match bootstrap {
            Bootstrap::Ours => {
                let ours = start_ours(None).await?;
                let hub = Some(address_of(&ours)?);
                let dhtnode = Dhtnode::start(dhtnode, true, hub).await?;
                Self { ours, dhtnode, python: PyOpendht::start(python, Some("python"), hub).await? }
            }
            Bootstrap::Dhtnode => {
                let dhtnode = Dhtnode::start(dhtnode, true, None).await?;
                let hub = Some(dhtnode.address());
                let python = PyOpendht::start(python, Some("python"), hub).await?;
                Self { ours: start_ours(hub).await?, dhtnode, python }
            }
            Bootstrap::Python => {
                let python = PyOpendht::start(python, Some("python"), None).await?;
                let hub = Some(python.address());
                let dhtnode = Dhtnode::start(dhtnode, true, hub).await?;
                Self { ours: start_ours(hub).await?, dhtnode, python }
            }
        };
        soon("our node to join", trio.ours.connected()).await??;
        trio.dhtnode.wait_for_nodes(1).await?;
        trio.python.wait_for_nodes(1).await?;
        Ok(trio)
    }

    async fn stop(self) -> Result<()> {
        soon("our node to stop", self.ours.shutdown()).await??;
        self.python.stop().await?;
        self.dhtnode.stop().await
    }

    fn identity(&self) -> Result<&Identity> {
        self.ours.identity().map(|identity| &**identity).context("our node has an identity")
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(LIMIT, future).await.with_context(|| format!("waited for {what}"))
}

fn key() -> Result<InfoHash> {
    Ok(KEY.parse()?)
}

/// The next value of a listen that meets a condition.
async fn heard(
    listening: &mut Listening,
    what: &str,
    wanted: impl Fn(&SecureValue) -> bool,
) -> Result<SecureValue> {
    let search = async {
        loop {
            match listening.next().await {
                Some(ListenEvent::New(values)) => {
                    if let Some(value) = values.into_iter().find(&wanted) {
                        return Ok(value);
                    }
                }
                Some(_) => {}
                None => anyhow::bail!("the listen ended: {:?}", listening.end()),
            }
        }
    };
    soon(what, search).await?
}

async fn found(ours: &Dht, id: u64) -> Result<SecureValue> {
    let values = soon("our get", ours.get(key()?, Query::by_id(id)).collect()).await??;
    values.into_iter().find(|value| value.value.id == id).context("our get finds the value")
}

/// Bytes that are easy to compare and do not repeat soon.
fn blob(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Plain values, signed values and a large one, from each to each, by listen and by get.
async fn exchange(trio: &mut Trio) -> Result<()> {
    let own_id = trio.identity()?.short_id().to_string();
    let Trio { ours, dhtnode, python } = trio;
    let mut listening = ours.listen(key()?, Query::all());
    let python_listens = python.listen(KEY).await?;
    dhtnode.listen(KEY).await?;

    let value = Value::new(0, 0, *b"from-us").with_user_type("text/plain");
    let id = soon("our put", ours.put(key()?, value, PutOptions::default())).await??.id;
    assert_eq!(dhtnode.next_value(|value| value.id == id).await?.data, b"from-us");
    assert_eq!(python.next_value(python_listens, |value| value.id == id).await?.bytes(), b"from-us");
    assert!(dhtnode.get(KEY).await?.iter().any(|value| value.id == id && value.data == b"from-us"));
    let condition = format!("WHERE id={id}");
    assert!(python.get_where(KEY, Some(&condition)).await?.iter().any(|value| value.bytes() == b"from-us"));

    let id = dhtnode.put(KEY, "from-dhtnode").await?;
    let value = heard(&mut listening, "the value of dhtnode", |value| value.value.id == id).await?;
    assert_eq!((value.value.data(), value.value.user_type()), (&b"from-dhtnode"[..], "text/plain"));
    assert_eq!(found(ours, id).await?, value);
    let value = python.next_value(python_listens, |value| value.id == id).await?;
    assert_eq!((value.bytes(), &*value.user_type), (b"from-dhtnode".to_vec(), "text/plain"));
    assert_eq!(python.get_where(KEY, Some(&format!("WHERE id={id}"))).await?, [value]);

    let put = Put { user_type: Some("text/plain".to_owned()), ..Put::default() };
    let id = python.put(KEY, b"from python", put).await?;
    let value = heard(&mut listening, "the value of opendht", |value| value.value.id == id).await?;
    assert_eq!((value.value.data(), &value.from), (&b"from python"[..], &None));
    assert_eq!(found(ours, id).await?, value);
    assert_eq!(dhtnode.next_value(|value| value.id == id).await?.data, b"from python");
    assert!(dhtnode.get(KEY).await?.iter().any(|value| value.id == id && value.data == b"from python"));

    let value = Value::new(0, 0, *b"we-signed").with_user_type("text/plain");
    let id = soon("our signed put", ours.put_signed(key()?, value)).await??.id;
    let value = dhtnode.next_value(|value| value.id == id).await?;
    assert!(value.signed && value.data == b"we-signed", "{value:?}");
    assert!(dhtnode.get(KEY).await?.contains(&value));
    let value = python.next_value(python_listens, |value| value.id == id).await?;
    assert_eq!(value.owner.as_ref().map(|owner| &owner.id), Some(&own_id));
    assert_eq!(python.get_where(KEY, Some(&format!("WHERE id={id}"))).await?, [value]);

    dhtnode.put_signed(KEY, "dhtnode-signed").await?;
    let value = heard(&mut listening, "the signed value of dhtnode", |v| v.value.data() == b"dhtnode-signed");
    let value = value.await?;
    assert_eq!(found(ours, value.value.id).await?, value);
    let signer = value.from.map(|key| key.short_id().to_string());
    assert_eq!(signer.as_deref(), dhtnode.key_id());
    let value = python.next_value(python_listens, |value| value.bytes() == b"dhtnode-signed").await?;
    assert_eq!(value.owner.map(|owner| owner.id), signer);

    let id = python.put(KEY, b"python signed", Put { signed: true, ..Put::default() }).await?;
    let value = heard(&mut listening, "the signed value of opendht", |value| value.value.id == id).await?;
    assert_eq!(found(ours, id).await?, value);
    let signer = value.from.map(|key| key.device_id().to_string());
    assert_eq!(signer.as_ref(), python.key().map(|key| &key.long_id));
    assert!(dhtnode.next_value(|value| value.id == id).await?.signed);

    let large = blob(60 << 10);
    let value = Value::new(0, 0, large.clone());
    let id = soon("our large put", ours.put(key()?, value, PutOptions::default())).await??.id;
    assert_eq!(dhtnode.next_value(|value| value.id == id).await?.length, large.len());
    assert_eq!(python.next_value(python_listens, |value| value.id == id).await?.bytes(), large);
    let values = python.get_where(KEY, Some(&format!("WHERE id={id}"))).await?;
    assert!(values.iter().any(|value| value.bytes() == large));
    assert!(dhtnode.get(KEY).await?.iter().any(|value| value.id == id && value.length == large.len()));

    let id = python.put(KEY, &large, Put::default()).await?;
    let value = heard(&mut listening, "the large value of opendht", |value| value.value.id == id).await?;
    assert_eq!(value.value.data(), large);
    assert_eq!(found(ours, id).await?, value);
    assert_eq!(dhtnode.next_value(|value| value.id == id).await?.length, large.len());

    let text = "x".repeat(60 << 10);
    let id = dhtnode.put(KEY, &text).await?;
    let value = heard(&mut listening, "the large value of dhtnode", |value| value.value.id == id).await?;
    assert_eq!(value.value.data(), text.as_bytes());
    assert_eq!(found(ours, id).await?, value);
    assert_eq!(python.next_value(python_listens, |value| value.id == id).await?.bytes(), text.as_bytes());
    Ok(())
}

#[tokio::test]
async fn in_a_network_that_starts_from_us() -> Result<()> {
    let mut trio = Trio::start(&programs!(), Bootstrap::Ours).await?;
    exchange(&mut trio).await?;
    trio.stop().await
}

#[tokio::test]
async fn in_a_network_that_starts_from_dhtnode() -> Result<()> {
    let mut trio = Trio::start(&programs!(), Bootstrap::Dhtnode).await?;
    exchange(&mut trio).await?;
    trio.stop().await
}

#[tokio::test]
async fn in_a_network_that_starts_from_opendht() -> Result<()> {
    let mut trio = Trio::start(&programs!(), Bootstrap::Python).await?;
    exchange(&mut trio).await?;
    trio.stop().await
}

/// All but between the other two: OpenDHT 4.x publishes and looks under long ids, 2.4.12 under short ones, so neither
/// finds a key of the other to encrypt for.
#[tokio::test]
async fn certificates_are_found_and_values_encrypted_each_way() -> Result<()> {
    let mut trio = Trio::start(&programs!(), Bootstrap::Dhtnode).await?;
    let (own_short, own_long) = {
        let identity = trio.identity()?;
        (identity.short_id().to_string(), identity.device_id().to_string())
    };
    let Trio { ours, dhtnode, python } = &mut trio;
    let mut listening = ours.listen(key()?, Query::all());
    let python_listens = python.listen(KEY).await?;
    dhtnode.listen(KEY).await?;
    let publication = ours.publish_certificate();
    soon("our certificate", publication.announced()).await??;
    soon("our certificate, for old peers", publication.announced_for_old_peers()).await??;

    // The certificate of OpenDHT 4.x stands under its long id, that of 2.4.12 under its short id.
    let python_key = python.key().context("it has a key")?.clone();
    let device: DeviceId = python_key.long_id.parse()?;
    let python_chain =
        eventually("opendht's certificate", async || Ok(ours.find_certificate(device).await?)).await?.chain;
    assert_eq!(python_chain.short_id().to_string(), python_key.id);
    let short: ShortId = dhtnode.key_id().context("it has a key")?.parse()?;
    let dhtnode_chain =
        eventually("dhtnode's certificate", async || Ok(ours.find_certificate_by_short_id(short).await?))
            .await?
            .chain;
    assert_eq!(dhtnode_chain.short_id(), short);

    let value = Value::new(0, 0, *b"for-python");
    soon("our put", ours.put_encrypted(key()?, python_chain.public_key(), value)).await??;
    let value = python.next_value(python_listens, |value| value.bytes() == b"for-python").await?;
    assert_eq!(value.owner.map(|owner| owner.long_id), Some(own_long.clone()));
    assert_eq!(value.recipient, Some(python_key.id));

    let value = Value::new(0, 0, *b"for-dhtnode").with_user_type("text/plain");
    soon("our put", ours.put_encrypted(key()?, dhtnode_chain.public_key(), value)).await??;
    let value = dhtnode.next_value(|value| value.data == b"for-dhtnode").await?;
    assert!(value.decrypted, "{value:?}");

    let put = Put { recipient: Some(own_long), ..Put::default() };
    eventually("opendht finds us", async || python.put(KEY, b"from python", put.clone()).await).await?;
    let value = heard(&mut listening, "the secret of opendht", |v| v.value.data() == b"from python").await?;
    assert!(value.encrypted);
    assert_eq!(value.from.map(|key| key.device_id()), Some(device));

    eventually("dhtnode finds us", async || dhtnode.put_encrypted(KEY, &own_short, "from-dhtnode").await)
        .await?;
    let value = heard(&mut listening, "the secret of dhtnode", |v| v.value.data() == b"from-dhtnode").await?;
    assert!(value.encrypted);
    assert_eq!(value.from.map(|key| key.short_id()), Some(short));
    drop(publication);
    trio.stop().await
}

#[tokio::test]
async fn an_old_node_alone_keeps_our_certificate() -> Result<()> {
    let Some(programs) = require(&[Peer::Dhtnode]) else { return Ok(()) };
    let keeper = Dhtnode::start(&programs[0], false, None).await?;
    let hub = Some(keeper.address());
    let published = start_ours(hub).await?;
    soon("the first of ours to join", published.connected()).await??;
    let device = published.identity().context("our node has an identity")?.device_id();
    let publication = published.publish_certificate();
    soon("our certificate", publication.announced()).await??;
    soon("the first of ours to stop", published.shutdown()).await??;

    // Nobody of ours was there to keep it.
    let late = start_ours(hub).await?;
    soon("the second of ours to join", late.connected()).await??;
    let found = soon("the certificate", late.find_certificate(device)).await??;
    assert_eq!(found.chain.device_id(), device);
    soon("the second of ours to stop", late.shutdown()).await?.map_err(Into::into)
}

#[tokio::test]
async fn a_large_value_reaches_an_old_node_at_the_first_try() -> Result<()> {
    const LENGTH: usize = 60 << 10;
    let Some(programs) = require(&[Peer::Dhtnode]) else { return Ok(()) };
    let mut dhtnode = Dhtnode::start(&programs[0], false, None).await?;
    let ours = start_ours(Some(dhtnode.address())).await?;
    soon("our node to join", ours.connected()).await??;
    // Its buffer has no room for all parts at once, and a lost one makes us send all of them again.
    let parts = LENGTH.div_ceil(PART_BYTES) as u64;
    for _ in 0..10 {
        let before = ours.stats().await?;
        let value = Value::new(0, 0, blob(LENGTH));
        let put = soon("our put", ours.put(key()?, value, PutOptions::default())).await??;
        assert_eq!(put.stored_on, 1);
        let after = ours.stats().await?;
        let sent = after.sent - before.sent;
        assert!((parts..2 * parts).contains(&sent), "{sent} datagrams for {parts} parts");
        assert_eq!(after.unanswered, before.unanswered);
    }
    assert_eq!(dhtnode.get(KEY).await?.iter().filter(|value| value.length == LENGTH).count(), 10);
    // Asked to end, it would first look for somebody to take its values over.
    soon("our node to stop", ours.shutdown()).await?.map_err(Into::into)
}
