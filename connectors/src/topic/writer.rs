//! The one writer of a partition: frames records, appends them, makes them durable, begins new segments.
//!
//! ```text
//! open (lock, settle, cut the torn tail) -> append* -> [token] -> sync -> append* -> ... -> (dropped: lock released)
//! ```
//! Records are acknowledged by `sync`, not before. After a failed write or flush the writer refuses all further work: which
//! bytes reached the disk is not known then, and is found out by opening the partition again.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use riverrun_dataflow::disk::{Disk, FileSystem, Opening, folder_of};
use riverrun_dataflow::fail_point::{reach, tear};

use super::error::TopicError;
use super::frame::{self, HEADER, Header, Kind, PAYLOAD_GOAL, RECORD_HEADER, RECORD_MAX, Record, Times};
use super::index::Index;
use super::segment::{Carried, Frame, SEGMENT_HEADER, SegmentName};
use super::settle::{self, Found, StartAt};
use super::synced::{Bound, SyncedFile};
use super::token::{Chain, Owners, TokenRecord};
use super::{Topic, put};

/// The file in which a writer says who it is, for the one that finds the partition taken.
pub(crate) const HOLDER: &str = "writer";
/// Framed bytes that are kept in memory before they are written, durable or not.
const WRITE_GOAL: usize = 1024 * 1024;

/// A lock may outlive its process for a moment: while that is taken down, or in a child that it was about to start.
const LOCK_TRIES: usize = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Writes one partition.
#[derive(Debug)]
pub(crate) struct Writer {
    topic: Topic,
    partition: u32,
    disk: Arc<dyn Disk>,
    synced_file: SyncedFile,
    segment: SegmentName,
    file: File,
    /// Frames that are not written yet; the first of them belongs at `written`.
    frames: Vec<u8>,
    /// The frame at the end of `frames` that is still being filled.
    open: Option<OpenFrame>,
    /// Bytes of the segment that were given to the file system.
    written: u64,
    /// The point up to which everything is durable.
    synced: Bound,
    /// Offset of the next record.
    next: u64,
    times: Times,
    owners: Owners,
    index: Index,
    /// The frames of rows that have no token yet, if there are any.
    uncommitted: Option<Chain>,
    failed: bool,
    /// The partition's folder, locked for as long as this lives. Last, so that it is released last.
    _lock: File,
}

/// A frame that is being filled.
#[derive(Debug)]
struct OpenFrame {
    kind: Kind,
    /// Where in `frames` it begins.
    start: usize,
    first: u64,
    times: Times,
}

impl Writer {
    /// Takes a partition for writing. `holder` says who writes, to whoever finds the partition taken.
    pub fn open(topic: &Topic, partition: u32, holder: &str) -> Result<Writer, TopicError> {
        Writer::open_on(Arc::new(FileSystem), topic, partition, holder)
    }

    /// Like [`Writer::open`], on a disk of the caller's.
    pub fn open_on(disk: Arc<dyn Disk>, topic: &Topic, partition: u32, holder: &str) -> Result<Writer, TopicError> {
        let lock = lock(topic, partition, holder)?;
        settle_names(disk.as_ref(), topic, partition)?;
        let mut synced_file = SyncedFile::open_to_write(disk.as_ref(), topic, partition)?;
        let mut found = settle::find(topic, partition, Some(&mut synced_file), StartAt::Beginning)?;
        let carried = found.carried.take().expect("settling from the beginning reads what is carried");
        let mut owners = Owners::new(carried.tokens);
        let mut index = Index::after(found.start.times);
        // The index must not point past what is kept: frames wait here until a token or a plain frame settles them.
        let mut waiting: Vec<Frame> = Vec::new();
        let settled = settle::settle_from_beginning(&mut found, &mut |frame, token| {
            waiting.push(*frame);
            if frame.header.kind != Kind::Rows {
                waiting.drain(..).for_each(|f| index.note(&f));
            }
            token.into_iter().for_each(|token| owners.note(token));
        })?;
        let segment = found.frames.name.clone();
        let file = disk.open(&segment.path, Opening::Existing);
        let file = file.map_err(|e| TopicError::io("open", &segment.path, &e))?;
        renew(disk.as_ref(), &file, &found, &settled)?;
        synced_file.store(disk.as_ref(), &settled)?;
        Ok(Writer {
            topic: topic.clone(),
            partition,
            disk,
            synced_file,
            segment,
            file,
            frames: Vec::new(),
            open: None,
            written: settled.length,
            synced: settled,
            next: settled.next,
            times: settled.times,
            owners,
            index,
            uncommitted: None,
            failed: false,
            _lock: lock,
        })
    }

    /// Returns the offset of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Returns the offset after the last acknowledged record.
    pub fn acknowledged(&self) -> u64 {
        self.synced.next
    }

