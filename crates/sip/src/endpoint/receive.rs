//! Messages of the peer: which transaction they belong to, and what is answered without asking the program.

use std::time::Instant;

use super::server::{Echo, Key, Server, State};
use super::{Endpoint, Event, ServerId};
use crate::message::{Essentials, HeaderName, Headers, Method, Request, Response, Status, Uri};

/// What becomes of a request.
enum Verdict {
    /// The program is asked.
    Ask,
    /// It is answered here.
    Answer(Status, Headers),
}

impl From<Status> for Verdict {
    fn from(status: Status) -> Self {
        Self::Answer(status, Headers::new())
    }
}

impl Endpoint {
    pub(super) fn handle_request(&mut self, now: Instant, request: Request) {
        let tag = self.random();
        let echo = Echo::of(&request, &tag);
        let essentials = match request.essentials() {
            Ok(essentials) => essentials,
            // What nobody can be told is dropped: an ACK has no answer.
            Err(_) if request.method == Method::Ack => return,
            Err(_) => {
                if let Some(echo) = echo {
                    self.answer(&echo, Status::BAD_REQUEST, Headers::new());
                }
                return;
            }
        };
        let Some(echo) = echo else { return };
        let key = Key::of(&essentials);
        match request.method {
            Method::Ack => self.acknowledged(&key),
            Method::Cancel => self.cancel(now, &key, &echo),
            _ => self.begin(now, key, &echo, request, &essentials),
        }
    }

    fn begin(&mut self, now: Instant, key: Key, echo: &Echo, request: Request, essentials: &Essentials) {
        let known = self.servers.values().find(|server| server.key == key && server.method == request.method);
        if let Some(known) = known {
            if let Some(response) = known.repeated() {
                self.send(response);
            }
            return;
        }
        let asked = match self.judge(&request, essentials) {
            Verdict::Ask => Ok(()),
            Verdict::Answer(status, extra) => Err((status, extra)),
        };
        // A refusal of an INVITE is under way until its ACK; other answers are done when they are given.
        let tracked = asked.is_ok() || request.method == Method::Invite;
        if !tracked || self.servers.len() >= self.config.limits.server_transactions {
            let (status, extra) = asked.err().unwrap_or((Status::SERVICE_UNAVAILABLE, Headers::new()));
            return self.answer(echo, status, extra);
        }
        let id = ServerId(self.next_id());
        let server = Server::new(key, request.method.clone(), echo.clone(), now, &self.config.timers);
        self.servers.insert(id, server);
        match asked {
            Ok(()) => self.events.push_back(Event::Request { id, request }),
            Err((status, extra)) => {
                let response = self.compose_own(echo, status, extra);
                self.finish(now, id, response);
            }
        }
    }

    /// RFC 3261 8.2, in its order.
    fn judge(&self, request: &Request, essentials: &Essentials) -> Verdict {
        // Who it is was shown by the certificate (`spec/files-and-calls.md` 6.3).
        let from = essentials.from.uri.as_sip().and_then(|uri| uri.user.as_deref());
        if !from.is_some_and(|user| user.eq_ignore_ascii_case(&self.config.peer_account)) {
            return Status::FORBIDDEN.into();
        }
        if !Method::ALLOWED.contains(&request.method) {
            return Status::METHOD_NOT_ALLOWED.into();
        }
        if let Uri::Other(_) = request.uri {
            return Status::UNSUPPORTED_URI_SCHEME.into();
        }
        let required: Vec<_> = request.headers.values(&HeaderName::Require).collect();
        if !required.is_empty() {
            let mut unsupported = Headers::new();
            unsupported.add(HeaderName::Unsupported, required.join(", "));
            return Verdict::Answer(Status::BAD_EXTENSION, unsupported);
        }
        let mut encodings = request.headers.values(&HeaderName::ContentEncoding);
        if encodings.any(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            let mut identity = Headers::new();
            identity.add(HeaderName::AcceptEncoding, "identity");
            return Verdict::Answer(Status::UNSUPPORTED_MEDIA_TYPE, identity);
        }
        // There are no dialogs (12.2.2), and these two make sense in one only.
        if essentials.to.tag().is_some() || matches!(request.method, Method::Bye | Method::Info) {
            return Status::NO_SUCH_CALL.into();
        }
        if request.method == Method::Options {
            let mut accept = Headers::new();
            accept.add(HeaderName::Accept, "*/*");
            return Verdict::Answer(Status::OK, accept);
        }
        Verdict::Ask
    }

    /// An ACK ends the wait of a refused INVITE; any other is late or belongs to nothing.
    fn acknowledged(&mut self, key: &Key) {
        self.servers.retain(|_, server| server.key != *key || !matches!(server.state, State::Refused { .. }));
    }

    /// RFC 3261 9.2.
    fn cancel(&mut self, now: Instant, key: &Key, echo: &Echo) {
        let found =
            self.servers.iter().find(|(_, server)| server.key == *key && server.method == Method::Invite);
        let Some((&id, server)) = found else {
            return self.answer(echo, Status::NO_SUCH_CALL, Headers::new());
        };
        let undecided = matches!(server.state, State::Undecided { .. });
        // Both answers carry the same To tag.
        let echo = echo.tagged_as(&server.echo);
        self.answer(&echo, Status::OK, Headers::new());
        if undecided {
            let response = self.compose_plain(id, Status::REQUEST_TERMINATED);
            self.finish(now, id, response);
            self.events.push_back(Event::Cancelled { id });
        }
    }

    /// Sends a final answer and forgets the request.
    fn answer(&mut self, echo: &Echo, status: Status, extra: Headers) {
        let response = self.compose_own(echo, status, extra);
        self.send(response);
    }

    pub(super) fn handle_response(&mut self, response: Response) {
        // A broken response, one that answers nothing, and one that is for somebody else are dropped (18.1.2, 8.1.3.3).
        let Ok(essentials) = response.essentials() else { return };
        if response.headers.values(&HeaderName::Via).count() != 1 {
            return;
        }
        let branch = essentials.via.branch().unwrap_or_default();
        let found = self.clients.iter().find(|(_, client)| {
            client.branch.eq_ignore_ascii_case(branch) && client.method == essentials.cseq.method
        });
        let Some((&id, _)) = found else { return };
        if !response.status.is_provisional() {
            self.clients.remove(&id);
        }
        self.events.push_back(Event::Response { id, response });
    }
}
