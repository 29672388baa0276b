//! What a manager tells of the past of a job: each start with the pause before it, and what processes ended with.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{MUCH, Managed, SLOW, fill_with, kill};
use crate::support::shop::START_MS;
use crate::support::{Place, topics};

#[expect(clippy::disallowed_methods, reason = "it is held against the times that the manager noted")]
pub fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn starts(managed: &Managed, job: &str) -> Vec<Value> {
    managed.cli(&["rescales", job]).succeed().document()["rescales"].as_array().unwrap().clone()
}

/// Waits until rows came out of the newest start, and returns it.
fn newest(managed: &Managed, job: &str, reason: &str) -> Value {
    let found = || starts(managed, job)[0].clone();
    let is_out = |start: &Value| start["reason"] == reason && !start["pause"].is_null();
    managed.until(job, "rows of the newest start", |_| is_out(&found()));
    found()
}

/// A job that gives every row out as it comes.
const COPY: &str = r#"
job: copy
sources:
  clicks:
    topic: clicks
    format: json
    schema: { event_id: string, ts: timestamp_ms }
    event_time: ts
sinks:
  out: { from: clicks, topic: out }
"#;

/// Writes rows, one after the other, and looks what comes out, until it is told to end. Returns when there was more.
fn under_load(folder: PathBuf, ended: Receiver<()>) -> Vec<f64> {
    let mut producer = topics::producer(&folder, "clicks", 2);
    let (mut seen, mut changes) = (0, vec![epoch_seconds()]);
    for number in 0_i64.. {
        let row = json!({ "event_id": number.to_string(), "ts": START_MS + number }).to_string();
        topics::append(&mut producer, [row.as_bytes()]);
        let count = topics::count(&folder, "out");
        if count > seen {
            seen = count;
            changes.push(epoch_seconds());
        }
        if ended.recv_timeout(Duration::from_millis(5)) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    changes
}

#[test]
fn the_pause_of_a_rescale_is_that_which_a_reader_of_the_output_sees() {
    let place = Place::new();
    place.write("job.yaml", COPY);
    let (job, managed) = ("copy", Managed::at(place, &[]));
    let out = managed.place.path("topics");
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let folder = out.clone();
    let load = std::thread::spawn(move || under_load(folder, ended));
    managed.cli(&["submit", "job.yaml", "--set", "commit.every=20ms"]).succeed();
    managed.until(job, "rows", |_| topics::count(&out, "out") > 0);
    let first = starts(&managed, job);
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!((&first[0]["reason"], &first[0]["from"]), (&json!("submit"), &Value::Null));

    managed.cli(&["rescale", job, "--processes", "2"]).succeed();
    let start = newest(&managed, job, "rescale");
    end.send(()).unwrap();
    let changes = load.join().unwrap();
    assert_eq!((&start["from"]["processes"], &start["to"]["processes"]), (&json!(1), &json!(2)), "{start:#}");
    assert_eq!(start["outcome"], "running", "{start:#}");
    let part = |name: &str| start["pause"][name].as_f64().unwrap();
    let (pause, parts) =
        (part("seconds"), ["endingSeconds", "waitingSeconds", "startingSeconds", "firstRowSeconds"].map(part));
    assert!((parts.iter().sum::<f64>() - pause).abs() < 0.01 && parts.iter().all(|part| *part >= 0.0), "{start:#}");
    // Between two rows that a reader saw, none came: the pause is in the longest time without one, and is nearly all of it. A reader that
    // is kept from looking sees rows later than they came.
    let longest = changes.windows(2).map(|two| two[1] - two[0]).fold(0.0, f64::max);
    println!("pause {pause} s, of it {parts:?}; the reader saw none for {longest} s");
    assert!(pause > 0.0 && pause <= longest + 0.5, "{pause} s, and the reader saw {longest} s: {start:#}");
    assert!(longest <= pause + 10.0, "{pause} s, and the reader saw {longest} s: {start:#}");
    assert_eq!(managed.cli(&["rescales", job, "--reason", "upgrade"]).succeed().document()["rescales"], json!([]));
}

#[test]
fn what_a_process_ended_with_is_kept_and_counted_over_the_death_of_the_manager() {
    // The last start finds rows to give out, too.
    let place = Place::new();
    fill_with(&place, 781, MUCH);
    let mut managed = Managed::at(place, &[]);
    let job = "attribution";
    managed.submit("job.yaml", &["--set", "tick.max_rows=1"]);
    managed.until(job, "rows", |_| topics::count(&managed.place.path("topics"), "out") > 0);
    assert_eq!(managed.cli(&["exceptions", job]).succeed().document(), json!({ "exceptions": [] }));
    for generation in 2..4 {
        kill(managed.one_alive());
        managed.until(job, "the next generation", |status| {
            status["job"]["generation"] == generation && status["job"]["phase"] == "running"
        });
    }
    let told = managed.cli(&["exceptions", job]).succeed().document();
    let all = told["exceptions"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{told:#}");
    assert_eq!((&all[0]["count"], &all[0]["process"], &all[0]["root"]), (&json!(2), &json!(0), &json!(true)));
    assert!(all[0]["firstSeen"].as_str() < all[0]["lastSeen"].as_str(), "{told:#}");
    assert!(told["root"]["message"].as_str().unwrap().contains("signal 9"), "{told:#}");
    assert!(newest(&managed, job, "killed")["generation"].as_u64() >= Some(3));
    managed.manager.take().unwrap().kill();
    managed.start(&[]);
    assert_eq!(managed.cli(&["exceptions", job]).succeed().document(), told, "the next manager knows it, too");
    assert!(starts(&managed, job).len() >= 3);

    // Why it failed, with the part of the job that the message names.
    managed.cli(&["delete", job, "--yes", "--purge"]).succeed();
    managed.place.write("manager/files/precious.jsonl", "precious\n");
    let text = String::from_utf8(managed.place.read("job.yaml")).unwrap();
    let text = ["out", "bad", "late"]
        .iter()
        .fold(text, |text, name| text.replace(&format!("topic: {name},"), &format!("topic: other-{name},")));
    managed.place.write("other.yaml", text + "  more: { from: attributed, file: { path: precious.jsonl } }\n");
    managed.cli(&["submit", "other.yaml"]).args(SLOW).fail(1, &["precious.jsonl"]);
    let told = managed.cli(&["exceptions", job]).succeed().document();
    assert_eq!((&told["root"]["operator"], &told["root"]["count"]), (&json!("more"), &json!(1)), "{told:#}");
    let shown = managed.place.riverrun(&["exceptions", job, "--server", &managed.server()]).succeed();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("cause"), "{shown}");
    managed.cli(&["rescales", "nobody"]).fail(3, &["nobody"]);
}
