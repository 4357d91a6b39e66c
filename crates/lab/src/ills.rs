//! What can be wrong with a host itself: its clock, the answers to its questions for names, room for sockets.

use std::{io, ops::RangeInclusive, time::Duration};

use crate::{host::Host, node::Sockets};

/// First of the ports that are taken where none is asked for (RFC 6335).
const EPHEMERAL: u16 = 49152;

/// How long a host waits for the answer of a name server: twice 5 s, as glibc does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Too many open files, as Unix systems say it: the kinds of `io::Error` have no name for it.
const EMFILE: i32 = 24;

/// How questions of a host for names are answered. Addresses need none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Names {
    /// By who knows all hosts of the world.
    #[default]
    Answered,
    /// At once, by who knows no name.
    Unknown,
    /// By nobody; the question fails after 10 s.
    Silent,
}

/// The ills of a host.
#[derive(Debug)]
pub(crate) struct Ills {
    /// What its clock showed when the world began, since 1970; that of the world unless it was set.
    pub(crate) clock: Option<Duration>,
    pub(crate) names: Names,
    /// Sockets that it can have.
    pub(crate) room: usize,
    /// Ports that are given out where none is asked for.
    pub(crate) ports: RangeInclusive<u16>,
}

impl Default for Ills {
    fn default() -> Self {
        Self { clock: None, names: Names::default(), room: usize::MAX, ports: EPHEMERAL..=u16::MAX }
    }
}

impl Host {
    /// Sets its wall clock, to what it would have shown when the world began, since 1970. Timers are not affected.
    pub fn set_clock(&self, unix_start: Duration) {
        self.ills(|ills| ills.clock = Some(unix_start));
    }

    /// Changes how its questions for names are answered.
    pub fn set_names(&self, names: Names) {
        self.ills(|ills| ills.names = names);
    }

    /// Limits its sockets of all kinds, connections that nobody has accepted included. Those it has stay; beyond, it can open no
    /// more, as a program that is out of file descriptors.
    pub fn set_room(&self, sockets: usize) {
        self.ills(|ills| ills.room = sockets);
    }

    /// Changes which ports it gives to sockets that ask for none. Default: 49152 to 65535 (RFC 6335).
    pub fn set_ports(&self, ports: RangeInclusive<u16>) {
        self.ills(|ills| ills.ports = ports);
    }

    /// Sockets it has, of all kinds, connections that nobody has accepted included.
    pub fn sockets(&self) -> usize {
        self.world.with(|state| state.sockets(self.node).count())
    }

    fn ills(&self, act: impl FnOnce(&mut Ills)) {
        self.world.with(|state| act(&mut state.sockets(self.node).ills));
    }
}

impl Sockets {
    fn count(&self) -> usize {
        self.udp.len() + self.listeners.len() + self.connections.len()
    }

    /// Checks that the host may open one more.
    pub(crate) fn check_room(&self) -> io::Result<()> {
        if self.count() < self.ills.room {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(EMFILE))
    }
}