    /// Returns the last token of each owner.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Returns the bytes that wait for the next `sync`.
    pub fn waiting(&self) -> u64 {
        self.written + self.frames.len() as u64 - self.synced.length
    }

    /// Appends a record, which counts at the next `sync`, and returns its offset. `Kind::Rows` need a token before it.
    pub fn append(&mut self, kind: Kind, record: &Record) -> Result<u64, TopicError> {
        self.usable()?;
        let bytes = record.framed() - RECORD_HEADER;
        if bytes > RECORD_MAX {
            // A commit without one of its rows must never be completed.
            self.failed |= kind == Kind::Rows;
            let what = self.topic.partition_name(self.partition);
            return Err(TopicError::TooLong { what, bytes, limit: RECORD_MAX });
        }
        if self.is_full() {
            self.roll()?;
        }
        if let Some(open) = &self.open
            && (open.kind != kind || self.frames.len() - open.start - HEADER + record.framed() > PAYLOAD_GOAL)
        {
            self.close_frame();
            if self.frames.len() >= WRITE_GOAL {
                self.write()?;
            }
        }
        let open = self.open.get_or_insert_with(|| {
            let start = self.frames.len();
            self.frames.extend_from_slice(&[0; HEADER]);
            OpenFrame { kind, start, first: self.next, times: Times::NONE }
        });
        if kind == Kind::Rows {
            self.uncommitted.get_or_insert_default();
        }
        open.times.add(record.timestamp);
        record.push(&mut self.frames);
        let offset = self.next;
        self.next += 1;
        Ok(offset)
    }

    /// Appends a token, which makes the rows before it count, and makes all of it durable.
    pub fn commit(&mut self, mut token: TokenRecord) -> Result<(), TopicError> {
        self.usable()?;
        if self.is_full() {
            self.roll()?;
        }
        self.close_frame();
        token.from = self.synced.next;
        token.rows = self.uncommitted.take().unwrap_or_default();
        let payload = serde_json::to_vec(&token).expect("a token has only strings and numbers");
        let start = self.frames.len();
        self.frames.extend_from_slice(&[0; HEADER]);
        self.frames.extend_from_slice(&payload);
        self.open = Some(OpenFrame { kind: Kind::Token, start, first: self.next, times: Times::NONE });
        self.sync()?;
        self.owners.note(token);
        Ok(())
    }

    /// Makes everything that was appended durable, and lets readers see it.
    pub fn sync(&mut self) -> Result<(), TopicError> {
        self.usable()?;
        assert!(self.uncommitted.is_none(), "rows of a commit are made durable by their token");
        self.close_frame();
        self.write()?;
        if self.written == self.synced.length {
            return Ok(());
        }
        let flushed = self.disk.sync(&self.file, &self.segment.path);
        flushed.map_err(|e| self.fail("flush", &e))?;
        reach("topic.commit.synced");
        self.synced = Bound { base: self.segment.base, length: self.written, next: self.next, times: self.times };
        let stored = self.synced_file.store(self.disk.as_ref(), &self.synced);
        self.failed |= stored.is_err();
        reach("topic.commit.told");
        stored
    }

    /// Leaves the partition as a process does that is killed within a commit.
    #[cfg(test)]
    pub fn write_unfinished(&mut self) {
        self.close_frame();
        self.write().expect("the disk works");
    }

    fn usable(&self) -> Result<(), TopicError> {
        if self.failed {
            return Err(TopicError::Failed { what: self.topic.partition_name(self.partition) });
        }
        Ok(())
    }

    fn fail(&mut self, act: &'static str, error: &std::io::Error) -> TopicError {
        self.failed = true;
        TopicError::io(act, &self.segment.path, error)
    }

    /// Whether the next record belongs in a new segment. Never within a commit: all before it must be durable.
    fn is_full(&self) -> bool {
        self.waiting() == 0 && self.written >= self.topic.segment_bytes() && self.next > self.segment.base
    }

    /// Ends the frame that is being filled.
    fn close_frame(&mut self) {
        let Some(open) = self.open.take() else { return };
        let payload = &self.frames[open.start + HEADER..];
        let at = self.written + open.start as u64;
        let records = if open.kind == Kind::Token { 0 } else { self.next - open.first };
        let header = Header {
            kind: open.kind,
            payload: u32::try_from(payload.len()).expect("a frame holds a group or one record"),
            records: u32::try_from(records).expect("a frame holds fewer records than bytes"),
            first: open.first,
            times: open.times,
            synced: self.synced.length,
            xxh3: frame::checksum(payload),
        };
        self.frames[open.start..open.start + HEADER].copy_from_slice(&header.encode(self.segment.seed, at));
        if let (Kind::Rows, Some(chain)) = (header.kind, &mut self.uncommitted) {
            chain.add(&header);
        }
        self.times = self.times.and(open.times);
        self.index.note(&Frame { header, at });
    }

