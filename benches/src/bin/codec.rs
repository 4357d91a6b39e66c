//! The codecs of channeler: packets per CPU-second, read and written.
//!
//! `v0` is the profile of 2021 (clear text, CRC-32C), `v1` the plaintext side of the encrypted one. Nothing is copied when
//! reading, and nothing allocated either way.
#![allow(clippy::print_stdout, reason = "the figures are the product")]

use std::hint::black_box;

use anyhow::{Result, ensure};
use clap::Parser;
use towline_benches::{Stopwatch, median};
use towline_channeler::PeerId;
use towline_channeler::codecs;
use towline_channeler::v0::{Message, Messages, OVERHEAD, PROTOCOL, Packet};

#[derive(Parser)]
struct Arguments {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Milliseconds of CPU time of each round.
    #[arg(long, default_value_t = 100)]
    milliseconds: u64,
    /// Fail below this many million packets of 120 bytes read per second (v0).
    #[arg(long, default_value_t = 0.0)]
    least: f64,
}

const SENDER: PeerId = PeerId([0xA; 16]);
const RECIPIENT: PeerId = PeerId([0xB; 16]);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("{:<44} {:>10} {:>10} {:>10}", "subject", "M/s", "ns each", "GB/s");
    let mut reached = 0.0;
    for size in [120, 1200] {
        let payload = old_payload(size);
        let mut packet = Vec::new();
        put_old(&mut packet, &payload, size);
        let rate = arguments.measure(&format!("v0 read + CRC, {size} bytes"), size, || {
            let packet = Packet::parse(PROTOCOL, black_box(&packet)).expect("it is well formed");
            Messages::new(packet.payload).flatten().map(|message| message.encoded_len()).sum()
        })?;
        if size == 120 {
            reached = rate;
        }
        let mut out = Vec::with_capacity(2 * size);
        arguments.measure(&format!("v0 write + CRC, {size} bytes"), size, || {
            out.clear();
            put_old(&mut out, black_box(&payload), size);
            out.len()
        })?;
    }
    new_codecs(&arguments)?;
    ensure!(reached >= arguments.least, "{reached:.1} M packets/s of 120 bytes");
    Ok(())
}

/// The plaintext side of v1.
fn new_codecs(arguments: &Arguments) -> Result<()> {
    let bytes = [7; 1500];
    let mut out = Vec::with_capacity(2000);
    for size in [120, 1200] {
        let mut number = 0_u64;
        arguments.measure(&format!("v1 write header + DATA, {size} bytes"), size, || {
            out.clear();
            number += 1;
            codecs::put_bulk(&mut out, number, number * 1000, size, &bytes);
            out.len()
        })?;
        let plain = out[16..].to_vec();
        ensure!(codecs::sum(&plain).is_ok(), "the packet reads");
        arguments.measure(&format!("v1 read DATA, {size} bytes"), size, || {
            codecs::sum(black_box(&plain)).unwrap_or_default() as usize
        })?;
        let packet = out.clone();
        arguments.measure("v1 read header and number", 16, || {
            codecs::number(black_box(&packet), number).unwrap_or_default() as usize
        })?;
    }
    for ranges in [1, 30] {
        out.clear();
        codecs::put_mixed(&mut out, 1_000_000, ranges, &bytes[..40]);
        let plain = out.clone();
        arguments.measure(&format!("v1 write ACK of {ranges}, 3 WINDOW, 2 MESSAGE"), plain.len(), || {
            out.clear();
            codecs::put_mixed(&mut out, black_box(1_000_000), ranges, &bytes[..40]);
            out.len()
        })?;
        arguments.measure(&format!("v1 read ACK of {ranges}, 3 WINDOW, 2 MESSAGE"), plain.len(), || {
            codecs::sum(black_box(&plain)).unwrap_or_default() as usize
        })?;
    }
    out.clear();
    ensure!(codecs::put_handshake(&mut out, &bytes[..1100]), "it fits");
    let packet = out.clone();
    arguments.measure("v1 read handshake packet + CRC, 1200 bytes", packet.len(), || {
        codecs::handshake_payload(black_box(&packet)).unwrap_or_default()
    })?;
    Ok(())
}

impl Arguments {
    /// Prints and gives the rate of `work`, in millions per CPU-second.
    fn measure(&self, name: &str, bytes: usize, mut work: impl FnMut() -> usize) -> Result<f64> {
        let round = self.milliseconds as f64 / 1e3;
        let mut rates = Vec::new();
        for _ in 0..self.rounds {
            let watch = Stopwatch::start()?;
            let mut count = 0_u64;
            let cpu = loop {
                for _ in 0..16_384 {
                    black_box(work());
                }
                count += 16_384;
                let (_, cpu) = watch.read()?;
                if cpu >= round {
                    break cpu;
                }
            };
            rates.push(count as f64 / cpu / 1e6);
        }
        let rate = median(&mut rates);
        println!("{name:<44} {rate:>10.1} {:>10.1} {:>10.2}", 1e3 / rate, rate * bytes as f64 / 1e3);
        Ok(rate)
    }
}

/// Messages that nearly fill a packet of this size.
fn old_payload(size: usize) -> Vec<u8> {
    let bytes = vec![7; size - OVERHEAD - 3];
    let mut payload = Vec::new();
    Message::Data(&bytes).put(&mut payload);
    payload
}

fn put_old(out: &mut Vec<u8>, payload: &[u8], size: usize) {
    let packet = Packet { sender: SENDER, recipient: RECIPIENT, channel: 7, flags: 0, sequence: 0, payload };
    packet.put(PROTOCOL, size, out);
}
