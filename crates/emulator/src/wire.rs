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

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use towline_nat::Way;
use tun_rs::{DeviceBuilder, GROTable, IDEAL_BATCH_SIZE, SyncDevice, VIRTIO_NET_HDR_LEN};

use crate::router::{Fate, Router};

/// Longest packet of a TUN device.
const LONGEST: usize = 65_535;
/// Packets that the device may give at once: 64 KiB in segments of 256 bytes.
const PACKETS: usize = 2 * IDEAL_BATCH_SIZE;
/// How often a thread that has nothing to do looks whether it is to end, in milliseconds.
const GLANCE: u8 = 50;

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
    router: Mutex<Router>,
    start: Instant,
    stop: AtomicBool,
    passed: AtomicU64,
    dropped: AtomicU64,
}

impl Shared {
    fn router(&self) -> MutexGuard<'_, Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
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
            router: Mutex::new(router),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
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

    /// Carries packets of one direction. Ends when it is told to.
    fn carry(&self, way: Way, shared: &Shared) {
        let (from, to) = match way {
            Way::Out => (&self.inside, &self.outside),
            Way::In => (&self.outside, &self.inside),
        };
        let mut batch = Batch::new(self.mtu);
        while !shared.stop.load(Ordering::Relaxed) {
            match batch.receive(from) {
                Ok(()) => batch.pass(way, shared, from, to),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                    // Interrupted or not: the device is tried again.
                    let _ = poll(&mut fds, PollTimeout::from(GLANCE));
                }
                // A device that is down gives EIO until it is up; what cannot be cut into packets is lost.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
            if way == Way::In {
                self.answer_late(shared);
            }
        }
    }

    fn answer_late(&self, shared: &Shared) {
        let now = shared.start.elapsed();
        let mut router = shared.router();
        if router.poll_timeout().is_some_and(|at| at <= now) {
            while let Some(answer) = router.late(now) {
                let packet = [&[0; VIRTIO_NET_HDR_LEN][..], &answer].concat();
                // Late or never: nobody asks for it.
                let _ = self.outside.send(&packet);
            }
        }
    }
}

/// Packets that are carried together: the system gives and takes many of one connection at once.
struct Batch {
    /// What came from the device, before it is cut into packets.
    raw: Vec<u8>,
    /// A packet each, behind room for the header of the device.
    packets: Vec<Vec<u8>>,
    sizes: Vec<usize>,
    count: usize,
    room: usize,
    joined: GROTable,
}

impl Batch {
    fn new(mtu: u16) -> Self {
        let room = VIRTIO_NET_HDR_LEN + usize::from(mtu);
        let packet = || {
            // Packets of a connection are joined in the first of them.
            let mut packet = Vec::with_capacity(VIRTIO_NET_HDR_LEN + LONGEST);
            packet.resize(room, 0);
            packet
        };
        Self {
            raw: vec![0; VIRTIO_NET_HDR_LEN + LONGEST],
            packets: (0..PACKETS).map(|_| packet()).collect(),
            sizes: vec![0; PACKETS],
            count: 0,
            room,
            joined: GROTable::default(),
        }
    }

    fn receive(&mut self, from: &SyncDevice) -> io::Result<()> {
        self.count =
            from.recv_multiple(&mut self.raw, &mut self.packets, &mut self.sizes, VIRTIO_NET_HDR_LEN)?;
        Ok(())
    }

    /// Sends on what may go on, and back what is to go back.
    fn pass(&mut self, way: Way, shared: &Shared, from: &SyncDevice, to: &SyncDevice) {
        let (mut kept, mut back) = (0, Vec::new());
        let mut router = shared.router();
        let now = shared.start.elapsed();
        for at in 0..self.count {
            let packet = &mut self.packets[at];
            packet.truncate(VIRTIO_NET_HDR_LEN + self.sizes[at]);
            match router.pass(now, way, &mut packet[VIRTIO_NET_HDR_LEN..]) {
                Fate::Forward => {
                    self.packets.swap(kept, at);
                    kept += 1;
                }
                Fate::Turn => back.push(packet.clone()),
                Fate::Drop(_) => {}
                Fate::Answer(_, answer) => back.push([&[0; VIRTIO_NET_HDR_LEN][..], &answer].concat()),
            }
        }
        drop(router);
        let mut send = |device: &SyncDevice, packets: &mut [Vec<u8>]| {
            let sent = device.send_multiple(&mut self.joined, packets, VIRTIO_NET_HDR_LEN);
            sent.map_or(0, |_| packets.len() as u64)
        };
        let passed = send(to, &mut self.packets[..kept]) + send(from, &mut back);
        shared.passed.fetch_add(passed, Ordering::Relaxed);
        shared.dropped.fetch_add((self.count as u64).saturating_sub(passed), Ordering::Relaxed);
        for packet in &mut self.packets[..self.count] {
            packet.resize(self.room, 0);
        }
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
        let now = self.shared.start.elapsed();
        act(&mut self.shared.router(), now)
    }

    /// Packets that went on, and packets that did not.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::Relaxed), self.shared.dropped.load(Ordering::Relaxed))
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
