//! How long reading and writing the usual datagrams takes: `cargo run --release --example codec_speed`.

use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use towline_dht::message::{Body, Message, NodeEntry, Reply, Request, Token, ValueItem, Want};
use towline_dht::{InfoHash, Query, Value};

const ROUNDS: u32 = 200_000;

fn message(body: Body) -> Message {
    Message { transaction: 0x1234_5678, network: 0, client: false, body }
}

fn main() -> std::io::Result<()> {
    let id = InfoHash([7; 20]);
    let node = |port: u16| NodeEntry { id: InfoHash([9; 20]), address: ([192, 0, 2, 1], port).into() };
    let token = Token::new([3; 32]);
    let found = Reply {
        seen_address: Some([192, 0, 2, 2].into()),
        nodes4: (1..=8).map(node).collect(),
        token: token.clone(),
        ..Reply::default()
    };
    let value = ValueItem::Inline(Arc::new(Value::new(5, 0, vec![1; 300]).with_user_type("text/plain")));
    let put = Request::Put { key: id, values: vec![value], created: Some(1_800_000_000), token };
    let get = Request::Get { key: id, query: Some(Query::by_id(5)), want: Want::default() };
    let samples = [
        ("get with query", message(Body::Request { sender: id, request: get })),
        ("answer with 8 nodes", message(Body::Reply { sender: id, reply: found })),
        ("put of 300 bytes", message(Body::Request { sender: id, request: put })),
    ];
    let mut out = std::io::stdout().lock();
    for (name, message) in samples {
        let datagram = message.encode();
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(black_box(&message).encode());
        }
        let encode = start.elapsed() / ROUNDS;
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(Message::decode(black_box(&datagram))).ok();
        }
        let decode = start.elapsed() / ROUNDS;
        writeln!(out, "{name:<20} {:>4} bytes   write {encode:>8.0?}   read {decode:>8.0?}", datagram.len())?;
    }
    Ok(())
}
