//! Schemas that a job names instead of spelling them out: `schema: "@behaviour-event"`.

use riverrun_connectors::format::{Column, ColumnType};
use riverrun_operators::events::{self, EventType};

/// A schema with a name.
#[derive(Debug)]
pub struct Reusable {
    /// Its name, with the `@`.
    pub name: &'static str,
    /// Which of its columns is event time, unless the job says otherwise.
    pub event_time: &'static str,
    /// Which of its columns names a row, unless the job says otherwise.
    pub id: &'static str,
}

/// The columns of all behaviour events.
static BEHAVIOUR_EVENT: Reusable =
    Reusable { name: "@behaviour-event", event_time: events::EVENT_TIME, id: events::EVENT_ID };

/// All of them.
pub static ALL: [&Reusable; 1] = [&BEHAVIOUR_EVENT];

impl Reusable {
    /// Returns the schema of that name.
    pub fn find(name: &str) -> Option<&'static Reusable> {
        ALL.into_iter().find(|schema| schema.name == name)
    }

    /// Returns its columns.
    pub fn columns(&self) -> Vec<Column> {
        let one = |column: &events::EventColumn| {
            let column_type = match column.column_type {
                EventType::Text => ColumnType::String,
                EventType::Int => ColumnType::Int64,
                EventType::Float => ColumnType::Float64,
                EventType::Bool => ColumnType::Bool,
                EventType::Time => ColumnType::TimestampMillis,
            };
            Column { required: column.required, ..Column::new(column.name, column_type).at(column.path) }
        };
        events::COLUMNS.iter().map(one).collect()
    }

    /// Returns what its columns mean, as a page of the docs.
    pub fn page(&self) -> String {
        let mut page = String::from("| column | type | meaning |\n|---|---|---|\n");
        for (column, of) in self.columns().iter().zip(events::COLUMNS.iter()) {
            let required = if column.required { "!" } else { "" };
            let at = column.path.join(".");
            let found = if at == column.name { String::new() } else { format!(" Found at `{at}`.") };
            page.push_str(&format!("| `{}` | `{}{required}` | {}{found} |\n", column.name, column.column_type, of.doc));
        }
        page
    }
}
