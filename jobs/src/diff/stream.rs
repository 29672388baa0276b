//! A stream that both versions give, or one of them: which columns are compared, and how a row becomes an entry of the comparison.

use std::collections::BTreeMap;
use std::fmt;

use riverrun_dataflow::schema::visible_of;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::identity::{Form, Identity, Subject};
use super::sorter::Entry;
use crate::plan::{Plan, PlannedSink, type_name};

/// A stream, by the name of its sink.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The sink.
    pub name: String,
    /// The columns that name a row; without any, all of them do.
    pub key: Vec<String>,
    /// How its rows make a table.
    pub form: Form,
    /// What its rows are about.
    pub subject: Subject,
    /// The columns that are compared: those of both versions.
    pub columns: Vec<String>,
    /// Whether there are columns that only one version has. They are not compared.
    pub is_wider_in_one: bool,
    /// What cannot be compared, and why: columns of one version, columns of two types.
    pub notes: Vec<String>,
    /// Where the sink is, in each version.
    pub(super) places: [Option<usize>; 2],
}

/// Returns the streams of two plans, by name. `keys` names rows otherwise, by stream. An error names a key that a stream does not
/// have.
pub(super) fn streams(plans: [&Plan; 2], keys: &BTreeMap<String, Vec<String>>) -> Result<Vec<Stream>, String> {
    let mut places: BTreeMap<&str, [Option<usize>; 2]> = BTreeMap::new();
    for (side, plan) in plans.iter().enumerate() {
        for (index, sink) in plan.sinks.iter().enumerate() {
            places.entry(&sink.name).or_default()[side] = Some(index);
        }
    }
    if let Some(unknown) = keys.keys().find(|name| !places.contains_key(name.as_str())) {
        let known: Vec<&str> = places.keys().copied().collect();
        return Err(format!("neither version has a stream `{unknown}`\n  hint: there are {}", known.join(", ")));
    }
    places.into_iter().map(|(name, places)| Stream::of(plans, name, places, keys.get(name))).collect()
}

impl Stream {
    fn of(
        plans: [&Plan; 2],
        name: &str,
        places: [Option<usize>; 2],
        asked: Option<&Vec<String>>,
    ) -> Result<Stream, String> {
        let sides: Vec<(&Plan, &PlannedSink)> =
            (0..2).filter_map(|side| Some((plans[side], &plans[side].sinks[places[side]?]))).collect();
        let (columns, notes) = common_columns(&sides);
        let widths = sides.iter().map(|(_, sink)| visible_of(&sink.schema).len());
        let is_wider_in_one = widths.into_iter().any(|width| width > columns.len());
        let identities: Vec<Identity> = sides.iter().map(|(plan, sink)| Identity::of(plan, sink.from)).collect();
        let first = &identities[0];
        let has = |column: &str| columns.iter().any(|known| known == column);
        // Two steps of different kinds have their columns in common at best.
        let is_same = identities.iter().all(|other| (other.form, other.subject) == (first.form, first.subject));
        let form = match first.form {
            Form::Signed if is_same && has("op") => Form::Signed,
            Form::Revised if is_same && has("rev") => Form::Revised,
            _ => Form::Rows,
        };
        let key = match asked {
            Some(asked) => {
                if let Some(unknown) = asked.iter().find(|column| !has(column)) {
                    let hint = format!("both have {}", columns.join(", "));
                    return Err(format!(
                        "the rows of `{name}` have no column `{unknown}` in both versions\n  hint: {hint}"
                    ));
                }
                asked.clone()
            }
            None => {
                let sink_key = |(_, sink): &(&Plan, &PlannedSink)| {
                    let names = sink.key.iter().flatten().map(|column| sink.schema.field(*column).name().clone());
                    names.collect::<Vec<String>>()
                };
                let derived = identities.iter().map(|identity| identity.key.clone()).chain(sides.iter().map(sink_key));
                let mut fitting = derived.filter(|key| !key.is_empty() && key.iter().all(|column| has(column)));
                fitting.next().unwrap_or_default()
            }
        };
        let form = if key.is_empty() && form == Form::Revised { Form::Rows } else { form };
        let subject = if is_same { first.subject } else { Subject::Rows };
        let columns = columns.into_iter().filter(|column| !form.tells(column)).collect();
        Ok(Stream { name: name.to_owned(), key, form, subject, columns, is_wider_in_one, notes, places })
    }

    /// Returns whether version A (0) or B (1) gives it.
    pub fn is_in(&self, side: usize) -> bool {
        self.places[side].is_some()
    }

