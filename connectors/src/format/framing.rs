//! The frame that schema registries agreed upon: a zero byte, the number of the schema, the record.

use super::rows::Fault;

/// What stands before a record whose schema is registered.
pub(crate) const FRAME: usize = 5;

/// Returns the number of the schema that a framed record names, and what follows.
pub fn unframed(record: &[u8]) -> Option<(u32, &[u8])> {
    match record.split_at_checked(FRAME)? {
        ([0, id @ ..], rest) => Some((u32::from_be_bytes(id.try_into().expect("four bytes")), rest)),
        _ => None,
    }
}

/// Returns the fault of a record that names no schema.
pub(crate) fn no_frame(record: &[u8]) -> Fault {
    let found = match record {
        [] => "it is empty".to_owned(),
        [0, ..] => "it ends before its number does".to_owned(),
        [first, ..] => format!("it begins with the byte {first:#04x}, not with 0"),
    };
    Fault::new("malformed", format!("the record names no registered schema: {found}"))
}

/// Returns the fault of a record whose schema is not known.
pub(crate) fn unknown_schema(id: u32, reason: &str) -> Fault {
    Fault::new("unknown_schema", format!("the registry has no schema {id}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_zero_and_four_bytes_of_number() {
        assert_eq!(unframed(&[0, 0, 0, 1, 2, 7, 8]), Some((258, &[7, 8][..])));
        assert_eq!(unframed(&[0, 0, 0, 1, 2]), Some((258, &[][..])));
        for (bytes, says) in [(&[][..], "empty"), (&[0, 1, 2, 3], "ends before"), (b"{\"a\":1}", "0x7b")] {
            assert_eq!(unframed(bytes), None);
            assert!(no_frame(bytes).reason.contains(says));
        }
    }
}
