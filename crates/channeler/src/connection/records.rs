//! Which control messages a packet carried, so that they can be said again if it is lost.

use crate::{LinkId, channel::Said};

/// One control message that must arrive, named by what it is about: when it is lost, what holds then is said, not what held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// OPEN of the channel in this slot.
    Open(u32),
    /// What the channel itself said.
    Channel(u32, Said),
    /// CONNECTION_WINDOW.
    ConnectionWindow,
    /// CHANNELS.
    Channels,
    /// NEW_ID for this link.
    NewId(LinkId),
    /// RETIRE_LINK.
    RetireLink(LinkId),
    /// LINK_PREFERENCE.
    Preference(LinkId),
}

/// The control messages of one packet, or the fate of a packet that went twice.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) items: Vec<Item>,
    /// Copies whose fate is not known.
    pub(super) copies: u8,
    /// Whether one of them arrived.
    pub(super) arrived: bool,
}

/// The records of packets on their way. Their memory is used again.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: Vec<Record>,
    free: Vec<u32>,
}

impl Records {
    /// Takes a record and fills it with `items`, which is left empty.
    pub(super) fn take(&mut self, items: &mut Vec<Item>, copies: u8) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.records.push(Record::default());
            (self.records.len() - 1) as u32
        });
        let record = &mut self.records[number as usize];
        record.items.append(items);
        record.copies = copies;
        record.arrived = false;
        number
    }

    /// The control messages of a packet on its way.
    pub(super) fn items(&self, number: u32) -> &[Item] {
        &self.records[number as usize].items
    }

    /// One copy of the packet came to its end. `None` while another may still arrive; otherwise whether any did.
    /// After that the items are to be taken by [`Self::finish`].
    pub(super) fn settle(&mut self, number: u32, arrived: bool) -> Option<bool> {
        let record = &mut self.records[number as usize];
        record.copies = record.copies.saturating_sub(1);
        record.arrived |= arrived;
        (record.copies == 0).then_some(record.arrived)
    }

    /// Moves the items of a settled record to `items`, and gives the record back.
    pub(super) fn finish(&mut self, number: u32, items: &mut Vec<Item>) {
        items.append(&mut self.records[number as usize].items);
        self.free.push(number);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
