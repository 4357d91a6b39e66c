//! Queries: which values at a key are wanted, and which of their fields (`dht.md` 1.9, 2.8).

use std::fmt;
use std::str::FromStr;

use crate::{InfoHash, Value};

/// A field of a value that can be selected; most can also be restricted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Field {
    /// Value id.
    Id = 1,
    /// Value type.
    ValueType = 2,
    /// Key of the owner, by its SHA-1.
    Owner = 3,
    /// Sequence number. Can be selected, but never restricted: peers cannot send or read that.
    Seq = 4,
    /// User type.
    UserType = 5,
}

impl Field {
    /// Every field, in the order of wire numbers.
    pub const ALL: [Self; 5] = [Self::Id, Self::ValueType, Self::Owner, Self::Seq, Self::UserType];

    /// The field with this wire number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.number() == number)
    }

    /// The wire number.
    pub const fn number(self) -> u64 {
        self as u64
    }

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::ValueType => "value_type",
            Self::Owner => "owner_pk",
            Self::Seq => "seq",
            Self::UserType => "user_type",
        }
    }

    /// This field of `value`. An encrypted value has type 0, no owner, seq 0 and an empty user type.
    pub fn of(self, value: &Value) -> FieldValue {
        match self {
            Self::Id => FieldValue::Id(value.id),
            Self::ValueType => FieldValue::ValueType(value.value_type().into()),
            Self::Owner => FieldValue::Owner(value.owner_id().unwrap_or_default()),
            Self::Seq => FieldValue::Seq(value.seq().into()),
            Self::UserType => FieldValue::UserType(value.user_type().to_owned()),
        }
    }
}

/// A field with its content, as it stands in the answer to a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// Value id.
    Id(u64),
    /// Value type.
    ValueType(u64),
    /// SHA-1 of the owner's key; zero for a value without owner. This is what we send.
    Owner(InfoHash),
    /// The owner's whole SPKI in DER: what OpenDHT nodes send, though they cannot read it.
    OwnerKey(Vec<u8>),
    /// Sequence number, 0 without owner.
    Seq(u64),
    /// User type.
    UserType(String),
}

impl FieldValue {
    /// Which field this is.
    pub const fn field(&self) -> Field {
        match self {
            Self::Id(_) => Field::Id,
            Self::ValueType(_) => Field::ValueType,
            Self::Owner(_) | Self::OwnerKey(_) => Field::Owner,
            Self::Seq(_) => Field::Seq,
            Self::UserType(_) => Field::UserType,
        }
    }

    /// Id of the owner, however it was sent; `None` if this is another field or there is no owner.
    pub fn owner(&self) -> Option<InfoHash> {
        match self {
            Self::Owner(id) if !id.is_zero() => Some(*id),
            Self::OwnerKey(spki) => Some(InfoHash::digest(spki)),
            _ => None,
        }
    }
}

/// A condition on a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Restriction {
    /// The value id.
    Id(u64),
    /// The value type; no value has one above 65 535.
    ValueType(u64),
    /// SHA-1 of the owner's key; zero for "no owner".
    Owner(InfoHash),
    /// The user type, as bytes because so it travels.
    UserType(Vec<u8>),
}

impl Restriction {
    /// The field restricted.
    pub const fn field(&self) -> Field {
        match self {
            Self::Id(_) => Field::Id,
            Self::ValueType(_) => Field::ValueType,
            Self::Owner(_) => Field::Owner,
            Self::UserType(_) => Field::UserType,
        }
    }

    /// Whether `value` meets the condition.
    pub fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Id(id) => value.id == *id,
            Self::ValueType(number) => u64::from(value.value_type()) == *number,
            Self::Owner(id) => value.owner_id().unwrap_or_default() == *id,
            Self::UserType(name) => value.user_type().as_bytes() == name.as_slice(),
        }
    }
}

/// What is asked about the values at a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Fields to return; none means whole values.
    pub select: Vec<Field>,
    /// Conditions a value must meet, all of them.
    pub restrictions: Vec<Restriction>,
}

impl Query {
    /// Fields and restrictions a query may have on arrival. Each field once is all that makes sense.
    pub const MAX_ITEMS: usize = 64;

