//! The request of a dial and what comes back: an answer, a refusal, or nothing.

use std::time::Duration;

use tokio::sync::oneshot;

use super::context::Context;
use super::known::Known;
use super::progress::Progress;
use crate::error::ConnectError;
use crate::signal::{Extension, Incoming, PeerRequest, RefusalReason};

/// A request without an answer is put once more after this time, in case the nodes that held it are gone, or the device
/// listens elsewhere than it did. The recipient drops duplicates.
const REPEAT_AFTER: Duration = Duration::from_secs(8);

/// Sends the request and waits for the answer.
///
/// It goes to the kind of key that the device is known to use, and when it is repeated to every kind that this node uses:
/// where a certificate lies is a hint, as anybody can put it there, and devices are updated.
pub(super) async fn ask(
    ctx: &Context,
    known: &Known,
    request: &PeerRequest,
    mut answer: oneshot::Receiver<Incoming>,
    progress: &Progress,
) -> Result<Incoming, ConnectError> {
    let waited = ctx.config.limits.answer_timeout;
    let deadline = tokio::time::sleep(waited);
    tokio::pin!(deadline);
    let mut eras = ctx.config.eras.narrowed_to(known.at);
    let (mut stored_on, mut asked) = (0, eras);
    let mut pause = Duration::ZERO;
    progress.asks();
    loop {
        let (delay, at) = (pause, eras);
        let put = async {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            // A Jami peer that asks us at this very moment should not be asked again.
            if !delay.is_zero() && progress.is_crossed() {
                return std::future::pending().await;
            }
            ctx.signalling.send(known.chain.public_key(), at, request).await
        };
        tokio::pin!(put);
        tokio::select! {
            biased;
            answer = &mut answer => return answer.map_err(|_| ConnectError::Cancelled),
            () = &mut deadline => return Err(ConnectError::NoAnswer { waited, stored_on, asked }),
            result = &mut put => match result {
                Ok(nodes) => (stored_on, asked) = (stored_on.max(nodes), at),
                Err(error) if delay.is_zero() => {
                    tracing::debug!(%error, "the request could not be stored");
                    return Err(ConnectError::RequestNotStored);
                }
                Err(_) => {}
            },
        }
        pause = REPEAT_AFTER;
        eras = ctx.config.eras;
    }
}

/// Says no, to those who understand it; others would take it for a broken answer.
pub(super) async fn refuse(ctx: &Context, incoming: &Incoming, reason: RefusalReason) {
    if incoming.request.extension.is_none() || !ctx.config.native_dialect {
        return;
    }
    let refusal = PeerRequest {
        id: incoming.request.id,
        ice_message: String::new(),
        is_answer: true,
        connection_type: String::new(),
        extension: Some(Extension { refused: Some(reason), ..Extension::default() }),
    };
    if let Err(error) = ctx.signalling.send(&incoming.sender, incoming.answer_at(), &refusal).await {
        tracing::debug!(%error, "the refusal could not be stored");
    }
}
