//! The bundled job `frustration`: events in, signals, incidents and problems out, by the binary.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use crate::real_data::{by_duckdb, data};
use crate::same_bytes::killed_again_and_again;
use crate::support::jobs::BUSY;
use crate::support::process::Stop;
use crate::support::{Dice, Place, topics};

const START: i64 = 1_760_000_000_000;
const MINUTE: i64 = 60_000;

/// The bundled job with files in place of topics.
fn job() -> String {
    let job = include_str!("../../jobs/frustration.yaml");
    let job = job.replace("    topic: raw.events.v1\n", "    file: { path: \"in/*.jsonl\" }\n");
    ["signals", "incidents", "problems"].into_iter().fold(job, |job, name| {
        job.replace(&format!("topic: frustration.{name}.v1"), &format!("file: {{ path: {name}.jsonl }}"))
    })
}

/// Events of one session, one after the other.
struct Session {
    name: String,
    user: String,
    rows: Vec<Value>,
}

impl Session {
    fn new(name: &str, user: &str) -> Session {
        Session { name: name.to_owned(), user: user.to_owned(), rows: Vec::new() }
    }

    fn at(&mut self, ms: i64, kind: &str, more: Value) -> &mut Session {
        let mut row = json!({
            "event_id": format!("{}-{}", self.name, self.rows.len()), "source": "web", "tenant_id": "shop", "type": kind,
            "event_time": START + ms, "session_id": self.name, "tab_id": "w1", "anonymous_id": format!("d-{}", self.user),
            "user_id": self.user, "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0", "page_key": "/checkout", "release": "1.4.2",
        });
        for (name, value) in more.as_object().unwrap() {
            row[name] = value.clone();
        }
        self.rows.push(row);
        self
    }

    /// Shows the page, clicks it angrily, and once more elsewhere.
    fn in_trouble(&mut self, ms: i64) -> &mut Session {
        self.at(ms, "page_view", json!({ "caps": "reactions,forms,network" }));
        for n in 0..4 {
            self.click(ms + 1000 + n * 200, "[data-testid=pay]");
        }
        self.click(ms + 30_000, "#help")
    }

    fn click(&mut self, ms: i64, target: &str) -> &mut Session {
        let more = json!({ "x": 40, "y": 50, "target_fp": target, "target_traits": "interactive" });
        self.at(ms, "click", more)
    }
}

/// Writes events into files, each in its own order but for `late_ms`.
fn write(place: &Place, rows: Vec<Value>, late_ms: u64) {
    let mut dice = Dice::new(7);
    let time = |row: &Value| row["event_time"].as_i64().unwrap();
    let mut rows: Vec<(i64, Value)> =
        rows.into_iter().map(|row| (time(&row) + dice.below(late_ms + 1) as i64, row)).collect();
    rows.sort_by_key(|(arrives, _)| *arrives);
    let mut files = [String::new(), String::new()];
    for (number, (_, row)) in rows.into_iter().enumerate() {
        files[number % 2].push_str(&format!("{row}\n"));
    }
    for (number, text) in files.iter().enumerate() {
        place.write(&format!("in/events-{number}.jsonl"), text);
    }
    place.write("job.yaml", job());
}

const OUT: [&str; 3] = ["signals.jsonl", "incidents.jsonl", "problems.jsonl"];

/// The newest row of each id.
fn newest(rows: &[Value], id: &str) -> BTreeMap<String, Value> {
    let mut newest: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows {
        let known = newest.entry(row[id].as_str().unwrap().to_owned()).or_insert_with(|| row.clone());
        if row["rev"].as_i64() >= known["rev"].as_i64() {
            *known = row.clone();
        }
    }
    newest
}

