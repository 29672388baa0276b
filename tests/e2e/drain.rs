//! A live job that is drained gives out what waited for later rows, and is finished for good.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::admin;
use crate::oracle::{self, assert_same};
use crate::support::jobs::{self, BUSY, Over};
use crate::support::process::{HUNG_AFTER, Invocation};
use crate::support::{Dice, Place, Running, Shop, topics};

/// What steers the job of these tests.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// The source of the job of these tests.
const CLICKS: (&str, &str) = ("item-minutes", "clicks");
/// Partitions of the topic.
const PARTITIONS: u32 = 3;

/// Tells a job to stop; returns the code of the answer, if there is one: a job that ends answers nobody.
pub fn stop(address: &str, wish: &Value) -> Option<u16> {
    let (body, mut text) = (wish.to_string(), String::new());
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(HUNG_AFTER)).ok()?;
    let length = body.len();
    write!(stream, "POST /control/stop HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    stream.read_to_string(&mut text).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// Waits until a job has taken in so many rows of a source.
pub fn until_read(running: &mut Running, address: &str, (job, source): (&str, &str), rows: usize) {
    let labels = format!(r#"job_name="{job}",operator="{source}",operator_kind="source",outcome="in""#);
    let name = format!("riverrun_job_balance_records{{{labels}}}");
    running
        .until("all rows", || admin::series(&admin::get(address, "/metrics").body).get(&name) == Some(&(rows as f64)));
}

/// Whether the log says that no row will ever follow.
fn is_promised(place: &Place) -> bool {
    let log = ".riverrun/state/jobs/item-minutes/log";
    let mut records = if place.path(log).is_dir() { place.files_below(log) } else { Vec::new() };
    // Beside the records lie those that a killed process had not finished: they say nothing.
    records.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    records.into_iter().any(|path| {
        let record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        record["entries"].as_array().into_iter().flatten().any(|entry| entry["record"]["last"] == true)
            || record["recent"].as_array().into_iter().flatten().any(|recent| recent["last"] == true)
    })
}

#[test]
fn a_drained_job_gives_out_what_waits_and_is_finished_for_good() {
    let shopping = Shop { seed: 801, rows: 3000, ..Shop::default() }.open();
    let place = Place::new();
    place.write("job.yaml", jobs::minutes(Over::Topics));
    place.write("token", TOKEN);
    let mut producer = topics::producer(&place.path("topics"), "clicks", PARTITIONS);
    topics::append(&mut producer, shopping.clicks.iter().map(Vec::as_slice));
    let run = |workers: usize| -> Invocation {
        place.run("job.yaml").args(&["--topics", "topics"]).args(BUSY).workers(workers)
    };
    let steered = |workers: usize| admin::start(run(workers).args(&["--control-token-file", "token"]));
    let rows = || topics::rows(&place.path("topics"), "out");
    let expected = oracle::minutes(&oracle::clicks(&shopping.click_files()));

    // Killed before it is drained, and while it is, until the end is in its log: then it ends by itself.
    let mut dice = Dice::new(801);
    let (running, _) = steered(1);
    std::thread::sleep(dice.moment(Duration::from_millis(40)));
    running.kill();
    for round in 0..4 {
        if is_promised(&place) {
            break;
        }
        let (mut running, address) = steered(1 + round % 3);
        until_read(&mut running, &address, CLICKS, shopping.clicks.len());
        assert!(rows().len() < expected.len(), "nothing but the end closes the last windows");
        assert_eq!(stop(&address, &json!({ "drain": true })), Some(202));
        if round == 3 {
            running.finish();
        } else if !running.ends_within(dice.moment(Duration::from_millis(40))) {
            running.kill();
        }
    }
    assert!(is_promised(&place));
    let finished = run(2).succeed();
    assert!(["finished", "already_finished"].contains(&finished.ended().as_str()), "{finished}");
    assert_same(&rows(), &expected, &[]);

    // What comes later is not read, ever.
    topics::append(&mut producer, shopping.clicks.iter().take(100).map(Vec::as_slice));
    let again = run(1).succeed();
    assert_eq!(again.ended(), "already_finished", "{again}");
    assert_same(&rows(), &expected, &[]);
}

#[test]
fn a_job_that_stops_already_is_not_drained() {
    let shopping = Shop { seed: 802, ..Shop::default() }.open();
    let place = Place::new();
    place.write("job.yaml", jobs::minutes(Over::Topics));
    place.write("token", TOKEN);
    let mut producer = topics::producer(&place.path("topics"), "clicks", PARTITIONS);
    topics::append(&mut producer, shopping.clicks.iter().map(Vec::as_slice));
    // A sink that commits late holds up the stop.
    let run = place.run("job.yaml").args(&["--topics", "topics", "--control-token-file", "token"]);
    let (mut running, address) = admin::start(run.set("commit.every=2s"));
    until_read(&mut running, &address, CLICKS, shopping.clicks.len());
    assert_eq!(stop(&address, &json!({ "drains": true })), Some(400), "no such wish");
    assert_eq!(stop(&address, &json!({})), Some(202));
    let second = stop(&address, &json!({ "drain": true }));
    assert!(second.is_none_or(|code| code == 409), "{second:?}");
    let finished = running.finish();
    assert_eq!((finished.code, finished.ended().as_str()), (Some(0), "stopped"), "{finished}");
}
