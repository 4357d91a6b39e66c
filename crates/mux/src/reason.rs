//! Why something ended.

use std::fmt::{self, Write as _};

/// Longest text of a reason, in bytes; longer ones are cut at a character boundary.
pub const MAX_REASON_TEXT: usize = 256;

/// Why a request was refused, a channel reset or stopped, or a connection left: a code for programs and a text
/// for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// For programs.
    pub code: Code,
    /// For people; at most [`MAX_REASON_TEXT`] bytes, may be empty. Free text of the peer: `Display` escapes what is
    /// not printable.
    pub text: Box<str>,
}

impl Reason {
    /// A reason; `text` is cut to [`MAX_REASON_TEXT`].
    pub fn new(code: Code, text: &str) -> Self {
        let mut end = text.len().min(MAX_REASON_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, text: text[..end].into() }
    }
}

impl From<Code> for Reason {
    fn from(code: Code) -> Self {
        Self { code, text: "".into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            write!(f, "{}", self.code)
        } else {
            // The text is the peer's and ends up in logs and on terminals.
            write!(f, "{}: ", self.code)?;
            self.text.chars().try_for_each(|character| match character {
                '\'' | '"' => f.write_char(character),
                other => write!(f, "{}", other.escape_debug()),
            })
        }
    }
}

/// A reason as a number; on the wire of the native dialect a msgpack uint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// 0: not said. All a Jami peer can say.
    Unspecified,
    /// 1: the application declined the request.
    Declined,
    /// 2: the channel limit is reached.
    TooManyChannels,
    /// 3: too many requests wait for an answer.
    TooManyPending,
    /// 4: the name is empty, too long or not text.
    BadName,
    /// 5: the connection takes no new channels any more.
    GoingAway,
    /// 6: the channel is no longer wanted.
    Cancelled,
    /// 7: the peer broke a rule.
    Protocol,
    /// 8: a failure inside the program.
    Internal,
    /// 9: nobody answered in time.
    TimedOut,
    /// 256 and above: what the application says; the value is the whole number.
    Application(u32),
    /// 10–255: a code of a later version.
    Other(u8),
}

impl From<Code> for u32 {
    fn from(code: Code) -> u32 {
        match code {
            Code::Unspecified => 0,
            Code::Declined => 1,
            Code::TooManyChannels => 2,
            Code::TooManyPending => 3,
            Code::BadName => 4,
            Code::GoingAway => 5,
            Code::Cancelled => 6,
            Code::Protocol => 7,
            Code::Internal => 8,
            Code::TimedOut => 9,
            Code::Application(value) => value,
            Code::Other(value) => value.into(),
        }
    }
}

impl From<u32> for Code {
    fn from(value: u32) -> Self {
        match value {
            0 => Self::Unspecified,
            1 => Self::Declined,
            2 => Self::TooManyChannels,
            3 => Self::TooManyPending,
            4 => Self::BadName,
            5 => Self::GoingAway,
            6 => Self::Cancelled,
            7 => Self::Protocol,
            8 => Self::Internal,
            9 => Self::TimedOut,
            10..=255 => Self::Other(value as u8),
            256.. => Self::Application(value),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unspecified => f.write_str("no reason given"),
            Self::Declined => f.write_str("declined"),
            Self::TooManyChannels => f.write_str("too many channels"),
            Self::TooManyPending => f.write_str("too many unanswered requests"),
            Self::BadName => f.write_str("bad name"),
            Self::GoingAway => f.write_str("going away"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Protocol => f.write_str("rule broken"),
            Self::Internal => f.write_str("internal failure"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Application(value) => write!(f, "application code {value}"),
            Self::Other(value) => write!(f, "code {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for value in (0..600).chain([u32::MAX]) {
            assert_eq!(u32::from(Code::from(value)), value);
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let reason = Reason::new(Code::Declined, &"é".repeat(200));
        assert_eq!(reason.text.len(), 256);
        let reason = Reason::new(Code::Declined, &format!("a{}", "é".repeat(200)));
        assert_eq!(reason.text.len(), 255);
    }

    #[test]
    fn nothing_unprintable_is_displayed() {
        let reason = Reason::new(Code::GoingAway, "it's \u{e9}t\u{e9}\u{1b}[2J\nERROR \u{202e}all lost");
        assert_eq!(reason.to_string(), "going away: it's \u{e9}t\u{e9}\\u{1b}[2J\\nERROR \\u{202e}all lost");
    }
}
