//! Reading a partition: from any offset on, up to the bound, across segments, while a writer goes on.

use riverrun_dataflow::source::ReadLimits;

use super::error::TopicError;
use super::frame::{self, Times};
use super::index::Index;
use super::segment::{Frame, Frames, SEGMENT_HEADER, SegmentName, Step};
use super::settle::{self, StartAt};
use super::synced::{Bound, SyncedFile};
use super::{PartitionInfo, Topic};

/// A buffer is not grown past this before there is something to put in.
const RESERVE_MAX: usize = 16 * 1024 * 1024;
/// Ranges in a buffer are `u32`.
const BYTES_MAX: usize = 1 << 30;

/// How far a partition counts at one moment.
#[derive(Debug)]
pub(crate) struct Visible {
    pub bases: Vec<u64>,
    pub bound: Bound,
}

impl Visible {
    /// Finds out how far a partition counts. What is found beyond the stored bound is made durable before it is shown.
    pub fn find(topic: &Topic, partition: u32, synced: Option<&mut SyncedFile>) -> Result<Visible, TopicError> {
        let mut found = settle::find(topic, partition, synced, StartAt::Synced)?;
        let bound = settle::settle(&mut found.frames, found.start, &mut |_, _| {})?;
        if found.stored.is_none_or(|stored| stored.is_before(&bound)) {
            match found.frames.file.sync_data() {
                Ok(()) => {}
                // Nothing can be waiting to be written where nothing can be written.
                Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {}
                Err(e) => return Err(TopicError::io("flush", &found.frames.name.path, &e)),
            }
        }
        Ok(Visible { bases: found.bases, bound })
    }
}

/// Returns what a partition holds.
pub(crate) fn describe(topic: &Topic, partition: u32) -> Result<PartitionInfo, TopicError> {
    let mut synced = SyncedFile::open(topic, partition)?;
    let visible = Visible::find(topic, partition, synced.as_mut())?;
    let mut bytes = visible.bound.length;
    for base in visible.bases.iter().filter(|base| **base != visible.bound.base) {
        let path = SegmentName::of(topic, partition, *base).path;
        bytes += path.metadata().map_err(|e| TopicError::io("read", &path, &e))?.len();
    }
    let times = visible.bound.times;
    let any = times != Times::NONE;
    Ok(PartitionInfo {
        partition,
        records: visible.bound.next,
        bytes,
        segments: visible.bases.len() as u64,
        first: any.then_some(times.least),
        last: any.then_some(times.greatest),
    })
}

/// Records that follow each other, framed as in [`super::frame`].
#[derive(Debug)]
pub(crate) struct Run {
    /// Offset of the first record.
    pub from: u64,
    /// The framed records.
    pub bytes: Vec<u8>,
    /// Where each record's value lies in `bytes`.
    pub values: Vec<(u32, u32)>,
}

/// Reads one partition.
#[derive(Debug)]
pub(crate) struct Cursor {
    topic: Topic,
    partition: u32,
    synced: Option<SyncedFile>,
    bound: Bound,
    frames: Frames,
    /// Offset of the next record that is given.
    next: u64,
    /// The frame that holds it, if it was read already, and the place of the record there.
    frame: Option<(Frame, usize)>,
    /// Offset after the last record of the frames stepped over.
    stepped: u64,
}

impl Cursor {
    /// Stands before the record `position`, which may be the next that will be written.
    pub fn open(topic: &Topic, partition: u32, position: u64) -> Result<Cursor, TopicError> {
        let mut synced = SyncedFile::open(topic, partition)?;
        let visible = Visible::find(topic, partition, synced.as_mut())?;
        let bound = visible.bound;
        if position > bound.next {
            return Err(TopicError::OutOfRange { what: topic.partition_name(partition), position, end: bound.next });
        }
        let after = visible.bases.partition_point(|base| *base <= position);
        let base = after.checked_sub(1).map_or(0, |index| visible.bases[index]);
        let mut frames = Frames::open(SegmentName::of(topic, partition, base))?;
        let (at, first) = if base == bound.base && position == bound.next {
            (bound.length, bound.next)
        } else if base == bound.base {
            (SEGMENT_HEADER, base)
        } else {
            Index::load(&frames.name, frames.limit).before_offset(position, base)
        };
        frames.seek(at);
        let topic = topic.clone();
        let mut cursor =
            Cursor { topic, partition, synced, bound, frames, next: position, frame: None, stepped: first };
        cursor.set_limit()?;
        Ok(cursor)
    }

