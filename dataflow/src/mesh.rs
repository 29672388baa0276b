//! The mesh: the processes of one job, each connected with every other one.
//!
//! ```text
//! Mesh::form -> say / hear (how the job begins) -> attend (a voice, while the job runs) -> end or fail
//! ```
//! Two connections between any two processes: one that timely has for its batches, and one of control, on which each says where
//! it stands, again and again. A mesh is all or nothing: whoever is lost, cut off or frozen ends it for all, and the job starts
//! again from its log. What comes in at the door is nobody's until it has said who it is (`hello.rs`): it is heard for a short
//! while, turned away with a reason, counted, and can neither keep the others waiting nor bring anything down.
//!
//! What the processes say to each other once the job runs is the engine's own (`engine/crossing.rs`); here it is bytes.

mod address;
mod door;
mod form;
pub(crate) mod frame;
pub(crate) mod hello;
mod link;
mod meter;
mod socket;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use address::Address;
pub use form::{MeshConfig, Place};
pub use hello::{Hello, Purpose, Refusal};
pub use meter::{MeshMeter, PeerReading};
pub use tls::Tls;

use door::Door;
use frame::{Frame, FrameKind};
use link::Links;
pub(crate) use socket::Counted;

/// How long a process that ends waits for its last words to be on their way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Looks at the clock. How long something takes on the network is measured here, and reaches no output.
#[expect(clippy::disallowed_methods, reason = "waiting and its limits; reaches no output")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Something is wrong with the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeshError {
    /// The mesh cannot be made as it was asked for (exit 78).
    #[error("{0}")]
    Config(String),
    /// A process did not come in time (exit 75).
    #[error(
        "process {process} at {address} did not come within {waited:?}: {reason}\n  hint: all processes of the job must be started at about the same time, with the same --peers"
    )]
    Absent {
        /// Its number.
        process: usize,
        /// Where it should be.
        address: String,
        /// What came in the way last.
        reason: String,
        /// How long was waited.
        waited: Duration,
    },
    /// Another process listens where this one is to listen (exit 75).
    #[error(
        "another process listens on {address}, and still did after {waited:?}\n  hint: end it, or name another address with --mesh-listen"
    )]
    Occupied {
        /// The address.
        address: String,
        /// How long was waited.
        waited: Duration,
    },
    /// A process at a peer's address is none of this mesh (exit 78).
    #[error("process {process} at {address} does not belong to this mesh: {reason}")]
    Mismatch {
        /// Its number.
        process: usize,
        /// Where it is.
        address: String,
        /// What differs.
        reason: Refusal,
    },
    /// A newer mesh of the job is there (exit 75).
    #[error("generation {newer} of the job's mesh is there; this one, generation {own}, ends")]
    Superseded {
        /// This process's generation.
        own: u64,
        /// The newer one.
        newer: u64,
    },
    /// A process of the mesh is gone (exit 75).
    #[error("process {process} of the job is lost: {reason}; so this one ends too, to start again with all of them")]
    Lost {
        /// Which one.
        process: usize,
        /// How that was seen, or what it said.
        reason: String,
    },
    /// Another process said what is no word of this protocol (exit 70).
    #[error("process {process} said what cannot be understood: {reason}")]
    Unreadable {
        /// Which one.
        process: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody asked this process to stop before the mesh was there.
    #[error("stopped before all processes of the job were there")]
    Stopped,
}

/// What somebody else said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Where another process stands; only its last word counts.
    Word(Vec<u8>),
    /// Something that is said once, in order.
    Letter(Vec<u8>),
    /// That process, or the whole mesh, is lost.
    Lost(MeshError),
}

/// The part of a process that takes part in the talk while the job runs.
pub trait Voice: Send + Sync {
    /// Returns where this process stands, as it is told to the process `to`.
    fn word(&self, to: usize) -> Vec<u8>;

    /// Hears what the process `from` said.
    fn hear(&self, from: usize, heard: Heard);
}

/// Is told once that the mesh is lost.
type OnLoss = Box<dyn FnOnce(&MeshError) + Send>;

/// A mesh that stands. Ends when it is dropped; a process that wants the others to know why says so before.
pub struct Mesh {
    place: Place,
    links: Links,
    data: Mutex<Option<Vec<Option<Counted>>>>,
    on_loss: Mutex<Option<OnLoss>>,
    meter: Arc<MeshMeter>,
    /// Stays open as long as the job runs: whoever comes late is told so.
    door: Mutex<Option<Door>>,
}

impl Mesh {
    /// Connects this process with all others of its job, or says why that cannot be. `stopping` is asked again and again.
    pub fn form(
        config: &MeshConfig,
        meter: Arc<MeshMeter>,
        stopping: &dyn Fn() -> bool,
    ) -> Result<Arc<Mesh>, MeshError> {
        form::form(config, meter, stopping).map(Arc::new)
    }

    /// Returns which process this is, of how many.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Returns what is counted.
    pub fn meter(&self) -> &Arc<MeshMeter> {
        &self.meter
    }

    /// Returns the numbers of the other processes.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.place.process;
        (0..self.place.processes).filter(move |process| *process != own)
    }

    /// Says something to another process, once.
    pub fn say(&self, to: usize, what: &impl Serialize) {
        let body = serde_json::to_vec(what).expect("what is said is plain data");
        self.links.post(to, Frame { kind: FrameKind::Letter, body });
    }

    /// Waits for what another process says next, before the job runs.
    pub fn hear<T: DeserializeOwned>(&self, from: usize) -> Result<T, MeshError> {
        let body = self.links.next_letter(from)?;
        serde_json::from_slice(&body)
            .map_err(|error| MeshError::Unreadable { process: from, reason: error.to_string() })
    }

    /// From now on `voice` speaks for this process, and hears what the others say.
    pub fn attend(&self, voice: Arc<dyn Voice>) {
        self.links.attend(voice);
    }

    /// There is news of where this process stands, for all others.
    pub fn nudge(&self) {
        self.links.nudge();
    }

    /// There is news of where this process stands, for one other.
    pub fn nudge_one(&self, to: usize) {
        self.links.nudge_one(to);
    }

    /// Returns the connections for the batches, by process. They are taken once.
    pub(crate) fn take_data(&self) -> Option<Vec<Option<Counted>>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has `on_loss` called, at most once, if the mesh is lost while the job runs. Threads may be stuck then, waiting for what will
    /// never come, so it should end the process.
    pub fn on_loss(&self, on_loss: impl FnOnce(&MeshError) + Send + 'static) {
        *self.on_loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(on_loss));
    }

    /// The mesh is lost.
    pub(crate) fn lost(&self, error: &MeshError) {
        let on_loss = self.on_loss.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_loss) = on_loss {
            on_loss(error);
        }
    }

    /// Nobody speaks for this process any more, and nobody is heard: the job is over.
    pub fn leave(&self) {
        self.links.silence();
        drop(self.door.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Tells the others that this process ends well.
    pub fn end(&self) {
        self.links.conclude(Frame { kind: FrameKind::Ended, body: Vec::new() }, LAST_WORDS);
    }

    /// Tells the others why this process fails. `first` is the process whose failure it is.
    pub fn fail(&self, first: usize, reason: &str) {
        let body = frame::failure(first, reason);
        self.links.conclude(Frame { kind: FrameKind::Failed, body }, LAST_WORDS);
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.links.close();
    }
}

#[cfg(test)]
mod tests;
