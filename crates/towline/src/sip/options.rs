//! What [`Texts`](super::Texts) keep to.

use std::time::Duration;

use towline_sip::{Limits, Timers};

use crate::router::Admit;

/// Bounds and choices. `Default` suits a program with a few dozen contacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// Who may open the channel.
    pub admit: Admit,
    /// Name that goes with our account.
    pub display: Option<String>,
    /// Texts that wait in [`Texts::next`](super::Texts::next); the sender of one more is answered 503 and may try
    /// again.
    pub queue: usize,
    /// Open channels, with all devices; further ones of others are refused.
    pub channels: usize,
    /// Open channels with one device, for it may open one while we do; further ones are refused.
    pub channels_per_device: usize,
    /// Most devices that one text is sent to.
    pub devices: usize,
    /// How long the devices of an account are remembered. One that cannot be reached is forgotten at once.
    pub devices_remembered: Duration,
    /// Texts of one device that wait for room on its channel.
    pub waiting_per_device: usize,
    /// Ids of received texts that are remembered, so that one that comes twice is told once; as many of texts that lay in
    /// the inbox are acknowledged once. Whoever has sent most is forgotten first.
    pub treated: usize,
    /// Wait for a device to be found, connected to, and to answer.
    pub patience: Duration,
    /// Wait for the other devices of an account when one has the text.
    pub patience_for_others: Duration,
    /// Bounds of the protocol. `message_out` bounds a text with its headers.
    pub sip: Limits,
    /// Timers of the protocol.
    pub timers: Timers,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            admit: Admit::CONTACTS,
            display: None,
            queue: 256,
            channels: 256,
            channels_per_device: 4,
            devices: 16,
            devices_remembered: Duration::from_mins(2),
            waiting_per_device: 64,
            treated: 1024,
            patience: Duration::from_mins(1),
            patience_for_others: Duration::from_secs(5),
            sip: Limits::default(),
            timers: Timers::default(),
        }
    }
}
