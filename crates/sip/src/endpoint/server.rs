//! Requests of the peer that are under way (RFC 3261 17.2), over a transport that loses nothing.

use std::time::Instant;

use crate::limits::Timers;
use crate::message::{Essentials, HeaderName, Headers, MAGIC_COOKIE, Method, Request};

/// What identifies a transaction of the peer: 17.2.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn of(essentials: &Essentials) -> Self {
        let via = &essentials.via;
        match via.branch() {
            Some(branch) if has_cookie(branch) => {
                let port = via.port.unwrap_or_default();
                Self(format!("{branch} {} {port}", via.host).to_ascii_lowercase())
            }
            // Senders of the time before branches were unique: ACK and CANCEL repeat the rest of the request.
            _ => {
                let tag = essentials.from.tag().unwrap_or_default();
                Self(format!("{via} {} {} {tag}", essentials.call_id, essentials.cseq.number))
            }
        }
    }
}

fn has_cookie(branch: &str) -> bool {
    branch.get(..MAGIC_COOKIE.len()).is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) key: Key,
    pub(super) method: Method,
    pub(super) state: State,
    /// What its responses repeat.
    pub(super) echo: Echo,
}

#[derive(Debug)]
pub(super) enum State {
    /// The program has not decided.
    Undecided {
        /// The last provisional response, to be repeated.
        provisional: Option<Vec<u8>>,
        /// When an INVITE is told that it arrived, unless it was told more.
        trying: Option<Instant>,
        /// When nobody waits any more.
        until: Instant,
    },
    /// An INVITE that was refused awaits its ACK.
    Refused {
        /// To be repeated.
        response: Vec<u8>,
        /// When the ACK is given up (timer H).
        until: Instant,
    },
}

impl Server {
    pub(super) fn new(key: Key, method: Method, echo: Echo, now: Instant, timers: &Timers) -> Self {
        let (trying, until) = match method {
            Method::Invite => (Some(now + timers.trying), now + timers.ringing),
            _ => (None, now + timers.transaction),
        };
        Self { key, method, state: State::Undecided { provisional: None, trying, until }, echo }
    }

    /// What a repetition of the request gets: the last response (17.2.1, 17.2.2).
    pub(super) fn repeated(&self) -> Option<Vec<u8>> {
        match &self.state {
            State::Undecided { provisional, .. } => provisional.clone(),
            State::Refused { response, .. } => Some(response.clone()),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        match &self.state {
            State::Undecided { trying, until, .. } => trying.map_or(*until, |trying| trying.min(*until)),
            State::Refused { until, .. } => *until,
        }
    }
}

/// The header fields that responses take from their request (8.2.6.2).
#[derive(Debug, Clone)]
pub(super) struct Echo {
    vias: Vec<String>,
    from: String,
    to: String,
    call_id: String,
    cseq: String,
}

impl Echo {
    /// `None` if one of them is missing, so that no response finds its way. `tag` is ours, for To; it is not used if
    /// To has one.
    pub(super) fn of(request: &Request, tag: &str) -> Option<Self> {
        let headers = &request.headers;
        let value = |name| headers.get(&name).map(str::to_owned);
        let vias: Vec<_> = headers.all(&HeaderName::Via).map(str::to_owned).collect();
        let mut to = value(HeaderName::To)?;
        let tagged = crate::message::Address::parse(&to, HeaderName::To).is_ok_and(|to| to.tag().is_some());
        if !tagged {
            to.push_str(";tag=");
            to.push_str(tag);
        }
        let echo = Self {
            vias,
            from: value(HeaderName::From)?,
            to,
            call_id: value(HeaderName::CallId)?,
            cseq: value(HeaderName::CSeq)?,
        };
        (!echo.vias.is_empty()).then_some(echo)
    }

    /// With the To of another request of the same transaction.
    pub(super) fn tagged_as(&self, other: &Self) -> Self {
        Self { to: other.to.clone(), ..self.clone() }
    }

    /// The header fields a response begins with.
    pub(super) fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        for via in &self.vias {
            headers.add(HeaderName::Via, via);
        }
        headers.add(HeaderName::From, &self.from);
        headers.add(HeaderName::To, &self.to);
        headers.add(HeaderName::CallId, &self.call_id);
        headers.add(HeaderName::CSeq, &self.cseq);
        headers
    }
}
