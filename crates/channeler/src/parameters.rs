//! What each side tells the other about itself inside the handshake: its limits, and connection ids for the first links.
//!
//! A list of entries: number, length, value, all but the value varints. Unknown numbers are skipped, so that later versions
//! may add some; a number given twice is refused.

use std::time::Duration;

use crate::{
    Config, ConnectionId,
    reset::{RESET_LEN, Reset},
    varint,
};

/// Channels that every peer lets the other side open before it has heard its limits.
pub(crate) const EARLY_CHANNELS: u64 = 16;

/// The longest label that every peer takes.
pub(crate) const EARLY_LABEL: u64 = 255;

/// The longest message that every peer takes.
pub(crate) const EARLY_MESSAGE: u64 = 64 << 10;

/// The longest label that fits into the smallest packet.
pub(crate) const MAX_LABEL: u64 = 1100;

/// Connection ids in the parameters: links that can be added before any further message.
pub(crate) const FIRST_IDS: usize = 8;

/// The smallest and largest UDP payload that may be told.
const DATAGRAM: std::ops::RangeInclusive<u64> = 1200..=65_527;

/// Limits and timings of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// Channels that the other side may open, from the start on.
    pub channels: u64,
    /// Window of each channel, in bytes, until another is told.
    pub window: u64,
    /// Messages that the other side may send ahead on each message channel, until another bound is told.
    pub messages: u64,
    /// Bytes that the other side may send over all channels, until another bound is told.
    pub connection_window: u64,
    /// Longest message taken.
    pub max_message: u64,
    /// Longest label taken.
    pub max_label: u64,
    /// Links at once.
    pub links: u64,
    /// Silence after which this side gives up.
    pub idle_timeout: Duration,
    /// Longest that this side holds back an acknowledgement.
    pub ack_delay: Duration,
    /// Largest datagram taken.
    pub datagram: u16,
    /// Largest stream packet taken.
    pub stream_packet: u16,
    /// Connection ids of links 1, 2, 3 and so on.
    pub ids: Vec<ConnectionId>,
    /// What resets for the connection ids of links 0, 1, 2 and so on hold.
    pub resets: Vec<Reset>,
}

/// The parameters of the peer make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadParameters;

impl Parameters {
    /// Those that follow from a sound configuration.
    pub(crate) fn of(config: &Config, ids: Vec<ConnectionId>, resets: Vec<Reset>) -> Self {
        let max_message = config.max_message as u64;
        Self {
            channels: u64::from(config.max_channels),
            window: config.initial_window,
            messages: config.max_messages,
            // One message channel alone may use its first window.
            connection_window: config.receive_window().max(2 * max_message).max(config.initial_window),
            max_message,
            max_label: config.max_label as u64,
            links: config.max_links as u64,
            idle_timeout: config.idle_timeout,
            ack_delay: config.max_ack_delay,
            datagram: config.max_mtu,
            stream_packet: config.max_stream_packet,
            ids,
            resets,
        }
    }

