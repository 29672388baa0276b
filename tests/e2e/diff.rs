//! Two versions of a job over the same past: what is said to differ is what a naive comparison of their tables says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Map, Value};

use crate::live::{PARTITIONS, in_turn};
use crate::oracle::{self, Model};
use crate::support::jobs::{self, DEDUPE_MS, Over, WINDOW_MS};
use crate::support::place::json_lines;
use crate::support::process::{Finished, Invocation};
use crate::support::{Place, Shop, Shopping, topics};

fn diff(place: &Place, arguments: &[&str]) -> Invocation {
    place.riverrun(&["diff", "--topics", "topics"]).args(arguments)
}

/// What `-o json` gave: the differences, and the summary of each stream by its name.
fn told(finished: &Finished) -> (Vec<Value>, BTreeMap<String, Value>) {
    let mut lines = json_lines(&finished.stdout);
    let last = lines.pop().expect("there is a summary");
    let streams = last["summary"].as_array().expect("it is a list").iter();
    (lines, streams.map(|of| (of["stream"].as_str().unwrap().to_owned(), of.clone())).collect())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A table: by key, the rows that stand, each as often as it stands.
type Tables = BTreeMap<String, Vec<String>>;

/// How many rows are the same, changed, only in one and only in the other.
fn naive(a: &Tables, b: &Tables) -> [u64; 4] {
    let none = Vec::new();
    let mut counts = [0; 4];
    for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let (mut one, mut two) = (a.get(key).unwrap_or(&none).clone(), b.get(key).unwrap_or(&none).clone());
        one.retain(|row| match two.iter().position(|other| other == row) {
            Some(at) => {
                two.remove(at);
                counts[0] += 1;
                false
            }
            None => true,
        });
        let changed = one.len().min(two.len());
        counts[1] += changed as u64;
        counts[2] += (one.len() - changed) as u64;
        counts[3] += (two.len() - changed) as u64;
    }
    counts
}

/// How many rows are credited otherwise, by whether they were credited before and are now.
type Credits = BTreeMap<(bool, bool), u64>;

fn counts(summary: &Value) -> [u64; 4] {
    ["same", "changed", "only_a", "only_b"].map(|count| number(&summary[count]))
}

