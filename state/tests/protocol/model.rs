//! The protocol as a state machine: generations of one job that may be paused or killed between any two of their outside
//! acts, the log, its floor, and a sink with one lane.
//!
//! What a restart makes of the log is decided by the production code, see [`crate::recovered`]. The rest is RELIABILITY 6.1
//! and 6.2 in small steps: one step is one act that other processes can see, or nothing that they can.

use std::fmt;

use crate::recovered::{Found, Recovered};

/// Ticks of a run, at most.
pub const TICKS: usize = 3;

/// A row of output: which tick it is of, which generation cut that tick, and whether the first or the second version of the
/// job derived it. 0 is no row.
pub type Row = u8;

/// Returns the row of `tick` as cut by generation `by` and derived by `version`.
pub fn row(tick: usize, by: u8, version: u8) -> Row {
    (tick as u8) << 4 | by << 1 | version
}

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Rule 1: a number that is taken is not noticed.
    TakenIsSuccess,
    /// Rule 1, R2: a process looks whether it is the newest generation, and then writes under a number of its own choice.
    CheckThenWrite,
    /// Rule 2, R3: the floor is not read after a create.
    NoFloorCheck,
    /// Rule 2, R3: records are deleted before the floor is raised.
    DeleteBeforeFloor,
    /// Rule 3: the log is read first, and the generation record is put wherever there is room by then.
    ReadBeforeFence,
    /// Rule 4: the sink commits before the tick is in the log.
    SinkBeforeLog,
    /// Rule 5, R1: a checkpoint does not wait for the sink.
    CheckpointBeforeSink,
    /// Rule 5: a checkpoint does not wait for the log.
    CheckpointBeforeLog,
    /// Rule 5: a checkpoint does not wait for its parts.
    CheckpointBeforeParts,
    /// Rule 6: rows are appended whatever the sink's token says.
    NoTokenCompare,
    /// What a dead process left in the log uncommitted is taken for committed.
    NotDerivedAgain,
    /// R6: recorded ticks of another build are derived again.
    AnyBuild,
    /// R7: a checkpoint of another plan is used.
    AnyPlan,
    /// R8: a token that went back is not noticed.
    TokenTakenOnFaith,
    /// Recovery: a sink that is ahead of the checkpoint is refused, though the log has the ticks between.
    AheadIsRefused,
    /// Recovery: who loses the race for its generation record tries the same number again.
    NeverLooksAgain,
}

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Generations that may start, in order.
    pub generations: u8,
    /// Ticks of the run.
    pub ticks: usize,
    /// Processes that may be killed.
    pub crashes: u8,
    /// Checkpoints that may be published, in all.
    pub checkpoints: u8,
    /// Checkpoints that collection keeps.
    pub retained: usize,
    /// How often the sink may be restored from a backup.
    pub backups: u8,
    /// How often the files of the newest checkpoint may be lost.
    pub damages: u8,
    /// What of the job changes with the second generation.
    pub changes: Option<Change>,
    /// The rule that is broken.
    pub mutant: Option<Mutant>,
}

/// What an upgrade that nobody drained for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The program.
    Build,
    /// The job file.
    Plan,
}

/// A record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Record {
    /// It was collected, or never written.
    Gone,
    /// A process took over.
    Generation(u8),
    /// A tick was made final.
    Tick { tick: u8, by: u8 },
    /// A checkpoint: the state is the one after `tick`, the rows up to there were `chain`.
    Checkpoint { tick: u8, by: u8, after: u8, token: u8, chain: [Row; TICKS], files: bool },
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// Not started.
    Idle,
    /// It has seen the log up to `last`, and the floor.
    Fencing { last: u8, floor: u8 },
    /// Its generation record was created; it reads the log up to `seen`.
    FencedOthers { seen: u8, floor: u8 },
    /// It asked the sink for its token, and may decide.
    Asked { seen: u8, floor: u8, token: u8 },
    /// It runs.
    Running,
    /// A record was created, the floor not read yet.
    Created,
    /// It raises the floor.
    Raising { to: u8 },
    /// It deletes records.
    Deleting { to: u8 },
    /// It stopped by itself.
    Ended,
    /// It is dead.
    Killed,
}

