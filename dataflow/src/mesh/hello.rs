//! The handshake: a connection counts once it has said who it is, and was let in.
//!
//! ```text
//! hello   [magic, 8 bytes][version u16][length u16][who it is, JSON]
//! answer  [magic, 8 bytes][version u16][length u16][welcome, or why not, JSON]
//! ```
//! Numbers are little-endian. A version is only ever followed by what that version says; magic, version and length stay.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::now;
use super::socket::{InTime, Socket};

/// What a connection of the mesh begins with.
pub const MAGIC: &[u8; 8] = b"riv-mesh";
/// The version of what processes say to each other.
pub const VERSION: u16 = 1;
/// How long a handshake may take.
pub const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a hello, or an answer, behind its head.
const LENGTH_MAX: u16 = 4096;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Each says where it stands.
    Control,
    /// Batches.
    Data,
    /// Nothing but the hello: an address that should be free is not, and whoever has it may be of an older generation.
    Notice,
}

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The job.
    pub job: String,
    /// Hash of its plan.
    pub plan: String,
    /// What names the output semantics of this build.
    pub build: String,
    /// Which mesh of the job this is: only ever grows.
    pub generation: u64,
    /// Which process this is.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
    /// Worker threads of each.
    pub workers: usize,
    /// What the connection is for.
    pub purpose: Purpose,
    /// Unlike that of any other process, one that had the same number included.
    pub instance: u64,
}

/// Why a connection is turned away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It said nothing of this protocol.
    Stranger,
    /// It did not say who it is in time.
    Slow,
    /// It went away before it had said who it is.
    Gone,
    /// It begins well and goes on as nothing of this protocol.
    Malformed(String),
    /// Too many others are saying who they are.
    Busy,
    /// It shows no certificate of this mesh.
    Untrusted,
    /// It speaks another version.
    Version {
        /// The version here.
        here: u16,
    },
    /// It belongs to another job.
    Job {
        /// The job here.
        here: String,
    },
    /// It is of an older generation.
    Older {
        /// The generation here.
        here: u64,
    },
    /// It is of a newer generation: who hears it ends.
    Newer {
        /// The generation here.
        here: u64,
    },
    /// It runs another plan of the job, or another build.
    Plan {
        /// The plan here.
        here: String,
        /// The build here.
        build: String,
    },
    /// It counts other processes, or other workers.
    Shape {
        /// Processes here.
        processes: usize,
        /// Workers of each here.
        workers: usize,
    },
    /// Its number is none that may connect here.
    Number,
    /// Its number is taken.
    Taken,
}

impl Refusal {
    /// Returns the reason in a word, for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Refusal::Stranger => "stranger",
            Refusal::Slow => "slow",
            Refusal::Gone => "gone",
            Refusal::Malformed(_) => "malformed",
            Refusal::Busy => "busy",
            Refusal::Untrusted => "untrusted",
            Refusal::Version { .. } => "version",
            Refusal::Job { .. } => "job",
            Refusal::Older { .. } => "older_generation",
            Refusal::Newer { .. } => "newer_generation",
            Refusal::Plan { .. } => "plan",
            Refusal::Shape { .. } => "shape",
            Refusal::Number => "number",
            Refusal::Taken => "taken",
        }
    }

    /// Returns whether it says that the two were told different things: waiting will hardly help.
    pub fn is_mismatch(&self) -> bool {
        matches!(
            self,
            Refusal::Version { .. }
                | Refusal::Job { .. }
                | Refusal::Plan { .. }
                | Refusal::Shape { .. }
                | Refusal::Number
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Stranger => f.write_str("it is no process of a job"),
            Refusal::Slow => f.write_str("it does not say who it is"),
            Refusal::Gone => f.write_str("it went away before it had said who it is"),
            Refusal::Malformed(reason) => write!(f, "it cannot be understood: {reason}"),
            Refusal::Busy => f.write_str("it has too many callers at the moment"),
            Refusal::Untrusted => f.write_str("it shows no certificate of this mesh"),
            Refusal::Version { here } => {
                write!(f, "it speaks version {here} of the mesh's protocol, this one {VERSION}")
            }
            Refusal::Job { here } => write!(f, "it runs job `{here}`"),
            Refusal::Older { here } => write!(f, "it is of generation {here}, which is newer"),
            Refusal::Newer { here } => write!(f, "it is of generation {here}, which is older, and ends"),
            Refusal::Plan { here, build } => {
                write!(
                    f,
                    "it runs plan {here} by build {build}: give all processes the same job file, options and binary"
                )
            }
            Refusal::Shape { processes, workers } => write!(
                f,
                "it counts {processes} processes with {workers} workers each: give all of them the same --processes and -w"
            ),
            Refusal::Number => f.write_str("it does not take the number of this process: --process differs for each"),
            Refusal::Taken => f.write_str("another process has this number already"),
        }
    }
}

