//! The bundled layers of a lake over a broker: what others read of `bronze`, `silver` and `gold` is what follows from the records.

use std::path::PathBuf;

use serde_json::json;

use crate::support::brokers::{Brokers, shared};
use crate::support::process::Invocation;
use crate::support::python::{fixture, python};
use crate::support::shop::lines;
use crate::support::{Place, Shop};
use crate::{admin, drain};

/// The topics that any layer reads; there is traffic on the first two.
const TOPICS: [&str; 4] = ["raw.clicks.v1", "raw.orders.v1", "raw.corrections.v1", "raw.events.v1"];

/// A layer: its name, its lakes, and which of them has rows when half of the traffic is there.
type Layer = (&'static str, &'static [&'static str], &'static str);
const LAYERS: [Layer; 3] = [
    ("bronze", &["clicks", "orders", "corrections", "events", "bad"], "orders"),
    (
        "silver",
        &["clicks", "orders", "sessions", "refused", "late_clicks", "late_orders", "late_acts", "bad"],
        "sessions",
    ),
    ("gold", &["daily_metrics", "item_performance", "user_cohorts"], "item_performance"),
];

/// Whether a file of the lake counts.
fn has_rows(place: &Place, lake: &str) -> bool {
    let is_placed =
        |path: PathBuf| path.extension().is_some_and(|it| it == "parquet") && !path.iter().any(|it| it == "_staging");
    place.path(lake).is_dir() && place.files_below(lake).into_iter().any(is_placed)
}

/// Returns a live run of a layer that commits each of its lakes often.
fn run(brokers: &Brokers, place: &Place, job: &str, lakes: &[&str]) -> Invocation {
    let run = brokers.with(place.run(job)).args(&["--control-token-file", "token"]).set("checkpoint.every=200ms");
    lakes.iter().fold(run, |run, lake| run.set(format!("sinks.{lake}.lake.every=200ms")))
}

#[test]
fn layers_over_a_broker_that_are_killed_hold_what_others_recompute_from_the_records() {
    let Some(brokers) = shared() else { return };
    let Some(python) = python("confluent_kafka, duckdb, pyarrow") else { return };
    // Four days, so that days are over while the jobs run. Which of two clicks with one id comes first would be left to the broker.
    let traffic = Shop { seed: 1210, rows: 6000, pace_ms: 60_000, users: 60, ids: u64::MAX, ..Shop::default() };
    let shopping = traffic.open();
    let traffic = [&shopping.clicks, &shopping.orders];
    let place = Place::new();
    place.write("token", drain::TOKEN);
    TOPICS.iter().for_each(|topic| drop(brokers.producer(topic, 2)));
    let address = brokers.address();
    let servers = address.trim_start_matches("kafka://");
    let fill = |half: usize| {
        for (topic, rows) in TOPICS.iter().zip(traffic) {
            let half = rows.chunks(rows.len().div_ceil(2)).nth(half).expect("there are two halves");
            place.write("half.jsonl", lines(half));
            fixture(&python, "layers.py", ["fill", servers, topic, "half.jsonl"], place.folder());
        }
    };
    fill(0);
    for (job, lakes, early) in LAYERS {
        let (mut running, _) = admin::start(run(brokers, &place, job, lakes).workers(1));
        running.until("rows in the lake", || has_rows(&place, &format!("lake/{job}/{early}")));
        running.kill();
    }
    fill(1);
    for (job, lakes, _) in LAYERS {
        let (mut running, address) = admin::start(run(brokers, &place, job, lakes).workers(2));
        for (source, rows) in ["clicks", "orders"].iter().zip(traffic) {
            drain::until_read(&mut running, &address, (job, source), rows.len());
        }
        assert_eq!(drain::stop(&address, &json!({ "drain": true })), Some(202));
        let finished = running.finish();
        assert_eq!((finished.code, finished.ended().as_str()), (Some(0), "finished"), "{finished}");
        for lake in lakes {
            place.riverrun(&["lake", "verify", &format!("lake/{job}/{lake}")]).succeed();
        }
    }
    let held = fixture(&python, "layers.py", ["hold", servers, "lake"], place.folder());
    assert_eq!(held.lines().count(), 11, "{held}");
    // Nothing was late: it came within the hour.
    for late in ["late_clicks", "late_orders", "late_acts"] {
        assert!(!has_rows(&place, &format!("lake/silver/{late}")), "{late}");
    }
}