/// A checkpoint that a process keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    pub seq: u8,
    pub after: u8,
    pub counts: bool,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub at: At,
    /// The last record that it knows.
    pub last: u8,
    /// The tick of the checkpoint it was restored from.
    pub base: u8,
    /// The rows of each tick, as it has them in its state or derived them.
    pub chain: [Row; TICKS],
    /// The number of the record of each tick, 0 if it lies before the base.
    pub records: [u8; TICKS],
    /// The last tick that it knows to be in the log.
    pub logged: u8,
    /// The last tick that it takes for committed.
    pub committed: u8,
    /// The tick of the newest checkpoint.
    pub saved: u8,
    /// The record that it is about to append.
    pub appending: Option<Record>,
    /// The number of the checkpoint whose files are not written yet: 0 but for a mutant.
    pub unwritten: u8,
    pub kept: Vec<Kept>,
}

/// The world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// By number, from 1.
    pub log: Vec<Record>,
    pub floor: u8,
    /// Whose generation record is the newest; 0 before there is any.
    pub owner: u8,
    pub processes: Vec<Process>,
    /// What the outside sees; the number of rows is the token.
    pub sink: Vec<Row>,
    /// What each tick is, since its record was made.
    pub truth: [Row; TICKS],
    pub crashes: u8,
    pub checkpoints: u8,
    pub backups: u8,
    pub damages: u8,
    /// A tick was made final twice, or from a state of another plan; a process stopped though nothing was wrong.
    pub broken: Option<&'static str>,
}

impl World {
    /// Returns the world before anything happened.
    pub fn new(config: &Config) -> World {
        let idle = Process {
            at: At::Idle,
            last: 0,
            base: 0,
            chain: [0; TICKS],
            records: [0; TICKS],
            logged: 0,
            committed: 0,
            saved: 0,
            appending: None,
            unwritten: 0,
            kept: Vec::new(),
        };
        World {
            log: Vec::new(),
            floor: 0,
            owner: 0,
            processes: vec![idle; usize::from(config.generations)],
            sink: Vec::new(),
            truth: [0; TICKS],
            crashes: 0,
            checkpoints: 0,
            backups: 0,
            damages: 0,
            broken: None,
        }
    }

    /// Returns what is wrong, if anything is: the sink must hold a prefix of the truth.
    pub fn violation(&self) -> Option<String> {
        if let Some(broken) = self.broken {
            return Some(broken.to_owned());
        }
        let wrong = |(at, found): (usize, &Row)| self.truth.get(at) != Some(found);
        let at = self.sink.iter().enumerate().position(wrong)?;
        Some(format!("row {} of the sink is {:#x}, the truth is {:x?}", at + 1, self.sink[at], self.truth))
    }

    /// Returns whether a process believes that all is done while the sink lacks rows.
    pub fn lost(&self, config: &Config) -> bool {
        let done = |process: &Process| {
            process.at == At::Running
                && usize::from(process.logged) == config.ticks
                && process.committed == process.logged
        };
        self.backups == 0 && self.processes.iter().any(done) && self.sink.len() < config.ticks
    }

    /// Returns whether nothing more is asked of the protocol: all is delivered, something befell the job, or the process that owned it
    /// is dead and there is none to come.
    pub fn settled(&self, config: &Config) -> bool {
        let owner = self.owner.checked_sub(1).map(|index| &self.processes[usize::from(index)]);
        let dead = owner.is_none_or(|process| process.at == At::Killed);
        let done = |process: &Process| process.at == At::Running && usize::from(process.logged) == config.ticks;
        let delivered = self.sink.len() == config.ticks && (dead || owner.is_some_and(done));
        let over = self.processes.iter().all(|process| matches!(process.at, At::Ended | At::Killed));
        delivered || dead && over || self.excused(config)
    }

    /// Returns whether something befell the job for which it may have to stop.
    fn excused(&self, config: &Config) -> bool {
        self.backups > 0 || self.damages > 0 || config.changes.is_some()
    }

    /// A process stops by itself. It may, if another one took over or something befell the job.
    fn stop(&mut self, config: &Config, index: usize) {
        self.processes[index].at = At::Ended;
        if usize::from(self.owner) == index + 1 && !self.excused(config) {
            self.broken = Some("a process stopped though nothing was wrong");
        }
    }

    /// Returns everything that may happen next, always in the same order, and the world after it.
    pub fn successors(&self, config: &Config, recovered: &mut Recovered) -> Vec<(Event, World)> {
        let mut found = Vec::new();
        for index in 0..self.processes.len() {
            let generation = index as u8 + 1;
            let startable = index == 0 || self.processes[index - 1].at != At::Idle;
            if self.processes[index].at != At::Idle || startable {
                for act in self.acts(config, index) {
                    let mut world = self.clone();
                    world.perform(act, config, index, recovered);
                    found.push((Event::Act { generation, act }, world));
                }
            }
            if !matches!(self.processes[index].at, At::Idle | At::Ended | At::Killed) && self.crashes < config.crashes {
                let mut world = self.clone();
                world.processes[index].at = At::Killed;
                world.crashes += 1;
                found.push((Event::Killed { generation }, world));
            }
        }
        found.extend(self.misfortunes(config));
        found
    }

