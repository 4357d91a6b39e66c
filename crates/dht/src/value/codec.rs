//! Packing and unpacking values: canonical on the way out, any order and unknown keys on the way in (`dht.md`
//! 3.1).

use std::io;

use towline_identity::PublicKey;

use super::{Body, Content, Ownership, Value};
use crate::wire::WireError;
use crate::wire::reader::{Reader, Token};
use crate::wire::writer::Writer;

impl Value {
    /// The canonical bytes.
    pub fn pack(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(self.packed_size());
        self.write(&mut writer);
        writer.finish()
    }

    /// Reads a value: any order of keys, unknown ones and what comes after it are ignored.
    pub fn unpack(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let mut id = None;
        let mut content = None;
        let mut priority = 0;
        let mut push_type = String::new();
        for _ in 0..reader.map("value")? {
            match reader.key()? {
                Some(b"id") => id = Some(reader.uint("id")?),
                Some(b"dat") => content = Some(read_content(&mut reader)?),
                Some(b"p") => priority = reader.narrow("p")?,
                Some(b"pt") => reader.str("pt")?.clone_into(&mut push_type),
                _ => {
                    reader.object()?;
                }
            }
        }
        Ok(Self {
            id: id.ok_or(WireError::Missing("id"))?,
            content: content.ok_or(WireError::Missing("dat"))?,
            priority,
            push_type,
        })
    }

    /// Length of [`Value::pack`] in bytes, without packing.
    pub fn packed_size(&self) -> usize {
        Writer::count(|writer| self.write(writer))
    }

    /// The bytes a signature covers: the body alone. `None` while encrypted.
    pub fn to_sign(&self) -> Option<Vec<u8>> {
        self.body().map(Body::to_sign)
    }

    /// The bytes that are encrypted: body and signature, without the id. `None` while encrypted.
    pub fn to_encrypt(&self) -> Option<Vec<u8>> {
        let mut writer = Writer::default();
        self.body()?.write_signed(&mut writer);
        Some(writer.finish())
    }

    pub(crate) fn write<W: io::Write>(&self, writer: &mut Writer<W>) {
        writer.map(2 + usize::from(self.priority != 0) + usize::from(!self.push_type.is_empty()));
        writer.str("id");
        writer.uint(self.id);
        writer.str("dat");
        match &self.content {
            Content::Encrypted(cypher) => writer.bin(cypher),
            Content::Plain(body) => body.write_signed(writer),
        }
        if self.priority != 0 {
            writer.str("p");
            writer.uint(self.priority);
        }
        if !self.push_type.is_empty() {
            writer.str("pt");
            writer.str(&self.push_type);
        }
    }
}

impl Body {
    /// The bytes a signature covers.
    pub(super) fn to_sign(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.finish()
    }

    /// Reads what [`Value::to_encrypt`] gives.
    pub(super) fn unpack_signed(bytes: &[u8]) -> Result<Self, WireError> {
        match read_content(&mut Reader::new(bytes))? {
            Content::Plain(body) => Ok(body),
            Content::Encrypted(_) => Err(WireError::Type("dat")),
        }
    }

    fn write<W: io::Write>(&self, writer: &mut Writer<W>) {
        let owner = self.ownership.as_ref().map_or(0, |it| 2 + usize::from(it.recipient.is_some()));
        writer.map(2 + owner + usize::from(!self.user_type.is_empty()));
        if let Some(ownership) = &self.ownership {
            writer.str("seq");
            writer.uint(ownership.seq);
            writer.str("owner");
            writer.bin(ownership.owner.spki_der());
            if let Some(recipient) = &ownership.recipient {
                writer.str("to");
                writer.bin(recipient.as_ref());
            }
        }
        writer.str("type");
        writer.uint(self.value_type);
        writer.str("data");
        writer.bin(&self.data);
        if !self.user_type.is_empty() {
            writer.str("utype");
            writer.str(&self.user_type);
        }
    }

    fn write_signed<W: io::Write>(&self, writer: &mut Writer<W>) {
        let signature = self.ownership.as_ref().map(|it| &it.signature).filter(|it| !it.is_empty());
        writer.map(1 + usize::from(signature.is_some()));
        writer.str("body");
        self.write(writer);
        if let Some(signature) = signature {
            writer.str("sig");
            writer.bin(signature);
        }
    }
}

fn read_content(reader: &mut Reader<'_>) -> Result<Content, WireError> {
    let len = match reader.token()? {
        Token::Bin(cypher) => return Ok(Content::Encrypted(cypher.to_vec())),
        Token::Map(len) => len,
        _ => return Err(WireError::Type("dat")),
    };
    let mut body = None;
    let mut signature = None;
    for _ in 0..len {
        match reader.key()? {
            Some(b"body") => body = Some(reader.object()?),
            Some(b"sig") => signature = Some(reader.object()?),
            _ => {
                reader.object()?;
            }
        }
    }
    read_body(body.ok_or(WireError::Missing("body"))?, signature).map(Content::Plain)
}

/// Members of an owned body mean nothing without an owner, so they are looked at only beside one.
fn read_body(bytes: &[u8], signature: Option<&[u8]>) -> Result<Body, WireError> {
    let mut reader = Reader::new(bytes);
    let (mut seq, mut owner, mut recipient) = (None, None, None);
    let (mut value_type, mut data, mut user_type) = (None, None, String::new());
    for _ in 0..reader.map("body")? {
        match reader.key()? {
            Some(b"seq") => seq = Some(reader.object()?),
            Some(b"owner") => owner = Some(reader.blob("owner")?),
            Some(b"to") => recipient = Some(reader.object()?),
            Some(b"type") => value_type = Some(reader.narrow("type")?),
            Some(b"data") => data = Some(reader.blob("data")?.into_owned()),
            Some(b"utype") => reader.str("utype")?.clone_into(&mut user_type),
            _ => {
                reader.object()?;
            }
        }
    }
    let ownership = match owner {
        None => None,
        Some(owner) => {
            let seq = seq.ok_or(WireError::Missing("seq"))?;
            let signature =
                Reader::new(signature.ok_or(WireError::Missing("sig"))?).blob("sig")?.into_owned();
            // The reference keeps the owner of such a value; whoever does can be shown a false one (`dht.md` 9.1).
            if signature.is_empty() {
                return Err(WireError::EmptySignature);
            }
            Some(Ownership {
                seq: Reader::new(seq).narrow("seq")?,
                owner: PublicKey::from_spki_der(&owner).map_err(|_| WireError::OwnerKey)?,
                recipient: recipient.map(|bytes| Reader::new(bytes).id("to")).transpose()?,
                signature,
            })
        }
    };
    Ok(Body {
        value_type: value_type.ok_or(WireError::Missing("type"))?,
        data: data.ok_or(WireError::Missing("data"))?,
        user_type,
        ownership,
    })
}
