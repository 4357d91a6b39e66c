//! Two ends of a channel with packets between them that the test delivers, drops, repeats and overtakes.

mod hostile;
mod memory;
mod model;
mod stories;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Carried, Channel, Context, Effects, Part, PeerLimits, Pool, Room, Said, Wants};
use crate::{
    Capabilities, ChannelId, Code, Config, Read, ReadError, Reason, Resend, Side, Violation, WriteError,
    wire::message::{Message, Messages},
};

/// The two ends.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// What one end sent and has heard nothing of.
#[derive(Clone, Debug)]
struct Sent {
    from: usize,
    bytes: Vec<u8>,
    carried: Option<Carried>,
    said: Vec<Said>,
    /// It was taken for lost.
    lost: bool,
}

/// Everything that one end told its program.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) readable: u32,
    pub(super) writable: u32,
    pub(super) finished: u32,
    pub(super) ended: Vec<Reason>,
    pub(super) lost_sent: u64,
    pub(super) lost_received: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) consumed: u64,
}

pub(super) struct Pair {
    pub(super) ends: [Channel; 2],
    pub(super) pools: [Pool; 2],
    pub(super) heard: [Heard; 2],
    pub(super) config: Config,
    pub(super) now: Instant,
    pub(super) rtt: Duration,
    pub(super) room: usize,
    sent: BTreeMap<u64, Sent>,
    next: u64,
}

pub(super) fn capabilities(ordered: bool, resend: Resend, close_on_loss: bool) -> Capabilities {
    Capabilities { ordered, resend, close_on_loss }
}

pub(super) fn limits(config: &Config) -> PeerLimits {
    PeerLimits {
        window: config.initial_window,
        messages: config.max_messages,
        max_message: config.max_message as u64,
    }
}

impl Pair {
    pub(super) fn new(capabilities: Capabilities, config: Config) -> Self {
        let id = ChannelId::new(Side::Initiator, 3);
        let end = || Channel::new(id, capabilities, &config, limits(&config));
        Self {
            ends: [end(), end()],
            pools: Default::default(),
            heard: Default::default(),
            now: Instant::now(),
            rtt: Duration::from_millis(20),
            room: 1200,
            sent: BTreeMap::new(),
            next: 0,
            config,
        }
    }