    /// Gives all closed frames to the file system.
    fn write(&mut self) -> Result<(), TopicError> {
        if self.frames.is_empty() {
            return Ok(());
        }
        tear("topic.commit.torn", &self.frames, |half| {
            drop(self.disk.write(&self.file, &self.segment.path, half, self.written));
        });
        let written = self.disk.write(&self.file, &self.segment.path, &self.frames, self.written);
        reach("topic.commit.written");
        written.map_err(|e| self.fail("write", &e))?;
        self.written += self.frames.len() as u64;
        self.frames.clear();
        self.frames.shrink_to(2 * WRITE_GOAL);
        Ok(())
    }

    /// Seals the segment and begins the next one.
    fn roll(&mut self) -> Result<(), TopicError> {
        let index = self.index.encode(&self.segment, self.written);
        let sealed = put(self.disk.as_ref(), &self.segment.index(), &index);
        sealed.map_err(|e| self.fail("write", &e))?;
        let carried =
            Carried { tokens: self.owners.tokens().to_vec(), least: self.times.least, greatest: self.times.greatest };
        let segment = SegmentName::of(&self.topic, self.partition, self.next);
        let beginning = segment.beginning(&carried);
        let begun = put(self.disk.as_ref(), &segment.path, &beginning);
        begun.map_err(|e| self.fail("write", &e))?;
        let file = self.disk.open(&segment.path, Opening::Existing);
        self.file = file.map_err(|e| self.fail("open", &e))?;
        self.segment = segment;
        self.written = beginning.len() as u64;
        self.index = Index::after(self.times);
        self.synced = Bound { base: self.segment.base, length: self.written, ..self.synced };
        self.synced_file.store(self.disk.as_ref(), &self.synced).inspect_err(|_| self.failed = true)
    }
}

/// Takes the partition for this writer alone.
fn lock(topic: &Topic, partition: u32, holder: &str) -> Result<File, TopicError> {
    let dir = topic.partition_dir(partition);
    let file = File::open(&dir).map_err(|e| TopicError::io("open", &dir, &e))?;
    let path: PathBuf = dir.join(HOLDER);
    let mut locked = file.try_lock();
    for _ in 0..LOCK_TRIES {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            let holder = if said.trim().is_empty() { "another process".into() } else { said.trim().to_owned() };
            return Err(TopicError::Held { what: topic.partition_name(partition), holder });
        }
        Err(TryLockError::Error(e)) => return Err(TopicError::io("lock", &dir, &e)),
    }
    let said = format!("{holder} (process {})\n", std::process::id());
    let noted = File::create(&path).and_then(|mut file| file.write_all(said.as_bytes()));
    noted.map_err(|e| TopicError::io("write", &path, &e))?;
    Ok(file)
}

/// Makes the names of the topic and of its segments durable: whoever made them may have been killed before, or may have
/// failed to, and nothing in them may be acknowledged until then.
fn settle_names(disk: &dyn Disk, topic: &Topic, partition: u32) -> Result<(), TopicError> {
    let dir = topic.partition_dir(partition);
    for folder in [folder_of(&topic.place.path), &dir] {
        disk.sync_folder(folder).map_err(|e| TopicError::io("flush", &dir, &e))?;
    }
    Ok(())
}

/// Cuts what does not count, and makes durable what counts but may not be: it is written again in place, since after a
/// failed flush the system may hold pages for clean that never reached the disk.
fn renew(disk: &dyn Disk, file: &File, found: &Found, settled: &Bound) -> Result<(), TopicError> {
    let path = &found.frames.name.path;
    let durable = found.stored.map_or(SEGMENT_HEADER, |bound| bound.length);
    if settled.length < found.frames.limit {
        disk.cut(file, path, settled.length).map_err(|e| TopicError::io("cut", path, &e))?;
        reach("topic.cut");
        disk.sync(file, path).map_err(|e| TopicError::io("flush", path, &e))?;
    }
    if durable < settled.length {
        let mut at = durable;
        let mut bytes = vec![0; WRITE_GOAL];
        while at < settled.length {
            let part = &mut bytes[..WRITE_GOAL.min(usize::try_from(settled.length - at).unwrap_or(WRITE_GOAL))];
            std::os::unix::fs::FileExt::read_exact_at(file, part, at).map_err(|e| TopicError::io("read", path, &e))?;
            disk.write(file, path, part, at).map_err(|e| TopicError::io("write", path, &e))?;
            at += part.len() as u64;
        }
        disk.sync(file, path).map_err(|e| TopicError::io("flush", path, &e))?;
    }
    Ok(())
}
