//! Schema registries that speak Confluent's protocol (Confluent, Apicurio, Karapace, Redpanda): where a record says only the
//! number of the schema it was written with.
//!
//! **What is promised.** A number never changes its meaning: that is what registries promise, and what the same bytes at every
//! run stand on. So an answer is kept for as long as the process lives, and decoding a record is a function of the record.
//!
//! **Away.** A registry that does not answer is asked again, and the source waits: [`RegisteredSource`] gives no record whose
//! schema it does not have, so no row is bad or late because a registry was down. One that refuses who asks stops the job.
//!
//! **What it does not do.** It asks for no subject and no latest version: what a record was written with is all that counts.

mod address;
mod client;
mod events;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

pub use address::{RegistryAddress, RegistryAddressError};
pub use client::RegistryFault;
pub use source::RegisteredSource;

use client::Client;
use events::{Answers, Silent};

/// Numbers that the registry does not know are remembered up to so many; then they are asked for again.
const UNKNOWN_MAX: usize = 10_000;
/// Time between two tries, at first and at last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// Apache Avro.
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaKind {
    /// Returns its name in the registry's protocol.
    pub fn word(self) -> &'static str {
        match self {
            SchemaKind::Avro => "AVRO",
            SchemaKind::Protobuf => "PROTOBUF",
            SchemaKind::Json => "JSON",
        }
    }
}

/// A schema as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// Its language.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// What it refers to, by the name that it uses; each after what it refers to itself.
    pub references: Vec<(String, String)>,
}

/// What a registry says of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It stands for this.
    Known(Arc<RegisteredSchema>),
    /// It stands for nothing: what the registry said.
    Unknown(String),
}

/// A registry and what it has said so far. Clones share both.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.shared.address {
            Some(address) => write!(f, "Registry({address})"),
            None => f.write_str("Registry"),
        }
    }
}

/// Two registries are the same if they are at the same place.
impl PartialEq for Registry {
    fn eq(&self, other: &Registry) -> bool {
        self.shared.address == other.shared.address
    }
}

impl Eq for Registry {}

struct Shared {
    /// `None`: nobody is asked.
    address: Option<RegistryAddress>,
    answers: RwLock<HashMap<u32, Answer>>,
    asked: Mutex<Asked>,
    answered: Condvar,
}

/// What is to be asked.
#[derive(Default)]
struct Asked {
    wanted: BTreeSet<u32>,
    /// The number that was asked for last.
    last: u32,
    /// A thread is asking. It ends when nothing is wanted, or nobody holds the registry any more.
    asking: bool,
    /// Why the registry does not let us in.
    refused: Option<String>,
    /// How many of the answers are that there is nothing.
    unknown: usize,
}

impl Registry {
    /// Returns the registry at an address. Nothing is asked yet.
    pub fn at(address: RegistryAddress) -> Registry {
        Registry::with(Some(address), HashMap::new())
    }

    /// Returns a registry that knows these schemas and no other.
    pub fn fixed(known: impl IntoIterator<Item = (u32, RegisteredSchema)>) -> Registry {
        let known = known.into_iter().map(|(id, schema)| (id, Answer::Known(Arc::new(schema))));
        Registry::with(None, known.collect())
    }

    fn with(address: Option<RegistryAddress>, answers: HashMap<u32, Answer>) -> Registry {
        let answers = RwLock::new(answers);
        Registry { shared: Arc::new(Shared { address, answers, asked: Mutex::default(), answered: Condvar::new() }) }
    }

