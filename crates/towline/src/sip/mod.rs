//! Texts, and all else that Jami sends as SIP on channels called `sip` (`files-and-calls.md` 3.2, 6.3).
//!
//! [`Texts`] serves that name: it takes and sends messages of any media type, and refuses calls. Between two devices one
//! channel carries everything in both directions; whoever has something to say first opens it.

mod directory;
mod letters;
mod options;
mod receiver;
mod result;
mod session;
mod table;
mod texts;
mod treated;

pub use options::TextOptions;
pub use receiver::Text;
pub use result::{Delivery, DeviceError, TextError};
pub use texts::Texts;

/// The name of the channels.
pub const CHANNEL: &str = "sip";

/// Media types that Jami's programs know (`files-and-calls.md` 3.2).
pub mod media {
    /// A text.
    pub const TEXT: &str = "text/plain";
    /// A conversation has a new commit: JSON with `id`, `commit`, `deviceId`.
    pub const COMMIT: &str = "application/im-gitmessage-id";
    /// An invitation to a conversation: JSON.
    pub const INVITATION: &str = "application/invite+json";
    /// Somebody asks for an invitation again: the id of a conversation.
    pub const INVITATION_WANTED: &str = "application/invite";
    /// Somebody is typing, or not any more: XML.
    pub const COMPOSING: &str = "application/im-iscomposing+xml";
    /// A text was displayed: XML.
    pub const DISPLAYED: &str = "message/imdn+xml";
    /// A note about presence: XML.
    pub const PRESENCE: &str = "application/pidf+xml";
}
