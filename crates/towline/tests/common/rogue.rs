//! A device that writes what it likes.

use std::time::Duration;

use towline::dht::{CertificateAnnouncement, CertificateKey, Dht, InfoHash, ListenEvent, Query, Value};
use towline::identity::{Identity, PublicKey};
use towline::signal::{LaterCandidates, PeerRequest, USER_TYPE};
use towline::{Eras, Node};

use super::Lab;

/// A device without a node: a bare DHT handle that can be found and writes what it likes.
pub struct Rogue {
    pub dht: Dht,
    pub identity: Identity,
    published: Option<CertificateAnnouncement>,
}

impl Rogue {
    /// One that is found at both of its keys.
    pub async fn new(lab: &Lab, identity: Identity) -> Self {
        Self::of(lab, identity, Eras::Both).await
    }

    pub async fn of(lab: &Lab, identity: Identity, eras: Eras) -> Self {
        let mut rogue = Self::unpublished(lab, identity).await;
        rogue.publish(eras).await;
        rogue
    }

    /// One whose certificate nobody finds yet.
    pub async fn unpublished(lab: &Lab, identity: Identity) -> Self {
        let dht = lab.bare_dht(&format!("rogue-{}", identity.device_id()), identity.clone()).await;
        Self { dht, identity, published: None }
    }

    /// From now on it is found.
    pub async fn publish(&mut self, eras: Eras) {
        assert!(self.published.is_none(), "it is found already");
        let published = self.dht.publish_certificate_for(eras);
        let _ = published.announced().await;
        if eras.uses(CertificateKey::Short) {
            let _ = published.announced_for_old_peers().await;
        }
        self.published = Some(published);
    }

    /// Writes at the key of the recipient's long id.
    pub async fn put(&self, to: &PublicKey, body: Vec<u8>) {
        self.put_at(CertificateKey::Long, to, body).await;
    }

    /// Writes further candidates there.
    pub async fn put_later(&self, to: &PublicKey, later: &LaterCandidates) {
        let value = Value::new(0, 0, later.encode()).with_user_type(LaterCandidates::USER_TYPE);
        self.dht.put_encrypted(key_of(to, CertificateKey::Long), to, value).await.unwrap();
    }

    pub async fn put_at(&self, at: CertificateKey, to: &PublicKey, body: Vec<u8>) {
        let value = Value::new(0, 0, body).with_user_type(USER_TYPE);
        self.dht.put_encrypted(key_of(to, at), to, value).await.unwrap();
    }

    /// The first message addressed to it, at the key of its long id, that is `wanted`.
    pub async fn find(&self, wanted: impl Fn(&PeerRequest) -> bool) -> PeerRequest {
        self.find_at(CertificateKey::Long, wanted).await
    }

    pub async fn find_at(&self, at: CertificateKey, wanted: impl Fn(&PeerRequest) -> bool) -> PeerRequest {
        let key = key_of(self.identity.key().public(), at);
        let mut listening = self.dht.listen(key, Query::default());
        loop {
            let Some(ListenEvent::New(values)) = listening.next().await else { continue };
            let mut messages = values.iter().map(|value| PeerRequest::decode(value.value.data()).unwrap());
            if let Some(found) = messages.find(&wanted) {
                return found;
            }
        }
    }

    /// All messages that lie at one of its keys now.
    pub async fn lying_at(&self, at: CertificateKey) -> Vec<PeerRequest> {
        let key = key_of(self.identity.key().public(), at);
        let values = self.dht.get(key, Query::default()).collect().await.unwrap();
        values.iter().map(|value| PeerRequest::decode(value.value.data()).unwrap()).collect()
    }

    /// Whether a message that is `wanted` comes within a time.
    pub async fn finds_within(&self, time: Duration, wanted: impl Fn(&PeerRequest) -> bool) -> bool {
        tokio::time::timeout(time, self.find(wanted)).await.is_ok()
    }

    /// A request addressed to it.
    pub async fn asked(&self) -> PeerRequest {
        self.find(|message| !message.is_answer).await
    }
}

fn key_of(device: &PublicKey, at: CertificateKey) -> InfoHash {
    match at {
        CertificateKey::Long => InfoHash::of_peer_requests(&device.device_id()),
        CertificateKey::Short => InfoHash::of_peer_requests(&device.short_id()),
    }
}

pub fn public(node: &Node) -> PublicKey {
    node.identity().key().public().clone()
}

/// What a Jami peer would ask or answer.
pub fn request(id: u64, ice_message: &str) -> PeerRequest {
    PeerRequest {
        id,
        ice_message: ice_message.to_owned(),
        is_answer: false,
        connection_type: String::new(),
        extension: None,
    }
}

/// Credentials, and a candidate where nobody listens.
pub const NOWHERE: &str = "13e86381\naaaaaaaaaaaaaaaaaaaaaaaa\nHa4d0003 1 TCP 2130706431 45.200.200.200 10001 typ host tcptype passive\n";