    fn misfortunes(&self, config: &Config) -> Vec<(Event, World)> {
        let mut found = Vec::new();
        if self.backups < config.backups && !self.sink.is_empty() {
            let mut world = self.clone();
            world.backups += 1;
            world.sink.pop();
            found.push((Event::Backup, world));
        }
        let newest = self.log.iter().rposition(|record| matches!(record, Record::Checkpoint { files: true, .. }));
        if let Some(at) = newest.filter(|_| self.damages < config.damages) {
            let mut world = self.clone();
            world.damages += 1;
            if let Record::Checkpoint { files, .. } = &mut world.log[at] {
                *files = false;
            }
            found.push((Event::Damage, world));
        }
        found
    }
}

/// Something that happens.
pub enum Event {
    /// A process of a generation does something.
    Act { generation: u8, act: Act },
    /// It dies.
    Killed { generation: u8 },
    /// The sink is restored from a backup.
    Backup,
    /// Files of a checkpoint are lost.
    Damage,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Act { generation, act } => write!(f, "generation {generation}: {act:?}"),
            Event::Killed { generation } => write!(f, "generation {generation}: killed"),
            Event::Backup => f.write_str("the sink is restored from a backup"),
            Event::Damage => f.write_str("the files of the newest checkpoint are lost"),
        }
    }
}

/// What a process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    ReadTheLog,
    CreateGeneration,
    ReadTheFloor,
    AskTheSink,
    Decide,
    BeginTick,
    BeginCheckpoint { tick: u8 },
    WriteTheFiles,
    Create,
    Commit { upto: u8 },
    RaiseTheFloor { to: u8 },
    Delete { seq: u8 },
    EndCollection,
}

impl World {
    fn acts(&self, config: &Config, index: usize) -> Vec<Act> {
        let process = &self.processes[index];
        match process.at {
            At::Idle => vec![Act::ReadTheLog],
            At::Fencing { .. } => vec![Act::CreateGeneration],
            At::FencedOthers { .. } => vec![Act::AskTheSink],
            At::Asked { .. } => vec![Act::Decide],
            At::Created => vec![Act::ReadTheFloor],
            At::Raising { to } => vec![Act::RaiseTheFloor { to }],
            At::Deleting { to } => {
                let standing = (1..=to).find(|seq| self.log[usize::from(*seq) - 1] != Record::Gone);
                vec![standing.map_or(Act::EndCollection, |seq| Act::Delete { seq })]
            }
            At::Running if process.appending.is_some() => vec![Act::Create],
            At::Running => self.work(config, process, index as u8 + 1),
            At::Ended | At::Killed => Vec::new(),
        }
    }

    /// What a running process may begin.
    fn work(&self, config: &Config, process: &Process, generation: u8) -> Vec<Act> {
        let mut acts = Vec::new();
        let newest = self.log.iter().rev().find(|record| matches!(record, Record::Generation(_)));
        if config.mutant == Some(Mutant::CheckThenWrite) && newest != Some(&Record::Generation(generation)) {
            return acts;
        }
        if usize::from(process.logged) < config.ticks {
            acts.push(Act::BeginTick);
        }
        let mut upto = process.logged;
        if config.mutant == Some(Mutant::SinkBeforeLog) && usize::from(process.logged) < config.ticks {
            upto += 1;
        }
        if process.committed < upto {
            acts.push(Act::Commit { upto });
        }
        let tick = match config.mutant {
            Some(Mutant::CheckpointBeforeSink) => process.logged,
            Some(Mutant::CheckpointBeforeLog) => (process.logged + 1).min(config.ticks as u8),
            _ => process.committed.min(process.logged),
        };
        if process.saved < tick && self.checkpoints < config.checkpoints {
            acts.push(Act::BeginCheckpoint { tick });
        }
        if process.unwritten > 0 {
            acts.push(Act::WriteTheFiles);
        }
        acts
    }

