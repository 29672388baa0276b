//! `riverrun checkpoints diff`: what changed in a job's state between two checkpoints.

use riverrun_state::inspect::tables::{self, Change, Difference, Kind};
use serde_json::{Map, Value};

use super::Looked;
use crate::args::{CheckpointsDiffArgs, Global};
use crate::exit::Done;
use crate::output::{self, Format, Stdout, grouped};

/// Shows the differences.
pub fn diff(args: &CheckpointsDiffArgs, global: &Global) -> Done {
    let looked = Looked::at(&args.job, &args.set, "other ticks may be whole", global)?;
    let (from, kept_from) = looked.tables(args.from)?;
    let (to, kept_to) = looked.tables(args.to)?;
    looked.note(&to, global);
    let difference = tables::diff((&from, &kept_from), (&to, &kept_to), args.limit);
    let difference = difference.map_err(|error| looked.unreadable(error))?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&difference)?,
        Format::Table => show(&difference, args.limit, &mut stdout)?,
    }
    stdout.flush()
}

fn show(difference: &Difference, limit: usize, stdout: &mut Stdout) -> Done {
    let row = |table: &tables::TableDifference| {
        let counts = [table.added, table.removed, table.changed, table.same].map(grouped);
        let counts = if table.other_columns.is_some() { [const { String::new() }; 4] } else { counts };
        [vec![format!("{}.{}", table.step, table.table)], counts.to_vec()].concat()
    };
    let rows = difference.tables.iter().map(row).collect();
    stdout.line(&output::table(&["table", "added", "removed", "changed", "same"], &[1, 2, 3, 4], rows).to_string())?;
    for table in &difference.tables {
        let name = format!("{}.{}", table.step, table.table);
        if let Some(columns) = &table.other_columns {
            stdout.line(&format!("\n{name} cannot be compared: it has the columns {columns}"))?;
        }
        if table.rows.is_empty() {
            continue;
        }
        let all = table.added + table.removed + table.changed;
        let shown = if all > limit as u64 { format!(", the first {limit} of {}", grouped(all)) } else { String::new() };
        stdout.line(&format!("\n{name}{shown}"))?;
        let rows = table.rows.iter().map(cells).collect();
        stdout.line(&output::table(&["", "shard", "row", "before", "after"], &[1], rows).to_string())?;
    }
    Ok(())
}

fn cells(change: &Change) -> Vec<String> {
    let sign = match change.change {
        Kind::Added => "+",
        Kind::Removed => "-",
        Kind::Changed => "~",
    };
    let of = |row: &Option<Map<String, Value>>| row.as_ref().map(pairs).unwrap_or_default();
    vec![sign.to_owned(), change.shard.to_string(), pairs(&change.key), of(&change.before), of(&change.after)]
}

fn pairs(row: &Map<String, Value>) -> String {
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    };
    row.iter().map(pair).collect::<Vec<_>>().join(" ")
}
