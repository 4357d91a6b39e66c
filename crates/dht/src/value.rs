//! Values: what is stored in the table, plain, signed or encrypted (`dht.md` 3.1 to 3.3).

use towline_identity::PublicKey;

use crate::InfoHash;

mod codec;
mod seal;

pub use seal::{OpenError, SealError, SignatureError};

/// A value as it is stored and travels.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Names the value among those of its key; not bound by a signature. 0 is not a valid id.
    pub id: u64,
    /// What it says.
    pub content: Content,
    /// 0 is high and the default; not bound by a signature.
    pub priority: u32,
    /// Push notification type; empty for none, not bound by a signature. Old nodes lose it.
    pub push_type: String,
}

/// The content of a value: readable, or for one recipient only.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// For everybody.
    Plain(Body),
    /// The cypher of a signed body; only its recipient can tell whose it is.
    Encrypted(Vec<u8>),
}

/// What a readable value says, and who says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// Value type (`crate::types`).
    pub value_type: u16,
    /// The payload.
    pub data: Vec<u8>,
    /// A MIME-like type chosen by the user; empty for none.
    pub user_type: String,
    /// Who signed it, if anybody.
    pub ownership: Option<Ownership>,
}

/// The owner of a value and what only values with an owner have.
#[derive(Debug, Clone, PartialEq)]
pub struct Ownership {
    /// Sequence number: a higher one replaces a lower one.
    pub seq: u16,
    /// The owner's key.
    pub owner: PublicKey,
    /// Short id of the recipient's key, inside encrypted values.
    pub recipient: Option<InfoHash>,
    /// Signature over [`Value::to_sign`]. An empty one is a claim without proof: it is never read, stored nor
    /// shown as signed.
    pub signature: Vec<u8>,
}

impl Value {
    /// Most bytes that payload, signature, user type and cypher of a value may have together.
    pub const MAX_SIZE: usize = 64 * 1024;

    /// Most bytes of a packed value that are accepted in parts (`dht.md` 1.10).
    pub const MAX_PACKED_SIZE: usize = Self::MAX_SIZE + 32;

    /// An unsigned value without user type.
    pub fn new(id: u64, value_type: u16, data: impl Into<Vec<u8>>) -> Self {
        let body = Body { value_type, data: data.into(), user_type: String::new(), ownership: None };
        Self { id, content: Content::Plain(body), priority: 0, push_type: String::new() }
    }

    /// This value with a user type. Does nothing to an encrypted value.
    #[must_use]
    pub fn with_user_type(mut self, user_type: impl Into<String>) -> Self {
        if let Content::Plain(body) = &mut self.content {
            body.user_type = user_type.into();
        }
        self
    }

    /// The body, unless the value is encrypted.
    pub const fn body(&self) -> Option<&Body> {
        match &self.content {
            Content::Plain(body) => Some(body),
            Content::Encrypted(_) => None,
        }
    }

    /// The owner and what comes with it.
    pub fn ownership(&self) -> Option<&Ownership> {
        self.body()?.ownership.as_ref()
    }

    /// The key of the owner.
    pub fn owner(&self) -> Option<&PublicKey> {
        self.ownership().map(|ownership| &ownership.owner)
    }

    /// Short id of the owner's key.
    pub fn owner_id(&self) -> Option<InfoHash> {
        self.owner().map(|key| key.short_id().into())
    }

    /// The value type; 0 while encrypted.
    pub fn value_type(&self) -> u16 {
        self.body().map_or(0, |body| body.value_type)
    }

    /// The payload; empty while encrypted.
    pub fn data(&self) -> &[u8] {
        self.body().map_or(&[], |body| &body.data)
    }

    /// The user type; empty while encrypted.
    pub fn user_type(&self) -> &str {
        self.body().map_or("", |body| &body.user_type)
    }

    /// The sequence number; 0 without owner.
    pub fn seq(&self) -> u16 {
        self.ownership().map_or(0, |ownership| ownership.seq)
    }

    /// Whether it has an owner and a signature (which may still be false: [`Value::check_signature`]).
    pub fn is_signed(&self) -> bool {
        self.ownership().is_some_and(|ownership| !ownership.signature.is_empty())
    }

    /// Whether only the recipient can read it.
    pub const fn is_encrypted(&self) -> bool {
        matches!(self.content, Content::Encrypted(_))
    }

    /// Bytes counted against [`Value::MAX_SIZE`]: payload, signature, user type and cypher.
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Encrypted(cypher) => cypher.len(),
            Content::Plain(body) => {
                let signature = body.ownership.as_ref().map_or(0, |ownership| ownership.signature.len());
                body.data.len() + body.user_type.len() + signature
            }
        }
    }

    /// Whether a storing node treats `other` as the same content (`dht.md` 2.11): a put of it is a refresh.
    ///
    /// Sequence number and recipient are not compared, but a signature binds them.
    pub fn same_content(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Content::Encrypted(a), Content::Encrypted(b)) => a == b,
            (Content::Plain(a), Content::Plain(b)) => {
                a.value_type == b.value_type
                    && a.data == b.data
                    && a.user_type == b.user_type
                    && a.signer() == b.signer()
            }
            _ => false,
        }
    }

    /// Whether this is a later version of `other`: under the same id, by the same owner, of the same types, and with a
    /// higher sequence number. Only worth as much as the signatures, which are not checked here.
    ///
    /// A signature binds no id: without the types, anything its owner ever signed could stand before `other`.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.id == other.id
            && self.owner().is_some()
            && self.owner() == other.owner()
            && self.value_type() == other.value_type()
            && self.user_type() == other.user_type()
            && self.seq() > other.seq()
    }
}

impl Body {
    /// The owner's key and signature.
    fn signer(&self) -> Option<(&PublicKey, &[u8])> {
        self.ownership.as_ref().map(|it| (&it.owner, it.signature.as_slice()))
    }
}
