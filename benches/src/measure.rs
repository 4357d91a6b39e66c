//! CPU time, memory, medians, and running a program for the figures it prints. Knows nothing of Towline: the
//! comparators include this file too.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// CPU time this process has used, user and system.
pub fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> Result<u64> { Ok(fields.next().context("short /proc/self/stat")?.parse()?) };
    // In units of 1/100 s on every Linux.
    Ok(Duration::from_millis((ticks()? + ticks()?) * 10))
}

/// Resident memory of this process in bytes: now, and at its highest.
pub fn memory() -> Result<(u64, u64)> {
    memory_of("self")
}

/// The same of the process with this id.
pub fn memory_of(process: &str) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).context("reading status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find(|line| line.starts_with(name)).context("no such field in status")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number in status")?.parse()?;
        Ok(kib * 1024)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// The middle of the figures.
pub fn median(figures: &mut [f64]) -> f64 {
    percentile(figures, 50.0)
}

/// The figure that `percent` of all do not exceed.
pub fn percentile(figures: &mut [f64], percent: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let index = (figures.len().saturating_sub(1)) as f64 * percent / 100.0;
    figures.get(index.round() as usize).copied().unwrap_or(f64::NAN)
}

/// Runs this program again with `arguments` and returns the numbers it prints on its last line.
pub fn run_subject(arguments: &[&str]) -> Result<Vec<f64>> {
    run_program(&std::env::current_exe()?, arguments)
}

/// Runs `program` and returns the numbers it prints on its last line.
pub fn run_program(program: &Path, arguments: &[&str]) -> Result<Vec<f64>> {
    // Errors that are made with a backtrace cost more than what is measured.
    let output = Command::new(program).args(arguments).env_remove("RUST_BACKTRACE").output()?;
    ensure!(output.status.success(), "{arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let Some(line) = text.lines().last() else { bail!("{arguments:?} printed nothing") };
    line.split_whitespace().map(|word| word.parse().context("not a number")).collect()
}

/// Wall and CPU time of a piece of work.
#[derive(Debug)]
pub struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Result<Self> {
        Ok(Self { cpu: cpu_time()?, wall: Instant::now() })
    }

    /// Seconds since the start: wall, CPU.
    pub fn read(&self) -> Result<(f64, f64)> {
        Ok((self.wall.elapsed().as_secs_f64(), cpu_time()?.saturating_sub(self.cpu).as_secs_f64()))
    }
}

/// Intercept and slope of the straight line nearest to the points (least squares).
pub fn line_through(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in points {
        covariance += (x - mean_x) * (y - mean_y);
        variance += (x - mean_x) * (x - mean_x);
    }
    let slope = covariance / variance;
    (mean_y - slope * mean_x, slope)
}
