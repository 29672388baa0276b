//! The console: rows to standard output, at least once.
//!
//! There is no token: after a crash rows of the last ticks may be printed again. Rows come in the order of a lane. When nobody
//! reads any more (`| head`), rows are dropped and the job goes on.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use riverrun_dataflow::Tick;
use riverrun_dataflow::sink::{Claim, Lane, Promise, Sink, SinkError, TickRows, Token};
use serde_json::value::RawValue;

/// How rows are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConsoleForm {
    /// As they are encoded, one per line.
    #[default]
    Lines,
    /// Rows encoded as JSON in aligned columns, under these names.
    Table(Vec<String>),
}

/// Where the console writes.
type Output = Arc<Mutex<dyn Write + Send>>;

/// Writes rows to standard output, with one lane.
#[derive(Clone)]
pub struct ConsoleSink {
    form: ConsoleForm,
    output: Output,
}

impl ConsoleSink {
    /// Returns a sink that writes to standard output.
    pub fn new(form: ConsoleForm) -> ConsoleSink {
        ConsoleSink::writing_to(form, Arc::new(Mutex::new(io::stdout())))
    }

    /// Returns a sink that writes to `output`.
    pub fn writing_to(form: ConsoleForm, output: Arc<Mutex<dyn Write + Send>>) -> ConsoleSink {
        ConsoleSink { form, output }
    }
}

impl Sink for ConsoleSink {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(1)
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn open(&self, _: u32, _: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        let table = match &self.form {
            ConsoleForm::Lines => None,
            ConsoleForm::Table(names) => Some(Table::new(names.clone())),
        };
        Ok((Box::new(ConsoleLane { output: self.output.clone(), table, closed: false }), None))
    }
}

struct ConsoleLane {
    output: Output,
    table: Option<Table>,
    /// Nobody reads any more.
    closed: bool,
}

impl Lane for ConsoleLane {
    fn commit(&mut self, _: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        if self.closed {
            return Ok(());
        }
        // A thread that died while it wrote leaves no half-kept promise behind: there is none.
        let mut output = self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match write(ticks, self.table.as_mut(), &mut *output) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::info!("nobody reads the console any more");
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(SinkError::Write { what: "the console".to_owned(), reason: error.to_string() }),
            Ok(()) => Ok(()),
        }
    }
}

/// Writes lines tick by tick: a commit that waited for a slow reader is as large as a lane may hold, and need not be there twice.
/// A table is made of all its rows, which are to stand in the same columns.
fn write(ticks: &[TickRows], table: Option<&mut Table>, output: &mut dyn Write) -> io::Result<()> {
    fn rows(tick: &TickRows) -> impl Iterator<Item = &[u8]> {
        (0..tick.rows.len()).map(|row| tick.rows.key_value(row).1)
    }
    let mut text = Vec::new();
    if let Some(table) = table {
        table.push(&ticks.iter().flat_map(rows).collect::<Vec<_>>(), &mut text);
        output.write_all(&text)?;
    } else {
        for tick in ticks {
            text.clear();
            rows(tick).for_each(|row| {
                text.extend_from_slice(row);
                text.push(b'\n');
            });
            output.write_all(&text)?;
        }
    }
    output.flush()
}

/// Rows in aligned columns. Columns only become wider; the head is printed again when one does.
struct Table {
    names: Vec<String>,
    widths: Vec<usize>,
    /// The widths under which the head was last printed.
    shown: Vec<usize>,
}

/// Characters of a cell that are shown.
const CELL_MAX: usize = 40;

impl Table {
    fn new(names: Vec<String>) -> Table {
        let widths = names.iter().map(|name| name.chars().count()).collect();
        Table { names, widths, shown: Vec::new() }
    }

