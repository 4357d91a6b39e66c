//! Certificates on the DHT: publishing our own, finding those of others (`connection.md` 2.5, `dht.md` 3.8).

use std::sync::Arc;

use towline_dht::node::GetOptions;
use towline_dht::{InfoHash, Query, Restriction, Value, types};
use towline_identity::{Chain, ChainError, DeviceId, ShortId};

use super::Dht;
use super::announce::{Announcement, PutOutcome};
use super::error::{GetError, PutError};
use super::get::RawGet;

/// The value id under which every device publishes its certificate.
const CERTIFICATE_ID: u64 = 1;

/// The value id and the user type of its copy; see [`Dht::publish_certificate`].
const COPY_ID: u64 = 2;
const COPY_USER_TYPE: &str = "towline_certificate";

/// Rejected values that a failed lookup describes; the others it counts.
const DESCRIBED: usize = 8;

/// Which of its two keys a certificate was found at. A peer that publishes at the short id only is old, and listens
/// for connection requests at the short id only (`connection.md` 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateKey {
    /// SHA-1 of the long id: OpenDHT 3.5 and later.
    Long,
    /// The short id itself: before that.
    Short,
}

/// A certificate chain that belongs to the device that was looked for. Each certificate was made by the next; who
/// stands at the top is the caller's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCertificate {
    /// The chain, device first.
    pub chain: Chain,
    /// Where it was found.
    pub at: CertificateKey,
}

/// A value at the key of a certificate that was not it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedCertificate {
    /// Where it lies.
    pub at: CertificateKey,
    /// Why it was passed over.
    pub why: RejectionReason,
}

/// Why a value at the key of a certificate was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectionReason {
    /// It is no chain of certificates, or one that does not hold.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The chain belongs to another device.
    #[error("it belongs to device {0}")]
    OtherDevice(DeviceId),
}

/// What was seen by a lookup that found no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateEvidence {
    /// Answers from nodes near the keys, added up over the lookups.
    pub answers: usize,
    /// Values seen there.
    pub values: usize,
    /// Those that were passed over; no more than eight are described.
    pub rejected: Vec<RejectedCertificate>,
}

/// Why a certificate was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindCertificateError {
    /// The nodes near its keys answered, and none has it.
    #[error("no certificate: {} nodes answered with {} values, none of them it", .0.answers, .0.values)]
    NotFound(CertificateEvidence),
    /// It could not be looked for.
    #[error(transparent)]
    Lookup(GetError),
}

/// Our certificate on the DHT, kept alive until this is dropped. See [`Dht::publish_certificate`].
#[derive(Debug)]
#[must_use = "dropping it ends the publication"]
pub struct CertificateAnnouncement {
    long: Announcement,
    copy: Announcement,
    short: Announcement,
}

impl CertificateAnnouncement {
    /// Waits until the certificate and its copy are stored at its newer key for the first time, so that today's peers
    /// find it. Cancel safe.
    pub async fn announced(&self) -> Result<PutOutcome, PutError> {
        let outcome = self.long.announced().await?;
        self.copy.announced().await?;
        Ok(outcome)
    }

    /// The same for the key at which peers before OpenDHT 3.5 look.
    pub async fn announced_for_old_peers(&self) -> Result<PutOutcome, PutError> {
        self.short.announced().await
    }
}

/// The value in which a chain is published.
fn certificate_value(chain: &Chain) -> Value {
    let pem = chain.pack();
    let mut data = Vec::with_capacity(pem.len() + 5);
    rmp::encode::write_bin(&mut data, pem.as_bytes()).expect("writing to memory never fails");
    Value::new(CERTIFICATE_ID, types::CERTIFICATE, data)
}

/// The same as data of a user, which every node keeps.
fn certificate_copy(chain: &Chain) -> Value {
    Value::new(COPY_ID, types::USER_DATA, chain.pack().into_bytes()).with_user_type(COPY_USER_TYPE)
}

impl Dht {
    /// Publishes the certificate chain of our identity at both of its keys and keeps it there: where peers of today
    /// look, and where those before OpenDHT 3.5 do.
    ///
    /// Nodes before OpenDHT 2.5.4 confirm a certificate at the newer key and drop it (`dht.md` 3.8). A copy that does not
    /// say it is a certificate lies beside it, so that Towlines find each other also where there are only such nodes.
    ///
    /// Without an identity the announcement fails with [`PutError::NoIdentity`].
    pub fn publish_certificate(&self) -> CertificateAnnouncement {
        let Some(identity) = self.identity() else {
            let nothing = || Announcement::impossible(CERTIFICATE_ID, PutError::NoIdentity);
            return CertificateAnnouncement { long: nothing(), copy: nothing(), short: nothing() };
        };
        let value = certificate_value(identity.chain());
        let key = InfoHash::of_certificate(&identity.device_id());
        CertificateAnnouncement {
            long: self.announce(key, value.clone()),
            copy: self.announce(key, certificate_copy(identity.chain())),
            short: self.announce(InfoHash::of_certificate_legacy(&identity.short_id()), value),
        }
    }

