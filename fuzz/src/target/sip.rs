//! What an authenticated peer writes on a channel called `sip`.

use super::epoch;

/// Lines and pieces of lines.
pub(super) const WORDS: &[&[u8]] = &[
    b"MESSAGE sip:a@b SIP/2.0\r\n",
    b"INVITE sips:10.0.0.1:5061;transport=tls SIP/2.0\r\n",
    b"SIP/2.0 200 OK\r\n",
    b"Via: SIP/2.0/TLS 10.0.0.2:5061;rport;branch=z9hG4bK",
    b"From: \"a\" <sip:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb@ring.dht>;tag=",
    b"To: <sips:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@10.0.0.1>\r\n",
    b"Call-ID: ",
    b"CSeq: 1 ",
    b"ACK",
    b"CANCEL",
    b"OPTIONS",
    b"Require: ",
    b"Content-Type: text/plain\r\n",
    b"Content-Length: ",
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b";",
    b",",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"%",
];

/// A stream of messages, right and wrong ones.
pub(super) fn stream(input: &[u8]) {
    towline_sip::fuzz(epoch(), input);
}
