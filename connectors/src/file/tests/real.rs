//! Real data, from the folder that `RIVERRUN_TEST_DATA` names: the same rows from JSON and Parquet.

use std::path::PathBuf;

use super::{rows_of, source};
use crate::format::FormatSpec;
use crate::format::samples::schema;

fn data(name: &str) -> Option<PathBuf> {
    let given = std::env::var_os("RIVERRUN_TEST_DATA").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")));
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("SKIPPED: there is no {}; set RIVERRUN_TEST_DATA", path.display());
        return None;
    }
    Some(path)
}

/// Compares the two forms of one data set, and counts its rows.
fn check(name: &str, columns: &[&str], count: usize) {
    let Some(folder) = data(name.split('/').next().unwrap()) else { return };
    let file = name.split('/').nth(1).unwrap();
    let json = source(&folder.join(format!("{file}.jsonl.gz")), FormatSpec::Json, &schema(columns));
    let parquet = source(&folder.join(format!("{file}.parquet")), FormatSpec::Parquet, &schema(columns));
    let (json, parquet) = (rows_of(&json), rows_of(&parquet));
    assert_eq!(json.len(), count);
    for (row, (json, parquet)) in json.iter().zip(&parquet).enumerate() {
        assert_eq!(json, parquet, "{name}, row {row}");
    }
    assert_eq!(parquet.len(), count);
}

#[test]
fn impressions_are_the_same_in_both_forms() {
    let columns = [
        "ts_ms: timestamp_ms!",
        "policy: string",
        "item_id: int64!",
        "position: int64",
        "click: int64",
        "propensity: float64",
        "user_feature_3: string",
    ];
    check("obd/impressions", &columns, 20_000);
}

#[test]
fn edits_are_the_same_in_both_forms() {
    let columns = [
        "ts_ms: timestamp_ms!",
        "user_id: string!",
        "channel: string",
        "page: string",
        "is_robot: bool",
        "added: int64",
        "delta: decimal(12,2)",
    ];
    check("wiki-edits/edits", &columns, 21_373);
}

#[test]
fn views_and_requests_are_the_same_in_both_forms() {
    check("diginetica/views", &["session_id: int64!", "user_id: int64", "ts_ms: timestamp_ms"], 6358);
    let columns = ["line_no: int64!", "path: string!", "bytes: int64", "referrer: string", "user_agent: string"];
    check("web-access-log/requests", &columns, 4525);
    check("otto/events", &["user_id: int64", "ts_ms: timestamp_ms", "event_type: string"], 574);
}
