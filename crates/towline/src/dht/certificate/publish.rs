//! Publishing our own certificate.

use towline_dht::value::SealError;
use towline_dht::{InfoHash, Value, types};
use towline_identity::{Chain, Identity};

use super::{CERTIFICATE_ID, COPY_USER_TYPE};
use crate::dht::Dht;
use crate::dht::announce::{Announcement, PutOutcome};
use crate::dht::error::PutError;
use crate::eras::Eras;

/// Our certificate on the DHT, kept alive until this is dropped. See [`Dht::publish_certificate`].
#[derive(Debug)]
#[must_use = "dropping it ends the publication"]
pub struct CertificateAnnouncement {
    at: Result<Published, PutError>,
}

/// Where it lies: at one key at least.
#[derive(Debug)]
enum Published {
    Both { long: Long, short: Announcement },
    Long(Long),
    Short(Announcement),
}

/// What lies at the newer key.
#[derive(Debug)]
struct Long {
    certificate: Announcement,
    copy: Announcement,
}

impl Long {
    async fn announced(&self) -> Result<PutOutcome, PutError> {
        let outcome = self.certificate.announced().await?;
        self.copy.announced().await?;
        Ok(outcome)
    }
}

impl CertificateAnnouncement {
    /// Waits until the certificate and its copy are stored at its newer key for the first time, so that today's peers
    /// find it; where it is published for old peers only, until those find it. Cancel safe.
    pub async fn announced(&self) -> Result<PutOutcome, PutError> {
        match self.at.as_ref().map_err(|why| *why)? {
            Published::Both { long, .. } | Published::Long(long) => long.announced().await,
            Published::Short(short) => short.announced().await,
        }
    }

    /// The same for the key at which peers before OpenDHT 3.5 look. Fails with [`PutError::NotStored`] if it is not
    /// published for them.
    pub async fn announced_for_old_peers(&self) -> Result<PutOutcome, PutError> {
        match self.at.as_ref().map_err(|why| *why)? {
            Published::Both { short, .. } | Published::Short(short) => short.announced().await,
            Published::Long(_) => Err(PutError::NotStored),
        }
    }
}

/// The value in which a chain is published.
fn certificate_value(chain: &Chain) -> Value {
    let pem = chain.pack();
    let mut data = Vec::with_capacity(pem.len() + 5);
    rmp::encode::write_bin(&mut data, pem.as_bytes()).expect("writing to memory never fails");
    Value::new(CERTIFICATE_ID, types::CERTIFICATE, data)
}

/// The same as data of a user, which every node keeps, signed by the device.
fn certificate_copy(identity: &Identity) -> Result<Value, SealError> {
    let chain = identity.chain().pack().into_bytes();
    let mut value = Value::new(0, types::USER_DATA, chain).with_user_type(COPY_USER_TYPE);
    value.sign(identity.key(), 0).map(|()| value)
}

impl Dht {
    /// Publishes the certificate chain of our identity at both of its keys and keeps it there: where peers of today
    /// look, and where those before OpenDHT 3.5 do.
    ///
    /// Nodes before OpenDHT 2.5.4 confirm a certificate at the newer key and drop it (`dht.md` 3.8). A copy that does not
    /// say it is a certificate lies beside it, so that Towlines find each other also where there are only such nodes.
    ///
    /// The copy is signed by the device and has an id that nobody can guess, so that nobody can make one, replace it or
    /// take its place before it comes. The certificate itself gives way to any other of the same key: a stranger who
    /// certifies our key hides it, but not the copy.
    ///
    /// Without an identity the announcement fails with [`PutError::NoIdentity`].
    pub fn publish_certificate(&self) -> CertificateAnnouncement {
        self.publish_certificate_for(Eras::Both)
    }

    /// The same for peers of these eras.
    pub fn publish_certificate_for(&self, eras: Eras) -> CertificateAnnouncement {
        let Some(identity) = self.identity() else {
            return CertificateAnnouncement { at: Err(PutError::NoIdentity) };
        };
        let chain = identity.chain();
        let at_long = || {
            let key = InfoHash::of_certificate(&identity.device_id());
            let copy = match certificate_copy(identity) {
                Ok(copy) => self.announce(key, copy),
                Err(why) => Announcement::impossible(0, why.into()),
            };
            Long { certificate: self.announce(key, certificate_value(chain)), copy }
        };
        let at_short =
            || self.announce(InfoHash::of_certificate_legacy(&identity.short_id()), certificate_value(chain));
        let at = match eras {
            Eras::Both => Published::Both { long: at_long(), short: at_short() },
            Eras::LongOnly => Published::Long(at_long()),
            Eras::ShortOnly => Published::Short(at_short()),
        };
        CertificateAnnouncement { at: Ok(at) }
    }
}
