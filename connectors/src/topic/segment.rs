//! Segments: the files of a partition, their names and headers, and how their frames are read one after the other.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::error::TopicError;
use super::frame::{self, HEADER, Header, Kind, MAGIC, Times};
use super::token::TokenRecord;
use super::{Topic, frame::u64_at};

/// The first bytes of every segment; the last one is the format's version.
const SEGMENT_MAGIC: [u8; 8] = *b"rrtopic\x01";
/// Length of a segment's header; its first frame begins here.
pub(crate) const SEGMENT_HEADER: u64 = 32;
/// Bytes read at once.
const READ_AHEAD: usize = 512 * 1024;

/// Names one segment of a partition.
#[derive(Clone, Debug)]
pub(crate) struct SegmentName {
    pub path: PathBuf,
    /// Offset of its first record.
    pub base: u64,
    /// What seeds the checksums of its frames.
    pub seed: u64,
}

impl SegmentName {
    pub fn of(topic: &Topic, partition: u32, base: u64) -> SegmentName {
        let mut place = topic.id().as_bytes().to_vec();
        place.extend_from_slice(&partition.to_le_bytes());
        place.extend_from_slice(&base.to_le_bytes());
        let path = topic.partition_dir(partition).join(format!("{base:020}.log"));
        SegmentName { path, base, seed: xxh3_64(&place) }
    }

    /// Returns where the segment's index lies.
    pub fn index(&self) -> PathBuf {
        self.path.with_extension("idx")
    }

    /// Returns the bytes with which the segment begins: its header and what is known of the segments before it.
    pub fn beginning(&self, carried: &Carried) -> Vec<u8> {
        let mut bytes = SEGMENT_MAGIC.to_vec();
        bytes.extend_from_slice(&self.base.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&xxh3_64_with_seed(&bytes, self.seed).to_le_bytes());
        let payload = serde_json::to_vec(carried).expect("what is carried has only strings for keys");
        let header = Header {
            kind: Kind::Carried,
            payload: u32::try_from(payload.len()).expect("the tokens that are carried are few"),
            records: 0,
            first: self.base,
            times: Times::NONE,
            synced: 0,
            xxh3: frame::checksum(&payload),
        };
        bytes.extend_from_slice(&header.encode(self.seed, SEGMENT_HEADER));
        bytes.extend_from_slice(&payload);
        bytes
    }
}

/// What a segment knows of the segments before it, so that nobody has to read them for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// The last token of each owner.
    pub tokens: Vec<TokenRecord>,
    /// Least and greatest timestamp.
    pub least: i64,
    pub greatest: i64,
}

impl Carried {
    pub const EMPTY: Carried = Carried { tokens: Vec::new(), least: Times::NONE.least, greatest: Times::NONE.greatest };

    pub fn times(&self) -> Times {
        Times { least: self.least, greatest: self.greatest }
    }
}

/// Returns the bases of a partition's segments, ascending; refuses files that are none of a topic's.
pub(crate) fn bases(dir: &Path) -> Result<Vec<u64>, TopicError> {
    let failed = |error: &io::Error| TopicError::io("list", dir, error);
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let name = entry.file_name();
        let base = match name.to_str().and_then(|n| n.split_once('.')) {
            Some((stem, "log")) if stem.len() == 20 => stem.parse::<u64>().ok(),
            Some((stem, "idx")) if stem.len() == 20 && stem.parse::<u64>().is_ok() => continue,
            Some((_, "tmp")) => continue,
            None if name == super::synced::NAME || name == super::writer::HOLDER => continue,
            _ => None,
        };
        match base {
            Some(base) => bases.push(base),
            None => return Err(foreign(&entry.path())),
        }
    }
    bases.sort_unstable();
    match bases.first() {
        Some(0) => Ok(bases),
        Some(first) => Err(TopicError::Damaged {
            what: format!("`{}`", dir.display()),
            reason: format!("the records 0 to {first} are missing: there is no file `{:020}.log`", 0),
        }),
        None => Err(TopicError::Damaged {
            what: format!("`{}`", dir.display()),
            reason: format!("its records are missing: there is no file `{:020}.log`, nor any after it", 0),
        }),
    }
}

