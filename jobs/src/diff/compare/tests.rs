//! What differs is what a naive comparison of the tables says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::sorter::Sorter;
use super::super::stream::Stream;
use super::*;

fn stream(form: Form, subject: Subject, key: &[&str], columns: &[&str]) -> Stream {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let places = [Some(0), Some(0)];
    Stream {
        name: "s".into(),
        key: owned(key),
        form,
        subject,
        columns: owned(columns),
        is_wider_in_one: false,
        notes: Vec::new(),
        places,
    }
}

fn sorted(entries: Vec<Entry>) -> Sorted {
    let folder = tempfile::tempdir().unwrap();
    // Little enough that some of it goes to disk.
    let mut sorter = Sorter::new(folder.path(), 8000);
    entries.into_iter().for_each(|entry| sorter.push(entry).unwrap());
    sorter.sorted().unwrap()
}

fn differences(stream: &Stream, a: Vec<Entry>, b: Vec<Entry>) -> (Tally, Vec<Change>) {
    let mut changes = Vec::new();
    let tally = compare(stream, [sorted(a), sorted(b)], &mut |change| {
        changes.push(change);
        Ok(())
    });
    (tally.unwrap(), changes)
}

fn entry(key: &str, rank: i64, row: serde_json::Value, is_minus: bool) -> Entry {
    Entry { key: key.as_bytes().to_vec(), rank, row: row.to_string().into_bytes(), is_minus }
}

fn plain(key: u8, value: u8) -> Entry {
    entry(&key.to_string(), i64::MIN, json!({ "k": key, "v": value }), false)
}

#[test]
fn an_order_that_is_credited_otherwise_is_told_once_whatever_its_rows() {
    let stream = stream(Form::Rows, Subject::Credits, &["o"], &["o", "touch_id", "weight"]);
    let row = |order: &str, touch: Option<&str>, weight: u32| {
        entry(order, i64::MIN, json!({ "o": order, "touch_id": touch, "weight": weight }), false)
    };
    let a = vec![
        row("1", Some("x"), 1),
        row("1", Some("y"), 1),
        row("2", None, 0),
        row("3", Some("x"), 1),
        row("4", None, 0),
    ];
    let b = vec![
        row("1", Some("z"), 1),
        row("1", Some("u"), 1),
        row("2", Some("x"), 1),
        row("3", None, 0),
        row("4", None, 5),
    ];
    let (tally, changes) = differences(&stream, a, b);
    assert_eq!(tally.credits, Credits { moved: 1, gained: 1, lost: 1 });
    assert_eq!((tally.same, tally.changed, tally.only_a, tally.only_b), (0, 5, 0, 0));
    assert_eq!(tally.columns, [0, 4, 3]);
    assert!(matches!(&changes[4], Change::Changed { columns, .. } if *columns == [2]));
}

