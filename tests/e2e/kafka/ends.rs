//! The end of a transaction, answered late, twice or never, on a connection that breaks: no row is lost or doubled, and a producer
//! of which nobody knows how its last transaction ended is not used again.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riverrun_dataflow::sink::Sink;

use super::faults::in_turn_from_first;
use super::job;
use super::lanes::{claim, open, rows, sink_at, values};
use crate::oracle::{self, Model, assert_same};
use crate::support::brokers::{Brokers, deal, shared};
use crate::support::delay::{Delay, Harm};
use crate::support::jobs::{BUSY, DEDUPE_MS, WINDOW_MS};
use crate::support::{Dice, Place, Shop};

/// Longer than an answer may take before its producer is replaced.
const SLOW: Duration = Duration::from_millis(2200);

/// All that may happen, each followed by a transaction to which nothing does.
const HARMS: [Harm; 8] = [
    Harm::Late(SLOW),
    Harm::AnswerLate(SLOW),
    Harm::AnswerLost,
    Harm::CutBefore,
    Harm::CutAfter,
    Harm::Stray { before: 1 },
    Harm::Stray { before: 2 },
    Harm::AnswerTwice,
];

/// Stands between clients and the broker, one test at a time: there is one way through.
fn between(brokers: &Brokers) -> (MutexGuard<'static, ()>, Delay, SocketAddr) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (listens, upstream) = brokers.through();
    (alone, Delay::start(listens, upstream).expect("the port is free"), listens)
}

#[test]
fn an_end_that_is_late_or_unknown_costs_the_producer_and_no_row() {
    let Some(brokers) = shared() else { return };
    let (_alone, delay, listens) = between(brokers);
    let sink = sink_at(&Brokers::cluster_at(&listens.to_string()), "ends", None);
    let (mut lane, _) = open(&sink, &claim("ends", "one", 1)).unwrap();
    let mut written = Vec::new();
    let mut commit = |tick: u64| {
        let texts: Vec<String> = (0..50).map(|row| format!("{tick}-{row:02}")).collect();
        // In the canonical order a lane gets them.
        lane.commit(tick, &[rows(tick, &texts.iter().map(String::as_str).collect::<Vec<_>>())]).unwrap();
        written.extend(texts);
    };
    commit(2);
    let mut tick = 3;
    for harm in HARMS {
        let before = delay.producers();
        delay.next([Some(harm)]);
        commit(tick);
        commit(tick + 1);
        let replaced = delay.producers() > before;
        // An answer too many says nothing about the transaction.
        assert!(replaced || harm == Harm::AnswerTwice, "{harm:?}: the producer was used again");
        tick += 2;
    }
    assert_eq!(values(brokers, "ends", written.len()), written, "each row once, in order");
    assert_eq!(delay.ended().1, HARMS.len() as u64);
    // Those that came in the middle of a later transaction were turned away: it belongs to another producer.
    let said = delay.said();
    assert!(said.len() == 2 && said.iter().all(|code| *code != 0), "a stray end ended something: {said:?}");
    // The lane still belongs to its generation, and tells its token.
    drop(lane);
    let (_, token) = open(&sink, &claim("ends", "one", 2)).unwrap();
    assert_eq!(token, Some(tick - 1));
    assert_eq!(sink.lanes().unwrap(), 2);
}

#[test]
fn a_job_whose_ends_of_transactions_come_late_writes_each_row_once() {
    let Some(brokers) = shared() else { return };
    let (_alone, delay, listens) = between(brokers);
    let seed = 540;
    let shopping = Shop { seed, rows: 1500, broken: false, ..Shop::default() }.open();
    for (topic, rows) in [("delayed.clicks", &shopping.clicks), ("delayed.orders", &shopping.orders)] {
        deal(&mut brokers.producer(topic, 2), rows.iter().map(Vec::as_slice), &mut 0);
    }
    let expected = oracle::attributed(
        &oracle::clicks(&in_turn_from_first(&shopping.clicks)),
        &oracle::orders(&in_turn_from_first(&shopping.orders)),
        WINDOW_MS,
        DEDUPE_MS,
        Model::Last,
    );
    let mut dice = Dice::new(seed);
    let late = [Harm::CutAfter, Harm::CutBefore, Harm::Stray { before: 2 }, Harm::AnswerTwice, Harm::Late(SLOW)];
    // Which of them follows from the seed. However few transactions the job makes on a busy machine, the first ones meet them, those in
    // which lanes are claimed among them.
    delay.next((0..12).map(|_| Some(*dice.one_of(&late))));
    let place = Place::new();
    place.write("job.yaml", job("delayed"));
    let command = place.run("job.yaml").arg("--topics").arg(format!("kafka://{listens}"));
    command.args(BUSY).arg("--until-end").workers(2).succeed();
    assert!(delay.ended().1 >= 2, "the seed lets too little happen: {:?}", delay.ended());
    let rows = brokers.rows("delayed.out");
    assert_same(&rows, &expected, &["price"]);
}
