//! The payloads of the registered value types (`dht.md` 3.5).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{DHT_MESSAGE, ICE_CANDIDATES, IM_MESSAGE, IP_SERVICE_ANNOUNCEMENT, TRUST_REQUEST};
use crate::wire::WireError;
use crate::wire::reader::Reader;
use crate::wire::writer::Writer;
use crate::{Value, sockaddr};

/// Something a value of a certain type says.
pub trait Payload: Sized {
    /// The value type.
    const TYPE: u16;

    /// The bytes that stand in the value's data.
    fn encode(&self) -> Vec<u8>;

    /// Reads a value's data.
    fn decode(data: &[u8]) -> Result<Self, WireError>;

    /// An unsigned value that says this.
    fn to_value(&self, id: u64) -> Value {
        Value::new(id, Self::TYPE, self.encode())
    }
}

/// A message for a named service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DhtMessage {
    /// Name of the service; an empty one is not stored.
    pub service: String,
    /// The message.
    pub data: Vec<u8>,
}

impl Payload for DhtMessage {
    const TYPE: u16 = DHT_MESSAGE;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.array(2);
        writer.str(&self.service);
        writer.bin(&self.data);
        writer.finish()
    }

    fn decode(data: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(data);
        if reader.array("message")? < 2 {
            return Err(WireError::Range("message"));
        }
        Ok(Self { service: reader.str("service")?.to_owned(), data: reader.blob("data")?.into_owned() })
    }
}

/// "A service is reachable at this address." Storing nodes put the sender's IP in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpServiceAnnouncement {
    /// Where.
    pub address: SocketAddr,
}

impl Payload for IpServiceAnnouncement {
    const TYPE: u16 = IP_SERVICE_ANNOUNCEMENT;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.bin(&sockaddr::write(self.address));
        writer.finish()
    }

    fn decode(data: &[u8]) -> Result<Self, WireError> {
        let address =
            sockaddr::read(&Reader::new(data).blob("address")?).ok_or(WireError::Range("address"))?;
        Ok(Self { address })
    }
}

/// An instant message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImMessage {
    /// Id of the message.
    pub id: u64,
    /// The text.
    pub message: String,
    /// When it was sent, Unix seconds.
    pub date: i64,
    /// 0 none, 1 typing, 2 received, 3 read.
    pub status: u64,
    /// MIME type of the text; empty for plain text.
    pub datatype: String,
    /// Anything else, by name.
    pub metadata: BTreeMap<String, String>,
}

impl Payload for ImMessage {
    const TYPE: u16 = IM_MESSAGE;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(6);
        writer.str("id");
        writer.uint(self.id);
        writer.str("msg");
        writer.str(&self.message);
        writer.str("date");
        writer.int(self.date);
        writer.str("status");
        writer.uint(self.status);
        writer.str("datatype");
        writer.str(&self.datatype);
        writer.str("metadatas");
        writer.map(self.metadata.len());
        for (name, text) in &self.metadata {
            writer.str(name);
            writer.str(text);
        }
        writer.finish()
    }

    fn decode(data: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(data);
        let mut message = Self::default();
        for _ in 0..reader.map("message")? {
            match reader.key()? {
                Some(b"id") => message.id = reader.uint("id")?,
                Some(b"msg") => reader.str("msg")?.clone_into(&mut message.message),
                Some(b"date") => message.date = reader.int("date")?,
                Some(b"status") => message.status = reader.uint("status")?,
                Some(b"datatype") => reader.str("datatype")?.clone_into(&mut message.datatype),
                Some(b"metadatas") => {
                    for _ in 0..reader.map("metadatas")? {
                        let name = reader.str("metadatas")?.to_owned();
                        message.metadata.insert(name, reader.str("metadatas")?.to_owned());
                    }
                }
                _ => {
                    reader.object()?;
                }
            }
        }
        Ok(message)
    }
}

/// "Will you take me as a contact?"
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustRequest {
    /// Name of the program that asks.
    pub service: String,
    /// Conversation the asker has made for the two.
    pub conversation_id: String,
    /// A card of the asker, or whatever the service puts here.
    pub payload: Vec<u8>,
    /// Whether this confirms a request that came the other way.
    pub confirm: bool,
    /// When it was sent, Unix milliseconds; added by Jami.
    pub invited_ms: Option<i64>,
}

impl Payload for TrustRequest {
    const TYPE: u16 = TRUST_REQUEST;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(4 + usize::from(self.invited_ms.is_some()));
        writer.str("service");
        writer.str(&self.service);
        writer.str("conversationId");
        writer.str(&self.conversation_id);
        writer.str("payload");
        writer.bin(&self.payload);
        writer.str("confirm");
        writer.boolean(self.confirm);
        if let Some(invited) = self.invited_ms {
            writer.str("invitedMs");
            writer.int(invited);
        }
        writer.finish()
    }

    fn decode(data: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(data);
        let mut request = Self::default();
        for _ in 0..reader.map("request")? {
            match reader.key()? {
                Some(b"service") => reader.str("service")?.clone_into(&mut request.service),
                Some(b"conversationId") => {
                    reader.str("conversationId")?.clone_into(&mut request.conversation_id);
                }
                Some(b"payload") => request.payload = reader.blob("payload")?.into_owned(),
                Some(b"confirm") => request.confirm = reader.boolean("confirm")?,
                Some(b"invitedMs") => request.invited_ms = Some(reader.int("invitedMs")?),
                _ => {
                    reader.object()?;
                }
            }
        }
        Ok(request)
    }
}

/// Candidates of an ICE session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IceCandidates {
    /// Id of the exchange.
    pub id: u64,
    /// The candidates, in the form of the program that sends them.
    pub data: Vec<u8>,
}

impl Payload for IceCandidates {
    const TYPE: u16 = ICE_CANDIDATES;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.array(2);
        writer.uint(self.id);
        writer.bin(&self.data);
        writer.finish()
    }

    fn decode(data: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(data);
        if reader.array("candidates")? < 2 {
            return Err(WireError::Range("candidates"));
        }
        Ok(Self { id: reader.uint("id")?, data: reader.blob("data")?.into_owned() })
    }
}
