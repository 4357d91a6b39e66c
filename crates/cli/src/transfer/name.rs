//! Names of files that come from others.

use crate::text::is_unprintable;

/// Longest name that is written to a disk, in bytes; the usual limit is 255, and ` (1)` must fit behind it.
const LONGEST: usize = 200;
/// Longest ending that is kept when a name is cut.
const LONGEST_ENDING: usize = 16;

/// Makes any text a name of a visible file in one directory, on every system: no separators, no control or
/// direction characters, no dots or dashes in front, no names of devices.
pub(crate) fn sanitised(raw: &str) -> String {
    let last = raw.rsplit(['/', '\\']).find(|part| !part.trim().is_empty()).unwrap_or_default();
    let clean: String = last
        .chars()
        .filter(|character| !is_unprintable(*character))
        .map(
            |character| {
                if matches!(character, '<' | '>' | ':' | '"' | '|' | '?' | '*') { '_' } else { character }
            },
        )
        .collect();
    let clean = clean.trim_start_matches(|character: char| character == '.' || character.is_whitespace());
    let clean = clean.trim_end_matches(|character: char| character == '.' || character.is_whitespace());
    if clean.is_empty() {
        return "file".to_owned();
    }
    let mut name = String::with_capacity(clean.len() + 1);
    if clean.starts_with('-') || is_device(clean) {
        name.push('_');
    }
    name.push_str(clean);
    cut(&name)
}

/// The name with a number, for when it is taken.
pub(crate) fn numbered(name: &str, number: u32) -> String {
    let (stem, ending) = split(name);
    format!("{stem} ({number}){ending}")
}

/// Stem, and ending with its dot.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= LONGEST_ENDING => name.split_at(dot),
        _ => (name, ""),
    }
}

/// Names that mean a device on Windows, with any ending.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| {
            let mut rest = rest.chars();
            matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
        })
    };
    matches!(&*stem, "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
}

fn cut(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let (stem, ending) = split(name);
    let stem = &stem[..stem.floor_char_boundary(LONGEST - ending.len())];
    format!("{}{ending}", stem.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_names_stay() {
        for name in ["a", "notes.txt", "Ünïcode 日本.tar.gz", "with space.md", "x (1).png", "a-b_c+d,e"] {
            assert_eq!(sanitised(name), name);
        }
    }

    #[test]
    fn hostile_names_become_harmless() {
        for (raw, harmless) in [
            ("", "file"),
            (".", "file"),
            ("..", "file"),
            ("/", "file"),
            ("../../etc/passwd", "passwd"),
            ("/etc/cron.d/job", "job"),
            ("..\\..\\autoexec.bat", "autoexec.bat"),
            ("C:\\Windows\\x.dll", "x.dll"),
            ("C:x", "C_x"),
            ("dir/", "dir"),
            (".bashrc", "bashrc"),
            (" . .hidden", "hidden"),
            ("-rf", "_-rf"),
            ("a\0b", "ab"),
            ("a\nb\u{1b}[31m", "ab[31m"),
            ("gpj.\u{202e}exe.jpg", "gpj.exe.jpg"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("com1.log", "_com1.log"),
            ("common.log", "common.log"),
            ("what?.txt", "what_.txt"),
            ("trailing. . ", "trailing"),
        ] {
            assert_eq!(sanitised(raw), harmless, "{raw:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_keep_their_ending() {
        let cut = sanitised(&format!("{}.jpeg", "é".repeat(500)));
        assert!(cut.len() <= LONGEST && cut.ends_with("é.jpeg"), "{cut}");
        assert!(sanitised(&"x".repeat(5000)).len() <= LONGEST);
        assert!(sanitised(&format!("x.{}", "y".repeat(5000))).len() <= LONGEST);
    }

    #[test]
    fn numbers_stand_before_the_ending() {
        assert_eq!(numbered("a.txt", 1), "a (1).txt");
        assert_eq!(numbered("README", 12), "README (12)");
    }
}
