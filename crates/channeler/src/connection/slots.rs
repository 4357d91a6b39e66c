//! Where the channels live.

use std::time::Instant;

use super::shares::{Key, Shares};
use crate::{
    ChannelId, Placement, Priority, Reason,
    channel::{Channel, Load},
    crypto::{ChannelOpen, ChannelSeal},
    table::Table,
};

/// One channel with all that the connection knows of it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: ChannelId,
    pub(super) channel: Channel,
    pub(super) seal: ChannelSeal,
    pub(super) open: ChannelOpen,
    pub(super) priority: Priority,
    pub(super) placement: Placement,
    /// Of [`mark`].
    pub(super) marks: u32,
    /// Packets on their way, and records of control messages, that name this slot: it is not given to another before they came back.
    pub(super) refs: u32,
    /// What is left to send of a message that was begun, in offsets.
    pub(super) begun: u64,
    /// Packets with data on their way.
    pub(super) in_flight: u32,
    /// Bytes until its turn ends.
    pub(super) turn: i32,
    /// What it holds, as the shares know it.
    pub(super) load: Load,
    /// What is left of its turn to write.
    pub(super) grant: u32,
    /// Seconds since the connection began, when a key of it was last used.
    pub(super) used: u32,
    /// The soonest time noted for it among the deadlines.
    pub(super) noted: Option<Instant>,
    /// What the channel is for: until the peer, or the program, has heard it.
    pub(super) label: Option<Box<[u8]>>,
    /// Tells it from others that had the same slot.
    pub(super) generation: u32,
    /// Messages given up since the last event: own, and the peer's.
    pub(super) lost: [u64; 2],
    /// Why it ended.
    pub(super) ended: Option<Reason>,
}

/// Bits of [`Slot::marks`].
pub(super) mod mark {
    /// In the schedule.
    pub(in super::super) const SCHEDULED: u32 = 1;
    /// Waits for the connection's window.
    pub(in super::super) const CREDIT: u32 = 1 << 1;
    /// In the queue of channels with control messages to send.
    pub(in super::super) const CONTROL: u32 = 1 << 2;
    /// In the queue of channels with events.
    pub(in super::super) const EVENT: u32 = 1 << 3;
    /// No packet with its OPEN is known to have arrived: every packet carries it.
    pub(in super::super) const OPENING: u32 = 1 << 4;
    /// An OPEN has to leave, with or without data.
    pub(in super::super) const OPEN_DUE: u32 = 1 << 5;
    /// The program never heard of it, and does not.
    pub(in super::super) const SILENT: u32 = 1 << 6;

    /// The peer's program accepted it, as was told once.
    pub(in super::super) const ACCEPTED: u32 = 1 << 7;
    /// Waits for its turn to write.
    pub(in super::super) const WAITS: u32 = 1 << 8;

    // Events that were not fetched.
    pub(in super::super) const OPENED_EVENT: u32 = 1 << 16;
    pub(in super::super) const ACCEPTED_EVENT: u32 = 1 << 17;
    pub(in super::super) const READABLE_EVENT: u32 = 1 << 18;
    pub(in super::super) const WRITABLE_EVENT: u32 = 1 << 19;
    pub(in super::super) const WINDOW_EVENT: u32 = 1 << 20;
    pub(in super::super) const LOST_EVENT: u32 = 1 << 21;
    pub(in super::super) const FINISHED_EVENT: u32 = 1 << 22;
    pub(in super::super) const ENDED_EVENT: u32 = 1 << 23;
    /// All of them.
    pub(in super::super) const EVENTS: u32 = 0xFF << 16;
}

impl Slot {
    #[inline]
    pub(super) fn is(&self, mark: u32) -> bool {
        self.marks & mark != 0
    }

    /// Whether it sends so little that the losses of others, who fill the link's window or shrank it, must not hold it back.
    #[inline]
    pub(super) fn is_sparse(&self) -> bool {
        /// Packets on their way of a channel that sends little.
        const FLIGHT: u32 = 16;
        /// Less than a packet holds.
        const BACKLOG: u64 = 1000;
        // What gives way to everything gives way with its first packet, too: many such channels would never ask.
        self.priority != Priority::BACKGROUND
            && (self.in_flight == 0 || (self.in_flight < FLIGHT && self.channel.backlog() < BACKLOG))
    }

    /// Whom it shares with what may be held.
    #[inline]
    pub(super) fn key(&self) -> Key {
        (self.priority, self.placement)
    }

    /// Tells the shares what it holds.
    #[inline]
    pub(super) fn weigh(&mut self, shares: &mut Shares) {
        let load = self.channel.load();
        if load != self.load {
            shares.update(self.key(), self.load, load);
            self.load = load;
        }
    }

    /// Sets a mark. Whether it was not set before.
    #[inline]
    pub(super) fn set(&mut self, mark: u32) -> bool {
        let fresh = self.marks & mark == 0;
        self.marks |= mark;
        fresh
    }

    /// Clears a mark. Whether it was set.
    #[inline]
    pub(super) fn clear(&mut self, mark: u32) -> bool {
        let was = self.marks & mark != 0;
        self.marks &= !mark;
        was
    }
}

/// The channels of a connection: by slot number, or by id through one look at a table.
#[derive(Debug)]
pub(super) struct Slots {
    places: Vec<Option<Box<Slot>>>,
    free: Vec<u32>,
    ids: Table<u32>,
    /// The last one found: packets come in runs.
    last: Option<(u32, u32)>,
    generation: u32,
}

impl Slots {
    /// None. `chance` orders the table of their ids.
    pub(super) fn new(chance: u64) -> Self {
        Self { places: Vec::new(), free: Vec::new(), ids: Table::new(chance), last: None, generation: 0 }
    }

    /// The slot of a channel.
    #[inline]
    pub(super) fn find(&mut self, id: ChannelId) -> Option<u32> {
        if let Some((last, slot)) = self.last
            && last == id.0
        {
            return Some(slot);
        }
        let slot = self.ids.get(id.0)?;
        self.last = Some((id.0, slot));
        Some(slot)
    }

    /// The same, without remembering it.
    pub(super) fn look(&self, id: ChannelId) -> Option<&Slot> {
        self.ids.get(id.0).and_then(|slot| self.places[slot as usize].as_deref())
    }

    /// A channel whose slot is known to be taken.
    #[inline]
    pub(super) fn at(&mut self, slot: u32) -> &mut Slot {
        self.places[slot as usize].as_deref_mut().expect("a slot that is named is taken")
    }

    /// Puts a channel in.
    pub(super) fn insert(&mut self, mut slot: Slot) -> u32 {
        let id = slot.id;
        self.generation = self.generation.wrapping_add(1);
        slot.generation = self.generation;
        let number = match self.free.pop() {
            Some(number) => {
                self.places[number as usize] = Some(Box::new(slot));
                number
            }
            None => {
                self.places.push(Some(Box::new(slot)));
                (self.places.len() - 1) as u32
            }
        };
        self.ids.insert(id.0, number);
        number
    }

    /// Takes a channel out.
    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(gone) = self.places[slot as usize].take() {
            self.ids.remove(gone.id.0);
            self.free.push(slot);
            self.last = None;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// One more than the largest slot number.
    pub(super) fn bound(&self) -> u32 {
        self.places.len() as u32
    }

    /// A channel by its slot, if that is taken.
    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.places.get(slot as usize)?.as_deref()
    }
}
