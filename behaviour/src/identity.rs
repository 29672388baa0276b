//! Identities: names made from what a thing is, so that every run and every machine gives the same ones.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Stands between the parts of an identity: the unit separator.
const SEPARATOR: u8 = 0x1F;

/// An identity: the first 16 bytes of a SHA-256, shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

/// Returns the identity of `parts`: the first 16 bytes of SHA-256 over the UTF-8 parts joined by the byte 0x1F.
///
/// A separator inside a part is not escaped, so parts that come from outside should stand last or be checked before.
pub fn identity(parts: &[&str]) -> Id {
    let mut hash = Sha256::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update([SEPARATOR]);
        }
        hash.update(part.as_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    Id(id)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digit by digit: a session that ends is named, and millions may end at once.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are text"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no identity: not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an identity has 32 hexadecimal digits")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(NotAnId);
        }
        let digit = |byte: u8| (byte as char).to_digit(16).ok_or(NotAnId);
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Id(id))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-I3: the vector of an incident's fingerprint.
    #[test]
    fn g_i3_an_identity_is_that_of_the_published_vector() {
        let id = identity(&["ufse/1", "t1", "unresponsive", "/checkout/:id", "[data-testid=pay]"]);
        assert_eq!(id.to_string(), "b897387136311a911e69782fd72e27ed");
    }

    /// G-S11: the vector of a session's id.
    #[test]
    fn g_s11_an_identity_is_that_of_the_published_vector() {
        assert_eq!(identity(&["ses/1", "t1", "dev-1", "e1"]).to_string(), "b5c524faa2fffb58e1cf6cb7ed458eef");
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(identity(&["ab", "c"]), identity(&["a", "bc"]));
        assert_ne!(identity(&["a", ""]), identity(&["a"]));
    }

    #[test]
    fn an_identity_is_read_back_as_it_was_shown() {
        let id = identity(&["x"]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("b897".parse::<Id>(), Err(NotAnId));
        assert_eq!("é".repeat(16).parse::<Id>(), Err(NotAnId));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id);
    }
}
