//! As much of HTTP/1.1 (RFC 9112) as it takes to fetch a document and to call an action: one request a connection.

use super::location::Location;

/// Longest head of a response, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Longest body of a response, in bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// Longest line that says how long a chunk is, in bytes; longer ones would be read again with every byte that comes.
const MAX_CHUNK_LINE: usize = 256;
/// Most header fields.
const HEADERS: usize = 64;

/// Why a response cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// It is no HTTP.
    #[error("the response is no HTTP")]
    Malformed,
    /// Longer than we take.
    #[error("the response is longer than {} KiB", MAX_BODY / 1024)]
    TooLong,
    /// It ended in the middle.
    #[error("the response ended in the middle")]
    Truncated,
    /// Neither 200 nor, for actions, 500.
    #[error("the response has status {0}")]
    Status(u16),
}

/// Asks for a document.
pub fn get(at: &Location) -> Vec<u8> {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nUser-Agent: towline UPnP/1.1\r\n\r\n",
        at.path, at.server
    )
    .into_bytes()
}

/// Calls an action; `action` is what `SOAPAction` says.
pub fn post(at: &Location, action: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nUser-Agent: towline UPnP/1.1\r\nContent-Type: text/xml; \
         charset=\"utf-8\"\r\nSOAPAction: \"{action}\"\r\nContent-Length: {}\r\n\r\n{body}",
        at.path,
        at.server,
        body.len()
    )
    .into_bytes()
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200 for success.
    pub status: u16,
    /// The document.
    pub body: Vec<u8>,
}

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
    /// With the connection.
    Close,
}

/// Collects a response as it comes.
#[derive(Debug, Default)]
pub struct Reader {
    received: Vec<u8>,
    /// Status, where what was not looked at begins, and how the body ends.
    head: Option<(u16, usize, Length)>,
    /// What is in the chunks so far.
    body: Vec<u8>,
}

impl Reader {
    /// More bytes came. The response, when it is whole.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Response>, HttpError> {
        if self.received.len() + bytes.len() > MAX_HEAD + MAX_BODY {
            return Err(HttpError::TooLong);
        }
        self.received.extend_from_slice(bytes);
        if self.head.is_none() {
            self.head = parse_head(&self.received)?;
        }
        match &mut self.head {
            Some((status, at, Length::Known(len))) => {
                let body = self.received.get(*at..*at + *len);
                Ok(body.map(|body| Response { status: *status, body: body.to_vec() }))
            }
            Some((status, at, Length::Chunked)) => {
                let whole = unchunk(&self.received, at, &mut self.body)?;
                Ok(whole.then(|| Response { status: *status, body: std::mem::take(&mut self.body) }))
            }
            Some((_, _, Length::Close)) | None => Ok(None),
        }
    }

    /// The connection ended.
    pub fn finish(self) -> Result<Response, HttpError> {
        match self.head {
            Some((status, at, Length::Close)) => Ok(Response { status, body: self.received[at..].to_vec() }),
            _ => Err(HttpError::Truncated),
        }
    }
}

/// Status, where the body begins, and how it ends. `None` as long as the head is not whole.
fn parse_head(received: &[u8]) -> Result<Option<(u16, usize, Length)>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let at = match response.parse(received) {
        Ok(httparse::Status::Complete(at)) => at,
        Ok(httparse::Status::Partial) if received.len() <= MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(HttpError::TooLong),
        Err(_) => return Err(HttpError::Malformed),
    };
    let status = response.code.ok_or(HttpError::Malformed)?;
    let field = |name: &str| response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let length =
        if field("Transfer-Encoding").is_some_and(|field| field.value.eq_ignore_ascii_case(b"chunked")) {
            Length::Chunked
        } else if let Some(field) = field("Content-Length") {
            let text = std::str::from_utf8(field.value).map_err(|_| HttpError::Malformed)?;
            let len = text.trim().parse().map_err(|_| HttpError::Malformed)?;
            if len > MAX_BODY {
                return Err(HttpError::TooLong);
            }
            Length::Known(len)
        } else {
            Length::Close
        };
    Ok(Some((status, at, length)))
}

/// Moves the chunks (RFC 9112 section 7.1) that are whole, from `at` on, to the `body`. True if the last is among them.
fn unchunk(received: &[u8], at: &mut usize, body: &mut Vec<u8>) -> Result<bool, HttpError> {
    loop {
        let rest = &received[*at..];
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) if rest.len() <= MAX_CHUNK_LINE => return Ok(false),
            Ok(httparse::Status::Partial) | Err(_) => return Err(HttpError::Malformed),
        };
        if start > MAX_CHUNK_LINE {
            return Err(HttpError::Malformed);
        }
        if size == 0 {
            return Ok(true);
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_BODY).ok_or(HttpError::TooLong)?;
        let Some(chunk) = rest.get(start..start + size + 2) else { return Ok(false) };
        let (chunk, end) = chunk.split_at(size);
        if end != b"\r\n" {
            return Err(HttpError::Malformed);
        }
        body.extend_from_slice(chunk);
        *at += start + size + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Response, HttpError> {
        let mut whole = None;
        // However it is cut, the result is the same.
        for size in [1, 7, 4096] {
            let mut reader = Reader::default();
            let mut found = Ok(None);
            for piece in text.as_bytes().chunks(size) {
                found = reader.push(piece);
                if !matches!(found, Ok(None)) {
                    break;
                }
            }
            let result = match found {
                Ok(Some(response)) => Ok(response),
                Ok(None) => reader.finish(),
                Err(error) => Err(error),
            };
            assert!(whole.is_none_or(|before| before == result), "{text:?} cut into {size}");
            whole = Some(result);
        }
        whole.unwrap()
    }

    #[test]
    fn bodies_of_all_kinds() {
        let hello = Ok(Response { status: 200, body: b"hello".to_vec() });
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), hello);
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\nhello"), hello);
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"),
            hello
        );
        assert_eq!(read("HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n").unwrap().status, 500);
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"), Err(HttpError::Truncated));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Le"), Err(HttpError::Truncated));
        assert_eq!(read("SSH-2.0-OpenSSH\r\n"), Err(HttpError::Malformed));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: minus\r\n\r\n"), Err(HttpError::Malformed));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"), Err(HttpError::TooLong));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(&format!("{chunked}ffffffff\r\n")), Err(HttpError::TooLong));
        assert_eq!(read(&format!("{chunked}2\r\nhello\r\n")), Err(HttpError::Malformed));
        assert_eq!(read(&format!("{chunked}xyz\r\n")), Err(HttpError::Malformed));
        let line = format!("{chunked}2;{}", "x".repeat(MAX_CHUNK_LINE));
        assert_eq!(read(&line), Err(HttpError::Malformed), "also before its end");
        assert_eq!(read(&format!("{line}\r\nhe\r\n0\r\n\r\n")), Err(HttpError::Malformed));
        assert_eq!(
            read(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "a".repeat(MAX_HEAD + MAX_BODY))),
            Err(HttpError::TooLong)
        );
    }
}