    /// One operation of one end.
    pub(super) fn act<T>(
        &mut self,
        end: usize,
        act: impl FnOnce(&mut Channel, &mut Context<'_>, &mut Effects) -> T,
    ) -> T {
        let mut fx = Effects::default();
        let pool = &mut self.pools[end];
        let mut cx = Context { now: self.now, rtt: self.rtt, config: &self.config, pool };
        let result = act(&mut self.ends[end], &mut cx, &mut fx);
        self.pools[end].watch(self.now);
        let heard = &mut self.heard[end];
        heard.readable += u32::from(fx.readable);
        heard.writable += u32::from(fx.writable);
        heard.finished += u32::from(fx.finished);
        heard.ended.extend(fx.ended);
        heard.lost_sent += fx.lost_sent;
        heard.lost_received += fx.lost_received;
        heard.sent += fx.sent;
        heard.received += fx.received;
        heard.consumed += fx.consumed;
        result
    }

    pub(super) fn write(&mut self, end: usize, bytes: &[u8]) -> Result<usize, WriteError> {
        self.act(end, |channel, cx, _| channel.write(cx, u64::MAX, usize::MAX, bytes))
    }

    pub(super) fn finish(&mut self, end: usize) {
        self.ends[end].finish();
    }

    pub(super) fn read(&mut self, end: usize) -> Result<Vec<u8>, Option<ReadError>> {
        let mut out = vec![0; self.ends[end].readable().unwrap_or(0).min(1 << 16)];
        match self.act(end, |channel, cx, fx| channel.read(cx, &mut out, fx)) {
            Ok(Read::Data(len)) => {
                out.truncate(len);
                Ok(out)
            }
            Ok(Read::Finished) => Err(None),
            Err(error) => Err(Some(error)),
        }
    }

    /// All that can be read now.
    pub(super) fn read_all(&mut self, end: usize) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.read(end).ok()).collect()
    }

    /// Sends one packet, which is then on its way.
    pub(super) fn send(&mut self, from: usize) -> Option<u64> {
        let (mut bytes, mut said, room) = (Vec::new(), Vec::new(), self.room);
        loop {
            let left = room - bytes.len();
            let Some(one) = self.ends[from].write_control(&mut bytes, left) else { break };
            said.push(one);
        }
        let mut carried = None;
        if self.ends[from].wants() != Wants::Nothing {
            let left = room - bytes.len();
            carried = self.act(from, |channel, cx, fx| {
                let room = Room { bytes: left, credit: u64::MAX >> 2, may_leave: false };
                channel.fill(cx, &mut bytes, room, fx)
            });
        }
        assert!(bytes.len() <= room, "{} bytes in a packet of {room}", bytes.len());
        assert_eq!(bytes.is_empty(), carried.is_none() && said.is_empty());
        if bytes.is_empty() {
            return None;
        }
        self.next += 1;
        self.sent.insert(self.next, Sent { from, bytes, carried, said, lost: false });
        Some(self.next)
    }

    /// Sends one packet on two links: its data twice, the rest once.
    pub(super) fn send_twice(&mut self, from: usize) -> Option<[u64; 2]> {
        let first = self.send(from)?;
        let sent = self.sent.get_mut(&first)?;
        if let Some(carried) = &mut sent.carried {
            carried.mirrored = true;
        }
        let twin = Sent { said: Vec::new(), ..sent.clone() };
        self.next += 1;
        self.sent.insert(self.next, twin);
        Some([first, self.next])
    }

    /// Sends all that can be sent.
    pub(super) fn send_all(&mut self, from: usize) -> Vec<u64> {
        std::iter::from_fn(|| self.send(from)).collect()
    }

    /// A packet arrives, maybe once more. Nothing is acknowledged yet.
    pub(super) fn arrive(&mut self, packet: u64) {
        if let Some(sent) = self.sent.get(&packet).cloned() {
            self.feed(1 - sent.from, &sent.bytes).expect("an honest peer breaks no rule");
        }
    }

    /// The messages of a packet reach an end.
    pub(super) fn feed(&mut self, to: usize, bytes: &[u8]) -> Result<(), Violation> {
        for message in Messages(bytes) {
            let message = message.expect("what is written can be read");
            self.act(to, |channel, cx, fx| match message {
                Message::Data { offset, fin, bytes } => channel.on_data(cx, offset, fin, bytes, None, fx),
                Message::Part { number, end, offset, bytes } => {
                    channel.on_part(cx, Part { number, end, offset, bytes }, fx)
                }
                Message::Fin { final_offset, messages } => {
                    channel.on_message_fin(cx, final_offset, messages, fx)
                }
                Message::Abandon(abandon) => {
                    abandon.ranges().try_for_each(|range| channel.on_abandon(cx, range, fx))
                }
                Message::Window { max_offset, max_messages, .. } => {
                    channel.on_window(max_offset, max_messages, fx);
                    Ok(())
                }
                Message::Reset { code, final_offset, .. } => channel.on_reset(cx, code, final_offset, fx),
                Message::Stop { code, .. } => {
                    channel.on_stop(cx, code, fx);
                    Ok(())
                }
                Message::Finish { final_offset, messages, .. } => {
                    channel.on_finish(cx, final_offset, messages, fx)
                }
                Message::Accept { .. } => Ok(()),
                other => panic!("a channel does not say {other:?}"),
            })?;
        }
        Ok(())
    }

    /// The sender hears that a packet arrived.
    pub(super) fn ack(&mut self, packet: u64) {
        if let Some(sent) = self.sent.remove(&packet) {
            self.act(sent.from, |channel, cx, fx| {
                if let Some(carried) = &sent.carried {
                    channel.on_acked(cx, carried, fx);
                }
                sent.said.iter().for_each(|said| channel.on_control_acked(cx, said, fx));
            });
        }
    }

    /// The sender takes a packet for lost. It may arrive all the same.
    pub(super) fn lose(&mut self, packet: u64) {
        if let Some(sent) = self.sent.get_mut(&packet).filter(|sent| !sent.lost) {
            sent.lost = true;
            let sent = sent.clone();
            self.act(sent.from, |channel, cx, fx| {
                if let Some(carried) = &sent.carried {
                    channel.on_lost(cx, carried, fx);
                }
                sent.said.iter().for_each(|said| channel.on_control_lost(said));
            });
        }
    }

    /// What a packet carried goes out on another link, too.
    pub(super) fn repeat(&mut self, packet: u64) {
        if let Some(sent) = self.sent.get(&packet)
            && let Some(carried) = sent.carried
        {
            self.ends[sent.from].repeat(&carried);
        }
    }

    /// A packet is no more.
    pub(super) fn forget(&mut self, packet: u64) {
        self.sent.remove(&packet);
    }

    pub(super) fn drop(&mut self, packet: u64) {
        self.lose(packet);
        self.forget(packet);
    }

    pub(super) fn deliver(&mut self, packet: u64) {
        self.arrive(packet);
        self.ack(packet);
    }

    /// Packets on their way.
    pub(super) fn in_flight(&self) -> Vec<u64> {
        self.sent.keys().copied().collect()
    }

    /// Time passes.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let channels = self.ends.iter().filter_map(Channel::poll_timeout)
            && let Some(next) = channels.chain(self.pools.iter().filter_map(Pool::poll_timeout)).min()
            && next <= end
        {
            self.now = self.now.max(next);
            for end in [A, B] {
                self.act(end, Channel::handle_timeout);
                self.pools[end].handle_timeout(next);
            }
        }
        self.now = end;
    }

    /// What a channel and the memory of its connection take.
    pub(super) fn memory(&self, end: usize) -> usize {
        self.ends[end].memory() + self.pools[end].spare()
    }

    /// Sends and delivers without loss until nothing is left to say.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.send_all(A);
            self.send_all(B);
            let packets = self.in_flight();
            if packets.is_empty() {
                return;
            }
            for packet in packets {
                self.deliver(packet);
            }
        }
        panic!("it never settles");
    }
}

/// Recognisable bytes.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (seed.wrapping_mul(0x9E37_79B9) ^ at.wrapping_mul(31) ^ (at >> 8)) as u8)
        .collect()
}

pub(super) fn every_kind() -> Vec<Capabilities> {
    let mut all = Vec::new();
    let resends = [Resend::No, Resend::Tries(2), Resend::Until(Duration::from_millis(200)), Resend::Forever];
    for resend in resends {
        for (ordered, close) in [(false, false), (false, true), (true, false), (true, true)] {
            all.push(capabilities(ordered, resend, close));
        }
    }
    all
}

pub(super) fn code(number: u64) -> Code {
    Code(256 + number)
}
