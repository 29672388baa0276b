//! `riverrun checkpoints query`: SQL over a job's state, by DuckDB where it is at hand, as a script where it is not.

use riverrun_state::StateError;
use riverrun_state::inspect::script::script;
use riverrun_state::inspect::tables::{Kept, Tables};
use tempfile::TempDir;

use super::duckdb::{Duck, Results};
use super::views::View;
use super::{Looked, failed};
use crate::args::{At, CheckpointsQueryArgs, Global};
use crate::client::Remote;
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::output::{self, Format, Stdout, grouped};

/// How often a query is asked again because a running job collected the checkpoint meanwhile.
const ATTEMPTS: usize = 3;

/// Answers the query, or lists what can be asked.
pub fn query(args: &CheckpointsQueryArgs, global: &Global) -> Done {
    if args.sql.as_deref().is_some_and(|sql| statement(sql).is_empty()) {
        let message =
            "there is no SQL to answer\n  hint: without an argument for it, the tables that can be asked are listed";
        return Err(Failure::new(Exit::Usage, message));
    }
    if let Some(remote) = Remote::of(&args.job, global)? {
        return query_remote(args, &remote, global);
    }
    let looked = Looked::at(&args.job, &args.set, "`--checkpoint T` asks an older one", global)?;
    let (tables, kept) = looked.tables(args.checkpoint)?;
    looked.note(&tables, global);
    let mut stdout = Stdout::lock();
    match (&args.sql, args.print_script) {
        (None, false) => {
            let views = View::all(&tables, &kept).map_err(|error| looked.unreadable(error))?;
            list(&tables.job, Some(tables.tick), &views, global, &mut stdout)?;
        }
        (sql, true) => print(&tables, &kept, sql.as_deref(), &mut stdout)?,
        (Some(sql), false) => {
            let Some(duck) = Duck::find() else {
                if global.output == Format::Table {
                    print(&tables, &kept, Some(sql), &mut stdout)?;
                    stdout.flush()?;
                }
                return Err(no_duck("give what --print-script prints to a DuckDB elsewhere"));
            };
            let results = ask(&looked, (tables, kept), sql, args.checkpoint, &duck)?;
            results.iter().try_for_each(|result| show(result, global, &mut stdout))?;
        }
    }
    stdout.flush()
}

fn no_duck(otherwise: &str) -> Failure {
    let found = "DuckDB is not at hand: there is neither a `duckdb` nor a `python3` with the module duckdb";
    Failure::new(Exit::NotFound, format!("{found}\n  hint: install one of them, or {otherwise}"))
}

/// Answers the query with the state of a job that a manager keeps. Its files are fetched, and asked here: what SQL can reach on the
/// manager's machine is none of a caller's business.
fn query_remote(args: &CheckpointsQueryArgs, remote: &Remote, global: &Global) -> Done {
    let mut stdout = Stdout::lock();
    let Some(sql) = &args.sql else {
        if args.print_script {
            let message = "--print-script is for state that is here\n  hint: give SQL, or leave the option out to list the tables";
            return Err(Failure::new(Exit::Usage, message));
        }
        let views = remote.views(args.checkpoint)?;
        list(&args.job.job, views.first().map(|view| view.tick), &views, global, &mut stdout)?;
        return stdout.flush();
    };
    let duck = Duck::find().ok_or_else(|| no_duck("ask on a machine that has one"))?;
    let folder = TempDir::new().or_exit(Exit::Storage, || "cannot make a temporary folder".to_owned())?;
    let views = remote.fetch(args.checkpoint, folder.path())?;
    duck.ask(&views, sql)?.iter().try_for_each(|result| show(result, global, &mut stdout))?;
    stdout.flush()
}

fn print(tables: &Tables, kept: &Kept, sql: Option<&str>, stdout: &mut Stdout) -> Done {
    let mut text = script(tables, kept).map_err(failed)?;
    if let Some(sql) = sql {
        text.push_str(&format!("\n{};\n", statement(sql)));
    }
    stdout.bytes(text.as_bytes())
}

/// Returns `sql` without what ends it.
fn statement(sql: &str) -> &str {
    sql.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
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
            Err(error) => return Err(looked.unreadable(error)),
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

/// Lists the tables; `tick` is that of their checkpoint, if it is known.
fn list(job: &str, tick: Option<u64>, views: &[View], global: &Global, stdout: &mut Stdout) -> Done {
    match global.output {
        Format::Json => stdout.document(&views),
        Format::Table => {
            let mut lines = Vec::new();
            for view in views {
                let (mut name, mut rows) = (view.view.clone(), grouped(view.rows));
                for column in &view.columns {
                    let key = if column.key { "key" } else { "" };
                    let cells = [column.name.as_str(), &column.r#type, key].map(str::to_owned);
                    lines.push([vec![std::mem::take(&mut name), std::mem::take(&mut rows)], cells.to_vec()].concat());
                }
            }
            stdout.line(&output::table(&["view", "rows", "column", "type", ""], &[1], lines).to_string())?;
            if !global.quiet {
                let after = tick.map_or(String::new(), |tick| format!(" after tick {}", grouped(tick)));
                let none = if views.is_empty() { ": no table is in its state" } else { "" };
                eprintln!("\njob `{job}`{after}{none}");
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
