//! Hostile inputs, made of valid ones: flipped bits, extreme numbers, cuts, splices, repetitions, tokens of text formats.

use crate::dice::Dice;

/// Nothing is grown past this: the rule is relative to the input, and large inputs only cost time.
const LENGTH_MAX: usize = 256 << 10;

/// Numbers at which decoders go wrong, in whatever width they are read.
const NUMBERS: [u64; 22] = [
    0,
    1,
    2,
    7,
    8,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// What stands in the place of a token of a text format.
const TOKENS: [&str; 36] = [
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "\"x\"",
    "0",
    "-0",
    "-1",
    "1.0",
    "1e999",
    "-1e-999",
    "0.1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999999",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{1f600}",
    "\"\"\"",
    ",",
    ":",
    "..",
    "~",
    "${x}",
];

/// Single bytes that mean something to somebody.
const BYTES: &[u8] = b"\0\x01\x7f\x80\xff\"'{}[],:.-+ \n\r\t\\#&*|0189eE";

/// Returns `base` with a few changes; `others` are inputs of which parts may be taken.
pub fn mutate(base: &[u8], others: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..1 + dice.below(4) {
        change(&mut bytes, others, dice);
    }
    bytes.truncate(LENGTH_MAX.max(base.len()));
    bytes
}

fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    match dice.below(14) {
        0 | 1 => flip(bytes, dice),
        2 => poke(bytes, dice),
        3 | 4 => number(bytes, dice),
        5 => bytes.truncate(dice.below(bytes.len() + 1)),
        6 => drop(bytes.drain(range(bytes.len(), dice))),
        7 => copy(bytes, dice),
        8 => splice(bytes, others, dice),
        9 => repeat(bytes, dice),
        10 => varint(bytes, dice),
        11 | 12 => token(bytes, dice),
        _ => nest(bytes, dice),
    }
}

/// A range of few bytes, or of any number.
fn range(length: usize, dice: &mut Dice) -> std::ops::Range<usize> {
    let from = dice.below(length + 1);
    let left = length - from;
    let taken = if dice.below(3) == 0 { dice.below(left + 1) } else { dice.below(17).min(left) };
    from..from + taken
}

fn flip(bytes: &mut [u8], dice: &mut Dice) {
    if !bytes.is_empty() {
        bytes[dice.below(bytes.len())] ^= 1 << dice.below(8);
    }
}

fn poke(bytes: &mut [u8], dice: &mut Dice) {
    if !bytes.is_empty() {
        bytes[dice.below(bytes.len())] = *dice.of(BYTES);
    }
}

/// Puts an extreme number, or one near a length, over some bytes; little or big endian.
fn number(bytes: &mut [u8], dice: &mut Dice) {
    let width = *dice.of(&[1, 2, 4, 8]);
    if bytes.len() < width {
        return;
    }
    let places = bytes.len() - width + 1;
    // Lengths stand at even places mostly.
    let at = if dice.below(2) == 0 { dice.below(places) } else { dice.below(places) / width * width };
    let value = match dice.below(3) {
        0 => (bytes.len() as u64).wrapping_add(dice.bits() % 5).wrapping_sub(2),
        _ => dice.of(&NUMBERS).wrapping_add(dice.bits() % 3).wrapping_sub(1),
    };
    match dice.below(4) {
        0 => bytes[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]),
        _ => bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]),
    }
}

fn copy(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let part = bytes[range(bytes.len(), dice)].to_vec();
    let at = dice.below(bytes.len() + 1);
    // In the place of what is there, or between.
    let end = if dice.below(2) == 0 { at } else { (at + part.len()).min(bytes.len()) };
    bytes.splice(at..end, part);
}

fn splice(bytes: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    if others.is_empty() {
        return;
    }
    let other = dice.of(others);
    bytes.truncate(dice.below(bytes.len() + 1));
    bytes.extend_from_slice(&other[dice.below(other.len() + 1)..]);
}

fn repeat(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let part = bytes[range(bytes.len(), dice)].to_vec();
    let room = LENGTH_MAX.saturating_sub(bytes.len());
    let times = (1 << dice.below(12)).min(room / part.len().max(1));
    let at = dice.below(bytes.len() + 1);
    bytes.splice(at..at, part.repeat(times));
}

/// Puts a number of variable length (Thrift, Protobuf) over some bytes.
fn varint(bytes: &mut [u8], dice: &mut Dice) {
    let mut value = *dice.of(&NUMBERS);
    let mut at = dice.below(bytes.len() + 1);
    while at < bytes.len() {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes[at] = if value == 0 { low } else { low | 0x80 };
        at += 1;
        if value == 0 {
            return;
        }
    }
}

/// Puts another token in the place of a number or word of a text format.
fn token(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'+');
    let from = dice.below(bytes.len() + 1);
    let Some(begin) = bytes[from..].iter().position(is_part).map(|at| from + at) else { return };
    let begin = bytes[..begin].iter().rposition(|byte| !is_part(byte)).map_or(0, |at| at + 1);
    let end = bytes[begin..].iter().position(|byte| !is_part(byte)).map_or(bytes.len(), |at| begin + at);
    bytes.splice(begin..end, dice.of(&TOKENS).bytes());
}

/// Opens many brackets.
fn nest(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let deep = 1 << dice.below(14);
    let bracket = *dice.of(&["[", "{", "{\"a\":", "(", "- "]);
    bytes.splice(at..at, bracket.repeat(deep).into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_input_and_others_give_others() {
        let base = br#"{"a": 12, "b": [1, 2, 3]}"#;
        let others = [base.to_vec()];
        let made = |seed| mutate(base, &others, &mut Dice::new(seed));
        assert_eq!(made(7), made(7));
        let all: std::collections::BTreeSet<_> = (0..1000).map(made).collect();
        assert!(all.len() > 800, "{}", all.len());
    }

    #[test]
    fn no_base_is_too_short() {
        for seed in 0..2000 {
            mutate(&[], &[Vec::new()], &mut Dice::new(seed));
            mutate(&[1], &[], &mut Dice::new(seed));
        }
    }
}