    /// The bytes of the list.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(varint::MAX).min(varint::MAX);
        let numbers = [
            self.channels,
            self.window,
            self.messages,
            self.connection_window,
            self.max_message,
            self.max_label,
            self.links,
            millis(self.idle_timeout),
            u64::try_from(self.ack_delay.as_micros()).unwrap_or(varint::MAX).min(varint::MAX),
            u64::from(self.datagram),
            u64::from(self.stream_packet),
        ];
        let mut out = Vec::with_capacity(384);
        for (number, value) in (0..).zip(numbers) {
            varint::put(&mut out, number);
            varint::put(&mut out, varint::len(value) as u64);
            varint::put(&mut out, value);
        }
        varint::put(&mut out, numbers.len() as u64);
        varint::put(&mut out, 8 * self.ids.len() as u64);
        for id in &self.ids {
            out.extend_from_slice(&id.0);
        }
        varint::put(&mut out, numbers.len() as u64 + 1);
        varint::put(&mut out, (RESET_LEN * self.resets.len()) as u64);
        for reset in &self.resets {
            out.extend_from_slice(&reset.0);
        }
        out
    }

    /// What every peer allows at least.
    pub(crate) fn least() -> Self {
        Self {
            channels: EARLY_CHANNELS,
            window: 0,
            messages: 0,
            connection_window: 0,
            max_message: EARLY_MESSAGE,
            max_label: EARLY_LABEL,
            links: 1,
            idle_timeout: Duration::MAX,
            ack_delay: Duration::from_millis(25),
            datagram: 1200,
            stream_packet: 1200,
            ids: Vec::new(),
            resets: Vec::new(),
        }
    }

    /// Reads a list. What is not in it has the least value that is allowed.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, BadParameters> {
        let mut parameters = Self::least();
        let mut seen = 0_u64;
        while !bytes.is_empty() {
            let number = varint::get(&mut bytes).ok_or(BadParameters)?;
            let len = varint::get(&mut bytes).ok_or(BadParameters)?;
            let (mut value, rest) =
                usize::try_from(len).ok().and_then(|len| bytes.split_at_checked(len)).ok_or(BadParameters)?;
            bytes = rest;
            if number < 64 {
                if seen & 1 << number != 0 {
                    return Err(BadParameters);
                }
                seen |= 1 << number;
            }
            if number == 11 {
                let (ids, rest) = value.as_chunks::<8>();
                if !rest.is_empty() || ids.len() > 64 {
                    return Err(BadParameters);
                }
                parameters.ids = ids.iter().map(|id| ConnectionId(*id)).collect();
                continue;
            }
            if number == 12 {
                let (resets, rest) = value.as_chunks::<RESET_LEN>();
                if !rest.is_empty() || resets.len() > 65 {
                    return Err(BadParameters);
                }
                parameters.resets = resets.iter().map(|reset| Reset(*reset)).collect();
                continue;
            }
            if number > 12 {
                continue;
            }
            let field = varint::get(&mut value).ok_or(BadParameters)?;
            if !value.is_empty() {
                return Err(BadParameters);
            }
            match number {
                0 => parameters.channels = field.max(EARLY_CHANNELS),
                1 => parameters.window = field,
                2 => parameters.messages = field,
                3 => parameters.connection_window = field,
                4 => parameters.max_message = field.max(EARLY_MESSAGE),
                5 => parameters.max_label = field.clamp(EARLY_LABEL, MAX_LABEL),
                6 => parameters.links = field.max(1),
                7 => parameters.idle_timeout = Duration::from_millis(field.max(1)),
                // Above a second it would only make loss detection useless.
                8 if field <= 1_000_000 => parameters.ack_delay = Duration::from_micros(field),
                9 if DATAGRAM.contains(&field) => parameters.datagram = field as u16,
                10 if (1200..=65_535).contains(&field) => parameters.stream_packet = field as u16,
                _ => return Err(BadParameters),
            }
        }
        Ok(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_survive_the_way() {
        let parameters = {
            let ids = vec![ConnectionId([7; 8]), ConnectionId([9; 8])];
            Parameters::of(&Config::default(), ids, vec![Reset([1; RESET_LEN]), Reset([2; RESET_LEN])])
        };
        assert_eq!(Parameters::decode(&parameters.encode()), Ok(parameters));
    }

    #[test]
    fn nonsense_is_refused_and_news_is_skipped() {
        let mut bytes = Parameters::of(&Config::default(), Vec::new(), Vec::new()).encode();
        bytes.extend_from_slice(&[40, 3, 1, 2, 3]);
        assert!(Parameters::decode(&bytes).is_ok());
        for bad in
            [&[0, 1, 5, 0, 1, 5][..], &[0, 2, 5], &[0, 2, 5, 5], &[11, 1, 0], &[12, 1, 0], &[9, 1, 5], &[0]]
        {
            assert_eq!(Parameters::decode(bad), Err(BadParameters), "{bad:?}");
        }
    }
}
