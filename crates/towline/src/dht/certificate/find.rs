//! Finding the certificates of others.

use std::sync::Arc;

use towline_dht::node::GetOptions;
use towline_dht::{InfoHash, Query, Restriction, Value, types};
use towline_identity::{Chain, DeviceId, PublicKey, ShortId};

use super::{
    CERTIFICATE_ID, COPY_USER_TYPE, CertificateEvidence, CertificateKey, FindCertificateError,
    FoundCertificate, RejectedCertificate, RejectionReason,
};
use crate::dht::Dht;
use crate::dht::error::GetError;
use crate::dht::get::RawGet;
use crate::eras::{DeviceIds, Eras};

/// Rejected values that a failed lookup describes; the others it counts.
const DESCRIBED: usize = 8;

/// Chains that one lookup checks. One costs up to seven signatures, and whoever likes can put some there.
const CHECKED: usize = 32;

impl Dht {
    /// Looks for the certificate of a device. The first chain that belongs to it and holds is returned. Dropping the
    /// future ends the lookup.
    ///
    /// The key of old peers cannot be told from a long id; where the short id is known too,
    /// [`find_certificate_at`](Self::find_certificate_at) looks at both.
    pub async fn find_certificate(&self, device: DeviceId) -> Result<FoundCertificate, FindCertificateError> {
        self.find_certificate_preferring(device, |_| true).await
    }

    /// Looks for the certificate of a device by its short id, where peers before OpenDHT 3.5 publish. Dropping the
    /// future ends the lookup.
    pub async fn find_certificate_by_short_id(
        &self,
        device: ShortId,
    ) -> Result<FoundCertificate, FindCertificateError> {
        self.find_certificate_preferring(device, |_| true).await
    }

    /// Looks for the certificate of a device by one or both of its ids, at both keys at once. The chain must match
    /// each id that is given. Dropping the future ends the lookup.
    pub async fn find_certificate_at(
        &self,
        long: Option<DeviceId>,
        short: Option<ShortId>,
    ) -> Result<FoundCertificate, FindCertificateError> {
        match (long, short) {
            (Some(long), Some(short)) => {
                self.find_certificate_preferring(DeviceIds::both(long, short), |_| true).await
            }
            (Some(long), None) => self.find_certificate(long).await,
            (None, Some(short)) => self.find_certificate_by_short_id(short).await,
            (None, None) => Err(FindCertificateError::NotFound(CertificateEvidence::default())),
        }
    }

    /// Looks for a certificate of a device that `prefer` likes, by the ids that are known, at both keys at once. The
    /// chain must match each id that is given. Dropping the future ends the lookup.
    ///
    /// Any account can issue a certificate for the key of any device and publish it. So the lookup goes on past
    /// chains that `prefer` does not like; if it comes to its end without one it does like, the chain that the device has
    /// signed is returned, or else the first that belongs to the device and holds. No more than 32 chains are checked.
    pub async fn find_certificate_preferring(
        &self,
        device: impl Into<DeviceIds>,
        prefer: impl FnMut(&Chain) -> bool,
    ) -> Result<FoundCertificate, FindCertificateError> {
        self.find_certificate_in(Eras::Both, device.into(), prefer).await
    }

