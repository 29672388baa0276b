//! Rows appended to one file, exactly once.
//!
//! A commit appends rows, syncs them, and then replaces the sidecar, which says how much of the file counts. What lies behind that
//! length was written by a process that died; it is cut when the lane is opened again, and the committed end is checked first. The file
//! is locked for as long as the lane lives. A failed write or sync ends the lane: what the system holds of the file is
//! then unknown, and only a new lane may find out.
//!
//! A file that is there already and is not the job's is refused, or with `--append` added to; `--fresh` replaces the job's own.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_dataflow::Tick;
use riverrun_dataflow::disk::{Disk, FileSystem, folder, folder_of};
use riverrun_dataflow::fail_point::{reach, tear};
use riverrun_dataflow::sink::{Claim, Lane, Sink, SinkError, TickRows, Token};

use super::lock::open_locked;
use super::sidecar::{Sidecar, TAIL, tail_digest};

/// Bytes that are written at once.
const BLOCK: usize = 1 << 20;

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSinkConfig {
    /// The file; folders on the way are created.
    pub path: PathBuf,
    /// What the file begins with, line end included: a CSV header ([`crate::format::preamble`]), or nothing.
    pub preamble: Vec<u8>,
}

/// Appends rows to one file, one per line, with one lane.
#[derive(Clone, Debug)]
pub struct FileSink {
    config: FileSinkConfig,
    disk: Arc<dyn Disk>,
}

impl FileSink {
    /// Returns the sink. Does not touch the file yet.
    pub fn new(config: FileSinkConfig) -> FileSink {
        FileSink::on(Arc::new(FileSystem), config)
    }

    /// Like [`FileSink::new`], on a disk of the caller's.
    pub(super) fn on(disk: Arc<dyn Disk>, config: FileSinkConfig) -> FileSink {
        FileSink { config, disk }
    }

    fn what(&self) -> String {
        format!("file `{}`", self.config.path.display())
    }

    fn failed(&self, error: &io::Error) -> SinkError {
        SinkError::Write { what: self.what(), reason: error.to_string() }
    }

    /// Returns the file's lane if this incarnation owns it already, checked and cut to what is committed.
    fn resume(&self, mut file: File, sidecar: Sidecar, claim: &Claim) -> Result<FileLane, SinkError> {
        if sidecar.generation > claim.generation {
            let reason = format!("generation {} wrote to it, this is {}", sidecar.generation, claim.generation);
            return Err(SinkError::Fenced(format!("{} belongs to a later start of the job: {reason}", self.what())));
        }
        let damaged = |reason: String| SinkError::Damaged { what: self.what(), reason };
        let length = file.metadata().map_err(|error| self.failed(&error))?.len();
        if length < sidecar.length {
            let reason = format!("it has {length} bytes, but {} were committed", sidecar.length);
            return Err(damaged(format!("{reason}; restore it, or start over with `--fresh`")));
        }
        let tail = read_tail(&mut file, sidecar.length).map_err(|error| self.failed(&error))?;
        if tail_digest(&tail) != sidecar.tail {
            let reason = "its committed rows are not those that were written";
            return Err(damaged(format!("{reason}; restore it, or start over with `--fresh`")));
        }
        let mut lane = self.lane(file, sidecar, tail);
        lane.sidecar.generation = claim.generation;
        if length > lane.sidecar.length {
            tracing::info!(file = %self.config.path.display(), bytes = length - lane.sidecar.length, "cut uncommitted rows");
        }
        lane.cut().and_then(|()| lane.prepare(&self.config.preamble)).map_err(|error| self.failed(&error))?;
        Ok(lane)
    }

