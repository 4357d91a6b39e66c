//! How much the mux itself costs: two ends in one thread, the wire a slice. `cargo run --release --example
//! throughput -p towline-mux [MiB]`.
#![allow(clippy::print_stdout, reason = "an example reports to its user")]

use std::error::Error;
use std::time::Instant;

use towline_mux::{ChannelId, Chunk, Config, Dialect, Event, MAX_BODY, Mux, OpenOptions, Side};

struct Pair {
    from: Mux,
    to: Mux,
    now: Instant,
    scratch: Vec<u8>,
}

impl Pair {
    fn new(dialect: Dialect) -> Self {
        let now = Instant::now();
        let end = |side| Mux::new(dialect, side, Config::default(), now);
        Self { from: end(Side::TlsClient), to: end(Side::TlsServer), now, scratch: Vec::new() }
    }

    /// Carries everything both ways once; says how many payload bytes were read.
    fn turn(&mut self) -> Result<u64, Box<dyn Error>> {
        let mut read = 0;
        for forth in [true, false] {
            let (from, to) =
                if forth { (&mut self.from, &mut self.to) } else { (&mut self.to, &mut self.from) };
            while to.wants_data()
                && let Some(transmit) = from.poll_transmit(self.now, &mut self.scratch)
            {
                to.handle_data(self.now, &transmit)?;
                while let Some(event) = to.poll_event() {
                    match event {
                        Event::Requested { id, .. } => to.accept(self.now, id)?,
                        Event::Readable { id } => {
                            while let Some(bytes) = to.read(id) {
                                read += bytes.len() as u64;
                                to.consumed(self.now, id, bytes.len() as u64);
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(read)
    }
}

fn run(dialect: Dialect, channels: usize, write: usize, total: u64) -> Result<(), Box<dyn Error>> {
    let mut pair = Pair::new(dialect);
    let ids = (0..channels)
        .map(|_| pair.from.open(pair.now, "bench", OpenOptions::default()))
        .collect::<Result<Vec<ChannelId>, _>>()?;
    pair.turn()?;
    pair.turn()?;
    let data = vec![0x5a; write];
    let started = Instant::now();
    let mut read = 0;
    while read < total {
        for id in &ids {
            for _ in 0..4 {
                if pair.from.writable(*id) >= write {
                    pair.from.write(*id, Chunk::copy_from(&data))?;
                }
            }
        }
        pair.now = Instant::now();
        read += pair.turn()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let gib = read as f64 / f64::from(1 << 30);
    println!(
        "{dialect:?}, {channels:>5} channels, writes of {write:>5}: {:>6.2} GiB/s, {:.3} s per GiB",
        gib / seconds,
        seconds / gib
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let total = std::env::args().nth(1).map_or(Ok(2048), |mib| mib.parse::<u64>())? << 20;
    for dialect in [Dialect::Native, Dialect::Jami] {
        for (channels, write) in [(1, MAX_BODY), (100, MAX_BODY), (1000, MAX_BODY), (1, 1024), (1, 64)] {
            run(dialect, channels, write, if write < 1024 { total / 16 } else { total })?;
        }
    }
    Ok(())
}
