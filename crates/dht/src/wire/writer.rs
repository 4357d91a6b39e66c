//! Writing msgpack in the shortest forms.

use std::io;

use rmp::encode;

/// States why results are not passed on: the sinks used here take everything.
const INFALLIBLE: &str = "memory takes every write";

/// Writes objects to a sink in memory.
#[derive(Debug, Default)]
pub(crate) struct Writer<W = Vec<u8>> {
    sink: W,
}

/// A sink that only counts.
#[derive(Debug, Default)]
pub(crate) struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { sink: Vec::with_capacity(bytes) }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.sink
    }
}

impl Writer<Count> {
    /// How many bytes `write` writes.
    pub(crate) fn count(write: impl FnOnce(&mut Self)) -> usize {
        let mut writer = Self::default();
        write(&mut writer);
        writer.sink.0
    }
}

impl<W: io::Write> Writer<W> {
    pub(crate) fn map(&mut self, len: usize) {
        encode::write_map_len(&mut self.sink, len as u32).expect(INFALLIBLE);
    }

    pub(crate) fn array(&mut self, len: usize) {
        encode::write_array_len(&mut self.sink, len as u32).expect(INFALLIBLE);
    }

    pub(crate) fn uint(&mut self, number: impl Into<u64>) {
        encode::write_uint(&mut self.sink, number.into()).expect(INFALLIBLE);
    }

    pub(crate) fn int(&mut self, number: i64) {
        encode::write_sint(&mut self.sink, number).expect(INFALLIBLE);
    }

    pub(crate) fn boolean(&mut self, flag: bool) {
        encode::write_bool(&mut self.sink, flag).expect(INFALLIBLE);
    }

    pub(crate) fn str(&mut self, text: &str) {
        encode::write_str(&mut self.sink, text).expect(INFALLIBLE);
    }

    pub(crate) fn bin(&mut self, bytes: &[u8]) {
        encode::write_bin(&mut self.sink, bytes).expect(INFALLIBLE);
    }

    pub(crate) fn ext(&mut self, kind: i8, bytes: &[u8]) {
        encode::write_ext_meta(&mut self.sink, bytes.len() as u32, kind).expect(INFALLIBLE);
        self.raw(bytes);
    }

    /// Objects written elsewhere.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.sink.write_all(bytes).expect(INFALLIBLE);
    }
}
