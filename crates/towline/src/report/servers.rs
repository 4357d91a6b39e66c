//! What the servers that a node uses said, as far as it tells causes apart.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use towline_ice::gather::{ServerError as StunError, Via};
use towline_turn::{Failure, Refusal};
use towline_turn_tokio::AllocateError;

use super::{Cause, ServerReport};
use crate::RelayTransport;
use crate::reach::{self, Outcome, ServerError, ServerKind};

/// A server answers in less, or not at all.
const PATIENCE: Duration = Duration::from_millis(1200);
/// The port of the web, which most networks let out.
const WEB: &str = ":443";

/// A server, and what came of asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) relay: bool,
    pub(super) tcp: bool,
    pub(super) said: Said,
    /// The addresses that it relays for us, or did last.
    pub(super) relayed: Vec<SocketAddr>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet, or nobody asked.
    Nothing,
    /// What it is there for.
    Answer,
    /// It has no address.
    Unknown,
    /// No answer, or no connection.
    Silent,
    Credentials,
    Full,
    Refused(u16),
    /// Something that such a server does not say.
    Garbage,
    /// An address that cannot be.
    Lie,
    /// It answered once, and is gone.
    Lost,
}

impl Asked {
    pub(super) fn of(report: &reach::ServerReport, now: Instant) -> Self {
        let (relay, tcp) = match report.kind {
            ServerKind::Stun(via) => (false, via == Via::Tcp),
            ServerKind::Relay(transport) => (true, transport != RelayTransport::Udp),
        };
        let waited = report.asked.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        let said = match &report.outcome {
            Some(Outcome::Answered { .. }) => Said::Answer,
            Some(Outcome::Failed(error)) => Said::of(error),
            None if waited >= PATIENCE => Said::Silent,
            // That it was there some minutes ago explains nothing that happens now.
            Some(Outcome::Present { .. }) | None => Said::Nothing,
        };
        Self { name: report.server.clone(), relay, tcp, said, relayed: report.relayed.clone() }
    }

    /// What is wrong with it.
    pub(super) fn cause(&self) -> Option<Cause> {
        let relay = self.host().to_owned();
        Some(match (self.said, self.relay) {
            (Said::Unknown, _) => Cause::NameUnknown { name: self.host().to_owned() },
            (Said::Lie, false) => Cause::StunLies,
            // That one of several STUN servers is silent matters only if all are.
            (Said::Nothing | Said::Answer, _) | (_, false) => return None,
            (Said::Silent, true) => Cause::RelayDown { relay },
            (Said::Credentials, true) => Cause::RelayCredentials { relay },
            (Said::Full, true) => Cause::RelayFull { relay },
            (Said::Refused(code), true) => Cause::RelayRefuses { relay, code },
            (Said::Garbage | Said::Lie, true) => Cause::RelayBroken { relay },
            (Said::Lost, true) => Cause::RelayLost { relay },
        })
    }

    /// It was reached, whatever it said.
    pub(super) fn is_reached(&self) -> bool {
        match self.said {
            Said::Answer | Said::Credentials | Said::Full | Said::Refused(_) | Said::Lie => true,
            Said::Nothing | Said::Unknown | Said::Silent | Said::Garbage | Said::Lost => false,
        }
    }

    /// It listens where servers of the web do.
    pub(super) fn is_on_web_port(&self) -> bool {
        self.host().ends_with(WEB)
    }

    /// Its address, if it is named by that.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.host().parse().ok()
    }

    /// Without its port.
    pub(super) fn host_alone(&self) -> &str {
        self.host().rsplit_once(':').map_or(self.host(), |(host, _)| host)
    }

    /// Host and port.
    pub(super) fn host(&self) -> &str {
        let without_user = self.name.rsplit_once('@').map_or(self.name.as_str(), |(_, host)| host);
        without_user.split('?').next().unwrap_or(without_user)
    }
}

impl From<&reach::ServerReport> for ServerReport {
    fn from(report: &reach::ServerReport) -> Self {
        let works = match &report.outcome {
            Some(Outcome::Answered { .. }) => Some(true),
            Some(Outcome::Failed(_)) => Some(false),
            Some(Outcome::Present { .. }) | None => None,
        };
        Self { server: report.server.clone(), works, age: report.age, text: report.to_string() }
    }
}