    /// Returns where it is, for messages.
    pub fn place(&self) -> String {
        self.shared.address.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Returns what is known of a number by now.
    pub fn known(&self, id: u32) -> Option<Answer> {
        let known = self.shared.answers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        match &self.shared.address {
            None => Some(known.unwrap_or_else(|| Answer::Unknown("there is no such schema".to_owned()))),
            Some(_) => known,
        }
    }

    /// Has these numbers looked up. Does not wait.
    pub fn ask(&self, ids: impl IntoIterator<Item = u32>) {
        let mut asked = self.shared.asked();
        asked.wanted.extend(ids);
        if asked.asking || asked.wanted.is_empty() {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        let thread = std::thread::Builder::new().name("schema-registry".to_owned());
        asked.asking = thread.spawn(move || look_up(&shared)).is_ok();
    }

    /// Returns why the registry does not let us in, if so.
    pub fn refused(&self) -> Option<String> {
        self.shared.asked().refused.clone()
    }

    /// Returns what a number stands for; waits for the registry as long as it takes.
    pub fn answer(&self, id: u32) -> Answer {
        loop {
            if let Some(answer) = self.known(id) {
                return answer;
            }
            self.ask([id]);
            let asked = self.shared.asked();
            // Looks again now and then, should the thread not have come into being.
            drop(self.shared.answered.wait_timeout(asked, PAUSE_LAST));
        }
    }

    /// Registers a schema for a subject and returns its number; of one that is registered there already, the one it has.
    pub fn register(&self, subject: &str, kind: SchemaKind, text: &str) -> Result<u32, RegistryFault> {
        let Some(address) = &self.shared.address else {
            return Err(RegistryFault::Refused("nobody is asked".to_owned()));
        };
        let mut pause = Pause::new();
        let mut client = Client::new(address)?;
        loop {
            match client.register(subject, kind, text) {
                Err(RegistryFault::Away(reason)) if !pause.is_spent() => pause.wait(address, &reason),
                other => return other,
            }
        }
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an answer.
    fn keep(&self, id: u32, answer: Answer) {
        let mut asked = self.asked();
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(answer, Answer::Unknown(_)) {
            asked.unknown += 1;
            if asked.unknown > UNKNOWN_MAX {
                answers.retain(|_, answer| matches!(answer, Answer::Known(_)));
                asked.unknown = 1;
            }
        }
        answers.insert(id, answer);
        asked.wanted.remove(&id);
        asked.refused = None;
        drop(asked);
        self.answered.notify_all();
    }

    /// Returns a number to be asked for; without any the thread is to end.
    fn next(&self) -> Option<u32> {
        let mut asked = self.asked();
        // In turn: one that gets no answer must not keep the others from theirs.
        let after = asked.wanted.range(asked.last.saturating_add(1)..).next().copied();
        let next = after.or_else(|| asked.wanted.first().copied());
        asked.asking = next.is_some();
        asked.last = next.unwrap_or_default();
        next
    }
}

/// Asks for what is wanted until nothing is, or nobody wants to know.
fn look_up(shared: &Weak<Shared>) {
    let mut pause = Pause::new();
    let mut client = None;
    while let Some(shared) = shared.upgrade() {
        let (Some(id), Some(address)) = (shared.next(), &shared.address) else { return };
        let answer = match &mut client {
            Some(client) => Client::schema(client, id),
            none => Client::new(address).and_then(|made| none.insert(made).schema(id)),
        };
        match answer {
            Ok(answer) => {
                pause.answered(address);
                shared.keep(id, answer);
            }
            Err(fault) => {
                let reason = fault.to_string();
                if matches!(fault, RegistryFault::Refused(_)) {
                    shared.asked().refused = Some(reason.clone());
                }
                pause.wait(address, &reason);
            }
        }
    }
}

/// Waits between two tries, ever longer, and says so.
struct Pause {
    next: Duration,
    spent: Duration,
}

impl Pause {
    /// For so long a registry that does not answer is asked again before a job begins.
    const PATIENCE: Duration = Duration::from_secs(45);

    fn new() -> Pause {
        Pause { next: PAUSE_FIRST, spent: Duration::ZERO }
    }

    fn is_spent(&self) -> bool {
        self.spent >= Pause::PATIENCE
    }

    fn wait(&mut self, address: &RegistryAddress, reason: &str) {
        Silent { registry: address, reason, since: self.spent }.log();
        std::thread::sleep(self.next);
        self.spent += self.next;
        self.next = (self.next * 2).min(PAUSE_LAST);
    }

    fn answered(&mut self, address: &RegistryAddress) {
        if self.spent > Duration::ZERO {
            Answers(address).log();
        }
        *self = Pause::new();
    }
}
