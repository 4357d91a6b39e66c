//! As much of DER writing as a certificate takes.
//!
//! Certificates must come out as OpenDHT makes them: fields in its order, and the issuer's name as
//! the very bytes of the issuer's certificate, whatever string types its maker chose.

/// DER tags.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[0]`, constructed: the version of a certificate.
    pub(crate) const EXPLICIT_0: u8 = 0xa0;
    /// `[3]`, constructed: its extensions.
    pub(crate) const EXPLICIT_3: u8 = 0xa3;
}

/// Tag, length and the parts, one after the other.
pub(crate) fn node(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(len + 6);
    out.push(tag);
    match len {
        0..0x80 => out.push(len as u8),
        _ => {
            let bytes = len.to_be_bytes();
            let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A UTCTime until 2049, a GeneralizedTime from 2050 (RFC 5280 4.1.2.5). None outside of the years 1950 to 9999.
pub(crate) fn time(seconds: i64) -> Option<Vec<u8>> {
    const DAY: i64 = 24 * 60 * 60;
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let rest = seconds.rem_euclid(DAY);
    let tail = format!("{month:02}{day:02}{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60);
    match year {
        1950..2050 => Some(node(tag::UTC_TIME, &[format!("{:02}{tail}", year % 100).as_bytes()])),
        2050..10_000 => Some(node(tag::GENERALIZED_TIME, &[format!("{year}{tail}").as_bytes()])),
        _ => None,
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar. Years are
/// counted from March, so that the odd day of a leap year is their last.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 400 * 365 + 97;
    const MARCH_OF_YEAR_0: i64 = 719_468;
    let days = days.saturating_add(MARCH_OF_YEAR_0);
    let (era, day_of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(-1), (1969, 12, 31));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(47_541), (2100, 3, 1), "2100 is no leap year");
        assert_eq!(time(951_782_399), Some(b"\x17\x0d000228235959Z".to_vec()));
        assert_eq!(time(2_524_608_000), Some(b"\x18\x0f20500101000000Z".to_vec()));
        assert_eq!(time(i64::MAX), None);
        assert_eq!(time(i64::MIN), None);
    }

    #[test]
    fn lengths() {
        assert_eq!(node(0x04, &[&[7; 127]])[..2], [0x04, 127]);
        assert_eq!(node(0x04, &[&[7; 128]])[..3], [0x04, 0x81, 128]);
        assert_eq!(node(0x04, &[&[7; 200], &[8; 100]])[..4], [0x04, 0x82, 1, 44]);
    }
}