    /// Makes the file the job's own: what it holds stays with `keep`, else it goes.
    fn begin(&self, mut file: File, claim: &Claim, keep: bool) -> Result<FileLane, SinkError> {
        let failed = |error: io::Error| self.failed(&error);
        let length = if keep { file.metadata().map_err(failed)?.len() } else { 0 };
        let tail = read_tail(&mut file, length).map_err(failed)?;
        let mut sidecar = Sidecar::new(&claim.job, &claim.sink, &claim.incarnation, claim.generation);
        sidecar.length = length;
        sidecar.tail = tail_digest(&tail);
        let mut lane = self.lane(file, sidecar, tail);
        // First the claim, then the cut: a crash between the two leaves a file that is the job's, with rows that do not count.
        lane.sidecar.write(lane.disk.as_ref(), &lane.path).map_err(failed)?;
        reach("file.claimed");
        lane.cut().and_then(|()| lane.prepare(&self.config.preamble)).map_err(failed)?;
        Ok(lane)
    }

    fn lane(&self, file: File, sidecar: Sidecar, tail: Vec<u8>) -> FileLane {
        let (path, what) = (self.config.path.clone(), self.what());
        let disk = self.disk.clone();
        FileLane { disk, path, what, file, sidecar, tail, buffer: Vec::new(), failed: None }
    }

    fn refused(&self, why: &str, claim: &Claim) -> SinkError {
        let out = "write to another path, move it away, or add to it with `--append`";
        SinkError::Refused(format!("{} {why}; job `{}` does not touch it: {out}", self.what(), claim.job))
    }
}

impl Sink for FileSink {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(1)
    }

    fn open(&self, lane: u32, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        assert_eq!(lane, 0, "a file has one lane");
        let path = &self.config.path;
        let disk = self.disk.as_ref();
        folder(disk, folder_of(path)).map_err(|error| self.failed(&error))?;
        let created = !path.exists();
        let file = open_locked(disk, path, &self.what())?;
        Sidecar::sweep(disk, path).map_err(|error| self.failed(&error))?;
        if created {
            disk.sync_folder(folder_of(path)).map_err(|error| self.failed(&error))?;
        }
        let empty = file.metadata().map_err(|error| self.failed(&error))?.len() == 0;
        let lane = match Sidecar::read(path)? {
            Some(sidecar) if sidecar.incarnation == claim.incarnation && is_of(&sidecar, claim) => {
                self.resume(file, sidecar, claim)?
            }
            Some(sidecar) if is_of(&sidecar, claim) && claim.fresh => self.begin(file, claim, claim.append)?,
            Some(_) if claim.append => self.begin(file, claim, true)?,
            Some(sidecar) if is_of(&sidecar, claim) => {
                let why = "was written by the same job with another state folder";
                return Err(SinkError::Refused(format!(
                    "{} {why}; to replace it start over with `--fresh`",
                    self.what()
                )));
            }
            Some(sidecar) => {
                let why = format!("belongs to sink `{}` of job `{}`", sidecar.sink, sidecar.job);
                return Err(self.refused(&why, claim));
            }
            None if empty || claim.append => self.begin(file, claim, true)?,
            None => {
                let sidecar = Sidecar::path(path);
                let why = format!("exists and was not written by a job: there is no `{}`", sidecar.display());
                return Err(self.refused(&why, claim));
            }
        };
        let token = lane.sidecar.token();
        Ok((Box::new(lane), token))
    }
}

fn is_of(sidecar: &Sidecar, claim: &Claim) -> bool {
    sidecar.job == claim.job && sidecar.sink == claim.sink
}

/// Returns the last of the first `length` bytes of `file`, [`TAIL`] at most.
fn read_tail(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    let kept = length.min(TAIL as u64);
    file.seek(SeekFrom::Start(length - kept))?;
    let mut tail = Vec::new();
    file.take(kept).read_to_end(&mut tail)?;
    Ok(tail)
}

/// The lane of a file.
struct FileLane {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    what: String,
    file: File,
    sidecar: Sidecar,
    /// The last bytes before the end, [`TAIL`] at most.
    tail: Vec<u8>,
    buffer: Vec<u8>,
    /// Why the lane can write no more.
    failed: Option<String>,
}