fn shop(place: &Place, seed: u64) -> Shopping {
    let shopping = Shop { seed, rows: 1500, ..Shop::default() }.open();
    for (topic, rows) in [("clicks", &shopping.clicks), ("orders", &shopping.orders)] {
        let mut producer = topics::producer(&place.path("topics"), topic, PARTITIONS);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
    shopping
}

#[test]
fn orders_that_another_model_or_window_credits_otherwise_are_those_of_a_naive_recomputation() {
    let place = Place::new();
    let shopping = shop(&place, 610);
    place.write("a.yaml", jobs::attribution(Over::Topics, Model::Last));
    place.write("b.yaml", jobs::attribution(Over::Topics, Model::First));
    let before =
        place.files_below("").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>();
    let set = ["a.yaml", "b.yaml", "--set-b", "steps.attributed.attribute.window=4m", "-o", "json"];
    let finished = diff(&place, &set).args(&["-w", "3"]).finish();
    assert_eq!(finished.code, Some(1), "they differ: {finished}");
    assert!(!finished.stderr.contains("error"), "and that is no failure: {finished}");
    let (lines, summary) = told(&finished);

    let (clicks, orders) = (oracle::clicks(&in_turn(&shopping.clicks)), oracle::orders(&in_turn(&shopping.orders)));
    let of = |window, model| oracle::attributed(&clicks, &orders, window, DEDUPE_MS, model);
    let touches = |rows: &[Value]| {
        let mut touches: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows {
            touches.entry(row["order_id"].to_string()).or_default().push(row["touch_event_id"].to_string());
        }
        touches
    };
    let (a, b) = (touches(&of(WINDOW_MS, Model::Last)), touches(&of(4 * 60_000, Model::First)));
    // The model is a column, so every row differs in it: which of them have another touch is told apart.
    let (mut credits, mut told_of): (Credits, Credits) = Default::default();
    for line in lines.iter().filter(|line| line["stream"] == "out" && line["change"] == "changed") {
        let id = line["key"]["order_id"].to_string();
        let columns: Vec<&str> = line["columns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(columns.contains(&"model"), "{line}");
        for (side, expected) in [("a", &a), ("b", &b)] {
            assert!(expected[&id].contains(&line[side]["touch_event_id"].to_string()), "{side} of {line}");
        }
        if columns.iter().any(|column| column.starts_with("touch_")) {
            let is = |side: &str| line[side]["attributed"] == true;
            *told_of.entry((is("a"), is("b"))).or_default() += 1;
            if id != "null" {
                *credits.entry((is("a"), is("b"))).or_default() += 1;
            }
        }
    }
    let all: u64 = a.values().map(|rows| rows.len() as u64).sum();
    assert_eq!(counts(&summary["out"]), [0, all, 0, 0], "{:?}", summary["out"]);
    let mut expected: BTreeMap<(bool, bool), u64> = BTreeMap::new();
    let (last, first) = (of(WINDOW_MS, Model::Last), of(4 * 60_000, Model::First));
    for id in a.keys().filter(|id| *id != "null") {
        // Clicks may have no id: an order that another such click is credited with is told by its other columns.
        let (one, two) = (of_order(&last, id), of_order(&first, id));
        if touch_columns(one) != touch_columns(two) {
            let is = |row: &Value| row["attributed"] == true;
            *expected.entry((is(one), is(two))).or_default() += 1;
        }
    }
    assert_eq!(credits, expected);
    for (kind, name) in [((true, true), "moved"), ((true, false), "lost"), ((false, true), "gained")] {
        // Orders without an id are named by nothing: equal ones among them go together, as one likes.
        let (least, most) = (credits.get(&kind).copied().unwrap_or(0), told_of.get(&kind).copied().unwrap_or(0));
        let told = number(&summary["out"]["credits"][name]);
        assert!((least..=most).contains(&told), "{name}: {told} of {least} to {most}");
    }
    rests_on_what_it_names(&shopping, &lines);
    let words = summary["out"]["words"].as_str().unwrap();
    for (kind, words_of) in [((true, true), "re-credited"), ((true, false), "not credited any more")] {
        assert!(expected[&kind] > 0, "there is something to tell: {expected:?}");
        assert!(words.contains(words_of), "{words}");
    }
    for stream in ["bad", "late"] {
        assert_eq!(counts(&summary[stream])[1..], [0, 0, 0], "{stream}");
    }
    assert_eq!(counts(&summary["bad"])[0], shopping.broken.len() as u64);

    let after =
        place.files_below("").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>();
    assert!(before == after, "something was written or touched");
    // The same again, with other numbers of workers; and the same version twice.
    let again = diff(&place, &set).args(&["-w", "1"]).finish();
    assert!(again.stdout == finished.stdout, "what is said depends on workers");
    let same = diff(&place, &["a.yaml", "a.yaml"]).succeed();
    assert!(same.stderr.contains("no row differs"), "{same}");

    // For people: the first rows, with what they rest on.
    let table = diff(&place, &set[..4]).args(&["--limit", "3"]).finish();
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    let says = [
        "STREAM",
        "order_id",
        "the first 3 of",
        "re-credited to another touch",
        "touch_event_id",
        "rests on",
        "clicks 0:",
    ];
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("  ~ ")).count(), 3, "{text}");
}

