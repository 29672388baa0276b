//! What should have come out: everything computed anew from the input and the recorded ticks, in plain lines, nothing fast.
//!
//! `input` reads the input as the records of the ticks cut it, and moves time. What the steps of a script make of it is in a
//! file of its own. No line of the operators is used for it.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::tick::Tick;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use self::input::Reading;
use crate::scene::{Scene, Script};
use crate::world::Inner;

mod input;
mod ledger;
mod windows;

const MIN: i128 = i64::MIN as i128;
const MAX: i128 = i64::MAX as i128;
const SECOND: i128 = 1_000_000;

fn minus(time: i128, by: i128) -> i128 {
    if time == MIN || time == MAX { time } else { time - by }
}

/// A good row.
#[derive(Clone)]
struct Row {
    /// In microseconds.
    time: i128,
    id: Option<String>,
    split: u32,
    position: u64,
    value: Value,
}

impl Row {
    /// Its place in per-key order.
    fn place(&self) -> (i128, Option<&str>, u32, u64) {
        (self.time, self.id.as_deref(), self.split, self.position)
    }

    /// Returns the values of these fields as one text: nulls are values, too.
    fn key(&self, fields: &[&str]) -> String {
        let values: Vec<&Value> = fields.iter().map(|field| &self.value[*field]).collect();
        json!(values).to_string()
    }

    fn has_null(&self, fields: &[&str]) -> bool {
        fields.iter().any(|field| self.value[*field].is_null())
    }
}

/// A tick as it was cut.
struct Cut {
    /// The rows of each source, in the order of the sources' names.
    rows: Vec<Vec<Row>>,
    /// The watermarks of the sources before it.
    before: Vec<i128>,
    /// Those after it.
    watermarks: Vec<i128>,
}

/// The table that the rows of a sink and tick make: how often each is in it. Rows with `op` are changes of it.
type Tables = BTreeMap<(String, Tick), BTreeMap<String, i64>>;

/// What the calm world gives: no crash, one thread, every row kept.
#[derive(Default)]
struct Calm {
    tick: Tick,
    output: Tables,
    balance: BTreeMap<&'static str, Counts>,
}

impl Calm {
    /// A row is given to a sink in this tick.
    fn put(&mut self, sink: &str, value: &Value) {
        self.change(sink, sorted(value), 1);
    }

    /// A row joins or leaves a table so often.
    fn change(&mut self, sink: &str, row: String, times: i64) {
        *self.output.entry((sink.to_owned(), self.tick)).or_default().entry(row).or_default() += times;
    }

    fn counts(&mut self, name: &'static str) -> &mut Counts {
        self.balance.entry(name).or_default()
    }
}

/// What the steps of a script make of the input.
trait Steps {
    /// Takes in a tick.
    fn tick(&mut self, cut: &Cut, calm: &mut Calm);
    /// Returns the column whose rows of one value are on one lane of a sink.
    fn home(&self, sink: &str) -> Option<&'static str>;
    /// Returns the step, and its sink, whose rows are changes: what they make is foretold, not how many they are.
    fn changes(&self) -> Option<&'static str>;
}

/// Looks at what the world holds after a job came to its end. Returns what is wrong.
pub fn verdict(scene: &Scene, world: &Inner, balance: &BTreeMap<String, Counts>) -> Result<(), String> {
    if let Some(wrong) = &world.wrong {
        return Err(wrong.clone());
    }
    let mut reading = Reading::new(scene, world);
    let mut steps: Box<dyn Steps> = match scene.script {
        Script::Windows => Box::new(windows::Windows::default()),
        Script::Ledger => Box::new(ledger::Ledger::default()),
    };
    let mut calm = Calm::default();
    for (tick, entry) in (1..).zip(world.journal.values()) {
        if entry.record.tick != tick {
            return Err(format!("tick {tick} was never made final"));
        }
        calm.tick = tick;
        let cut = reading.cut(&entry.record, &mut calm)?;
        steps.tick(&cut, &mut calm);
    }
    reading.check_all_read()?;
    let (found, rows) = written(world, steps.as_ref())?;
    if let Some(name) = steps.changes() {
        calm.counts(name).out = rows.get(name).copied().unwrap_or_default();
    }
    compare(&calm.output, &found)?;
    let balance: BTreeMap<&str, Counts> = balance.iter().map(|(name, counts)| (name.as_str(), *counts)).collect();
    calm.balance.retain(|_, counts| *counts != Counts::default());
    match balance == calm.balance {
        true => Ok(()),
        false => Err(format!("the balance is {balance:?}, expected {:?}", calm.balance)),
    }
}

