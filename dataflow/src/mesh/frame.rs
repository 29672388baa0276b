//! What goes over a connection of control: frames, each with its kind and its length.
//!
//! ```text
//! [kind u8][length u32][body]
//! ```

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Where the process stands; also its heartbeat.
    Word,
    /// Said once, in order.
    Letter,
    /// The process ends because of a failure.
    Failed,
    /// The process ends well: nothing follows.
    Ended,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// What it says.
    pub body: Vec<u8>,
}

/// What a process says of a failure.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Whose failure it is.
    pub first: usize,
    /// What happened.
    pub reason: String,
}

impl Failure {
    /// Reads what the process `from` said.
    pub fn read(body: &[u8], from: usize) -> Failure {
        serde_json::from_slice(body).unwrap_or(Failure { first: from, reason: "it failed".to_owned() })
    }
}

/// Bytes of a failure's reason that are passed on.
const REASON_MAX: usize = 8 * 1024;

impl FrameKind {
    fn number(self) -> u8 {
        match self {
            FrameKind::Word => 0,
            FrameKind::Letter => 1,
            FrameKind::Failed => 2,
            FrameKind::Ended => 3,
        }
    }

    fn of(number: u8) -> Option<FrameKind> {
        [FrameKind::Word, FrameKind::Letter, FrameKind::Failed, FrameKind::Ended]
            .into_iter()
            .find(|kind| kind.number() == number)
    }

    /// Returns the most bytes that a frame of this kind may have. What a meter shows is part of a word, what a restart repeats one
    /// letter.
    fn length_max(self) -> u32 {
        match self {
            FrameKind::Failed => 1 << 20,
            FrameKind::Word => 1 << 26,
            FrameKind::Letter => 1 << 30,
            FrameKind::Ended => 0,
        }
    }
}

impl Frame {
    /// Writes it.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let too_long = || io::Error::other("what is to be said is too long");
        let length = u32::try_from(self.body.len()).ok().filter(|length| *length <= self.kind.length_max());
        let mut out = vec![self.kind.number()];
        out.extend_from_slice(&length.ok_or_else(too_long)?.to_le_bytes());
        // One write for what is short: no reader is woken for a head alone.
        out.extend_from_slice(&self.body);
        to.write_all(&out)
    }

    /// Reads the next one.
    pub fn read(from: &mut impl Read) -> io::Result<Frame> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let kind = FrameKind::of(head[0]).ok_or_else(|| invalid(format!("there is no frame of kind {}", head[0])))?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        if length > kind.length_max() {
            return Err(invalid(format!("a frame of {length} bytes is too long")));
        }
        // Memory is taken as bytes come, not as they are announced.
        let mut body = Vec::new();
        from.take(u64::from(length)).read_to_end(&mut body)?;
        if body.len() < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Frame { kind, body })
    }
}

/// Returns the body of a frame that says why a process fails.
pub fn failure(first: usize, reason: &str) -> Vec<u8> {
    let cut = reason.char_indices().map(|(at, _)| at).take_while(|at| *at <= REASON_MAX).last().unwrap_or(0);
    let reason = if reason.len() <= REASON_MAX { reason } else { &reason[..cut] };
    serde_json::to_vec(&Failure { first, reason: reason.to_owned() }).expect("it is plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let frames = [
            Frame { kind: FrameKind::Word, body: b"{}".to_vec() },
            Frame { kind: FrameKind::Letter, body: vec![7; 100_000] },
            Frame { kind: FrameKind::Failed, body: failure(2, &"ä".repeat(10_000)) },
            Frame { kind: FrameKind::Ended, body: Vec::new() },
        ];
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut bytes).unwrap());
        let mut rest = bytes.as_slice();
        for frame in &frames {
            assert_eq!(Frame::read(&mut rest).unwrap(), *frame);
        }
        assert!(rest.is_empty());
        let failure: Failure = serde_json::from_slice(&frames[2].body).unwrap();
        assert!(failure.first == 2 && failure.reason.len() <= REASON_MAX);
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_takes_no_memory() {
        for bytes in
            [&[9, 0, 0, 0, 0][..], &[0, 0, 0, 0, 0xff], &[3, 1, 0, 0, 0, 1], &[1, 0xff, 0xff, 0xff, 0x3f, 1], &[0]]
        {
            assert!(Frame::read(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
