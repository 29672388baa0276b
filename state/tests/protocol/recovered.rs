//! What a restart makes of a log, by the production code: the model's records are written as real ones and handed to
//! [`decide`].

use std::collections::{BTreeMap, HashMap};

use riverrun_dataflow::EventTime;
use riverrun_dataflow::journal::{JournalEntry, LaneDigest, LaneToken};
use riverrun_dataflow::tick::{TickRecord, Timeline};
use riverrun_state::StateError;
use riverrun_state::record::{self, Body, Checkpoint, Digest, Generation, Header, Ticks};
use riverrun_state::recovery::{Asked, decide};

use crate::model::{Change, Config, Kept, Mutant, Record, Row, TICKS, version};

/// Where a process goes on.
#[derive(Clone, Debug)]
pub struct Found {
    /// The tick of the checkpoint, 0 if there is none.
    pub tick: u8,
    /// The rows up to there.
    pub chain: [Row; TICKS],
    /// The ticks after it: number of the record, tick, who cut it.
    pub tail: Vec<(u8, u8, u8)>,
    /// The checkpoints in the log, newest first.
    pub kept: Vec<Kept>,
}

type Question = (usize, Vec<Record>, u8, u8);

/// Answers each question once.
#[derive(Default)]
pub struct Recovered(HashMap<Question, Option<Found>>);

impl Recovered {
    /// Returns where a process of `version` goes on that sees the records after number `from`; `None` if it must stop.
    pub fn of(&mut self, config: &Config, from: usize, log: &[Record], token: u8, version: u8) -> Option<Found> {
        let question = (from, log.to_vec(), token, version);
        self.0.entry(question).or_insert_with(|| ask(config, from, log, token, version)).clone()
    }
}

fn ask(config: &Config, from: usize, log: &[Record], token: u8, own: u8) -> Option<Found> {
    let token = match config.mutant {
        Some(Mutant::TokenTakenOnFaith) => log.iter().map(|record| stored_token(*record)).fold(token, u8::max),
        _ => token,
    };
    let name = |change: Change, blind: Mutant, version: u8| {
        let changed = config.changes == Some(change) && config.mutant != Some(blind) && version > 0;
        if changed { "2".to_owned() } else { "1".to_owned() }
    };
    let written = |(at, record): (usize, &Record)| {
        // What was collected meanwhile is missing to whoever reads as far back.
        if *record == Record::Gone {
            return Err(StateError::damaged(format!("record {}", from + at + 1), "it is missing"));
        }
        let (by, body) = real(*record);
        let by = version(config, by);
        let (build, plan) = (name(Change::Build, Mutant::AnyBuild, by), name(Change::Plan, Mutant::AnyPlan, by));
        Ok(as_written((from + at + 1) as u64, build, plan, body))
    };
    let (build, plan) = (name(Change::Build, Mutant::AnyBuild, own), name(Change::Plan, Mutant::AnyPlan, own));
    let tokens = [LaneToken { sink: 0, lane: 0, tick: u64::from(token) }];
    let asked = Asked { job: "j", plan: &plan, build: &build, tokens: &tokens };
    let newest_first = log.iter().enumerate().rev().map(written);
    let verify = |checkpoint: &Checkpoint| match checkpoint.cpu_micros {
        1 => Ok(()),
        _ => Err("its files are gone".to_owned()),
    };
    let decision = decide(newest_first, &asked, verify).ok()?;
    let chosen = decision.checkpoint.map_or(0, |(seq, _, _)| seq as u8);
    let (tick, chain) = match chosen.checked_sub(from as u8 + 1).map(|at| log[usize::from(at)]) {
        Some(Record::Checkpoint { tick, chain, .. }) => (tick, chain),
        _ => (0, [0; TICKS]),
    };
    let ticks = decision.tail.iter().flat_map(|(seq, entries)| entries.iter().map(move |entry| (*seq, entry)));
    let tail = ticks.map(|(seq, entry)| (seq as u8, entry.record.tick as u8, entry.record.now as u8)).collect();
    let kept = log.iter().enumerate().rev().filter_map(|(at, record)| match record {
        Record::Checkpoint { after, .. } => {
            let seq = (from + at + 1) as u8;
            Some(Kept { seq, after: *after, counts: seq <= chosen })
        }
        _ => None,
    });
    Some(Found { tick, chain, tail, kept: kept.collect() })
}

fn stored_token(record: Record) -> u8 {
    match record {
        Record::Checkpoint { token, .. } => token,
        _ => 0,
    }
}

/// Returns who wrote a record, and its content.
fn real(record: Record) -> (u8, Body) {
    match record {
        Record::Gone => unreachable!("it is not there"),
        Record::Generation(by) => {
            (by, Body::Generation(Generation { host: "here".into(), pid: 1, workers: 1, base: None }))
        }
        Record::Tick { tick, by } => {
            let record = TickRecord {
                tick: u64::from(tick),
                now: i64::from(by),
                watermarks: vec![EventTime(0)],
                splits: vec![],
                last: false,
                checkpoint: false,
            };
            let lanes = vec![LaneDigest { sink: 0, lane: 0, rows: 1, xxh3: u64::from(by) }];
            let entry = JournalEntry { record, lanes, balance: BTreeMap::new() };
            let tick = u64::from(tick);
            (by, Body::Ticks(Ticks { first: tick, last: tick, entries: vec![entry] }))
        }
        Record::Checkpoint { tick, by, after, token, files, .. } => {
            let checkpoint = Checkpoint {
                tick: u64::from(tick),
                after: u64::from(after),
                inputs: None,
                finished: false,
                // Carries whether the files are there, to where they are verified.
                pause_micros: 0,
                cpu_micros: u64::from(files),
                before: Timeline::start(1, 0),
                recent: vec![],
                tokens: vec![LaneToken { sink: 0, lane: 0, tick: u64::from(token) }],
                balance: BTreeMap::new(),
                tables: vec![],
            };
            (by, Body::Checkpoint(Box::new(checkpoint)))
        }
    }
}

fn as_written(seq: u64, build: String, plan: String, body: Body) -> record::Record {
    let header = Header {
        v: 1,
        seq,
        prev_xxh3: Digest(0),
        generation: 1,
        attempt: "a".into(),
        build,
        plan,
        at: "2026-01-01T00:00:00.000Z".into(),
        kind: body.kind(),
    };
    record::Record { header, body, xxh3: Digest(0) }
}
