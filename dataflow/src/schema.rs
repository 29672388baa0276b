//! Columns that travel with rows but are not the user's: event time, id, origin and key hash.
//!
//! A batch on an edge holds the user's columns in declared order, then the hidden columns that the plan asked for, in
//! the order of [`Hidden::ALL`]. Operators copy hidden columns they do not understand; sinks never write them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// A hidden column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hidden {
    /// Event time in microseconds since the epoch; never null. On every edge that has event time.
    Time,
    /// The value of the column that the source names as `id`, as text; null where the row has none.
    Id,
    /// The number of the split the row was read from ([`crate::source::SplitId`]).
    Split,
    /// The row's position in its split.
    Position,
    /// xxh3_64 of the row's encoded key ([`crate::key`]), from the last step that routed rows by key.
    Hash,
}

impl Hidden {
    /// All hidden columns, in the order in which they stand in a batch.
    pub const ALL: [Hidden; 5] = [Hidden::Time, Hidden::Id, Hidden::Split, Hidden::Position, Hidden::Hash];

    /// Returns the column's reserved name; no user column may start with `__`.
    pub const fn name(self) -> &'static str {
        match self {
            Hidden::Time => "__time",
            Hidden::Id => "__id",
            Hidden::Split => "__split",
            Hidden::Position => "__position",
            Hidden::Hash => "__hash",
        }
    }

    /// Returns the column's field.
    pub fn field(self) -> Field {
        let (data_type, nullable) = match self {
            Hidden::Time => (DataType::Int64, false),
            Hidden::Id => (DataType::Utf8, true),
            Hidden::Split => (DataType::UInt32, false),
            Hidden::Position => (DataType::UInt64, false),
            Hidden::Hash => (DataType::UInt64, false),
        };
        Field::new(self.name(), data_type, nullable)
    }
}

/// Returns whether `name` is reserved for hidden columns.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with("__")
}

/// Returns `columns` followed by the fields of `hidden`, in their fixed order.
pub fn with_hidden(columns: &[Field], hidden: &[Hidden]) -> SchemaRef {
    let mut fields = columns.to_vec();
    fields.extend(Hidden::ALL.into_iter().filter(|h| hidden.contains(h)).map(Hidden::field));
    Arc::new(Schema::new(fields))
}

/// Returns the hidden columns of `schema`.
pub fn hidden_of(schema: &Schema) -> Vec<Hidden> {
    Hidden::ALL.into_iter().filter(|h| schema.column_with_name(h.name()).is_some()).collect()
}

/// Returns the user's columns of `schema`.
pub fn visible_of(schema: &Schema) -> Vec<Field> {
    schema.fields().iter().filter(|f| !is_hidden(f.name())).map(|f| f.as_ref().clone()).collect()
}
