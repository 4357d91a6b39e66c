//! Names of header fields (RFC 3261 20), with their compact forms (7.3.3).

use std::fmt;

use crate::text::is_token;

/// Name, canonical form, compact form, and whether its value is a list that commas separate.
macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident $full:literal $compact:literal $list:literal,)*) => {
        /// The name of a header field. Names are case-insensitive.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub enum HeaderName {
            $($(#[$doc])* $variant,)*
            /// Any other, as it was written.
            Other(Box<str>),
        }

        impl HeaderName {
            /// The header field called `name`, in its full or compact form; `None` if that is not a token.
            pub fn from_name(name: &str) -> Option<Self> {
                $(if name.eq_ignore_ascii_case($full) || !$compact.is_empty() && name.eq_ignore_ascii_case($compact) {
                    return Some(Self::$variant);
                })*
                is_token(name).then(|| Self::Other(name.into()))
            }

            /// Its full form.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $full,)*
                    Self::Other(name) => name,
                }
            }

            /// Whether commas separate several values in one field.
            pub(crate) fn is_list(&self) -> bool {
                match self {
                    $(Self::$variant => $list,)*
                    Self::Other(_) => false,
                }
            }
        }
    };
}

names! {
    /// Media types that are taken.
    Accept "Accept" "" true,
    /// Encodings of bodies that are taken.
    AcceptEncoding "Accept-Encoding" "" true,
    /// Methods that are taken.
    Allow "Allow" "" true,
    /// Identifies a dialog, or a request outside of any.
    CallId "Call-ID" "i" false,
    /// Where further requests go.
    Contact "Contact" "m" true,
    /// Encodings of the body.
    ContentEncoding "Content-Encoding" "e" true,
    /// Length of the body in bytes.
    ContentLength "Content-Length" "l" false,
    /// Media type of the body.
    ContentType "Content-Type" "c" false,
    /// Number and method of a request.
    CSeq "CSeq" "" false,
    /// When it was sent.
    Date "Date" "" false,
    /// Who sent the request.
    From "From" "f" false,
    /// Hops that remain.
    MaxForwards "Max-Forwards" "" false,
    /// Identifies a text; Jami knows by it what it has shown already.
    MessageId "Message-ID" "" false,
    /// Why a request was sent.
    Reason "Reason" "" true,
    /// Proxies that stay in the way of a dialog.
    RecordRoute "Record-Route" "" true,
    /// Extensions the receiver must know.
    Require "Require" "" true,
    /// When to try again.
    RetryAfter "Retry-After" "" false,
    /// Proxies to pass.
    Route "Route" "" true,
    /// What it is about.
    Subject "Subject" "s" false,
    /// Extensions the sender knows.
    Supported "Supported" "k" true,
    /// Whom the request is for.
    To "To" "t" false,
    /// Required extensions that are not known.
    Unsupported "Unsupported" "" true,
    /// The program.
    UserAgent "User-Agent" "" false,
    /// The way back.
    Via "Via" "v" true,
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str().eq_ignore_ascii_case(other.as_str())
    }
}

impl Eq for HeaderName {}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