    fn perform(&mut self, act: Act, config: &Config, index: usize, recovered: &mut Recovered) {
        let generation = index as u8 + 1;
        match act {
            Act::ReadTheLog => {
                let at = At::Fencing { last: self.log.len() as u8, floor: self.floor };
                self.processes[index].at = at;
            }
            Act::CreateGeneration => self.create_generation(config, index),
            Act::AskTheSink => {
                let At::FencedOthers { seen, floor } = self.processes[index].at else { unreachable!("see `acts`") };
                self.processes[index].at = At::Asked { seen, floor, token: self.sink.len() as u8 };
            }
            Act::Decide => self.decide(config, index, recovered),
            Act::BeginTick => {
                let tick = self.processes[index].logged + 1;
                self.processes[index].appending = Some(Record::Tick { tick, by: generation });
            }
            Act::BeginCheckpoint { tick } => {
                let process = &mut self.processes[index];
                let first = process.records.iter().skip(usize::from(tick)).find(|seq| **seq > 0);
                let after = first.copied().unwrap_or(process.last + 1);
                let (token, mut chain) = (process.committed.min(tick), process.chain);
                chain[usize::from(tick)..].fill(0);
                if tick > process.logged {
                    chain[usize::from(tick) - 1] = row(usize::from(tick), generation, version(config, generation));
                }
                let files = config.mutant != Some(Mutant::CheckpointBeforeParts);
                process.appending = Some(Record::Checkpoint { tick, by: generation, after, token, chain, files });
            }
            Act::WriteTheFiles => {
                let seq = std::mem::take(&mut self.processes[index].unwritten);
                if let Record::Checkpoint { files, .. } = &mut self.log[usize::from(seq) - 1] {
                    *files = true;
                }
            }
            Act::Create => self.create(config, index),
            Act::ReadTheFloor => {
                let collected = self.floor >= self.processes[index].last;
                if collected && config.mutant != Some(Mutant::NoFloorCheck) {
                    self.stop(config, index);
                } else {
                    self.appended(config, index);
                }
            }
            Act::Commit { upto } => self.commit(config, index, upto),
            Act::RaiseTheFloor { to } => {
                self.floor = self.floor.max(to);
                let first = config.mutant == Some(Mutant::DeleteBeforeFloor);
                self.processes[index].at = if first { At::Running } else { At::Deleting { to } };
            }
            Act::Delete { seq } => self.log[usize::from(seq) - 1] = Record::Gone,
            Act::EndCollection => {
                let At::Deleting { to } = self.processes[index].at else { unreachable!("see `acts`") };
                self.drop_files(index);
                let late = config.mutant == Some(Mutant::DeleteBeforeFloor);
                self.processes[index].at = if late { At::Raising { to } } else { At::Running };
            }
        }
    }

    fn create_generation(&mut self, config: &Config, index: usize) {
        let At::Fencing { last, floor } = self.processes[index].at else { unreachable!("see `acts`") };
        let mut seq = usize::from(last) + 1;
        if config.mutant == Some(Mutant::ReadBeforeFence) {
            seq = self.log.len() + 1;
        }
        let process = &mut self.processes[index];
        if put(&mut self.log, seq, Record::Generation(index as u8 + 1)) && usize::from(self.floor) < seq {
            process.last = seq as u8;
            process.at = At::FencedOthers { seen: last, floor };
            self.owner = index as u8 + 1;
        } else if config.mutant != Some(Mutant::NeverLooksAgain) {
            process.at = At::Idle;
        }
    }

    fn decide(&mut self, config: &Config, index: usize, recovered: &mut Recovered) {
        let At::Asked { seen, floor, token } = self.processes[index].at else { unreachable!("see `acts`") };
        let (seen, from) = (usize::from(seen), usize::from(floor.min(seen)));
        let generation = index as u8 + 1;
        let found = recovered.of(config, from, &self.log[from..seen], token, version(config, generation));
        let is_refused = |found: &Found| config.mutant == Some(Mutant::AheadIsRefused) && token > found.tick;
        let Some(found) = found.filter(|found| !is_refused(found)) else { return self.stop(config, index) };
        let process = &mut self.processes[index];
        process.at = At::Running;
        process.base = found.tick;
        process.saved = found.tick;
        process.chain = found.chain;
        process.logged = found.tick;
        for (seq, tick, by) in found.tail {
            process.chain[usize::from(tick) - 1] = row(usize::from(tick), by, version(config, generation));
            process.records[usize::from(tick) - 1] = seq;
            process.logged = tick;
        }
        process.committed = match config.mutant {
            Some(Mutant::NotDerivedAgain) => process.logged,
            Some(Mutant::NoTokenCompare) => process.base,
            _ => token,
        };
        process.kept = found.kept;
        if floor == 0 {
            process.kept.push(Kept { seq: 0, after: 1, counts: true });
        }
    }

