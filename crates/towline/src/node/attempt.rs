//! One attempt at a connection, from either side, as a future: certificate, signalling, path, TLS.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use towline_ice::{Description, Role};
use towline_identity::{AccountId, DeviceId, ShortId};

use super::context::Context;
use crate::connection::secure::{Secured, secure};
use crate::dht::{CertificateKey, FindCertificateError, FoundCertificate};
use crate::error::{ConnectError, Step};
use crate::event::Event;
use crate::info::{ConnectionId, ConnectionState, Origin, PathInfo, PathTransport, Timeline};
use crate::path::{Gathered, NegotiationError};
use crate::policy::Peer;
use crate::signal::{Extension, Incoming, PeerRequest, RefusalReason};

/// A request without an answer is put once more after this time, in case the nodes that held it are gone. The
/// recipient drops duplicates.
const REPEAT_AFTER: Duration = Duration::from_secs(8);

/// A connection that stands.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) id: ConnectionId,
    pub(crate) origin: Origin,
    pub(crate) secured: Secured,
    pub(crate) peer: Peer,
    /// Where the peer publishes; spares the lookup next time.
    pub(crate) found: FoundCertificate,
    pub(crate) path: PathInfo,
    pub(crate) timeline: Timeline,
}

/// How far an attempt has come, for whoever lists attempts.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: AtomicU8,
    account: OnceLock<AccountId>,
}

impl Progress {
    pub(crate) fn state(&self) -> ConnectionState {
        match self.state.load(Ordering::Relaxed) {
            0 => ConnectionState::Signalling,
            1 => ConnectionState::Path,
            _ => ConnectionState::Securing,
        }
    }

    /// The account of the device, once its certificate was seen.
    pub(crate) fn account(&self) -> Option<AccountId> {
        self.account.get().copied()
    }

    fn reach(&self, state: ConnectionState) {
        let number = match state {
            ConnectionState::Signalling => 0,
            ConnectionState::Path => 1,
            ConnectionState::Securing | ConnectionState::Established => 2,
        };
        self.state.store(number, Ordering::Relaxed);
    }

    fn met(&self, peer: &Peer) {
        let _ = self.account.set(peer.account);
    }
}

/// One attempt: what it is about, and how far it is.
struct Attempt {
    ctx: Arc<Context>,
    id: ConnectionId,
    device: DeviceId,
    origin: Origin,
    progress: Arc<Progress>,
    steps: Steps,
    timeline: Timeline,
}

impl Attempt {
    fn new(
        ctx: Arc<Context>,
        id: ConnectionId,
        device: DeviceId,
        origin: Origin,
        progress: Arc<Progress>,
    ) -> Self {
        let attempt =
            Self { ctx, id, device, origin, progress, steps: Steps::new(), timeline: Timeline::default() };
        attempt.reach(ConnectionState::Signalling);
        attempt
    }

    /// Tells whoever listens and whoever asks.
    fn reach(&self, state: ConnectionState) {
        self.progress.reach(state);
        self.ctx.progress(self.id, self.device, state, self.steps.began);
    }

    /// The peer's certificate, and who the peer therefore is. A peer of the old era publishes it under its short id
    /// only, which is known where its key is.
    async fn meet(
        &mut self,
        known: Option<FoundCertificate>,
        short: Option<ShortId>,
    ) -> Result<(FoundCertificate, Peer), ConnectError> {
        let found = match known {
            Some(found) => found,
            None => find_certificate(&self.ctx, self.device, short).await?,
        };
        let peer = self.ctx.peer(&found.chain)?;
        self.progress.met(&peer);
        self.timeline.certificate = self.steps.lap();
        Ok((found, peer))
    }

    /// Whose device the peer is by its own account. Any account can vouch for the key of any device, unasked, and
    /// publish that; the chain presented in TLS is the one that the device itself signed for. A device that presents
    /// no more than its own certificate is taken for what was found.
    fn confirm(
        &self,
        found: FoundCertificate,
        peer: Peer,
        secured: &Secured,
    ) -> Result<(FoundCertificate, Peer), ConnectError> {
        let presented = secured.transport.session().peer_chain().filter(|chain| chain.account().is_some());
        let Some(chain) = presented.filter(|chain| **chain != found.chain).cloned() else {
            return Ok((found, peer));
        };
        let peer = self.ctx.peer(&chain)?;
        if self.origin == Origin::Answered && !self.ctx.config.policy.admits(&peer, self.ctx.account) {
            return Err(ConnectError::NotAdmitted);
        }
        Ok((FoundCertificate { chain, at: found.at }, peer))
    }