#[test]
fn five_sessions_in_trouble_are_five_incidents_and_one_problem_worth_a_ticket() {
    let place = Place::new();
    let mut rows = Vec::new();
    for n in 0..5 {
        let mut session = Session::new(&format!("s{n}"), &format!("u{}", n % 3));
        session.in_trouble(n * MINUTE);
        if n == 4 {
            session.at(n * MINUTE + 3 * MINUTE, "order_completed", json!({}));
        }
        rows.append(&mut session.rows);
    }
    let mut calm = Session::new("calm", "u9");
    calm.at(0, "page_view", json!({ "caps": "reactions" })).click(500, "#a").at(600, "dom_reaction", json!({}));
    rows.append(&mut calm.rows);
    write(&place, rows, 5000);
    let finished = place.run("job.yaml").set("tick.max_rows=7").workers(2).succeed();
    assert_eq!(finished.counts("watched").late, 0);

    let signals = place.rows("signals.jsonl");
    let newest_signals = newest(&signals, "signal_id");
    let kinds: Vec<&str> = newest_signals.values().filter_map(|row| row["kind"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "rage_click").count(), 5);
    assert_eq!(kinds.iter().filter(|kind| **kind == "dead_click").count(), 5);
    assert_eq!(kinds.len(), 10, "{kinds:?}");
    let rage = newest_signals.values().find(|row| row["kind"] == "rage_click" && row["session_id"] == "s0").unwrap();
    assert_eq!(
        (rage["count"].as_i64(), rage["dead"].as_bool(), rage["points"].as_i64()),
        (Some(4), Some(true), Some(4))
    );
    assert_eq!(rage["evidence"], json!(["s0-1", "s0-2", "s0-3", "s0-4"]));
    // The evidence can be read again where it says: a file and a byte of it.
    let splits = ["in/events-0.jsonl", "in/events-1.jsonl"].map(|file| place.read(file));
    for (id, at) in rage["evidence"].as_array().unwrap().iter().zip(rage["evidence_at"].as_array().unwrap()) {
        let (split, offset) = at.as_str().unwrap().split_once(':').unwrap();
        let rest = &splits[split.parse::<usize>().unwrap()][offset.parse::<usize>().unwrap()..];
        let line = rest.split(|byte| *byte == b'\n').next().unwrap();
        let row: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(&row["event_id"], id);
    }

    let incidents = newest(&place.rows("incidents.jsonl"), "incident_id");
    assert_eq!(incidents.len(), 5);
    for row in incidents.values() {
        assert_eq!((row["state"].as_str(), row["severity"].as_str()), (Some("closed"), Some("medium")));
        assert_eq!(row["kinds"], json!({ "rage_click": 1, "dead_click": 1 }));
        assert_eq!(row["releases"], json!(["1.4.2"]));
        let outcome = if row["session_id"] == "s4" { "recovered" } else { "none" };
        assert_eq!(row["outcome"], outcome);
    }
    let fingerprints: BTreeSet<&str> = incidents.values().filter_map(|row| row["fingerprint"].as_str()).collect();
    assert_eq!(fingerprints.len(), 1);

    let problems = place.rows("problems.jsonl");
    let row = newest(&problems, "fingerprint").into_values().next().unwrap();
    assert_eq!((row["sessions"].as_i64(), row["persons"].as_i64()), (Some(5), Some(3)));
    assert_eq!((row["passes"].as_bool(), row["subject"].as_str()), (Some(true), Some("[data-testid=pay]")));
    assert_eq!(problems.iter().filter(|row| row["notify"] == "first").count(), 1);
}

/// A shop with so many sessions: what happens in each follows from a seed.
pub(crate) fn busy(seed: u64, sessions: usize) -> Vec<Value> {
    let mut dice = Dice::new(seed);
    let mut rows = Vec::new();
    for n in 0..sessions {
        let mut session = Session::new(&format!("s{n}"), &format!("u{}", dice.below(40)));
        let mut ms = dice.below(90) as i64 * MINUTE;
        session.at(ms, "page_view", json!({ "caps": "reactions,forms,network" }));
        for _ in 0..dice.below(12) {
            ms += 2000 + dice.below(60_000) as i64;
            let target = format!("#t{}", dice.below(4));
            match dice.below(6) {
                0 => (0..3 + dice.below(3) as i64).for_each(|n| {
                    session.click(ms + n * 180, &target);
                }),
                1 => {
                    session.click(ms, &target);
                }
                2 => {
                    session.click(ms, &target).at(ms + 20, "dom_reaction", json!({}));
                    session.at(ms + 400, "js_error", json!({ "error_type": "TypeError", "message": "x is undefined" }));
                }
                3 => {
                    let form = json!({ "form_fp": "#order", "field_fp": target });
                    session.at(ms, "form_change", form.clone()).at(
                        ms + 9000,
                        "form_change",
                        json!({ "form_fp": "#order", "field_fp": "z" }),
                    );
                }
                4 => {
                    let failed = json!({ "method": "POST", "route": "/cart/:id", "status": 500 });
                    (0..3).for_each(|n| {
                        session.at(ms + n * 6000, "network_request", failed.clone());
                    });
                }
                _ => {
                    session.at(ms, "order_completed", json!({}));
                }
            }
        }
        rows.append(&mut session.rows);
    }
    rows
}