    fn create(&mut self, config: &Config, index: usize) {
        let record = self.processes[index].appending.expect("see `acts`");
        let mut seq = usize::from(self.processes[index].last) + 1;
        if config.mutant == Some(Mutant::CheckThenWrite) {
            seq = self.log.len() + 1;
        }
        let created = put(&mut self.log, seq, record);
        if !created && config.mutant != Some(Mutant::TakenIsSuccess) {
            return self.stop(config, index);
        }
        if created && usize::from(self.floor) < seq {
            self.made_final(config, record, index);
        }
        self.processes[index].last = seq as u8;
        self.processes[index].at = At::Created;
    }

    /// A tick is what its first record says.
    fn made_final(&mut self, config: &Config, record: Record, index: usize) {
        match record {
            Record::Tick { tick, by } => {
                let truth = &mut self.truth[usize::from(tick) - 1];
                if *truth != 0 {
                    self.broken = Some("a tick was made final twice");
                }
                *truth = row(usize::from(tick), by, version(config, by));
                let own = version(config, by);
                let state = &self.processes[index].chain[..usize::from(tick) - 1];
                if config.changes == Some(Change::Plan) && state.iter().any(|row| row & 1 != own) {
                    self.broken = Some("a tick was derived from the state of another plan");
                }
            }
            Record::Checkpoint { .. } => self.checkpoints += 1,
            Record::Generation(_) | Record::Gone => {}
        }
    }

    fn appended(&mut self, config: &Config, index: usize) {
        let process = &mut self.processes[index];
        process.at = At::Running;
        match process.appending.take().expect("a record was created") {
            Record::Tick { tick, by } => {
                process.chain[usize::from(tick) - 1] = row(usize::from(tick), by, version(config, by));
                process.records[usize::from(tick) - 1] = process.last;
                process.logged = tick;
            }
            Record::Checkpoint { tick, after, .. } => {
                process.saved = tick;
                if config.mutant == Some(Mutant::CheckpointBeforeParts) {
                    process.unwritten = process.last;
                }
                process.records[..usize::from(tick)].fill(0);
                process.kept.insert(0, Kept { seq: process.last, after, counts: true });
                if let Some(to) = collectable(&mut process.kept, config.retained).filter(|to| *to > self.floor) {
                    let first = config.mutant == Some(Mutant::DeleteBeforeFloor);
                    process.at = if first { At::Deleting { to } } else { At::Raising { to } };
                }
            }
            Record::Generation(_) | Record::Gone => {
                unreachable!("only ticks and checkpoints are appended while running")
            }
        }
    }

    /// The files of checkpoints that the process saw and does not keep go, though their records may stand above the floor.
    fn drop_files(&mut self, index: usize) {
        let process = &self.processes[index];
        let seen = self.log.iter_mut().take(usize::from(process.last)).zip(1..);
        for (record, _) in seen.filter(|(_, seq)| process.kept.iter().all(|kept| kept.seq != *seq)) {
            if let Record::Checkpoint { files, .. } = record {
                *files = false;
            }
        }
    }

    /// Rows and token in one act: what the sink has already is not written again.
    fn commit(&mut self, config: &Config, index: usize, upto: u8) {
        let by = index as u8 + 1;
        let process = &mut self.processes[index];
        let token = self.sink.len() as u8;
        let blind = config.mutant == Some(Mutant::NoTokenCompare);
        if token < process.committed && !blind {
            // It went back under a running process.
            return self.stop(config, index);
        }
        // Rows up to the base are in the state and cannot be derived again.
        let from = if blind { process.committed } else { token }.max(process.base);
        for tick in usize::from(from)..usize::from(upto) {
            let known = process.chain[tick];
            self.sink.push(if known == 0 { row(tick + 1, by, version(config, by)) } else { known });
        }
        process.committed = upto;
    }
}

/// Creates a record unless there is one.
fn put(log: &mut Vec<Record>, seq: usize, record: Record) -> bool {
    if log.len() < seq {
        log.resize(seq, Record::Gone);
    }
    let free = log[seq - 1] == Record::Gone;
    if free {
        log[seq - 1] = record;
    }
    free
}

/// Drops the checkpoints that need not be kept; returns the number up to which records may go.
fn collectable(kept: &mut Vec<Kept>, retained: usize) -> Option<u8> {
    let mut counted = kept.iter().filter(|kept| kept.counts).count();
    while let Some(oldest) = kept.last() {
        counted -= usize::from(oldest.counts);
        if counted < retained.max(1) {
            break;
        }
        kept.pop();
    }
    kept.iter().map(|kept| kept.after - 1).min()
}

/// The first or the second version of the job.
pub fn version(config: &Config, generation: u8) -> u8 {
    u8::from(config.changes.is_some() && generation > 1)
}
