//! Compressed files, read as the bytes within.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use riverrun_dataflow::source::SourceError;

/// Compressed bytes that are read at once.
const BLOCK: usize = 256 << 10;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As its name says: `.gz`, `.zst`, or not at all.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// Zstandard, of one or several frames.
    Zstd,
}

impl Compression {
    /// Returns how the file at `path` is compressed; never `Auto`.
    pub(super) fn of(self, path: &Path) -> Compression {
        if self != Compression::Auto {
            return self;
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Compression::Gzip,
            Some("zst") => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// Returns the bytes within `file`.
    pub(super) fn unpack(self, file: File) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BLOCK, file))),
            Compression::Zstd => Box::new(zstd::Decoder::with_buffer(BufReader::with_capacity(BLOCK, file))?),
            Compression::Auto | Compression::None => Box::new(file),
        })
    }

    /// Returns what a failed read of `what` means: a fault of the system, or of what is stored.
    pub(super) fn failed(self, what: &str, error: &io::Error) -> SourceError {
        let what = what.to_owned();
        if self == Compression::None || error.raw_os_error().is_some() {
            return SourceError::Read { what, reason: error.to_string() };
        }
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it ends in the middle of its compressed data".to_owned(),
            _ => format!("it cannot be unpacked: {error}"),
        };
        SourceError::Damaged { what, reason }
    }
}
