//! Bytes into one end and out of the other, in the portions the project's benchmarks use.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::measure::percentile;

/// Size of the buffers given to write and read.
const BUFFER: usize = 64 * 1024;

/// What is written: the same memory for all, as it is not theirs that is measured.
static SOURCE: [u8; BUFFER] = [7; BUFFER];

pub(crate) async fn send(mut to: impl AsyncWrite + Unpin, bytes: usize) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let now = left.min(BUFFER);
        to.write_all(&SOURCE[..now]).await?;
        left -= now;
    }
    to.shutdown().await?;
    Ok(())
}

/// Reads to the end, into memory that is common to all who read in a thread. Checks that `bytes` came.
pub(crate) async fn receive(mut from: impl AsyncRead + Unpin, bytes: usize) -> Result<()> {
    thread_local! {
        static BYTES: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    }
    let mut received = 0;
    loop {
        let read = poll_fn(|cx| {
            BYTES.with_borrow_mut(|bytes| {
                let mut buffer = ReadBuf::new(bytes);
                Pin::new(&mut from).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            })
        });
        match read.await? {
            0 => break,
            more => received += more,
        }
    }
    anyhow::ensure!(received == bytes, "{received} bytes came");
    Ok(())
}

/// Sends one byte back.
pub(crate) async fn echo(mut to: impl AsyncWrite + Unpin, mut from: impl AsyncRead + Unpin) -> Result<()> {
    let byte = from.read_u8().await?;
    to.write_u8(byte).await?;
    to.shutdown().await?;
    Ok(())
}

/// Prints the 50th and the 95th percentile of latencies in microseconds.
pub(crate) fn print_latencies(mut latencies: Vec<f64>) -> Result<()> {
    println!("{} {}", percentile(&mut latencies, 50.0), percentile(&mut latencies, 95.0));
    Ok(())
}