impl FileLane {
    /// Cuts what is not committed.
    fn cut(&mut self) -> io::Result<()> {
        let length = self.sidecar.length;
        if self.file.metadata()?.len() != length {
            self.disk.cut(&self.file, &self.path, length)?;
            reach("file.cut");
            self.disk.sync(&self.file, &self.path)?;
        }
        Ok(())
    }

    /// Before the first commit: gives an empty file its beginning, and a foreign one the end of its last line.
    fn prepare(&mut self, preamble: &[u8]) -> io::Result<()> {
        let missing = match (self.sidecar.tick, self.tail.last()) {
            (Some(_), _) | (None, Some(b'\n')) => return Ok(()),
            (None, None) => preamble,
            (None, Some(_)) => b"\n",
        };
        if missing.is_empty() {
            return Ok(());
        }
        self.append(missing)?;
        self.settle(None)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.sidecar.length;
        tear("file.rows.torn", bytes, |half| drop(self.disk.write(&self.file, &self.path, half, at)));
        self.disk.write(&self.file, &self.path, bytes, at)?;
        reach("file.rows.written");
        self.sidecar.length += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + kept.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus);
        self.tail.extend_from_slice(kept);
        Ok(())
    }

    /// Appends rows in blocks, so that a large commit is not held twice.
    fn append_rows(&mut self, ticks: &[TickRows]) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        for rows in ticks.iter().map(|tick| &tick.rows) {
            for index in 0..rows.len() {
                buffer.extend_from_slice(rows.key_value(index).1);
                buffer.push(b'\n');
                if buffer.len() >= BLOCK {
                    self.append(&buffer)?;
                    buffer.clear();
                }
            }
        }
        self.append(&buffer)?;
        buffer.clear();
        buffer.shrink_to(2 * BLOCK);
        self.buffer = buffer;
        Ok(())
    }

    /// Makes what was appended durable, then committed.
    fn settle(&mut self, upto: Option<Tick>) -> io::Result<()> {
        self.disk.sync(&self.file, &self.path)?;
        reach("file.rows.synced");
        self.sidecar.tick = upto;
        self.sidecar.tail = tail_digest(&self.tail);
        self.sidecar.write(self.disk.as_ref(), &self.path)
    }
}

impl FileLane {
    /// Says so if a write failed because a later start of the job has the file: it wrote a sidecar of its own, or swept away what
    /// this one was about to put in place.
    fn fenced(&self, error: &io::Error) -> Option<SinkError> {
        let now = Sidecar::read(&self.path).ok().flatten()?;
        let is_later = now.incarnation != self.sidecar.incarnation || now.generation > self.sidecar.generation;
        let is_swept = error.kind() == io::ErrorKind::NotFound;
        (is_later || is_swept).then(|| SinkError::Fenced(format!("{} belongs to a later start of the job", self.what)))
    }
}

impl Lane for FileLane {
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        if let Some(reason) = &self.failed {
            let reason = format!("an earlier write failed ({reason}); the job must be started again");
            return Err(SinkError::Write { what: self.what.clone(), reason });
        }
        assert!(self.sidecar.tick.is_none_or(|tick| tick < upto), "ticks are committed in order");
        let done = self.append_rows(ticks).and_then(|()| self.settle(Some(upto)));
        done.map_err(|error| {
            self.failed = Some(error.to_string());
            let failed = || SinkError::Write { what: self.what.clone(), reason: error.to_string() };
            self.fenced(&error).unwrap_or_else(failed)
        })
    }
}

/// Returns how much of the output file at `path` is committed, if it has a sidecar: readers that stop there see every row once.
pub fn committed_length(path: &Path) -> Result<Option<u64>, SinkError> {
    Ok(Sidecar::read(path)?.map(|sidecar| sidecar.length))
}
