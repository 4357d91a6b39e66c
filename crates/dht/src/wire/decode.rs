//! From a datagram to a [`Message`] (`dht.md` 1.2 to 1.5).

use std::net::IpAddr;
use std::sync::Arc;

use super::reader::{Reader, Token as Lexeme};
use super::{WireError, nodes};
use crate::message::FieldRows;
use crate::{Body, InfoHash, Message, NodeEntry, Part, Query, Reply, Request, Token, Value, ValueItem, Want};

impl Message {
    /// Reads a datagram. Order is free; trailing bytes, unknown keys and keys that are not strings are ignored;
    /// a known key with the wrong type spoils the whole.
    pub fn decode(datagram: &[u8]) -> Result<Self, WireError> {
        let envelope = Envelope::read(datagram)?;
        Ok(Self {
            transaction: envelope.transaction,
            network: envelope.network,
            client: envelope.client,
            body: envelope.body()?,
        })
    }
}

/// The members of the top-level map; containers as the bytes they span.
#[derive(Default)]
struct Envelope<'a> {
    arguments: Option<&'a [u8]>,
    reply: Option<&'a [u8]>,
    error: Option<&'a [u8]>,
    notice: Option<&'a [u8]>,
    parts: Option<&'a [u8]>,
    request: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    transaction: u32,
    network: u32,
    client: bool,
}

impl<'a> Envelope<'a> {
    fn read(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let mut envelope = Self::default();
        for _ in 0..reader.map("message")? {
            let Some(key) = reader.key()? else {
                reader.object()?;
                continue;
            };
            match key {
                b"a" => envelope.arguments = Some(reader.object()?),
                b"r" => envelope.reply = Some(reader.object()?),
                b"e" => envelope.error = Some(reader.object()?),
                b"u" => envelope.notice = Some(reader.object()?),
                b"p" => envelope.parts = Some(reader.object()?),
                b"q" => envelope.request = Some(reader.str_bytes("q")?),
                b"y" => envelope.kind = Some(reader.str_bytes("y")?),
                b"t" => envelope.transaction = read_transaction(&mut reader, "t")?,
                b"n" => envelope.network = reader.narrow("n")?,
                b"s" => envelope.client = reader.boolean("s")?,
                b"v" => {
                    reader.str_bytes("v")?;
                }
                _ => {
                    reader.object()?;
                }
            }
        }
        Ok(envelope)
    }

    /// Which key is there decides what the message is, in this order: `e`, `r`, `p`, `u`, `q`.
    fn body(&self) -> Result<Body, WireError> {
        if let Some(error) = self.error {
            return self.error_body(error);
        }
        if self.reply.is_some() {
            let members = self.members()?;
            return Ok(Body::Reply { sender: members.sender()?, reply: members.reply() });
        }
        if let Some(parts) = self.parts {
            return read_parts(parts).map(Body::Parts);
        }
        if self.notice.is_some() {
            let members = self.members()?;
            return Ok(Body::Notice {
                sender: members.sender()?,
                token: members.token,
                refreshed: members.refreshed,
                expired: members.expired,
            });
        }
        if self.kind.is_some_and(|kind| kind != b"q") {
            return Err(WireError::Range("y"));
        }
        let request = self.request.ok_or(WireError::Missing("q"))?;
        let members = self.members()?;
        let sender = members.sender()?;
        Ok(Body::Request { sender, request: members.request(request)? })
    }

    fn error_body(&self, error: &[u8]) -> Result<Body, WireError> {
        let mut reader = Reader::new(error);
        if reader.array("e")? < 2 {
            return Err(WireError::Range("e"));
        }
        let code = reader.narrow("e")?;
        let text = String::from_utf8_lossy(reader.str_bytes("e")?).into_owned();
        let sender = match self.arguments.or(self.reply) {
            Some(_) => self.members()?.sender.filter(|id| !id.is_zero()),
            None => None,
        };
        Ok(Body::Error { sender, code, text })
    }

    fn members(&self) -> Result<Members, WireError> {
        let body = self.arguments.or(self.reply).or(self.notice).ok_or(WireError::Missing("a"))?;
        Members::read(body)
    }
}

/// The members of a body map, whatever the message; each kind takes those it knows.
#[derive(Default)]
struct Members {
    sender: Option<InfoHash>,
    key: InfoHash,
    target: InfoHash,
    want: Want,
    query: Option<Query>,
    token: Option<Token>,
    value_id: Option<u64>,
    values: Vec<ValueItem>,
    fields: Option<FieldRows>,
    nodes4: Vec<NodeEntry>,
    nodes6: Vec<NodeEntry>,
    created: Option<i64>,
    seen_address: Option<IpAddr>,
    socket: u32,
    version: u32,
    refreshed: Vec<u64>,
    expired: Vec<u64>,
}

