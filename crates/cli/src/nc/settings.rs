//! The command line and the file together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use towline::identity::Identity;

use super::file::File;
use super::service::{Host, Service};
use crate::args::{Admission as AdmissionArgs, Nc, Network};
use crate::event::Event;
use crate::failure::Failure;
use crate::home::Home;
use crate::ids::Remote;
use crate::key_files;
use crate::known::Known;
use crate::output::Output;

/// Everything that was said.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) listen: bool,
    pub(super) remote: Option<Remote>,
    pub(super) identity: Identity,
    /// Where the file `trust` may lie.
    pub(super) home: Option<Home>,
    pub(super) network: Network,
    pub(super) timeout: Duration,
    pub(super) linger: Duration,
    ip: Option<String>,
    port: Option<String>,
    pub(super) services: Vec<Service>,
    pub(super) any_service: bool,
    pub(super) admission: AdmissionArgs,
}

impl Settings {
    /// Puts them together and says what of them has no effect. The output may be a more talkative one.
    pub(super) fn gather(args: Nc, output: &Output) -> Result<(Self, Output), Failure> {
        let file = args.configuration.as_deref().map(File::read).transpose()?.unwrap_or_default();
        let output = if file.verbose { output.more() } else { output.clone() };
        if let Some(keys) = file.unknown_keys() {
            output.say(&Event::Warning {
                message: format!("the configuration has keys that mean nothing here: {keys}"),
            });
        }
        let mut unused: Vec<_> = args.relay.given().collect();
        unused.extend(file.unused.iter().filter(|key| !args.relay.given().any(|given| given == **key)));
        if !unused.is_empty() {
            let message = format!("not used: {}; relays are named with --relay", unused.join(", "));
            output.say(&Event::Warning { message });
        }
        let identity = args.identity;
        let files = identity.certificate.zip(identity.private_key);
        let files = match files.or(file.certificate.clone().zip(file.private_key.clone())) {
            None if file.certificate.is_some() || file.private_key.is_some() => {
                return Err(Failure::Local(
                    "the configuration has one of `certificate` and `privateKey` without the other"
                        .to_owned(),
                ));
            }
            files => files,
        };
        let (identity, home) = match files {
            None => {
                let home = Home::find(&identity.home)?;
                (home.identity()?, Some(home))
            }
            Some((certificate, key)) => {
                let loaded = key_files::load_device(&certificate, &key, identity.password_file.as_deref())?;
                // An identity in files has nothing to do with the home directory, unless one is named.
                (loaded, identity.home.home.map(Home::at))
            }
        };
        let network = args
            .network
            .or_through(file.bootstrap)
            .map_err(|error| Failure::Local(format!("the configuration: bootstrap: {error}")))?;
        let mut services = args.services.listed;
        services.extend(file.services);
        let settings = Self {
            listen: args.listen,
            remote: args.peer,
            identity,
            home,
            network,
            timeout: args.dial.timeout,
            linger: args.linger,
            ip: args.ip.map(|host| host.to_string()).or(file.ip),
            port: args.port.map(|port| port.to_string()).or(file.port),
            services,
            any_service: args.services.any_service,
            admission: AdmissionArgs {
                // Whom the command line names is asked for more precisely than the file can.
                accept_anyone: args.services.anonymous
                    || file.anonymous && args.services.accept_from.is_empty(),
                accept_from: args.services.accept_from,
            },
        };
        Ok((settings, output))
    }

    /// What the home directory says of others.
    pub(super) fn known(&self) -> Result<Option<Arc<Known>>, Failure> {
        self.home.as_ref().map(|home| Known::load(home, &self.identity)).transpose()
    }

    /// Where a listener remembers which requests it has answered, so that those of clients that are gone do not keep it
    /// busy when it is started again.
    pub(super) fn treated_path(&self) -> Option<PathBuf> {
        match &self.home {
            Some(home) => Some(home.treated()),
            None => {
                let directory = directories::ProjectDirs::from("", "", "towline")?.cache_dir().to_owned();
                // Without it the listener works as well; it is not worth a word.
                std::fs::create_dir_all(&directory).ok()?;
                Some(directory.join(format!("{}.treated", self.identity.device_id())))
            }
        }
    }

    /// The service that a client asks for.
    pub(super) fn target(&self) -> Result<Service, Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("the service to reach: {error}"));
        let port = self.port.as_deref().ok_or_else(|| {
            Failure::Usage(
                "which TCP port? Say it with -P, or as `port` in the file named with -d".to_owned(),
            )
        })?;
        let port = port.trim().parse().map_err(|_| wrong(&"the port is not one from 1 to 65535"))?;
        let host: Host = self.ip.as_deref().unwrap_or("127.0.0.1").parse().map_err(|error| wrong(&error))?;
        Ok(Service { host, port })
    }
}
