//! A live job over Kafka, killed again and again: a reader that is not ours sees each order once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use riverrun_connectors::kafka::KafkaProducer;
use serde_json::Value;

use super::job;
use crate::live::in_turn;
use crate::oracle::{self, Model, assert_same};
use crate::support::brokers::{Brokers, deal, shared};
use crate::support::jobs::{BUSY, DEDUPE_MS, WINDOW_MS};
use crate::support::process::{Invocation, Stop};
use crate::support::shop::START_MS;
use crate::support::{Dice, Place, Running, Shop, Shopping};

/// Partitions of each topic that is read.
pub const PARTITIONS: u32 = 2;
/// Steps in which a topic is filled.
const STEPS: usize = 40;

pub fn expected(shopping: &Shopping) -> Vec<Value> {
    oracle::attributed(
        &oracle::clicks(&in_turn_from_first(&shopping.clicks)),
        &oracle::orders(&in_turn_from_first(&shopping.orders)),
        WINDOW_MS,
        DEDUPE_MS,
        Model::Last,
    )
}

/// The rows of each partition, dealt out in turn from the first one on.
pub fn in_turn_from_first(rows: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let mut parts = in_turn(rows);
    parts.reverse();
    parts
}

/// A row hours after all others, which lets the watermark pass everything before it.
fn herald(topic: &str, number: u32) -> Vec<u8> {
    let id = if topic.ends_with("clicks") { "event_id" } else { "order_id" };
    let ts = START_MS + 1000 * 3600 * 1000;
    format!(r#"{{"{id}":"herald-{number}","user_id":"herald","item_id":"none","ts":{ts}}}"#).into_bytes()
}

/// Writes a topic bit by bit, then its heralds.
pub fn fill(brokers: &Brokers, topic: &str, rows: &[Vec<u8>], pause: Duration) {
    let mut pouring = Pouring::into(brokers, topic);
    for step in 0..STEPS {
        pouring.pour(&rows[rows.len() * step / STEPS..rows.len() * (step + 1) / STEPS]);
        std::thread::park_timeout(pause);
    }
    pouring.end();
}

/// A topic into which rows are dealt.
pub struct Pouring {
    topic: String,
    producer: KafkaProducer,
    turn: u32,
}

impl Pouring {
    /// Opens the topic.
    pub fn into(brokers: &Brokers, topic: &str) -> Pouring {
        Pouring { topic: topic.to_owned(), producer: brokers.producer(topic, PARTITIONS), turn: 0 }
    }

    /// Deals rows to its partitions.
    pub fn pour(&mut self, rows: &[Vec<u8>]) {
        deal(&mut self.producer, rows.iter().map(Vec::as_slice), &mut self.turn);
    }

    /// Writes a row of a later time into each partition.
    pub fn end(mut self) {
        let heralds: Vec<Vec<u8>> = (0..PARTITIONS).map(|number| herald(&self.topic, number)).collect();
        self.pour(&heralds);
    }
}

/// Waits until the job writes, so that it is met in the middle of its commits; not for ever, and not at all if all `rows` are there.
fn writes(brokers: &Brokers, running: &mut Running, topic: &str, rows: usize) {
    let before = brokers.records(topic).len();
    for _ in 0..40 {
        let now = brokers.records(topic).len();
        if now > before || now >= rows || running.ends_within(Duration::from_millis(200)) {
            return;
        }
    }
}

fn live(brokers: &Brokers, place: &Place) -> Invocation {
    brokers.with(place.run("job.yaml")).args(BUSY)
}

/// Runs the job to its last order, stops it, and compares what Kafka's own consumer sees.
fn finish(brokers: &Brokers, place: &Place, prefix: &str, expected: &[Value]) {
    let out = format!("{prefix}.out");
    let mut running = live(brokers, place).workers(2).start();
    running.until("all orders", || brokers.records(&out).len() >= expected.len());
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    let rows: Vec<Value> =
        brokers.rows(&out).into_iter().filter(|row| row["user_id"].as_str() != Some("herald")).collect();
    assert_same(&rows, expected, &["price"]);
    assert_eq!(brokers.rows(&format!("{prefix}.late")), Vec::<Value>::new());
}

#[test]
fn a_job_over_kafka_that_is_killed_loses_nothing_and_doubles_nothing() {
    let Some(brokers) = shared() else { return };
    let seed = 510;
    let shopping = Shop { seed, rows: 4000, broken: false, ..Shop::default() }.open();
    let expected = expected(&shopping);
    let place = Place::new();
    place.write("job.yaml", job("killed"));
    // The topics are there before the job is.
    for topic in ["killed.clicks", "killed.orders"] {
        drop(brokers.producer(topic, PARTITIONS));
    }
    let (done, mut dice, mut kills) = (AtomicBool::new(false), Dice::new(seed), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::scope(|both| {
                both.spawn(|| fill(brokers, "killed.clicks", &shopping.clicks, Duration::from_millis(150)));
                fill(brokers, "killed.orders", &shopping.orders, Duration::from_millis(150));
            });
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) || kills < 3 {
            let mut running = live(brokers, &place).workers([1, 2, 4][kills % 3]).start();
            writes(brokers, &mut running, "killed.out", expected.len());
            let moment = dice.moment(Duration::from_millis(700));
            assert!(!running.ends_within(moment), "a live job ended by itself: {}", running.finish());
            running.kill();
            kills += 1;
        }
    });
    finish(brokers, &place, "killed", &expected);
}

