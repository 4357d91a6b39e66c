//! Reading msgpack from a complete slice: small messages only. Nothing is allocated, nesting is not recursed.

use rmp::Marker;

/// The bytes are cut short, broken, or of another type than asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// What is left of a slice of msgpack objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The marker of the next object, without taking it.
    pub(crate) fn peek(&self) -> Result<Marker> {
        self.0.first().map(|byte| Marker::from_u8(*byte)).ok_or(Malformed)
    }

    fn marker(&mut self) -> Result<Marker> {
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A big-endian number of `count` bytes.
    fn number(&mut self, count: usize) -> Result<u64> {
        Ok(self.take(count)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A non-negative integer in any encoding.
    pub(crate) fn uint(&mut self) -> Result<u64> {
        match self.int()? {
            Int::Unsigned(value) => Ok(value),
            Int::Negative => Err(Malformed),
        }
    }

    /// An integer in any encoding.
    pub(crate) fn int(&mut self) -> Result<Int> {
        let (value, bits) = match self.marker()? {
            Marker::FixPos(value) => (value.into(), 0),
            Marker::U8 => (self.number(1)?, 0),
            Marker::U16 => (self.number(2)?, 0),
            Marker::U32 => (self.number(4)?, 0),
            Marker::U64 => (self.number(8)?, 0),
            Marker::FixNeg(_) => return Ok(Int::Negative),
            Marker::I8 => (self.number(1)?, 8),
            Marker::I16 => (self.number(2)?, 16),
            Marker::I32 => (self.number(4)?, 32),
            Marker::I64 => (self.number(8)?, 64),
            _ => return Err(Malformed),
        };
        let negative = bits > 0 && value >> (bits - 1) & 1 == 1;
        Ok(if negative { Int::Negative } else { Int::Unsigned(value) })
    }

    /// A non-negative integer that fits 16 bits.
    pub(crate) fn u16(&mut self) -> Result<u16> {
        u16::try_from(self.uint()?).map_err(|_| Malformed)
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        match self.marker()? {
            Marker::True => Ok(true),
            Marker::False => Ok(false),
            _ => Err(Malformed),
        }
    }

    /// The bytes of a str (or bin), without a look at whether they are text.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let count = match self.marker()? {
            Marker::FixStr(count) => count.into(),
            Marker::Str8 | Marker::Bin8 => self.number(1)?,
            Marker::Str16 | Marker::Bin16 => self.number(2)?,
            Marker::Str32 | Marker::Bin32 => self.number(4)?,
            _ => return Err(Malformed),
        };
        self.take(usize::try_from(count).map_err(|_| Malformed)?)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// The number of elements of an array that starts here.
    pub(crate) fn array(&mut self) -> Result<u64> {
        match self.marker()? {
            Marker::FixArray(count) => Ok(count.into()),
            Marker::Array16 => self.number(2),
            Marker::Array32 => self.number(4),
            _ => Err(Malformed),
        }
    }

    /// The number of pairs of a map that starts here.
    pub(crate) fn map(&mut self) -> Result<u64> {
        match self.marker()? {
            Marker::FixMap(count) => Ok(count.into()),
            Marker::Map16 => self.number(2),
            Marker::Map32 => self.number(4),
            _ => Err(Malformed),
        }
    }

    /// Skips `objects` whole objects with all they contain.
    pub(crate) fn skip(&mut self, objects: u64) -> Result<()> {
        let mut left = objects;
        while left > 0 {
            left -= 1;
            let bytes = match self.marker()? {
                Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
                Marker::U8 | Marker::I8 => 1,
                Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
                Marker::FixExt2 => 3,
                Marker::U32 | Marker::I32 | Marker::F32 => 4,
                Marker::FixExt4 => 5,
                Marker::U64 | Marker::I64 | Marker::F64 => 8,
                Marker::FixExt8 => 9,
                Marker::FixExt16 => 17,
                Marker::FixStr(count) => count.into(),
                Marker::Str8 | Marker::Bin8 => self.number(1)?,
                Marker::Str16 | Marker::Bin16 => self.number(2)?,
                Marker::Str32 | Marker::Bin32 => self.number(4)?,
                Marker::Ext8 => self.number(1)? + 1,
                Marker::Ext16 => self.number(2)? + 1,
                Marker::Ext32 => self.number(4)? + 1,
                Marker::FixArray(count) => {
                    left = left.saturating_add(count.into());
                    0
                }
                Marker::Array16 => {
                    left = left.saturating_add(self.number(2)?);
                    0
                }
                Marker::Array32 => {
                    left = left.saturating_add(self.number(4)?);
                    0
                }
                Marker::FixMap(count) => {
                    left = left.saturating_add(2 * u64::from(count));
                    0
                }
                Marker::Map16 => {
                    left = left.saturating_add(2 * self.number(2)?);
                    0
                }
                Marker::Map32 => {
                    left = left.saturating_add(2 * self.number(4)?);
                    0
                }
                Marker::Reserved => return Err(Malformed),
            };
            self.take(usize::try_from(bytes).map_err(|_| Malformed)?)?;
        }
        Ok(())
    }
}

/// An integer; of negative ones only that much matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Int {
    Unsigned(u64),
    Negative,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_every_encoding() {
        for hex in
            ["05", "cc05", "cd0005", "ce00000005", "cf0000000000000005", "d005", "d10005", "d200000005"]
        {
            assert_eq!(Reader::new(&hex::decode(hex).unwrap()).uint(), Ok(5), "{hex}");
        }
        for hex in ["ff", "d0ff", "d1ffff", "d2ffffffff", "d3ffffffffffffffff"] {
            assert_eq!(Reader::new(&hex::decode(hex).unwrap()).int(), Ok(Int::Negative), "{hex}");
        }
        assert_eq!(Reader::new(&[0xa0]).uint(), Err(Malformed));
        assert_eq!(Reader::new(&[0xcd, 1]).uint(), Err(Malformed));
    }

    #[test]
    fn skipping_takes_whole_objects_and_survives_lies() {
        let mut reader = Reader::new(&[0x82, 0x01, 0x92, 0xc0, 0xc3, 0xa1, 0x61, 0xd4, 0x01, 0x02, 0x07]);
        assert_eq!(reader.skip(1), Ok(()));
        assert_eq!(reader.uint(), Ok(7));
        assert_eq!(Reader::new(&[0xdf, 0xff, 0xff, 0xff, 0xff]).skip(1), Err(Malformed));
        assert_eq!(Reader::new(&[0xdd; 5000]).skip(1), Err(Malformed));
        assert_eq!(Reader::new(&[0xc1]).skip(1), Err(Malformed));
        assert_eq!(Reader::new(&[0xc6, 0xff, 0xff, 0xff, 0xff]).skip(1), Err(Malformed));
    }
}