    /// Whole values, all of them.
    pub const fn all() -> Self {
        Self { select: Vec::new(), restrictions: Vec::new() }
    }

    /// These fields of all values.
    pub fn select(fields: impl IntoIterator<Item = Field>) -> Self {
        Self { select: fields.into_iter().collect(), restrictions: Vec::new() }
    }

    /// Whole values that meet `restriction`.
    pub fn only(restriction: Restriction) -> Self {
        Self { select: Vec::new(), restrictions: vec![restriction] }
    }

    /// The whole value with this id.
    pub fn by_id(id: u64) -> Self {
        Self::only(Restriction::Id(id))
    }

    /// This query with one more condition.
    #[must_use]
    pub fn and(mut self, restriction: Restriction) -> Self {
        self.restrictions.push(restriction);
        self
    }

    /// Whether `value` meets every condition.
    pub fn matches(&self, value: &Value) -> bool {
        self.restrictions.iter().all(|restriction| restriction.matches(value))
    }

    /// Whether an answer to `other` holds everything this query asks for (`dht.md` 2.8): `other` restricts no
    /// more than this does, and selects at least the same fields.
    pub fn is_satisfied_by(&self, other: &Self) -> bool {
        let wide = other.restrictions.iter().all(|restriction| self.restrictions.contains(restriction));
        let rich = other.select.is_empty()
            || (!self.select.is_empty() && self.select.iter().all(|field| other.select.contains(field)));
        wide && rich
    }

    /// The selected fields, ascending and each once, with a row for every one of `values` (`dht.md` 1.9).
    ///
    /// `values` should be those that match; an empty selection gives no fields.
    pub fn rows<'a>(&self, values: impl IntoIterator<Item = &'a Value>) -> crate::message::FieldRows {
        let mut fields = self.select.clone();
        fields.sort_unstable();
        fields.dedup();
        let rows =
            values.into_iter().map(|value| fields.iter().map(|field| field.of(value)).collect()).collect();
        crate::message::FieldRows { fields, rows }
    }
}

/// The text is not a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseQueryError {
    /// No field has this name.
    #[error("unknown field `{0}`")]
    UnknownField(String),
    /// A condition is not `field=value`.
    #[error("`{0}` is not a condition of the form field=value")]
    NotACondition(String),
    /// The field takes another kind of value.
    #[error("`{value}` is not a value of the field {}", field.name())]
    BadValue {
        /// The field.
        field: Field,
        /// What was given for it.
        value: String,
    },
    /// `seq` cannot be restricted.
    #[error("the field seq cannot be restricted")]
    RestrictedSeq,
    /// A word that is neither `SELECT` nor `WHERE`.
    #[error("expected SELECT or WHERE, found `{0}`")]
    UnknownClause(String),
    /// The same clause twice, or `WHERE` before `SELECT`.
    #[error("`{0}` is repeated or out of order")]
    RepeatedClause(String),
    /// A clause without content.
    #[error("`{0}` needs at least one field")]
    EmptyClause(String),
    /// More than [`Query::MAX_ITEMS`] in a clause: no node would read it.
    #[error("`{0}` has more than {max} items", max = Query::MAX_ITEMS)]
    TooMany(String),
}

impl FromStr for Query {
    type Err = ParseQueryError;

    /// Reads `SELECT field,… WHERE field=value,…`; both clauses are optional, keywords in any case.
    /// Values hold no spaces and no commas, but may stand in double quotes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut query = Self::all();
        let mut words = text.split_whitespace().peekable();
        let mut seen = 0;
        while let Some(word) = words.next() {
            let keyword = word.to_ascii_uppercase();
            let rank = match keyword.as_str() {
                "SELECT" => 1,
                "WHERE" => 2,
                _ => return Err(ParseQueryError::UnknownClause(word.to_owned())),
            };
            if rank <= seen {
                return Err(ParseQueryError::RepeatedClause(keyword));
            }
            seen = rank;
            let mut items = Vec::new();
            while let Some(word) = words.next_if(|word| !is_keyword(word)) {
                items.extend(word.split(',').filter(|item| !item.is_empty()));
            }
            if items.is_empty() || items == ["*"] && rank == 2 {
                return Err(ParseQueryError::EmptyClause(keyword));
            }
            if items.len() > Self::MAX_ITEMS {
                return Err(ParseQueryError::TooMany(keyword));
            }
            for item in items {
                match rank {
                    1 if item == "*" => {}
                    1 => query.select.push(item.parse()?),
                    _ => query.restrictions.push(item.parse()?),
                }
            }
        }
        Ok(query)
    }
}