/// Each id of the evidence is that of the record at its place, and the order and the touch of the first row are among them.
fn rests_on_what_it_names(shopping: &Shopping, lines: &[Value]) {
    let parts = [("clicks", in_turn(&shopping.clicks)), ("orders", in_turn(&shopping.orders))];
    let evidence: Vec<&Value> = lines.iter().filter(|line| line.get("evidence").is_some()).collect();
    for line in &evidence {
        for at in line["at"].as_array().unwrap() {
            let (source, place) = at.as_str().unwrap().split_once(' ').unwrap();
            let (split, position) = place.split_once(':').unwrap();
            let (_, parts) = parts.iter().find(|(name, _)| *name == source).unwrap();
            let record = &parts[split.parse::<usize>().unwrap()][position.parse::<usize>().unwrap()];
            let record: Value = serde_json::from_slice(record).unwrap();
            let id = if source == "clicks" { "event_id" } else { "order_id" };
            assert_eq!(record[id], line["evidence"], "{at}");
        }
    }
    let first = lines.iter().find(|line| line["stream"] == "out" && line["change"] == "changed").unwrap();
    for id in [&first["a"]["order_id"], &first["a"]["touch_event_id"]].into_iter().filter(|id| id.is_string()) {
        assert!(evidence.iter().any(|line| line["evidence"] == *id), "{first} {evidence:?}");
    }
    assert!(!evidence.is_empty());
}

fn of_order<'r>(rows: &'r [Value], id: &str) -> &'r Value {
    let has_id = |row: &&Value| {
        let written = row["order_id"].to_string();
        written == id
    };
    rows.iter().find(has_id).unwrap()
}

fn touch_columns(row: &Value) -> Vec<String> {
    ["touch_event_id", "touch_user_id", "touch_item_id", "touch_ts"].map(|column| row[column].to_string()).to_vec()
}

/// Rows of a ledger and of incidents are corrected: what is compared is the table at the end, folded here from what each version wrote.
#[test]
fn tables_that_are_corrected_are_compared_as_they_stand_at_the_end() {
    let place = Place::new();
    place.riverrun(&["demo", "--generate-only", "--rows", "12000", "--out", "in", "-q"]).succeed();
    for topic in ["clicks", "orders", "corrections", "events"] {
        let (file, name) = (format!("in/{topic}.jsonl"), format!("raw.{topic}.v1"));
        let import =
            ["topic", "import", &file, "--topic", &name, "--topics", "topics", "-p", "2", "--key", "user_id", "-q"];
        place.riverrun(&import).succeed();
    }
    let cases: [(&str, &str, &[&str], &[Table]); 2] = [
        (
            "attribution-models",
            "steps.credited.attribute.window=3m",
            &["credits", "notices", "channel_hours"],
            &[Table { sink: "credits", key: &["user_id", "order_id", "model"], fold: Fold::Signed }],
        ),
        (
            "frustration",
            "steps.incidents.incidents.open=4",
            &["signals_out", "incidents_out", "problems_out"],
            &[
                Table { sink: "signals_out", key: &["signal_id"], fold: Fold::Revised },
                Table { sink: "incidents_out", key: &["incident_id"], fold: Fold::Revised },
            ],
        ),
    ];
    for (job, set, sinks, tables) in cases {
        place.riverrun(&["new", job, "--to", "job.yaml"]).succeed();
        for (version, set) in [("a", None), ("b", Some(set))] {
            let run = place.run("job.yaml").args(&[
                "--topics",
                "topics",
                "--until-end",
                "--state",
                &format!("{job}-{version}"),
            ]);
            let file = |run: Invocation, sink: &&str| run.set(format!("sinks.{sink}.file.path={version}-{sink}.jsonl"));
            let run = sinks.iter().fold(run, file);
            set.iter().fold(run, |run, set| run.set(*set)).succeed();
        }
        let finished = diff(&place, &["job.yaml", "job.yaml", "--set-b", set, "-o", "json"]).finish();
        assert_eq!(finished.code, Some(1), "{finished}");
        let (lines, summary) = told(&finished);
        let (mut differing, mut same) = (0, 0);
        for table in tables {
            let [a, b] = ["a", "b"].map(|version| table.standing(&place, &format!("{version}-{}.jsonl", table.sink)));
            let expected = naive(&a, &b);
            assert_eq!(counts(&summary[table.sink]), expected, "{} of {job}", table.sink);
            let own = lines.iter().filter(|line| line["stream"] == table.sink).count() as u64;
            assert_eq!(own, expected[1..].iter().sum::<u64>());
            differing += own;
            same += expected[0];
        }
        assert!(differing > 0 && same > 0, "something differs in {job}, and something does not");
        fs::remove_file(place.path("job.yaml")).unwrap();
    }
}

