//! Certificates as values (`dht.md` 3.8).

use towline_identity::{Chain, ChainError, DeviceId};

use super::CERTIFICATE;
use crate::wire::writer::Writer;
use crate::{InfoHash, Query, Restriction, Value};

/// Id under which a node publishes its certificate.
pub const CERTIFICATE_VALUE_ID: u64 = 1;

/// The payload of a certificate value: the PEM chain, leaf first, in a msgpack bin.
pub fn certificate_payload(chain: &Chain) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.bin(chain.pack().as_bytes());
    writer.finish()
}

/// The value that publishes `chain`.
pub fn certificate_value(chain: &Chain) -> Value {
    Value::new(CERTIFICATE_VALUE_ID, CERTIFICATE, certificate_payload(chain))
}

/// Reads the payload of a certificate value: PEM, in a msgpack bin or bare, or bare DER.
pub fn decode_certificate(data: &[u8]) -> Result<Chain, ChainError> {
    Chain::unpack(data)
}

/// The keys `chain` is published at: the current one and the one that nodes before 3.5 search and store at.
pub fn certificate_keys(chain: &Chain) -> [InfoHash; 2] {
    let key = chain.public_key();
    [InfoHash::of_certificate(&key.device_id()), InfoHash::of_certificate_legacy(&key.short_id())]
}

/// The query for certificates at a key.
pub fn certificate_query() -> Query {
    Query::only(Restriction::ValueType(CERTIFICATE.into()))
}

/// The chain in `value`, if it is that of `device`. Nothing else about it is checked.
pub fn certificate_of(value: &Value, device: &DeviceId) -> Option<Chain> {
    let chain = (value.value_type() == CERTIFICATE).then(|| decode_certificate(value.data()).ok())??;
    (chain.device_id() == *device).then_some(chain)
}
