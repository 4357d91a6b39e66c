//! What another device says by way of the DHT before there is a connection, and what a user says about relays.

use towline::signal::{LaterCandidates, PeerRequest};
use towline::{Relay, RelaySecret};

/// Keys of the request and of our extension.
pub(super) const KEYS: &[&[u8]] = &[
    b"\xa2id",
    b"\xa7ice_msg",
    b"\xa8isAnswer",
    b"\xa8connType",
    b"\xa2tl",
    b"\xa1v",
    b"\xa4dial",
    b"\xa4cand",
    b"\xa3udp",
    b"\xa4more",
    b"\xa3nat",
    b"\xbfby-port-sequential:-2 1.2.3.4:7",
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

/// Candidates that follow a request.
pub(super) fn later(input: &[u8]) {
    let Ok(later) = LaterCandidates::decode(input) else { return };
    assert_eq!(LaterCandidates::decode(&later.encode()).as_ref(), Ok(&later));
}

/// Parts of a relay's name.
pub(super) const RELAYS: &[&[u8]] =
    &[b"turn:", b"@", b"?transport=udp", b"?transport=tcp", b":3478", b"[::1]", b"ann:secret", b":0"];

/// A relay as text: all of it can be written again, and what is shown of it does not depend on the secret.
pub(super) fn relay(input: &[u8]) {
    let Some(relay) = std::str::from_utf8(input).ok().and_then(|text| text.parse::<Relay>().ok()) else {
        return;
    };
    let shown = relay.to_string();
    let (RelaySecret::Password(secret) | RelaySecret::Shared(secret)) = &relay.secret else { return };
    // Its name has no colon and no `@` when it is shown, and the secret goes between the two.
    let secret = secret.replace('%', "%25").replace('@', "%40");
    let whole = shown.replacen('@', &format!(":{secret}@"), 1);
    assert_eq!(whole.parse().as_ref(), Ok(&relay));
    let text = "other".to_owned();
    let other = match relay.secret {
        RelaySecret::Shared(_) => RelaySecret::Shared(text),
        _ => RelaySecret::Password(text),
    };
    let other = Relay { secret: other, ..relay };
    assert_eq!(other.to_string(), shown);
}
