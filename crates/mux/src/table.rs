//! Channels by id and by number, both in O(1).

use crate::channel::{Channel, Phase};
use crate::{ChannelError, ChannelId};

/// Numbers per page of the index.
const PAGE: usize = 64;

/// No slot.
const NONE: u32 = u32::MAX;

/// All channels. A number is bound to a channel while frames may arrive under it; the channel may live on
/// after that, until the application has taken what was received.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Option<Channel>>,
    free: Vec<u32>,
    serial: u64,
    live: usize,
    index: Index,
}

impl Table {
    /// Adds a channel under `number`, which must be free; `make` gets its id.
    pub(crate) fn insert(&mut self, number: u16, make: impl FnOnce(ChannelId) -> Channel) -> ChannelId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("there are fewer channels than numbers and held bytes")
        });
        let id = ChannelId { serial: self.serial, slot, number };
        self.serial += 1;
        self.live += 1;
        self.slots[slot as usize] = Some(make(id));
        self.index.set(number, slot);
        id
    }

    pub(crate) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.slots.get(id.slot as usize)?.as_ref().filter(|channel| channel.id.serial == id.serial)
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.slots.get_mut(id.slot as usize)?.as_mut().filter(|channel| channel.id.serial == id.serial)
    }

    /// A channel the application has not given up.
    pub(crate) fn known(&mut self, id: ChannelId) -> Result<&mut Channel, ChannelError> {
        self.get_mut(id).filter(|channel| !channel.gone).ok_or(ChannelError::Unknown)
    }

    /// A request of the peer that is not decided.
    pub(crate) fn pending(&mut self, id: ChannelId) -> Result<&mut Channel, ChannelError> {
        let channel = self.known(id)?;
        if channel.phase == Phase::Pending { Ok(channel) } else { Err(ChannelError::NotPending) }
    }

    /// The channel to which frames under `number` belong.
    pub(crate) fn by_number(&mut self, number: u16) -> Option<&mut Channel> {
        let slot = self.index.get(number)?;
        self.slots[slot as usize].as_mut()
    }

    pub(crate) fn is_bound(&self, number: u16) -> bool {
        self.index.get(number).is_some()
    }

    /// Frees the number.
    pub(crate) fn unbind(&mut self, number: u16) {
        self.index.clear(number);
    }

    /// Moves a channel to another, free number.
    pub(crate) fn rebind(&mut self, id: ChannelId, number: u16) {
        if let Some(channel) = self.get_mut(id) {
            let old = std::mem::replace(&mut channel.number, number);
            self.index.clear(old);
            self.index.set(number, id.slot);
        }
    }

    /// Takes the channel out; its number must be free already.
    pub(crate) fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        self.get(id)?;
        self.free.push(id.slot);
        self.live -= 1;
        let removed = self.slots[id.slot as usize].take();
        if self.live == 0 {
            // A burst of channels does not keep its memory.
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        removed
    }

    /// Number of channels.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Channels in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.slots.iter().flatten()
    }

    /// Number of slots, for a clock hand.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn at_slot(&mut self, slot: usize) -> Option<&mut Channel> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The first free number at or after `from`, going round inside `low..=high`.
    pub(crate) fn free_number(&self, from: u16, low: u16, high: u16) -> Option<u16> {
        let from = if (low..=high).contains(&from) { from } else { low };
        self.index.first_free(from, high).or_else(|| self.index.first_free(low, from))
    }
}

/// Slots by number, in pages made when needed. The pages of both halves alternate, so that the first numbers of
/// either need no long list of pages.
#[derive(Debug, Default)]
struct Index {
    pages: Vec<Option<Box<Page>>>,
}

#[derive(Debug)]
struct Page {
    slots: [u32; PAGE],
    used: usize,
}

/// The page of a number.
fn page(number: u16) -> usize {
    usize::from(number & 0x7fff) / PAGE * 2 + usize::from(number >> 15)
}

impl Index {
    fn get(&self, number: u16) -> Option<u32> {
        let page = self.pages.get(page(number))?.as_ref()?;
        Some(page.slots[usize::from(number) % PAGE]).filter(|slot| *slot != NONE)
    }

    fn set(&mut self, number: u16, slot: u32) {
        let at = page(number);
        if self.pages.len() <= at {
            self.pages.resize_with(at + 1, || None);
        }
        let page = self.pages[at].get_or_insert_with(|| Box::new(Page { slots: [NONE; PAGE], used: 0 }));
        page.slots[usize::from(number) % PAGE] = slot;
        page.used += 1;
    }

    fn clear(&mut self, number: u16) {
        let Some(place) = self.pages.get_mut(page(number)) else { return };
        let Some(page) = place else { return };
        let slot = &mut page.slots[usize::from(number) % PAGE];
        if std::mem::replace(slot, NONE) != NONE {
            page.used -= 1;
        }
        if page.used == 0 {
            *place = None;
        }
    }

    /// The first free number in `low..=high`; full pages are passed over whole.
    fn first_free(&self, low: u16, high: u16) -> Option<u16> {
        let mut number = usize::from(low);
        while number <= usize::from(high) {
            match self.pages.get(page(number as u16)).and_then(Option::as_ref) {
                None => return Some(number as u16),
                Some(page) if page.used == PAGE => number = (number / PAGE + 1) * PAGE,
                Some(page) if page.slots[number % PAGE] == NONE => return Some(number as u16),
                Some(_) => number += 1,
            }
        }
        None
    }
}
