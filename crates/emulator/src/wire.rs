//! A router between two TUN devices.

use std::{
    fmt, io,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};
use towline_link::Link;
use towline_nat::Way;
use tun_rs::{DeviceBuilder, SyncDevice, VIRTIO_NET_HDR_LEN};

use crate::{
    batch::{Incoming, Outgoing},
    crossing::{Crossing, Due, Side, Step},
    router::Router,
};

/// How often a thread that has nothing to do looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// Two TUN devices with a router between them. The caller moves them into namespaces and gives them addresses and routes.
pub struct Wire {
    inside: SyncDevice,
    outside: SyncDevice,
    mtu: u16,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Shared {
    crossing: Mutex<Crossing>,
    start: Instant,
    stop: AtomicBool,
    passed: AtomicU64,
    /// Packets that a device did not take.
    refused: AtomicU64,
}

impl Shared {
    fn crossing(&self) -> MutexGuard<'_, Crossing> {
        self.crossing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// Makes the two devices, by these names, with this MTU, and down. Needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(inside: &str, outside: &str, mtu: u16) -> io::Result<Self> {
        let make = |name: &str| {
            let device = DeviceBuilder::new().name(name).mtu(mtu).enable(false).offload(true).build_sync()?;
            device.set_nonblocking(true)?;
            Ok::<_, io::Error>(device)
        };
        Ok(Self { inside: make(inside)?, outside: make(outside)?, mtu })
    }

    /// Carries packets, a thread for each direction, until what is returned is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn run(self, router: Router) -> io::Result<Running> {
        let shared = Arc::new(Shared {
            crossing: Mutex::new(Crossing::new(router)),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let wire = Arc::new(self);
        let mut running = Running { shared, threads: Vec::new() };
        for way in [Way::Out, Way::In] {
            let (shared, wire) = (Arc::clone(&running.shared), Arc::clone(&wire));
            let thread =
                thread::Builder::new().name(format!("{way:?}")).spawn(move || wire.carry(way, &shared))?;
            running.threads.push(thread);
        }
        Ok(running)
    }

    /// Carries what comes from one side. Ends when it is told to.
    fn carry(&self, way: Way, shared: &Shared) {
        let from = if way == Way::Out { &self.inside } else { &self.outside };
        let mut incoming = Incoming::new(self.mtu);
        let mut leaving = Leaving { inside: Outgoing::new(), outside: Outgoing::new() };
        while !shared.stop.load(Ordering::Relaxed) {
            match incoming.receive(from) {
                Ok(packets) => {
                    let mut crossing = shared.crossing();
                    let now = shared.start.elapsed();
                    for slot in packets {
                        match crossing.take(now, way, &mut slot[VIRTIO_NET_HDR_LEN..]) {
                            Step::Leave(side) => leaving.to(side).take(slot),
                            Step::Answer(side, answer) => leaving.to(side).copy(&answer, false),
                            Step::Wait | Step::Lost => {}
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(way, shared),
                // A device that is down gives EIO until it is up; what cannot be cut into packets is lost.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
            // What came at once goes first: nothing was on its way before it.
            self.send(&mut leaving, shared);
            while leaving.fill(way, shared) {
                self.send(&mut leaving, shared);
            }
            self.send(&mut leaving, shared);
        }
    }

    /// Waits until a packet comes, or is due.
    fn wait(&self, way: Way, shared: &Shared) {
        let from = if way == Way::Out { &self.inside } else { &self.outside };
        let due = shared.crossing().poll_timeout(way);
        let now = shared.start.elapsed();
        let rest = due.map_or(GLANCE, |at| at.saturating_sub(now).min(GLANCE));
        let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not: the device is tried again.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(rest)), None);
    }

    fn send(&self, leaving: &mut Leaving, shared: &Shared) {
        for (outgoing, device) in [(&mut leaving.inside, &self.inside), (&mut leaving.outside, &self.outside)]
        {
            let (passed, refused) = outgoing.send(device);
            shared.passed.fetch_add(passed, Ordering::Relaxed);
            shared.refused.fetch_add(refused, Ordering::Relaxed);
        }
    }
}

/// What a thread sends next.
struct Leaving {
    inside: Outgoing,
    outside: Outgoing,
}

impl Leaving {
    fn to(&mut self, side: Side) -> &mut Outgoing {
        match side {
            Side::Inside => &mut self.inside,
            Side::Outside => &mut self.outside,
        }
    }

    /// Adds what is due. Returns whether there may be more than there was room for.
    fn fill(&mut self, way: Way, shared: &Shared) -> bool {
        let mut crossing = shared.crossing();
        let now = shared.start.elapsed();
        while !self.inside.is_full() && !self.outside.is_full() {
            let Some(Due { side, packet, carried }) = crossing.due(now, way) else { return false };
            self.to(side).copy(&packet, carried);
        }
        true
    }
}

/// A [`Wire`] at work. Ends when it is dropped.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Acts on the router while it works. Packets wait meanwhile.
    pub fn with<T>(&self, act: impl FnOnce(&mut Router, Duration) -> T) -> T {
        let mut crossing = self.shared.crossing();
        // Not before it was waited for: packets have passed meanwhile, and time must not go back.
        let now = self.shared.start.elapsed();
        act(&mut crossing.router, now)
    }

    /// Makes the line between the router and the outside like this, up and down; before, it carries everything at once. What is on
    /// its way arrives as it would have. All that is left to chance follows from the seed and the packets.
    ///
    /// Packets come in bursts of 64 KiB, as the system gives them: a shorter queue loses the end of each.
    pub fn set_line(&self, up: Link, down: Link, seed: [u8; 32]) {
        self.shared.crossing().set_line(up, down, seed);
    }

    /// Lets the line lose everything, or ends that.
    pub fn set_outage(&self, out: bool) {
        self.shared.crossing().set_outage(out);
    }

    /// Packets that went on, and packets that did not. Those on the line are neither yet, and answers of the router are no packets.
    pub fn counts(&self) -> (u64, u64) {
        let dropped = self.shared.crossing().lost() + self.shared.refused.load(Ordering::Relaxed);
        (self.shared.passed.load(Ordering::Relaxed), dropped)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
