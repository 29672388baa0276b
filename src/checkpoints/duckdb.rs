//! DuckDB as another process: its command line, or Python with its module, whichever is on the PATH.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::exit::{Exit, Failure, OrExit};
use crate::output;

/// Runs the script on stdin and writes the rows of every statement that has any, as the command line does.
const PROGRAM: &str = include_str!("duckdb.py");

/// A DuckDB that was found.
pub enum Duck {
    /// The command line.
    Cli(PathBuf),
    /// Python with the module `duckdb`.
    Python(PathBuf),
}

impl Duck {
    /// Looks for one on the PATH.
    pub fn find() -> Option<Duck> {
        let path = std::env::var_os("PATH")?;
        let find = |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|it| it.is_file());
        find("duckdb").map(Duck::Cli).or_else(|| find("python3").filter(|python| has_module(python)).map(Duck::Python))
    }

    /// Makes the views, asks, and returns the rows of every statement of `sql` that has any.
    pub fn ask(&self, views: &str, sql: &str) -> Result<Vec<Results>, Failure> {
        let mut command = match self {
            // What the user has set up for interactive use must not reach the output.
            Duck::Cli(program) => {
                let mut command = Command::new(program);
                command.args(["-init", "/dev/null", "-bail", "-json"]);
                command
            }
            Duck::Python(program) => {
                let mut command = Command::new(program);
                command.args(["-c", PROGRAM]);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let cannot = || "cannot run DuckDB".to_owned();
        let mut child = command.spawn().or_exit(Exit::Failed, cannot)?;
        let mut stdin = child.stdin.take().expect("it was asked for");
        let script = format!("{views}\n{}\n;\n", sql.trim().trim_end_matches(';'));
        let writing = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
        let output = child.wait_with_output().or_exit(Exit::Failed, cannot)?;
        // A DuckDB that ended before it had read all says why on stderr.
        let _ = writing.join();
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || said.contains("Error:") {
            return Err(Failure::new(Exit::Failed, format!("DuckDB cannot answer: {}", said.trim())));
        }
        // Some versions write this where there are no rows.
        let text = String::from_utf8_lossy(&output.stdout).replace("[{]", "[]");
        let results: Result<Vec<Results>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
        results.or_exit(Exit::Failed, || "cannot read what DuckDB answers".to_owned())
    }
}

fn has_module(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import duckdb"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The rows of a statement.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub struct Results(pub Vec<Row>);

impl Results {
    /// Returns them as a table, columns named as they are.
    pub fn table(&self) -> comfy_table::Table {
        let header: Vec<&str> = self.0.first().map_or_else(Vec::new, |row| row.names().collect());
        let cells = self.0.iter().map(|row| row.0.iter().map(|(_, value)| plain(value)).collect()).collect();
        let is_number = |at: &usize| {
            let values = || self.0.iter().filter_map(|row| row.0.get(*at)).filter(|(_, value)| value.get() != "null");
            values().next().is_some() && values().all(|(_, value)| plain(value).parse::<f64>().is_ok())
        };
        let numbers: Vec<usize> = (0..header.len()).filter(is_number).collect();
        let mut table = output::table(&header, &numbers, cells);
        table.set_header(header);
        table
    }
}

/// A row: its columns in order, of which two may have one name.
pub struct Row(Vec<(String, Box<RawValue>)>);

impl Row {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// Returns a value as a person reads it.
fn plain(value: &RawValue) -> String {
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Row, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Row;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut row = Vec::new();
                while let Some(column) = map.next_entry()? {
                    row.push(column);
                }
                Ok(Row(row))
            }
        }
        deserializer.deserialize_map(Columns)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_columns_in_order() {
        let text = r#"[{"b":1.50,"a":"x","b":null},{"b":22,"a":"it's","b":null}]"#;
        let results: Results = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&results.0).unwrap(), text);
        let table = results.table().to_string();
        let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["   b  a     b", "1.50  x     null", "  22  it's  null"]);
    }
}