fn is_keyword(word: &str) -> bool {
    word.eq_ignore_ascii_case("SELECT") || word.eq_ignore_ascii_case("WHERE")
}

impl FromStr for Field {
    type Err = ParseQueryError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|field| field.name() == name)
            .ok_or_else(|| ParseQueryError::UnknownField(name.to_owned()))
    }
}

impl FromStr for Restriction {
    type Err = ParseQueryError;

    fn from_str(item: &str) -> Result<Self, Self::Err> {
        let (name, text) =
            item.split_once('=').ok_or_else(|| ParseQueryError::NotACondition(item.to_owned()))?;
        let field: Field = name.parse()?;
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let bad = || ParseQueryError::BadValue { field, value: text.to_owned() };
        Ok(match field {
            Field::Id => Self::Id(text.parse().map_err(|_| bad())?),
            Field::ValueType => Self::ValueType(text.parse().map_err(|_| bad())?),
            Field::Owner => Self::Owner(text.parse().map_err(|_| bad())?),
            Field::Seq => return Err(ParseQueryError::RestrictedSeq),
            Field::UserType => Self::UserType(text.as_bytes().to_vec()),
        })
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.select.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "SELECT " } else { "," }, field.name())?;
        }
        for (i, restriction) in self.restrictions.iter().enumerate() {
            let lead = match (i, self.select.is_empty()) {
                (0, true) => "WHERE ",
                (0, false) => " WHERE ",
                _ => ",",
            };
            write!(f, "{lead}{restriction}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.field().name();
        match self {
            Self::Id(id) => write!(f, "{name}={id}"),
            Self::ValueType(number) => write!(f, "{name}={number}"),
            Self::Owner(id) => write!(f, "{name}={id}"),
            Self::UserType(text) => write!(f, "{name}=\"{}\"", text.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let query: Query = "select id,seq where id=5, user_type=\"foo\"".parse().unwrap();
        assert_eq!(query.select, [Field::Id, Field::Seq]);
        assert_eq!(query.restrictions, [Restriction::Id(5), Restriction::UserType(b"foo".to_vec())]);
        assert_eq!(query.to_string().parse(), Ok(query));
        assert_eq!("".parse(), Ok(Query::all()));
        assert_eq!("WHERE id=5".parse(), Ok(Query::by_id(5)));
        assert_eq!("SELECT *".parse(), Ok(Query::all()));
        assert_eq!("WHERE seq=5".parse::<Query>(), Err(ParseQueryError::RestrictedSeq));
        assert_eq!("SELECT".parse::<Query>(), Err(ParseQueryError::EmptyClause("SELECT".into())));
        assert_eq!("FROM x".parse::<Query>(), Err(ParseQueryError::UnknownClause("FROM".into())));
        assert!("WHERE id=x".parse::<Query>().is_err());
        let many = |count| format!("SELECT {}", "id ".repeat(count)).parse::<Query>();
        assert!(many(Query::MAX_ITEMS).is_ok());
        assert_eq!(many(Query::MAX_ITEMS + 1), Err(ParseQueryError::TooMany("SELECT".into())));
        assert!("WHERE id=1 SELECT id".parse::<Query>().is_err());
    }

    #[test]
    fn satisfied_by_wider_and_richer() {
        let all = Query::all();
        let ids = Query::select([Field::Id]);
        let one = Query::by_id(1);
        assert!(one.is_satisfied_by(&all) && ids.is_satisfied_by(&all));
        assert!(!all.is_satisfied_by(&one) && !all.is_satisfied_by(&ids));
        assert!(ids.is_satisfied_by(&Query::select([Field::Seq, Field::Id])));
        assert!(!Query::select([Field::Seq, Field::Id]).is_satisfied_by(&ids));
        assert!(one.clone().and(Restriction::ValueType(3)).is_satisfied_by(&one));
    }
}
