//! Reading msgpack token by token from a slice.

use std::borrow::Cow;

use rmp::Marker;

use super::WireError;
use crate::InfoHash;

/// One scalar, or the head of a container whose items follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Uint(u64),
    /// Below zero.
    Negative(i64),
    Float,
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Ext(i8, &'a [u8]),
    Array(usize),
    Map(usize),
}

/// A cursor over msgpack bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*chunk)
    }

    /// A big-endian number of `N` bytes, at most 8.
    fn big_endian<const N: usize>(&mut self) -> Result<u64, WireError> {
        let mut wide = [0; 8];
        wide[8 - N..].copy_from_slice(&self.chunk::<N>()?);
        Ok(u64::from_be_bytes(wide))
    }

    fn bytes<const N: usize>(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.big_endian::<N>()?;
        self.take(usize::try_from(len).map_err(|_| WireError::Truncated)?)
    }

    fn ext(&mut self, len: u64) -> Result<Token<'a>, WireError> {
        let [kind] = self.chunk()?;
        let kind = kind as i8;
        Ok(Token::Ext(kind, self.take(usize::try_from(len).map_err(|_| WireError::Truncated)?)?))
    }

    /// A container may not claim more items than there are bytes left, at `bytes_per_item` each.
    fn items(&self, len: u64, bytes_per_item: u64) -> Result<usize, WireError> {
        if len * bytes_per_item > self.rest.len() as u64 {
            return Err(WireError::Truncated);
        }
        Ok(len as usize)
    }

    /// The next token.
    pub(crate) fn token(&mut self) -> Result<Token<'a>, WireError> {
        let signed = |number: i64| match u64::try_from(number) {
            Ok(number) => Token::Uint(number),
            Err(_) => Token::Negative(number),
        };
        Ok(match Marker::from_u8(self.chunk::<1>()?[0]) {
            Marker::FixPos(number) => Token::Uint(number.into()),
            Marker::FixNeg(number) => signed(number.into()),
            Marker::Null => Token::Nil,
            Marker::True => Token::Bool(true),
            Marker::False => Token::Bool(false),
            Marker::U8 => Token::Uint(self.big_endian::<1>()?),
            Marker::U16 => Token::Uint(self.big_endian::<2>()?),
            Marker::U32 => Token::Uint(self.big_endian::<4>()?),
            Marker::U64 => Token::Uint(self.big_endian::<8>()?),
            Marker::I8 => signed((self.big_endian::<1>()? as i8).into()),
            Marker::I16 => signed((self.big_endian::<2>()? as i16).into()),
            Marker::I32 => signed((self.big_endian::<4>()? as i32).into()),
            Marker::I64 => signed(self.big_endian::<8>()? as i64),
            Marker::F32 => self.take(4).map(|_| Token::Float)?,
            Marker::F64 => self.take(8).map(|_| Token::Float)?,
            Marker::FixStr(len) => Token::Str(self.take(len.into())?),
            Marker::Str8 => Token::Str(self.bytes::<1>()?),
            Marker::Str16 => Token::Str(self.bytes::<2>()?),
            Marker::Str32 => Token::Str(self.bytes::<4>()?),
            Marker::Bin8 => Token::Bin(self.bytes::<1>()?),
            Marker::Bin16 => Token::Bin(self.bytes::<2>()?),
            Marker::Bin32 => Token::Bin(self.bytes::<4>()?),
            Marker::FixArray(len) => Token::Array(self.items(len.into(), 1)?),
            Marker::Array16 => {
                let len = self.big_endian::<2>()?;
                Token::Array(self.items(len, 1)?)
            }
            Marker::Array32 => {
                let len = self.big_endian::<4>()?;
                Token::Array(self.items(len, 1)?)
            }
            Marker::FixMap(len) => Token::Map(self.items(len.into(), 2)?),
            Marker::Map16 => {
                let len = self.big_endian::<2>()?;
                Token::Map(self.items(len, 2)?)
            }
            Marker::Map32 => {
                let len = self.big_endian::<4>()?;
                Token::Map(self.items(len, 2)?)
            }
            Marker::FixExt1 => self.ext(1)?,
            Marker::FixExt2 => self.ext(2)?,
            Marker::FixExt4 => self.ext(4)?,
            Marker::FixExt8 => self.ext(8)?,
            Marker::FixExt16 => self.ext(16)?,
            Marker::Ext8 => {
                let len = self.big_endian::<1>()?;
                self.ext(len)?
            }
            Marker::Ext16 => {
                let len = self.big_endian::<2>()?;
                self.ext(len)?
            }
            Marker::Ext32 => {
                let len = self.big_endian::<4>()?;
                self.ext(len)?
            }
            Marker::Reserved => return Err(WireError::NotMsgpack),
        })
    }

    /// Steps over one whole object, however deep, and returns its bytes.
    pub(crate) fn object(&mut self) -> Result<&'a [u8], WireError> {
        let start = self.rest;
        self.step_over(1)?;
        Ok(&start[..start.len() - self.rest.len()])
    }

    fn step_over(&mut self, mut pending: usize) -> Result<(), WireError> {
        while pending > 0 {
            // Every pending object takes at least a byte: this keeps the count, too, within the input.
            if pending > self.rest.len() {
                return Err(WireError::Truncated);
            }
            pending -= 1;
            pending += match self.token()? {
                Token::Array(len) => len,
                Token::Map(len) => 2 * len,
                _ => 0,
            };
        }
        Ok(())
    }

    /// Length of the map that starts here.
    pub(crate) fn map(&mut self, what: &'static str) -> Result<usize, WireError> {
        match self.token()? {
            Token::Map(len) => Ok(len),
            _ => Err(WireError::Type(what)),
        }
    }

    /// Length of the array that starts here.
    pub(crate) fn array(&mut self, what: &'static str) -> Result<usize, WireError> {
        match self.token()? {
            Token::Array(len) => Ok(len),
            _ => Err(WireError::Type(what)),
        }
    }

    /// The next map key, or `None` for one that is no string and thus none of ours.
    pub(crate) fn key(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.token()? {
            Token::Str(key) => return Ok(Some(key)),
            Token::Array(len) => self.step_over(len)?,
            Token::Map(len) => self.step_over(2 * len)?,
            _ => {}
        }
        Ok(None)
    }

    pub(crate) fn uint(&mut self, what: &'static str) -> Result<u64, WireError> {
        match self.token()? {
            Token::Uint(number) => Ok(number),
            _ => Err(WireError::Type(what)),
        }
    }

    /// An unsigned number that fits `T`.
    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, WireError> {
        T::try_from(self.uint(what)?).map_err(|_| WireError::Range(what))
    }

    pub(crate) fn int(&mut self, what: &'static str) -> Result<i64, WireError> {
        match self.token()? {
            Token::Uint(number) => i64::try_from(number).map_err(|_| WireError::Range(what)),
            Token::Negative(number) => Ok(number),
            _ => Err(WireError::Type(what)),
        }
    }

    pub(crate) fn boolean(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.token()? {
            Token::Bool(flag) => Ok(flag),
            _ => Err(WireError::Type(what)),
        }
    }

    /// The bytes of a string, UTF-8 or not.
    pub(crate) fn str_bytes(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        match self.token()? {
            Token::Str(text) => Ok(text),
            _ => Err(WireError::Type(what)),
        }
    }

    pub(crate) fn str(&mut self, what: &'static str) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.str_bytes(what)?).map_err(|_| WireError::Type(what))
    }

    pub(crate) fn bin(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        match self.token()? {
            Token::Bin(bytes) => Ok(bytes),
            _ => Err(WireError::Type(what)),
        }
    }

    /// An id: a bin of exactly 20 bytes.
    pub(crate) fn id(&mut self, what: &'static str) -> Result<InfoHash, WireError> {
        InfoHash::from_slice(self.bin(what)?).ok_or(WireError::Range(what))
    }

    /// Bytes in any of the forms peers write them: bin, str or an array of numbers.
    pub(crate) fn blob(&mut self, what: &'static str) -> Result<Cow<'a, [u8]>, WireError> {
        match self.token()? {
            Token::Bin(bytes) | Token::Str(bytes) => Ok(Cow::Borrowed(bytes)),
            Token::Array(len) => (0..len).map(|_| self.narrow(what)).collect(),
            _ => Err(WireError::Type(what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_nesting_is_stepped_over() {
        let mut bytes = vec![0x91; 1_000_000];
        bytes.push(0xc0);
        bytes.push(7);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.object().unwrap().len(), 1_000_001);
        assert_eq!(reader.uint("n"), Ok(7));
        assert_eq!(Reader::new(&bytes[..1000]).object(), Err(WireError::Truncated));
    }

    #[test]
    fn claims_beyond_the_input_fail_at_once() {
        for head in
            [[0xdd, 0xff, 0xff, 0xff, 0xff], [0xdf, 0xff, 0xff, 0xff, 0xff], [0xc6, 0xff, 0xff, 0xff, 0xff]]
        {
            assert_eq!(Reader::new(&head).token(), Err(WireError::Truncated));
            assert_eq!(Reader::new(&head).object(), Err(WireError::Truncated));
        }
        assert_eq!(Reader::new(&[0xc1]).token(), Err(WireError::NotMsgpack));
    }

    #[test]
    fn numbers_of_any_width() {
        for bytes in [&[5][..], &[0xcc, 5], &[0xcd, 0, 5], &[0xd0, 5], &[0xd3, 0, 0, 0, 0, 0, 0, 0, 5]] {
            assert_eq!(Reader::new(bytes).uint("n"), Ok(5));
            assert_eq!(Reader::new(bytes).int("n"), Ok(5));
        }
        assert_eq!(Reader::new(&[0xff]).int("n"), Ok(-1));
        assert_eq!(Reader::new(&[0xd1, 0x80, 0]).int("n"), Ok(-32768));
        assert_eq!(Reader::new(&[0xff]).uint("n"), Err(WireError::Type("n")));
        assert_eq!(Reader::new(&[0xcd, 1, 0]).narrow::<u8>("n"), Err(WireError::Range("n")));
    }

    #[test]
    fn blobs_in_three_forms() {
        for bytes in [&[0xc4, 2, 7, 8][..], &[0xa2, 7, 8], &[0x92, 7, 8], &[0x92, 0xcc, 7, 0xcd, 0, 8]] {
            assert_eq!(Reader::new(bytes).blob("b").unwrap().as_ref(), [7, 8]);
        }
        assert_eq!(Reader::new(&[0x91, 0xcd, 1, 0]).blob("b"), Err(WireError::Range("b")));
    }
}
