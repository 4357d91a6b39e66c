//! Mappings that are kept for as long as somebody holds them.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use towline_net::Net;

use crate::{
    discover::{self, Known},
    request::{Failure, Granted, MappingState, Protocol, Transport},
    service::{Asked, Grant, Service, ServiceError},
};

/// Longest time until a mapping is renewed: a router that was restarted has forgotten it until then.
const RENEW: Duration = Duration::from_mins(10);
/// Time until a refused mapping is tried again; it doubles with each time, up to an hour.
const AGAIN: Duration = Duration::from_mins(1);
const AGAIN_MOST: Duration = Duration::from_hours(1);
/// Longest wait for a router to take a mapping back.
const RELEASE: Duration = Duration::from_secs(1);

/// What is asked of routers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The protocols that are tried. Default: all.
    pub protocols: Vec<Protocol>,
    /// Lifetime that is asked for; at least a minute. Default: 2 h (RFC 6886 section 3.3).
    pub lifetime: Duration,
    /// What the owner of a UPnP router is shown. Default: `towline`.
    pub description: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            protocols: Protocol::ALL.to_vec(),
            lifetime: Duration::from_hours(2),
            description: "towline".to_owned(),
        }
    }
}

/// Looks for routers and keeps mappings on them. Cheap to clone.
///
/// It works until it and all its mappings are dropped.
#[derive(Debug, Clone)]
pub struct PortMapper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    net: Arc<dyn Net>,
    options: Arc<Options>,
    known: watch::Receiver<Known>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    /// Cancels when the last holder is gone.
    _end: DropGuard,
}

impl PortMapper {
    /// Begins to look for routers. Must be called within a tokio runtime.
    pub fn start(net: Arc<dyn Net>, options: Options) -> Self {
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (tell, known) = watch::channel(Known::default());
        let looking = discover::keep_looking(Arc::clone(&net), options.protocols.clone(), tell);
        let cancelled = cancel.clone();
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {}
                () = looking => {}
            }
        });
        let end = cancel.clone().drop_guard();
        let inner = Inner { net, options: Arc::new(options), known, tasks, cancel, _end: end };
        Self { inner: Arc::new(inner) }
    }

    /// A mapping for a port of this host, asked for from now on until it is dropped. Does not wait for anything.
    pub fn map(&self, transport: Transport, port: u16) -> PortMapping {
        let inner = &self.inner;
        let (tell, state) = watch::channel(MappingState::Asking);
        let release = inner.cancel.child_token();
        let mut nonce = [0; 12];
        inner.net.fill_random(&mut nonce);
        let keeper = Keeper {
            net: Arc::clone(&inner.net),
            options: Arc::clone(&inner.options),
            known: inner.known.clone(),
            tell,
            transport,
            port,
            wanted: port,
            nonce,
        };
        inner.tasks.spawn(keeper.keep(release.clone()));
        PortMapping { state, mapper: self.clone(), _release: release.drop_guard() }
    }

    /// The routers that answered, and whether the search is over for now.
    pub fn routers(&self) -> (Vec<crate::Found>, bool) {
        let known = self.inner.known.borrow();
        (known.services.iter().map(Service::found).collect(), known.complete)
    }

    /// Gives all mappings back, within about two seconds.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// A mapping, kept until this is dropped.
#[derive(Debug)]
pub struct PortMapping {
    state: watch::Receiver<MappingState>,
    mapper: PortMapper,
    _release: DropGuard,
}

impl PortMapping {
    /// How far it is.
    pub fn state(&self) -> MappingState {
        self.state.borrow().clone()
    }

    /// Waits until that changes, and returns it. `None` after [`PortMapper::shutdown`]. Cancel safe.
    pub async fn changed(&mut self) -> Option<MappingState> {
        self.state.changed().await.ok()?;
        Some(self.state.borrow_and_update().clone())
    }

    /// Waits until it stands or no router grants it. `None` after [`PortMapper::shutdown`]. Cancel safe.
    pub async fn settled(&mut self) -> Option<MappingState> {
        // What was said last does not stand any more when nobody keeps it.
        self.state.has_changed().ok()?;
        let settled = self.state.wait_for(|state| *state != MappingState::Asking).await;
        settled.ok().map(|state| state.clone())
    }

    /// Who keeps it.
    pub fn mapper(&self) -> &PortMapper {
        &self.mapper
    }
}

/// The task of one mapping.
struct Keeper {
    net: Arc<dyn Net>,
    options: Arc<Options>,
    known: watch::Receiver<Known>,
    tell: watch::Sender<MappingState>,
    transport: Transport,
    port: u16,
    /// The external port that is asked for: the last one there was.
    wanted: u16,
    nonce: [u8; 12],
}