    /// Stands before the first record with a timestamp of `time` or greater, or at the end if there is none.
    pub fn open_at_time(topic: &Topic, partition: u32, time: i64) -> Result<Cursor, TopicError> {
        let mut synced = SyncedFile::open(topic, partition)?;
        let visible = Visible::find(topic, partition, synced.as_mut())?;
        if visible.bound.times.greatest < time {
            return Cursor::open(topic, partition, visible.bound.next);
        }
        // The last segment before which no timestamp reached `time` holds the record.
        let (mut low, mut high) = (0, visible.bases.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            let mut frames = Frames::open(SegmentName::of(topic, partition, visible.bases[middle]))?;
            if frames.carried()?.greatest < time { low = middle } else { high = middle }
        }
        let base = visible.bases[low];
        let mut cursor = Cursor::open(topic, partition, base)?;
        if base != visible.bound.base {
            let (at, first) = Index::load(&cursor.frames.name, cursor.frames.limit).before_time(time, base);
            cursor.frames.seek(at);
            cursor.next = first;
            cursor.stepped = first;
        }
        cursor.skip_until(time)?;
        Ok(cursor)
    }

    /// Returns the offset of the next record that is given.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Returns the offset after the last record that is known to count.
    pub fn end(&self) -> u64 {
        self.bound.next
    }

    /// Returns as many records as there are and the limits allow, or `None` if there is none.
    pub fn read(&mut self, limits: &ReadLimits) -> Result<Option<Run>, TopicError> {
        let until = limits.until.unwrap_or(u64::MAX);
        let bytes_max = limits.bytes.min(BYTES_MAX);
        let mut run = Run { from: self.next, bytes: Vec::new(), values: Vec::new() };
        while self.next < until && run.values.len() < limits.rows {
            if self.frame.is_none() && !self.advance()? {
                break;
            }
            let rows = (limits.rows - run.values.len()).min(usize::try_from(until - self.next).unwrap_or(usize::MAX));
            if run.values.capacity() == 0 {
                self.reserve(&mut run, rows, bytes_max);
            }
            if !self.take(&mut run, rows, bytes_max)? {
                break;
            }
        }
        Ok((!run.values.is_empty()).then_some(run))
    }

    /// Takes records of the frame in hand; false if the next one would be too many bytes.
    fn take(&mut self, run: &mut Run, rows: usize, bytes_max: usize) -> Result<bool, TopicError> {
        let (frame, begin) = self.frame.expect("the caller brought a frame");
        let payload = self.frames.payload(&frame);
        let mut at = begin;
        let mut taken = 0;
        let mut room = true;
        // Where the bytes of this frame will come to lie in the run.
        let shift = run.bytes.len();
        while taken < rows && at < payload.len() {
            let Some((value, end)) = frame::value_of(&payload[at..]) else {
                return Err(TopicError::damaged(&self.frames.name.path, frame.at, "a record is not whole"));
            };
            if shift + at + end - begin > bytes_max && !run.values.is_empty() {
                room = false;
                break;
            }
            let place = |within: usize| u32::try_from(shift + at - begin + within).expect("a run is below 4 GiB");
            run.values.push((place(value), place(end)));
            at += end;
            taken += 1;
        }
        run.bytes.extend_from_slice(&payload[begin..at]);
        let at_end = at == payload.len();
        self.next += taken as u64;
        if at_end && self.next != frame.header.end() {
            return Err(TopicError::damaged(&self.frames.name.path, frame.at, "a frame holds other than its records"));
        }
        self.frame = (!at_end).then_some((frame, at));
        Ok(room)
    }

