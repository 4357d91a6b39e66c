//! Messages of v1 packets: a type of 64 to 127, a length, a body. Unknown types are skipped; a zero byte in the place of
//! a type begins the padding (`spec/channeler.md` section 9.1).

mod abandon;
mod ack;
#[cfg(any(test, feature = "codecs"))]
pub(crate) mod again;
mod encode;
#[cfg(test)]
mod tests;

pub(crate) use abandon::{Abandon, AbandonedRange, put_abandon};
pub(crate) use ack::{Ack, EcnCounts, put_ack};
pub(crate) use encode::*;

use std::time::Duration;

use crate::{
    Capabilities, ChannelId, Code, ConnectionId, LinkId, Priority, Resend, Violation, reset::Reset, varint,
};

/// Longest text of a [`Message::Close`], in bytes.
pub(crate) const MAX_CLOSE_TEXT: usize = 256;

/// The types on the wire.
pub(crate) mod kind {
    pub(crate) const PADDING: u8 = 0;
    pub(crate) const PING: u8 = 72;
    pub(crate) const ACK: u8 = 73;
    pub(crate) const ACK_ECN: u8 = 74;
    pub(crate) const DATA: u8 = 80;
    pub(crate) const DATA_FIN: u8 = 81;
    /// To this are added [`BEGIN`] and [`END`].
    pub(crate) const PART: u8 = 82;
    pub(crate) const BEGIN: u8 = 1;
    pub(crate) const END: u8 = 2;
    pub(crate) const PART_LAST: u8 = PART + BEGIN + END;
    pub(crate) const MESSAGE_FIN: u8 = 86;
    pub(crate) const ABANDON: u8 = 87;
    pub(crate) const OPEN: u8 = 88;
    pub(crate) const ACCEPT: u8 = 89;
    pub(crate) const WINDOW: u8 = 90;
    pub(crate) const RESET: u8 = 91;
    pub(crate) const STOP: u8 = 92;
    pub(crate) const CONNECTION_WINDOW: u8 = 93;
    pub(crate) const CHANNELS: u8 = 94;
    pub(crate) const FINISH: u8 = 95;
    pub(crate) const NEW_ID: u8 = 96;
    pub(crate) const RETIRE_LINK: u8 = 97;
    pub(crate) const CHALLENGE: u8 = 98;
    pub(crate) const RESPONSE: u8 = 99;
    pub(crate) const LINK_PREFERENCE: u8 = 100;
    pub(crate) const CLOSE: u8 = 101;
}

