//! From what the user names to a device that answers.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;
use towline::dht::{FindCertificateError, GetError, Query};
use towline::identity::PublicKey;
use towline::{AccountId, Channel, ConnectError, DeviceId, ShortId};
use towline_account::announcement::{self, DeviceAnnouncement};

use crate::event::Event;
use crate::failure::Failure;
use crate::ids::Remote;
use crate::output::Output;
use crate::session::Session;

/// Devices of an account that are dialled.
const MOST_DEVICES: usize = 16;

/// A device to dial.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    /// What its account announces. Where its certificate lies that does not tell: programs of 2023 publish at the short
    /// id only, so that it is looked for by both.
    key: Option<PublicKey>,
}

impl From<DeviceId> for Device {
    fn from(id: DeviceId) -> Self {
        Self { id, key: None }
    }
}

impl Session {
    /// Connects to the device that is meant, or to the first that answers if there are several.
    pub(crate) async fn reach(&self, remote: &Remote, output: &Output) -> Result<DeviceId, Failure> {
        let devices = self.devices(remote, output).await?;
        let mut dials = self.dials(&devices);
        let mut failures = Vec::new();
        while let Some(result) = dials.next().await {
            match result {
                Ok(device) => return Ok(device),
                Err(failure) => failures.push(failure),
            }
        }
        Err(summary(failures))
    }

    /// Opens a channel at the device that is meant, or at the first that takes it if there are several. They are
    /// dialled at the same time, but asked one after the other, so that no two of them begin with the work. Returns
    /// also how long it took to open, on the connection.
    pub(crate) async fn open(
        &self,
        remote: &Remote,
        name: &str,
        output: &Output,
    ) -> Result<(Channel, Duration), Failure> {
        let devices = self.devices(remote, output).await?;
        let mut dials = self.dials(&devices);
        let mut failures = Vec::new();
        while let Some(result) = dials.next().await {
            let began = towline::net::now();
            let opened = match result {
                Ok(device) => match self.node().connect(device, name).await {
                    Ok(channel) => Ok(channel),
                    Err(error) => Err(self.explain(device, &error).await),
                },
                Err(failure) => Err(failure),
            };
            match opened {
                Ok(channel) => return Ok((channel, began.elapsed())),
                Err(failure) => failures.push(failure),
            }
        }
        Err(summary(failures))
    }

    fn dials(&self, devices: &[Device]) -> FuturesUnordered<impl Future<Output = Result<DeviceId, Failure>>> {
        let dial = async |device: &Device| {
            if let Err(error) = self.find_announced(device).await {
                return Err(self.explain(device.id, &error).await);
            }
            self.dial(device.id).await.map(|_| device.id)
        };
        devices.iter().map(dial).collect()
    }

    /// Looks for the certificate of a device by the key that its account announces: a dial goes by its id alone.
    pub(crate) async fn find_announced(&self, device: &Device) -> Result<(), ConnectError> {
        match &device.key {
            Some(key) => self.node().find(key).await.map(drop),
            None => Ok(()),
        }
    }

    /// The devices that are meant; at least one.
    pub(crate) async fn devices(&self, remote: &Remote, output: &Output) -> Result<Vec<Device>, Failure> {
        let id = match remote {
            Remote::Device(device) => return Ok(vec![Device::from(*device)]),
            Remote::Certificate(chain) => {
                self.node().remember(chain.clone()).await;
                return Ok(vec![Device::from(chain.device_id())]);
            }
            Remote::Short(id) => *id,
        };
        if id == self.node().identity().short_id() {
            return Err(Failure::connecting(&ConnectError::OwnDevice(self.node().device()), None));
        }
        self.joined().await?;
        let devices =
            timeout(self.patience(), self.look_up(id)).await.unwrap_or_else(|_| Err(not_found(id)))?;
        let list = devices.iter().map(|device| device.id.to_string()).collect();
        output.say(&Event::Resolved { id: id.to_string(), devices: list });
        Ok(devices)
    }

    /// Asks the DHT what 40 digits are: a device, or an account with devices.
    async fn look_up(&self, id: ShortId) -> Result<Vec<Device>, Failure> {
        let (device, account) = (self.by_short_id(id), self.announced_by(id.into()));
        tokio::pin!(device, account);
        // A device is found sooner, as it has one certificate and an account any number of devices.
        let (device, account) = tokio::select! {
            biased;
            device = &mut device => match device? {
                None => (None, account.await?),
                device => (device, Vec::new()),
            },
            account = &mut account => match account? {
                none if none.is_empty() => (device.await?, none),
                some => (None, some),
            },
        };
        let own = self.node().device();
        let mut found: Vec<_> = device.map(Device::from).into_iter().chain(account).collect();
        let nothing = found.is_empty();
        found.retain(|device| device.id != own);
        match found {
            none if none.is_empty() && nothing => Err(not_found(id)),
            none if none.is_empty() => Err(Failure::connecting(&ConnectError::OwnDevice(own), None)),
            others => Ok(others),
        }
    }

    /// The device whose certificate lies where those of older devices do.
    async fn by_short_id(&self, id: ShortId) -> Result<Option<DeviceId>, Failure> {
        match self.node().dht().find_certificate_by_short_id(id).await {
            Ok(found) => {
                let device = found.chain.device_id();
                self.node().remember(found.chain).await;
                Ok(Some(device))
            }
            Err(FindCertificateError::NotFound(_) | FindCertificateError::IdUnknown(_)) => Ok(None),
            Err(FindCertificateError::Lookup(error)) => Err(no_lookup(error)),
        }
    }

    /// The devices that an account announces.
    async fn announced_by(&self, account: AccountId) -> Result<Vec<Device>, Failure> {
        let mut values = self.node().dht().get(announcement::key(account), Query::default());
        let mut devices = BTreeMap::new();
        while let Some(value) = values.next().await.map_err(no_lookup)? {
            let Ok(announcement) = DeviceAnnouncement::read(&value.value, account) else { continue };
            // Announcements of the first years have no key in them.
            let device = match announcement.key {
                None => self.by_short_id(announcement.device).await?.map(Device::from),
                Some(key) => Some(Device { id: key.device_id(), key: Some(key) }),
            };
            devices.extend(device.map(|device| (device.id, device)));
            if devices.len() == MOST_DEVICES {
                break;
            }
        }
        Ok(devices.into_values().collect())
    }
}

fn no_lookup(error: GetError) -> Failure {
    Failure::Unreachable {
        step: "certificate".to_owned(),
        message: format!("it cannot be looked up: {error}"),
    }
}

fn not_found(id: ShortId) -> Failure {
    Failure::Unreachable {
        step: "certificate".to_owned(),
        message: format!(
            "{id} is neither an account with devices nor the short id of a device that can be found now\n  Tools on \
             OpenDHT 3.7.2 and later, such as today's dnc, can be found by their 64 digits only, which they do not \
             print: give @FILE with the certificate of the device, or what `towline cert -a -c FILE` says about it."
        ),
    }
}

/// One failure for all devices: that of who answered, if any did.
pub(crate) fn summary(mut failures: Vec<Failure>) -> Failure {
    let all = failures.len();
    let telling = failures.iter().position(|failure| matches!(failure, Failure::Refused(_))).unwrap_or(0);
    let failure = failures.swap_remove(telling);
    if all == 1 {
        return failure;
    }
    let message = |text: String| format!("none of {all} devices can be used; one of them: {text}");
    match failure {
        Failure::Refused(text) => Failure::Refused(message(text)),
        Failure::Unreachable { step, message: text } => Failure::Unreachable { step, message: message(text) },
        other => other,
    }
}
