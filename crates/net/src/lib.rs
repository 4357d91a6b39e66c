//! The one door to the operating system: sockets, interfaces, wall clock and chance.
//!
//! Everything above this crate reaches the world through [`Net`], a small object-safe trait held as
//! `Arc<dyn Net>`. Two things stand behind it: [`Os`], which is the machine, and the `lab` crate, which is a
//! network in memory and in virtual time. A program that uses nothing else runs unchanged in both.
//!
//! # Time
//!
//! `Net` has no `sleep` and no `now`, because the clock of tokio is replaceable already: the lab pauses it
//! and moves it by hand. So timers are those of [`tokio::time`], instants are read by [`now`], and
//! [`std::time::Instant::now`] is not used anywhere. The wall clock, which certificates and stored values
//! need, is [`Net::unix_time`].
//!
//! # Chance
//!
//! State machines are given a seed, and [`Net::seed`] is where it comes from. In the lab it is drawn from the seed of the world, so that a run repeats.

mod clock;
mod interface;
mod os;
mod tcp;
mod udp;

use std::{fmt, io, net::SocketAddr, time::Duration};

pub use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

pub use crate::{
    clock::{now, sleep_until},
    interface::{Changes, Gateway, Interface, InterfaceAddress},
    os::Os,
    tcp::{TcpConnect, TcpListener, TcpStream},
    udp::{Arrival, Burst, Ecn, Group, Received, UdpBind, UdpSocket},
};

/// A network with one host's view of it: the real one ([`Os`]) or one host of the lab.
///
/// All methods must be called from within a tokio runtime with I/O and time enabled.
pub trait Net: fmt::Debug + Send + Sync + 'static {
    /// Every interface of this host, loopback included, ordered by index.
    fn interfaces(&self) -> io::Result<Vec<Interface>>;

    /// The routers of this host, as far as they can be told: IPv4 only. Default: none is known.
    fn gateways(&self) -> io::Result<Vec<Gateway>> {
        Ok(Vec::new())
    }

    /// A subscription to changes of what [`interfaces`](Self::interfaces) returns.
    fn changes(&self) -> Changes;

    /// Binds a UDP socket. Port 0 takes a free one. IPv6 sockets never carry IPv4.
    fn bind_udp(&self, options: &UdpBind) -> io::Result<Box<dyn UdpSocket>>;

    /// Listens on a TCP address. Port 0 takes a free one. IPv6 listeners never accept IPv4.
    fn listen_tcp(&self, addr: SocketAddr) -> io::Result<Box<dyn TcpListener>>;

    /// Connects to a TCP address. Dropping the future gives the attempt up.
    ///
    /// Fails with `ConnectionRefused`, `TimedOut`, `HostUnreachable`, `NetworkUnreachable`,
    /// `AddrInUse` or `AddrNotAvailable`, among others.
    fn connect_tcp(
        &self,
        to: SocketAddr,
        options: TcpConnect,
    ) -> BoxFuture<'static, io::Result<Box<dyn TcpStream>>>;

    /// Addresses of `host:port`, which may be a name, an IPv4 address or a bracketed IPv6 address.
    ///
    /// The order is the resolver's. Fails when there is none.
    fn resolve(&self, host_port: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

    /// The wall clock: time since 1970-01-01 00:00 UTC. It may jump; never measure with it.
    fn unix_time(&self) -> Duration;

    /// Fills `out` with randomness good enough for keys and seeds (in the lab: repeatable).
    fn fill_random(&self, out: &mut [u8]);

    /// A fresh seed for a state machine.
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.fill_random(&mut seed);
        seed
    }

    /// Runs work that would keep a task busy for more than about a millisecond (RSA, hashing of files).
    ///
    /// [`Os`] runs it on a thread for such work, the lab at once and in place. Callers want
    /// `dyn Net::offload`, which returns the result.
    fn offload_job(&self, job: Box<dyn FnOnce() + Send>);
}

impl dyn Net {
    /// Runs CPU-heavy work away from the tasks and returns its result.
    ///
    /// Dropping the future does not stop work that has begun. It is never ready if the work never begins, which happens
    /// when the runtime is shut down: whoever waits for it ends with the runtime.
    ///
    /// # Panics
    ///
    /// If the work panics.
    pub fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let (done, result) = oneshot::channel();
        let mut done = Done(Some(done));
        self.offload_job(Box::new(move || done.say(Outcome::Result(work()))));
        async move {
            match result.await {
                Ok(Outcome::Result(result)) => result,
                Ok(Outcome::Panicked) => panic!("offloaded work panicked"),
                Err(_) => std::future::pending().await,
            }
        }
    }
}

enum Outcome<T> {
    Result(T),
    Panicked,
}

/// Tells how the work ended; nothing, if it never began.
struct Done<T>(Option<oneshot::Sender<Outcome<T>>>);

impl<T> Done<T> {
    fn say(&mut self, outcome: Outcome<T>) {
        if let Some(done) = self.0.take() {
            // Nobody waits any more when this fails: the result is not wanted.
            let _ = done.send(outcome);
        }
    }
}

impl<T> Drop for Done<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say(Outcome::Panicked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn work_that_never_begins_is_never_done() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _inside = handle.enter();
        let net: Arc<dyn Net> = Arc::new(Os);
        assert!(net.offload(|| ()).now_or_never().is_none());
    }

    #[tokio::test]
    #[should_panic(expected = "offloaded work panicked")]
    async fn work_that_panics_is_told() {
        let net: Arc<dyn Net> = Arc::new(Os);
        net.offload(|| panic!("a fault in the work")).await;
    }
}
