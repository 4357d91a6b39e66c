//! `towline status`: whether this device is in order and can be found.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use towline::ConnectionPolicy;
use towline::dht::{Dht, FindCertificateError};
use towline::identity::{Identity, Trust, TrustStore};

use crate::args::Status as Arguments;
use crate::event::{DhtStatus, Event, NodesSeen, Problem, Status};
use crate::failure::Failure;
use crate::home::{self, Home};
use crate::output::Output;
use crate::text::milliseconds;

/// Certificates that expire sooner than this many days are worth a warning.
const SOON: i64 = 30;
/// How long the farewell to the DHT may take.
const SHUTDOWN: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: Arguments, output: &Output) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let identity = home.identity()?;
    let trust = home.trust()?;
    let config = args.network.passing_config(ConnectionPolicy::RefuseAll).dht;
    let bootstrap = config.bootstrap.clone();
    // Without the identity: this node asks, as any other would, and publishes nothing itself.
    let dht = Dht::start(Arc::new(towline::net::Os), config, None)
        .await
        .map_err(|error| Failure::Internal(format!("the DHT node could not be started: {error}")))?;
    let deadline = Instant::now() + args.timeout;
    let connected = matches!(timeout_at(deadline, dht.connected()).await, Ok(Ok(())));
    let (published, lookup_ms) =
        if connected { look_up(&dht, &identity, deadline).await } else { (None, None) };
    let dht_status = dht_status(&dht, connected, bootstrap).await;
    // Nothing is kept; a node that does not end in time is left behind by the end of the process.
    let _ = tokio::time::timeout(SHUTDOWN, dht.shutdown()).await;

    let mut status = Status {
        home: home.path().to_owned(),
        device: identity.device_id().to_string(),
        short_id: identity.short_id().to_string(),
        account: identity.account_id().map(|id| id.to_string()).unwrap_or_default(),
        certificate_days: days_left(&identity),
        allowed: listed(&trust, Trust::Allowed),
        banned: listed(&trust, Trust::Banned),
        dht: dht_status,
        published,
        lookup_ms,
        problems: Vec::new(),
    };
    status.problems = problems(&status);
    output.say(&Event::Status(Box::new(status)));
    if connected {
        return Ok(());
    }
    Err(Failure::Unreachable {
        step: "dht".to_owned(),
        message: format!("no node of the DHT answered within {:?}", args.timeout),
    })
}

/// Whether others find our certificate, and how long that took.
async fn look_up(dht: &Dht, identity: &Identity, deadline: Instant) -> (Option<bool>, Option<f64>) {
    let began = towline::net::now();
    let found = timeout_at(deadline, dht.find_certificate(identity.device_id())).await;
    let took = Some(milliseconds(began.elapsed()));
    match found {
        Ok(Ok(_)) => (Some(true), took),
        Ok(Err(FindCertificateError::NotFound(_))) => (Some(false), took),
        Ok(Err(FindCertificateError::Lookup(_) | FindCertificateError::IdUnknown(_))) | Err(_) => {
            (None, None)
        }
    }
}

async fn dht_status(dht: &Dht, connected: bool, bootstrap: Vec<String>) -> DhtStatus {
    let nodes = dht.stats().await.unwrap_or_default().nodes;
    let public = dht.public_addresses().await;
    DhtStatus {
        connected,
        bootstrap,
        ipv4: NodesSeen { good: nodes.v4.good, dubious: nodes.v4.dubious },
        ipv6: NodesSeen { good: nodes.v6.good, dubious: nodes.v6.dubious },
        public_addresses: public.into_iter().map(|address| address.to_string()).collect(),
    }
}

fn days_left(identity: &Identity) -> i64 {
    let certificates = identity.chain().certificates().iter();
    let ends = certificates.map(|certificate| certificate.validity().not_after).min();
    ends.unwrap_or(i64::MAX).saturating_sub(home::unix_time()).div_euclid(24 * 60 * 60)
}

fn listed(trust: &TrustStore, wanted: Trust) -> Vec<String> {
    trust.iter().filter(|(_, trust)| *trust == wanted).map(|(id, _)| id.to_string()).collect()
}

/// What is not as it should be, and what to do about it.
fn problems(status: &Status) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |what: &str, advice: &str| {
        problems.push(Problem { what: what.to_owned(), advice: advice.to_owned() });
    };
    if status.certificate_days < SOON {
        add(
            "The certificate of this device expires soon.",
            "Make a new identity with `towline init` in another --home, and give its id to those who know this one.",
        );
    }
    if !status.dht.connected {
        add(
            "No node of the DHT answers.",
            "Check that UDP may leave this network (-v shows more); name a node with --bootstrap; on a local \
             network without internet, use --lan on both sides.",
        );
    }
    if status.published == Some(false) {
        add(
            "Nobody can find this device now.",
            "Run `towline receive` or `towline listen` on it: they publish its certificate as long as they run.",
        );
    }
    if status.dht.connected && status.published.is_none() {
        add("The lookup of this device did not end in time.", "Try again with a longer --timeout.");
    }
    problems
}