/// One message of a packet. Byte strings are those of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Asks for an acknowledgement.
    Ping,
    /// Packets of a link that arrived.
    Ack(Ack<'a>),
    /// Bytes of a stream. Offset and length add up to at most 2^62 - 1.
    Data {
        /// Where they belong.
        offset: u64,
        /// Whether the stream ends behind them.
        fin: bool,
        /// The bytes; may be empty.
        bytes: &'a [u8],
    },
    /// A part of a message. Offset and length add up to at most 2^62 - 1.
    Part {
        /// The message's index, in the part that begins it.
        number: Option<u64>,
        /// Whether it ends the message.
        end: bool,
        /// Where it belongs among the bytes of all messages of the direction.
        offset: u64,
        /// The bytes; may be empty.
        bytes: &'a [u8],
    },
    /// The end of a direction of a message channel.
    Fin {
        /// The end of the last message.
        final_offset: u64,
        /// How many messages there were.
        messages: u64,
    },
    /// Ranges of a message channel that will never come, or never again.
    Abandon(Abandon<'a>),
    /// A channel that the sender opens.
    Open {
        /// Its id.
        channel: ChannelId,
        /// What it promises.
        capabilities: Capabilities,
        /// Its place in the order of sending.
        priority: Priority,
        /// What it is for.
        label: &'a [u8],
    },
    /// The program took the channel.
    Accept {
        /// The channel.
        channel: ChannelId,
    },
    /// What the receiver of a channel allows.
    Window {
        /// The channel.
        channel: ChannelId,
        /// Offsets below this may be sent.
        max_offset: u64,
        /// Messages with numbers below this may be sent.
        max_messages: u64,
    },
    /// The sender of a direction ends the channel.
    Reset {
        /// The channel.
        channel: ChannelId,
        /// Why.
        code: Code,
        /// How much offset space its direction used.
        final_offset: u64,
    },
    /// The receiver of a direction wants no more of it.
    Stop {
        /// The channel.
        channel: ChannelId,
        /// Why.
        code: Code,
    },
    /// The end of a direction, all of which was sent before.
    Finish {
        /// The channel.
        channel: ChannelId,
        /// Where the direction ends.
        final_offset: u64,
        /// How many messages there were; 0 on a stream.
        messages: u64,
    },
    /// New offsets, summed over all channels, that may be sent.
    ConnectionWindow {
        /// Since the beginning of the connection.
        max_bytes: u64,
    },
    /// Serial numbers that the peer may open.
    Channels {
        /// Those below this.
        bound: u64,
    },
    /// The sender's name for a link to come.
    NewId {
        /// The link.
        link: LinkId,
        /// What packets to the sender carry on it.
        cid: ConnectionId,
        /// What the sender answers to such a packet when it has forgotten all.
        reset: Reset,
    },
    /// The link is dropped.
    RetireLink {
        /// The link.
        link: LinkId,
        /// Why.
        code: Code,
    },
    /// To be answered on the same way.
    Challenge(
        /// To be returned.
        [u8; 8],
    ),
    /// The answer.
    Response(
        /// What the challenge said.
        [u8; 8],
    ),
    /// Whether the sender of this wants data on a link.
    LinkPreference {
        /// The link.
        link: LinkId,
        /// False: only when no other link works.
        available: bool,
    },
    /// The connection ends.
    Close {
        /// Why.
        code: Code,
        /// Text for humans, meant as UTF-8: its first [`MAX_CLOSE_TEXT`] bytes.
        text: &'a [u8],
    },
    /// A type that this version does not know.
    Skipped(u8),
}

/// The messages of the plaintext of a packet, up to the first that is malformed.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Violation>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (kind, body) = match split(&mut self.0)? {
            Ok(raw) => raw,
            Err(violation) => return Some(Err(violation)),
        };
        // Bulk data by itself: no call, and no copy of what the largest variant takes.
        if let kind::DATA | kind::DATA_FIN = kind
            && let Some(data) = data(kind, body)
        {
            return Some(Ok(data));
        }
        let message = other(kind, body).ok_or(Violation::Malformed(kind));
        if message.is_err() {
            self.0 = &[];
        }
        Some(message)
    }
}

/// Takes type and body of one message off the front. `None` at the end and at padding; after an error nothing is left.
#[inline]
pub(crate) fn split<'a>(input: &mut &'a [u8]) -> Option<Result<(u8, &'a [u8]), Violation>> {
    let (&kind, rest) = input.split_first()?;
    *input = rest;
    if kind == kind::PADDING {
        *input = &[];
        return None;
    }
    let body = if matches!(kind, 64..=127) { take(input) } else { None };
    if body.is_none() {
        *input = &[];
    }
    Some(body.map(|body| (kind, body)).ok_or(Violation::Malformed(kind)))
}

/// A length and that many bytes.
#[inline]
fn take<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint::get(input)?).ok()?;
    let (body, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(body)
}

#[inline]
fn data(kind: u8, mut body: &[u8]) -> Option<Message<'_>> {
    let offset = varint::get(&mut body)?;
    fits(offset, body)?;
    Some(Message::Data { offset, fin: kind == kind::DATA_FIN, bytes: body })
}

/// Whether bytes at this offset stay within the space of offsets.
#[inline]
fn fits(offset: u64, bytes: &[u8]) -> Option<()> {
    (offset + bytes.len() as u64 <= varint::MAX).then_some(())
}

