//! One fragmented message: its header, its parts, whichever comes first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AssemblerLimits, FragmentError};
use crate::{Body, Message, Part, Request, Value, ValueItem};

/// Charged for each part, value or other item that is kept, beside its bytes: what keeping it costs.
const OVERHEAD: usize = 64;

/// A message on its way.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Parts came, their header has not.
    Early { parts: Vec<Part>, bytes: usize },
    /// The header is here; the values by their position.
    /// `weight` is what the header and the values it announces take.
    Open { header: Box<Message>, values: BTreeMap<usize, Pieces>, weight: usize },
}

/// The parts of one value, by offset. They never overlap.
#[derive(Debug)]
struct Pieces {
    size: usize,
    missing: usize,
    by_offset: BTreeMap<usize, Vec<u8>>,
}

impl Session {
    pub(super) fn new(now: Instant, patience: Duration) -> Self {
        Self { started: now, deadline: now + patience, stage: Stage::Early { parts: Vec::new(), bytes: 0 } }
    }

    /// Bytes this session is charged with.
    pub(super) fn charge(&self) -> usize {
        match &self.stage {
            Stage::Early { parts, bytes } => bytes + parts.len() * OVERHEAD,
            Stage::Open { values, weight, .. } => {
                let parts: usize = values.values().map(|pieces| pieces.by_offset.len()).sum();
                weight + parts * OVERHEAD
            }
        }
    }

    pub(super) fn handle_header(&mut self, message: Message) -> Result<(), FragmentError> {
        let parts = match &mut self.stage {
            Stage::Open { header, .. } if **header == message => return Ok(()),
            Stage::Open { .. } => return Err(FragmentError::SecondHeader),
            Stage::Early { parts, .. } => std::mem::take(parts),
        };
        let mut values = BTreeMap::new();
        for (index, item) in message.values().iter().enumerate() {
            if let ValueItem::Announced(size) = *item {
                values.insert(index, Pieces { size, missing: size, by_offset: BTreeMap::new() });
            }
        }
        let weight = weight_of(&message);
        self.stage = Stage::Open { header: Box::new(message), values, weight };
        // Early parts were taken on trust; those that turn out wrong are dropped like late ones would be.
        for part in parts {
            self.handle_part(part).ok();
        }
        Ok(())
    }

    pub(super) fn handle_parts(
        &mut self,
        parts: Vec<Part>,
        limits: &AssemblerLimits,
    ) -> Result<(), FragmentError> {
        for part in parts {
            if let Stage::Early { parts, bytes } = &mut self.stage {
                if parts.len() >= limits.early_parts {
                    return Err(FragmentError::TooManyEarlyParts);
                }
                if *bytes + part.data.len() > limits.early_bytes {
                    return Err(FragmentError::TooManyBytes);
                }
                *bytes += part.data.len();
                parts.push(part);
            } else {
                self.handle_part(part)?;
            }
        }
        Ok(())
    }

    fn handle_part(&mut self, part: Part) -> Result<(), FragmentError> {
        let Stage::Open { values, .. } = &mut self.stage else { return Ok(()) };
        values.get_mut(&part.index).ok_or(FragmentError::UnknownValue)?.insert(part.offset, part.data)
    }

    /// Whether only parts came yet: anybody can send those.
    pub(super) const fn is_early(&self) -> bool {
        matches!(self.stage, Stage::Early { .. })
    }

    pub(super) fn is_complete(&self) -> bool {
        match &self.stage {
            Stage::Early { .. } => false,
            Stage::Open { values, .. } => values.values().all(|pieces| pieces.missing == 0),
        }
    }

    /// The message with its values inline; those that do not unpack are left out. `None` before the header.
    pub(super) fn finish(self) -> Option<Message> {
        let Stage::Open { header, mut values, .. } = self.stage else { return None };
        let mut message = *header;
        if let Some(items) = message.values_mut() {
            for (index, item) in items.iter_mut().enumerate() {
                if let Some(pieces) = values.remove(&index) {
                    *item = pieces.unpack();
                }
            }
            items.retain(|item| matches!(item, ValueItem::Inline(_)));
        }
        Some(message)
    }
}

/// About what keeping a header takes, with the values it announces: a datagram can grow when it is read.
fn weight_of(header: &Message) -> usize {
    let values = header.values().iter().map(|item| {
        OVERHEAD
            + match item {
                ValueItem::Inline(value) => value.packed_size(),
                ValueItem::Announced(size) => *size,
                ValueItem::Malformed => 0,
            }
    });
    let others = match &header.body {
        Body::Reply { reply, .. } => {
            let fields = reply.fields.as_ref().map_or(0, |it| it.rows.len() * (1 + it.fields.len()));
            reply.nodes4.len() + reply.nodes6.len() + fields
        }
        Body::Request { request: Request::Update { refreshed, expired, .. }, .. } => {
            refreshed.len() + expired.len()
        }
        _ => 0,
    };
    values.sum::<usize>() + others * OVERHEAD
}

impl Pieces {
    /// Adds a piece. The very same again is a retry and changes nothing.
    fn insert(&mut self, offset: usize, data: Vec<u8>) -> Result<(), FragmentError> {
        let end = offset.checked_add(data.len()).filter(|end| *end <= self.size);
        let end = end.ok_or(FragmentError::OutOfRange)?;
        if data.is_empty() {
            return Ok(());
        }
        if let Some((start, piece)) = self.by_offset.range(..end).next_back()
            && start + piece.len() > offset
        {
            let same = *start == offset && *piece == data;
            return if same { Ok(()) } else { Err(FragmentError::Overlap) };
        }
        self.missing -= data.len();
        self.by_offset.insert(offset, data);
        Ok(())
    }

    fn unpack(self) -> ValueItem {
        let packed: Vec<u8> = self.by_offset.into_values().flatten().collect();
        Value::unpack(&packed).map_or(ValueItem::Malformed, |value| ValueItem::Inline(Arc::new(value)))
    }
}
