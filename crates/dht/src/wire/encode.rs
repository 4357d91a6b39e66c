//! From a [`Message`] to a datagram, in the key orders of the reference (`dht.md` 1.5).

use std::net::IpAddr;

use super::writer::Writer;
use super::{AGENT, nodes};
use crate::{Body, InfoHash, Message, Part, Query, Reply, Request, Token, ValueItem, Want};

/// Room for the usual datagram without growing.
const CAPACITY: usize = 256;
/// Address families as Linux numbers them.
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;

impl Message {
    /// Writes the datagram. Values go inline, whatever their size: for those that may be long use
    /// [`datagrams`](crate::fragment::datagrams).
    pub fn encode(&self) -> Vec<u8> {
        self.encode_as(AGENT)
    }

    /// [`Message::encode`] with another user agent.
    #[doc(hidden)]
    pub fn encode_as(&self, agent: &str) -> Vec<u8> {
        let mut writer = Writer::with_capacity(CAPACITY);
        let flags = usize::from(self.network != 0) + usize::from(self.client);
        match &self.body {
            Body::Request { sender, request } => {
                writer.map(5 + flags);
                writer.str("a");
                write_request(&mut writer, sender, request);
                if is_notice(request) {
                    self.kind_and_agent(&mut writer, "q", agent);
                    self.name_and_transaction(&mut writer, request);
                } else {
                    self.name_and_transaction(&mut writer, request);
                    self.kind_and_agent(&mut writer, "q", agent);
                }
                self.flags(&mut writer);
            }
            Body::Reply { sender, reply } => {
                writer.map(4 + flags);
                writer.str("r");
                write_reply(&mut writer, sender, reply);
                self.transaction(&mut writer);
                self.kind_and_agent(&mut writer, "r", agent);
                self.flags(&mut writer);
            }
            Body::Error { sender, code, text } => {
                writer.map(4 + usize::from(sender.is_some()) + flags);
                writer.str("e");
                writer.array(2);
                writer.uint(*code);
                writer.str(text);
                if let Some(sender) = sender {
                    writer.str("r");
                    writer.map(1);
                    write_id(&mut writer, "id", sender);
                }
                self.transaction(&mut writer);
                self.kind_and_agent(&mut writer, "e", agent);
                self.flags(&mut writer);
            }
            Body::Notice { sender, token, refreshed, expired } => {
                writer.map(4 + flags);
                writer.str("u");
                writer.map(1 + present([token.is_some(), !refreshed.is_empty(), !expired.is_empty()]));
                write_id(&mut writer, "id", sender);
                write_token(&mut writer, token.as_ref());
                write_numbers(&mut writer, "re", refreshed);
                write_numbers(&mut writer, "exp", expired);
                self.kind_and_agent(&mut writer, "r", agent);
                self.transaction(&mut writer);
                self.flags(&mut writer);
            }
            Body::Parts(parts) => {
                writer.map(3 + flags);
                self.flags(&mut writer);
                writer.str("y");
                writer.str("p");
                self.transaction(&mut writer);
                write_parts(&mut writer, parts);
            }
        }
        writer.finish()
    }

    fn name_and_transaction(&self, writer: &mut Writer, request: &Request) {
        writer.str("q");
        writer.str(request.name());
        self.transaction(writer);
    }

    fn transaction(&self, writer: &mut Writer) {
        writer.str("t");
        writer.uint(self.transaction);
    }

    #[expect(clippy::unused_self, reason = "reads as a line of the envelope beside its siblings")]
    fn kind_and_agent(&self, writer: &mut Writer, kind: &str, agent: &str) {
        writer.str("y");
        writer.str(kind);
        writer.str("v");
        writer.str(agent);
    }

    fn flags(&self, writer: &mut Writer) {
        if self.network != 0 {
            writer.str("n");
            writer.uint(self.network);
        }
        if self.client {
            writer.str("s");
            writer.boolean(true);
        }
    }
}

impl Request {
    /// The name on the wire (`q`).
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Find { .. } => "find",
            Self::Get { .. } => "get",
            Self::Put { .. } => "put",
            Self::Refresh { .. } => "refresh",
            Self::Listen { .. } => "listen",
            Self::Update { .. } => "update",
        }
    }
}

/// Updates about refreshed and expired ids have neither key nor version, and order the envelope otherwise.
const fn is_notice(request: &Request) -> bool {
    matches!(request, Request::Update { key: None, .. })
}

fn present<const N: usize>(members: [bool; N]) -> usize {
    members.into_iter().map(usize::from).sum()
}

