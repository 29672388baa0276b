//! `riverrun checkpoints query`: SQL over a job's state, by DuckDB where it is at hand, as a script where it is not.

use riverrun_dataflow::operator::STATE_COLUMNS;
use riverrun_state::StateError;
use riverrun_state::inspect::script::{script, view};
use riverrun_state::inspect::tables::{Kept, Tables};
use serde::Serialize;
use tempfile::TempDir;

use super::duckdb::{Duck, Results};
use super::{Looked, failed};
use crate::args::{At, CheckpointsQueryArgs, Global};
use crate::exit::{Done, Exit, Failure};
use crate::output::{self, Format, Stdout, grouped};

/// How often a query is asked again because a running job collected the checkpoint meanwhile.
const ATTEMPTS: usize = 3;

/// Answers the query, or lists what can be asked.
pub fn query(args: &CheckpointsQueryArgs, global: &Global) -> Done {
    let looked = Looked::at(&args.job, &args.set, global)?;
    let (tables, kept) = looked.tables(args.checkpoint)?;
    looked.note(&tables, global);
    let mut stdout = Stdout::lock();
    match (&args.sql, args.print_script) {
        (None, false) => list(&tables, &kept, global, &mut stdout)?,
        (sql, true) => print(&tables, &kept, sql.as_deref(), &mut stdout)?,
        (Some(sql), false) => {
            let Some(duck) = Duck::find() else {
                let found = "DuckDB is not at hand: there is neither a `duckdb` nor a `python3` with the module duckdb";
                if global.output == Format::Table {
                    print(&tables, &kept, Some(sql), &mut stdout)?;
                    stdout.flush()?;
                }
                let hint = "install one of them, or give what --print-script prints to a DuckDB elsewhere";
                return Err(Failure::new(Exit::NotFound, format!("{found}\n  hint: {hint}")));
            };
            let results = ask(&looked, (tables, kept), sql, args.checkpoint, &duck)?;
            results.iter().try_for_each(|result| show(result, global, &mut stdout))?;
        }
    }
    stdout.flush()
}

fn print(tables: &Tables, kept: &Kept, sql: Option<&str>, stdout: &mut Stdout) -> Done {
    let mut text = script(tables, kept).map_err(failed)?;
    if let Some(sql) = sql {
        text.push_str(&format!("\n{};\n", sql.trim().trim_end_matches(';')));
    }
    stdout.bytes(text.as_bytes())
}

/// Asks; again, of the checkpoint that is then the newest, if the job collected the files under DuckDB's hands.
fn ask(looked: &Looked, first: (Tables, Kept), sql: &str, at: At, duck: &Duck) -> Result<Vec<Results>, Failure> {
    let (mut tables, mut kept) = first;
    for attempt in 1.. {
        let _copies = match copied(&mut tables) {
            Ok(copies) => copies,
            Err(StateError::Damaged { .. }) if attempt < ATTEMPTS => {
                (tables, kept) = looked.tables(at)?;
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let views = script(&tables, &kept).map_err(failed)?;
        let failure = match duck.ask(&views, sql) {
            Ok(results) => return Ok(results),
            Err(failure) => failure,
        };
        let files = || tables.tables.iter().flat_map(|table| &table.files);
        let is_whole = files().all(|live| tables.local(&live.file).is_some_and(|path| path.exists()));
        if is_whole || attempt == ATTEMPTS {
            return Err(failure);
        }
        (tables, kept) = looked.tables(at)?;
    }
    unreachable!("the last attempt returns")
}

/// Copies what lies in a bucket to a folder that goes with what is returned: DuckDB may know no buckets, and has no credentials.
fn copied(tables: &mut Tables) -> Result<Option<TempDir>, StateError> {
    if tables.is_local() {
        return Ok(None);
    }
    let folder = TempDir::new().map_err(|error| StateError::storage("write", "a temporary folder", &error))?;
    tables.copy_to(folder.path())?;
    Ok(Some(folder))
}

/// A view that can be asked.
#[derive(Serialize)]
struct View<'a> {
    view: String,
    step: &'a str,
    table: &'a str,
    tick: u64,
    rows: u64,
    columns: Vec<Column<'a>>,
}

#[derive(Serialize)]
struct Column<'a> {
    name: &'a str,
    r#type: String,
    /// It is part of the key; the shard is a function of it.
    key: bool,
}

fn list(tables: &Tables, kept: &Kept, global: &Global, stdout: &mut Stdout) -> Done {
    let mut views = Vec::new();
    for table in &tables.tables {
        let rows = tables.count(table, kept).map_err(failed)?;
        let fields = table.schema.fields().iter().enumerate().filter(|(_, field)| field.name() != STATE_COLUMNS[1]);
        let columns = fields.map(|(at, field)| Column {
            name: field.name(),
            r#type: field.data_type().to_string(),
            key: (STATE_COLUMNS.len()..STATE_COLUMNS.len() + table.key_columns).contains(&at),
        });
        let (columns, tick) = (columns.collect(), tables.tick);
        views.push(View { view: view(table), step: &table.step, table: &table.table, tick, rows, columns });
    }
    match global.output {
        Format::Json => stdout.document(&views),
        Format::Table => {
            let mut lines = Vec::new();
            for view in &views {
                let (mut name, mut rows) = (view.view.clone(), grouped(view.rows));
                for column in &view.columns {
                    let key = if column.key { "key" } else { "" };
                    let cells = [column.name, &column.r#type, key].map(str::to_owned);
                    lines.push([vec![std::mem::take(&mut name), std::mem::take(&mut rows)], cells.to_vec()].concat());
                }
            }
            stdout.line(&output::table(&["view", "rows", "column", "type", ""], &[1], lines).to_string())?;
            if !global.quiet {
                eprintln!("\njob `{}` after tick {}", tables.job, grouped(tables.tick));
            }
            Ok(())
        }
    }
}

fn show(results: &Results, global: &Global, stdout: &mut Stdout) -> Done {
    match global.output {
        Format::Json => stdout.document(&results.0),
        Format::Table => stdout.line(&results.table().to_string()),
    }
}
