//! Status codes (RFC 3261 21).

use std::fmt;

/// What a response says: a code from 100 to 699.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

impl Status {
    /// The request has arrived.
    pub const TRYING: Self = Self(100);
    /// The user is being told.
    pub const RINGING: Self = Self(180);
    /// Done.
    pub const OK: Self = Self(200);
    /// The request cannot be understood.
    pub const BAD_REQUEST: Self = Self(400);
    /// The request is understood and refused.
    pub const FORBIDDEN: Self = Self(403);
    /// The method is not one that is taken here.
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    /// No answer within the time the caller waits.
    pub const REQUEST_TIMEOUT: Self = Self(408);
    /// The body is longer than what is taken here.
    pub const TOO_LARGE: Self = Self(413);
    /// The body is of a kind that is not taken here.
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self(415);
    /// The URI is of a scheme that is not known here.
    pub const UNSUPPORTED_URI_SCHEME: Self = Self(416);
    /// An extension is required that is not known here.
    pub const BAD_EXTENSION: Self = Self(420);
    /// Nobody could be asked.
    pub const TEMPORARILY_UNAVAILABLE: Self = Self(480);
    /// There is no such call or transaction.
    pub const NO_SUCH_CALL: Self = Self(481);
    /// The user is in another call.
    pub const BUSY_HERE: Self = Self(486);
    /// The request was cancelled.
    pub const REQUEST_TERMINATED: Self = Self(487);
    /// The session asked for is not acceptable.
    pub const NOT_ACCEPTABLE_HERE: Self = Self(488);
    /// A failure inside the server.
    pub const SERVER_ERROR: Self = Self(500);
    /// Too much at once.
    pub const SERVICE_UNAVAILABLE: Self = Self(503);
    /// Another version of the protocol.
    pub const VERSION_NOT_SUPPORTED: Self = Self(505);
    /// The user does not want to.
    pub const DECLINE: Self = Self(603);

    /// The status of `code`; `None` unless it is from 100 to 699.
    pub fn from_code(code: u16) -> Option<Self> {
        (100..=699).contains(&code).then_some(Self(code))
    }

    /// Its code.
    pub fn code(self) -> u16 {
        self.0
    }

    /// Whether a final response is still to come (1xx).
    pub fn is_provisional(self) -> bool {
        self.0 < 200
    }

    /// Whether the request was fulfilled (2xx).
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.0)
    }

    /// The phrase that goes with it; for codes without one here, that of its class.
    pub fn phrase(self) -> &'static str {
        match self.0 {
            100 => "Trying",
            180 => "Ringing",
            183 => "Session Progress",
            200 => "OK",
            202 => "Accepted",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 | 606 => "Not Acceptable",
            408 => "Request Timeout",
            413 => "Request Entity Too Large",
            415 => "Unsupported Media Type",
            416 => "Unsupported URI Scheme",
            420 => "Bad Extension",
            480 => "Temporarily Unavailable",
            481 => "Call/Transaction Does Not Exist",
            486 => "Busy Here",
            487 => "Request Terminated",
            488 => "Not Acceptable Here",
            491 => "Request Pending",
            500 => "Server Internal Error",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            505 => "Version Not Supported",
            600 => "Busy Everywhere",
            603 => "Decline",
            101..200 => "Progress",
            201..300 => "Success",
            300..400 => "Redirection",
            402..500 => "Request Failure",
            502..600 => "Server Failure",
            _ => "Global Failure",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.phrase())
    }
}
