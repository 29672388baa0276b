//! Files as source and sink.
//!
//! Source: a fixed set of files, found once by a path or a glob; a split is a file. Records come in the order in which they stand, and
//! any range can be read again. A file that changed, shrank or vanished under a job stops it: it needs nothing of the other
//! side but that it stay as it is. `.gz` and `.zst` are unpacked on the way.
//!
//! Sink: rows are appended to one file, exactly once. See [`FileSink`].

mod columns;
mod compression;
mod identity;
mod lines;
mod listing;
mod lock;
mod sidecar;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod text;

pub use compression::Compression;
pub use lines::LineReader;
pub use listing::{covers, is_same, lies_below};
pub use sink::{FileSink, FileSinkConfig, committed_length};
pub use source::{FileSource, FileSourceConfig};
