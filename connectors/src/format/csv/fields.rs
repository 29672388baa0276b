//! Where records and fields end.

use std::borrow::Cow;

/// Returns where the record that begins at `from` ends: the index of its line end, or `None` if the bytes end before it.
pub(crate) fn record_end(bytes: &[u8], from: usize, delimiter: u8) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr2(b'\n', b'"', bytes.get(at..)?)?;
        if bytes[at] == b'\n' {
            return Some(at);
        }
        let opens = at == from || bytes[at - 1] == delimiter;
        at = if opens { quoted_end(bytes, at + 1)? + 1 } else { at + 1 };
    }
}

/// Returns the closing quote of the field whose content begins at `at`. A quote that ends the bytes may be one of two.
fn quoted_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(b'"', bytes.get(at..)?)?;
        match bytes.get(at + 1) {
            Some(b'"') => at += 2,
            Some(_) => return Some(at),
            None => return None,
        }
    }
}

/// A field of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// Its text, quotes removed.
    pub(crate) text: Cow<'a, str>,
    /// It began with a quote.
    pub(crate) quoted: bool,
}

/// Reads the fields of one record.
pub(crate) struct FieldReader<'a> {
    rest: Option<&'a str>,
    delimiter: u8,
}

impl<'a> FieldReader<'a> {
    /// Returns a reader of the fields of `record`, which has no line end; `delimiter` is ASCII.
    pub(crate) fn new(record: &'a str, delimiter: u8) -> FieldReader<'a> {
        FieldReader { rest: Some(record), delimiter }
    }

    /// Splits `text` at the first delimiter from `from` on and keeps what follows it.
    fn cut(&mut self, text: &'a str, from: usize) -> &'a str {
        match memchr::memchr(self.delimiter, &text.as_bytes()[from..]) {
            Some(at) => {
                self.rest = Some(&text[from + at + 1..]);
                &text[..from + at]
            }
            None => {
                self.rest = None;
                text
            }
        }
    }
}

impl<'a> Iterator for FieldReader<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let text = self.rest?;
        if !text.starts_with('"') {
            return Some(Field { text: Cow::Borrowed(self.cut(text, 0)), quoted: false });
        }
        // The record is whole: a quote that nothing follows is the closing one.
        let bytes = text.as_bytes();
        let closing = match quoted_end(bytes, 1) {
            Some(at) => at,
            None if text.len() > 1 && bytes[text.len() - 1] == b'"' && closes(bytes) => text.len() - 1,
            None => text.len(),
        };
        let after = (closing + 1).min(text.len());
        let whole = self.cut(text, after);
        let (content, tail) = (&text[1..closing], &whole[after..]);
        let plain = tail.is_empty() && !content.contains('"');
        let text = if plain { Cow::Borrowed(content) } else { Cow::Owned(content.replace("\"\"", "\"") + tail) };
        Some(Field { text, quoted: true })
    }
}

/// Returns whether the last quote of a field is a closing one, not the second of a pair.
fn closes(bytes: &[u8]) -> bool {
    let mut at = 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(b'"', rest)) {
        at += found;
        if at + 1 == bytes.len() {
            return true;
        }
        // Before the end every quote is followed by another, else the field had ended there.
        at += 2;
    }
    false
}
