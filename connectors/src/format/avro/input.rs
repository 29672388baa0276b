//! Avro's binary form, value by value. Nothing of it is trusted: lengths are held against what is left of the record.

use super::schema::{AvroSchema, Form, TypeId};

/// A datum may be nested this deep: what is deeper is hostile, or a schema that has no end.
pub(crate) const DEPTH_MAX: usize = 128;

/// A record that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    /// Values that may still be read. Some take no bytes at all (null, an empty record): without a bound a few bytes could
    /// claim more of them than there is memory, or time.
    left: u64,
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub String);

fn malformed<T>(why: &str) -> Result<T, Malformed> {
    Err(Malformed(why.to_owned()))
}

impl<'a> Input<'a> {
    /// Returns the input of a record.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, left: 65_536 + 4 * bytes.len() as u64 }
    }

    /// Returns the bytes that are left.
    pub fn rest(&self) -> usize {
        self.bytes.len()
    }

    /// Takes note of a value.
    pub fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return malformed("it is nested more than 128 levels deep");
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => malformed("it claims many more values than it has bytes"),
        }
    }

    /// Takes so many bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        match self.bytes.split_at_checked(length) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => malformed("it ends within a value"),
        }
    }

    /// Takes an int or a long: a zigzag number of variable length.
    #[inline]
    pub fn long(&mut self) -> Result<i64, Malformed> {
        let mut value: u64 = 0;
        for (index, byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                if index == 9 && *byte > 1 {
                    return malformed("a number has more than 64 bits");
                }
                self.bytes = &self.bytes[index + 1..];
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        match self.bytes.len() < 10 {
            true => malformed("it ends within a value"),
            false => malformed("a number has more than 64 bits"),
        }
    }

    /// Takes an int.
    pub fn int(&mut self) -> Result<i64, Malformed> {
        match self.long()? {
            value if i32::try_from(value).is_ok() => Ok(value),
            _ => malformed("an int has more than 32 bits"),
        }
    }

    /// Takes a boolean.
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => malformed("a boolean is neither 0 nor 1"),
        }
    }

    /// Takes a float.
    pub fn float(&mut self) -> Result<f32, Malformed> {
        let bytes = self.take(4)?.first_chunk().expect("four bytes were taken");
        Ok(f32::from_le_bytes(*bytes))
    }

    /// Takes a double.
    pub fn double(&mut self) -> Result<f64, Malformed> {
        let bytes = self.take(8)?.first_chunk().expect("eight bytes were taken");
        Ok(f64::from_le_bytes(*bytes))
    }

    /// Takes bytes that say their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match usize::try_from(self.long()?) {
            Ok(length) => self.take(length),
            Err(_) => malformed("a length is negative"),
        }
    }

    /// Takes a text.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|error| Malformed(format!("a string is not UTF-8: {error}")))
    }

    /// Takes which of so many there are.
    pub fn index(&mut self, count: usize, what: &str) -> Result<usize, Malformed> {
        let index = self.long()?;
        let valid = usize::try_from(index).ok().filter(|index| *index < count);
        valid.ok_or_else(|| Malformed(format!("{what} {index} is named, of which there are {count}")))
    }

    /// Takes the head of a block of items: how many there are, none at the end.
    pub fn block(&mut self) -> Result<u64, Malformed> {
        let count = self.long()?;
        if count < 0 {
            // Then the bytes of the block follow, for those who skip it.
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }

    /// Passes over a value.
    pub fn skip(&mut self, schema: &AvroSchema, id: TypeId, depth: usize) -> Result<(), Malformed> {
        self.value(depth)?;
        match &schema.get(id).form {
            Form::Null => {}
            Form::Boolean => drop(self.boolean()?),
            Form::Int | Form::Long => drop(self.long()?),
            Form::Float => drop(self.take(4)?),
            Form::Double => drop(self.take(8)?),
            Form::Bytes | Form::String => drop(self.bytes()?),
            Form::Fixed(size) => drop(self.take(*size)?),
            Form::Enum(symbols) => drop(self.index(symbols.len(), "symbol")?),
            Form::Record(fields) => {
                for field in fields {
                    self.skip(schema, field.of, depth + 1)?;
                }
            }
            Form::Union(branches) => {
                let branch = branches[self.index(branches.len(), "branch")?];
                self.skip(schema, branch, depth + 1)?;
            }
            Form::Array(item) => self.skip_blocks(schema, *item, depth, false)?,
            Form::Map(value) => self.skip_blocks(schema, *value, depth, true)?,
        }
        Ok(())
    }

    fn skip_blocks(&mut self, schema: &AvroSchema, of: TypeId, depth: usize, keyed: bool) -> Result<(), Malformed> {
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                if keyed {
                    self.bytes()?;
                }
                self.skip(schema, of, depth + 1)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag_and_end() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0x80, 0x01], 64),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], i64::MIN),
            (&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], i64::MAX),
        ] {
            assert_eq!(Input::new(bytes).long(), Ok(value));
        }
        for bytes in
            [&[][..], &[0x80], &[0xff; 10], &[0xff; 11], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]]
        {
            assert!(Input::new(bytes).long().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_takes_no_bytes_is_bounded() {
        let schema = AvroSchema::parse(r#"{"type": "array", "items": "null"}"#, &[]).unwrap();
        let mut claims = vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
        assert!(Input::new(&claims).skip(&schema, schema.root, 0).unwrap_err().0.contains("many more"));
        claims.splice(..10, [10]);
        assert_eq!(Input::new(&claims).skip(&schema, schema.root, 0), Ok(()));
        let endless =
            AvroSchema::parse(r#"{"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}"#, &[]);
        let endless = endless.unwrap();
        assert!(Input::new(&[]).skip(&endless, endless.root, 0).unwrap_err().0.contains("deep"));
    }
}
