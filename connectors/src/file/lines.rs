//! The lines of one file, for whoever wants them without a job, such as `riverrun topic import`.

use std::fs::File;
use std::path::Path;

use riverrun_dataflow::source::{Chunk, Payload, ReadLimits, SourceError, SplitReader};

use super::compression::Compression;
use super::text::{Input, Layout, TextReader};

/// Lines that are read at once, and their bytes.
const LIMITS: ReadLimits = ReadLimits::at_most(8192, 4 << 20);

/// Reads a file line by line, unpacked if its name ends in `.gz` or `.zst`. Empty lines are left out.
pub struct LineReader {
    reader: TextReader,
}

impl LineReader {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<LineReader, SourceError> {
        let what = format!("`{}`", path.display());
        let failed = |error: std::io::Error| SourceError::Read { what: what.clone(), reason: error.to_string() };
        let compression = Compression::Auto.of(path);
        let bytes = compression.unpack(File::open(path).map_err(failed)?).map_err(failed)?;
        let input = Input { what: what.clone(), bytes, compression, left: None };
        Ok(LineReader { reader: TextReader::new(input, Layout::Lines, 0)? })
    }

    /// Calls `each` with every line up to the next rest; returns false when there are no more.
    pub fn read<E>(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<Result<bool, E>, SourceError> {
        let Some(Chunk { payload: Payload::Records(records), .. }) = self.reader.read(&LIMITS)? else {
            return Ok(Ok(false));
        };
        for (from, to) in &records.ranges {
            if let Err(error) = each(&records.bytes[*from as usize..*to as usize]) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(true))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(name: &str, bytes: &[u8]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut reader = LineReader::open(&path).unwrap();
        let mut found = Vec::new();
        let mut each = |line: &[u8]| -> Result<(), ()> {
            found.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        };
        while reader.read(&mut each).unwrap().unwrap() {}
        found
    }

    #[test]
    fn lines_come_out_of_packed_files_as_of_plain_ones() {
        let text = b"a\r\nb\n\nc";
        assert_eq!(lines("x.jsonl", text), ["a", "b", "c"]);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text).unwrap();
        assert_eq!(lines("x.jsonl.gz", &gz.finish().unwrap()), ["a", "b", "c"]);
        assert_eq!(lines("x.jsonl.zst", &zstd::encode_all(&text[..], 1).unwrap()), ["a", "b", "c"]);
        assert_eq!(lines("empty", b""), Vec::<String>::new());
    }
}