impl Keeper {
    async fn keep(mut self, release: CancellationToken) {
        loop {
            let Some((service, grant)) = self.acquire(&release).await else { return };
            let lost = tokio::select! {
                biased;
                () = release.cancelled() => None,
                lost = self.renew(&service, grant) => Some(lost),
            };
            match lost {
                Some(error) => {
                    tracing::debug!(found = ?service.found(), %error, "a port mapping was lost");
                    self.tell.send_replace(MappingState::Asking);
                }
                None => {
                    let asked = self.asked();
                    let released = service.release(self.net.as_ref(), &asked);
                    match tokio::time::timeout(RELEASE, released).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "a port mapping was not taken back"),
                        Err(_) => tracing::debug!("the router is slow to take a port mapping back"),
                    }
                    return;
                }
            }
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            transport: self.transport,
            internal: self.port,
            external: self.wanted,
            nonce: self.nonce,
            lifetime: u32::try_from(self.options.lifetime.as_secs()).unwrap_or(u32::MAX).max(60),
            description: &self.options.description,
        }
    }

    /// Asks whoever is found, as they are found, until one grants it. `None` when nobody looks any more, or `release`
    /// says so: what is granted within [`RELEASE`] of that is returned, to be given back.
    async fn acquire(&mut self, release: &CancellationToken) -> Option<(Service, Grant)> {
        let mut again = AGAIN;
        // Those that refused, in this round of the search.
        let (mut round, mut refused) = (0, Vec::<(Service, ServiceError)>::new());
        while !release.is_cancelled() {
            let (complete, next) = {
                let known = self.known.borrow_and_update();
                if std::mem::replace(&mut round, known.round) != known.round {
                    refused.clear();
                }
                let new = |service: &&Service| refused.iter().all(|(before, _)| before != *service);
                let next = known.services.iter().find(new).cloned();
                (known.complete, next)
            };
            if let Some(service) = next {
                let answer = {
                    let asked = self.asked();
                    let mut asking = std::pin::pin!(service.map(self.net.as_ref(), &asked));
                    tokio::select! {
                        biased;
                        () = release.cancelled() => tokio::time::timeout(RELEASE, asking).await.ok()?,
                        answer = &mut asking => answer,
                    }
                };
                match answer {
                    Ok(grant) => {
                        self.wanted = grant.external.port();
                        return Some((service, grant));
                    }
                    Err(error) => refused.push((service, error)),
                }
                continue;
            }
            if complete {
                self.tell.send_if_modified(|state| {
                    let failed = MappingState::Failed(failure(&refused));
                    let news = *state != failed;
                    *state = failed;
                    news
                });
            }
            // Something may come, or change; what refused may have changed its mind.
            tokio::select! {
                biased;
                () = release.cancelled() => return None,
                changed = self.known.changed() => changed.ok()?,
                () = tokio::time::sleep(again), if complete && !refused.is_empty() => {
                    again = (again * 2).min(AGAIN_MOST);
                    refused.clear();
                }
            }
        }
        None
    }

    /// Shows a grant and renews it, until that fails or the network is another.
    async fn renew(&mut self, service: &Service, mut grant: Grant) -> ServiceError {
        let began = self.known.borrow().round;
        loop {
            self.wanted = grant.external.port();
            let found = service.found();
            let granted = Granted {
                external: grant.external,
                router: found.router,
                protocol: found.protocol,
                until: grant.lifetime.map(|lifetime| towline_net::now() + lifetime),
            };
            tracing::debug!(?granted, "port mapped");
            self.tell.send_replace(MappingState::Granted(granted));
            let pause = grant.lifetime.map_or(RENEW, |lifetime| (lifetime / 2).min(RENEW));
            let another = async {
                let gone = |known: &Known| {
                    known.round != began && known.complete && !known.services.contains(service)
                };
                if self.known.wait_for(gone).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = another => return ServiceError::Silent,
                () = tokio::time::sleep(pause) => {}
            }
            // Lost datagrams are repeated within; a second try spans a router's restart.
            grant = match service.map(self.net.as_ref(), &self.asked()).await {
                Ok(grant) => grant,
                Err(_) => {
                    tokio::time::sleep(pause / 4).await;
                    match service.map(self.net.as_ref(), &self.asked()).await {
                        Ok(grant) => grant,
                        Err(error) => return error,
                    }
                }
            };
        }
    }
}

fn failure(refused: &[(Service, ServiceError)]) -> Failure {
    if refused.is_empty() {
        return Failure::NoRouter;
    }
    Failure::Refused(refused.iter().map(|(service, error)| (service.found(), error.clone())).collect())
}
