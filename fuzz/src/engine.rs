//! Runs a target over its corpus and over mutations of it, and reports the first input that breaks it.

use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::corpus::fingerprint;
use crate::{Mutator, Target};

/// How much a run may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Time for mutations, after the corpus was replayed.
    pub time: Duration,
    /// Most mutations to try.
    pub executions: u64,
    /// An input that takes longer, three times in a row, is a failure.
    pub per_input: Duration,
    /// An input that does not end at all is given up after this; the process has to end then.
    pub hang: Duration,
    /// Most memory that the whole run may add to the process, in bytes of address space.
    pub memory: u64,
}

impl Default for Budget {
    /// Two seconds; one second for an input, which leaves room for an unoptimised build on a busy machine.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            executions: u64::MAX,
            per_input: Duration::from_secs(1),
            hang: Duration::from_secs(30),
            memory: 512 << 20,
        }
    }
}

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The target panicked, with this message and place.
    Panic(String),
    /// The target took this long, the fastest of three tries.
    Slow(Duration),
    /// The target did not return.
    Hang(Duration),
    /// The address space grew by this many bytes while the input ran.
    Memory(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(message) => write!(f, "panic: {message}"),
            Self::Slow(time) => write!(f, "one input took {time:?}"),
            Self::Hang(time) => write!(f, "one input did not end within {time:?}"),
            Self::Memory(bytes) => write!(f, "memory grew by {} MiB", bytes >> 20),
        }
    }
}

/// An input that broke its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub fault: Fault,
    /// The input, shortened as far as it still panics.
    pub input: Vec<u8>,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Inputs of the corpus.
    pub corpus: usize,
    /// Inputs run, the corpus included.
    pub executions: u64,
    /// Time of the whole run.
    pub took: Duration,
    /// Time of the slowest input.
    pub slowest: Duration,
    /// The first input that broke the target.
    pub failure: Option<Failure>,
}

/// Replays `inputs`, then mutates them until the budget is spent or an input breaks the target.
#[must_use]
pub fn run(target: &Target, inputs: &[Vec<u8>], seed: u64, budget: Budget) -> Report {
    let start = Instant::now();
    let mut report = Report {
        corpus: inputs.len(),
        executions: 0,
        took: Duration::ZERO,
        slowest: Duration::ZERO,
        failure: None,
    };
    let worker = Worker::start(target.run);
    // The first input pays for what a target sets up once, such as keys.
    let _ = worker.execute(&[], budget.hang);
    let floor = address_space();
    let mut mutator = Mutator::new(seed ^ fingerprint(target.name.as_bytes()), target.limit, target.words);
    let mut replayed = inputs.iter();
    while report.failure.is_none() {
        let input = match replayed.next() {
            Some(input) => input.clone(),
            None if start.elapsed() >= budget.time || report.executions >= budget.executions => break,
            None => mutator.make(inputs),
        };
        report.executions += 1;
        let verdict = worker.judge(&input, budget, floor);
        report.slowest = report.slowest.max(verdict.clone().unwrap_or_default());
        report.failure = verdict.err().map(|fault| match fault {
            Fault::Panic(_) => worker.shorten(input, fault, budget.hang),
            _ => Failure { fault, input },
        });
    }
    report.took = start.elapsed();
    report
}

/// Runs one input; for looking at a failure again.
///
/// # Errors
/// What is wrong with the input.
pub fn replay(target: &Target, input: &[u8], budget: Budget) -> Result<Duration, Fault> {
    Worker::start(target.run).execute(input, budget.hang)
}

/// A thread that runs inputs, so that one which never ends can be left behind.
struct Worker {
    inputs: SyncSender<Vec<u8>>,
    results: Receiver<Result<Duration, String>>,
}

impl Worker {
    fn start(target: fn(&[u8])) -> Self {
        install_hook();
        let (inputs, work) = sync_channel::<Vec<u8>>(1);
        let (done, results) = sync_channel(1);
        // As much stack as a thread of a tokio runtime has: recursion must not need more.
        let builder = thread::Builder::new().name("fuzz".to_owned()).stack_size(2 << 20);
        let thread = builder.spawn(move || {
            while let Ok(input) = work.recv() {
                let start = Instant::now();
                let outcome = panic::catch_unwind(AssertUnwindSafe(|| target(&input)));
                let took = start.elapsed();
                let message = || PANIC.with_borrow_mut(std::mem::take);
                if done.send(outcome.map(|()| took).map_err(|_| message())).is_err() {
                    return;
                }
            }
        });
        thread.expect("the system gives us a thread");
        Self { inputs, results }
    }

    fn execute(&self, input: &[u8], hang: Duration) -> Result<Duration, Fault> {
        self.inputs.send(input.to_vec()).expect("the worker lives as long as we hold its channel");
        match self.results.recv_timeout(hang) {
            Ok(outcome) => outcome.map_err(Fault::Panic),
            Err(RecvTimeoutError::Timeout) => Err(Fault::Hang(hang)),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the worker catches every panic"),
        }
    }

