//! How a command fails: each kind has an exit code that does not change between versions.

use towline::signal::RefusalReason;
use towline::{Cause, ChannelError, Code, ConnectError};

/// Why a command ended without having done its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something that should not happen, or that the system refused.
    #[error("{0}")]
    Internal(String),
    /// The command was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// There is no connection to the device.
    #[error("{message}")]
    Unreachable {
        /// The step that failed: `dht`, or one that the library names.
        step: String,
        /// What was seen, and what may help.
        message: String,
    },
    /// The other side said no.
    #[error("{0}")]
    Refused(String),
    /// A transfer broke off or what came is damaged.
    #[error("{0}")]
    Transfer(String),
    /// Local files or the identity are not usable.
    #[error("{0}")]
    Local(String),
    /// Ctrl-C, or the program was asked to end.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Refused(_) => 4,
            Self::Transfer(_) => 5,
            Self::Local(_) => 6,
            Self::Interrupted => 130,
        }
    }

    /// The word for machines.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Internal(_) => "internal",
            Self::Usage(_) => "usage",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused(_) => "refused",
            Self::Transfer(_) => "transfer",
            Self::Local(_) => "local",
            Self::Interrupted => "interrupted",
        }
    }

    /// The step of the connection that failed, if it was one.
    pub(crate) fn step(&self) -> Option<&str> {
        match self {
            Self::Unreachable { step, .. } => Some(step),
            _ => None,
        }
    }

    /// What a failure to connect means to the user.
    pub(crate) fn connecting(error: &ConnectError, cause: Option<&Cause>) -> Self {
        match error {
            ConnectError::OwnDevice(_) | ConnectError::BadName { .. } => Self::Usage(error.to_string()),
            ConnectError::NodeClosed | ConnectError::Busy { .. } => Self::Internal(error.to_string()),
            ConnectError::Refused(reason) => {
                let hint = match reason {
                    RefusalReason::NotAllowed => {
                        "\n  It must accept this device: on the other side, see `towline receive --accept-from`."
                    }
                    RefusalReason::Busy => "\n  Try again in a moment.",
                    _ => "",
                };
                Self::Refused(format!("{error}{hint}"))
            }
            ConnectError::Channel(ChannelError::Refused(reason)) if reason.code != Code::TimedOut => {
                Self::Refused(error.to_string())
            }
            _ => {
                let step = error.step().to_string();
                let cause = cause
                    .map(|cause| format!("\n  Cause ({}): {cause}.\n  {}", cause.side(), cause.advice()));
                let cause = cause.unwrap_or_default();
                let message = format!("cannot reach the device, the step \"{step}\" failed: {error}{cause}");
                Self::Unreachable { step, message }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_hint_that_helps() {
        let said = |reason| match Failure::connecting(&ConnectError::Refused(reason), None) {
            Failure::Refused(message) => message,
            other => panic!("{other:?}"),
        };
        assert!(said(RefusalReason::NotAllowed).contains("--accept-from"));
        assert!(said(RefusalReason::Busy).ends_with("Try again in a moment."));
        for reason in [RefusalReason::NoCandidates, RefusalReason::Other(9)] {
            assert_eq!(said(reason), ConnectError::Refused(reason).to_string());
        }
    }
}