#[test]
fn a_job_that_delivers_at_least_once_loses_nothing_whoever_is_killed() {
    let Some(brokers) = Brokers::start(1) else { return };
    let seed = 512;
    let shopping = Shop { seed, rows: 3000, broken: false, ..Shop::default() }.open();
    let expected = expected(&shopping);
    let place = Place::new();
    let file = job("often").replace("topic: often.out,", "topic: often.out, delivery: at_least_once,");
    assert!(file.contains("at_least_once"), "{file}");
    place.write("job.yaml", file);
    for topic in ["often.clicks", "often.orders"] {
        drop(brokers.producer(topic, PARTITIONS));
    }
    let (done, mut dice, mut kills) = (AtomicBool::new(false), Dice::new(seed), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::scope(|both| {
                both.spawn(|| fill(&brokers, "often.clicks", &shopping.clicks, Duration::from_millis(150)));
                fill(&brokers, "often.orders", &shopping.orders, Duration::from_millis(150));
            });
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) || kills < 3 {
            let mut running = live(&brokers, &place).workers([1, 2][kills % 2]).start();
            writes(&brokers, &mut running, "often.out", expected.len());
            // Who writes without transactions has no producer that a broker could keep out.
            brokers.fail("kill", 1);
            assert!(!running.ends_within(dice.moment(Duration::from_millis(500))), "it ended: {}", running.finish());
            if kills % 2 == 0 {
                running.kill();
            }
            brokers.fail("start", 1);
            while !brokers.has("often.clicks") {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            kills += 1;
        }
    });
    let mut running = live(&brokers, &place).workers(2).start();
    let there = || brokers.rows("often.out").into_iter().filter(|row| row["user_id"].as_str() != Some("herald"));
    // An order that was placed twice is there twice, and as often again as it was written again.
    let named = |row: &Value| ["order_id", "user_id", "item_id", "ts"].map(|column| row[column].to_string());
    let wanted: BTreeSet<_> = expected.iter().map(named).collect();
    running.until("all orders", || there().map(|row| named(&row)).collect::<BTreeSet<_>>().len() >= wanted.len());
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    // Every row is there, and whatever came again is the same row.
    let once = |mut rows: Vec<Value>| {
        rows.sort_by_key(ToString::to_string);
        rows.dedup();
        rows
    };
    assert_same(&once(there().collect()), &once(expected), &["price"]);
}

/// One round on three nodes: brokers are killed and paused, the job is killed, all under way.
#[test]
fn brokers_that_fail_and_come_back_change_no_row() {
    let Some(brokers) = Brokers::start(3) else { return };
    let seed = 511;
    let shopping = Shop { seed, rows: 3000, broken: false, ..Shop::default() }.open();
    let expected = expected(&shopping);
    let place = Place::new();
    place.write("job.yaml", job("failing"));
    for topic in ["failing.clicks", "failing.orders"] {
        drop(brokers.producer(topic, PARTITIONS));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| fill(&brokers, "failing.clicks", &shopping.clicks, Duration::from_millis(200)));
        scope.spawn(|| fill(&brokers, "failing.orders", &shopping.orders, Duration::from_millis(200)));
        let mut running = live(&brokers, &place).workers(2).start();
        writes(&brokers, &mut running, "failing.out", expected.len());
        brokers.fail("kill", 1);
        writes(&brokers, &mut running, "failing.out", expected.len());
        running.kill();
        let mut running = live(&brokers, &place).workers(1).start();
        writes(&brokers, &mut running, "failing.out", expected.len());
        brokers.fail("start", 1);
        writes(&brokers, &mut running, "failing.out", expected.len());
        brokers.fail("pause", 2);
        running.ends_within(Duration::from_secs(4));
        running.kill();
        brokers.fail("resume", 2);
    });
    finish(&brokers, &place, "failing", &expected);
}
