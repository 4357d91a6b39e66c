//! Cards: the name and the picture that somebody shows to others (`spec/files-and-calls.md` 8).
//!
//! As much of vCard 2.1 and 3.0 as Jami's programs write: `FN`, `UID` and `PHOTO` in base64. Whatever else is in a card is
//! skipped.

use data_encoding::BASE64;

/// Longest card, in bytes: Jami drops longer ones from requests.
pub const MAX_VCARD_LEN: usize = 64_000;

/// Longest name or id in a card, in bytes.
pub const MAX_FIELD_LEN: usize = 1024;

/// Somebody's card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VCard {
    /// What the person is called (`FN`); empty if nothing is said.
    pub name: String,
    /// An id of the card (`UID`); empty if nothing is said.
    pub uid: String,
    /// A picture.
    pub photo: Option<Photo>,
}

/// A picture in a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// The format, as `PNG` or `JPEG`; empty if nothing is said.
    pub format: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Why a text is not a card, or a card has no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VCardError {
    /// Longer than a card may be.
    #[error("a card of {0} bytes is longer than the {MAX_VCARD_LEN} allowed")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the card is not UTF-8 text")]
    NotText,
    /// It does not begin with `BEGIN:VCARD`.
    #[error("the card does not begin with BEGIN:VCARD")]
    Begin,
    /// `END:VCARD` is missing.
    #[error("the card has no END:VCARD")]
    End,
    /// A name or an id is longer than such are.
    #[error("a field of {0} bytes is longer than the {MAX_FIELD_LEN} allowed")]
    Field(usize),
    /// The picture is not base64.
    #[error("the picture is not base64")]
    Photo,
    /// The format of a picture is not letters and digits.
    #[error("the format of a picture is not made of letters and digits")]
    Format,
}

/// A line of a card: `NAME;PARAMETER;…:VALUE`.
struct Property<'a> {
    name: &'a str,
    parameters: &'a str,
    value: &'a str,
}

impl VCard {
    /// A card with a name only.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Reads the first card in a text, with any line ends. Of a property that is there twice the first counts. Control
    /// characters in name and id become spaces.
    pub fn parse(card: &[u8]) -> Result<Self, VCardError> {
        if card.len() > MAX_VCARD_LEN {
            return Err(VCardError::TooLong(card.len()));
        }
        let text = std::str::from_utf8(card).map_err(|_| VCardError::NotText)?;
        let lines = unfold(text.strip_prefix('\u{feff}').unwrap_or(text));
        let mut lines = lines.iter().filter_map(|line| property(line));
        let is = |line: &Property<'_>, name| {
            line.name.eq_ignore_ascii_case(name) && line.value.trim().eq_ignore_ascii_case("VCARD")
        };
        if !lines.next().is_some_and(|line| is(&line, "BEGIN")) {
            return Err(VCardError::Begin);
        }
        let mut read = Self::default();
        let mut escaped = false;
        for line in lines {
            if is(&line, "END") {
                return Ok(read);
            }
            // Groups, as in `item1.FN`.
            let name = line.name.rsplit('.').next().unwrap_or(line.name);
            if name.eq_ignore_ascii_case("VERSION") {
                escaped = line.value.trim() != "2.1";
            } else if name.eq_ignore_ascii_case("FN") && read.name.is_empty() {
                read.name = field(line.value, escaped)?;
            } else if name.eq_ignore_ascii_case("UID") && read.uid.is_empty() {
                read.uid = field(line.value, escaped)?;
            } else if name.eq_ignore_ascii_case("PHOTO") && read.photo.is_none() {
                read.photo = photo(&line)?;
            }
        }
        Err(VCardError::End)
    }

    /// The text, in vCard 2.1 as Jami's programs write it: every property on one line, nothing escaped. That version has
    /// no way to write control characters; they become spaces.
    pub fn build(&self) -> Result<String, VCardError> {
        let mut text = "BEGIN:VCARD\nVERSION:2.1\n".to_owned();
        for (name, value) in [("UID", &self.uid), ("FN", &self.name)] {
            if value.len() > MAX_FIELD_LEN {
                return Err(VCardError::Field(value.len()));
            }
            if !value.is_empty() {
                text.extend([name, ":", &value.replace(char::is_control, " "), "\n"]);
            }
        }
        if let Some(Photo { format, bytes }) = &self.photo {
            if format.len() > MAX_FIELD_LEN || !format.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(VCardError::Format);
            }
            let kind = if format.is_empty() { "" } else { ";TYPE=" };
            text.extend(["PHOTO;ENCODING=BASE64", kind, format, ":"]);
            text.push_str(&BASE64.encode(bytes));
            text.push('\n');
        }
        text.push_str("END:VCARD\n");
        if text.len() > MAX_VCARD_LEN {
            return Err(VCardError::TooLong(text.len()));
        }
        Ok(text)
    }
}

/// The lines of a text, those that begin with a blank joined to the one before.
fn unfold(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.split(['\r', '\n']).filter(|line| !line.is_empty()) {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn property(line: &str) -> Option<Property<'_>> {
    let (head, value) = line.split_once(':')?;
    let (name, parameters) = head.split_once(';').unwrap_or((head, ""));
    Some(Property { name: name.trim(), parameters, value })
}

/// A text, in version 3.0 without its escapes. It comes from strangers and ends on terminals: control characters become
/// spaces.
fn field(value: &str, escaped: bool) -> Result<String, VCardError> {
    if value.len() > MAX_FIELD_LEN {
        return Err(VCardError::Field(value.len()));
    }
    let value = value.replace(char::is_control, " ");
    if !escaped {
        return Ok(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next() {
                Some('n' | 'N') | None => ' ',
                Some(other) => other,
            },
            other => other,
        });
    }
    Ok(text)
}

/// The picture, if it is in the card itself and not elsewhere.
fn photo(line: &Property<'_>) -> Result<Option<Photo>, VCardError> {
    let mut format = "";
    let mut base64 = false;
    for parameter in line.parameters.split(';').map(str::trim) {
        let (name, value) = parameter.split_once('=').unwrap_or(("", parameter));
        if ["BASE64", "B"].iter().any(|word| value.eq_ignore_ascii_case(word)) {
            base64 = true;
        } else if (name.is_empty() || name.eq_ignore_ascii_case("TYPE"))
            && value.len() <= MAX_FIELD_LEN
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            format = value;
        }
    }
    if !base64 {
        return Ok(None);
    }
    let text: Vec<u8> = line.value.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(&text).map_err(|_| VCardError::Photo)?;
    Ok(Some(Photo { format: format.to_owned(), bytes }))
}
