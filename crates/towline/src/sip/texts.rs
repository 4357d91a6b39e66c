//! Texts to accounts and from them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use towline_identity::{AccountId, Chain, DeviceId, ShortId};
use towline_mux::Code;
use towline_net::{now, sleep_until};
use towline_sip::{Config, Endpoint, HeaderName, OutgoingRequest, RequestError, Status};

use super::directory::Directory;
use super::letters;
use super::receiver::{Receiver, Text};
use super::session::Session;
use super::table::{Answer, Outgoing, Table};
use super::{CHANNEL, Delivery, DeviceError, TextError, TextOptions};
use crate::account::{Account, Device};
use crate::channel::{Channel, IncomingChannel};
use crate::node::Node;
use crate::router::{Overlap, Pattern, PeerKind, Route, Router};

/// Times a text is sent again on another channel after one was lost.
const MAX_LOST: usize = 1;

/// Sends and takes texts. Cheap to clone; the last clone ends it.
///
/// A text that comes twice is told once, as long as this exists: which texts came is not stored. One that lies in the inbox
/// on the DHT is told again if the program starts anew within ten minutes of its date; a program that minds keeps the latest
/// [`Text::message_id`] of each account.
#[derive(Clone)]
pub struct Texts {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    node: Node,
    options: TextOptions,
    directory: Directory,
    table: Arc<Table>,
    /// Gone when nothing more can come.
    receiver: Mutex<Option<Receiver>>,
    texts: tokio::sync::Mutex<mpsc::Receiver<Text>>,
    rng: Mutex<StdRng>,
    /// End with this.
    tasks: Mutex<JoinSet<()>>,
}

impl Texts {
    /// Serves the channel `sip` of an account, for its contacts and its own devices, and takes what older programs leave
    /// for them in the device's inbox on the DHT.
    ///
    /// Fails if it is served already.
    pub fn start(account: &Account) -> Result<Self, Overlap> {
        Self::start_with(account, TextOptions::default())
    }

    /// [`start`](Self::start) with options.
    pub fn start_with(account: &Account, options: TextOptions) -> Result<Self, Overlap> {
        let finder = account.clone();
        let texts = Self::serve(account.node(), account.router(), options, move |of| {
            let finder = finder.clone();
            async move {
                let devices = finder.devices(of).await.unwrap_or_else(|error| {
                    tracing::debug!(account = %of, %error, "the devices of an account were not found");
                    Vec::new()
                });
                // Nothing is had with who is banned, not even a connection.
                let banned = |chain: &Chain| finder.kind_of(chain) == PeerKind::Banned;
                let wanted = devices.iter().filter(|device| !device.chain.as_ref().is_some_and(banned));
                wanted.filter_map(Device::id).collect()
            }
            .boxed()
        })?;
        let weak = Arc::downgrade(&texts.inner);
        texts.inner.spawn(letters::listen(account.clone(), weak, texts.inner.options.treated));
        Ok(texts)
    }