    /// The same at the keys of these eras only.
    pub(crate) async fn find_certificate_in(
        &self,
        eras: Eras,
        ids: DeviceIds,
        mut prefer: impl FnMut(&Chain) -> bool,
    ) -> Result<FoundCertificate, FindCertificateError> {
        let long = ids.long().filter(|_| eras.uses(CertificateKey::Long));
        let short = ids.short().filter(|_| eras.uses(CertificateKey::Short));
        if long.is_none() && short.is_none() {
            let wanted =
                if eras.uses(CertificateKey::Long) { CertificateKey::Long } else { CertificateKey::Short };
            return Err(FindCertificateError::IdUnknown(wanted));
        }
        let mut hunt = Hunt { ids, evidence: CertificateEvidence::default(), checked: 0 };
        let mut at_long = long.map(|id| self.look_for_certificate(InfoHash::of_certificate(&id)));
        let mut at_short = short.map(|id| self.look_for_certificate(InfoHash::of_certificate_legacy(&id)));
        // Looked for last: most networks keep the certificate itself.
        let mut copy_at = long.map(|id| InfoHash::of_certificate(&id));
        let mut failure = None;
        let mut second_best = None;
        while at_long.is_some() || at_short.is_some() {
            let (at, lookup, news) = tokio::select! {
                biased;
                news = next(&mut at_long) => (CertificateKey::Long, &mut at_long, news),
                news = next(&mut at_short) => (CertificateKey::Short, &mut at_short, news),
            };
            match news {
                Ok(Some(value)) => {
                    if let Some(chain) = hunt.examine(at, &value) {
                        let found = FoundCertificate { chain, at };
                        if prefer(&found.chain) {
                            return Ok(found);
                        }
                        if value.value_type() == types::CERTIFICATE {
                            second_best.get_or_insert(found);
                        } else {
                            // A copy: this is what the device says of itself.
                            second_best = Some(found);
                        }
                    }
                    if hunt.checked >= CHECKED {
                        break;
                    }
                }
                Ok(None) => {
                    let report = lookup.take().and_then(|lookup| lookup.end());
                    hunt.evidence.answers += report.and_then(Result::ok).map_or(0, |report| report.nodes);
                    if at == CertificateKey::Long
                        && let Some(key) = copy_at.take()
                    {
                        at_long = Some(self.look_for_copy(key, ids.short()));
                    }
                }
                Err(why) => {
                    failure = Some(why);
                    *lookup = None;
                }
            }
        }
        if let Some(found) = second_best {
            return Ok(found);
        }
        match failure {
            // One key was looked at; the other one's failure would hide that.
            Some(why) if hunt.evidence.answers == 0 => Err(FindCertificateError::Lookup(why)),
            _ => Err(FindCertificateError::NotFound(hunt.evidence)),
        }
    }

    fn look_for_certificate(&self, key: InfoHash) -> RawGet {
        let query = Query::by_id(CERTIFICATE_ID).and(Restriction::ValueType(types::CERTIFICATE.into()));
        // At most one value of a node has the id, so asking for it whole at once costs no more than that.
        self.get_raw(key, GetOptions { query, plain: true })
    }

    fn look_for_copy(&self, key: InfoHash, owner: Option<ShortId>) -> RawGet {
        let mut query = Query::only(Restriction::UserType(COPY_USER_TYPE.into()));
        if let Some(owner) = owner {
            query = query.and(Restriction::Owner(owner.into()));
        }
        self.get_raw(key, GetOptions { query, plain: false })
    }
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
    ids: DeviceIds,
    evidence: CertificateEvidence,
    /// Chains whose signatures were looked at.
    checked: usize,
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

    fn accept(&mut self, value: &Value) -> Result<Chain, RejectionReason> {
        // That a signature holds is known of everything that comes out of the DHT.
        let signer = value.owner();
        if value.value_type() != types::CERTIFICATE && !signer.is_some_and(|signer| self.is_meant(signer)) {
            return Err(RejectionReason::Unsigned);
        }
        // Skips the msgpack header in front of the PEM, as every reader does.
        let chain = Chain::unpack(value.data())?;
        if !self.is_meant(chain.public_key()) {
            return Err(RejectionReason::OtherDevice(chain.device_id()));
        }
        self.checked += 1;
        chain.verify_links()?;
        Ok(chain)
    }

    fn is_meant(&self, key: &PublicKey) -> bool {
        self.ids.long().is_none_or(|wanted| key.device_id() == wanted)
            && self.ids.short().is_none_or(|wanted| key.short_id() == wanted)
    }
}