    /// Path and TLS, the same from both sides.
    async fn connect(
        mut self,
        found: FoundCertificate,
        peer: Peer,
        gathered: Gathered,
        remote: Description,
    ) -> Result<Attempted, ConnectError> {
        self.timeline.signalling = self.steps.lap();
        let limits = &self.ctx.config.limits;
        self.reach(ConnectionState::Path);
        let selected =
            gathered.negotiate(remote, limits.path_timeout).await.map_err(|error| match error {
                NegotiationError::Failed(report) => ConnectError::NoPath(Arc::new(report)),
                NegotiationError::TimedOut => {
                    ConnectError::TimedOut { step: Step::Path, waited: limits.path_timeout }
                }
            })?;
        self.timeline.path = self.steps.lap();
        let path = PathInfo { transport: PathTransport::Tcp, local: selected.local, remote: selected.remote };
        self.reach(ConnectionState::Securing);
        let secured = secure(selected, &self.ctx.tls, self.device, limits.tls_timeout).await?;
        self.timeline.tls = self.steps.lap();
        let (found, peer) = self.confirm(found, peer, &secured)?;
        let Self { id, origin, timeline, .. } = self;
        Ok(Attempted { id, origin, secured, peer, found, path, timeline })
    }
}

/// The clock of an attempt.
struct Steps {
    began: Instant,
    last: Instant,
}

impl Steps {
    fn new() -> Self {
        let now = towline_net::now();
        Self { began: now, last: now }
    }

    /// Time since the last step ended.
    fn lap(&mut self) -> Duration {
        let now = towline_net::now();
        now.saturating_duration_since(std::mem::replace(&mut self.last, now))
    }
}

/// Dials `device`. `answer` yields the peer's answer when it comes.
pub(crate) async fn dial(
    ctx: Arc<Context>,
    id: ConnectionId,
    device: DeviceId,
    known: Option<FoundCertificate>,
    answer: oneshot::Receiver<PeerRequest>,
    progress: Arc<Progress>,
) -> Result<Attempted, ConnectError> {
    let mut attempt = Attempt::new(Arc::clone(&ctx), id, device, Origin::Dialled, progress);
    let (found, peer) = attempt.meet(known, None).await?;
    // The requester is controlled in ICE and the server in TLS.
    let gathered = gather(&ctx, Role::Controlled)?;
    let request = PeerRequest {
        id: id.0,
        ice_message: gathered.description().to_blob(),
        is_answer: false,
        connection_type: String::new(),
        extension: Some(Extension::default()),
    };
    let answer = signal(&ctx, &found, &request, answer).await?;
    if let Some(reason) = answer.extension.and_then(|extension| extension.refused) {
        return Err(ConnectError::Refused(reason));
    }
    let remote = parse_candidates(&answer)?;
    attempt.connect(found, peer, gathered, remote).await
}

/// Answers a request. The decision of the policy is made here, once the certificate is known.
pub(crate) async fn answer(
    ctx: Arc<Context>,
    incoming: Incoming,
    known: Option<FoundCertificate>,
    progress: Arc<Progress>,
) -> Result<Attempted, ConnectError> {
    let (id, device) = (ConnectionId(incoming.request.id), incoming.sender.device_id());
    let mut attempt = Attempt::new(Arc::clone(&ctx), id, device, Origin::Answered, progress);
    let (found, peer) = attempt.meet(known, Some(incoming.sender.short_id())).await?;
    if !ctx.config.policy.admits(&peer, ctx.account) {
        refuse(&ctx, &incoming, RefusalReason::NotAllowed).await;
        return Err(ConnectError::NotAdmitted);
    }
    let remote = match parse_candidates(&incoming.request) {
        Ok(remote) => remote,
        Err(error) => {
            refuse(&ctx, &incoming, RefusalReason::NoCandidates).await;
            return Err(error);
        }
    };
    let gathered = gather(&ctx, Role::Controlling)?;
    let reply = PeerRequest {
        id: incoming.request.id,
        ice_message: gathered.description().to_blob(),
        is_answer: true,
        connection_type: String::new(),
        extension: Some(Extension::default()),
    };
    // Checks begin while the answer is on its way: the peer takes them up when it has read it.
    let send = async {
        if let Err(error) = ctx.signalling.send(&incoming.sender, incoming.at, &reply).await {
            tracing::debug!(%device, %error, "the answer could not be stored");
        }
        // The path decides; this branch only has to have run.
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        biased;
        result = attempt.connect(found, peer, gathered, remote) => result,
        never = send => match never {},
    }
}

