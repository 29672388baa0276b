//! Topics are written while the job runs, and the job is killed meanwhile: nothing is lost, nothing doubled, row by row.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::oracle::{self, Model, assert_same};
use crate::support::jobs::{self, BUSY, DEDUPE_MS, Over, WINDOW_MS};
use crate::support::process::{Invocation, Stop};
use crate::support::shop::START_MS;
use crate::support::{Dice, Place, Shop, Shopping, topics};

/// Partitions of each topic.
pub const PARTITIONS: u32 = 2;
/// Late rows of each topic.
pub const LATE: usize = 40;

/// What was written: regular rows, and besides them rows that come hours too late.
pub struct Written {
    pub regular: Shopping,
    clicks: Vec<Vec<u8>>,
    orders: Vec<Vec<u8>>,
}

impl Written {
    /// Returns all clicks, late ones included, in the order in which they are written.
    pub fn all_clicks(&self) -> &[Vec<u8>] {
        &self.clicks
    }

    /// Returns all orders, late ones included, in the order in which they are written.
    pub fn all_orders(&self) -> &[Vec<u8>] {
        &self.orders
    }
}

/// Traffic with late rows from the middle on. Late rows have users of their own, so that they meet nobody: whether such a row is
/// late is decided by ticks, and what the others give does not depend on it.
pub fn traffic(seed: u64, rows: usize) -> Written {
    let regular = Shop { seed, rows, ..Shop::default() }.open();
    let (mut clicks, mut orders) = (regular.clicks.clone(), regular.orders.clone());
    let mut dice = Dice::new(seed);
    for number in 0..LATE {
        let fields = format!(r#""user_id":"late-{number}","item_id":"item-1","ts":{START_MS}"#);
        let mut insert = |rows: &mut Vec<Vec<u8>>, row: String| {
            let half = rows.len() as u64 / 2;
            let at = usize::try_from(half + dice.below(half)).unwrap();
            rows.insert(at, row.into_bytes());
        };
        insert(&mut clicks, format!(r#"{{"event_id":"late-{number}","event_type":"click",{fields}}}"#));
        insert(&mut orders, format!(r#"{{"order_id":"late-{number}","price":1.00,{fields}}}"#));
    }
    Written { regular, clicks, orders }
}

/// Rows hours after all others, one for each partition, which let the watermark pass everything before them.
fn heralds(topic: &str) -> Vec<Vec<u8>> {
    let id = if topic == "clicks" { "event_id" } else { "order_id" };
    let ts = START_MS + 1000 * 3600 * 1000;
    let row =
        |number| format!(r#"{{"{id}":"herald-{number}","user_id":"herald","item_id":"none","ts":{ts}}}"#).into_bytes();
    (0..PARTITIONS).map(row).collect()
}

/// Writes both topics bit by bit, side by side, until all is written.
pub fn produce(folder: &Path, written: &Written, done: &AtomicBool) {
    let mut clicks = topics::producer(folder, "clicks", PARTITIONS);
    let mut orders = topics::producer(folder, "orders", PARTITIONS);
    let steps = 60;
    let part = |rows: &[Vec<u8>], step: usize| rows.len() * step / steps..rows.len() * (step + 1) / steps;
    for step in 0..steps {
        topics::append(&mut clicks, written.clicks[part(&written.clicks, step)].iter().map(Vec::as_slice));
        topics::append(&mut orders, written.orders[part(&written.orders, step)].iter().map(Vec::as_slice));
        // Leaves the job time to read what is there before there is more.
        std::thread::park_timeout(Duration::from_millis(40));
    }
    topics::append(&mut clicks, heralds("clicks").iter().map(Vec::as_slice));
    topics::append(&mut orders, heralds("orders").iter().map(Vec::as_slice));
    done.store(true, Ordering::Release);
}

fn live(place: &Place) -> Invocation {
    place.run("job.yaml").args(&["--topics", "topics"]).args(BUSY)
}

/// Orders that are not expected to meet anybody.
fn is_late(row: &Value) -> bool {
    row["user_id"].as_str().is_some_and(|user| user.starts_with("late-"))
}

/// What came out is what was given: each row once.
pub fn written_as_given(place: &Place, written: &Written, expected: &[Value]) {
    let folder = place.path("topics");
    let (out, late) = (topics::rows(&folder, "out"), topics::rows(&folder, "late"));
    // Orders on time: exactly those of the recomputation, with the same clicks.
    let regular: Vec<Value> = out.iter().filter(|row| !is_late(row)).cloned().collect();
    assert_same(&regular, expected, &["price"]);
    // Late orders: each once, here or there.
    assert!(late.iter().all(is_late), "an order on time was called late: {late:?}");
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for row in out.iter().chain(&late).filter(|row| is_late(row)) {
        *seen.entry(row["order_id"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(seen.len(), LATE, "late orders: {seen:?}");
    assert!(seen.values().all(|times| *times == 1), "late orders: {seen:?}");
    // Bad rows: each diverted once, as it was written.
    let mut bad: Vec<Vec<u8>> = topics::rows(&folder, "bad").iter().map(raw).collect();
    let mut broken = written.regular.broken.clone();
    bad.sort();
    broken.sort();
    assert!(bad == broken, "{} bad rows were diverted, {} written", bad.len(), broken.len());
}

/// The record that a bad row holds.
fn raw(row: &Value) -> Vec<u8> {
    match &row["raw"] {
        Value::String(text) => text.clone().into_bytes(),
        _ => from_base64(row["raw_base64"].as_str().expect("one of the two is there")),
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = DIGITS.iter().position(|digit| *digit == byte).expect("it is base64");
        (bits, count) = (bits << 6 | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

#[test]
fn a_live_job_that_is_killed_loses_nothing_and_doubles_nothing() {
    let seed = 70;
    let written = traffic(seed, 4000);
    let expected = oracle::attributed(
        &oracle::clicks(&in_turn(&written.regular.clicks)),
        &oracle::orders(&in_turn(&written.regular.orders)),
        WINDOW_MS,
        DEDUPE_MS,
        Model::Last,
    );
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    // The topics are there before the job is.
    drop(topics::producer(&place.path("topics"), "clicks", PARTITIONS));
    drop(topics::producer(&place.path("topics"), "orders", PARTITIONS));

    let (done, mut dice, mut kills) = (AtomicBool::new(false), Dice::new(seed), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| produce(&place.path("topics"), &written, &done));
        while !done.load(Ordering::Acquire) {
            let mut running = live(&place).workers([1, 2, 4][kills % 3]).start();
            let moment = Duration::from_millis(100) + dice.moment(Duration::from_millis(500));
            assert!(!running.ends_within(moment), "a live job ended by itself: {}", running.finish());
            running.kill();
            kills += 1;
        }
    });
    assert!(kills >= 3, "it was killed {kills} times only");

    let all = (expected.len() + LATE) as u64;
    let given = || topics::count(&place.path("topics"), "out") + topics::count(&place.path("topics"), "late");
    let mut running = live(&place).workers(2).start();
    let bad = || topics::count(&place.path("topics"), "bad") >= written.regular.broken.len() as u64;
    running.until("all rows", || given() >= all && bad());
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    assert_eq!(finished.ended(), "stopped");
    written_as_given(&place, &written, &expected);

    // Once more from where it stopped: nothing comes again.
    let mut running = live(&place).workers(1).start();
    running.ends_within(Duration::from_millis(500));
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    written_as_given(&place, &written, &expected);
    let clicks = finished.counts("clicks");
    assert_eq!(clicks.input, (written.clicks.len() + heralds("clicks").len()) as u64);
    assert_eq!(clicks.bad, written.regular.broken.len() as u64);
    let orders = finished.counts("orders");
    assert_eq!(orders.input, (written.orders.len() + heralds("orders").len()) as u64);
    assert_eq!(orders.bad, 0);
    let step = finished.counts("attributed");
    assert_eq!(step.input, finished.counts("item_clicks").out + orders.taken);
    assert_eq!(step.out, topics::count(&place.path("topics"), "out"));
}

/// The rows of each partition, as a producer deals them out: in turn, beginning with the second.
pub fn in_turn(rows: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let dealt = |part: usize| rows.iter().skip(part).step_by(2).cloned().collect();
    vec![dealt(1), dealt(0)]
}

/// What the binary itself writes to a topic is what a job reads, and what a job wrote is what the binary shows.
#[test]
fn topics_written_and_read_by_the_command_line_are_those_of_the_job() {
    let shopping = Shop { seed: 71, rows: 1500, ..Shop::default() }.open();
    let place = Place::new();
    shopping.write(&place);
    place.write("job.yaml", jobs::minutes(Over::Topics));
    let topics = ["--topics", "topics"];
    let import = place.riverrun(&["topic", "import", "in/clicks-0.jsonl", "in/clicks-1.jsonl", "--topic", "clicks"]);
    import.args(&topics).succeed();
    place.run("job.yaml").args(&topics).arg("--until-end").succeed();
    // Files that follow each other in one topic are far out of order: what is late is counted, nothing vanishes.
    let tail = place.riverrun(&["topic", "tail", "out", "--from-start"]).args(&topics).succeed();
    let shown = tail.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(shown as u64, topics::count(&place.path("topics"), "out"));
    assert!(shown > 0);
}
