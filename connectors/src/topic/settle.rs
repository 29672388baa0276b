//! Settling: finding out how far a partition's last segment counts, and whether what follows is a torn tail or damage.
//!
//! A crash may leave anything after the last flush: half a frame, zeroed pages, later pages without earlier ones. Nothing of
//! that was acknowledged, so it does not count. But a bad frame is damage, never a torn tail, if the synced file or a later
//! whole frame says that it had been durable. A reader and the next writer settle alike: what a reader once took to count
//! is never cut.

use super::Topic;
use super::error::TopicError;
use super::frame::Kind;
use super::segment::{self, Carried, Frame, Frames, SegmentName, Step};
use super::synced::{Bound, SyncedFile};
use super::token::{Chain, TokenRecord};

/// A partition's last segment as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// All segments, ascending.
    pub bases: Vec<u64>,
    /// The last segment.
    pub frames: Frames,
    /// What the last segment knows of those before it; read only if settling had to begin at its start.
    pub carried: Option<Carried>,
    /// Where settling begins.
    pub start: Bound,
    /// What the synced file says of this segment.
    pub stored: Option<Bound>,
}

/// Where settling starts to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartAt {
    /// At the beginning of the last segment: a writer wants its tokens.
    Beginning,
    /// At the bound of the synced file.
    Synced,
}

/// Opens the last segment of a partition.
pub(crate) fn find(
    topic: &Topic,
    partition: u32,
    synced: Option<&mut SyncedFile>,
    from: StartAt,
) -> Result<Found, TopicError> {
    let dir = topic.partition_dir(partition);
    // The bound first: a segment that is created in between is then seen, and settled from its beginning.
    let stored = synced.map(SyncedFile::load).transpose()?.flatten();
    let bases = segment::bases(&dir)?;
    let base = *bases.last().expect("a partition has a segment");
    if let Some(bound) = stored
        && bound.base > base
    {
        let path = SegmentName::of(topic, partition, bound.base).path;
        return Err(TopicError::damaged(&path, 0, "it is missing"));
    }
    let stored = stored.filter(|bound| bound.base == base);
    let mut frames = Frames::open(SegmentName::of(topic, partition, base))?;
    if let Some(bound) = stored
        && frames.limit < bound.length
    {
        let reason = format!("it ends here, but {} bytes of it had been made durable", bound.length);
        return Err(TopicError::damaged(&frames.name.path, frames.limit, reason));
    }
    if let (StartAt::Synced, Some(start)) = (from, stored) {
        frames.seek(start.length);
        return Ok(Found { bases, frames, carried: None, start, stored });
    }
    let carried = frames.carried()?;
    let start = Bound { base, length: frames.at, next: base, times: carried.times() };
    Ok(Found { bases, frames, carried: Some(carried), start, stored })
}

/// Reads on from `start` to the segment's limit and returns the last point at which everything before it counts.
/// `seen` is shown every frame, and the token in it if there is one.
pub(crate) fn settle(
    frames: &mut Frames,
    start: Bound,
    seen: &mut dyn FnMut(&Frame, Option<TokenRecord>),
) -> Result<Bound, TopicError> {
    let mut settled = start;
    let mut reached = start;
    let mut rows = Chain::default();
    loop {
        let at = frames.at;
        let frame = match frames.step()? {
            Step::End => return Ok(settled),
            Step::Frame(frame) => frame,
            Step::Bad(reason) => match judge(frames, at, &reason)? {
                None => return Ok(settled),
                Some(frame) => frame,
            },
        };
        let header = frame.header;
        let damaged = |reason: &str| Err(TopicError::damaged(&frames.name.path, frame.at, reason));
        if header.first != reached.next {
            return damaged(&format!("its records should begin at {}, not {}", reached.next, header.first));
        }
        reached = Bound {
            length: frame.end(),
            next: header.end(),
            times: reached.times.and(header.times),
            base: reached.base,
        };
        let mut token = None;
        match header.kind {
            Kind::Rows => rows.add(&header),
            Kind::Plain if settled.next == header.first => settled = reached,
            Kind::Plain => return damaged("a commit before it has no token"),
            Kind::Token => match serde_json::from_slice::<TokenRecord>(frames.payload(&frame)) {
                Ok(record) if record.from == settled.next && record.rows == rows => {
                    settled = reached;
                    rows = Chain::default();
                    token = Some(record);
                }
                Ok(_) => return damaged("a token does not fit the rows before it"),
                Err(_) => return damaged("a token cannot be read"),
            },
            Kind::Carried => return damaged("the beginning of a segment lies inside it"),
        }
        seen(&frame, token);
    }
}

/// Decides on a bad frame: `None` for a torn tail, an error for damage, the frame if it has become whole meanwhile.
fn judge(frames: &mut Frames, bad: u64, reason: &str) -> Result<Option<Frame>, TopicError> {
    let Some(witness) = frames.witness(bad)? else { return Ok(None) };
    // A live writer may have finished this frame, and more, since it was read.
    frames.seek(bad);
    if let Step::Frame(frame) = frames.step()? {
        return Ok(Some(frame));
    }
    let reason = format!("{reason}; the frame at byte {witness} says that it had been durable");
    Err(TopicError::damaged(&frames.name.path, bad, reason))
}

/// Checks that the synced file and the segment agree: everything up to the stored bound is whole.
pub(crate) fn settle_from_beginning(
    found: &mut Found,
    seen: &mut dyn FnMut(&Frame, Option<TokenRecord>),
) -> Result<Bound, TopicError> {
    let frames = &mut found.frames;
    let mut start = found.start;
    if let Some(stored) = found.stored {
        let length = frames.limit;
        frames.limit = stored.length;
        start = settle(frames, start, seen)?;
        if start != stored {
            let reason = "what had been made durable is not whole from here on";
            return Err(TopicError::damaged(&frames.name.path, start.length, reason));
        }
        frames.limit = length;
    }
    settle(frames, start, seen)
}
