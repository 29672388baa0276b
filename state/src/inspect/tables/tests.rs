//! The tables of a checkpoint against the rows that were put in.

use serde_json::json;

use super::*;
use crate::inspect::script::script;
use crate::tests::model::{Model, entry, inputs, parts, run, start, store, tokens};

fn at(dir: &std::path::Path, tick: Option<Tick>) -> Tables {
    tables(store(dir), "j", tick).unwrap().unwrap()
}

/// A job whose table is changed, thinned out and rebased over many checkpoints; returns the rows at each.
fn long_run(dir: &std::path::Path, checkpoints: Tick) -> BTreeMap<Tick, crate::tests::model::Rows> {
    let mut started = start(dir);
    started.append_inputs(inputs()).unwrap();
    let (_, mut job) = started.recover(&tokens(0)).unwrap();
    let (mut model, mut snapshots) = (Model::default(), BTreeMap::new());
    for tick in 1..=checkpoints {
        for key in 0..40 {
            let shard = (key % 8) as u16;
            // Half of the shards change rarely: their bases last longer.
            if shard % 2 == 1 && tick % 5 != 1 {
                continue;
            }
            match (tick as i64 * 7 + key) % 5 {
                0 => model.set(shard, key, None),
                1 | 2 => model.set(shard, key, Some(Some(format!("v{tick}")))),
                3 => model.set(shard, key, Some(None)),
                _ => {}
            }
        }
        job.journal.append_ticks(&[entry(tick, 1)]).unwrap();
        let files = model.freeze(&*job.states, tick, 2);
        job.journal.append_checkpoint(parts(tick, files)).unwrap();
        snapshots.insert(tick, model.rows.clone());
    }
    snapshots
}

#[test]
fn the_rows_are_those_that_the_step_had() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = long_run(dir.path(), 12);
    for (tick, rows) in &snapshots {
        let found = at(dir.path(), Some(*tick));
        let table = &found.tables[0];
        assert_eq!((table.step.as_str(), table.table.as_str(), table.key_columns), ("s", "t", 1));
        assert_eq!(columns(table), "key Int64, value Utf8");
        assert_eq!(found.count(table, &Kept::new()).unwrap(), rows.len() as u64, "tick {tick}");
    }
    assert!(tables(store(dir.path()), "j", Some(99)).unwrap().is_none());
    let newest = at(dir.path(), None);
    assert_eq!(newest.tick, 12);
    let partly = |live: &Live| live.needed.len() < live.file.shards.len();
    assert!((1..=12).any(|tick| at(dir.path(), Some(tick)).tables[0].files.iter().any(partly)), "some are superseded");
}

#[test]
fn a_difference_is_what_changed_in_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = long_run(dir.path(), 12);
    let none = Kept::new();
    for (from, to) in [(1, 12), (3, 4), (12, 2), (5, 5)] {
        let (a, b) = (at(dir.path(), Some(from)), at(dir.path(), Some(to)));
        let difference = diff((&a, &none), (&b, &none), 3).unwrap();
        let (old, new) = (&snapshots[&from], &snapshots[&to]);
        let table = &difference.tables[0];
        assert_eq!(table.added, new.keys().filter(|key| !old.contains_key(key)).count() as u64);
        assert_eq!(table.removed, old.keys().filter(|key| !new.contains_key(key)).count() as u64);
        assert_eq!(table.same, new.iter().filter(|(key, value)| old.get(key) == Some(value)).count() as u64);
        assert_eq!(table.same + table.changed + table.added, new.len() as u64);
        assert_eq!(table.rows.len() as u64, (table.added + table.removed + table.changed).min(3));
        for row in &table.rows {
            let place = (row.shard, row.key["key"].as_i64().unwrap());
            let value = |rows: &crate::tests::model::Rows| rows.get(&place).map(|value| json!(value));
            assert_eq!(row.before.as_ref().map(|it| it["value"].clone()), value(old));
            assert_eq!(row.after.as_ref().map(|it| it["value"].clone()), value(new));
        }
    }
}

#[test]
fn a_script_names_files_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("it's [a] \"folder\"");
    std::fs::create_dir(&odd).unwrap();
    run(&odd, 6, &[3, 6]);
    let text = script(&at(&odd, None), &Kept::new()).unwrap();
    assert!(text.contains(r#"it''s [[]a] "folder"/jobs/j/state/"#), "{text}");
    assert!(text.contains(r#"create or replace temp view "s_t" as"#), "{text}");
    assert!(text.contains(r#"partition by shard, "key" order"#), "{text}");
}