/// Views of one page, `apart` each: each is scrolled to and fro once more than the one before.
pub(crate) fn scrolling(views: usize, apart_ms: i64) -> Vec<Value> {
    let mut rows = Vec::new();
    for n in 0..views {
        let (mut session, begin) = (Session::new(&format!("v{n}"), &format!("r{n}")), n as i64 * apart_ms);
        session.at(begin, "page_view", json!({ "caps": "scroll", "page_key": "/table" }));
        for turn in 0..6 + n as i64 {
            let at = json!({ "scroll_top": 900 * (turn % 2), "viewport_h": 800, "page_key": "/table" });
            session.at(begin + 1000 + turn * 500, "scroll", at);
        }
        session.at(begin + 30_000, "page_leave", json!({ "page_key": "/table" }));
        rows.append(&mut session.rows);
    }
    rows
}

#[test]
fn any_number_of_workers_and_any_kills_give_the_same_bytes() {
    let filled = || {
        let place = Place::new();
        write(&place, busy(20_261_126, 150), 9000);
        place
    };
    let files = |place: &Place| OUT.map(|file| place.read(file));
    let calm = filled();
    calm.run("job.yaml").set("tick.max_rows=100").workers(1).succeed();
    let expected = files(&calm);
    for (file, bytes) in OUT.iter().zip(&expected) {
        assert!(bytes.len() > 5000, "{file} has something to compare");
    }
    let wide = filled();
    wide.run("job.yaml").set("tick.max_rows=100").workers(4).succeed();
    assert!(files(&wide) == expected, "workers changed the bytes");

    killed_again_and_again(
        filled,
        |place| {
            place.run("job.yaml").args(&[
                "--set",
                "tick.max_rows=100",
                "--set",
                "checkpoint.every=50ms",
                "--set",
                "commit.every=10ms",
            ])
        },
        |place| assert!(files(place) == expected, "kills changed the bytes"),
    );
}

/// Presses of the left button in the mouse data, as clicks: no target has a name there, so that one spot is a near one.
const MOUSE: &str = r#"
job: mouse
sources:
  moves:
    file: { path: "DATA/events.parquet" }
    format: parquet
    schema: { session_id: string, seq: int64, t_ms: timestamp_ms, button: string, state: string, x: int64, y: int64 }
    event_time: t_ms
    max_disorder: 1d
steps:
  clicks:
    select:
      from: moves
      where: "state = 'Pressed' and button = 'Left' and x < 65535 and y < 65535"
      columns: [session_id, "'click' as type", "cast(seq as varchar) as event_id", x, y]
  found: { frustration: { from: clicks, signals: [rage_click] } }
  signals: { select: { from: found, where: "signal_id is not null" } }
sinks:
  out: { from: signals, file: { path: out.jsonl }, timestamps: epoch_ms }
"#;

/// Chains of clicks of which each is at most 1000 ms after the one before and less than 30 px from it, with three within
/// 1000 ms; of a session the first fifty.
const RAGES: &str = "
with clicks as (
  select session_id, t_ms, cast(seq as varchar) as id, x, y from 'DATA/events.parquet'
  where state = 'Pressed' and button = 'Left' and x < 65535 and y < 65535 and not (x = 0 and y = 0)),
before as (
  select *, lag(t_ms) over ordered as was, lag(x) over ordered as was_x, lag(y) over ordered as was_y from clicks
  window ordered as (partition by session_id order by t_ms, id)),
begins as (
  select *, case when was is null or t_ms - was > 1000 or abs(x - was_x) + abs(y - was_y) >= 30 then 1 else 0 end as begins from before),
chained as (select *, sum(begins) over (partition by session_id order by t_ms, id) as chain from begins),
third as (select *, lead(t_ms, 2) over (partition by session_id, chain order by t_ms, id) as third from chained),
chains as (
  select session_id, chain, min(t_ms) as first, max(t_ms) as last, count(*) as n from third
  group by all having bool_or(third - t_ms <= 1000)),
numbered as (select *, row_number() over (partition by session_id order by first) as number from chains)
select session_id, first, last, n from numbered where number <= 50 order by all";