fn foreign(path: &Path) -> TopicError {
    TopicError::Damaged {
        what: format!("`{}`", path.parent().unwrap_or(path).display()),
        reason: format!(
            "`{}` is no file of a topic\nhint: move it away",
            path.file_name().unwrap_or_default().to_string_lossy()
        ),
    }
}

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole frame. Its payload can be had until the next step.
    Frame(Frame),
    /// Nothing before the limit.
    End,
    /// Bytes that are no whole frame.
    Bad(String),
}

/// A frame and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub header: Header,
    /// Position of the frame in its file.
    pub at: u64,
}

impl Frame {
    /// Returns the position of its payload.
    pub fn payload(&self) -> u64 {
        self.at + HEADER as u64
    }

    /// Returns the position after it.
    pub fn end(&self) -> u64 {
        self.payload() + u64::from(self.header.payload)
    }
}

/// Reads the frames of one segment.
#[derive(Debug)]
pub(crate) struct Frames {
    pub name: SegmentName,
    pub file: File,
    /// Where the next frame begins.
    pub at: u64,
    /// Nothing is read at or past this position: what lies there may not be whole yet.
    pub limit: u64,
    /// Bytes of the file from `window_at` on; the first `filled` count.
    window: Vec<u8>,
    window_at: u64,
    filled: usize,
}

impl Frames {
    /// Opens a segment, checks its header, and stands before its first frame. The limit is the file's length.
    pub fn open(name: SegmentName) -> Result<Frames, TopicError> {
        let file = File::open(&name.path).map_err(|e| missing_or(&name, &e))?;
        Frames::over(file, name)
    }