    /// Returns what makes entries of the rows of `sink`.
    pub(super) fn reading(&self, sink: &PlannedSink) -> Reading {
        let visible = visible_of(&sink.schema);
        let at = |name: &String| visible.iter().position(|field| field.name() == name);
        let told = |name: &str, form: Form| (self.form == form).then(|| at(&name.to_owned())).flatten();
        Reading {
            columns: self.columns.iter().filter_map(|name| Some((name.clone(), at(name)?))).collect(),
            key: self.key.iter().filter_map(at).collect(),
            op: told("op", Form::Signed),
            rev: told("rev", Form::Revised),
        }
    }
}

impl Form {
    /// Returns whether a column only tells how a row belongs to the table.
    fn tells(self, column: &str) -> bool {
        match self {
            Form::Rows => false,
            Form::Signed => column == "op" || column == "rev",
            Form::Revised => column == "rev",
        }
    }
}

/// Returns the columns that all sides have, and what is to be said of the others.
fn common_columns(sides: &[(&Plan, &PlannedSink)]) -> (Vec<String>, Vec<String>) {
    let fields: Vec<_> = sides.iter().map(|(_, sink)| visible_of(&sink.schema)).collect();
    let mut notes = Vec::new();
    let [a, b] = fields.as_slice() else {
        return (fields.iter().flatten().map(|field| field.name().clone()).collect(), notes);
    };
    for (own, others, version) in [(a, b, "A"), (b, a, "B")] {
        let alone: Vec<&str> = own
            .iter()
            .map(|field| field.name().as_str())
            .filter(|name| others.iter().all(|other| other.name() != name))
            .collect();
        if !alone.is_empty() {
            notes.push(format!("only in {version}, and not compared: {}", alone.join(", ")));
        }
    }
    let mut columns = Vec::new();
    for field in a {
        let Some(other) = b.iter().find(|other| other.name() == field.name()) else { continue };
        columns.push(field.name().clone());
        if field.data_type() != other.data_type() {
            let [one, two] = [field, other].map(|field| type_name(field.data_type()));
            notes.push(format!("`{}` is {one} in A and {two} in B: compared as written", field.name()));
        }
    }
    (columns, notes)
}

/// Makes entries of the rows of a sink.
pub(super) struct Reading {
    /// Names and places of the columns that are compared.
    columns: Vec<(String, usize)>,
    key: Vec<usize>,
    op: Option<usize>,
    rev: Option<usize>,
}

impl Reading {
    /// Returns the entry of a row as JSON text; `None` if it is no object, which no encoder writes.
    pub fn entry(&self, text: &[u8]) -> Option<Entry> {
        let Values(values) = serde_json::from_slice(text).ok()?;
        let value = |at: usize| values.get(at).map_or("null", |value| value.get());
        let names_nothing = self.key.iter().any(|at| value(*at) == "null");
        let mut row = Vec::with_capacity(text.len());
        row.push(b'{');
        for (index, (name, at)) in self.columns.iter().enumerate() {
            if index > 0 {
                row.push(b',');
            }
            row.extend_from_slice(serde_json::to_string(name).ok()?.as_bytes());
            row.push(b':');
            row.extend_from_slice(value(*at).as_bytes());
        }
        row.push(b'}');
        let key = match self.key.is_empty() {
            true => row.clone(),
            false => self.key.iter().map(|at| value(*at)).collect::<Vec<_>>().join(",").into_bytes(),
        };
        // Rows that nothing names do not replace each other.
        let rank = self.rev.filter(|_| !names_nothing).and_then(|at| value(at).parse().ok()).unwrap_or(i64::MIN);
        let is_minus = self.op.is_some_and(|at| value(at) == "\"-\"");
        Some(Entry { key, rank, row, is_minus })
    }
}

/// The values of an object, in their order.
pub(super) struct Values<'a>(pub Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Values<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values<'a>, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    values.push(map.next_value()?);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_map(Object).map(Values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_named_by_its_key_and_keeps_its_values_as_written() {
        let columns = vec![("id".to_owned(), 0), ("price".to_owned(), 3)];
        let reading = Reading { columns, key: vec![0], op: Some(1), rev: None };
        let entry = reading.entry(br#"{"id":"a\"b","op":"-","x":{"y":[1]},"price":10.00}"#).unwrap();
        assert_eq!(entry.key, br#""a\"b""#);
        assert_eq!(entry.row, br#"{"id":"a\"b","price":10.00}"#);
        assert!(entry.is_minus);
        assert!(reading.entry(b"[1]").is_none());
    }

    #[test]
    fn rows_without_a_name_do_not_replace_each_other() {
        let columns = vec![("id".to_owned(), 0)];
        let reading = Reading { columns, key: vec![0], op: None, rev: Some(1) };
        assert_eq!(reading.entry(br#"{"id":"s","rev":3}"#).unwrap().rank, 3);
        assert_eq!(reading.entry(br#"{"id":null,"rev":3}"#).unwrap().rank, i64::MIN);
    }
}
