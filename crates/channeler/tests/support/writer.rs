//! What a program writes to one channel.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use towline_channeler::{ChannelId, Connection, WriteError};

use super::pattern;

/// Bytes before the filling of a record: its length, its number, the time of its writing.
pub const RECORD_HEADER: usize = 20;

/// A bit of the offset that says how a bulk transfer is written.
const WHOLE: u64 = 1 << 17;

/// What is written.
#[derive(Clone, Debug)]
pub enum Plan {
    /// So many bytes, as fast as they are taken.
    Bulk(u64),
    /// So many records, one every so often; lengths go round in the range. On a message channel a record is a message.
    Records { count: u64, every: Duration, sizes: RangeInclusive<usize> },
}

impl Plan {
    /// The label of a channel that carries it, by which the other program knows how to check.
    pub fn label(&self) -> &'static [u8] {
        match self {
            Self::Bulk(_) => b"bulk",
            Self::Records { .. } => b"records",
        }
    }
}

/// Writes to one channel.
#[derive(Debug)]
pub struct Writer {
    pub channel: ChannelId,
    plan: Plan,
    /// Bytes or records so far.
    pub written: u64,
    /// What the channel has not taken yet of the record that was last made.
    rest: Vec<u8>,
    next: Instant,
    pub blocked: bool,
    /// How often there was no room.
    pub refusals: u64,
    /// Whether the direction ends behind it.
    finish: bool,
    pub done: bool,
}

impl Writer {
    pub fn new(channel: ChannelId, plan: Plan, finish: bool, now: Instant) -> Self {
        let (written, rest) = (0, Vec::new());
        Self { channel, plan, written, rest, next: now, blocked: false, refusals: 0, finish, done: false }
    }

    /// Has nothing to write until it is told to.
    pub fn idle(channel: ChannelId, now: Instant) -> Self {
        let plan = Plan::Records { count: 0, every: Duration::ZERO, sizes: 20..=3000 };
        Self { done: true, ..Self::new(channel, plan, false, now) }
    }

    /// So many more records.
    pub fn extend(&mut self, more: u64, now: Instant) {
        let Plan::Records { count, .. } = &mut self.plan else { panic!("a bulk transfer has its length") };
        *count += more;
        self.next = self.next.max(now);
        self.done = self.written == *count && self.rest.is_empty();
    }

    /// Whether its direction was, or is to be, ended.
    pub fn ended(&self) -> bool {
        self.finish
    }

    /// How many records are to be written.
    pub fn count(&self) -> u64 {
        match self.plan {
            Plan::Bulk(_) => 0,
            Plan::Records { count, .. } => count,
        }
    }

    /// Ends the direction behind what is to be written.
    pub fn end(&mut self, now: Instant, connection: &mut Connection) {
        self.finish = true;
        if self.done {
            let _ = connection.finish(now, self.channel);
        }
    }

    /// When it wants to write again, if it is not blocked.
    pub fn due(&self) -> Option<Instant> {
        (!self.done && !self.blocked).then_some(self.next)
    }

    /// Writes what is due.
    pub fn write(&mut self, start: Instant, now: Instant, connection: &mut Connection) {
        while self.due().is_some_and(|due| due <= now) {
            let complete = match self.plan {
                Plan::Bulk(total) => self.write_bulk(total, now, connection),
                Plan::Records { count, every, ref sizes } => {
                    let sizes = sizes.clone();
                    self.write_record(count, every, &sizes, start, now, connection)
                }
            };
            if complete {
                self.done = true;
                if self.finish {
                    // A channel that closed on loss is gone already.
                    let _ = connection.finish(now, self.channel);
                }
            }
        }
    }

    fn write_bulk(&mut self, total: u64, now: Instant, connection: &mut Connection) -> bool {
        let len = (total - self.written).min(pattern::LONGEST as u64) as usize;
        // By turns as a copy and in buffers of its own.
        if len > 0 {
            let bytes = pattern::slice(self.written, len);
            let taken = if self.written & WHOLE == 0 {
                self.offer(connection.write(now, self.channel, bytes))
            } else {
                let written = connection.write_all(now, self.channel, bytes.to_vec());
                self.offer(written.map(|()| len).map_err(|(error, _)| error))
            };
            self.blocked = taken < len;
            self.written += taken as u64;
        }
        self.written == total
    }

    fn write_record(
        &mut self,
        count: u64,
        every: Duration,
        sizes: &RangeInclusive<usize>,
        start: Instant,
        now: Instant,
        connection: &mut Connection,
    ) -> bool {
        if self.rest.is_empty() {
            let size = sizes.start() + self.written as usize % (sizes.end() - sizes.start() + 1);
            self.rest = record(self.written, size, self.next.duration_since(start));
            self.written += 1;
        }
        let rest = std::mem::take(&mut self.rest);
        let taken = self.offer(connection.write(now, self.channel, &rest));
        self.blocked = taken < rest.len();
        self.rest = rest;
        self.rest.drain(..taken);
        if !self.blocked {
            self.next += every;
        }
        self.written == count && !self.blocked
    }

    fn offer(&mut self, taken: Result<usize, WriteError>) -> usize {
        match taken {
            Ok(taken) => taken,
            Err(WriteError::Blocked) => {
                self.refusals += 1;
                0
            }
            // The channel ended: nothing more is to be written.
            Err(WriteError::Ended(_) | WriteError::Unknown) => {
                self.done = true;
                0
            }
            Err(error) => panic!("write to {}: {error}", self.channel),
        }
    }
}

/// A record: length, number, time of writing in nanoseconds, and a filling.
fn record(number: u64, size: usize, at: Duration) -> Vec<u8> {
    let size = size.max(RECORD_HEADER);
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&(size as u32).to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&(at.as_nanos() as u64).to_be_bytes());
    bytes.extend_from_slice(pattern::slice(number * 7, size - RECORD_HEADER));
    bytes
}
