//! What another device says by way of the DHT before there is a connection.

use towline::signal::PeerRequest;

/// Keys of the request and of our extension.
pub(super) const KEYS: &[&[u8]] = &[
    b"\xa2id",
    b"\xa7ice_msg",
    b"\xa8isAnswer",
    b"\xa8connType",
    b"\xa2tl",
    b"\xa1v",
    b"\xa2no",
    b"\xc2",
    b"\xc3",
    b"\xcf\x00\x20\x00\x00\x00\x00\x00\x00",
    b"\xdf\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff",
];

/// A connection request or its answer: what is read is written so that the same is read again.
pub(super) fn request(input: &[u8]) {
    let Ok(request) = PeerRequest::decode(input) else { return };
    assert_eq!(PeerRequest::decode(&request.encode()).as_ref(), Ok(&request));
}
