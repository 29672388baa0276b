//! Decimals as text, exact both ways.

/// Returns the unscaled value of a decimal number with `scale` digits after the point, or why it cannot be held in
/// `precision` digits. `1.5`, `-0.50`, `15e-1` are read; digits beyond the scale must be zeros.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128, &'static str> {
    const NOT_A_NUMBER: &str = "not a decimal number";
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let exponent_at = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(unsigned.len());
    let (mantissa, exponent) = unsigned.split_at(exponent_at);
    let exponent = match exponent {
        [] => 0,
        [_, digits @ ..] => parse_exponent(digits).ok_or(NOT_A_NUMBER)?,
    };
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let (whole, part) = match point {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &mantissa[mantissa.len()..]),
    };
    let all_digits = whole.iter().chain(part).all(u8::is_ascii_digit);
    if !all_digits || whole.is_empty() || (point.is_some() && part.is_empty()) {
        return Err(NOT_A_NUMBER);
    }
    let shift = exponent.saturating_add(i64::from(scale));
    let value = scaled(whole, part, shift)?;
    if value >= 10_i128.pow(u32::from(precision)) {
        return Err("too many digits");
    }
    Ok(if negative { -value } else { value })
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_i64, |sum, byte| sum.saturating_mul(10).saturating_add(i64::from(byte - b'0')));
    Some(if negative { -value } else { value })
}

/// Returns `whole.part * 10^shift`, which must be whole.
fn scaled(whole: &[u8], part: &[u8], shift: i64) -> Result<i128, &'static str> {
    // Digit `i` of all has the weight 10^(whole.len() - 1 - i + shift).
    let mut value: i128 = 0;
    let count = whole.len() + part.len();
    let kept = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(shift);
    for (i, byte) in whole.iter().chain(part).enumerate() {
        let digit = i128::from(byte - b'0');
        if i64::try_from(i).unwrap_or(i64::MAX) < kept {
            value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or("too many digits")?;
        } else if digit != 0 {
            return Err("too many digits after the point");
        }
    }
    let zeros = kept.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)).max(0);
    if value == 0 || zeros == 0 {
        return Ok(value);
    }
    let power = u32::try_from(zeros).ok().and_then(|zeros| 10_i128.checked_pow(zeros));
    power.and_then(|power| value.checked_mul(power)).ok_or("too many digits")
}

/// Returns a decimal with `scale` digits after the point as one with `wanted` of them, or why it cannot be held in `precision` digits.
pub(crate) fn rescaled(value: i128, scale: u32, precision: u8, wanted: i8) -> Result<i128, &'static str> {
    const TOO_MANY: &str = "too many digits";
    let wanted = u32::from(wanted.unsigned_abs());
    let value = match wanted.checked_sub(scale) {
        _ if value == 0 => 0,
        Some(more) => 10_i128.checked_pow(more).and_then(|power| value.checked_mul(power)).ok_or(TOO_MANY)?,
        None => {
            let power = 10_i128.checked_pow(scale - wanted).ok_or("too many digits after the point")?;
            if value % power != 0 {
                return Err("too many digits after the point");
            }
            value / power
        }
    };
    match value.unsigned_abs() < 10_u128.pow(u32::from(precision)) {
        true => Ok(value),
        false => Err(TOO_MANY),
    }
}

/// Appends `value`, unscaled, with exactly `scale` digits after the point.
pub(crate) fn push_decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    let mut buffer = itoa::Buffer::new();
    if value < 0 {
        out.push(b'-');
    }
    let digits = buffer.format(value.unsigned_abs()).as_bytes();
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.extend_from_slice(digits);
        if value != 0 {
            out.resize(out.len() + places, b'0');
        }
        return;
    }
    if digits.len() > places {
        let (whole, part) = digits.split_at(digits.len() - places);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(part);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + places - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_decimal_changes_its_scale_only_without_loss() {
        assert_eq!(rescaled(125, 1, 12, 2), Ok(1250));
        assert_eq!(rescaled(-1250, 3, 12, 2), Ok(-125));
        assert_eq!(rescaled(1251, 3, 12, 2), Err("too many digits after the point"));
        assert_eq!(rescaled(100, 0, 4, 2), Err("too many digits"));
        assert_eq!(rescaled(0, 99, 4, 2), Ok(0));
        assert_eq!(rescaled(i128::MIN, 0, 38, 0), Err("too many digits"));
        assert_eq!(rescaled(1, 200, 38, 0), Err("too many digits after the point"));
    }

    #[test]
    fn decimals_are_exact() {
        for (text, precision, scale, value) in [
            ("12.10", 12, 2, Ok(1210)),
            ("12.1", 12, 2, Ok(1210)),
            ("12.100", 12, 2, Ok(1210)),
            ("-0.01", 3, 2, Ok(-1)),
            ("1.5e3", 6, 2, Ok(150_000)),
            ("1500E-3", 6, 2, Ok(150)),
            ("0e999999999999999999999", 6, 2, Ok(0)),
            ("007", 6, 0, Ok(7)),
            ("99999999999999999999999999999999999999", 38, 0, Ok(10_i128.pow(38) - 1)),
            ("12.105", 12, 2, Err("too many digits after the point")),
            ("1e-3", 12, 2, Err("too many digits after the point")),
            ("10000", 6, 2, Err("too many digits")),
            ("1e400", 38, 0, Err("too many digits")),
            ("1e99999999999999999999", 38, 0, Err("too many digits")),
            ("999999999999999999999999999999999999999", 38, 0, Err("too many digits")),
            ("", 6, 2, Err("not a decimal number")),
            ("-", 6, 2, Err("not a decimal number")),
            (".5", 6, 2, Err("not a decimal number")),
            ("5.", 6, 2, Err("not a decimal number")),
            ("1e", 6, 2, Err("not a decimal number")),
            ("+1", 6, 2, Err("not a decimal number")),
            ("1 ", 6, 2, Err("not a decimal number")),
            ("0x1", 6, 2, Err("not a decimal number")),
        ] {
            assert_eq!(parse_decimal(text, precision, scale), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_decimal_is_read_back(value in -(10_i128.pow(38) - 1)..10_i128.pow(38), scale in 0_i8..=38) {
            let mut out = Vec::new();
            push_decimal(&mut out, value, scale);
            prop_assert_eq!(parse_decimal(std::str::from_utf8(&out).unwrap(), 38, scale), Ok(value));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,60}", precision in 1_u8..=38, scale in 0_i8..=38) {
            let _ = parse_decimal(&text, precision, scale.min(precision as i8));
        }
    }
}