    /// Like [`Frames::open`], with a file that is open already.
    pub fn over(file: File, name: SegmentName) -> Result<Frames, TopicError> {
        let mut header = [0; SEGMENT_HEADER as usize];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(TopicError::damaged(&name.path, 0, "it is too short to be a segment"));
            }
            Err(e) => return Err(TopicError::io("read", &name.path, &e)),
        }
        if header[..7] == SEGMENT_MAGIC[..7] && header[7] != SEGMENT_MAGIC[7] {
            let reason = format!("format {} is not known to this version", header[7]);
            return Err(TopicError::damaged(&name.path, 7, reason));
        }
        if header[..8] != SEGMENT_MAGIC || xxh3_64_with_seed(&header[..24], name.seed) != u64_at(&header, 24) {
            return Err(TopicError::damaged(&name.path, 0, "it is not this segment of this topic"));
        }
        let mut frames =
            Frames { name, file, at: SEGMENT_HEADER, limit: 0, window: Vec::new(), window_at: 0, filled: 0 };
        frames.limit = frames.length()?;
        Ok(frames)
    }

    /// Returns the file's present length.
    pub fn length(&self) -> Result<u64, TopicError> {
        self.file.metadata().map(|m| m.len()).map_err(|e| TopicError::io("read", &self.name.path, &e))
    }

    /// Reads the segment's first frame, which must be there.
    pub fn carried(&mut self) -> Result<Carried, TopicError> {
        let at = self.at;
        let step = self.step()?;
        if let Step::Frame(frame) = step
            && frame.header.kind == Kind::Carried
            && let Ok(carried) = serde_json::from_slice(self.payload(&frame))
        {
            return Ok(carried);
        }
        Err(TopicError::damaged(&self.name.path, at, "its first frame is not whole"))
    }

    /// Moves on to the frame at `at`, forgetting what was read ahead.
    pub fn seek(&mut self, at: u64) {
        self.at = at;
        self.filled = 0;
        self.window_at = at;
    }

    /// Returns the next frame before the limit and moves past it.
    pub fn step(&mut self) -> Result<Step, TopicError> {
        if self.at >= self.limit {
            return Ok(Step::End);
        }
        if !self.fill(HEADER)? {
            return Ok(Step::Bad("the header of a frame is cut off".into()));
        }
        let Some(header) = Header::decode(self.bytes(self.at, HEADER), self.name.seed, self.at) else {
            return Ok(Step::Bad("no frame begins here, or its header was changed".into()));
        };
        let length = header.payload as usize;
        if !self.fill(HEADER + length)? {
            return Ok(Step::Bad("a frame is cut off".into()));
        }
        let frame = Frame { header, at: self.at };
        if frame::checksum(self.payload(&frame)) != header.xxh3 {
            return Ok(Step::Bad("the checksum of a frame does not fit its bytes".into()));
        }
        self.at = frame.end();
        Ok(Step::Frame(frame))
    }

    /// Returns the payload of the frame that was stepped over last.
    pub fn payload(&self, frame: &Frame) -> &[u8] {
        self.bytes(frame.payload(), frame.header.payload as usize)
    }

    fn bytes(&self, at: u64, length: usize) -> &[u8] {
        let start = usize::try_from(at - self.window_at).expect("the window fits memory");
        &self.window[..self.filled][start..start + length]
    }

    /// Brings `length` bytes from `at` on into the window; false if the limit or the file ends before.
    fn fill(&mut self, length: usize) -> Result<bool, TopicError> {
        let used = usize::try_from(self.at - self.window_at).expect("the window fits memory");
        if used + length <= self.filled {
            return Ok(true);
        }
        if self.at + length as u64 > self.limit {
            return Ok(false);
        }
        if used <= self.filled {
            self.window.copy_within(used..self.filled, 0);
            self.filled -= used;
        } else {
            self.filled = 0;
        }
        self.window_at = self.at;
        let left = usize::try_from(self.limit - self.at).unwrap_or(usize::MAX);
        let wanted = length.max(READ_AHEAD.min(left));
        if self.window.len() < wanted || (self.window.len() > 8 * READ_AHEAD && wanted <= READ_AHEAD) {
            self.window.resize(wanted, 0);
            self.window.shrink_to_fit();
        }
        while self.filled < wanted {
            let at = self.window_at + self.filled as u64;
            match self.file.read_at(&mut self.window[self.filled..wanted], at) {
                Ok(0) => break,
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TopicError::io("read", &self.name.path, &e)),
            }
        }
        Ok(self.filled >= length)
    }

    /// Returns the place of a frame after `bad` that says that `bad` had been durable when it was written, if there is one.
    pub fn witness(&mut self, bad: u64) -> Result<Option<u64>, TopicError> {
        let mut from = bad + 1;
        let mut window = vec![0; READ_AHEAD];
        while from + HEADER as u64 <= self.limit {
            let wanted = READ_AHEAD.min(usize::try_from(self.limit - from).unwrap_or(READ_AHEAD));
            match self.file.read_exact_at(&mut window[..wanted], from) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(e) => return Err(TopicError::io("read", &self.name.path, &e)),
            }
            for found in memchr::memmem::find_iter(&window[..wanted], &MAGIC) {
                let at = from + found as u64;
                let header = Header::decode(&window[found..wanted], self.name.seed, at);
                if header.is_some_and(|h| h.synced > bad) {
                    return Ok(Some(at));
                }
            }
            from += (wanted - HEADER + 1) as u64;
        }
        Ok(None)
    }
}

fn missing_or(name: &SegmentName, error: &io::Error) -> TopicError {
    if error.kind() != io::ErrorKind::NotFound {
        return TopicError::io("open", &name.path, error);
    }
    TopicError::Damaged {
        what: format!("`{}`", name.path.display()),
        reason: format!("it is missing, and with it the records from {} on", name.base),
    }
}