    /// Looks for the certificate of a device. The first chain that belongs to it and holds is returned. Dropping the
    /// future ends the lookup.
    ///
    /// The key of old peers cannot be told from a long id; where the short id is known too,
    /// [`find_certificate_at`](Self::find_certificate_at) looks at both.
    pub async fn find_certificate(&self, device: DeviceId) -> Result<FoundCertificate, FindCertificateError> {
        self.find_certificate_at(Some(device), None).await
    }

    /// Looks for the certificate of a device by its short id, where peers before OpenDHT 3.5 publish. Dropping the
    /// future ends the lookup.
    pub async fn find_certificate_by_short_id(
        &self,
        device: ShortId,
    ) -> Result<FoundCertificate, FindCertificateError> {
        self.find_certificate_at(None, Some(device)).await
    }

    /// Looks for the certificate of a device by one or both of its ids, at both keys at once. The chain must match
    /// each id that is given. Dropping the future ends the lookup.
    pub async fn find_certificate_at(
        &self,
        long: Option<DeviceId>,
        short: Option<ShortId>,
    ) -> Result<FoundCertificate, FindCertificateError> {
        let mut hunt = Hunt { long, short, evidence: CertificateEvidence::default() };
        let mut at_long = long.map(|id| self.look(InfoHash::of_certificate(&id), certificates()));
        let mut at_short = short.map(|id| self.look(InfoHash::of_certificate_legacy(&id), certificates()));
        // Looked for last: most networks keep the certificate itself.
        let mut copy_at = long.map(|id| InfoHash::of_certificate(&id));
        let mut failure = None;
        while at_long.is_some() || at_short.is_some() {
            let (at, lookup, news) = tokio::select! {
                biased;
                news = next(&mut at_long) => (CertificateKey::Long, &mut at_long, news),
                news = next(&mut at_short) => (CertificateKey::Short, &mut at_short, news),
            };
            match news {
                Ok(Some(value)) => {
                    if let Some(chain) = hunt.examine(at, &value) {
                        return Ok(FoundCertificate { chain, at });
                    }
                }
                Ok(None) => {
                    let report = lookup.take().and_then(|lookup| lookup.end());
                    hunt.evidence.answers += report.and_then(Result::ok).map_or(0, |report| report.nodes);
                    if at == CertificateKey::Long
                        && let Some(key) = copy_at.take()
                    {
                        at_long = Some(self.look(key, copies()));
                    }
                }
                Err(why) => {
                    failure = Some(why);
                    *lookup = None;
                }
            }
        }
        match failure {
            // One key was looked at; the other one's failure would hide that.
            Some(why) if hunt.evidence.answers == 0 => Err(FindCertificateError::Lookup(why)),
            _ => Err(FindCertificateError::NotFound(hunt.evidence)),
        }
    }

    fn look(&self, key: InfoHash, query: Query) -> RawGet {
        // At most one value of a node has the id, so asking for it whole at once costs no more than that.
        self.get_raw(key, GetOptions { query, plain: true })
    }
}

fn certificates() -> Query {
    Query::by_id(CERTIFICATE_ID).and(Restriction::ValueType(types::CERTIFICATE.into()))
}

fn copies() -> Query {
    Query::by_id(COPY_ID).and(Restriction::UserType(COPY_USER_TYPE.into()))
}

/// The next value of a lookup; never, if there is none.
async fn next(lookup: &mut Option<RawGet>) -> Result<Option<Arc<Value>>, GetError> {
    match lookup {
        Some(lookup) => lookup.next().await,
        None => std::future::pending().await,
    }
}

/// A search for the certificate of one device.
struct Hunt {
    long: Option<DeviceId>,
    short: Option<ShortId>,
    evidence: CertificateEvidence,
}

impl Hunt {
    fn examine(&mut self, at: CertificateKey, value: &Value) -> Option<Chain> {
        self.evidence.values += 1;
        match self.accept(value) {
            Ok(chain) => Some(chain),
            Err(why) => {
                tracing::debug!(?at, %why, "passed over a certificate");
                if self.evidence.rejected.len() < DESCRIBED {
                    self.evidence.rejected.push(RejectedCertificate { at, why });
                }
                None
            }
        }
    }

    fn accept(&self, value: &Value) -> Result<Chain, RejectionReason> {
        // Skips the msgpack header in front of the PEM, as every reader does.
        let chain = Chain::unpack(value.data())?;
        let other_long = self.long.is_some_and(|wanted| chain.device_id() != wanted);
        if other_long || self.short.is_some_and(|wanted| chain.short_id() != wanted) {
            return Err(RejectionReason::OtherDevice(chain.device_id()));
        }
        chain.verify_links()?;
        Ok(chain)
    }
}