    /// Brings the frame that holds the next record; false if there is none now.
    fn advance(&mut self) -> Result<bool, TopicError> {
        let mut looked = false;
        loop {
            let at = self.frames.at;
            match self.frames.step()? {
                Step::Frame(frame) => {
                    if frame.header.first != self.stepped {
                        let reason = format!("its records should begin at {}", self.stepped);
                        return Err(TopicError::damaged(&self.frames.name.path, frame.at, reason));
                    }
                    self.stepped = frame.header.end();
                    if self.stepped > self.next {
                        let skip = self.next - frame.header.first;
                        self.frame = Some((frame, self.offset_in(&frame, skip)?));
                        return Ok(true);
                    }
                }
                Step::Bad(reason) => return Err(TopicError::damaged(&self.frames.name.path, at, reason)),
                Step::End if self.frames.name.base < self.bound.base => self.next_segment()?,
                Step::End if looked => return Ok(false),
                Step::End => {
                    looked = true;
                    if !self.look()? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Returns where in the payload of `frame` the record after `skip` others begins.
    fn offset_in(&self, frame: &Frame, skip: u64) -> Result<usize, TopicError> {
        let payload = self.frames.payload(frame);
        let mut at = 0;
        for _ in 0..skip {
            match frame::value_of(&payload[at..]) {
                Some((_, end)) => at += end,
                None => return Err(TopicError::damaged(&self.frames.name.path, frame.at, "a record is not whole")),
            }
        }
        Ok(at)
    }

    /// Goes on in the segment after a sealed one.
    fn next_segment(&mut self) -> Result<(), TopicError> {
        let length = self.frames.length()?;
        if self.frames.limit < length {
            // It was sealed after its end was last looked at.
            self.frames.limit = length;
            return Ok(());
        }
        if self.stepped <= self.frames.name.base || self.stepped > self.bound.base {
            let reason = "a sealed segment ends here, but its records are not whole";
            return Err(TopicError::damaged(&self.frames.name.path, length, reason));
        }
        self.frames = Frames::open(SegmentName::of(&self.topic, self.partition, self.stepped))?;
        self.set_limit()
    }

    /// Asks the synced file whether there is more; true if so.
    fn look(&mut self) -> Result<bool, TopicError> {
        if self.synced.is_none() {
            self.synced = SyncedFile::open(&self.topic, self.partition)?;
        }
        let Some(synced) = &mut self.synced else { return Ok(false) };
        match synced.load()? {
            Some(bound) if self.bound.is_before(&bound) => {
                self.bound = bound;
                self.set_limit()?;
                Ok(true)
            }
            _ if synced.is_gone() => Err(TopicError::Changed { what: self.topic.partition_name(self.partition) }),
            _ => Ok(false),
        }
    }

    fn set_limit(&mut self) -> Result<(), TopicError> {
        let base = self.frames.name.base;
        self.frames.limit = if base == self.bound.base { self.bound.length } else { self.frames.length()? };
        Ok(())
    }

    /// Makes room for so many rows as the frame in hand has, or for what is left in the segment.
    fn reserve(&self, run: &mut Run, rows: usize, bytes_max: usize) {
        let (frame, _) = self.frame.expect("the caller brought a frame");
        let left = usize::try_from(self.frames.limit - frame.at).unwrap_or(usize::MAX);
        let per_row = (frame.header.payload / frame.header.records.max(1)) as usize;
        let bytes = rows.saturating_mul(per_row + per_row / 8).min(left).min(bytes_max).min(RESERVE_MAX);
        run.bytes.reserve(bytes);
        run.values.reserve(rows.min(bytes / per_row.max(1) + 1));
    }

    /// Moves on to the first record with a timestamp of `time` or greater, or to the end.
    fn skip_until(&mut self, time: i64) -> Result<(), TopicError> {
        while self.frame.is_some() || self.advance()? {
            let Some((frame, mut at)) = self.frame else { break };
            if frame.header.times.greatest >= time {
                let payload = self.frames.payload(&frame);
                while let Some(record) = frame::Record::parse(&payload[at..]) {
                    if record.timestamp >= time {
                        self.frame = Some((frame, at));
                        return Ok(());
                    }
                    at += record.framed();
                    self.next += 1;
                }
            }
            self.next = frame.header.end();
            self.frame = None;
        }
        Ok(())
    }
}
