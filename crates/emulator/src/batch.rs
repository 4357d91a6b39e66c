//! Packets that are carried together: the system gives and takes many of one connection at once.

use std::{io, mem};

use tun_rs::{GROTable, IDEAL_BATCH_SIZE, SyncDevice, VIRTIO_NET_HDR_LEN};

/// Longest packet of a TUN device.
const LONGEST: usize = 65_535;
/// Packets that the device may give at once: 64 KiB in segments of 256 bytes.
const PACKETS: usize = 2 * IDEAL_BATCH_SIZE;

/// A packet behind room for the header of the device, with room for those of its connection that are joined to it.
pub(crate) type Slot = Vec<u8>;

fn slots() -> Vec<Slot> {
    (0..PACKETS).map(|_| Vec::with_capacity(VIRTIO_NET_HDR_LEN + LONGEST)).collect()
}

/// What a device gives.
pub(crate) struct Incoming {
    /// What came from the device, before it is cut into packets.
    raw: Vec<u8>,
    slots: Vec<Slot>,
    sizes: Vec<usize>,
    room: usize,
}

impl Incoming {
    pub(crate) fn new(mtu: u16) -> Self {
        Self {
            raw: vec![0; VIRTIO_NET_HDR_LEN + LONGEST],
            slots: slots(),
            sizes: vec![0; PACKETS],
            room: VIRTIO_NET_HDR_LEN + usize::from(mtu),
        }
    }

    /// Takes what the device has, and cuts it into packets.
    pub(crate) fn receive(&mut self, from: &SyncDevice) -> io::Result<impl Iterator<Item = &mut Slot>> {
        for slot in &mut self.slots {
            slot.resize(self.room, 0);
        }
        let count =
            from.recv_multiple(&mut self.raw, &mut self.slots, &mut self.sizes, VIRTIO_NET_HDR_LEN)?;
        let slots = self.slots.iter_mut().zip(&self.sizes).take(count);
        Ok(slots.map(|(slot, size)| {
            slot.truncate(VIRTIO_NET_HDR_LEN + size);
            slot
        }))
    }
}

/// What a device is given.
pub(crate) struct Outgoing {
    slots: Vec<Slot>,
    count: usize,
    /// Those that somebody sent, and no answers of the router.
    carried: u64,
    joined: GROTable,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self { slots: slots(), count: 0, carried: 0, joined: GROTable::default() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == self.slots.len()
    }

    /// Takes a packet over, and leaves an empty slot. There is room.
    pub(crate) fn take(&mut self, slot: &mut Slot) {
        mem::swap(&mut self.slots[self.count], slot);
        self.count += 1;
        self.carried += 1;
    }

    /// Copies a packet. There is room.
    pub(crate) fn copy(&mut self, packet: &[u8], carried: bool) {
        let slot = &mut self.slots[self.count];
        slot.clear();
        slot.resize(VIRTIO_NET_HDR_LEN, 0);
        slot.extend_from_slice(packet);
        self.count += 1;
        self.carried += u64::from(carried);
    }

    /// Gives everything to the device. Returns how many packets of others went on, and how many did not.
    pub(crate) fn send(&mut self, to: &SyncDevice) -> (u64, u64) {
        if self.count == 0 {
            return (0, 0);
        }
        let sent = to.send_multiple(&mut self.joined, &mut self.slots[..self.count], VIRTIO_NET_HDR_LEN);
        self.count = 0;
        let carried = mem::take(&mut self.carried);
        if sent.is_ok() { (carried, 0) } else { (0, carried) }
    }
}
