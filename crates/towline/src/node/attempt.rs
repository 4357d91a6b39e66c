//! One attempt at a connection, from either side, as a future: certificate, signalling, path, handshake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use towline_ice::{Candidate, Description, Role};
use towline_identity::{Chain, DeviceId, PublicKey};

use super::asking::{ask, refuse};
use super::context::Context;
use super::known::Known;
use super::passport::Passport;
use super::progress::Progress;
use crate::connection::bundle::{Introduction, Later, Wires, shake};
use crate::connection::secure::{Secured, secure};
use crate::dht::{FindCertificateError, FoundCertificate};
use crate::eras::{DeviceIds, Eras};
use crate::error::{CloseReason, ConnectError, Step};
use crate::info::{ConnectionId, ConnectionState, Origin, PathInfo, PathTransport, Timeline};
use crate::path::{Gathered, NegotiationError};
use crate::policy::Peer;
use crate::report::Journal;
use crate::signal::{Further, Incoming, LaterCandidates, PeerRequest, RefusalReason, StaticKey};
use crate::tokens::Tokens;

/// Longest wait for our own certificate to be published before a device is asked that looks for it then. It takes two
/// rounds through the DHT; a node that has run for a while does not wait.
const PUBLISHED_FIRST: Duration = Duration::from_secs(1);

/// How long a request or an answer waits for what the outside says of us; what comes later follows it.
const FIRST_WORDS: Duration = Duration::from_millis(100);
/// Candidates that come later are gathered for this time before they are sent,
const GATHER: Duration = Duration::from_millis(50);
/// in this many values at first, and then in one after each pause: a connection may look for new paths as long as it lives.
const LATER_VALUES: u32 = 8;
const LATER_PAUSE: Duration = Duration::from_secs(4);
/// As many wait.
const LATER_QUEUE: usize = 8;
/// How long one value may hold up the next, which knows more.
const LATER_PATIENCE: Duration = Duration::from_secs(5);

/// A device that asks may still be publishing its certificate: it is looked for again after these times.
const LOOK_AGAIN: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

/// A connection that stands.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) id: ConnectionId,
    pub(crate) origin: Origin,
    pub(crate) secured: Secured,
    pub(crate) peer: Peer,
    /// The peer's chain and the kind of key it uses; spares the lookup next time.
    pub(crate) known: Known,
    pub(crate) path: PathInfo,
    pub(crate) timeline: Timeline,
    pub(crate) journal: Arc<Journal>,
    /// Whether the policy admits the peer. One that was dialled may stand without.
    pub(crate) admitted: bool,
    /// The age of the policy when that was found.
    pub(crate) judged: u64,
}

