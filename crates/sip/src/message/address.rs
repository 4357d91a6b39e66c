//! Addresses: From, To, Contact (RFC 3261 20.10).

use std::fmt;

use super::{HeaderName, Parameters, Uri};
use crate::error::ParseError;
use crate::text::{find_outside, is_token_byte, quote, trim, unquote};

/// `"display name" <uri>;parameters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The display name, without quotes.
    pub display: Option<String>,
    /// The URI.
    pub uri: Uri,
    /// Parameters of the header field, the tag among them.
    pub parameters: Parameters,
}

impl Address {
    /// An address without display name and parameters.
    pub fn new(uri: impl Into<Uri>) -> Self {
        Self { display: None, uri: uri.into(), parameters: Parameters::new() }
    }

    /// With this display name. Control characters in it become spaces.
    #[must_use]
    pub fn with_display(mut self, name: &str) -> Self {
        let clean = |character: char| if character.is_control() { ' ' } else { character };
        self.display = Some(name.chars().map(clean).collect());
        self
    }

    /// With this tag.
    ///
    /// # Panics
    ///
    /// If `tag` contains a control character.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        assert!(crate::text::is_line(tag), "a tag stands on one line");
        self.parameters.set("tag", Some(tag));
        self
    }

    /// The tag, which tells apart who takes part in a dialog (19.3).
    pub fn tag(&self) -> Option<&str> {
        self.parameters.value("tag")
    }

    /// Reads the value of the header field `name`.
    pub(crate) fn parse(text: &str, name: HeaderName) -> Result<Self, ParseError> {
        Self::read(text).ok_or(ParseError::Value(name))
    }

    fn read(text: &str) -> Option<Self> {
        let (display, uri, rest) = match find_angle(text) {
            Some(open) => {
                let close = open + text[open..].find('>')?;
                (display(trim(&text[..open]))?, &text[open + 1..close], &text[close + 1..])
            }
            // Without brackets what follows a semicolon belongs to the field, not to the URI.
            None => {
                let end = text.find(';').unwrap_or(text.len());
                let uri = trim(&text[..end]);
                if uri.contains([',', '?']) {
                    return None;
                }
                (None, uri, &text[end..])
            }
        };
        let rest = trim(rest);
        let parameters = match rest.strip_prefix(';') {
            Some(rest) => Parameters::parse(rest)?,
            None if rest.is_empty() => Parameters::new(),
            None => return None,
        };
        Some(Self { display, uri: trim(uri).parse().ok()?, parameters })
    }
}

/// Where the first `<` outside a quoted string stands.
fn find_angle(text: &str) -> Option<usize> {
    find_outside(text, b"<")
}

/// A quoted string or tokens; `None` if it is neither.
#[expect(clippy::option_option, reason = "broken and absent are two things")]
fn display(text: &str) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    if text.starts_with('"') {
        return unquote(text).map(Some);
    }
    let tokens = text.bytes().all(|byte| is_token_byte(byte) || matches!(byte, b' ' | b'\t'));
    tokens.then(|| Some(text.to_owned()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "{} ", quote(display))?;
        }
        write!(f, "<{}>{}", self.uri, self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Address> {
        Address::parse(text, HeaderName::To).ok()
    }

    #[test]
    fn addresses_of_all_shapes() {
        let full = read(r#""A \"x\" <b>" <sip:a@ring.dht;lr>;tag=1;x"#).unwrap();
        assert_eq!(full.display.as_deref(), Some("A \"x\" <b>"));
        assert_eq!((full.tag(), full.parameters.get("X")), (Some("1"), Some(None)));
        assert_eq!(full.to_string(), r#""A \"x\" <b>" <sip:a@ring.dht;lr>;tag=1;x"#);
        let bare = read("sip:a@b ; tag = 7").unwrap();
        assert_eq!((bare.tag(), bare.uri.to_string().as_str()), (Some("7"), "sip:a@b"));
        let tokens = read("Mr. Watson <sip:w@b>").unwrap();
        assert_eq!(tokens.display.as_deref(), Some("Mr. Watson"));
        assert_eq!(read("<tel:+1>").unwrap().uri, Uri::Other("tel:+1".into()));
    }

    #[test]
    fn broken_addresses_are_refused() {
        for text in [
            "",
            "<>",
            "<sip:a@b",
            "sip:a@b>",
            "\"a <sip:a@b>",
            "a, b <sip:a@b>",
            "<sip:a@b> x",
            "<sip:a@b>;",
            "<sip:a@b>;tag=1;tag=2",
            "sip:a@b?x=y",
            "<sip:a@b>;tag=\"",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
