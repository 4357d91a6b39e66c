//! The side that is asked: channels of others to the services it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use tokio::task::{Id, JoinSet};
use towline::{Code, DeviceId, IncomingChannel};

use super::forward::forward;
use super::service::{Service, ServiceError};
use super::settings::Settings;
use crate::admission::Admission;
use crate::event::Event;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::{Role, Session};

/// Channels at the same time; more are refused. Each holds two sockets' worth of buffers and a file descriptor.
const AT_ONCE: usize = 768;
/// Channels of one device at the same time.
const PER_DEVICE: usize = 256;

pub(super) async fn run(settings: Settings, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let services =
        if settings.any_service { None } else { Some(BTreeSet::from_iter(settings.services.clone())) };
    if services.as_ref().is_some_and(BTreeSet::is_empty) {
        return Err(Failure::Usage(
            "no service is named, so nothing would be forwarded (dnc would forward to everything that this computer \
             can reach): name services with --service HOST:PORT or as `authorized_services` in the file named with \
             -d, or say --any-service"
                .to_owned(),
        ));
    }
    let admission = Admission::without_questions(&settings.admission);
    let anyone = matches!(admission, Admission::Anyone);
    let known = settings.known()?;
    let mut config = settings.network.config(admission.policy(&settings.identity, known.as_ref()));
    config.revocations = known.as_ref().map(|known| known.revocations()).unwrap_or_default();
    config.treated_path = settings.treated_path();
    let session = Session::start(settings.identity, config, Role::Reachable, output).await?;
    let session = session.knowing(known, Role::Reachable, output);
    output.say(&Event::Forwarding {
        services: services.as_ref().map(|services| services.iter().map(Service::to_string).collect()),
        anyone,
    });
    session
        .run(&interrupt, async |session| {
            let forwarded: Result<Infallible, Failure> = serve(session, services, output).await;
            forwarded.map(|never| match never {})
        })
        .await
}

/// Forwards channels until the node is gone.
async fn serve(
    session: &Session,
    services: Option<BTreeSet<Service>>,
    output: &Output,
) -> Result<Infallible, Failure> {
    let node = session.node();
    let mut tasks = JoinSet::new();
    let mut open = Open(BTreeMap::new());
    loop {
        let incoming = tokio::select! {
            biased;
            Some(ended) = tasks.join_next_with_id() => {
                let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
                open.0.remove(&id);
                if let Err(error) = ended {
                    tracing::error!(%error, "forwarding a channel broke off");
                }
                continue;
            }
            incoming = node.incoming() => incoming,
        };
        let incoming = incoming.ok_or_else(|| Failure::Internal("the node has ended".to_owned()))?;
        let device = incoming.peer().device;
        match open.objection(device).map_or_else(|| wanted(services.as_ref(), incoming.name()), Err) {
            Ok(service) => {
                let task = tasks.spawn(forward(node.clone(), incoming, service, output.clone()));
                open.0.insert(task.id(), device);
            }
            Err((code, why)) => refuse(incoming, code, &why, output).await,
        }
    }
}

/// Which channels are open, and whose.
struct Open(BTreeMap<Id, DeviceId>);

impl Open {
    fn objection(&self, device: DeviceId) -> Option<(Code, String)> {
        let full = if self.0.len() >= AT_ONCE {
            "too many channels at the same time"
        } else if self.0.values().filter(|other| **other == device).count() >= PER_DEVICE {
            "too many channels of this device at the same time"
        } else {
            return None;
        };
        Some((Code::TooManyChannels, full.to_owned()))
    }
}

/// The service that a channel is for, if it may be reached.
fn wanted(services: Option<&BTreeSet<Service>>, name: &str) -> Result<Service, (Code, String)> {
    let service = Service::of_channel(name).map_err(|error| match error {
        ServiceError::Scheme => (Code::Declined, "only channels to services are accepted here".to_owned()),
        error => (Code::BadName, error.to_string()),
    })?;
    match services {
        Some(services) if !services.contains(&service) => {
            Err((Code::Declined, format!("{service} is not an authorised service")))
        }
        _ => Ok(service),
    }
}

/// Refuses a channel, and says so here too.
pub(super) async fn refuse(incoming: IncomingChannel, code: Code, why: &str, output: &Output) {
    output.say(&Event::ChannelRefused {
        name: incoming.name().to_owned(),
        device: incoming.peer().device.to_string(),
        reason: why.to_owned(),
    });
    incoming.refuse(code, why).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed() {
        let listed =
            Some(BTreeSet::from(["127.0.0.1:22", "db.example.org:5432"].map(|text| text.parse().unwrap())));
        for name in ["nc://127.0.0.1:22", "nc://[::ffff:127.0.0.1]:22", "nc://DB.example.org:5432"] {
            assert!(wanted(listed.as_ref(), name).is_ok(), "{name}");
        }
        for (name, code) in [
            ("nc://127.0.0.1:23", Code::Declined),
            ("nc://localhost:22", Code::Declined),
            ("nc://127.1:22", Code::Declined),
            ("nc://[::1]:22", Code::Declined),
            ("sip", Code::Declined),
            ("nc://127.0.0.1:22 ", Code::BadName),
        ] {
            assert_eq!(wanted(listed.as_ref(), name).unwrap_err().0, code, "{name}");
        }
        assert!(wanted(Some(&BTreeSet::new()), "nc://127.0.0.1:22").is_err());
        assert!(wanted(None, "nc://10.0.0.1:9").is_ok());
        assert!(wanted(None, "sip").is_err());
    }
}
