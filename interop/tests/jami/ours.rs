//! Accounts of ours in a lab.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use interop::jami::{Jamid, Lab, SOON};
use tokio::sync::broadcast;
use towline::account::contacts::ContactEvent;
use towline::account::receipt::Receipt;
use towline::account::{Account, AccountConfig, AccountEvent};
use towline::identity::{
    AccountId, DeviceId, GenerateOptions, Hierarchy, Identity, KeySize, PrivateKey, Validity,
};
use towline::net::Os;
use towline::sip::{TextOptions, Texts};
use towline::{Admit, Config, ConnectError, Eras, Pattern, Route};

/// Longer than anything here takes that does not wait for a peer to give up.
pub(crate) const LIMIT: Duration = SOON;

/// An account on one device of ours, with texts.
pub(crate) struct Ours {
    pub(crate) account: Account,
    pub(crate) texts: Texts,
    /// As asked for in [`Setup::serve`].
    pub(crate) routes: Vec<Route>,
}

/// How it is set up.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) account: AccountConfig,
    pub(crate) texts: TextOptions,
    /// Channels for our own devices, by how their names begin, served before anybody can know of us.
    pub(crate) serve: Vec<&'static str>,
    pub(crate) eras: Eras,
    pub(crate) native_dialect: bool,
    /// How long a request for a connection may stay without an answer.
    pub(crate) answer_timeout: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            account: AccountConfig::default(),
            texts: TextOptions::default(),
            serve: Vec::new(),
            eras: Eras::default(),
            native_dialect: true,
            answer_timeout: LIMIT,
        }
    }
}

impl Setup {
    /// What a program of 2026 does: long ids only, and the dialect of Jami.
    pub(crate) fn of_2026() -> Self {
        Self { eras: Eras::LongOnly, native_dialect: false, ..Self::default() }
    }
}

/// Root, account and device, valid now.
pub(crate) fn keys() -> Result<Hierarchy> {
    let mut options = GenerateOptions::new(now()?);
    options.key_size = KeySize::Rsa2048;
    Ok(Hierarchy::generate(&options)?)
}

/// One more device of an account.
pub(crate) fn device_of(account: &Identity) -> Result<Identity> {
    let key = PrivateKey::generate(KeySize::Rsa2048)?;
    Ok(account.issue_device(key, "Jami device", Validity::ten_years_from(now()?))?)
}

/// Unix seconds, one minute ago: certificates shall be valid already.
pub(crate) fn now() -> Result<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_secs())? - 60)
}

impl Ours {
    /// A new account, registered and announced.
    pub(crate) async fn start(lab: &Lab, setup: Setup) -> Result<Self> {
        let keys = keys()?;
        Self::start_device(lab, &keys.account, keys.device, setup).await
    }

    /// A device of an account, registered and announced.
    pub(crate) async fn start_device(
        lab: &Lab,
        account: &Identity,
        device: Identity,
        setup: Setup,
    ) -> Result<Self> {
        Self::start_at(lab.bootstrap(), account, device, setup).await
    }

    /// The same, in a runtime of its own.
    pub(crate) async fn start_at(
        bootstrap: SocketAddr,
        account: &Identity,
        device: Identity,
        mut setup: Setup,
    ) -> Result<Self> {
        setup.account.receipt = Some(Receipt::make(account, device.key().public()));
        let mut config = Config::internet();
        config.dht.bootstrap = vec![bootstrap.to_string()];
        config.eras = setup.eras;
        config.native_dialect = setup.native_dialect;
        config.limits.answer_timeout = setup.answer_timeout;
        let account = Account::start(Arc::new(Os), config, device, setup.account).await?;
        let texts = Texts::start_with(&account, setup.texts)?;
        let serve = |name: &str| account.router().serve(Pattern::prefix(name), Admit::OWN, 4);
        let routes = setup.serve.into_iter().map(serve).collect::<Result<_, _>>()?;
        let up = async {
            account.node().registered().await;
            account.announced().await;
        };
        tokio::time::timeout(LIMIT, up).await.context("our account is not announced")?;
        Ok(Self { account, texts, routes })
    }

    pub(crate) fn uri(&self) -> String {
        self.account.id().to_string()
    }

    /// Waits for something to happen with the account.
    pub(crate) async fn event<T>(
        &self,
        events: &mut broadcast::Receiver<AccountEvent>,
        what: &str,
        pick: impl Fn(&AccountEvent) -> Option<T>,
    ) -> Result<T> {
        let found = async {
            loop {
                let event = events.recv().await?;
                if let Some(picked) = pick(&event) {
                    return Ok(picked);
                }
            }
        };
        tokio::time::timeout(LIMIT, found).await.with_context(|| format!("waited for {what}"))?
    }

    /// Waits for something to happen with contacts.
    pub(crate) async fn contact_event(
        &self,
        events: &mut broadcast::Receiver<AccountEvent>,
        wanted: ContactEvent,
    ) -> Result<()> {
        let pick = |event: &AccountEvent| match event {
            AccountEvent::Contact(event) if *event == wanted => Some(()),
            _ => None,
        };
        self.event(events, &format!("{wanted:?}"), pick).await
    }

    /// The only device of an account, ready to be dialled.
    pub(crate) async fn device_of(&self, account: AccountId) -> Result<DeviceId> {
        let devices = self.account.devices(account).await?;
        let [device] = devices.as_slice() else { bail!("{account} has {} devices", devices.len()) };
        device.id().context("it announces its key")
    }

    /// Opens a channel and drops it; whether it was accepted.
    pub(crate) async fn try_channel(&self, device: DeviceId, name: &str) -> Result<bool> {
        let refused =
            |error: &ConnectError| matches!(error, ConnectError::Channel(towline::ChannelError::Refused(_)));
        let opened = tokio::time::timeout(LIMIT, self.account.node().connect(device, name)).await;
        match opened.with_context(|| format!("no answer to {name}"))? {
            Ok(_) => Ok(true),
            Err(error) if refused(&error) => Ok(false),
            Err(error) => Err(error).with_context(|| name.to_owned()),
        }
    }

    /// Asks the daemon to be a contact, and makes it accept.
    pub(crate) async fn befriend(&self, daemon: &Jamid) -> Result<()> {
        let mark = daemon.mark();
        let mut events = self.account.events();
        self.account.add_contact(account_of(daemon)?).await?;
        daemon.wait(mark, "incomingTrustRequest", |request| request.text(2) == self.uri()).await?;
        daemon.accept(&self.uri()).await?;
        self.contact_event(&mut events, ContactEvent::Confirmed(account_of(daemon)?)).await
    }
}

/// The daemon's account.
pub(crate) fn account_of(daemon: &Jamid) -> Result<AccountId> {
    daemon.uri().parse().context("the id of an account")
}

/// Any future, within [`LIMIT`].
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(LIMIT, future).await.with_context(|| format!("waited for {what}"))
}
