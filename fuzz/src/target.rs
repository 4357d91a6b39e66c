//! The targets: what a stranger can send, by layer.

mod account;
mod channeler;
mod dht;
mod ice;
mod identity;
mod mux;
mod portmap;
mod sip;
mod tls;
mod towline;
mod turn;

use std::time::Instant;

/// A function over bytes, and what the mutations should know about them.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Runs one input; panics when something is wrong.
    pub run: fn(&[u8]),
    /// Longest input worth trying, in bytes.
    pub limit: usize,
    /// Byte strings the format knows.
    pub words: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "dht-message", run: dht::message, limit: 1500, words: dht::KEYS },
    Target { name: "dht-value", run: dht::value, limit: 4096, words: dht::KEYS },
    Target { name: "dht-payload", run: dht::payload, limit: 4096, words: dht::KEYS },
    Target { name: "dht-query", run: dht::query, limit: 1500, words: dht::KEYS },
    Target { name: "dht-query-text", run: dht::query_text, limit: 512, words: dht::CLAUSES },
    Target { name: "dht-state", run: dht::state, limit: 8192, words: dht::KEYS },
    Target { name: "dht-discovery", run: dht::discovery, limit: 1500, words: dht::KEYS },
    Target { name: "dht-fragments", run: dht::fragments, limit: 8192, words: dht::KEYS },
    Target { name: "dht-node", run: dht::node, limit: 8192, words: dht::KEYS },
    Target { name: "ice-stun", run: ice::stun, limit: 1500, words: ice::ATTRIBUTES },
    Target { name: "ice-blob", run: ice::blob, limit: 8192, words: ice::WORDS },
    Target { name: "ice-framing", run: ice::framing, limit: 8192, words: &[] },
    Target { name: "ice-trickle", run: ice::trickle, limit: 8192, words: ice::WORDS },
    Target { name: "ice-party", run: ice::party, limit: 256, words: ice::MAPPINGS },
    Target { name: "ice-agent", run: ice::agent, limit: 8192, words: ice::ATTRIBUTES },
    Target {
        name: "identity-certificates",
        run: identity::certificates,
        limit: 16384,
        words: identity::WORDS,
    },
    Target { name: "identity-private-key", run: identity::private_key, limit: 8192, words: identity::WORDS },
    Target { name: "identity-public-key", run: identity::public_key, limit: 2048, words: identity::WORDS },
    Target { name: "identity-ids", run: identity::ids, limit: 1024, words: identity::ID_WORDS },
    Target { name: "sip-stream", run: sip::stream, limit: 16384, words: sip::WORDS },
    Target {
        name: "identity-revocation-list",
        run: identity::revocation_list,
        limit: 8192,
        words: identity::WORDS,
    },
    Target { name: "account-announcement", run: account::announcement, limit: 4096, words: account::WORDS },
    Target { name: "account-receipt", run: account::receipt, limit: 8192, words: account::WORDS },
    Target { name: "account-archive", run: account::archive, limit: 65536, words: account::WORDS },
    Target { name: "account-contacts", run: account::contacts, limit: 8192, words: account::WORDS },
    Target { name: "account-revocation", run: account::revocation_value, limit: 8192, words: account::WORDS },
    Target { name: "account-vcard", run: account::card, limit: 8192, words: account::CARD_WORDS },
    Target { name: "tls-to-client", run: tls::to_client, limit: 16384, words: tls::WORDS },
    Target { name: "tls-to-server", run: tls::to_server, limit: 16384, words: tls::WORDS },
    Target { name: "tls-established", run: tls::established, limit: 4096, words: tls::WORDS },
    Target { name: "mux-native", run: mux::native, limit: 16384, words: mux::WORDS },
    Target { name: "mux-jami", run: mux::jami, limit: 16384, words: mux::WORDS },
    Target {
        name: "channeler-handshake",
        run: channeler::handshake,
        limit: 8192,
        words: channeler::HANDSHAKE,
    },
    Target { name: "channeler-v0-envelope", run: channeler::envelope, limit: 1500, words: channeler::WORDS },
    Target {
        name: "channeler-v0-messages",
        run: channeler::old_messages,
        limit: 1500,
        words: channeler::WORDS,
    },
    Target {
        name: "channeler-v0-endpoint",
        run: channeler::old_endpoint,
        limit: 4096,
        words: channeler::WORDS,
    },
    Target { name: "channeler-liar", run: channeler::liar, limit: 8192, words: channeler::MESSAGES },
    Target { name: "channeler-messages", run: channeler::messages, limit: 1500, words: channeler::MESSAGES },
    Target { name: "channeler-packet", run: channeler::packet, limit: 1500, words: channeler::WORDS },
    Target { name: "turn-client", run: turn::client, limit: 8192, words: turn::ATTRIBUTES },
    Target { name: "turn-server", run: turn::server, limit: 8192, words: turn::ATTRIBUTES },
    Target { name: "portmap-pcp", run: portmap::pcp, limit: 1200, words: portmap::PACKETS },
    Target { name: "portmap-natpmp", run: portmap::natpmp, limit: 64, words: portmap::PACKETS },
    Target { name: "portmap-search", run: portmap::search, limit: 2048, words: portmap::SEARCH },
    Target { name: "portmap-response", run: portmap::response, limit: 8192, words: portmap::RESPONSES },
    Target { name: "portmap-description", run: portmap::description, limit: 65536, words: portmap::ELEMENTS },
    Target { name: "portmap-action", run: portmap::action, limit: 8192, words: portmap::ELEMENTS },
    Target { name: "towline-request", run: towline::request, limit: 4096, words: towline::KEYS },
    Target { name: "towline-later", run: towline::later, limit: 4096, words: towline::KEYS },
    Target { name: "towline-relay", run: towline::relay, limit: 1024, words: towline::RELAYS },
];

/// Time starts anywhere; from there it moves only as a target says.
fn epoch() -> Instant {
    Instant::now()
}

/// Cuts an input into pieces that each carry their length in two bytes, as a story of several datagrams.
fn datagrams(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, rest) = input.split_first_chunk::<2>()?;
        let (datagram, rest) = rest.split_at(usize::from(u16::from_be_bytes(*head)).min(rest.len()));
        input = rest;
        Some(datagram)
    })
}

/// Cuts an input into chunks of the sizes that its first byte suggests, as a stream delivers them.
fn chunks(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (first, mut rest) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let mut size = usize::from(first);
    std::iter::from_fn(move || {
        // 1, 2, 3, .. 256 and again: header and body are cut at every place sooner or later.
        size = size % 256 + 1;
        let (chunk, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        (!chunk.is_empty()).then_some(chunk)
    })
}