#[test]
fn rage_clicks_of_real_mice_equal_a_recomputation() {
    let Some(folder) = data("balabit-mouse") else { return };
    let filled = |text: &str| text.replace("DATA", &folder.display().to_string());
    let place = Place::new();
    place.write("job.yaml", filled(MOUSE));
    place.run("job.yaml").workers(2).succeed();
    let rows = place.rows("out.jsonl");
    let rages: BTreeMap<String, Value> =
        newest(&rows, "signal_id").into_iter().filter(|(_, row)| row["kind"] == "rage_click").collect();
    let mut given: Vec<Value> = rages
        .values()
        .map(|row| json!([row["session_id"], row["start_time"], row["end_time"], row["count"]]))
        .collect();
    given.sort_by_key(|row| (row[0].as_str().map(str::to_owned), row[1].as_i64()));
    assert!(given.len() > 500, "{} rage clicks", given.len());
    // Sessions of more than fifty are marked, each once.
    assert_eq!(rows.iter().filter(|row| row["kind"] == "capped").count(), 3);
    match by_duckdb(&filled(RAGES)) {
        Some(wanted) => assert_eq!(Value::Array(given), wanted),
        None => eprintln!("SKIPPED: no DuckDB here (RIVERRUN_TEST_PYTHON)"),
    }
}

/// A job that runs is stopped, shows what it keeps, becomes another one, and goes on: what it gives is what one run gives.
#[test]
fn a_live_job_shows_its_sessions_and_takes_an_upgrade() {
    let mut events = busy(5, 150);
    events.sort_by_key(|row| row["event_time"].as_i64());
    let lines: Vec<Vec<u8>> = events.iter().map(|row| row.to_string().into_bytes()).collect();
    // Much later somebody looks at a page: by then everything of the sessions before has been told.
    let later = Session::new("later", "u0").at(360 * MINUTE, "page_view", json!({})).rows[0].to_string().into_bytes();
    let first = job().replace("file: { path: \"in/*.jsonl\" }", "topic: raw.events.v1");
    // No incident here has so many signals: the rows stay what they are.
    let second = first.replace("      scope: session\n", "      scope: session\n      named: 49\n");
    assert_ne!(first, second);
    let place = || {
        let place = Place::new();
        place.write("job.yaml", &first).write("second.yaml", &second);
        let mut producer = topics::producer(&place.path("topics"), "raw.events.v1", 1);
        topics::append(&mut producer, lines.iter().map(Vec::as_slice));
        place
    };
    let rows = |place: &Place, file: &str| {
        let mut rows: Vec<String> = place.rows(file).iter().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    let append = |place: &Place| {
        let mut producer = topics::producer(&place.path("topics"), "raw.events.v1", 1);
        topics::append(&mut producer, [later.as_slice()]);
    };
    let calm = place();
    append(&calm);
    calm.run("job.yaml").args(&["--topics", "topics", "--until-end"]).succeed();
    let expected = ["signals.jsonl", "incidents.jsonl"].map(|file| rows(&calm, file));

    let place = place();
    let mut running = place.run("job.yaml").args(&["--topics", "topics"]).args(BUSY).workers(2).start();
    let read = || {
        let said = place.riverrun(&["checkpoints", "show", "job.yaml", "-o", "json"]).finish();
        let shown: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        shown["splits"][0]["position"].as_u64() == Some(lines.len() as u64)
    };
    running.until("a checkpoint after all input", read);
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));

    let list = place.riverrun(&["checkpoints", "query", "job.yaml", "-o", "json"]).args(BUSY).succeed().document();
    let kept = |name: &str| {
        let view = list
            .as_array()
            .unwrap()
            .iter()
            .find(|view| view["view"] == name)
            .unwrap_or_else(|| panic!("{name}: {list}"));
        view["rows"].as_u64().unwrap()
    };
    // Sessions of the last half hour are there, and those of the half hour before that have something to be made good.
    assert!((1..150).contains(&kept("watched_sessions")), "{list}");
    assert!((1..150).contains(&kept("incidents_cases")), "{list}");
    assert!(kept("problems_problems") > 5, "{list}");

    place.run("second.yaml").args(&["--topics", "topics"]).args(BUSY).fail(78, &["changed", "upgrade"]);
    let table = place.riverrun(&["upgrade", "second.yaml", "--dry-run", "--topics", "topics"]).args(BUSY).succeed();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let line = |name: &str| table.lines().find(|line| line.contains(&format!(" {name} "))).unwrap_or_default();
    assert!(
        line("incidents").contains("migrated") && line("incidents").contains("its named was `50` and is `49`"),
        "{table}"
    );
    assert!(line("watched").contains("kept") && line("problems").contains("kept"), "{table}");
    let mut running = place.run("second.yaml").args(&["--topics", "topics", "--upgrade"]).args(BUSY).workers(3).start();
    append(&place);
    let count = |file: &str| place.read(file).iter().filter(|byte| **byte == b'\n').count();
    running.until("all incidents", || count("incidents.jsonl") >= expected[1].len());
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
    for (file, expected) in ["signals.jsonl", "incidents.jsonl"].iter().zip(&expected) {
        assert!(&rows(&place, file) == expected, "{file} is another");
    }
}
