//! `towline account revoke`: takes a device away from its account.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use towline::ConnectionPolicy;
use towline::account::revocation;
use towline::dht::{Dht, PutOptions};
use towline::identity::{CertificateId, Chain, Identity};

use super::{account, key_source};
use crate::args::Revoke;
use crate::event::AccountEvent;
use crate::failure::Failure;
use crate::home::{Home, unix_time};
use crate::ids::Remote;
use crate::output::Output;

/// How long the farewell to the DHT may take.
const SHUTDOWN: Duration = Duration::from_secs(2);

pub(super) async fn run(args: Revoke, output: &Output) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let this = home.identity()?;
    let (account, _) = account(&home, &this, key_source(&args.password), output).await?;
    let config = args.network.passing_config(ConnectionPolicy::RefuseAll).dht;
    // Without the identity: this node publishes nothing of this device.
    let dht = Dht::start(Arc::new(towline::net::Os), config, None)
        .await
        .map_err(|error| Failure::Internal(format!("the DHT node could not be started: {error}")))?;
    let result = revoke(&home, &this, &account, &args, &dht, output).await;
    // A node that does not end in time is left behind by the end of the process.
    let _ = tokio::time::timeout(SHUTDOWN, dht.shutdown()).await;
    result
}

async fn revoke(
    home: &Home,
    this: &Identity,
    account: &Identity,
    args: &Revoke,
    dht: &Dht,
    output: &Output,
) -> Result<(), Failure> {
    let deadline = Instant::now() + args.timeout;
    let chain = find(home, &args.device, dht, deadline).await?;
    let device = chain.leaf();
    if device.device_id() == this.device_id() {
        return Err(Failure::Usage(
            "that is this device, which would lock itself out: revoke it from another one".to_owned(),
        ));
    }
    let refused = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", device.device_id()));
    device.verify_issued_by(account.chain().leaf()).map_err(|_| refused(&"not a device of this account"))?;
    let known = home.revocations(this)?;
    let earlier = known.lists_of(account.chain().leaf());
    let list = account
        .revoke(earlier, std::slice::from_ref(device), unix_time())
        .map_err(|error| refused(&error))?;
    let path = home.keep_list(account, &list).map_err(|error| {
        Failure::Local(format!("the revocation list cannot be kept in {}: {error}", home.path().display()))
    })?;
    let key = revocation::key(account.short_id().into());
    let put = async {
        dht.connected().await.ok()?;
        dht.put(key, revocation::value(&list), PutOptions::default()).await.ok()
    };
    let published = timeout_at(deadline, put).await.ok().flatten();
    output.say(
        &AccountEvent::DeviceRevoked {
            account: account.short_id().to_string(),
            device: device.device_id().to_string(),
            short_id: device.short_id().to_string(),
            list: path,
            published_on: published.map_or(0, |outcome| outcome.stored_on),
        }
        .into(),
    );
    Ok(())
}

/// The certificate of the device: here, or on the DHT.
async fn find(home: &Home, device: &Remote, dht: &Dht, deadline: Instant) -> Result<Chain, Failure> {
    let id = match device {
        Remote::Certificate(chain) => return Ok(chain.clone()),
        Remote::Device(id) => CertificateId::Long(*id),
        Remote::Short(id) => CertificateId::Short(*id),
    };
    if let Some(chain) = home
        .certificate(id)
        .map_err(|error| Failure::Local(format!("certificates in {}: {error}", home.path().display())))?
    {
        return Ok(chain);
    }
    let found = timeout_at(deadline, async {
        match device {
            Remote::Short(id) => dht.find_certificate_by_short_id(*id).await,
            Remote::Device(id) => dht.find_certificate(*id).await,
            Remote::Certificate(_) => unreachable!("it was returned above"),
        }
    });
    match found.await {
        Ok(Ok(found)) => Ok(found.chain),
        _ => Err(Failure::Unreachable {
            step: "certificate".to_owned(),
            message: format!(
                "the certificate of {id} is neither here nor on the DHT: give it as @FILE, or try again while the device is \
                 online"
            ),
        }),
    }
}