fn compare(wanted: &Tables, found: &Tables) -> Result<(), String> {
    for key in wanted.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let table = |of: &Tables| {
            let mut table = of.get(key).cloned().unwrap_or_default();
            table.retain(|_, times| *times != 0);
            table
        };
        let (wanted, found) = (table(wanted), table(found));
        if wanted != found {
            let missing = |from: &BTreeMap<String, i64>, of: &BTreeMap<String, i64>| -> Vec<String> {
                let differs = of.iter().filter(|(row, times)| from.get(*row) != Some(*times));
                differs.map(|(row, times)| format!("{times} x {row}")).collect()
            };
            let (lost, extra) = (missing(&found, &wanted), missing(&wanted, &found));
            let rows = |of: &BTreeMap<String, i64>| of.values().map(|times| times.abs()).sum::<i64>();
            let (f, w) = (rows(&found), rows(&wanted));
            return Err(format!("{key:?}: {f} rows, {w} expected; lost {lost:?}; not expected {extra:?}"));
        }
    }
    Ok(())
}

/// What the lanes hold, and how many rows each sink has; checks their order.
fn written(world: &Inner, steps: &dyn Steps) -> Result<(Tables, BTreeMap<String, u64>), String> {
    let (mut all, mut counts) = (Tables::new(), BTreeMap::new());
    let mut homes: BTreeMap<(&str, String), u32> = BTreeMap::new();
    let mut sessions = BTreeMap::new();
    for ((sink, lane), state) in &world.lanes {
        let mut before = 0;
        for (tick, rows) in &state.ticks {
            if *tick <= before {
                return Err(format!("lane {lane} of {sink} has tick {tick} after tick {before}: DOUBLED"));
            }
            before = *tick;
            let order = |row: &(i64, Vec<u8>)| (row.0, xxh3_64(&row.1), row.1.clone());
            if !rows.iter().map(order).collect::<Vec<_>>().is_sorted() {
                return Err(format!("tick {tick} of lane {lane} of {sink} is not in canonical order"));
            }
            for (_, bytes) in rows {
                let mut value: Value = serde_json::from_slice(bytes).map_err(|e| format!("{sink}: {e}"))?;
                if let Some(key) = steps.home(sink).map(|column| value[column].to_string())
                    && *homes.entry((sink, key.clone())).or_insert(*lane) != *lane
                {
                    return Err(format!("key {key} of {sink} is on two lanes"));
                }
                let (row, times) = read_back(&mut value, &mut sessions)?;
                *counts.entry(sink.clone()).or_default() += 1;
                *all.entry((sink.clone(), *tick)).or_default().entry(row).or_default() += times;
            }
        }
    }
    Ok((all, counts))
}

/// Returns what is compared of a row, and how often it is in the table; `sessions` says whose are those that were seen, by name.
fn read_back(value: &mut Value, sessions: &mut BTreeMap<String, String>) -> Result<(String, i64), String> {
    let fields = value.as_object_mut().ok_or("a row is no object")?;
    // The words of a bad row are the decoder's own affair, hashes the operator's. `arrived` is added by a mutant that only
    // comparing derivations finds out.
    if fields.contains_key("raw") {
        fields.remove("reason");
    }
    for name in ["arrived", "kept_hash", "refused_hash"] {
        fields.remove(name);
    }
    // A name is made of the key and the first row's id, which may come again when a deduplication has forgotten it: no more is
    // asked of it than that it is of one user.
    if let Some(id) = fields.remove("session_id") {
        let user = fields["user"].to_string();
        let known = sessions.entry(id.to_string()).or_insert_with(|| user.clone());
        if *known != user {
            return Err(format!("sessions of {known} and of {user} are called {id}"));
        }
    }
    let op = fields.remove("op");
    let times = if op.as_ref().and_then(Value::as_str) == Some("-") { -1 } else { 1 };
    Ok((sorted(value), times))
}

/// JSON with its keys in order.
fn sorted(value: &Value) -> String {
    let fields: BTreeMap<&String, &Value> = value.as_object().into_iter().flatten().collect();
    fields.iter().map(|(name, value)| format!("{name}={value} ")).collect()
}
