//! The tables of a checkpoint as they can be asked for: views with their columns.

use riverrun_dataflow::operator::STATE_COLUMNS;
use riverrun_state::StateError;
use riverrun_state::inspect::script::view_names;
use riverrun_state::inspect::tables::{Kept, Tables};
use serde::{Deserialize, Serialize};

/// A view that can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// Its name.
    pub view: String,
    /// The step.
    pub step: String,
    /// The step's table.
    pub table: String,
    /// The state is the one after this tick.
    pub tick: u64,
    /// Rows.
    pub rows: u64,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// A column of a view.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow calls it.
    pub r#type: String,
    /// It is part of the key; the shard is a function of it.
    pub key: bool,
}

impl View {
    /// Returns the views of all tables.
    pub fn all(tables: &Tables, kept: &Kept) -> Result<Vec<View>, StateError> {
        let mut views = Vec::new();
        for (table, view) in tables.tables.iter().zip(view_names(&tables.tables)) {
            let rows = tables.count(table, kept)?;
            let fields = table.schema.fields().iter().enumerate().filter(|(_, field)| field.name() != STATE_COLUMNS[1]);
            let columns = fields.map(|(at, field)| Column {
                name: field.name().clone(),
                r#type: field.data_type().to_string(),
                key: (STATE_COLUMNS.len()..STATE_COLUMNS.len() + table.key_columns).contains(&at),
            });
            views.push(View {
                view,
                step: table.step.clone(),
                table: table.table.clone(),
                tick: tables.tick,
                rows,
                columns: columns.collect(),
            });
        }
        Ok(views)
    }
}
