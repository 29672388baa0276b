//! Looking for the bytes that mean something in a JSON string, eight at a time.

/// Returns where the plain text that begins at `at` ends: at the first quote, backslash or control character, or at the end.
#[inline]
pub(crate) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..at + 8) {
        let found = special(u64::from_le_bytes(eight.try_into().expect("8 bytes")));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            return at;
        }
        at += 1;
    }
    at
}

/// Returns a word whose lowest set bit lies in the first byte that is a quote, a backslash or a control character.
#[inline]
fn special(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Borrows run upwards only: the lowest hit is always a true one.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    let quote = eight ^ (ONES * u64::from(b'"'));
    let backslash = eight ^ (ONES * u64::from(b'\\'));
    below(eight, 0x20) | below(quote, 1) | below(backslash, 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn eight_at_a_time_find_what_one_at_a_time_finds(bytes: Vec<u8>, from in 0_usize..20) {
            let from = from.min(bytes.len());
            let slow = bytes[from..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(plain_end(&bytes, from), slow.map_or(bytes.len(), |at| from + at));
        }
    }
}
