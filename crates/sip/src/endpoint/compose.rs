//! Messages of ours, as the daemon expects them.

use std::fmt::Write as _;
use std::time::Instant;

use rand::Rng as _;

use super::config::{DOMAIN, host};
use super::event::{Unfit, is_media_type};
use super::server::{Echo, State};
use super::{
    Client, ClientId, Endpoint, OutgoingRequest, OutgoingResponse, RequestError, RespondError, ServerId,
};
use crate::message::{
    Address, CSeq, HeaderName, Headers, MAGIC_COOKIE, Method, Request, Response, SipUri, Status,
};

/// Header fields that belong to the endpoint.
const RESERVED: [HeaderName; 11] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::MaxForwards,
    HeaderName::Allow,
    HeaderName::UserAgent,
    HeaderName::ContentType,
    HeaderName::ContentLength,
];

impl Endpoint {
    /// Sends a request. Its answer comes as an [`Event`](super::Event) with the id returned.
    pub fn request(&mut self, now: Instant, request: OutgoingRequest) -> Result<ClientId, RequestError> {
        if self.ended {
            return Err(RequestError::Ended);
        }
        let method = request.method;
        if let Method::Invite | Method::Ack | Method::Cancel | Method::Bye | Method::Info = method {
            return Err(RequestError::NeedsDialog(method));
        }
        if self.clients.len() >= self.config.limits.client_transactions {
            return Err(RequestError::TooMany);
        }
        if self.queued >= self.config.limits.output {
            return Err(RequestError::Full);
        }
        let branch = format!("{MAGIC_COOKIE}{}", self.random());
        let tag = self.random();
        let call_id = self.random();
        self.sequence = self.sequence % (i32::MAX as u32) + 1;
        let config = &self.config;
        let mut from = Address::new(SipUri::new(false, DOMAIN).with_user(&config.account)).with_tag(&tag);
        if let Some(display) = &config.display {
            from = from.with_display(display);
        }
        let mut headers = Headers::new();
        let local = (host(config.local), config.local.port());
        headers.add(
            HeaderName::Via,
            format_args!("SIP/2.0/TLS {}:{};rport;branch={branch};alias", local.0, local.1),
        );
        headers.add(HeaderName::MaxForwards, 70);
        headers.add(HeaderName::From, from);
        headers.add(HeaderName::To, Address::new(config.peer()));
        headers.add(HeaderName::CallId, call_id);
        headers.add(HeaderName::CSeq, CSeq { number: self.sequence, method: method.clone() });
        // RFC 3428 4: a MESSAGE has no Contact, since it creates no dialog.
        if method != Method::Message {
            headers.add(HeaderName::Contact, Address::new(config.contact()));
        }
        headers.add(HeaderName::Allow, allowed());
        headers.add(HeaderName::UserAgent, &config.user_agent);
        add_content(&mut headers, &request.headers, request.content_type.as_deref(), &request.body)?;
        let uri = config.target().into();
        let bytes = Request { method: method.clone(), uri, headers, body: request.body }.to_bytes();
        self.fits(&bytes)?;
        let id = ClientId(self.next_id());
        let until = now + self.config.timers.transaction;
        self.clients.insert(id, Client { branch, method, until });
        self.send(bytes);
        Ok(id)
    }

    /// Answers a request of the peer. After a final response the id is void.
    pub fn respond(
        &mut self,
        now: Instant,
        id: ServerId,
        response: OutgoingResponse,
    ) -> Result<(), RespondError> {
        let server = self.servers.get(&id).ok_or(RespondError::NotAwaited)?;
        if let State::Refused { .. } = server.state {
            return Err(RespondError::NotAwaited);
        }
        if server.method == Method::Invite && response.status.is_success() {
            return Err(RespondError::NeedsDialog);
        }
        let status = response.status;
        let bytes = self.compose(&server.echo, response)?;
        self.fits(&bytes)?;
        if status.is_provisional() {
            self.provisional(id, bytes);
        } else {
            self.finish(now, id, bytes);
        }
        Ok(())
    }

    /// The bytes of a response.
    fn compose(&self, echo: &Echo, response: OutgoingResponse) -> Result<Vec<u8>, Unfit> {
        let mut headers = echo.headers();
        headers.add(HeaderName::Allow, allowed());
        headers.add(HeaderName::UserAgent, &self.config.user_agent);
        add_content(&mut headers, &response.headers, response.content_type.as_deref(), &response.body)?;
        let (status, body) = (response.status, response.body);
        Ok(Response { status, reason: status.phrase().to_owned(), headers, body }.to_bytes())
    }

    /// The bytes of a response of the endpoint's own, which contains nothing a program could get wrong.
    pub(super) fn compose_own(&self, echo: &Echo, status: Status, extra: Headers) -> Vec<u8> {
        let response = OutgoingResponse { headers: extra, ..status.into() };
        self.compose(echo, response).unwrap_or_default()
    }

    /// The same for a request that is under way.
    pub(super) fn compose_plain(&self, id: ServerId, status: Status) -> Vec<u8> {
        let Some(server) = self.servers.get(&id) else { return Vec::new() };
        self.compose_own(&server.echo, status, Headers::new())
    }

    fn fits(&self, bytes: &[u8]) -> Result<(), Unfit> {
        let max = self.config.limits.message_out;
        if bytes.len() > max { Err(Unfit::TooLong { length: bytes.len(), max }) } else { Ok(()) }
    }

    /// 32 hex digits that are not to be guessed.
    pub(super) fn random(&mut self) -> String {
        let mut text = String::with_capacity(32);
        for _ in 0..2 {
            write!(text, "{:016x}", self.rng.next_u64()).expect("a string takes everything");
        }
        text
    }
}

/// The value of Allow.
fn allowed() -> String {
    Method::ALLOWED.each_ref().map(Method::as_str).join(", ")
}

/// Adds what the program wants in the message.
fn add_content(
    headers: &mut Headers,
    extra: &Headers,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<(), Unfit> {
    for (name, value) in extra.iter() {
        if RESERVED.contains(name) {
            return Err(Unfit::Reserved(name.clone()));
        }
        headers.add(name.clone(), value);
    }
    match content_type {
        Some(content_type) if is_media_type(content_type) => {
            headers.add(HeaderName::ContentType, content_type);
        }
        None if body.is_empty() => {}
        _ => return Err(Unfit::ContentType),
    }
    Ok(())
}
