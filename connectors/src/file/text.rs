//! Records of a text file: lines, or CSV records, whose quoted fields may hold line ends.
//!
//! A position is a byte offset in the unpacked file. What stands between records and is none of them (a byte order mark, a CSV header,
//! empty lines) belongs to the bytes of the record that follows it, so that bytes follow each other without a gap however
//! they are cut; behind the last record it belongs to nothing. A line ends with LF or CRLF, the last one also with the file.
//!
//! A record longer than [`RECORD_BYTES_MAX`] is given as its first `RECORD_BYTES_MAX + 1` bytes, alone in its chunk, and is
//! thereby known to be too long; `to` lies behind all of it. A run of empty lines of that length counts as such a record.

use std::io::{self, Read};
use std::sync::Arc;

use riverrun_dataflow::source::{Chunk, Numbering, Payload, ReadLimits, Records, SourceError, SplitReader};

use super::compression::Compression;
use crate::format::csv::record_end;
use crate::format::rows::RECORD_BYTES_MAX;

/// Bytes that are read at once.
const BLOCK: usize = 512 << 10;
/// UTF-8's byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How the records of a file are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One per line.
    Lines,
    /// CSV with this delimiter.
    Csv {
        /// What stands between fields.
        delimiter: u8,
        /// The first record is a header.
        header: bool,
    },
}

/// Where bytes come from.
pub(super) struct Input {
    /// The file, named for a person.
    pub(super) what: String,
    /// The bytes, from the position on.
    pub(super) bytes: Box<dyn Read + Send>,
    /// How they are packed.
    pub(super) compression: Compression,
    /// Bytes that must still come, where that is known: fewer mean that the file was cut.
    pub(super) left: Option<u64>,
}

/// Reads records.
pub(super) struct TextReader {
    input: Input,
    layout: Layout,
    /// Bytes that were read but not given begin at `at`.
    buffer: Vec<u8>,
    at: usize,
    /// Where the byte at `at` stands in the file.
    position: u64,
    /// Bytes at `at` that are known to come before the next record.
    lead: usize,
    /// The input has no more bytes.
    drained: bool,
    /// Nothing but what is no record is left.
    ended: bool,
}

/// The next record, relative to `buffer`.
enum Next {
    /// From, to, and behind its line end.
    Record { from: usize, to: usize, behind: usize },
    /// It begins here and is too long; its end may not be in the buffer.
    TooLong { from: usize },
    /// Empty lines without end.
    TooBlank,
    /// More bytes are needed.
    Unknown,
    /// There is none.
    None,
}

impl TextReader {
    /// Returns a reader of `input`, which stands at `position`: 0, or where a chunk ended.
    pub(super) fn new(input: Input, layout: Layout, position: u64) -> Result<TextReader, SourceError> {
        let (buffer, at, lead) = (Vec::new(), 0, 0);
        let mut reader = TextReader { input, layout, buffer, at, position, lead, drained: false, ended: false };
        if position == 0 {
            reader.skip_head()?;
        }
        reader.settle()?;
        Ok(reader)
    }

    /// Returns the first record of a file at its beginning, if it has one: the header.
    pub(super) fn header(input: Input, layout: Layout) -> Result<Option<Vec<u8>>, SourceError> {
        let layout = match layout {
            Layout::Csv { delimiter, .. } => Layout::Csv { delimiter, header: false },
            Layout::Lines => Layout::Lines,
        };
        let mut reader = TextReader::new(input, layout, 0)?;
        let chunk = reader.read(&ReadLimits::at_most(1, 1))?;
        Ok(chunk.map(|chunk| match chunk.payload {
            Payload::Records(records) => {
                let (from, to) = records.ranges[0];
                records.bytes[from as usize..to as usize].to_vec()
            }
            Payload::Columns(_) => Vec::new(),
        }))
    }

    /// Skips what only the beginning of a file has.
    fn skip_head(&mut self) -> Result<(), SourceError> {
        while self.buffer.len() < MARK.len() && !self.drained {
            self.fill()?;
        }
        if self.buffer.starts_with(MARK) {
            self.lead = MARK.len();
        }
        if !matches!(self.layout, Layout::Csv { header: true, .. }) {
            return Ok(());
        }
        loop {
            match self.next(self.at + self.lead) {
                Next::Record { behind, .. } => {
                    self.lead = behind - self.at;
                    return Ok(());
                }
                Next::Unknown => self.fill()?,
                Next::None => return Ok(()),
                Next::TooLong { .. } | Next::TooBlank => {
                    let (what, reason) = (self.input.what.clone(), "its header is longer than 64 MiB".to_owned());
                    return Err(SourceError::Read { what, reason });
                }
            }
        }
    }

