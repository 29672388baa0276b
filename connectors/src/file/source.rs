//! Files as splits.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_dataflow::graph::Make;
use riverrun_dataflow::source::{Decoder, Source, SourceError, SplitReader, SplitSpec};

use super::columns::{ColumnsReader, count_rows};
use super::compression::Compression;
use super::identity::{Ends, identity, size_of};
use super::listing::Pattern;
use super::text::{Input, Layout, TextReader};
use crate::format::csv::{Header, check_header, declared_names, header_names};
use crate::format::{FormatError, FormatSpec, RowSchema, file_decoder};

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct FileSourceConfig {
    /// A path, or a glob: `*` and `?` stay within a folder, `**` crosses folders.
    pub path: String,
    /// How rows are written.
    pub format: FormatSpec,
    /// How files are compressed; a Parquet file never is.
    pub compression: Compression,
    /// What rows look like.
    pub schema: Arc<RowSchema>,
}

/// Reads a fixed set of files; a split is a file.
#[derive(Clone, Debug)]
pub struct FileSource {
    config: FileSourceConfig,
    pattern: Pattern,
    header: Header,
}

impl FileSource {
    /// Returns the source, or why its settings do not go together. Does not look at the files yet.
    pub fn new(config: FileSourceConfig) -> Result<FileSource, FormatError> {
        config.schema.check()?;
        let pattern = Pattern::parse(&config.path).map_err(FormatError)?;
        let header = Header::default();
        if let FormatSpec::Csv(options) = &config.format {
            if !options.delimiter.is_ascii() || matches!(options.delimiter, b'"' | b'\n' | b'\r') {
                return Err(FormatError("the delimiter must be one ASCII character, no quote or line end".to_owned()));
            }
            if !options.header {
                header.set(declared_names(&config.schema)).expect("the header is new");
            }
        }
        Ok(FileSource { config, pattern, header })
    }

    /// Returns what makes decoders for what this source reads.
    pub fn decoder(&self) -> Result<Make<dyn Decoder>, FormatError> {
        file_decoder(&self.config.format, self.config.schema.clone(), self.header.clone())
    }

    fn is_parquet(&self) -> bool {
        self.config.format == FormatSpec::Parquet
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.pattern.root.join(name)
    }

    fn spec(&self, name: String, bounded: bool) -> Result<SplitSpec, SourceError> {
        let path = self.path_of(&name);
        let what = shown(&path);
        let failed = |error: io::Error| SourceError::Read { what: what.clone(), reason: error.to_string() };
        let mut file = File::open(&path).map_err(failed)?;
        let ends = if self.is_parquet() { Ends::HeadAndTail } else { Ends::Head };
        let identity = identity(&mut file, ends).map_err(failed)?;
        let compressed = self.config.compression.of(&path) != Compression::None;
        let end = match bounded {
            true if self.is_parquet() => Some(count_rows(&what, file)?),
            true if !compressed => size_of(&identity),
            _ => None,
        };
        Ok(SplitSpec { name, start: 0, end, identity })
    }

    /// Opens a file that must still be what `split` says.
    fn open_same(&self, split: &SplitSpec) -> Result<(File, PathBuf), SourceError> {
        let path = self.path_of(&split.name);
        let what = shown(&path);
        let changed = |reason: String| SourceError::Changed { what: what.clone(), reason };
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => changed("it is gone".to_owned()),
            _ => SourceError::Read { what: what.clone(), reason: error.to_string() },
        };
        let mut file = File::open(&path).map_err(failed)?;
        let ends = if self.is_parquet() { Ends::HeadAndTail } else { Ends::Head };
        let found = identity(&mut file, ends).map_err(failed)?;
        if split.identity.is_empty() || found == split.identity {
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            return Ok((file, path));
        }
        let (was, is) = (size_of(&split.identity).unwrap_or(0), size_of(&found).unwrap_or(0));
        Err(changed(match was == is {
            true => "its content is another".to_owned(),
            false => format!("it had {was} bytes, now {is}; a growing file enters by `riverrun topic import`"),
        }))
    }

    fn open_text(&self, split: &SplitSpec, position: u64) -> Result<TextReader, SourceError> {
        let (file, path) = self.open_same(split)?;
        let layout = self.layout();
        if let (Layout::Csv { header: true, .. }, FormatSpec::Csv(options)) = (layout, &self.config.format) {
            let input = self.input(self.open_same(split)?.0, &path, 0)?;
            let record = TextReader::header(input, layout)?;
            if let Some(record) = record {
                let names = header_names(&record, options);
                let checked = names.and_then(|names| self.check_names(names));
                checked.map_err(|reason| SourceError::Read { what: shown(&path), reason })?;
            }
        }
        TextReader::new(self.input(file, &path, position)?, layout, position)
    }

    /// All files must have one header, which the decoders then know.
    fn check_names(&self, names: Vec<String>) -> Result<(), String> {
        check_header(&names, &self.config.schema)?;
        let known = self.header.get_or_init(|| names.clone());
        match *known == names {
            true => Ok(()),
            false => Err(format!(
                "its header is `{}`, that of another file of this source `{}`: all must have one",
                names.join(","),
                known.join(",")
            )),
        }
    }

    fn layout(&self) -> Layout {
        match &self.config.format {
            FormatSpec::Csv(options) => Layout::Csv { delimiter: options.delimiter, header: options.header },
            _ => Layout::Lines,
        }
    }

    /// Returns the bytes within `file` from `position` on.
    fn input(&self, mut file: File, path: &Path, position: u64) -> Result<Input, SourceError> {
        let what = shown(path);
        let compression = self.config.compression.of(path);
        let failed = |error: io::Error| compression.failed(&what, &error);
        if compression == Compression::None {
            let size = file.metadata().map_err(failed)?.len();
            file.seek(SeekFrom::Start(position)).map_err(failed)?;
            let left = size.saturating_sub(position);
            return Ok(Input { what, bytes: Box::new(file.take(left)), compression, left: Some(left) });
        }
        let mut bytes = compression.unpack(file).map_err(failed)?;
        let skipped = io::copy(&mut bytes.by_ref().take(position), &mut io::sink()).map_err(failed)?;
        if skipped < position {
            let reason = format!("it holds {skipped} bytes, position {position} is behind its end");
            return Err(SourceError::Changed { what, reason });
        }
        Ok(Input { what, bytes, compression, left: None })
    }
}

impl Source for FileSource {
    fn splits(&self, bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        self.pattern.files()?.into_iter().map(|name| self.spec(name, bounded)).collect()
    }

    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        if !self.is_parquet() {
            return Ok(Box::new(self.open_text(split, position)?));
        }
        let (file, path) = self.open_same(split)?;
        Ok(Box::new(ColumnsReader::new(&shown(&path), file, &self.config.schema, position)?))
    }
}

fn shown(path: &Path) -> String {
    format!("file `{}`", path.display())
}
