//! Dates and points in time as text: RFC 3339, both ways, in the proleptic Gregorian calendar.
//!
//! Years have four digits, 0000 to 9999. A second of 60 is the first one of the next minute.

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

/// Returns the days since 1970-01-01 of a date such as `2026-01-31`.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    i32::try_from(days_of(year, month, day)).ok()
}

/// Returns the microseconds since the epoch of an RFC 3339 time; what is finer is cut off.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let days = parse_date(text.get(..10)?)?;
    let clock = bytes.get(10..19)?;
    if !matches!(clock[0], b'T' | b't' | b' ') || clock[3] != b':' || clock[6] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&clock[1..3])?, digits(&clock[4..6])?, digits(&clock[7..])?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, rest) = fraction(&bytes[19..])?;
    let offset = offset_seconds(rest)?;
    let seconds = i64::from(days) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * SECOND + micros)
}

/// Reads `.123456789`, if it is there, and returns its microseconds and the bytes after it.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (written, after) = rest.split_at(length);
    let kept = &written[..length.min(6)];
    let micros = digits(kept)? * 10_i64.pow(6 - u32::try_from(kept.len()).ok()?);
    Some((micros, after))
}

fn offset_seconds(bytes: &[u8]) -> Option<i64> {
    let sign = match bytes {
        [b'Z' | b'z'] => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(&bytes[1..3])?, digits(&bytes[4..])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(bytes: &[u8]) -> Option<i64> {
    let valid = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    valid.then(|| bytes.iter().fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0')))
}

/// Returns the days from 1970-01-01 to a date. Years are counted from March, so that the leap day ends a year.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// Returns year, month and day of a number of days since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Appends the date that lies `days` after 1970-01-01. A year outside 0000 to 9999 is written with its sign.
pub(crate) fn push_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = date_of(days);
    if (0..=9999).contains(&year) {
        push_digits(out, year.unsigned_abs(), 4);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        let mut buffer = itoa::Buffer::new();
        out.extend_from_slice(buffer.format(year.unsigned_abs()).as_bytes());
    }
    out.push(b'-');
    push_digits(out, month.unsigned_abs(), 2);
    out.push(b'-');
    push_digits(out, day.unsigned_abs(), 2);
}

/// Appends a point in time: `value` units since the epoch, of which `10^decimals` make a second. The fraction always has exactly
/// `decimals` digits, so that the times of a column have one width and sort as text.
pub(crate) fn push_time(out: &mut Vec<u8>, value: i64, decimals: u32) {
    let unit = 10_i64.pow(decimals);
    let (seconds, part) = (value.div_euclid(unit), value.rem_euclid(unit));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    push_date(out, days);
    out.push(b'T');
    push_digits(out, (of_day / 3600).unsigned_abs(), 2);
    out.push(b':');
    push_digits(out, (of_day / 60 % 60).unsigned_abs(), 2);
    out.push(b':');
    push_digits(out, (of_day % 60).unsigned_abs(), 2);
    if decimals > 0 {
        out.push(b'.');
        push_digits(out, part.unsigned_abs(), decimals as usize);
    }
    out.push(b'Z');
}

/// Appends `value` with leading zeros, `width` digits in all; `width` is at most 9.
fn push_digits(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut text = [b'0'; 9];
    for place in text[..width].iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).expect("a digit");
        value /= 10;
    }
    out.extend_from_slice(&text[..width]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: i64, decimals: u32) -> String {
        let mut out = Vec::new();
        push_time(&mut out, value, decimals);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_times_are_read() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00.5z", 500_000),
            ("1969-12-31 23:59:59.999999Z", -1),
            ("2026-01-01T00:00:00.123Z", 1_767_225_600_123_000),
            ("2026-01-01T02:00:00.123456789+02:00", 1_767_225_600_123_456),
            ("2025-12-31T18:30:00-05:30", 1_767_225_600_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("0000-02-29T00:00:00Z", -62_162_121_600_000_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000_000),
        ] {
            assert_eq!(parse_time(text), Some(micros), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+2:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00Zx",
            " 2026-01-01T00:00:00Z",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.1",
            "1767225600",
            "2026-01-0ä",
            "１９７０-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!((parse_date("2024-02-29"), parse_date("2100-02-29")), (Some(19_782), None));
    }

    #[test]
    fn fractions_have_the_width_of_their_unit() {
        assert_eq!(written(1_767_225_600_123, 3), "2026-01-01T00:00:00.123Z");
        assert_eq!(written(1_767_225_600_120, 3), "2026-01-01T00:00:00.120Z");
        assert_eq!(written(1_767_225_600_000, 3), "2026-01-01T00:00:00.000Z");
        assert_eq!(written(-1, 6), "1969-12-31T23:59:59.999999Z");
        assert_eq!(written(0, 0), "1970-01-01T00:00:00Z");
        assert!(written(i64::MIN, 0).starts_with('-') && written(i64::MAX, 0).starts_with('+'));
    }

    proptest! {
        #[test]
        fn a_written_time_is_read_back(micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            prop_assert_eq!(parse_time(&written(micros, 6)), Some(micros));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (parse_time(&text), parse_date(&text));
        }
    }
}