/// What is said in return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Welcome,
    Refused(Refusal),
}

impl Hello {
    /// Returns this hello for another purpose.
    pub fn to(&self, purpose: Purpose) -> Hello {
        Hello { purpose, ..self.clone() }
    }

    /// Returns why `caller` is none of this process's peers, if it is none. Whether its place is taken is another question.
    pub fn judge(&self, caller: &Hello) -> Result<(), Refusal> {
        if caller.job != self.job {
            return Err(Refusal::Job { here: self.job.clone() });
        }
        if caller.generation < self.generation {
            return Err(Refusal::Older { here: self.generation });
        }
        if caller.generation > self.generation {
            return Err(Refusal::Newer { here: self.generation });
        }
        if (&caller.plan, &caller.build) != (&self.plan, &self.build) {
            return Err(Refusal::Plan { here: self.plan.clone(), build: self.build.clone() });
        }
        if (caller.processes, caller.workers) != (self.processes, self.workers) {
            return Err(Refusal::Shape { processes: self.processes, workers: self.workers });
        }
        // Each process calls those with lower numbers.
        let calls = caller.process > self.process && caller.process < self.processes;
        if calls && caller.purpose != Purpose::Notice { Ok(()) } else { Err(Refusal::Number) }
    }
}

/// Hears who a caller is.
pub fn receive(from: &mut impl Read) -> Result<Hello, Refusal> {
    let body = read(from)?;
    serde_json::from_slice(&body).map_err(|error| Refusal::Malformed(error.to_string()))
}

/// Lets a caller in, or tells it why not.
pub fn answer(to: &mut impl Write, refusal: Option<&Refusal>) -> io::Result<()> {
    write(to, &refusal.map_or(Answer::Welcome, |refusal| Answer::Refused(refusal.clone())))
}

/// Says who this process is, and returns why it is not let in, if it is not.
pub fn call(socket: &mut Socket, hello: &Hello) -> Result<(), Refusal> {
    let mut other = InTime::of(socket, now() + LIMIT);
    say(&mut other, hello).map_err(|error| failed(&error))?;
    let body = read(&mut other)?;
    match serde_json::from_slice(&body) {
        Ok(Answer::Welcome) => Ok(()),
        Ok(Answer::Refused(refusal)) => Err(refusal),
        Err(error) => Err(Refusal::Malformed(error.to_string())),
    }
}

/// Says who this process is.
pub fn say(to: &mut impl Write, hello: &Hello) -> io::Result<()> {
    write(to, hello)
}

fn write(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(what).expect("it is plain data");
    let length = u16::try_from(body.len()).ok().filter(|length| *length <= LENGTH_MAX);
    let length = length.ok_or_else(|| io::Error::other("the names of job, plan and build are too long"))?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&body);
    to.write_all(&out)
}

fn read(from: &mut impl Read) -> Result<Vec<u8>, Refusal> {
    let mut fill = |buffer: &mut [u8]| from.read_exact(buffer).map_err(|error| failed(&error));
    // Byte by byte of the magic: whoever speaks another language and then waits is not waited for.
    let mut head = [0; 12];
    for (at, byte) in MAGIC.iter().enumerate() {
        fill(&mut head[at..=at])?;
        if head[at] != *byte {
            return Err(Refusal::Stranger);
        }
    }
    fill(&mut head[MAGIC.len()..])?;
    let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    if number(8) != VERSION {
        return Err(Refusal::Version { here: VERSION });
    }
    let length = number(10);
    if length > LENGTH_MAX {
        return Err(Refusal::Malformed(format!("{length} bytes are more than {LENGTH_MAX}")));
    }
    let mut body = vec![0; usize::from(length)];
    fill(&mut body)?;
    Ok(body)
}

/// Returns why somebody is turned away with whom talking failed so.
pub fn failed(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Refusal::Slow,
        _ => Refusal::Gone,
    }
}
