//! Parquet files that come from outside, opened so that nothing in them can hold up or panic their reader.
//!
//! The footer of a file and the head of each of its pages are structures of Thrift's compact protocol. What a reader does not know of one, it
//! skips, element by element; a list may say that it has two thousand million elements that take no byte, in lists of the kind, and Parquet's
//! own reader is at that for ever. And it goes by the numbers of fields, whatever type they say they have, so that it may see other fields than
//! are there. So each structure is walked before it is read: its fields have the types of their numbers, and its lists have the bytes for
//! their elements. What else the reader panics at, in the many ways in which pages can contradict themselves, is caught.
//!
//! **Not prevented**: what is packed well takes the memory that it unpacks to, a page of up to 2 GiB and each value of a batch.

mod delta;
mod kinds;
mod pages;
mod shapes;
mod walk;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, Read};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema};
use parquet::basic::{ConvertedType, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use self::pages::Groups;
use self::shapes::{FILE_META_DATA, Note, PAGE_HEADER};
use self::walk::{Fault, check};
use crate::caught::caught;
use crate::ipc::{PARQUET_NOTE, check_schema_note};

/// The bytes at the end of a file that say how long its footer is.
const END: usize = 8;
/// Bytes that are looked at first for the head of a page, and at most: greatest and least values of a page may be in it.
const HEAD: usize = 1 << 10;
const HEAD_MAX: usize = 16 << 20;
/// Bytes that values of one length have at most: room is made for some thousands of them.
const FIXED_MAX: i32 = 1 << 16;

/// Rows of a batch, unless something else is said.
const BATCH_ROWS: usize = 1024;

/// A file that was opened: what it says of itself is known, and which of it is read can be chosen.
pub struct Opened<R> {
    file: Arc<Checked<R>>,
    metadata: Arc<ParquetMetaData>,
    schema: SchemaRef,
    /// What columns become, where Parquet's types leave that open.
    hint: Option<Fields>,
    columns: ProjectionMask,
    groups: Vec<usize>,
    batch_rows: usize,
}

impl<R> Opened<R> {
    /// Returns what the file says of itself.
    pub fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    /// Returns its columns as Parquet has them.
    pub fn parquet_schema(&self) -> &SchemaDescriptor {
        self.metadata.file_metadata().schema_descr()
    }

    /// Returns its columns as they are read.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Only these columns are read, not all.
    pub fn with_projection(self, columns: ProjectionMask) -> Opened<R> {
        Opened { columns, ..self }
    }

    /// Only these groups are read, not all.
    pub fn with_row_groups(self, groups: Vec<usize>) -> Opened<R> {
        Opened { groups, ..self }
    }

    /// Batches have at most so many rows.
    pub fn with_batch_size(self, batch_rows: usize) -> Opened<R> {
        Opened { batch_rows, ..self }
    }
}

/// Opens a file. What is said of it in an error begins with "its" or "it".
pub fn open<R: ChunkReader + 'static>(file: R) -> Result<Opened<R>, String> {
    let Some(footer) = footer(&file)? else {
        // It is for the reader to say why not.
        let read = calm(|| ParquetMetaDataReader::new().parse_and_finish(&file));
        return Err(read.err().unwrap_or_else(|| "it is changed while it is read".into()));
    };
    check(&footer, FILE_META_DATA).map_err(|fault| format!("its footer is none: {fault}"))?;
    let metadata = calm(|| ParquetMetaDataReader::decode_metadata(&footer))?;
    check_columns(&metadata, file.len())?;
    // Its Arrow schema is looked at before it is converted, which panics on what is none.
    for note in metadata.file_metadata().key_value_metadata().into_iter().flatten() {
        if let (PARQUET_NOTE, Some(schema)) = (note.key.as_str(), &note.value) {
            check_schema_note(schema)?;
        }
    }
    let known = calm(|| ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new()))?;
    let (metadata, mut schema) = (known.metadata().clone(), known.schema().clone());
    let own = metadata.file_metadata().schema_descr();
    let columns = ProjectionMask::all();
    let mut hint = Some(schema.fields().clone());
    if levels(own, &columns, hint.as_ref()).is_err() {
        // Arrow's schema lacks groups without columns, and cannot say what the other columns become.
        schema = Arc::new(calm(|| parquet_to_arrow_schema(own, None))?);
        hint = None;
    }
    let groups = (0..metadata.num_row_groups()).collect();
    Ok(Opened { file: Arc::new(Checked(file)), metadata, schema, hint, columns, groups, batch_rows: BATCH_ROWS })
}

/// Returns what the chosen columns are read as.
fn levels(schema: &SchemaDescriptor, columns: &ProjectionMask, hint: Option<&Fields>) -> Result<FieldLevels, String> {
    calm(|| parquet_to_arrow_field_levels(schema, columns.clone(), hint))
}

/// Returns the bytes of the footer, if there is one.
fn footer<R: ChunkReader>(file: &R) -> Result<Option<Bytes>, String> {
    let bytes = |from: u64, length: usize| file.get_bytes(from, length).map_err(|error| error.to_string());
    let Some(end) = file.len().checked_sub(END as u64) else { return Ok(None) };
    let [a, b, c, d, b'P', b'A', b'R', b'1'] = *bytes(end, END)? else { return Ok(None) };
    let length = u32::from_le_bytes([a, b, c, d]);
    let Some(from) = end.checked_sub(length.into()) else { return Ok(None) };
    let length = usize::try_from(length).map_err(|error| error.to_string())?;
    bytes(from, length).map(Some)
}