    fn push(&mut self, rows: &[&[u8]], out: &mut Vec<u8>) {
        let cells: Vec<Vec<Cell>> = rows.iter().map(|row| self.cells(row)).collect();
        for row in &cells {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if self.shown != self.widths && !cells.is_empty() {
            self.shown.clone_from(&self.widths);
            let head = |name: &String| Cell { text: name.clone(), right: false };
            self.line(&self.names.iter().map(head).collect::<Vec<_>>(), out);
            let rule = |width: &usize| Cell { text: "-".repeat(*width), right: false };
            self.line(&self.widths.iter().map(rule).collect::<Vec<_>>(), out);
        }
        for row in &cells {
            self.line(row, out);
        }
    }

    fn cells(&self, row: &[u8]) -> Vec<Cell> {
        let fields: std::collections::HashMap<String, &RawValue> = serde_json::from_slice(row).unwrap_or_default();
        let cell = |name: &String| Cell::of(fields.get(name).map_or("null", |value| value.get()));
        self.names.iter().map(cell).collect()
    }

    fn line(&self, cells: &[Cell], out: &mut Vec<u8>) {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            let gap = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let (before, after) = if cell.right { (gap.as_str(), "") } else { ("", gap.as_str()) };
            line.extend([before, &cell.text, after, "  "]);
        }
        out.extend_from_slice(line.trim_end().as_bytes());
        out.push(b'\n');
    }
}

struct Cell {
    text: String,
    /// Numbers stand at the right.
    right: bool,
}

impl Cell {
    fn of(value: &str) -> Cell {
        let text = match serde_json::from_str::<String>(value) {
            Ok(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            Err(_) if value == "null" => String::new(),
            Err(_) => value.to_owned(),
        };
        let right = value.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if text.chars().count() <= CELL_MAX {
            return Cell { text, right };
        }
        let cut: String = text.chars().take(CELL_MAX - 1).collect();
        Cell { text: cut + "…", right }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(form: ConsoleForm, commits: &[&[&str]]) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let claim = Claim {
            job: "j".into(),
            incarnation: "i".into(),
            sink: "s".into(),
            generation: 1,
            fresh: true,
            append: false,
        };
        let sink = ConsoleSink::writing_to(form, written.clone());
        let (mut lane, token) = sink.open(0, &claim).unwrap();
        assert_eq!((token, sink.promise()), (None, Promise::AtLeastOnce));
        for (tick, rows) in commits.iter().enumerate() {
            let mut given = TickRows { tick: tick as Tick, ..TickRows::default() };
            for row in *rows {
                given.rows.bytes.extend_from_slice(row.as_bytes());
                given.rows.end_row(None);
            }
            lane.commit(tick as Tick, &[given]).unwrap();
        }
        let written = written.lock().unwrap();
        String::from_utf8(written.clone()).unwrap()
    }

    #[test]
    fn lines_are_printed_as_they_are() {
        assert_eq!(printed(ConsoleForm::Lines, &[&["{\"a\":1}", "x"], &[], &["y"]]), "{\"a\":1}\nx\ny\n");
    }

    #[test]
    fn a_table_is_aligned_and_grows() {
        let names = vec!["item".to_owned(), "n".to_owned()];
        let rows: [&[&str]; 2] = [
            &[r#"{"item":"ä\n","n":10}"#, r#"{"n":-5,"item":null}"#],
            &[&format!(r#"{{"item":"{}","n":1.50}}"#, "x".repeat(50))],
        ];
        let wide = format!("{}…", "x".repeat(39));
        let expected = format!(
            "item  n\n----  --\nä     10\n      -5\nitem{}  n\n{}  ----\n{wide}  1.50\n",
            " ".repeat(36),
            "-".repeat(40)
        );
        assert_eq!(printed(ConsoleForm::Table(names), &rows), expected);
    }

    #[test]
    fn a_large_commit_is_not_there_twice() {
        /// Knows the largest piece that it was given.
        struct Pieces(usize);
        impl Write for Pieces {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.max(bytes.len());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut rows = TickRows::default();
        rows.rows.bytes.resize(1000, b'x');
        rows.rows.end_row(None);
        let output = Arc::new(Mutex::new(Pieces(0)));
        let mut lane = ConsoleLane { output: output.clone(), table: None, closed: false };
        lane.commit(1, &vec![rows; 50]).unwrap();
        assert_eq!(output.lock().unwrap().0, 1001);
    }

    #[test]
    fn a_closed_pipe_ends_the_printing_not_the_job() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut lane = ConsoleLane { output: Arc::new(Mutex::new(Closed)), table: None, closed: false };
        lane.commit(1, &[TickRows::default()]).unwrap();
        let mut rows = TickRows::default();
        rows.rows.bytes.push(b'x');
        rows.rows.end_row(None);
        lane.commit(2, std::slice::from_ref(&rows)).unwrap();
        assert!(lane.closed);
        lane.commit(3, &[rows]).unwrap();
    }
}
