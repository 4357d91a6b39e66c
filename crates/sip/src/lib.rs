//! SIP over one reliable stream, without I/O: what Jami speaks on a channel called `sip`
//! (`spec/files-and-calls.md` 3.2, 6.3; RFC 3261).
//!
//! Three layers, each usable without the one above:
//!
//! * [`Message`], [`Request`], [`Response`] and their parts are read and written;
//! * [`StreamParser`] cuts a stream into messages;
//! * [`Endpoint`] is one side of a channel to one device: transactions both ways, and the answers that need no
//!   program (OPTIONS, methods that are not taken, requests in the name of another account).
//!
//! # Driving it
//!
//! * Give received bytes to [`Endpoint::handle_data`], but only while [`Endpoint::wants_data`] says so.
//! * After anything was called, call [`Endpoint::poll_event`] and [`Endpoint::poll_transmit`] until both return `None`,
//!   ask [`Endpoint::wants_data`] again, and call [`Endpoint::handle_timeout`] at [`Endpoint::poll_timeout`].
//! * A [`StreamFault`] is final: close the channel.
//!
//! # Calls
//!
//! There are no dialogs here yet: an INVITE can be refused, not accepted. They fit between transactions and program:
//! a request with a To tag, and BYE and INFO, which are answered 481 today, go to the dialog they name; a 2xx to an
//! INVITE, which [`Endpoint::respond`] refuses today, creates one; so does the INVITE that
//! [`Endpoint::request`] refuses. Enums are open for their events, and what is sent is described by structs that are
//! made by constructors ([`OutgoingRequest`], [`OutgoingResponse`]), so that programs need not change. SDP is a body like any other.

mod endpoint;
mod error;
mod fuzz;
mod limits;
mod message;
mod stream;
mod text;

pub use endpoint::{
    ClientId, Config, Endpoint, Event, OutgoingRequest, OutgoingResponse, RequestError, RespondError,
    ServerId,
};
pub use error::{ParseError, StreamFault};
pub use fuzz::fuzz;
pub use limits::{Limits, Timers};
pub use message::{
    Address, CSeq, Essentials, HeaderName, Headers, MAGIC_COOKIE, Message, Method, Parameters, Request,
    Response, SipUri, Status, Uri, Via,
};
pub use stream::StreamParser;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