fn write_request(writer: &mut Writer, sender: &InfoHash, request: &Request) {
    match request {
        Request::Ping => {
            writer.map(1);
            write_id(writer, "id", sender);
        }
        Request::Find { target, want } => {
            writer.map(2 + present([*want != Want::default()]));
            write_id(writer, "id", sender);
            write_id(writer, "target", target);
            write_want(writer, *want);
        }
        Request::Get { key, query, want } => {
            writer.map(2 + present([query.is_some(), *want != Want::default()]));
            write_id(writer, "id", sender);
            write_id(writer, "h", key);
            write_query(writer, query.as_ref());
            write_want(writer, *want);
        }
        Request::Put { key, values, created, token } => {
            writer.map(3 + present([created.is_some(), token.is_some()]));
            write_id(writer, "id", sender);
            write_id(writer, "h", key);
            write_values(writer, values);
            if let Some(created) = created {
                writer.str("c");
                writer.int(*created);
            }
            write_token(writer, token.as_ref());
        }
        Request::Refresh { key, value, token } => {
            writer.map(3 + present([token.is_some()]));
            write_id(writer, "id", sender);
            write_id(writer, "h", key);
            writer.str("vid");
            writer.uint(*value);
            write_token(writer, token.as_ref());
        }
        Request::Listen { key, token, socket, query, version } => {
            writer.map(3 + present([*version != 0, token.is_some(), query.is_some()]));
            write_id(writer, "id", sender);
            if *version != 0 {
                writer.str("ve");
                writer.uint(*version);
            }
            write_id(writer, "h", key);
            write_token(writer, token.as_ref());
            writer.str("sid");
            writer.uint(*socket);
            write_query(writer, query.as_ref());
        }
        Request::Update { key: Some(key), socket, token, values, refreshed, expired } => {
            let lists = [token.is_some(), !values.is_empty(), !refreshed.is_empty(), !expired.is_empty()];
            writer.map(4 + present(lists));
            write_id(writer, "id", sender);
            writer.str("ve");
            writer.uint(1_u8);
            write_id(writer, "h", key);
            writer.str("sid");
            writer.uint(*socket);
            if !values.is_empty() {
                write_values(writer, values);
            }
            write_token(writer, token.as_ref());
            write_numbers(writer, "re", refreshed);
            write_numbers(writer, "exp", expired);
        }
        Request::Update { key: None, socket, token, values, refreshed, expired } => {
            let lists = [token.is_some(), !values.is_empty(), !refreshed.is_empty(), !expired.is_empty()];
            writer.map(2 + present(lists));
            write_id(writer, "id", sender);
            writer.str("sid");
            writer.uint(*socket);
            if !values.is_empty() {
                write_values(writer, values);
            }
            write_token(writer, token.as_ref());
            write_numbers(writer, "re", refreshed);
            write_numbers(writer, "exp", expired);
        }
    }
}

fn write_reply(writer: &mut Writer, sender: &InfoHash, reply: &Reply) {
    let nodes4 = nodes::pack_v4(&reply.nodes4);
    let nodes6 = nodes::pack_v6(&reply.nodes6);
    writer.map(
        1 + present([
            reply.value_id.is_some(),
            reply.seen_address.is_some(),
            !nodes4.is_empty(),
            !nodes6.is_empty(),
            reply.token.is_some(),
            !reply.values.is_empty(),
            reply.fields.is_some(),
        ]),
    );
    write_id(writer, "id", sender);
    if let Some(id) = reply.value_id {
        writer.str("vid");
        writer.uint(id);
    }
    if let Some(address) = reply.seen_address {
        writer.str("sa");
        match address {
            IpAddr::V4(ip) => writer.bin(&ip.octets()),
            IpAddr::V6(ip) => writer.bin(&ip.octets()),
        }
    }
    for (name, packed) in [("n4", nodes4), ("n6", nodes6)] {
        if !packed.is_empty() {
            writer.str(name);
            writer.bin(&packed);
        }
    }
    write_token(writer, reply.token.as_ref());
    if !reply.values.is_empty() {
        write_values(writer, &reply.values);
    }
    if let Some(fields) = &reply.fields {
        writer.str("fileds");
        fields.write(writer);
    }
}

fn write_id(writer: &mut Writer, name: &str, id: &InfoHash) {
    writer.str(name);
    writer.bin(id.as_ref());
}

fn write_token(writer: &mut Writer, token: Option<&Token>) {
    if let Some(token) = token {
        writer.str("token");
        writer.bin(token.as_bytes());
    }
}

fn write_query(writer: &mut Writer, query: Option<&Query>) {
    if let Some(query) = query {
        writer.str("q");
        query.write(writer);
    }
}

fn write_want(writer: &mut Writer, want: Want) {
    if want != Want::default() {
        writer.str("w");
        writer.array(present([want.v4, want.v6]));
        for (wanted, family) in [(want.v4, FAMILY_V4), (want.v6, FAMILY_V6)] {
            if wanted {
                writer.uint(family);
            }
        }
    }
}

fn write_numbers(writer: &mut Writer, name: &str, numbers: &[u64]) {
    if !numbers.is_empty() {
        writer.str(name);
        writer.array(numbers.len());
        for number in numbers {
            writer.uint(*number);
        }
    }
}

fn write_values(writer: &mut Writer, items: &[ValueItem]) {
    let written = items.iter().filter(|item| **item != ValueItem::Malformed);
    writer.str("values");
    writer.array(written.clone().count());
    for item in written {
        match item {
            ValueItem::Inline(value) => value.write(writer),
            ValueItem::Announced(size) => writer.uint(*size as u64),
            ValueItem::Malformed => {}
        }
    }
}

fn write_parts(writer: &mut Writer, parts: &[Part]) {
    writer.str("p");
    writer.map(parts.len());
    for part in parts {
        writer.uint(part.index as u64);
        writer.map(2);
        writer.str("o");
        writer.uint(part.offset as u64);
        writer.str("d");
        writer.bin(&part.data);
    }
}