impl Said {
    fn of(error: &ServerError) -> Self {
        match error {
            ServerError::NotFound(_) => Self::Unknown,
            ServerError::Expired => Self::Credentials,
            ServerError::ImpossibleAddress(_) => Self::Lie,
            ServerError::Lost(_) => Self::Lost,
            ServerError::Stun(error) => match error {
                StunError::Silent | StunError::Elsewhere(_) | StunError::NotConnected | StunError::Closed => {
                    Self::Silent
                }
                StunError::Rejected(code) => Self::Refused(*code),
                StunError::NoAddress => Self::Garbage,
                StunError::ImpossibleAddress(_) | StunError::Contradicted(_) => Self::Lie,
            },
            ServerError::Relay(AllocateError::Unreachable(_)) => Self::Silent,
            ServerError::Relay(AllocateError::Failed(failure)) => Self::of_failure(*failure),
            ServerError::Relay(_) => Self::Garbage,
        }
    }

    fn of_failure(failure: Failure) -> Self {
        match failure {
            Failure::NoAnswer | Failure::StreamEnded => Self::Silent,
            Failure::Forged | Failure::CredentialsRequired | Failure::WrongCredentials => Self::Credentials,
            Failure::Unproven(refusal) | Failure::Refused(refusal) => match refusal {
                Refusal::Unauthenticated | Refusal::WrongCredentials => Self::Credentials,
                Refusal::QuotaReached | Refusal::InsufficientCapacity => Self::Full,
                other => Self::Refused(other.code()),
            },
            _ => Self::Garbage,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    fn relay(outcome: Option<Outcome>) -> reach::ServerReport {
        reach::ServerReport {
            server: "turn:ann@relay.example:443?transport=tcp".into(),
            kind: ServerKind::Relay(RelayTransport::Tcp),
            asked: Some(towline_net::now()),
            outcome,
            age: None,
            relayed: vec![([192, 0, 2, 1], 9).into()],
        }
    }

    #[track_caller]
    fn cause(error: ServerError) -> Option<Cause> {
        Asked::of(&relay(Some(Outcome::Failed(error))), towline_net::now()).cause()
    }

    #[test]
    fn what_a_relay_says_is_named() {
        let name = || "relay.example:443".to_owned();
        let refused =
            |code| ServerError::Relay(AllocateError::Failed(Failure::Refused(Refusal::from_code(code))));
        let failed = |failure| ServerError::Relay(AllocateError::Failed(failure));
        for (error, expected) in [
            (
                ServerError::NotFound(ErrorKind::NotFound),
                Cause::NameUnknown { name: "relay.example:443".into() },
            ),
            (ServerError::Expired, Cause::RelayCredentials { relay: name() }),
            (failed(Failure::WrongCredentials), Cause::RelayCredentials { relay: name() }),
            (refused(401), Cause::RelayCredentials { relay: name() }),
            (refused(486), Cause::RelayFull { relay: name() }),
            (refused(508), Cause::RelayFull { relay: name() }),
            (refused(403), Cause::RelayRefuses { relay: name(), code: 403 }),
            (failed(Failure::NoAnswer), Cause::RelayDown { relay: name() }),
            (
                ServerError::Relay(AllocateError::Unreachable(ErrorKind::ConnectionRefused)),
                Cause::RelayDown { relay: name() },
            ),
            (failed(Failure::StaleNonces), Cause::RelayBroken { relay: name() }),
            (ServerError::ImpossibleAddress(([10, 0, 0, 1], 9).into()), Cause::RelayBroken { relay: name() }),
            (ServerError::Lost(Failure::StreamEnded), Cause::RelayLost { relay: name() }),
        ] {
            assert_eq!(cause(error), Some(expected));
        }
        let gone = Asked::of(&relay(Some(Outcome::Failed(failed(Failure::NoAnswer)))), towline_net::now());
        assert_eq!(gone.relayed.len(), 1, "a path on what it gave is its own, also when it is gone");
    }

    #[test]
    fn a_server_gets_time_to_answer() {
        let (asked, now) = (relay(None), towline_net::now());
        assert_eq!(Asked::of(&asked, now).said, Said::Nothing);
        let late = Asked::of(&asked, now + PATIENCE);
        assert!(late.said == Said::Silent && !late.is_reached() && late.is_on_web_port());
        assert_eq!(
            Asked::of(&reach::ServerReport { asked: None, ..asked }, now + PATIENCE).said,
            Said::Nothing
        );
    }
}
