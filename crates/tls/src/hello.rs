//! Reading in a ClientHello whether the client offers an application protocol.
//!
//! RFC 7301 wants a server that shares no protocol with its client to hang up, and the TLS library obeys. A
//! peer that offers something else is welcome here (it gets the Jami dialect), so the server has to
//! know before it begins.

/// TLS 1.3 ClientHello extension 16.
const ALPN_EXTENSION: u16 = 16;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Whether the ClientHello in these whole records offers `protocol`. None: it goes on in a further record.
/// Malformed ones offer nothing; the TLS library will say what is wrong with them.
pub(crate) fn offers(records: &[u8], protocol: &[u8]) -> Option<bool> {
    let mut message = Vec::new();
    let mut rest = Reader(records);
    while !rest.0.is_empty() {
        let Some(body) = rest.record() else { return Some(false) };
        message.extend_from_slice(body);
    }
    let mut reader = Reader(&message);
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Some(false);
    }
    let header: [u8; 4] = reader.take(4)?.try_into().expect("four bytes were taken");
    let len = u32::from_be_bytes(header) & 0x00ff_ffff;
    let hello = reader.take(len as usize)?;
    Some(
        Reader(hello)
            .alpn()
            .is_some_and(|mut list| std::iter::from_fn(|| list.vector8()).any(|offered| offered == protocol)),
    )
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(*self.take(1)?.first()?);
        self.take(len)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    /// The body of a handshake record.
    fn record(&mut self) -> Option<&'a [u8]> {
        let header = self.take(3)?;
        (header[0] == HANDSHAKE_RECORD).then(|| self.vector16())?
    }

    /// The list of protocols in a ClientHello.
    fn alpn(&mut self) -> Option<Reader<'a>> {
        self.take(2 + 32)?; // version, random
        self.vector8()?; // session id
        self.vector16()?; // suites
        self.vector8()?; // compression
        let mut extensions = Reader(self.vector16()?);
        loop {
            let kind = extensions.u16()?;
            let body = extensions.vector16()?;
            if kind == ALPN_EXTENSION {
                return Reader(body).vector16().map(Reader);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector16(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u16).to_be_bytes(), body].concat()
    }

    fn hello(protocols: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = protocols.iter().flat_map(|p| [&[p.len() as u8], *p].concat()).collect();
        let other = [&[0, 10], &*vector16(&[0, 2, 0, 24])].concat();
        let alpn = [&[0, 16], &*vector16(&vector16(&list))].concat();
        let extensions = if protocols.is_empty() { other } else { [other, alpn].concat() };
        let body = [&[3; 34], &[0][..], &vector16(&[0x13, 0x02]), &[1, 0], &vector16(&extensions)].concat();
        [&(0x0100_0000 | body.len() as u32).to_be_bytes(), &*body].concat()
    }

    fn record(body: &[u8]) -> Vec<u8> {
        [&[22, 3, 1], &*vector16(body)].concat()
    }

    #[test]
    fn finds_the_protocol() {
        let offered = |protocols: &[&[u8]]| offers(&record(&hello(protocols)), b"towline/1");
        assert_eq!(offered(&[]), Some(false));
        assert_eq!(offered(&[b"h2"]), Some(false));
        assert_eq!(offered(&[b"h2", b"towline/1"]), Some(true));
        assert_eq!(offered(&[b"towline/10"]), Some(false));
    }

    #[test]
    fn a_hello_in_pieces() {
        let whole = hello(&[b"towline/1"]);
        for cut in 1..whole.len() {
            assert_eq!(offers(&record(&whole[..cut]), b"towline/1"), None, "cut at {cut}");
            let both = [record(&whole[..cut]), record(&whole[cut..])].concat();
            assert_eq!(offers(&both, b"towline/1"), Some(true), "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_offers_nothing() {
        assert_eq!(offers(&record(&[2, 0, 0, 0]), b"x"), Some(false));
        assert_eq!(offers(b"GET / HTTP/1.0\r\n", b"x"), Some(false));
        assert_eq!(offers(&record(&[1, 0, 0, 2, 9, 9]), b"x"), Some(false));
    }
}
