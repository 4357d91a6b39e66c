//! Queries and their answers on the wire (`dht.md` 1.9).

use std::io;

use super::WireError;
use super::reader::{Reader, Token};
use super::writer::Writer;
use crate::message::FieldRows;
use crate::{Field, FieldValue, Query, Restriction};

impl Query {
    /// Reads a query; what comes after it is ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(&mut Reader::new(bytes))
    }

    /// The bytes as they travel inside a request.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.finish()
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut select = None;
        let mut restrictions = None;
        for _ in 0..reader.map("q")? {
            match reader.key()? {
                Some(b"s") => select = Some(read_fields(reader, "s")?),
                Some(b"w") => restrictions = Some(read_restrictions(reader)?),
                _ => {
                    reader.object()?;
                }
            }
        }
        Ok(Self {
            select: select.ok_or(WireError::Missing("s"))?,
            restrictions: restrictions.ok_or(WireError::Missing("w"))?,
        })
    }

    pub(super) fn write<W: io::Write>(&self, writer: &mut Writer<W>) {
        writer.map(2);
        writer.str("s");
        writer.array(self.select.len());
        self.select.iter().for_each(|field| writer.uint(field.number()));
        writer.str("w");
        writer.array(self.restrictions.len());
        for restriction in &self.restrictions {
            writer.map(2);
            writer.str("f");
            writer.uint(restriction.field().number());
            writer.str("v");
            match restriction {
                Restriction::Id(number) | Restriction::ValueType(number) => writer.uint(*number),
                Restriction::Owner(id) => writer.bin(id.as_ref()),
                Restriction::UserType(name) => writer.bin(name),
            }
        }
    }
}

fn read_fields(reader: &mut Reader<'_>, what: &'static str) -> Result<Vec<Field>, WireError> {
    let len = reader.array(what)?;
    if len > Query::MAX_ITEMS {
        return Err(WireError::TooMany(what));
    }
    (0..len)
        .map(|_| {
            let number = reader.uint(what)?;
            Field::from_number(number).ok_or(WireError::UnknownField(number))
        })
        .collect()
}

fn read_restrictions(reader: &mut Reader<'_>) -> Result<Vec<Restriction>, WireError> {
    let len = reader.array("w")?;
    if len > Query::MAX_ITEMS {
        return Err(WireError::TooMany("w"));
    }
    (0..len).map(|_| read_restriction(reader)).collect()
}

fn read_restriction(reader: &mut Reader<'_>) -> Result<Restriction, WireError> {
    let mut number = None;
    let mut value = None;
    for _ in 0..reader.map("w")? {
        match reader.key()? {
            Some(b"f") => number = Some(reader.uint("f")?),
            Some(b"v") => value = Some(reader.object()?),
            _ => {
                reader.object()?;
            }
        }
    }
    let number = number.ok_or(WireError::Missing("f"))?;
    let mut value = Reader::new(value.ok_or(WireError::Missing("v"))?);
    Ok(match Field::from_number(number) {
        Some(Field::Id) => Restriction::Id(value.uint("v")?),
        Some(Field::ValueType) => Restriction::ValueType(value.uint("v")?),
        Some(Field::Owner) => Restriction::Owner(value.id("v")?),
        Some(Field::UserType) => Restriction::UserType(value.blob("v")?.into_owned()),
        Some(Field::Seq) | None => return Err(WireError::UnknownField(number)),
    })
}

impl FieldRows {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut fields = None;
        let mut values = None;
        for _ in 0..reader.map("fileds")? {
            match reader.key()? {
                Some(b"f") => fields = Some(read_fields(reader, "f")?),
                Some(b"v") => values = Some(reader.object()?),
                _ => {
                    reader.object()?;
                }
            }
        }
        let fields = fields.ok_or(WireError::Missing("f"))?;
        let mut values = Reader::new(values.ok_or(WireError::Missing("v"))?);
        let len = values.array("v")?;
        // No fields and no values is an answer about nothing; the remainder must not be asked of zero.
        if len.checked_rem(fields.len()).unwrap_or(len) != 0 {
            return Err(WireError::Range("v"));
        }
        let rows = (0..len.checked_div(fields.len()).unwrap_or(0))
            .map(|_| fields.iter().map(|field| read_field(&mut values, *field)).collect())
            .collect::<Result<_, _>>()?;
        Ok(Self { fields, rows })
    }

    pub(super) fn write<W: io::Write>(&self, writer: &mut Writer<W>) {
        writer.map(2);
        writer.str("f");
        writer.array(self.fields.len());
        self.fields.iter().for_each(|field| writer.uint(field.number()));
        writer.str("v");
        writer.array(self.rows.iter().map(Vec::len).sum());
        for value in self.rows.iter().flatten() {
            match value {
                FieldValue::Id(number) | FieldValue::ValueType(number) | FieldValue::Seq(number) => {
                    writer.uint(*number);
                }
                FieldValue::Owner(id) => writer.bin(id.as_ref()),
                FieldValue::OwnerKey(spki) => writer.bin(spki),
                FieldValue::UserType(name) => writer.str(name),
            }
        }
    }
}

fn read_field(reader: &mut Reader<'_>, field: Field) -> Result<FieldValue, WireError> {
    Ok(match field {
        Field::Id => FieldValue::Id(reader.uint("v")?),
        Field::ValueType => FieldValue::ValueType(reader.uint("v")?),
        Field::Seq => FieldValue::Seq(reader.uint("v")?),
        Field::Owner => {
            let bytes = reader.bin("v")?;
            match crate::InfoHash::from_slice(bytes) {
                Some(id) => FieldValue::Owner(id),
                None => FieldValue::OwnerKey(bytes.to_vec()),
            }
        }
        Field::UserType => match reader.token()? {
            Token::Str(name) | Token::Bin(name) => {
                let name = std::str::from_utf8(name).map_err(|_| WireError::Type("v"))?;
                FieldValue::UserType(name.to_owned())
            }
            _ => return Err(WireError::Type("v")),
        },
    })
}