/// Checks what is counted on to be there when pages are looked for, and room is made for values.
fn check_columns(metadata: &ParquetMetaData, length: u64) -> Result<(), String> {
    for group in metadata.row_groups() {
        let is_negative = |column: &ColumnChunkMetaData| {
            let begins = column.dictionary_page_offset().unwrap_or(0).min(column.data_page_offset());
            begins < 0 || column.compressed_size() < 0 || column.uncompressed_size() < 0 || column.num_values() < 0
        };
        if group.num_rows() < 0 || group.columns().iter().any(is_negative) {
            return Err("its footer names places and numbers below zero".into());
        }
        let is_beyond = |column: &ColumnChunkMetaData| {
            let (begins, bytes) = column.byte_range();
            begins.checked_add(bytes).is_none_or(|ends| ends > length)
        };
        if group.columns().iter().any(is_beyond) {
            return Err("its footer names places beyond its end".into());
        }
    }
    let columns = metadata.file_metadata().schema_descr().columns();
    match columns.iter().find(|column| is_fixed(column) && column.type_length() > FIXED_MAX) {
        Some(column) => {
            Err(format!("values of its column `{}` have {} bytes each", column.path(), column.type_length()))
        }
        None => Ok(()),
    }
}

fn is_fixed(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY
}

/// Rows of a file, batch by batch. After an error there are no more.
pub struct Rows {
    from: Option<ParquetRecordBatchReader>,
    unproven: BTreeSet<String>,
}

impl Rows {
    /// Begins to read the columns and groups that were chosen. To begin further on in a group is not safe, for the reader skips what heads of
    /// pages say is there: who wants that reads from the group's beginning.
    pub fn of<R: ChunkReader + 'static>(file: Opened<R>) -> Result<Rows, String> {
        let unproven = unproven(file.parquet_schema());
        let levels = levels(file.parquet_schema(), &file.columns, file.hint.as_ref())?;
        let groups = Groups { file: file.file, metadata: file.metadata, chosen: file.groups };
        // Room is made for a batch of so many rows.
        let most = file.batch_rows.min(groups.num_rows().max(1));
        let rows = calm(|| ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, most, None))?;
        Ok(Rows { from: Some(rows), unproven })
    }

    fn read(&mut self) -> Option<Result<RecordBatch, String>> {
        let rows = self.from.as_mut()?;
        let batch = match calm(|| rows.next().transpose()).transpose()? {
            Ok(batch) => batch,
            Err(reason) => return Some(Err(reason)),
        };
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let mut unproven = columns.filter(|(field, _)| self.unproven.contains(field.name()));
        let checked = unproven.try_for_each(|(_, column)| column.to_data().validate_full());
        Some(checked.map(|()| batch).map_err(|error| error.to_string()))
    }
}

/// Returns the top-level columns that may come out as texts of which the reader does not see to it that they are: it does so for those
/// alone that are called UTF-8 in the old way.
fn unproven(schema: &SchemaDescriptor) -> BTreeSet<String> {
    let leaves = schema.columns().iter().enumerate();
    let unproven = leaves
        .filter(|(_, leaf)| leaf.physical_type() == Type::BYTE_ARRAY && leaf.converted_type() != ConvertedType::UTF8);
    unproven.map(|(index, _)| schema.get_column_root(index).name().to_owned()).collect()
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Result<RecordBatch, String>> {
        let next = self.read();
        if !matches!(next, Some(Ok(_))) {
            self.from = None;
        }
        next
    }
}

/// Calls the reader, which panics at what it does not expect.
fn calm<T, E: Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match caught(call) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("it contradicts itself: {panic}")),
    }
}

/// A file of which the heads of pages are checked before they are read.
pub struct Checked<R>(R);

impl<R: Length> Length for Checked<R> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<R: ChunkReader> ChunkReader for Checked<R> {
    type T = Head<R::T>;

    /// The reader takes nothing this way but heads of pages.
    fn get_read(&self, start: u64) -> parquet::errors::Result<Head<R::T>> {
        self.0.get_read(start).map(|from| Head { from, ahead: Vec::new(), given: 0, is_checked: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        match start.checked_add(length as u64) {
            Some(end) if end <= self.len() => self.0.get_bytes(start, length),
            _ => Err(ParquetError::EOF(format!("it ends at byte {}, before {length} bytes from {start}", self.len()))),
        }
    }
}

/// Bytes from the head of a page on. Nothing is checked before the first of them is read, for the reader may ask for a head that it has.
pub struct Head<R> {
    from: R,
    /// What was read to be checked, and how much of it was given.
    ahead: Vec<u8>,
    given: usize,
    is_checked: bool,
}

impl<R: Read> Head<R> {
    fn check(&mut self) -> io::Result<()> {
        let mut wanted = HEAD.max(self.ahead.len());
        loop {
            let missing = (wanted - self.ahead.len()) as u64;
            self.from.by_ref().take(missing).read_to_end(&mut self.ahead)?;
            match check(&self.ahead, PAGE_HEADER) {
                // A truth value takes an eighth of a byte, and all others more.
                Ok(notes) if notes.of(Note::DictionaryValues) / 8 > notes.of(Note::PageBytes) => {
                    return Err(io::Error::other("a dictionary has more values than there is room for"));
                }
                Ok(_) => return Ok(()),
                Err(Fault::Cut(_)) if self.ahead.len() == wanted && wanted < HEAD_MAX => wanted *= 2,
                Err(fault) => return Err(io::Error::other(format!("the head of a page is none: {fault}"))),
            }
        }
    }
}

impl<R: Read> Read for Head<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.is_checked {
            self.check()?;
            self.is_checked = true;
        }
        let mut left = &self.ahead[self.given..];
        if left.is_empty() {
            return self.from.read(into);
        }
        let read = left.read(into)?;
        self.given += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
