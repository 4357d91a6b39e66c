//! The peer programs with each other, without Towline: what the harness can rely on, and what the other
//! tests of this package may blame on Towline when they fail.

use anyhow::Result;
use interop::{Dhtnode, Peer, Put, PyOpendht, eventually, require};

const KEY: &str = "1123456789012345678901234567890123456789";

macro_rules! programs {
    ($($peer:expr),+) => {
        match require(&[$($peer),+]) {
            Some(paths) => paths,
            None => return Ok(()),
        }
    };
}

/// Bytes that compress badly and are easy to compare.
fn blob(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn exchange(dhtnode: &mut Dhtnode, python: &mut PyOpendht) -> Result<()> {
    dhtnode.wait_for_nodes(1).await?;
    let listen = python.listen(KEY).await?;
    dhtnode.listen(KEY).await?;

    let id = dhtnode.put(KEY, "from-dhtnode").await?;
    let heard = python.next_value(listen, |value| value.id == id).await?;
    assert_eq!((heard.bytes(), &*heard.user_type), (b"from-dhtnode".to_vec(), "text/plain"));
    assert_eq!(python.get_where(KEY, Some(&format!("WHERE id={id}"))).await?, [heard]);

    let put = Put { user_type: Some("text/plain".to_owned()), ..Put::default() };
    let id = python.put(KEY, b"from python", put).await?;
    let heard = dhtnode.next_value(|value| value.id == id).await?;
    assert_eq!(heard.data, b"from python");
    assert!(dhtnode.get(KEY).await?.contains(&heard));

    let id = python.put(KEY, b"signed", Put { signed: true, ..Put::default() }).await?;
    let signed = dhtnode.next_value(|value| value.id == id).await?;
    assert!(signed.signed && signed.data == b"signed");

    dhtnode.put_signed(KEY, "signed-too").await?;
    let signed = python.next_value(listen, |value| value.bytes() == b"signed-too").await?;
    assert_eq!(signed.owner.map(|owner| owner.id).as_deref(), dhtnode.key_id());

    let large = blob(60 << 10);
    let id = python.put(KEY, &large, Put::default()).await?;
    assert_eq!(dhtnode.next_value(|value| value.id == id).await?.length, large.len());
    let found = python.get_where(KEY, Some(&format!("WHERE id={id}"))).await?;
    assert!(found.iter().any(|value| value.bytes() == large));
    Ok(())
}

#[tokio::test]
async fn dhtnode_is_the_bootstrap_of_opendht() -> Result<()> {
    let programs = programs!(Peer::Dhtnode, Peer::PyOpendht);
    let mut dhtnode = Dhtnode::start(&programs[0], true, None).await?;
    let mut python = PyOpendht::start(&programs[1], Some("python"), Some(dhtnode.address())).await?;
    exchange(&mut dhtnode, &mut python).await?;
    python.stop().await?;
    dhtnode.stop().await
}

#[tokio::test]
async fn opendht_is_the_bootstrap_of_dhtnode() -> Result<()> {
    let programs = programs!(Peer::Dhtnode, Peer::PyOpendht);
    let mut python = PyOpendht::start(&programs[1], Some("python"), None).await?;
    let mut dhtnode = Dhtnode::start(&programs[0], true, Some(python.address())).await?;
    exchange(&mut dhtnode, &mut python).await?;
    dhtnode.stop().await?;
    python.stop().await
}

/// Each library alone encrypts for its own kind; between them the certificate is looked up at different keys
/// (`dht.md` 3.8), so only same-version pairs find it.
#[tokio::test]
async fn encrypted_values_reach_their_recipient() -> Result<()> {
    let programs = programs!(Peer::Dhtnode, Peer::PyOpendht);
    let hub = Dhtnode::start(&programs[0], false, None).await?;
    let mut alice = PyOpendht::start(&programs[1], Some("alice"), Some(hub.address())).await?;
    let mut bob = PyOpendht::start(&programs[1], Some("bob"), Some(hub.address())).await?;
    alice.wait_for_nodes(1).await?;
    bob.wait_for_nodes(1).await?;
    let listen = bob.listen(KEY).await?;
    let recipient = bob.key().map(|key| key.long_id.clone());
    let secret = Put { recipient, ..Put::default() };
    eventually("bob's certificate", async || alice.put(KEY, b"secret", secret.clone()).await).await?;
    let value = bob.next_value(listen, |value| value.bytes() == b"secret").await?;
    assert_eq!(value.owner.as_ref(), alice.key());
    assert_eq!(value.recipient.as_ref(), bob.key().map(|key| &key.id));

    let mut carol = Dhtnode::start(&programs[0], true, Some(hub.address())).await?;
    let mut dave = Dhtnode::start(&programs[0], true, Some(hub.address())).await?;
    carol.wait_for_nodes(1).await?;
    dave.wait_for_nodes(1).await?;
    dave.listen(KEY).await?;
    let recipient = dave.key_id().map(str::to_owned).unwrap_or_default();
    eventually("dave's certificate", async || carol.put_encrypted(KEY, &recipient, "secret-too").await)
        .await?;
    let value = dave.next_value(|value| value.data == b"secret-too").await?;
    assert!(value.decrypted, "{value:?}");
    Ok(())
}
