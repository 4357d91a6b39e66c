//! What a program reads from one channel, and whether it is what was written.

use std::time::{Duration, Instant};

use towline_channeler::{Capabilities, ChannelId, Connection, Read, ReadError, Reason};

use super::{pattern, writer::RECORD_HEADER};

/// A record that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub number: u64,
    /// When it was to be written, from the start of the world.
    pub written: Duration,
    pub arrived: Duration,
}

impl Record {
    pub fn latency(self) -> Duration {
        self.arrived - self.written
    }
}

/// Reads from one channel. Panics at the first byte that is not what must come.
#[derive(Debug)]
pub struct Reader {
    pub channel: ChannelId,
    pub capabilities: Capabilities,
    bulk: bool,
    /// Bytes that arrived.
    pub bytes: u64,
    pub records: Vec<Record>,
    /// Whether the record of this number arrived.
    seen: Vec<bool>,
    /// A record of a stream that is not complete.
    part: Vec<u8>,
    buffer: Vec<u8>,
    /// When the last bytes came.
    pub last: Option<Duration>,
    /// When bytes came, and how many had then come in all: at most one entry per millisecond.
    pub progress: Vec<(Duration, u64)>,
    pub finished: bool,
    pub ended: Option<Reason>,
    /// Reads nothing while this is set.
    pub paused: bool,
}

impl Reader {
    pub fn new(channel: ChannelId, capabilities: Capabilities, label: &[u8]) -> Self {
        Self {
            channel,
            capabilities,
            bulk: label == b"bulk",
            bytes: 0,
            records: Vec::new(),
            seen: Vec::new(),
            part: Vec::new(),
            buffer: vec![0; pattern::LONGEST],
            last: None,
            progress: Vec::new(),
            finished: false,
            ended: None,
            paused: false,
        }
    }

    /// Reads all there is.
    pub fn read(&mut self, start: Instant, now: Instant, connection: &mut Connection) {
        while !self.finished && !self.paused {
            if let Some(bytes) = connection.read_whole(now, self.channel, self.buffer.len()) {
                self.buffer[..bytes.len()].copy_from_slice(&bytes);
                self.take(bytes.len(), now - start);
                continue;
            }
            match connection.read(now, self.channel, &mut self.buffer) {
                Ok(Read::Data(len)) => self.take(len, now - start),
                Ok(Read::Finished) => {
                    assert!(self.part.is_empty(), "the stream ended within a record");
                    self.finished = true;
                }
                Err(ReadError::TooShort(len)) => self.buffer.resize(len, 0),
                Err(ReadError::Blocked | ReadError::Ended(_) | ReadError::Unknown) => break,
            }
        }
    }

    /// The longest time in which nothing arrived, of those that began in this window. What did not end is counted up to its end.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let begin = self.progress.partition_point(|entry| entry.0 < from);
        let mut longest = Duration::ZERO;
        for (place, entry) in
            self.progress.iter().enumerate().skip(begin).take_while(|(_, entry)| entry.0 <= to)
        {
            let next = match self.progress.get(place + 1) {
                Some(next) => next.0,
                None if self.finished => entry.0,
                None => to,
            };
            longest = longest.max(next.saturating_sub(entry.0));
        }
        if begin == self.progress.len() { to - from } else { longest }
    }

    /// Bytes per second that arrived in this window.
    pub fn rate(&self, from: Duration, to: Duration) -> f64 {
        let until = |time: Duration| {
            let behind = self.progress.partition_point(|entry| entry.0 <= time);
            behind.checked_sub(1).map_or(0, |last| self.progress[last].1)
        };
        (until(to) - until(from)) as f64 / (to - from).as_secs_f64()
    }

    fn take(&mut self, len: usize, at: Duration) {
        if self.bulk {
            let expected = pattern::slice(self.bytes, len);
            assert!(self.buffer[..len] == *expected, "{}: other bytes at {}", self.channel, self.bytes);
        }
        self.bytes += len as u64;
        self.last = Some(at);
        match self.progress.last_mut() {
            Some(entry) if at - entry.0 < Duration::from_millis(1) => entry.1 = self.bytes,
            _ => self.progress.push((at, self.bytes)),
        }
        if self.bulk {
            return;
        }
        if !self.capabilities.is_stream() {
            let message = std::mem::take(&mut self.buffer);
            self.take_record(&message[..len], at);
            self.buffer = message;
            return;
        }
        self.part.extend_from_slice(&self.buffer[..len]);
        while let Some(size) = self.part.first_chunk::<4>() {
            let size = u32::from_be_bytes(*size) as usize;
            if self.part.len() < size {
                break;
            }
            let rest = self.part.split_off(size);
            let record = std::mem::replace(&mut self.part, rest);
            self.take_record(&record, at);
        }
    }

    fn take_record(&mut self, bytes: &[u8], arrived: Duration) {
        let field = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        assert!(bytes.len() >= RECORD_HEADER, "{}: a record of {} bytes", self.channel, bytes.len());
        assert_eq!(bytes[..4], (bytes.len() as u32).to_be_bytes(), "{}: whole records", self.channel);
        let (number, written) = (field(4), Duration::from_nanos(field(12)));
        let filling = pattern::slice(number * 7, bytes.len() - RECORD_HEADER);
        assert!(bytes[RECORD_HEADER..] == *filling, "{}: record {number} is not as written", self.channel);
        let place = number as usize;
        if self.seen.len() <= place {
            self.seen.resize(place + 1, false);
        }
        assert!(!self.seen[place], "{}: record {number} came twice", self.channel);
        self.seen[place] = true;
        if let Some(before) = self.records.last().filter(|_| self.capabilities.ordered) {
            assert!(before.number < number, "{}: {number} after {}", self.channel, before.number);
        }
        self.records.push(Record { number, written, arrived });
    }
}