    /// Runs an input and looks at its time and memory too.
    fn judge(&self, input: &[u8], budget: Budget, floor: Option<u64>) -> Result<Duration, Fault> {
        let mut took = self.execute(input, budget.hang)?;
        if let (Some(floor), Some(now)) = (floor, address_space())
            && now.saturating_sub(floor) > budget.memory
        {
            return Err(Fault::Memory(now - floor));
        }
        // A busy machine must not look like a slow decoder: the fastest of three tries counts.
        for _ in 0..2 {
            if took <= budget.per_input {
                break;
            }
            took = took.min(self.execute(input, budget.hang)?);
        }
        if took <= budget.per_input { Ok(took) } else { Err(Fault::Slow(took)) }
    }

    /// Cuts parts out of an input for as long as it still panics.
    fn shorten(&self, mut input: Vec<u8>, mut fault: Fault, hang: Duration) -> Failure {
        let mut part = input.len() / 2;
        let mut tries = 2_000_u32;
        while part > 0 {
            let mut at = 0;
            while at < input.len() && tries > 0 {
                tries -= 1;
                let mut shorter = input.clone();
                shorter.drain(at..(at + part).min(input.len()));
                match self.execute(&shorter, hang) {
                    Err(Fault::Panic(message)) => {
                        input = shorter;
                        fault = Fault::Panic(message);
                    }
                    Err(_) => return Failure { fault, input },
                    Ok(_) => at += part,
                }
            }
            part /= 2;
        }
        Failure { fault, input }
    }
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps the message of a panic of a worker, instead of printing thousands; other threads panic as usual.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() == Some("fuzz") {
                PANIC.set(info.to_string().replace('\n', " "));
            } else {
                usual(info);
            }
        }));
    });
}

/// Most address space the process ever had, in bytes; unknown where the system does not tell.
///
/// Memory that was reserved and never touched counts: a length that a stranger claims must not be reserved.
fn address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    peak.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(run: fn(&[u8])) -> Target {
        Target { name: "sample", run, limit: 64, words: &[b"magic"] }
    }

    fn quick() -> Budget {
        Budget { time: Duration::from_secs(20), executions: 20_000, ..Budget::default() }
    }

    #[test]
    fn a_panic_behind_a_word_is_found_and_shortened() {
        let target = target(|input| {
            assert!(!input.windows(5).any(|part| part == b"magic"), "met the word");
        });
        let report = run(&target, &[b"some longer input to start from".to_vec()], 1, quick());
        let failure = report.failure.expect("the word is in the dictionary");
        assert_eq!(failure.input, b"magic");
        assert!(matches!(failure.fault, Fault::Panic(message) if message.contains("met the word")));
        assert!(replay(&target, b"magic", quick()).is_err());
        assert!(replay(&target, b"trick", quick()).is_ok());
    }

    #[test]
    fn the_same_seed_finds_the_same_failure() {
        let target = target(|input| assert!(input.len() < 40 || input[0] & 1 == 0));
        let found = || run(&target, &[vec![1; 10]], 3, quick()).failure.map(|failure| failure.input);
        assert!(found().is_some());
        assert_eq!(found(), found());
    }

    #[test]
    fn an_input_that_does_not_end_is_given_up() {
        let target = target(|input| {
            if input == b"loop" {
                loop {
                    thread::park();
                }
            }
        });
        let budget = Budget { hang: Duration::from_millis(50), ..quick() };
        let report = run(&target, &[b"loop".to_vec()], 1, budget);
        assert_eq!(
            report.failure,
            Some(Failure { fault: Fault::Hang(budget.hang), input: b"loop".to_vec() })
        );
    }

    #[test]
    fn a_slow_input_is_a_failure() {
        let target = target(|input| {
            if input == b"slow" {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let budget = Budget { per_input: Duration::from_millis(10), ..quick() };
        let report = run(&target, &[b"fast".to_vec(), b"slow".to_vec()], 1, budget);
        assert!(matches!(report.failure, Some(Failure { fault: Fault::Slow(_), input }) if input == b"slow"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_a_stranger_claims_is_a_failure() {
        let target = target(|input| {
            let claimed = usize::from(input.first().copied().unwrap_or_default()) << 24;
            std::hint::black_box(Vec::<u8>::with_capacity(claimed));
        });
        let budget = Budget { executions: 1, ..quick() };
        assert_eq!(run(&target, &[vec![1]], 1, budget).failure, None);
        let failure = run(&target, &[vec![255]], 1, budget).failure.expect("4 GiB were reserved");
        assert!(matches!(failure.fault, Fault::Memory(bytes) if bytes > 3 << 30));
    }

    #[test]
    fn a_sound_target_spends_its_budget() {
        let budget = Budget { executions: 500, ..quick() };
        let report = run(&target(|_| {}), &[vec![1], vec![2]], 1, budget);
        assert_eq!((report.corpus, report.executions, report.failure), (2, 500, None));
    }
}