impl Members {
    fn read(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let mut members = Self::default();
        for _ in 0..reader.map("a")? {
            let Some(key) = reader.key()? else {
                reader.object()?;
                continue;
            };
            match key {
                b"id" => members.sender = Some(reader.id("id")?),
                b"h" => members.key = reader.id("h")?,
                b"target" => members.target = reader.id("target")?,
                b"w" => members.want = read_want(&mut reader)?,
                b"q" => members.query = Some(Query::read(&mut reader)?),
                // One that cannot be a token is treated like none: the sender is told so by a 401.
                b"token" => members.token = Token::new(reader.blob("token")?),
                b"vid" => members.value_id = Some(reader.uint("vid")?),
                b"values" => members.values = read_values(&mut reader)?,
                b"fileds" => members.fields = Some(FieldRows::read(&mut reader)?),
                b"n4" => members.nodes4 = nodes::read_v4(&reader.blob("n4")?)?,
                b"n6" => members.nodes6 = nodes::read_v6(&reader.blob("n6")?)?,
                b"c" => members.created = Some(reader.int("c")?),
                b"sa" => members.seen_address = nodes::read_ip(reader.bin("sa")?),
                b"sid" => members.socket = read_transaction(&mut reader, "sid")?,
                b"ve" => members.version = reader.narrow("ve")?,
                b"re" => members.refreshed = read_ids(&mut reader, "re")?,
                b"exp" => members.expired = read_ids(&mut reader, "exp")?,
                _ => {
                    reader.object()?;
                }
            }
        }
        Ok(members)
    }

    /// The sender's id. Zero is what a peer writes that has none, and nobody may claim it.
    fn sender(&self) -> Result<InfoHash, WireError> {
        self.sender.filter(|id| !id.is_zero()).ok_or(WireError::Missing("id"))
    }

    fn reply(self) -> Reply {
        Reply {
            seen_address: self.seen_address,
            nodes4: self.nodes4,
            nodes6: self.nodes6,
            token: self.token,
            values: self.values,
            fields: self.fields,
            value_id: self.value_id,
        }
    }

    fn request(self, name: &[u8]) -> Result<Request, WireError> {
        Ok(match name {
            b"ping" => Request::Ping,
            b"find" => Request::Find { target: self.target, want: self.want },
            b"get" => Request::Get { key: self.key, query: self.query, want: self.want },
            b"put" => {
                Request::Put { key: self.key, values: self.values, created: self.created, token: self.token }
            }
            b"refresh" => Request::Refresh {
                key: self.key,
                value: self.value_id.unwrap_or_default(),
                token: self.token,
            },
            b"listen" => Request::Listen {
                key: self.key,
                token: self.token,
                socket: self.socket,
                query: self.query,
                version: self.version,
            },
            b"update" => Request::Update {
                key: Some(self.key).filter(|key| !key.is_zero()),
                socket: self.socket,
                token: self.token,
                values: self.values,
                refreshed: self.refreshed,
                expired: self.expired,
            },
            _ => return Err(WireError::UnknownRequest),
        })
    }
}

/// A transaction or socket id: a number, or in the legacy form four bytes in network order.
fn read_transaction(reader: &mut Reader<'_>, what: &'static str) -> Result<u32, WireError> {
    match reader.token()? {
        Lexeme::Uint(number) => u32::try_from(number).map_err(|_| WireError::Range(what)),
        Lexeme::Bin(bytes) | Lexeme::Str(bytes) => {
            bytes.try_into().map(u32::from_be_bytes).map_err(|_| WireError::Range(what))
        }
        _ => Err(WireError::Type(what)),
    }
}

/// Families are the sender's platform numbers: IPv6 is 10 on Linux, 23 on Windows, 28 on FreeBSD, 30 on macOS.
fn read_want(reader: &mut Reader<'_>) -> Result<Want, WireError> {
    let mut want = Want::default();
    for _ in 0..reader.array("w")? {
        match reader.int("w")? {
            2 => want.v4 = true,
            10 | 23 | 28 | 30 => want.v6 = true,
            _ => {}
        }
    }
    Ok(want)
}

fn read_ids(reader: &mut Reader<'_>, what: &'static str) -> Result<Vec<u64>, WireError> {
    (0..reader.array(what)?).map(|_| reader.uint(what)).collect()
}

/// A value that cannot be read does not spoil the others, but keeps its place while parts refer to places.
fn read_values(reader: &mut Reader<'_>) -> Result<Vec<ValueItem>, WireError> {
    let mut items = Vec::new();
    let mut announced = false;
    for _ in 0..reader.array("values")? {
        let object = reader.object()?;
        items.push(match Reader::new(object).token()? {
            Lexeme::Uint(size) => {
                announced = true;
                match usize::try_from(size) {
                    Ok(size) if size <= Value::MAX_PACKED_SIZE => ValueItem::Announced(size),
                    _ => ValueItem::Malformed,
                }
            }
            _ => match Value::unpack(object) {
                Ok(value) => ValueItem::Inline(Arc::new(value)),
                Err(error) => {
                    tracing::trace!(%error, "skipped a malformed value");
                    ValueItem::Malformed
                }
            },
        });
    }
    if !announced {
        items.retain(|item| *item != ValueItem::Malformed);
    }
    Ok(items)
}

/// `{index: {o: offset, d: bytes}}`
fn read_parts(parts: &[u8]) -> Result<Vec<Part>, WireError> {
    let mut reader = Reader::new(parts);
    (0..reader.map("p")?)
        .map(|_| {
            let index = reader.narrow("p")?;
            let mut offset = None;
            let mut data = None;
            for _ in 0..reader.map("p")? {
                match reader.key()? {
                    Some(b"o") => offset = Some(reader.narrow("o")?),
                    Some(b"d") => data = Some(reader.blob("d")?.into_owned()),
                    _ => {
                        reader.object()?;
                    }
                }
            }
            Ok(Part {
                index,
                offset: offset.ok_or(WireError::Missing("o"))?,
                data: data.ok_or(WireError::Missing("d"))?,
            })
        })
        .collect()
}