async fn find_certificate(
    ctx: &Context,
    device: DeviceId,
    short: Option<ShortId>,
) -> Result<FoundCertificate, ConnectError> {
    let limit = ctx.config.limits.certificate_timeout;
    match tokio::time::timeout(limit, ctx.dht.find_certificate_at(Some(device), short)).await {
        Ok(found) => found.map_err(ConnectError::Certificate),
        Err(_) => Err(ConnectError::TimedOut { step: Step::Certificate, waited: limit }),
    }
}

impl From<FindCertificateError> for ConnectError {
    fn from(error: FindCertificateError) -> Self {
        Self::Certificate(error)
    }
}

fn gather(ctx: &Context, role: Role) -> Result<Gathered, ConnectError> {
    Gathered::new(Arc::clone(&ctx.net), &ctx.path, role).map_err(|error| ConnectError::NoSocket(error.kind()))
}

fn parse_candidates(request: &PeerRequest) -> Result<Description, ConnectError> {
    let parsed =
        Description::from_blob(request.ice_message.as_bytes()).map_err(ConnectError::BadCandidates)?;
    for skipped in &parsed.skipped {
        tracing::debug!(line = skipped.line, reason = %skipped.reason, "candidate skipped");
    }
    Ok(parsed.description)
}

/// Sends the request and waits for the answer.
async fn signal(
    ctx: &Context,
    found: &FoundCertificate,
    request: &PeerRequest,
    mut answer: oneshot::Receiver<PeerRequest>,
) -> Result<PeerRequest, ConnectError> {
    let waited = ctx.config.limits.answer_timeout;
    let deadline = tokio::time::sleep(waited);
    tokio::pin!(deadline);
    let mut stored_on = 0;
    let mut pause = Duration::ZERO;
    loop {
        let delay = pause;
        let put = async {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            ctx.signalling.send(found.chain.public_key(), found.at, request).await
        };
        tokio::pin!(put);
        tokio::select! {
            biased;
            answer = &mut answer => return answer.map_err(|_| ConnectError::Cancelled),
            () = &mut deadline => return Err(ConnectError::NoAnswer { waited, stored_on }),
            result = &mut put => match result {
                Ok(nodes) => stored_on = stored_on.max(nodes),
                Err(error) if pause.is_zero() => {
                    tracing::debug!(%error, "the request could not be stored");
                    return Err(ConnectError::RequestNotStored);
                }
                Err(_) => {}
            },
        }
        pause = REPEAT_AFTER;
    }
}

/// Says no, to those who understand it; others would take it for a broken answer.
async fn refuse(ctx: &Context, incoming: &Incoming, reason: RefusalReason) {
    if incoming.request.extension.is_none() {
        return;
    }
    let refusal = PeerRequest {
        id: incoming.request.id,
        ice_message: String::new(),
        is_answer: true,
        connection_type: String::new(),
        extension: Some(Extension { refused: Some(reason) }),
    };
    if let Err(error) = ctx.signalling.send(&incoming.sender, incoming.at, &refusal).await {
        tracing::debug!(%error, "the refusal could not be stored");
    }
}

/// Refuses for lack of room, without having looked anything up.
pub(crate) async fn refuse_busy(ctx: Arc<Context>, incoming: Incoming) {
    refuse(&ctx, &incoming, RefusalReason::Busy).await;
}

/// What the node says about an attempt that failed.
pub(crate) fn failed(id: ConnectionId, device: DeviceId, origin: Origin, error: ConnectError) -> Event {
    match origin {
        Origin::Dialled => Event::ConnectFailed { connection: id, device, error },
        Origin::Answered => Event::IncomingFailed { device, error },
    }
}

/// A chain given by the program instead of found: both kinds of key may be in use, the newer is tried.
pub(crate) fn known_chain(chain: towline_identity::Chain) -> FoundCertificate {
    FoundCertificate { chain, at: CertificateKey::Long }
}
