//! The files of a replay: one for every lane of every sink, with the rows as the live sink encodes them, in its order.
//!
//! `{sink}.jsonl` where a sink has one lane, `{sink}/lane-0003.jsonl` where it has several; `.csv` for CSV, each with its
//! header. They hold values, a line each, and what else rows have is counted. `replay.json` is written last: a folder without it holds a
//! replay that did not come to its end.

use std::fs::File;
use std::io::{self, Write};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use riverrun_connectors::format::{EncodeSpec, FormatError, Timestamps, encoder};
use riverrun_connectors::lake::LakeRows;
use riverrun_dataflow::sink::{Claim, EncodedRows, Encoder, Lane, Promise, Sink, SinkError, TickRows, Token};
use riverrun_dataflow::tick::Tick;
use riverrun_state::folder::JobFile;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3Default;

use super::Replayed;
use crate::plan::Plan;
use crate::run::RunError;

/// Bytes that are written at once.
const BLOCK: usize = 1 << 20;
/// What a replay amounts to, written when it came to its end.
const SEAL: &str = "replay.json";

/// A folder that is this replay's own.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder at `path`, or takes it if it is empty.
    pub(super) fn claim(path: &Path) -> Result<Folder, RunError> {
        std::fs::create_dir_all(path).map_err(|error| failed(path, &error))?;
        let mut entries = std::fs::read_dir(path).map_err(|error| failed(path, &error))?;
        match entries.next() {
            None => Ok(Folder(path.to_owned())),
            Some(_) => Err(RunError::NotEmpty(path.to_owned())),
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> RunError {
    RunError::sink("replay", write_error(path, error))
}

fn write_error(path: &Path, error: &io::Error) -> SinkError {
    SinkError::Write { what: format!("`{}`", path.display()), reason: error.to_string() }
}

/// A file with the rows of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaneFile {
    /// The sink.
    pub sink: String,
    /// The lane.
    pub lane: u32,
    /// The file, relative to the folder.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// xxh3_64 of it, in 16 hexadecimal digits.
    pub xxh3: String,
    /// What is not in it; `None`: all of every row is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

/// What rows have besides their values, which files of values do not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Rows with a key.
    pub keys: u64,
    /// Rows with headers.
    pub headers: u64,
    /// Rows without a value, which say that their key is gone: an empty line each.
    pub tombstones: u64,
}

impl AddAssign for LeftOut {
    fn add_assign(&mut self, more: LeftOut) {
        self.keys += more.keys;
        self.headers += more.headers;
        self.tombstones += more.tombstones;
    }
}

impl LeftOut {
    fn count(&mut self, rows: &EncodedRows, row: usize) {
        let surround = rows.surround(row);
        self.keys += u64::from(rows.key_value(row).0.is_some());
        self.headers += u64::from(surround.headers().next().is_some());
        self.tombstones += u64::from(surround.is_tombstone());
    }
}

/// The files of all lanes.
pub(super) struct Files {
    folder: PathBuf,
    sinks: Vec<Arc<SinkFiles>>,
}

/// The files of a sink's lanes.
struct SinkFiles {
    name: String,
    /// What each file begins with.
    preamble: Vec<u8>,
    /// The rows of a lake, which are columns: they are written as JSON.
    columns: Option<SchemaRef>,
    /// Path relative to the folder, and what was written.
    lanes: Vec<(String, Arc<Mutex<Tally>>)>,
}

/// What was written to a file.
#[derive(Default)]
struct Tally {
    rows: u64,
    bytes: u64,
    hash: Xxh3Default,
    left_out: LeftOut,
}

impl Files {
    /// Names the files for the sinks of `plan`, with the lanes that they have had since the job was created.
    pub(super) fn of(plan: &Plan, file: &JobFile, Folder(folder): Folder) -> Result<Files, RunError> {
        let sinks = plan.sinks.iter().map(|planned| {
            let name = planned.name.clone();
            let created = file.lanes.iter().find(|created| created.sink == name);
            let count = created.map_or(1, |created| created.lanes);
            let extension = match planned.format {
                EncodeSpec::Json { .. } | EncodeSpec::Parquet => "jsonl",
                EncodeSpec::Csv(_) => "csv",
                EncodeSpec::Avro(_) => return Err(RunError::NotSeparable(name)),
            };
            let path = |lane: u32| match count {
                1 => format!("{name}.{extension}"),
                _ => format!("{name}/lane-{lane:04}.{extension}"),
            };
            let lanes = (0..count).map(|lane| (path(lane), Arc::default())).collect();
            let columns = (planned.format == EncodeSpec::Parquet).then(|| planned.schema.clone());
            Ok(Arc::new(SinkFiles { preamble: planned.preamble(), columns, lanes, name }))
        });
        Ok(Files { sinks: sinks.collect::<Result<_, _>>()?, folder })
    }

    /// Returns what stands in the place of the sink `name`, and its lanes.
    pub(super) fn sink(&self, name: &str) -> (Arc<dyn Sink>, u32) {
        let sink = self.sinks.iter().find(|sink| sink.name == name).expect("every sink of the plan has its files");
        (sink.clone(), sink.lanes.len() as u32)
    }

    /// Makes all files, and returns their lanes by (index of the sink, lane).
    pub(super) fn open(&self) -> Result<Vec<Opened>, RunError> {
        let mut opened = Vec::new();
        for (index, sink) in self.sinks.iter().enumerate() {
            for (lane, (relative, tally)) in sink.lanes.iter().enumerate() {
                let path = self.folder.join(relative);
                let made = || {
                    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                    File::create_new(&path)
                };
                let file = made().map_err(|error| failed(&path, &error))?;
                let readable = sink.columns.as_ref().map(Readable::new).transpose();
                let readable = readable.map_err(|error| RunError::sink(&sink.name, error))?;
                let buffer = sink.preamble.clone();
                let mut lane_file = Writing { path, file, tally: tally.clone(), buffer, readable };
                lane_file.hand_on().map_err(|error| RunError::sink(&sink.name, error))?;
                opened.push(((index as u32, lane as u32), Box::new(lane_file) as Box<dyn Lane>));
            }
        }
        Ok(opened)
    }

    /// Returns what was written.
    pub(super) fn written(&self) -> Vec<LaneFile> {
        let of = |sink: &Arc<SinkFiles>| {
            let name = sink.name.clone();
            let lanes = sink.lanes.iter().enumerate().map(move |(lane, (file, tally))| {
                let tally = tally.lock().expect("nobody panics while counting");
                LaneFile {
                    sink: name.clone(),
                    lane: lane as u32,
                    file: file.clone(),
                    rows: tally.rows,
                    bytes: tally.bytes,
                    xxh3: format!("{:016x}", tally.hash.digest()),
                    left_out: Some(tally.left_out).filter(|left_out| *left_out != LeftOut::default()),
                }
            });
            lanes.collect::<Vec<_>>()
        };
        self.sinks.iter().flat_map(of).collect()
    }

    /// Says in the folder that the replay came to its end.
    pub(super) fn seal(&self, replayed: &Replayed) -> Result<(), RunError> {
        let path = self.folder.join(SEAL);
        let mut text = serde_json::to_string_pretty(replayed).expect("our own types are representable");
        text.push('\n');
        std::fs::write(&path, text).map_err(|error| failed(&path, &error))
    }
}

/// A lane, opened, by (index of the sink, lane).
type Opened = ((u32, u32), Box<dyn Lane>);

impl Sink for SinkFiles {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(self.lanes.len() as u32)
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn open(&self, lane: u32, _: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        unreachable!("lane {lane} of sink `{}` is opened before the engine runs", self.name)
    }
}

/// A lane that is written.
struct Writing {
    path: PathBuf,
    file: File,
    tally: Arc<Mutex<Tally>>,
    buffer: Vec<u8>,
    readable: Option<Readable>,
}

/// Makes JSON of rows as a lake is given them.
struct Readable {
    rows: LakeRows,
    encoder: Box<dyn Encoder>,
}

impl Readable {
    fn new(schema: &SchemaRef) -> Result<Readable, SinkError> {
        let refused = |error: FormatError| SinkError::Refused(error.to_string());
        let rows = LakeRows::new(schema).map_err(refused)?;
        let json = EncodeSpec::Json { timestamps: Timestamps::default() };
        let encoder = encoder(&json, rows.schema().clone(), None).map_err(refused)?();
        Ok(Readable { rows, encoder })
    }

    fn rows(&mut self, encoded: &EncodedRows) -> Result<EncodedRows, SinkError> {
        let mut json = EncodedRows::default();
        self.encoder.encode(&self.rows.decode(encoded, 0..encoded.len())?, &mut json)?;
        Ok(json)
    }
}

impl Writing {
    /// Writes what is in the buffer.
    fn hand_on(&mut self) -> Result<(), SinkError> {
        self.file.write_all(&self.buffer).map_err(|error| write_error(&self.path, &error))?;
        let mut tally = self.tally.lock().expect("nobody panics while counting");
        tally.hash.update(&self.buffer);
        tally.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Lane for Writing {
    fn commit(&mut self, _: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        for tick in ticks {
            let readable = self.readable.as_mut().map(|readable| readable.rows(&tick.rows)).transpose()?;
            let rows = readable.as_ref().unwrap_or(&tick.rows);
            let mut left_out = LeftOut::default();
            for row in 0..rows.len() {
                left_out.count(rows, row);
                self.buffer.extend_from_slice(rows.key_value(row).1);
                self.buffer.push(b'\n');
                if self.buffer.len() >= BLOCK {
                    self.hand_on()?;
                }
            }
            let mut tally = self.tally.lock().expect("nobody panics while counting");
            tally.rows += tick.rows.len() as u64;
            tally.left_out += left_out;
        }
        self.hand_on()
    }
}
