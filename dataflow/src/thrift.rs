//! The footer of a Parquet file that comes from outside, before its reader sees it.
//!
//! A footer is a structure of Thrift's compact protocol. What a reader does not know of it, it skips, element by element; a list may say that it
//! has two thousand million elements that take no byte, in lists of the kind, and Parquet's own reader is at that for ever. Damage that leads there
//! is found here. Not so what is made to get by: the reader goes by the numbers of fields it knows, whatever type they say they have, and the heads
//! of pages are structures, too, which nobody looks at before.
//!
//! Protocol: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

/// The bytes at the end of a file that say how long its footer is.
pub const PARQUET_END: usize = 8;

/// Structures within each other: more are refused.
const DEPTH_MAX: u32 = 64;

/// Returns the length of the footer before these last bytes of a file, if they are those of a Parquet file.
pub fn parquet_footer(end: &[u8]) -> Option<usize> {
    let [a, b, c, d, b'P', b'A', b'R', b'1'] = *end else { return None };
    usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()
}

/// Checks the whole Parquet file `bytes`, if there is a footer in it: whether there is one is for its reader to say.
pub fn check_parquet(bytes: &[u8]) -> Result<(), String> {
    let Some((rest, end)) = bytes.split_last_chunk::<PARQUET_END>() else { return Ok(()) };
    let footer = parquet_footer(end).and_then(|length| rest.len().checked_sub(length));
    footer.map_or(Ok(()), |from| check_footer(&rest[from..]))
}

/// Checks a footer.
pub fn check_footer(footer: &[u8]) -> Result<(), String> {
    Walk { left: footer }.value(STRUCT, DEPTH_MAX).map_err(|reason| format!("its footer is none: {reason}"))
}

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Goes through bytes.
struct Walk<'a> {
    left: &'a [u8],
}

impl Walk<'_> {
    /// Passes a value of this type. A truth value is in the type itself, and takes no byte.
    fn value(&mut self, kind: u8, depth: u32) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or("it has structures within each other for ever")?;
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.pass(1),
            I16 | I32 | I64 => self.number().map(drop),
            DOUBLE => self.pass(8),
            UUID => self.pass(16),
            BINARY => {
                let length = self.number()?;
                self.pass(length)
            }
            LIST | SET => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                self.elements(count, &[head & 15], depth)
            }
            MAP => match self.number()? {
                0 => Ok(()),
                count => {
                    let kinds = self.byte()?;
                    self.elements(count, &[kinds >> 4, kinds & 15], depth)
                }
            },
            STRUCT => loop {
                let head = self.byte()?;
                if head == STOP {
                    return Ok(());
                }
                if head >> 4 == 0 {
                    // The field's number is not told by its distance from the one before.
                    self.number()?;
                }
                self.value(head & 15, depth)?;
            },
            _ => Err(format!("it has a value of type {kind}")),
        }
    }

    /// Passes so many elements of a list, or pairs of a map. Nothing that Parquet defines has truth values among them: readers do not
    /// agree on how many bytes they take.
    fn elements(&mut self, count: u64, kinds: &[u8], depth: u32) -> Result<(), String> {
        if count > self.left.len() as u64 {
            return Err(format!("it has a list of {count} elements in {} bytes", self.left.len()));
        }
        if count > 0 && kinds.iter().any(|kind| matches!(*kind, TRUE | FALSE)) {
            return Err("it has a list of truth values".into());
        }
        (0..count).try_for_each(|_| kinds.iter().try_for_each(|kind| self.value(*kind, depth)))
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (first, left) = self.left.split_first().ok_or(CUT)?;
        self.left = left;
        Ok(*first)
    }

    fn pass(&mut self, bytes: u64) -> Result<(), String> {
        let left = usize::try_from(bytes).ok().and_then(|bytes| self.left.get(bytes..));
        self.left = left.ok_or(CUT)?;
        Ok(())
    }

    /// Reads a number of seven bits a byte, the least ones first.
    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte & 128 == 0 {
                return Ok(number);
            }
        }
        Err("it has a number of more than ten bytes".into())
    }
}

const CUT: &str = "it ends in the middle of a value";

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure with one field of this type.
    fn with(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[1 << 4 | kind], value, &[STOP]].concat()
    }

    #[test]
    fn each_type_is_passed() {
        let inner = with(I32, &[0x96, 1]);
        for footer in [
            with(TRUE, &[]),
            with(BYTE, &[7]),
            with(I64, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            with(DOUBLE, &[0; 8]),
            with(UUID, &[0; 16]),
            with(BINARY, b"\x03abc"),
            with(LIST, &[&[2 << 4 | STRUCT], inner.as_slice(), &inner].concat()),
            with(SET, &[&[15 << 4 | I16, 16], [0; 16].as_slice()].concat()),
            with(MAP, &[0]),
            with(MAP, &[1, BINARY << 4 | I32, 1, b'a', 5]),
            with(STRUCT, &inner),
            // The number of a field by itself.
            vec![BYTE, 0x80, 2, 9, STOP],
        ] {
            assert_eq!(check_footer(&footer), Ok(()), "{footer:?}");
            for cut in 0..footer.len() {
                assert!(check_footer(&footer[..cut]).is_err(), "{footer:?} to {cut}");
            }
        }
    }

    #[test]
    fn lists_that_take_no_bytes_are_refused() {
        let many = [0xff, 0xff, 0xff, 0xff, 7];
        for (value, says) in [
            ([&[15 << 4 | TRUE], many.as_slice()].concat(), "2147483647 elements"),
            ([&[15 << 4 | STRUCT], many.as_slice()].concat(), "2147483647 elements"),
            (vec![2 << 4 | FALSE, 1, 1], "truth values"),
            (vec![1 << 4 | STOP], "of type 0"),
            (vec![1 << 4 | LIST; 100], "within each other"),
        ] {
            let error = check_footer(&with(LIST, &value)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(check_footer(&with(MAP, &[0xff, 0xff, 0xff, 0xff, 7, TRUE << 4 | TRUE])).is_err());
    }

    #[test]
    fn a_footer_is_found_at_the_end_of_a_file() {
        let file =
            |footer: &[u8]| [b"PAR1", footer, &u32::try_from(footer.len()).unwrap().to_le_bytes(), b"PAR1"].concat();
        assert_eq!(check_parquet(&file(&with(BYTE, &[7]))), Ok(()));
        assert!(check_parquet(&file(&with(14, &[]))).is_err());
        // These are for the reader.
        for none in [b"".as_slice(), b"PAR1", b"\xff\xff\xff\xffPAR1", b"\x01\x00\x00\x00PARE"] {
            assert_eq!(check_parquet(none), Ok(()));
        }
    }
}
