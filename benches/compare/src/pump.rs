//! Bytes into one end and out of the other, in the portions the project's benchmarks use.

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::measure::percentile;

/// Size of the buffers given to write and read.
const BUFFER: usize = 64 * 1024;

pub(crate) async fn send(mut to: impl AsyncWrite + Unpin, bytes: usize) -> Result<()> {
    let buffer = vec![7u8; BUFFER];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(BUFFER);
        to.write_all(&buffer[..now]).await?;
        left -= now;
    }
    to.shutdown().await?;
    Ok(())
}

/// Reads to the end. Checks that `bytes` came.
pub(crate) async fn receive(mut from: impl AsyncRead + Unpin, bytes: usize) -> Result<()> {
    let mut buffer = vec![0u8; BUFFER];
    let mut received = 0;
    loop {
        match from.read(&mut buffer).await? {
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
