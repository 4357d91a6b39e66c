//! Packing and unpacking values.
use super::Value;
use crate::WireError;

/// Why bytes are not a value.
pub type ValueError = WireError;

impl Value {
    /// The canonical bytes (`dht.md` 3.1).
    pub fn pack(&self) -> Vec<u8> {
        todo!()
    }

    /// Reads a value: any order of keys, unknown ones ignored, bytes after it ignored.
    pub fn unpack(_bytes: &[u8]) -> Result<Self, ValueError> {
        todo!()
    }

    /// Length of [`Value::pack`] in bytes, without packing.
    pub fn packed_size(&self) -> usize {
        todo!()
    }

    /// The bytes a signature covers: the body alone. `None` while encrypted.
    pub fn to_sign(&self) -> Option<Vec<u8>> {
        todo!()
    }

    /// The bytes that are encrypted: body and signature. `None` while encrypted.
    pub fn to_encrypt(&self) -> Option<Vec<u8>> {
        todo!()
    }
}
