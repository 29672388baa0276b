//! How values of options are read.

use clap::builder::BoolishValueParser;

/// Switches take 1, yes, on, true and their opposites from the environment.
pub(super) fn switch() -> BoolishValueParser {
    BoolishValueParser::new()
}

/// Reads the name of a savepoint.
pub(super) fn savepoint_name(text: &str) -> Result<String, String> {
    riverrun_state::savepoint::check_name(text).map(|()| text.to_owned())
}

/// Reads a span of time as job files write it: `500ms`, `30s`, `5m`, `2h`.
pub(super) fn span(text: &str) -> Result<std::time::Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or("needs a unit: ms, s, m or h")?;
    let number: u64 = text[..at].parse().map_err(|_| "begins with a number, for example `30s`")?;
    let millis = match &text[at..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("has the unit ms, s, m or h".to_owned()),
    };
    let millis = number.checked_mul(millis).ok_or("is too long")?;
    Ok(std::time::Duration::from_millis(millis))
}

/// Reads for how long a store is asked again. Its requests are signed once, and a signature is good for a quarter of an hour.
pub(super) fn patience(text: &str) -> Result<std::time::Duration, String> {
    let limit = std::time::Duration::from_secs(600);
    span(text).and_then(|span| if span <= limit { Ok(span) } else { Err("is at most 10m".to_owned()) })
}

/// Reads a number of bytes as job files write it: `512KiB`, `64MiB`, `2GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    riverrun_jobs::spec::values::bytes(text)
}

/// Reads a number of bytes, or `0`.
pub(super) fn size_or_zero(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

/// Reads a number of cores, which need not be whole, as hundredths of one.
pub(super) fn cores(text: &str) -> Result<u32, String> {
    let cores: f64 = text.parse().map_err(|_| "is a number of cores, for example `1.5`")?;
    match (0.01..=10_000.0).contains(&cores) {
        true => Ok((cores * 100.0).round() as u32),
        false => Err("is from 0.01 to 10000".to_owned()),
    }
}

/// Reads a span of time, or `0`.
pub(super) fn span_or_zero(text: &str) -> Result<std::time::Duration, String> {
    if text == "0" { Ok(std::time::Duration::ZERO) } else { span(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_need_not_be_whole() {
        assert_eq!((cores("1.5"), cores("2"), cores("0.01")), (Ok(150), Ok(200), Ok(1)));
        assert!(["", "0", "-1", "NaN", "inf", "two", "10001"].iter().all(|text| cores(text).is_err()));
        assert_eq!((size_or_zero("0"), size_or_zero("1MiB")), (Ok(0), Ok(1 << 20)));
    }

    #[test]
    fn spans_are_written_as_in_job_files() {
        assert_eq!(span("1500ms"), Ok(std::time::Duration::from_millis(1500)));
        assert_eq!(span("2h"), Ok(std::time::Duration::from_secs(7200)));
        assert!(["", "5", "s", "5d", "-1s", "99999999999999999h"].iter().all(|text| span(text).is_err()));
    }
}