fn other(kind: u8, mut body: &[u8]) -> Option<Message<'_>> {
    let input = &mut body;
    let message = match kind {
        kind::PING => Message::Ping,
        kind::ACK | kind::ACK_ECN => Message::Ack(Ack::parse(kind == kind::ACK_ECN, std::mem::take(input))?),
        kind::PART..=kind::PART_LAST => {
            let bits = kind - kind::PART;
            let number = if bits & kind::BEGIN != 0 { Some(varint::get(input)?) } else { None };
            let offset = varint::get(input)?;
            let bytes = std::mem::take(input);
            fits(offset, bytes)?;
            Message::Part { number, end: bits & kind::END != 0, offset, bytes }
        }
        kind::MESSAGE_FIN => {
            Message::Fin { final_offset: varint::get(input)?, messages: varint::get(input)? }
        }
        kind::ABANDON => Message::Abandon(Abandon::parse(std::mem::take(input))?),
        kind::OPEN => Message::Open {
            channel: channel(input)?,
            capabilities: capabilities(input)?,
            priority: Priority(u8::try_from(varint::get(input)?).ok()?),
            label: std::mem::take(input),
        },
        kind::ACCEPT => Message::Accept { channel: channel(input)? },
        kind::WINDOW => Message::Window {
            channel: channel(input)?,
            max_offset: varint::get(input)?,
            max_messages: varint::get(input)?,
        },
        kind::RESET => Message::Reset {
            channel: channel(input)?,
            code: Code(varint::get(input)?),
            final_offset: varint::get(input)?,
        },
        kind::STOP => Message::Stop { channel: channel(input)?, code: Code(varint::get(input)?) },
        kind::FINISH => Message::Finish {
            channel: channel(input)?,
            final_offset: varint::get(input)?,
            messages: varint::get(input)?,
        },
        kind::CONNECTION_WINDOW => Message::ConnectionWindow { max_bytes: varint::get(input)? },
        kind::CHANNELS => Message::Channels { bound: varint::get(input)? },
        kind::NEW_ID => Message::NewId {
            link: link(input)?,
            cid: ConnectionId(bytes(input)?),
            reset: Reset(bytes(input)?),
        },
        kind::RETIRE_LINK => Message::RetireLink { link: link(input)?, code: Code(varint::get(input)?) },
        kind::CHALLENGE => Message::Challenge(bytes(input)?),
        kind::RESPONSE => Message::Response(bytes(input)?),
        kind::LINK_PREFERENCE => Message::LinkPreference {
            link: link(input)?,
            available: match varint::get(input)? {
                0 => false,
                1 => true,
                _ => return None,
            },
        },
        kind::CLOSE => {
            let code = Code(varint::get(input)?);
            let text = std::mem::take(input);
            Message::Close { code, text: text.get(..MAX_CLOSE_TEXT).unwrap_or(text) }
        }
        kind::DATA | kind::DATA_FIN => return data(kind, input),
        _ => return Some(Message::Skipped(kind)),
    };
    input.is_empty().then_some(message)
}

/// A channel that a program can have.
fn channel(input: &mut &[u8]) -> Option<ChannelId> {
    let id = ChannelId(u32::try_from(varint::get(input)?).ok()?);
    (id.serial() < ChannelId::SERIALS).then_some(id)
}

fn link(input: &mut &[u8]) -> Option<LinkId> {
    Some(LinkId(u32::try_from(varint::get(input)?).ok()?))
}

fn bytes<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*bytes)
}

fn capabilities(input: &mut &[u8]) -> Option<Capabilities> {
    let bits = u16::try_from(varint::get(input)?).ok()?;
    let parameter = varint::get(input)?;
    let resend = match (varint::get(input)?, parameter) {
        (0, 0) => Resend::No,
        (1, 1..=0xFF) => Resend::Tries(parameter as u8),
        (2, 1..=0x1_0000_0000) => Resend::Until(Duration::from_millis(parameter)),
        (3, 0) => Resend::Forever,
        _ => return None,
    };
    let capabilities = Capabilities { ordered: bits & 2 != 0, resend, close_on_loss: bits & 4 != 0 };
    (capabilities.bits() == bits).then_some(capabilities)
}
