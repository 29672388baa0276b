//! The tables of a checkpoint as DuckDB sees them: a script with a view for each, over the files where they lie.

use std::collections::BTreeSet;

use riverrun_dataflow::EventTime;
use riverrun_dataflow::operator::STATE_COLUMNS;
use riverrun_dataflow::schema::Hidden;

use super::tables::{Kept, Live, Table, Tables};
use crate::error::StateError;

/// Stands before the names of columns that a view needs and does not show.
const OWN: &str = "__riverrun_";

/// Returns the name of each table's view: its step and its table. DuckDB knows no case, and steps may have `_` in their names: a name that
/// is taken gets a number.
pub fn view_names(tables: &[Table]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let named = |table: &Table| {
        let name = format!("{}_{}", table.step, table.table);
        let with = |number: usize| if number == 1 { name.clone() } else { format!("{name}_{number}") };
        (1..).map(with).find(|name| taken.insert(name.to_lowercase())).expect("some number is free")
    };
    tables.iter().map(named).collect()
}

/// Says what DuckDB needs before it can read from a bucket.
const BUCKET: &str = "-- The files lie in a bucket. DuckDB reads them after: install httpfs; load httpfs; and\n-- create secret (type s3, \
     provider credential_chain); for a store of your own with its endpoint, url_style 'path' and use_ssl.\n";

/// Returns the script that makes a view of every table, with the rows that are kept.
pub fn script(tables: &Tables, kept: &Kept) -> Result<String, StateError> {
    let Tables { job, tick, .. } = tables;
    let mut script =
        format!("-- The state of job {job} after tick {tick}: a view for every table. For DuckDB 1.0 or later.\n");
    if !tables.is_local() {
        script.push_str(BUCKET);
    }
    for (table, name) in tables.tables.iter().zip(view_names(&tables.tables)) {
        let mut parts = Vec::new();
        for (age, live) in table.files.iter().enumerate().filter(|(_, live)| !live.needed.is_empty()) {
            let path = tables.local(&live.file).map(|path| path.display().to_string());
            let Some(path) = path.or_else(|| tables.address(&live.file)) else {
                let reason = "DuckDB cannot reach where it lies".to_string();
                return Err(StateError::Storage { act: "query", what: tables.place(&live.file), reason });
            };
            parts.push(part(table, live, age, &path));
        }
        let from = kept.get(&(table.step.clone(), table.table.clone())).copied();
        script.push_str(&made((table, &name), &parts, from));
    }
    Ok(script)
}

/// Returns the rows of one file that are needed.
fn part(table: &Table, live: &Live, age: usize, path: &str) -> String {
    let path = text(&literal_path(path));
    let read = match table.key_columns {
        0 => format!("select * from read_parquet({path})"),
        // Where a file has a key twice, the later row counts.
        _ => format!(
            "select {age} as {OWN}file, file_row_number as {OWN}row, * exclude (file_row_number) \
             from read_parquet({path}, file_row_number = true)"
        ),
    };
    if live.needed.iter().eq(&live.file.shards) {
        return read;
    }
    let shards: Vec<String> = live.needed.iter().map(u16::to_string).collect();
    format!("{read} where shard in ({})", shards.join(", "))
}

/// Returns the statement that makes the view.
fn made((table, name): (&Table, &str), parts: &[String], from: Option<EventTime>) -> String {
    let name = quoted(name);
    let rows = parts.join("\n  union all by name ");
    let mut columns: Vec<String> = vec![STATE_COLUMNS[1].to_string()];
    let mut rule = String::new();
    if table.key_columns > 0 {
        columns.extend(["file", "row"].map(|column| format!("{OWN}{column}")));
        let fields = &table.schema.fields()[STATE_COLUMNS.len()..][..table.key_columns];
        let keys: Vec<String> = fields.iter().map(|field| quoted(field.name())).collect();
        let newest = format!("order by {OWN}file desc, {OWN}row desc");
        let partition = format!("partition by shard, {}", keys.join(", "));
        rule = format!("\nqualify op = 1 and row_number() over ({partition} {newest}) = 1");
    } else if let Some(from) = from {
        rule = match from {
            EventTime::MAX => "\nwhere false".to_string(),
            EventTime(from) => format!("\nwhere {} >= {from}", quoted(Hidden::Time.name())),
        };
    }
    let hidden = columns.join(", ");
    format!("\ncreate or replace temp view {name} as\nselect * exclude ({hidden}) from (\n  {rows}\n){rule};\n")
}

/// Returns a name that is taken as it is.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text that is taken as it is.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Returns a path that is no pattern: DuckDB takes `*`, `?` and `[` for one.
fn literal_path(path: &str) -> String {
    let one = |c: char| if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { c.to_string() };
    path.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn every_table_has_a_view_of_its_own() {
        let table = |step: &str, table: &str| Table {
            step: step.into(),
            table: table.into(),
            key_columns: 0,
            schema: Arc::new(Schema::empty()),
            files: Vec::new(),
        };
        let tables = [
            table("Orders", "keys"),
            table("a", "b_keys"),
            table("a_b", "keys"),
            table("orders", "keys"),
            table("orders", "keys_2"),
        ];
        let names = view_names(&tables);
        assert_eq!(names, ["Orders_keys", "a_b_keys", "a_b_keys_2", "orders_keys_2", "orders_keys_2_2"]);
    }
}