/// One attempt: what it is about, and how far it is.
struct Attempt {
    ctx: Arc<Context>,
    id: ConnectionId,
    device: DeviceId,
    origin: Origin,
    progress: Arc<Progress>,
    /// Cancelled when the attempt is to end where only it can end it properly.
    stop: CancellationToken,
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
        stop: CancellationToken,
    ) -> Self {
        let attempt = Self {
            ctx,
            id,
            device,
            origin,
            progress,
            stop,
            steps: Steps::new(),
            timeline: Timeline::default(),
        };
        attempt.reach(ConnectionState::Signalling);
        attempt
    }

    /// Tells whoever listens and whoever asks.
    fn reach(&self, state: ConnectionState) {
        self.progress.reach(state);
        self.ctx.progress(self.id, self.device, state, self.steps.began);
    }

    /// The peer's certificate, and who the peer therefore is. Where the peer is to be admitted, a chain that the policy
    /// admits is preferred to any other: strangers can publish chains for the device's key, too.
    async fn meet(&mut self, known: Option<Known>, ids: DeviceIds) -> Result<(Known, Peer), ConnectError> {
        let ctx = Arc::clone(&self.ctx);
        let to_admit = self.origin == Origin::Answered;
        let good = |chain: &Chain| if to_admit { ctx.admits_chain(chain) } else { ctx.peer(chain).is_ok() };
        let known = match known {
            Some(known) if good(&known.chain) => known,
            known => match find_published(&ctx, ids, good, if to_admit { &LOOK_AGAIN } else { &[] }).await {
                Ok(found) => found.into(),
                // Not good, but what there is.
                Err(error) => known.ok_or(error)?,
            },
        };
        self.progress.journal.met(&known.chain);
        let peer = ctx.peer(&known.chain)?;
        self.progress.met(&peer);
        self.timeline.certificate = self.steps.lap();
        self.progress.journal.enter(self.steps.last, Step::Signalling);
        Ok((known, peer))
    }

    /// The peer may have said what its clock shows.
    fn compare_clocks(&self, said: &Incoming) {
        let clock = said.request.extension.as_ref().and_then(|extension| extension.clock);
        if let Some(theirs) = clock {
            self.progress.journal.compare_clocks(theirs, self.ctx.net.unix_time());
        }
    }

    /// Whose device the peer is by its own account. Any account can vouch for the key of any device, unasked, and
    /// publish that; the chain presented in the handshake is the one that the device itself signed for. A device that presents
    /// no more than its own certificate is taken for what was found.
    fn confirm(
        &self,
        known: &mut Known,
        peer: Peer,
        secured: &Secured,
    ) -> Result<(Peer, bool), ConnectError> {
        let presented = secured.carrier.peer_chain().filter(|chain| chain.account().is_some());
        if let Some(chain) = presented
            && *chain != known.chain
        {
            known.chain = chain.clone();
        }
        // Also if it is the same: lists of what is revoked may have come since.
        let peer = if known.chain == peer.chain {
            self.ctx.config.revocations.check(&peer.chain).map_err(ConnectError::Revoked)?;
            peer
        } else {
            self.ctx.peer(&known.chain)?
        };
        let admitted = self.ctx.admits(&peer);
        if self.origin == Origin::Answered && !admitted {
            return Err(ConnectError::NotAdmitted);
        }
        Ok((peer, admitted))
    }

    /// Path and handshake, the same from both sides.
    async fn connect(
        mut self,
        mut known: Known,
        peer: Peer,
        gathered: Gathered,
        remote: Description,
        keys: Option<(Passport, StaticKey)>,
        later: Later,
    ) -> Result<Attempted, ConnectError> {
        self.timeline.signalling = self.steps.lap();
        self.progress.journal.enter(self.steps.last, Step::Path);
        self.reach(ConnectionState::Path);
        let (mut secured, path) = match keys {
            Some((passport, key)) => {
                self.connect_by_transport(gathered, remote, passport, key, &known, later).await?
            }
            None => self.connect_by_tls(gathered, remote).await?,
        };
        self.timeline.tls = self.steps.lap();
        let judged = self.ctx.policy_age();
        let (peer, admitted) = match self.confirm(&mut known, peer, &secured) {
            Ok(confirmed) => confirmed,
            Err(error) => {
                // The peer holds the connection for established.
                secured.carrier.end(&CloseReason::NotAdmitted).await;
                return Err(error);
            }
        };
        let Self { id, origin, timeline, progress, .. } = self;
        let journal = Arc::clone(&progress.journal);
        Ok(Attempted { id, origin, secured, peer, known, path, timeline, journal, admitted, judged })
    }

    /// On the channeler transport: both know each other's keys for it. Paths go on being looked for afterwards.
    async fn connect_by_transport(
        &mut self,
        gathered: Gathered,
        remote: Description,
        passport: Passport,
        StaticKey(peer): StaticKey,
        known: &Known,
        later: Later,
    ) -> Result<(Secured, PathInfo), ConnectError> {
        let ctx = Arc::clone(&self.ctx);
        let (net, config) = (&ctx.net, &ctx.config);
        let mut wires = Wires::new(gathered, remote, later, Arc::clone(&self.progress.journal));
        let first = wires.first(config.limits.path_timeout).await.map_err(|error| self.no_path(error))?;
        let path = first.info();
        self.timeline.path = self.steps.lap();
        self.progress.journal.enter(self.steps.last, Step::Tls);
        self.reach(ConnectionState::Securing);
        let introduction = Introduction {
            key: passport.key,
            credentials: passport.credentials,
            peer,
            device: self.device,
            known: known.chain.clone(),
            transport: config.transport(),
            bounds: config.bounds(),
            unix_time: i64::try_from(net.unix_time().as_secs()).unwrap_or(i64::MAX),
            seed: net.seed(),
        };
        let secured = shake(wires, &first, introduction, config.limits.tls_timeout, &self.stop).await?;
        Ok((secured, path))
    }

    /// On TLS, over the one path that is selected.
    async fn connect_by_tls(
        &mut self,
        gathered: Gathered,
        remote: Description,
    ) -> Result<(Secured, PathInfo), ConnectError> {
        let ctx = Arc::clone(&self.ctx);
        let limits = &ctx.config.limits;
        let selected = gathered
            .negotiate(remote, &self.progress.journal, limits.path_timeout)
            .await
            .map_err(|error| self.no_path(error))?;
        let path = PathInfo { transport: PathTransport::Tcp, local: selected.local, remote: selected.remote };
        self.timeline.path = self.steps.lap();
        self.progress.journal.enter(self.steps.last, Step::Tls);
        self.reach(ConnectionState::Securing);
        let mux = ctx.config.mux();
        let secured = secure(selected, &ctx.tls, mux, self.device, limits.tls_timeout, &self.stop).await?;
        Ok((secured, path))
    }

    fn no_path(&self, error: NegotiationError) -> ConnectError {
        for server in self.ctx.means.servers() {
            tracing::debug!(id = %self.id, %server, "without a path");
        }
        match error {
            NegotiationError::Failed(report) => ConnectError::NoPath(Arc::new(report)),
            NegotiationError::TimedOut => {
                ConnectError::TimedOut { step: Step::Path, waited: self.ctx.config.limits.path_timeout }
            }
        }
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

/// What the device that is dialled has to say.
#[derive(Debug)]
pub(crate) struct Replies {
    /// Its answer, when it comes.
    pub(crate) answer: oneshot::Receiver<Incoming>,
    /// Its candidates that come later.
    pub(crate) later: mpsc::Receiver<Box<Further>>,
}

/// Dials `device`.
pub(crate) async fn dial(
    ctx: Arc<Context>,
    id: ConnectionId,
    device: DeviceId,
    known: Option<Known>,
    Replies { answer, later }: Replies,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Attempted, ConnectError> {
    let mut attempt =
        Attempt::new(Arc::clone(&ctx), id, device, Origin::Dialled, Arc::clone(&progress), stop);
    // The outside is asked while the device is looked for.
    let passport = ctx.passport().await;
    let mut gathered = gather(&ctx, Role::Controlled, passport.is_some())?;
    let began = towline_net::now();
    progress.journal.view(began, gathered.view());
    let (mut known, peer) = gathered.meanwhile(attempt.meet(known, device.into())).await?;
    // The device looks for our certificate as soon as it is asked. Without one that is published it may find it all the same.
    let published = tokio::time::timeout(PUBLISHED_FIRST, ctx.registered());
    let _ = gathered.meanwhile(published).await;
    let asked = towline_net::now().saturating_duration_since(began);
    gathered.hear_outside(FIRST_WORDS.saturating_sub(asked)).await;
    progress.journal.view(towline_net::now(), gathered.view());
    // The requester is controlled in ICE and the server in TLS.
    let request = PeerRequest {
        id: id.0,
        ice_message: gathered.description().to_blob(),
        is_answer: false,
        connection_type: String::new(),
        extension: ctx.extension(passport.as_ref(), &gathered),
    };
    let incoming = gathered.meanwhile(ask(&ctx, &known, &request, answer, &progress)).await?;
    attempt.compare_clocks(&incoming);
    let Incoming { request: answer, at, .. } = incoming;
    if let Some(reason) = answer.extension.as_ref().and_then(|extension| extension.refused) {
        return Err(ConnectError::Refused(reason));
    }
    let remote = parse_candidates(&answer)?;
    // It answers on the kind of key that it was asked by.
    known.at = Some(at);
    let to = Recipient { key: known.chain.public_key().clone(), eras: ctx.config.eras.narrowed_to(known.at) };
    let later = follow(&ctx, &attempt, to, later, [&request, &answer]);
    let keys = passport.zip(answer.extension.and_then(|extension| extension.channeler));
    attempt.connect(known, peer, gathered, remote, keys, later).await
}

/// Answers a request. The decision of the policy is made here, once the certificate is known.
pub(crate) async fn answer(
    ctx: Arc<Context>,
    incoming: Incoming,
    known: Option<Known>,
    later: mpsc::Receiver<Box<Further>>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Attempted, ConnectError> {
    let (id, device) = (ConnectionId(incoming.request.id), incoming.sender.device_id());
    let mut attempt = Attempt::new(Arc::clone(&ctx), id, device, Origin::Answered, progress, stop);
    // A peer of the old era publishes its certificate under its short id only, which is known where its key is.
    let (mut known, peer) = match attempt.meet(known, DeviceIds::from(&incoming.sender)).await {
        Ok(met) => met,
        Err(error) => {
            if matches!(error, ConnectError::Revoked(_)) {
                refuse(&ctx, &incoming, RefusalReason::Revoked).await;
            }
            return Err(error);
        }
    };
    attempt.compare_clocks(&incoming);
    known.at.get_or_insert(incoming.at);
    if !ctx.admits(&peer) {
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
    // Who asked for TLS gets that.
    let key = incoming.request.extension.as_ref().and_then(|extension| extension.channeler);
    let passport = if key.is_some() { ctx.passport().await } else { None };
    let mut gathered = gather(&ctx, Role::Controlling, passport.is_some())?;
    gathered.hear_outside(FIRST_WORDS).await;
    let reply = PeerRequest {
        id: incoming.request.id,
        ice_message: gathered.description().to_blob(),
        is_answer: true,
        connection_type: String::new(),
        extension: ctx.extension(passport.as_ref(), &gathered),
    };
    let to = Recipient { key: incoming.sender.clone(), eras: incoming.answer_at() };
    let later = follow(&ctx, &attempt, to, later, [&reply, &incoming.request]);
    // Checks begin while the answer is on its way: the peer takes them up when it has read it.
    let send = async {
        if let Err(error) = ctx.signalling.send(&incoming.sender, incoming.answer_at(), &reply).await {
            tracing::debug!(%device, %error, "the answer could not be stored");
        }
        // The path decides; this branch only has to have run.
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        biased;
        result = attempt.connect(known, peer, gathered, remote, passport.zip(key), later) => result,
        never = send => match never {},
    }
}

/// Looks for the certificate of a device, and where there is none, again after these times.
async fn find_published(
    ctx: &Context,
    ids: DeviceIds,
    good: impl Fn(&Chain) -> bool,
    again: &[Duration],
) -> Result<FoundCertificate, ConnectError> {
    let mut found = find_certificate(ctx, ids, &good).await;
    for pause in again {
        if !matches!(found, Err(ConnectError::Certificate(FindCertificateError::NotFound(_)))) {
            break;
        }
        tokio::time::sleep(*pause).await;
        found = find_certificate(ctx, ids, &good).await;
    }
    found
}

/// Looks for the certificate of a device where this node looks, preferring chains that are `good`.
pub(crate) async fn find_certificate(
    ctx: &Context,
    ids: DeviceIds,
    good: impl FnMut(&Chain) -> bool,
) -> Result<FoundCertificate, ConnectError> {
    let limit = ctx.config.limits.certificate_timeout;
    match tokio::time::timeout(limit, ctx.dht.find_certificate_in(ctx.config.eras, ids, good)).await {
        Ok(found) => found.map_err(ConnectError::Certificate),
        Err(_) => Err(ConnectError::TimedOut { step: Step::Certificate, waited: limit }),
    }
}

impl From<FindCertificateError> for ConnectError {
    fn from(error: FindCertificateError) -> Self {
        Self::Certificate(error)
    }
}

fn gather(ctx: &Context, role: Role, udp: bool) -> Result<Gathered, ConnectError> {
    let mut gathered = Gathered::new(Arc::clone(&ctx.net), &ctx.path, role, udp)
        .map_err(|error| ConnectError::NoSocket(error.kind()))?;
    // Of use to Towlines only.
    if udp {
        gathered.look_outside(&ctx.means);
    }
    Ok(gathered)
}

/// Where the peer of an attempt listens.
struct Recipient {
    key: PublicKey,
    eras: Eras,
}

/// Both directions of what follows the first words: ours, and those of the peer.
fn follow(
    ctx: &Arc<Context>,
    attempt: &Attempt,
    to: Recipient,
    theirs: mpsc::Receiver<Box<Further>>,
    [said, heard]: [&PeerRequest; 2],
) -> Later {
    let (ours, mut waiting) = mpsc::channel::<Box<Further>>(LATER_QUEUE);
    let ctx = Arc::clone(ctx);
    let (id, by_dialler) = (attempt.id.0, attempt.origin == Origin::Dialled);
    // Ends with the paths that it speaks for.
    tokio::spawn(async move {
        let mut allowed = Tokens::new(LATER_VALUES, LATER_PAUSE, towline_net::now());
        while let Some(mut further) = waiting.recv().await {
            tokio::time::sleep(GATHER).await;
            if let Some(at) = allowed.next() {
                towline_net::sleep_until(at).await;
            }
            allowed.take(towline_net::now());
            while let Ok(next) = waiting.try_recv() {
                // A restart makes what is older obsolete.
                if next.trickle.ufrag == further.trickle.ufrag && next.restart.is_none() {
                    further.trickle.candidates.extend(next.trickle.candidates);
                    further.trickle.end |= next.trickle.end;
                    further.party = next.party.or(further.party);
                    further.plight = next.plight.or(further.plight);
                } else {
                    further = next;
                }
            }
            let Further { trickle, restart, party, plight } = *further;
            if restart.is_some() {
                // The connection may not work any more. The answer comes by the DHT then, which may not know that we are elsewhere.
                let _ = ctx.dht.listen_anew().await;
            }
            let later = LaterCandidates { id, by_dialler, trickle, restart, party, plight };
            // Apart, as this task lives as long as the connection and mostly waits.
            let send = Box::pin(ctx.signalling.send_later(&to.key, to.eras, &later));
            match tokio::time::timeout(LATER_PATIENCE, send).await {
                Ok(Err(error)) => tracing::debug!(%error, "further candidates could not be stored"),
                Err(_) => tracing::debug!("nobody has confirmed further candidates"),
                Ok(Ok(_)) => {}
            }
        }
    });
    let [said, heard] = [said, heard].map(|words| words.extension.as_ref());
    let told = said.and_then(|extension| extension.party);
    let (more, party) = heard.map_or((false, None), |extension| (extension.more, extension.party));
    Later { ours, theirs, more, told, party }
}

fn parse_candidates(request: &PeerRequest) -> Result<Description, ConnectError> {
    let mut description = parse_blob(&request.ice_message)?;
    let datagrams = request.extension.as_ref().and_then(|extension| extension.datagrams.as_deref());
    if let Some(datagrams) = datagrams {
        let known = description.candidates.clone();
        let more = |candidate: &Candidate| {
            let place = (candidate.transport, candidate.address);
            !known.iter().any(|known| (known.transport, known.address) == place)
        };
        description.candidates.extend(parse_blob(datagrams)?.candidates.into_iter().filter(more));
    }
    Ok(description)
}

fn parse_blob(blob: &str) -> Result<Description, ConnectError> {
    let parsed = Description::from_blob(blob.as_bytes()).map_err(ConnectError::BadCandidates)?;
    for skipped in &parsed.skipped {
        tracing::debug!(line = skipped.line, reason = %skipped.reason, "candidate skipped");
    }
    Ok(parsed.description)
}

/// Refuses for lack of room, without having looked anything up.
pub(crate) async fn refuse_busy(ctx: Arc<Context>, incoming: Incoming) {
    refuse(&ctx, &incoming, RefusalReason::Busy).await;
}