    /// Reads on until it is known whether another record follows.
    fn settle(&mut self) -> Result<(), SourceError> {
        loop {
            let from = self.at + self.lead;
            let blanks = blank_end(&self.buffer, from) - from;
            self.lead += blanks;
            // A carriage return may be half a line end.
            if !matches!(&self.buffer[self.at + self.lead..], b"" | b"\r") {
                return Ok(());
            }
            if self.drained {
                self.ended = true;
                return Ok(());
            }
            if self.lead > RECORD_BYTES_MAX {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Finds the record that begins at or after `from`.
    fn next(&self, from: usize) -> Next {
        let from = blank_end(&self.buffer, from);
        if from - self.at > RECORD_BYTES_MAX {
            return Next::TooBlank;
        }
        let end = match self.layout {
            Layout::Lines => memchr::memchr(b'\n', &self.buffer[from..]).map(|length| from + length),
            Layout::Csv { delimiter, .. } => record_end(&self.buffer, from, delimiter),
        };
        let (to, behind) = match end {
            Some(end) if end > from && self.buffer[end - 1] == b'\r' => (end - 1, end + 1),
            Some(end) => (end, end + 1),
            None if self.buffer.len() - from > RECORD_BYTES_MAX + 1 => return Next::TooLong { from },
            None if !self.drained => return Next::Unknown,
            None if matches!(&self.buffer[from..], b"" | b"\r") => return Next::None,
            None => {
                let to = if self.buffer.ends_with(b"\r") { self.buffer.len() - 1 } else { self.buffer.len() };
                (to, self.buffer.len())
            }
        };
        match to - from > RECORD_BYTES_MAX {
            true => Next::TooLong { from },
            false => Next::Record { from, to, behind },
        }
    }

    /// Reads another block behind what is there; a long record makes blocks longer.
    fn fill(&mut self) -> Result<(), SourceError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let before = self.buffer.len();
        let wanted = BLOCK.max(before);
        self.buffer.shrink_to(before + 4 * BLOCK);
        self.buffer.resize(before + wanted, 0);
        let read = read_full(&mut self.input.bytes, &mut self.buffer[before..]);
        let got = read.map_err(|error| self.input.compression.failed(&self.input.what, &error))?;
        self.buffer.truncate(before + got);
        self.drained = got < wanted;
        if let Some(left) = &mut self.input.left {
            *left = left.saturating_sub(got as u64);
            if self.drained && *left > 0 {
                let reason = format!("it was cut: {left} bytes at its end are gone");
                return Err(SourceError::Changed { what: self.input.what.clone(), reason });
            }
        }
        Ok(())
    }

    /// Gives the record too long that begins at `from`, cut, and moves behind the next line end.
    fn give_too_long(&mut self, from: usize) -> Result<Chunk, SourceError> {
        self.give_cut(from, |rest| memchr::memchr(b'\n', rest).map(|length| length + 1))
    }

    /// Gives a run of empty lines as a record too long, and moves behind it.
    fn give_too_blank(&mut self) -> Result<Chunk, SourceError> {
        self.give_cut(self.at, |rest| rest.iter().position(|byte| !matches!(byte, b'\r' | b'\n')))
    }

    fn give_cut(&mut self, from: usize, end_in: impl Fn(&[u8]) -> Option<usize>) -> Result<Chunk, SourceError> {
        let start = self.position;
        let given = self.buffer[self.at..from + RECORD_BYTES_MAX + 1].to_vec();
        let range = (offset(from - self.at), offset(given.len()));
        self.pass(from - self.at + RECORD_BYTES_MAX);
        loop {
            let rest = &self.buffer[self.at..];
            let end = end_in(rest);
            self.pass(end.unwrap_or(rest.len()));
            if end.is_some() || self.drained {
                break;
            }
            self.fill()?;
        }
        self.lead = 0;
        self.settle()?;
        Ok(chunk(start, self.position, given, vec![range]))
    }

    fn pass(&mut self, bytes: usize) {
        self.at += bytes;
        self.position += bytes as u64;
    }
}

impl SplitReader for TextReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        let mut ranges = Vec::new();
        let mut end = self.at;
        loop {
            let from = if ranges.is_empty() { self.at + self.lead } else { end };
            match self.next(from) {
                Next::Record { from, to, behind } => {
                    let length = behind - self.at;
                    let past = limits.until.is_some_and(|until| self.position + length as u64 > until);
                    if past || (!ranges.is_empty() && (ranges.len() >= limits.rows || length > limits.bytes)) {
                        break;
                    }
                    ranges.push((offset(from - self.at), offset(to - self.at)));
                    end = behind;
                }
                Next::Unknown if ranges.is_empty() => {
                    self.fill()?;
                    end = self.at;
                }
                next @ (Next::TooLong { .. } | Next::TooBlank) if ranges.is_empty() => {
                    if limits.until.is_some_and(|until| self.position >= until) {
                        break;
                    }
                    return match next {
                        Next::TooLong { from } => self.give_too_long(from).map(Some),
                        _ => self.give_too_blank().map(Some),
                    };
                }
                Next::TooLong { .. } | Next::TooBlank | Next::Unknown | Next::None => break,
            }
        }
        if ranges.is_empty() {
            return Ok(None);
        }
        let (start, given) = (self.position, self.buffer[self.at..end].to_vec());
        self.pass(end - self.at);
        self.lead = 0;
        self.settle()?;
        Ok(Some(chunk(start, self.position, given, ranges)))
    }

    fn ended(&self) -> bool {
        self.ended
    }
}

/// Reads until `into` is full or nothing is left, and returns how much was read.
pub(super) fn read_full(input: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match input.read(&mut into[got..]) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn chunk(from: u64, to: u64, bytes: Vec<u8>, ranges: Vec<(u32, u32)>) -> Chunk {
    let records = Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Offset };
    Chunk { from, to, payload: Payload::Records(records) }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a chunk stays below 4 GiB")
}

/// Returns where the empty lines that begin at `at` end.
fn blank_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at += match bytes.get(at..) {
            Some([b'\n', ..]) => 1,
            Some([b'\r', b'\n', ..]) => 2,
            _ => return at,
        }
    }
}