#[test]
fn of_many_rows_of_one_key_those_most_alike_go_together() {
    let stream = stream(Form::Rows, Subject::Rows, &["k"], &["k", "v", "w"]);
    let row = |v: &str, w: &str| entry("1", i64::MIN, json!({ "k": 1, "v": v, "w": w }), false);
    let (_, changes) = differences(&stream, vec![row("a", "1"), row("b", "2")], vec![row("b", "9"), row("c", "1")]);
    let texts: Vec<(&str, &str)> = changes
        .iter()
        .map(|change| match change {
            Change::Changed { a, b, .. } => (a.as_str(), b.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        texts,
        [
            (r#"{"k":1,"v":"a","w":"1"}"#, r#"{"k":1,"v":"c","w":"1"}"#),
            (r#"{"k":1,"v":"b","w":"2"}"#, r#"{"k":1,"v":"b","w":"9"}"#)
        ]
    );
}

#[test]
fn a_row_that_is_taken_back_more_often_than_given_equals_nothing() {
    let stream = stream(Form::Signed, Subject::Rows, &["k"], &["k"]);
    let row = |is_minus| entry("1", i64::MIN, json!({ "k": 1 }), is_minus);
    let (tally, changes) = differences(&stream, vec![row(true)], vec![row(false)]);
    assert_eq!((tally.same, tally.changed), (0, 1));
    assert_eq!(changes, [Change::Changed { a: r#"-{"k":1}"#.into(), b: r#"{"k":1}"#.into(), columns: vec![] }]);
}

#[test]
fn a_flood_of_rows_of_one_key_is_compared_in_bounded_memory() {
    let stream = stream(Form::Rows, Subject::Rows, &["k"], &["k", "v"]);
    let many =
        |from: u32| (from..from + 3000).map(|v| entry("1", i64::MIN, json!({ "k": 1, "v": v }), false)).collect();
    let (tally, changes) = differences(&stream, many(0), many(1000));
    assert_eq!(tally.same, 2000);
    assert_eq!(tally.changed * 2 + tally.only_a + tally.only_b, 2000);
    assert_eq!(changes.len() as u64, tally.changed + tally.only_a + tally.only_b);
}

/// Rows of few keys and values, so that many are equal.
fn rows() -> impl Strategy<Value = Vec<(u8, i64, u8, bool)>> {
    proptest::collection::vec((0_u8..6, 0_i64..4, 0_u8..3, any::<bool>()), 0..120)
}

/// The table as the plainest reading gives it: by key, each row and how often it stands.
fn table(form: Form, rows: &[(u8, i64, u8, bool)]) -> BTreeMap<u8, BTreeMap<u8, i64>> {
    let mut table: BTreeMap<u8, BTreeMap<u8, i64>> = BTreeMap::new();
    for (key, rev, value, is_minus) in rows {
        let standing = table.entry(*key).or_default();
        match form {
            Form::Rows => *standing.entry(*value).or_default() += 1,
            Form::Signed => *standing.entry(*value).or_default() += if *is_minus { -1 } else { 1 },
            Form::Revised => {
                let newest = rows.iter().filter(|row| row.0 == *key).map(|row| (row.1, row.2)).max();
                if newest == Some((*rev, *value)) {
                    *standing = BTreeMap::from([(*value, 1)]);
                }
            }
        }
    }
    table.values_mut().for_each(|standing| standing.retain(|_, count| *count != 0));
    table.retain(|_, standing| !standing.is_empty());
    table
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn tallies_are_those_of_a_naive_comparison(
        a in rows(),
        b in rows(),
        form in prop_oneof![Just(Form::Rows), Just(Form::Signed), Just(Form::Revised)],
    ) {
        let entries = |rows: &[(u8, i64, u8, bool)]| {
            let of = |(key, rev, value, is_minus): &(u8, i64, u8, bool)| {
                let row = plain(*key, *value);
                match form {
                    Form::Rows => row,
                    Form::Signed => Entry { is_minus: *is_minus, ..row },
                    Form::Revised => Entry { rank: *rev, ..row },
                }
            };
            rows.iter().map(of).collect::<Vec<_>>()
        };
        let (tally, changes) = differences(&stream(form, Subject::Rows, &["k"], &["k", "v"]), entries(&a), entries(&b));
        let (one, two) = (table(form, &a), table(form, &b));
        let (mut same, mut changed, mut only) = (0, 0, [0, 0]);
        let keys: std::collections::BTreeSet<u8> = one.keys().chain(two.keys()).copied().collect();
        for key in keys {
            let empty = BTreeMap::new();
            let (x, y) = (one.get(&key).unwrap_or(&empty), two.get(&key).unwrap_or(&empty));
            // A count below zero is another row than one above.
            let of = |table: &BTreeMap<u8, i64>, value: u8, sign: i64| table.get(&value).map_or(0, |n| (n * sign).max(0));
            let (mut left, mut right) = (0, 0);
            for (value, sign) in (0..3).flat_map(|value| [(value, 1), (value, -1)]) {
                let (m, n) = (of(x, value, sign), of(y, value, sign));
                same += m.min(n);
                left += m - m.min(n);
                right += n - m.min(n);
            }
            changed += left.min(right);
            only[0] += left - left.min(right);
            only[1] += right - left.min(right);
        }
        let found = (tally.same as i64, tally.changed as i64, [tally.only_a as i64, tally.only_b as i64]);
        prop_assert_eq!(found, (same, changed, only));
        prop_assert_eq!(changes.len() as i64, changed + only[0] + only[1]);
    }
}
