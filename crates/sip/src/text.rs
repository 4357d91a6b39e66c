//! The small words of the grammar: tokens, quoted strings, escapes (RFC 3261 25.1).

/// Whether `byte` may be part of a token.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Whether `text` is a token.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Whether `text` is a `word`, what a Call-ID is made of.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| is_token_byte(byte) || b"()<>:\\\"/[]?{}".contains(&byte))
}

/// Whether `text` can stand in a header field on one line: no control characters but tabs.
pub(crate) fn is_line(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

/// Without the spaces and tabs around it.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Where the first of `separators` stands outside quoted strings and angle brackets.
pub(crate) fn find_outside(text: &str, separators: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' if !angle => quoted = !quoted,
            _ if quoted => {}
            byte if !angle && separators.contains(&byte) => return Some(at),
            b'<' => angle = true,
            b'>' => angle = false,
            _ => {}
        }
    }
    None
}

/// The parts of `text` between the `separator`s that stand outside quoted strings and angle brackets, trimmed.
pub(crate) fn split_outside(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, later) = match find_outside(text, &[separator]) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        rest = later;
        Some(trim(part))
    })
}

/// What the quoted string `text` says, or `None` if it is not exactly one quoted string.
pub(crate) fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?;
    let mut said = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(said),
            '\\' => said.push(characters.next().filter(char::is_ascii)?),
            character => said.push(character),
        }
    }
}

/// `text` as a quoted string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// `text` with `%XX` decoded; `None` if an escape is broken or what comes out is not UTF-8.
pub(crate) fn unescape(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high << 4 | low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `text` with everything escaped that is neither alphanumeric nor in `plain`.
pub(crate) fn escape(text: &str, plain: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// A decimal number without sign, as all numbers of the grammar are.
pub(crate) fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_inside_quotes_and_brackets_do_not_separate() {
        let parts: Vec<_> = split_outside(r#""a, \" b" <sip:a,b@c;x>, d ,"e" "#, b',').collect();
        assert_eq!(parts, [r#""a, \" b" <sip:a,b@c;x>"#, "d", r#""e""#]);
        assert_eq!(split_outside("", b',').collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn quoting_and_escaping_go_both_ways() {
        for text in ["", "plain", r#"a "quoted" \ word"#, "é中"] {
            assert_eq!(unquote(&quote(text)).as_deref(), Some(text));
        }
        for broken in ["", "\"", "\"a", "a\"", "\"a\"b", "\"a\\\""] {
            assert_eq!(unquote(broken), None, "{broken}");
        }
        let mut escaped = String::new();
        escape("a b/é%", b"/", &mut escaped);
        assert_eq!(escaped, "a%20b/%C3%A9%25");
        assert_eq!(unescape(&escaped).as_deref(), Some("a b/é%"));
        for broken in ["%", "%4", "%zz", "%FF"] {
            assert_eq!(unescape(broken), None, "{broken}");
        }
    }

    #[test]
    fn numbers_have_digits_only() {
        assert_eq!(number("0070"), Some(70));
        for broken in ["", "-1", "+1", "1 ", "99999999999999999999999"] {
            assert_eq!(number(broken), None, "{broken}");
        }
    }
}
