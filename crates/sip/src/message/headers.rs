//! The header fields of a message.

use super::HeaderName;
use crate::error::ParseError;
use crate::text::{is_line, split_outside, trim};

/// Header fields in the order of the message. Values are without folding and without spaces around them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, String)>);

impl Headers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field at the end. Fails with [`ParseError::Control`] if `value` does not fit on a line.
    pub fn push(&mut self, name: HeaderName, value: impl Into<String>) -> Result<(), ParseError> {
        let value = value.into();
        if !is_line(&value) {
            return Err(ParseError::Control);
        }
        self.0.push((name, value));
        Ok(())
    }

    /// Adds a field whose value was made here, and so fits on a line.
    pub(crate) fn add(&mut self, name: HeaderName, value: impl std::fmt::Display) {
        let value = value.to_string();
        debug_assert!(is_line(&value), "{name}: {value:?}");
        self.0.push((name, value));
    }

    /// Adds a continuation line to the last field. False if there is none.
    pub(crate) fn fold(&mut self, line: &str) -> bool {
        let Some((_, value)) = self.0.last_mut() else { return false };
        let line = trim(line);
        if !value.is_empty() && !line.is_empty() {
            value.push(' ');
        }
        value.push_str(line);
        true
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        self.0.iter().map(|(name, value)| (name, value.as_str()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values of all fields called `name`, as they stand there.
    pub fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The value of the first field called `name`.
    pub fn get(&self, name: &HeaderName) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The value of the field called `name`, which must be there once.
    pub fn one(&self, name: HeaderName) -> Result<&str, ParseError> {
        let mut values = self.iter().filter(|(known, _)| **known == name).map(|(_, value)| value);
        let (first, second) = (values.next(), values.next());
        drop(values);
        match (first, second) {
            (Some(value), None) => Ok(value),
            (None, _) => Err(ParseError::Missing(name)),
            (Some(_), Some(_)) => Err(ParseError::Repeated(name)),
        }
    }

    /// The value of the field called `name`, which may be there once.
    pub fn optional(&self, name: HeaderName) -> Result<Option<&str>, ParseError> {
        match self.one(name) {
            Ok(value) => Ok(Some(value)),
            Err(ParseError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The values of all fields called `name`, those that share a field taken apart if the field is one that is a list.
    pub fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
        // Of a field that is no list the separator is one that no value contains.
        let separator = if name.is_list() { b',' } else { b'\n' };
        self.all(name)
            .flat_map(move |value| split_outside(value, separator))
            .filter(|value| !value.is_empty())
    }
}