/// How rows make a table.
#[derive(Clone, Copy)]
enum Fold {
    Signed,
    Revised,
}

/// A row and its `rev`.
type Numbered = (i64, Map<String, Value>);

struct Table {
    sink: &'static str,
    key: &'static [&'static str],
    fold: Fold,
}

impl Table {
    /// Returns the rows that stand at the end of a file, by key.
    fn standing(&self, place: &Place, file: &str) -> Tables {
        let mut tables: BTreeMap<String, Vec<Numbered>> = BTreeMap::new();
        for row in place.rows(file) {
            let mut row = row.as_object().unwrap().clone();
            let key = self.key.iter().map(|name| row[*name].to_string()).collect::<Vec<_>>().join(",");
            let op = match self.fold {
                Fold::Signed => row.remove("op"),
                Fold::Revised => None,
            };
            let rev = row.remove("rev").and_then(|rev| rev.as_i64()).unwrap_or(0);
            let standing = tables.entry(key).or_default();
            if op == Some(Value::from("-")) {
                let at = standing.iter().position(|(_, other)| *other == row).expect("what is taken back was given");
                standing.remove(at);
                continue;
            }
            if matches!(self.fold, Fold::Revised) {
                if standing.iter().any(|(known, _)| *known > rev) {
                    continue;
                }
                standing.clear();
            }
            standing.push((rev, row));
        }
        let texts = |rows: Vec<Numbered>| rows.into_iter().map(|(_, row)| Value::from(row).to_string());
        tables.into_iter().map(|(key, rows)| (key, texts(rows).collect())).collect()
    }
}

#[test]
fn what_cannot_be_compared_is_told_and_keys_can_be_named() {
    let place = Place::new();
    shop(&place, 611);
    place.write("a.yaml", jobs::minutes(Over::Topics));
    let b = jobs::minutes(Over::Topics).replace("clicks: \"count(*) filter", "hits: \"count(*) filter");
    place.write("b.yaml", b.replace("  late: {", "  later: {").replace("topic: late", "topic: later"));
    let other = diff(&place, &["a.yaml", "b.yaml"]);
    let says = ["warning: out: only in A, and not compared: clicks", "only in B, and not compared: hits"];
    let finished = other.fail(1, &says);
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert!(text.contains("late is only in A") && text.contains("later is only in B"), "{text}");
    assert!(text.contains("window_start, item_id"), "{text}");

    let keyed = diff(&place, &["a.yaml", "a.yaml", "--key", "out=item_id"]).succeed();
    assert!(String::from_utf8_lossy(&keyed.stdout).contains(" item_id "), "{keyed}");
    let fails: [(&[&str], i32, &[&str]); 6] = [
        (&["a.yaml", "a.yaml", "--key", "out=nobody"], 2, &["no column `nobody`", "window_start"]),
        (&["a.yaml", "a.yaml", "--key", "no=item_id"], 2, &["neither version has a stream `no`", "bad, late, out"]),
        (&["a.yaml", "a.yaml", "--key", "out"], 2, &["--key STREAM=COLUMN"]),
        (&["a.yaml", "nothing.yaml"], 3, &["nothing.yaml"]),
        (&["a.yaml", "a.yaml", "--from", "2d", "--to", "3d"], 2, &["is not before"]),
        (&["a.yaml", "a.yaml", "--set-b", "sources.clicks.topic=gone"], 78, &["version B", "gone"]),
    ];
    for (arguments, code, says) in fails {
        diff(&place, arguments).fail(code, says);
    }
    // Ranges are those of a replay.
    let none = diff(&place, &["a.yaml", "a.yaml", "--from", "latest", "-o", "json"]).succeed();
    assert_eq!(counts(&told(&none).1["out"]), [0; 4]);
}