    /// Serves the channel `sip` of `node` through `router`, which somebody must [run](Router::run). `devices` finds the
    /// devices of an account that are worth a try; those that are connected are found without it.
    pub fn serve(
        node: &Node,
        router: &Router,
        options: TextOptions,
        devices: impl Fn(AccountId) -> BoxFuture<'static, Vec<DeviceId>> + Send + Sync + 'static,
    ) -> Result<Self, Overlap> {
        let route = router.serve(Pattern::exact(CHANNEL), options.admit, options.channels)?;
        let (sender, texts) = mpsc::channel(options.queue.max(1));
        let inner = Arc::new(Inner {
            node: node.clone(),
            directory: Directory::new(Box::new(devices), options.devices_remembered),
            table: Arc::default(),
            receiver: Mutex::new(Some(Receiver::new(sender, options.treated))),
            texts: tokio::sync::Mutex::new(texts),
            rng: Mutex::new(StdRng::from_seed(node.net().seed())),
            tasks: Mutex::default(),
            options,
        });
        inner.spawn(accept(route, node.clone(), Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// Sends `body` to every device of `account` that can be reached, and waits for their answers. Ready when all have
    /// answered or failed, or some time after the first has answered
    /// ([`TextOptions::patience_for_others`](super::TextOptions::patience_for_others)). An error means that nobody has
    /// the text, as far as is known.
    ///
    /// The devices that do not have it then are not tried again soon, unless they are connected.
    ///
    /// Dropping the future gives up what has not been sent yet.
    pub async fn send(
        &self,
        account: AccountId,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<Delivery, TextError> {
        let inner = &*self.inner;
        let body: Arc<[u8]> = body.into().into();
        inner.check(content_type, &body)?;
        let content_type: Arc<str> = content_type.into();
        let message_id = inner.rng().next_u64();
        let to_one = |device: DeviceId| {
            let parcel =
                Parcel { content_type: Arc::clone(&content_type), body: Arc::clone(&body), message_id };
            async move { (device, inner.send_to(device, parcel).await) }
        };
        // Who is connected gets it at once; others are looked up meanwhile.
        let mut pending = inner.connected(account);
        let mut sending: FuturesUnordered<_> = pending.iter().copied().map(to_one).collect();
        let lookup = inner.directory.find(account);
        tokio::pin!(lookup);
        let mut looking = true;
        let (mut delivered, mut failed) = (Vec::new(), Vec::new());
        let mut until = now() + inner.options.patience;
        while looking || !pending.is_empty() {
            tokio::select! {
                biased;
                Some((device, result)) = sending.next() => {
                    pending.retain(|waiting| *waiting != device);
                    match result {
                        Ok(()) => {
                            if delivered.is_empty() {
                                until = until.min(now() + inner.options.patience_for_others);
                            }
                            delivered.push(device);
                        }
                        Err(error) => {
                            inner.directory.unreachable(account, device);
                            failed.push((device, error));
                        }
                    }
                }
                found = &mut lookup, if looking => {
                    looking = false;
                    for device in inner.worth_a_try(found, &pending, &delivered, &failed) {
                        pending.push(device);
                        sending.push(to_one(device));
                    }
                }
                () = sleep_until(until) => break,
            }
        }
        for device in pending {
            inner.directory.unreachable(account, device);
            failed.push((device, DeviceError::TimedOut));
        }
        match (delivered.is_empty(), failed.is_empty()) {
            (false, _) => Ok(Delivery { message_id, delivered, failed }),
            (true, _) if inner.node.is_closed() => Err(TextError::Closed),
            (true, true) => Err(TextError::Nobody(account)),
            (true, false) => Err(TextError::Unreachable(failed)),
        }
    }

    /// The next text. `None` when the node was shut down and all texts were taken. Several tasks may wait here.
    ///
    /// Cancel safe.
    pub async fn next(&self) -> Option<Text> {
        self.inner.texts.lock().await.recv().await
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts").field("table", &self.inner.table).finish_non_exhaustive()
    }
}

/// Takes the channels that others ask for, until the node is shut down.
async fn accept(mut route: Route, node: Node, texts: Weak<Inner>) {
    loop {
        let incoming = tokio::select! {
            biased;
            incoming = route.next() => incoming,
            // A router that was stopped before does not end its routes.
            () = node.closed() => None,
        };
        let Some(inner) = texts.upgrade() else { return };
        match incoming {
            Some(incoming) => inner.take(incoming).await,
            None => {
                inner.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
                return;
            }
        }
    }
}

/// What is sent to each device.
struct Parcel {
    content_type: Arc<str>,
    body: Arc<[u8]>,
    message_id: u64,
}

impl Inner {
    /// Runs a task that ends with this.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn rng(&self) -> std::sync::MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether devices of this kind may send texts.
    pub(super) fn admits(&self, kind: PeerKind) -> bool {
        self.options.admit.admits(kind)
    }

    /// Hands a text over that did not come on a channel, and says what became of it.
    pub(super) fn tell(&self, text: Text) -> Status {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        receiver.map_or(Status::SERVICE_UNAVAILABLE, |receiver| receiver.tell(text))
    }

    /// Whether the text can be sent at all, told before anybody is dialled.
    fn check(&self, content_type: &str, body: &[u8]) -> Result<(), TextError> {
        let nowhere = SocketAddr::from((Ipv4Addr::BROADCAST, u16::MAX));
        let mut probe = Endpoint::new(self.config(AccountId([0; 20]), (nowhere, nowhere)), [0; 32]);
        let mut request = OutgoingRequest::message(content_type, body);
        request.headers.push(HeaderName::MessageId, "0".repeat(16)).expect("digits fit on a line");
        match probe.request(now(), request) {
            Ok(_) => Ok(()),
            Err(RequestError::TooLong { length, max }) => Err(TextError::TooLong { length, max }),
            Err(_) => Err(TextError::ContentType),
        }
    }

    /// Devices of `account` that a connection or a channel leads to.
    fn connected(&self, account: AccountId) -> Vec<DeviceId> {
        let mut devices = self.table.devices(account);
        let connected = self.node.established().into_iter().filter(|known| known.peer().account == account);
        devices.extend(connected.map(|known| known.peer().device));
        devices.sort_unstable();
        devices.dedup();
        devices.truncate(self.options.devices);
        devices
    }

    /// Of the devices that were `found`, those that were not tried already and are not this one, within the bound.
    fn worth_a_try(
        &self,
        found: Vec<DeviceId>,
        pending: &[DeviceId],
        delivered: &[DeviceId],
        failed: &[(DeviceId, DeviceError)],
    ) -> BTreeSet<DeviceId> {
        let tried: BTreeSet<_> =
            pending.iter().chain(delivered).chain(failed.iter().map(|(device, _)| device)).copied().collect();
        let room = self.options.devices.saturating_sub(tried.len());
        let new = found.into_iter().filter(|device| !tried.contains(device) && *device != self.node.device());
        new.collect::<BTreeSet<_>>().into_iter().take(room).collect()
    }

    async fn send_to(&self, device: DeviceId, parcel: Parcel) -> Result<(), DeviceError> {
        for _ in 0..=MAX_LOST {
            let texts = self.session(device).await?;
            let (reply, answer) = oneshot::channel();
            let outgoing = Outgoing {
                content_type: Arc::clone(&parcel.content_type),
                body: Arc::clone(&parcel.body),
                message_id: parcel.message_id,
                reply,
            };
            match texts.try_send(outgoing) {
                Err(mpsc::error::TrySendError::Full(_)) => return Err(DeviceError::Busy),
                // It ended just now.
                Err(mpsc::error::TrySendError::Closed(_)) => continue,
                Ok(()) => {}
            }
            match answer.await {
                Ok(Answer::Final(status)) if status.is_success() => return Ok(()),
                Ok(Answer::Final(status)) => return Err(DeviceError::Refused(status)),
                Ok(Answer::TimedOut) => return Err(DeviceError::TimedOut),
                Ok(Answer::Unfit(_)) => return Err(DeviceError::Busy),
                Err(_) => {}
            }
        }
        Err(DeviceError::Lost)
    }

    /// The way to a session with `device`; a channel is opened if there is none.
    async fn session(&self, device: DeviceId) -> Result<mpsc::Sender<Outgoing>, DeviceError> {
        if let Some(handle) = self.table.newest(device) {
            return Ok(handle.texts);
        }
        // Dropped after the lock, when nobody else waits for it.
        let _tidy = Tidy { table: &self.table, device };
        let _turn = self.table.opening(device).lock_owned().await;
        if let Some(handle) = self.table.newest(device) {
            return Ok(handle.texts);
        }
        let channel = self.node.connect(device, CHANNEL).await?;
        let (texts, queue) = mpsc::channel(self.options.waiting_per_device.max(1));
        if self.start(channel, texts.clone(), queue) { Ok(texts) } else { Err(DeviceError::Busy) }
    }

    /// Takes a channel that another device asks for.
    async fn take(&self, incoming: IncomingChannel) {
        if !self.table.has_room(incoming.peer().device, self.room()) {
            return incoming.refuse(Code::TooManyChannels, "too many of them").await;
        }
        let (texts, queue) = mpsc::channel(self.options.waiting_per_device.max(1));
        match incoming.accept().await {
            Ok(channel) => {
                self.start(channel, texts, queue);
            }
            Err(error) => tracing::debug!(%error, "a sip channel was lost before it was accepted"),
        }
    }

    /// Runs a session on `channel`. False if there are too many, or the node is shut down.
    fn start(
        &self,
        channel: Channel,
        texts: mpsc::Sender<Outgoing>,
        queue: mpsc::Receiver<Outgoing>,
    ) -> bool {
        let peer = channel.peer();
        let (device, account) = (peer.device, peer.account);
        let Some(seat) = self.table.insert(device, account, texts, self.room()) else { return false };
        let Some(receiver) = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return false;
        };
        let mut seed = [0; 32];
        self.rng().fill_bytes(&mut seed);
        let ends = self.ends(&channel);
        let endpoint = Endpoint::new(self.config(account, ends), seed);
        self.spawn(Session::new(channel, endpoint, receiver, queue, seat).run());
        true
    }

    /// Channels there may be, with all devices and with one.
    fn room(&self) -> (usize, usize) {
        (self.options.channels, self.options.channels_per_device)
    }

    /// The two ends of the path under `channel`. They are only written down, so when the connection is gone any will do.
    fn ends(&self, channel: &Channel) -> (SocketAddr, SocketAddr) {
        let connections = self.node.established();
        let below = connections.iter().find(|connection| connection.id() == channel.connection());
        let path = below.and_then(|connection| connection.info().established).map(|info| info.path);
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        path.map_or((nowhere, nowhere), |path| (path.local, path.remote))
    }

    fn config(&self, peer: AccountId, (local, remote): (SocketAddr, SocketAddr)) -> Config {
        let device: ShortId = self.node.identity().short_id();
        let account = self.node.account().to_string();
        let mut config = Config::new(account, device.to_string(), peer.to_string(), local, remote);
        config.display.clone_from(&self.options.display);
        config.limits = self.options.sip.clone();
        config.timers = self.options.timers.clone();
        config
    }
}

/// Forgets a device with which no session came about.
struct Tidy<'a> {
    table: &'a Table,
    device: DeviceId,
}

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        self.table.tidy(self.device);
    }
}
