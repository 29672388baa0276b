//! What is known of a stream before it runs: its columns, and what travels hidden with its rows.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_dataflow::graph::bad_columns;
use riverrun_dataflow::schema::{Hidden, with_hidden};

use crate::fault::{Fault, codes, list};
use crate::yaml::Spanned;

/// The rows that a source or step can give.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stream {
    /// Its name, for messages.
    pub name: String,
    /// The user's columns.
    pub columns: Vec<Field>,
    /// The hidden columns that can travel with its rows.
    pub hidden: Vec<Hidden>,
}

impl Stream {
    /// Returns the stream of bad rows called `name`.
    pub(super) fn bad(name: &str) -> Stream {
        Stream { name: name.to_owned(), columns: bad_columns(), hidden: vec![Hidden::Split] }
    }

    /// Returns the schema of its user's columns.
    pub(super) fn schema(&self) -> SchemaRef {
        with_hidden(&self.columns, &[])
    }

    /// Returns the column `name`.
    pub(super) fn column(&self, name: &str) -> Option<&Field> {
        self.columns.iter().find(|field| field.name() == name)
    }

    /// Returns whether rows have this hidden column.
    pub(super) fn has(&self, hidden: Hidden) -> bool {
        self.hidden.contains(&hidden)
    }

    /// Returns the column that `name` names, or the fault of whoever (`attempt`) uses it.
    pub(super) fn find(&self, name: &Spanned<String>, attempt: &str) -> Result<&Field, Fault> {
        self.column(&name.value).ok_or_else(|| {
            let message = format!("{attempt} `{}`, which its input does not have", name.value);
            Fault::error(codes::UNKNOWN_COLUMN, name.span, message)
                .note(self.columns_note())
                .did_you_mean(&name.value, self.columns.iter().map(|field| field.name().as_str()))
        })
    }

    /// Returns a note that lists the columns.
    pub(super) fn columns_note(&self) -> String {
        format!("`{}` has the columns {}", self.name, list(self.columns.iter().map(Field::name)))
    }
}

/// Returns the indices of `names` in `schema`; all are known to be there.
pub(super) fn indices(schema: &Schema, names: &[String]) -> Vec<usize> {
    names.iter().map(|name| schema.index_of(name).expect("the column was found before")).collect()
}

/// Returns a type as a person reads it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    riverrun_operators::expression::type_name(data_type)
}

/// Returns `noun` with its article.
pub(super) fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {noun}")
}
