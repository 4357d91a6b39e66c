//! Alerts: said and heard (RFC 8446 6).

use crate::TlsError;

/// What we have to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alert {
    CloseNotify = 0,
    UnexpectedMessage = 10,
    BadRecordMac = 20,
    RecordOverflow = 22,
    IllegalParameter = 47,
    DecodeError = 50,
    InternalError = 80,
}

impl Alert {
    /// The content of its record: level and description.
    pub(super) fn content(self) -> [u8; 2] {
        let level = if self == Self::CloseNotify { 1 } else { 2 };
        [level, self as u8]
    }
}

/// The end of a session: what to tell the program, and what the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) error: TlsError,
    /// None if the peer has given up itself.
    pub(crate) alert: Option<Alert>,
}

impl Fault {
    pub(super) fn new(error: TlsError, alert: Alert) -> Self {
        Self { error, alert: Some(alert) }
    }

    /// The peer broke the rules.
    pub(crate) fn misbehaved(alert: Alert) -> Self {
        Self::new(TlsError::Misbehaved, alert)
    }
}

impl From<TlsError> for Fault {
    fn from(error: TlsError) -> Self {
        Self::new(error, Alert::InternalError)
    }
}

/// An alert that does not end the session in failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// Nothing follows.
    Farewell,
    /// user_canceled: a farewell follows, and counts.
    Canceled,
}

/// Understands an alert. One is the whole of its record, and its level says nothing (RFC 8446 5.1, 6).
pub(super) fn read(content: &[u8]) -> Result<Notice, Fault> {
    match *content {
        [] => Err(Fault::misbehaved(Alert::UnexpectedMessage)),
        [_, 0] => Ok(Notice::Farewell),
        [_, 90] => Ok(Notice::Canceled),
        [_, description] => {
            Err(Fault { error: rustls::Error::AlertReceived(description.into()).into(), alert: None })
        }
        _ => Err(Fault::misbehaved(Alert::DecodeError)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_read() {
        assert_eq!(read(&[1, 0]), Ok(Notice::Farewell));
        assert_eq!(read(&[2, 0]), Ok(Notice::Farewell), "the level says nothing");
        assert_eq!(read(&[1, 90]), Ok(Notice::Canceled));
        for level in 0..4 {
            assert_eq!(read(&[level, 42]), Err(Fault { error: TlsError::PeerAlert(42), alert: None }));
        }
        assert_eq!(read(&[]), Err(Fault::misbehaved(Alert::UnexpectedMessage)));
        for content in [&[1][..], &[1, 0, 1], &[1, 0, 1, 0]] {
            assert_eq!(read(content), Err(Fault::misbehaved(Alert::DecodeError)));
        }
    }

    #[test]
    fn alerts_are_said() {
        assert_eq!(Alert::CloseNotify.content(), [1, 0]);
        assert_eq!(Alert::BadRecordMac.content(), [2, 20]);
    }
}
