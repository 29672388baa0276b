//! Real data: attribution of purchases to views, and hourly counts of impressions and clicks, against known and recomputed figures.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::oracle::assert_same;
use crate::support::Place;
use crate::support::place::json_lines;

/// Returns the folder of a data set, if it is there: RIVERRUN_TEST_DATA, else beside the workspace.
pub fn data(set: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("RIVERRUN_TEST_DATA").map_or_else(beside, PathBuf::from).join(set);
    if folder.is_dir() {
        return Some(folder.canonicalize().expect("it is there"));
    }
    eprintln!("SKIPPED: there is no data set {} (RIVERRUN_TEST_DATA)", folder.display());
    None
}

/// Returns the rows of a file of gzipped JSON lines.
pub fn unpacked(path: &Path) -> Vec<Value> {
    let mut bytes = Vec::new();
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("it is gzip");
    json_lines(&bytes)
}

/// Purchases name no id here, so that none is a duplicate. The sample is sorted by time, sessions overlap.
fn diginetica(folder: &Path, window: &str) -> String {
    let folder = folder.display();
    let source = |file: &str| {
        format!(
            r#"
    file: {{ path: "{folder}/{file}.jsonl.gz" }}
    schema: {{ session_id: int64, item_id: int64, ts_ms: timestamp_ms }}
    event_time: ts_ms
    max_disorder: 1d"#
        )
    };
    format!(
        r#"
job: diginetica
sources:
  views:{}
  purchases:{}
steps:
  attributed:
    attribute: {{ conversions: purchases, touches: views, by: [session_id, item_id], window: {window} }}
sinks:
  out: {{ from: attributed, file: {{ path: out.jsonl }}, timestamps: epoch_ms }}
"#,
        source("views"),
        source("purchases")
    )
}

#[test]
fn purchases_find_the_views_of_their_session() {
    let Some(folder) = data("diginetica") else { return };
    let (views, purchases) = (unpacked(&folder.join("views.jsonl.gz")), unpacked(&folder.join("purchases.jsonl.gz")));
    for (window, window_ms, known) in [("30m", 1_800_000, 42), ("24h", 86_400_000, 65)] {
        let place = Place::new();
        place.write("job.yaml", diginetica(&folder, window));
        let finished = place.run("job.yaml").workers(2).succeed();
        assert!(!finished.stderr.to_lowercase().contains("warn"), "nothing is odd here: {finished}");
        let out = place.rows("out.jsonl");
        let attributed: Vec<&Value> = out.iter().filter(|row| row["attributed"] == true).collect();
        assert_eq!((out.len(), attributed.len()), (157, known), "within {window}");
        // The figures are known; which view it was is recomputed.
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for purchase in &purchases {
            let time = |row: &Value| row["ts_ms"].as_i64().unwrap();
            let same = |view: &&Value| {
                ["session_id", "item_id"].iter().all(|key| view[*key] == purchase[*key])
                    && (time(purchase) - window_ms..=time(purchase)).contains(&time(view))
            };
            let last = views.iter().filter(same).map(time).max();
            let row = format!("{} {} {} {last:?}", purchase["session_id"], purchase["item_id"], purchase["ts_ms"]);
            *expected.entry(row).or_default() += 1;
        }
        let mut given: BTreeMap<String, u64> = BTreeMap::new();
        for row in &out {
            let touch = row["touch_ts_ms"].as_i64();
            let row = format!("{} {} {} {touch:?}", row["session_id"], row["item_id"], row["ts_ms"]);
            *given.entry(row).or_default() += 1;
        }
        assert_eq!(given, expected);
    }
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn hourly_impressions_and_clicks_of_items_equal_a_recomputation() {
    let Some(folder) = data("obd") else { return };
    let path = folder.join("impressions.jsonl.gz");
    let place = Place::new();
    let job = format!(
        r#"
job: obd
sources:
  impressions:
    file: {{ path: "{}" }}
    schema: {{ ts_ms: timestamp_ms, item_id: int64, click: int64 }}
    event_time: ts_ms
    max_disorder: 8d
steps:
  hours:
    window:
      from: impressions
      tumble: 1h
      by: [item_id]
      aggregates: {{ impressions: "count(*)", clicks: "count(*) filter (where click = 1)", also_clicks: "sum(click)" }}
sinks:
  out: {{ from: hours, file: {{ path: out.jsonl }}, timestamps: epoch_ms }}
"#,
        path.display()
    );
    place.write("job.yaml", job);
    place.run("job.yaml").set("tick.max_rows=1000").workers(2).succeed();
    let out = place.rows("out.jsonl");

    let mut hours: BTreeMap<(i64, i64), (u64, u64)> = BTreeMap::new();
    for row in unpacked(&path) {
        let time = row["ts_ms"].as_i64().unwrap();
        let counts = hours.entry((time - time % HOUR_MS, row["item_id"].as_i64().unwrap())).or_default();
        counts.0 += 1;
        counts.1 += row["click"].as_u64().unwrap();
    }
    let row = |((hour, item), (impressions, clicks)): (&(i64, i64), &(u64, u64))| {
        json!({
            "window_start": hour, "window_end": hour + HOUR_MS, "item_id": item,
            "impressions": impressions, "clicks": clicks, "also_clicks": clicks,
        })
    };
    let expected: Vec<Value> = hours.iter().map(row).collect();
    assert_eq!(hours.values().map(|(impressions, _)| impressions).sum::<u64>(), 20_000);
    assert_same(&out, &expected, &[]);

    match duckdb(&path) {
        Some(rows) => {
            println!("compared with a naive recomputation and with DuckDB");
            let counts = hours
                .iter()
                .map(|((hour, item), (impressions, clicks))| [*hour, *item, *impressions as i64, *clicks as i64]);
            assert_eq!(rows, counts.collect::<Vec<_>>());
        }
        None => eprintln!("SKIPPED: no DuckDB here; compared with a naive recomputation only"),
    }
}

/// Returns the rows of a query as DuckDB's Python module gives them: RIVERRUN_TEST_PYTHON, else `python3`.
pub fn by_duckdb(query: &str) -> Option<Value> {
    let python = std::env::var("RIVERRUN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = "import duckdb, json, sys; print(json.dumps(duckdb.sql(sys.argv[1]).fetchall()))";
    let output =
        Command::new(python).args(["-c", script, query]).output().ok().filter(|output| output.status.success())?;
    Some(serde_json::from_slice(&output.stdout).expect("rows as JSON"))
}

/// Returns hour, item, impressions and clicks as DuckDB counts them, through its Python module or its command.
fn duckdb(path: &Path) -> Option<Vec<[i64; 4]>> {
    let query = format!(
        "SELECT ts_ms - ts_ms % {HOUR_MS} AS hour, item_id, count(*) AS n, CAST(sum(click) AS BIGINT) AS c \
         FROM read_json('{}', format='newline_delimited') GROUP BY ALL ORDER BY 1, 2",
        path.display()
    );
    if let Some(rows) = by_duckdb(&query) {
        return Some(serde_json::from_value(rows).expect("rows of four numbers"));
    }
    let command =
        Command::new("duckdb").args(["-json", "-c", &query]).output().ok().filter(|output| output.status.success())?;
    let rows: Vec<Value> = serde_json::from_slice(&command.stdout).expect("rows as JSON");
    Some(
        rows.iter()
            .map(|row| ["hour", "item_id", "n", "c"].map(|name| row[name].as_i64().expect("a number")))
            .collect(),
    )
}
