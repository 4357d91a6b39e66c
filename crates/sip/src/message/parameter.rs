//! Parameters: `;name`, `;name=value`, `;name="value"` (RFC 3261 7.3.1).

use std::fmt::{self, Write as _};

use crate::text::{find_outside, is_token, quote, split_outside, trim, unquote};

/// Most parameters that a header field or a URI may have: names are compared with each other.
pub(super) const MAX_PARAMETERS: usize = 32;

/// Parameters of a header field, in the order of the message. Names are case-insensitive and unique.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Box<str>, Option<Box<str>>)>);

impl Parameters {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what follows the first semicolon of a header field.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parameters = Self::default();
        for part in split_outside(text, b';') {
            let (name, value) = match find_outside(part, b"=") {
                Some(at) => {
                    let value = trim(&part[at + 1..]);
                    let said = if value.starts_with('"') { unquote(value)? } else { value.to_owned() };
                    if said.is_empty() && !value.starts_with('"')
                        || !value.starts_with('"') && !is_plain(value)
                    {
                        return None;
                    }
                    (trim(&part[..at]), Some(said.into()))
                }
                None => (part, None),
            };
            if !is_token(name) || parameters.get(name).is_some() || parameters.0.len() == MAX_PARAMETERS {
                return None;
            }
            parameters.0.push((name.into(), value));
        }
        Some(parameters)
    }

    /// The value of `name`: `Some(None)` if it is there without one.
    pub fn get(&self, name: &str) -> Option<Option<&str>> {
        let found = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_deref())
    }

    /// The value of `name`, if it is there and has one.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).flatten()
    }

    /// Adds `name` or changes its value.
    ///
    /// # Panics
    ///
    /// If `name` is not a token.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        assert!(is_token(name), "names of parameters are tokens");
        let value = value.map(Into::into);
        match self.0.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_deref()))
    }
}

/// Whether a value may stand without quotes: a token or a host, which may be an IPv6 address.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && (is_token(value) || value.bytes().all(|b| b.is_ascii_hexdigit() || b"[]:.".contains(&b)))
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            write!(f, ";{name}")?;
            match value {
                Some(value) if is_plain(value) => write!(f, "={value}")?,
                Some(value) => {
                    f.write_char('=')?;
                    f.write_str(&quote(value))?;
                }
                None => {}
            }
        }
        Ok(())
    }
}
