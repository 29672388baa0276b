//! Output: data goes to stdout, as a table for people or as JSON for programs; talk goes to stderr.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use riverrun_dataflow::balance::Counts;
use serde::Serialize;

use crate::exit::{Done, Failure};

/// The form of data on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one document, or one line per row where rows keep coming.
    Json,
}

/// Whether stderr is a terminal on which a line may be drawn again and colours mean something.
pub fn stderr_is_lively() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether colours are wanted: on a terminal, unless NO_COLOR says otherwise.
pub fn stderr_has_colours() -> bool {
    stderr_is_lively() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Stdout, whose reader may go away at any time.
pub struct Stdout {
    out: BufWriter<StdoutLock<'static>>,
}

impl Stdout {
    /// Locks stdout for this command.
    pub fn lock() -> Stdout {
        Stdout { out: BufWriter::new(io::stdout().lock()) }
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Done {
        self.out.write_all(bytes).map_err(Failure::stdout)
    }

    /// Writes a line.
    pub fn line(&mut self, line: &str) -> Done {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a document of JSON, indented.
    pub fn document(&mut self, value: &impl Serialize) -> Done {
        let text = serde_json::to_string_pretty(value).expect("our own types are representable");
        self.line(&text)
    }

    /// Writes one line of JSON.
    pub fn json_line(&mut self, value: &impl Serialize) -> Done {
        let text = serde_json::to_string(value).expect("our own types are representable");
        self.line(&text)
    }

    /// Hands everything on.
    pub fn flush(&mut self) -> Done {
        self.out.flush().map_err(Failure::stdout)
    }
}

/// Returns a table in our one style. Columns named in `numbers` are right-aligned.
pub fn table(header: &[&str], numbers: &[usize], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    for column in numbers {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Returns a balance as a table: a line per source and step.
pub fn balance(balance: &BTreeMap<String, Counts>) -> Table {
    let row = |(name, counts): (&String, &Counts)| {
        let numbers =
            [counts.input, counts.taken, counts.filtered, counts.late, counts.bad, counts.duplicate, counts.out];
        let mut row = vec![name.clone()];
        row.extend(numbers.map(grouped));
        row
    };
    let header = ["step", "in", "taken", "filtered", "late", "bad", "duplicate", "out"];
    table(&header, &[1, 2, 3, 4, 5, 6, 7], balance.iter().map(row).collect())
}

/// Returns how many there are of what is called `one`: `1 fault`, `2 faults`.
pub fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Returns a number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Returns bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a size for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1 000"), (12_345_678, "12 345 678")];
        assert!(cases.iter().all(|(number, text)| grouped(*number) == *text));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}
