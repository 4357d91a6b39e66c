//! What a connection knows of each of its channels beside what the transport knows.

use std::collections::BTreeMap;

use towline_channeler::ChannelId;
use towline_mux::{Class, Code, Priority, Reason};

use crate::connection::carrier;
use crate::info::ChannelInfo;

/// Channels that have ended but for the text of the reason; beyond that the text is not waited for.
const MAX_WAITING: usize = 1024;

/// Where the request of a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Ours, unanswered.
    Asked,
    /// Theirs, undecided.
    Offered,
    /// Accepted.
    Open,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: ChannelId,
    pub(super) name: Box<str>,
    pub(super) opened_here: bool,
    pub(super) stage: Stage,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Bytes handed over that the program did not take yet.
    pub(super) taken: usize,
    /// There is more to read than the program may be given now.
    pub(super) held: bool,
    /// All that the peer had to say was read.
    pub(super) finished: bool,
    /// The peer wants no more, and the program was told.
    pub(super) stopped: bool,
    /// The text of a reason that has come before what it is about, or its absence.
    text: Option<Box<str>>,
    /// What is to be told as soon as the text is there.
    pub(super) waiting: Option<Verdict>,
}

/// An end whose text comes on the control channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: End,
    pub(super) code: Code,
}

/// How the peer ended a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Refused,
    Reset,
    Stopped,
}

/// All channels of a connection but that of control.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Boxed, as a map has room for eleven from the first.
    all: BTreeMap<u32, Box<Lane>>,
    /// Requests of the peer that wait for a decision.
    pub(super) undecided: usize,
    /// Requests of ours that wait for one.
    pub(super) asked: usize,
    /// Channels that the peer opened.
    pub(super) theirs: usize,
    waiting: usize,
}

impl Lanes {
    pub(super) fn insert(&mut self, id: ChannelId, name: Box<str>, opened_here: bool) {
        let stage = if opened_here { Stage::Asked } else { Stage::Offered };
        self.asked += usize::from(opened_here);
        self.undecided += usize::from(!opened_here);
        self.theirs += usize::from(!opened_here);
        let lane = Box::new(Lane {
            id,
            name,
            opened_here,
            stage,
            sent: 0,
            received: 0,
            taken: 0,
            held: false,
            finished: false,
            stopped: false,
            text: None,
            waiting: None,
        });
        self.all.insert(number(id), lane);
    }

    pub(super) fn get(&mut self, id: ChannelId) -> Option<&mut Lane> {
        self.all.get_mut(&number(id)).map(|lane| &mut **lane)
    }

    pub(super) fn look(&self, id: ChannelId) -> Option<&Lane> {
        self.all.get(&number(id)).map(|lane| &**lane)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The request was accepted.
    pub(super) fn decide(&mut self, id: ChannelId) {
        let Some(lane) = self.all.get_mut(&number(id)) else { return };
        match std::mem::replace(&mut lane.stage, Stage::Open) {
            Stage::Asked => self.asked -= 1,
            Stage::Offered => self.undecided -= 1,
            Stage::Open => {}
        }
    }

    pub(super) fn remove(&mut self, id: ChannelId) -> Option<Lane> {
        self.decide(id);
        let lane = self.all.remove(&number(id))?;
        self.theirs -= usize::from(!lane.opened_here);
        self.waiting -= usize::from(lane.waiting.is_some());
        Some(*lane)
    }

    /// The peer ended a channel. Returns the reason, if all of it is here.
    pub(super) fn judge(&mut self, id: ChannelId, verdict: Verdict, has_text: bool) -> Option<Reason> {
        let lane = self.all.get_mut(&number(id))?;
        if !has_text {
            return Some(verdict.code.into());
        }
        if let Some(text) = lane.text.take() {
            return Some(Reason::new(verdict.code, &text));
        }
        if lane.waiting.is_some() || self.waiting == MAX_WAITING {
            return Some(verdict.code.into());
        }
        self.waiting += 1;
        lane.waiting = Some(verdict);
        None
    }

    /// The text of a reason came. Returns the channel and what can be told of it now.
    pub(super) fn explain(&mut self, number: u32, text: Box<str>) -> Option<(ChannelId, End, Reason)> {
        let lane = self.all.get_mut(&number)?;
        match lane.waiting.take() {
            Some(verdict) => {
                self.waiting -= 1;
                Some((lane.id, verdict.kind, Reason::new(verdict.code, &text)))
            }
            None => {
                lane.text = Some(text);
                None
            }
        }
    }

    pub(super) fn list(&self) -> Vec<ChannelInfo> {
        let all = self.all.iter().map(|(&id, lane)| ChannelInfo {
            id,
            name: lane.name.as_ref().to_owned(),
            opened_here: lane.opened_here,
            sent: lane.sent,
            received: lane.received,
        });
        all.collect()
    }
}

fn number(id: ChannelId) -> u32 {
    carrier::ChannelId::Bundle(id).number()
}

/// The place of a channel in the order of sending. Weights are those of the mux only: here all of a class take equal turns.
pub(super) fn to_transport(priority: Priority) -> towline_channeler::Priority {
    match priority.class {
        Class::Urgent => towline_channeler::Priority::URGENT,
        Class::Normal => towline_channeler::Priority::NORMAL,
        Class::Background => towline_channeler::Priority::BACKGROUND,
    }
}

/// The reverse.
pub(super) fn from_transport(priority: towline_channeler::Priority) -> Priority {
    let class = if priority >= towline_channeler::Priority::URGENT {
        Class::Urgent
    } else if priority == towline_channeler::Priority::BACKGROUND {
        Class::Background
    } else {
        Class::Normal
    };
    class.into()
}
