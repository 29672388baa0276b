//! Values into cells: what a field's type and the column's type make of each other.
//!
//! | column | takes |
//! |---|---|
//! | `string` | string, enum (its name; its number where it has none), bytes that are UTF-8 |
//! | `bool` | bool |
//! | `int64` | whole numbers that fit, enum (its number) |
//! | `float64` | numbers |
//! | `decimal` | whole numbers, string |
//! | `timestamp` | `google.protobuf.Timestamp`, string in RFC 3339 |
//! | `timestamp_s`, `_ms`, `_us` | `google.protobuf.Timestamp`, whole numbers in that unit |
//! | `date` | string |
//! | `json` | anything, as JSON |
//! | `list` | repeated; of a map its entries as `struct{key: string, value: T}` |
//! | `struct` | message, by the names of its fields |
//!
//! The wrappers of `google.protobuf` (`StringValue`, ...) are what they wrap, or null.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use super::super::column::{GrowingColumn, Misfit, Values};
use super::super::fields::{Field, Fields};
use super::super::rows::{Cells, Fault, Rows};
use super::super::schema::ColumnType;
use super::text::push_json;

/// A message on its way into the slots.
pub(super) struct Walk<'a> {
    pub fields: &'a Fields,
    pub rows: &'a mut Rows,
    pub scratch: &'a mut Vec<u8>,
}

impl Walk<'_> {
    /// Reads the fields of a message that are at `node`.
    pub fn message(&mut self, message: &DynamicMessage, node: usize) -> Result<(), Fault> {
        let (all, descriptor) = (self.fields, message.descriptor());
        for field in &all.nodes[node] {
            let Some(own) = descriptor.get_field_by_name(&field.name) else { continue };
            // What has presence and is not set is not there.
            if own.supports_presence() && !message.has_field(&own) {
                continue;
            }
            self.field(field, &own, &message.get_field(&own))?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, own: &FieldDescriptor, value: &Value) -> Result<(), Fault> {
        for slot in &field.slots {
            let slot = &mut self.rows.slots[*slot];
            match &mut slot.cells {
                Cells::Kept(cells) => {
                    push(value, own, cells, self.scratch).map_err(|misfit| Fault::misfit(&slot.column, &misfit))?
                }
                Cells::Presence(present) => *present = true,
            }
        }
        match (field.child, value) {
            (None, _) => Ok(()),
            (Some(node), Value::Message(message)) => self.message(message, node),
            (Some(node), Value::Map(entries)) => {
                let (all, of) = (self.fields, value_of(own));
                let found = |inner: &&Field| entries.contains_key(&MapKey::String(inner.name.clone()));
                for inner in all.nodes[node].iter().filter(found) {
                    self.field(inner, &of, &entries[&MapKey::String(inner.name.clone())])?;
                }
                Ok(())
            }
            (Some(_), _) => {
                let below = field.under.iter().find(|slot| !field.slots.contains(slot));
                let column = below.map(|slot| &self.rows.slots[*slot].column);
                let path = column.map(|column| column.path.join(".")).unwrap_or_default();
                Err(Fault::new("type", format!("`{path}` leads through {}, not a message", kind(value))))
            }
        }
    }
}

/// Returns the field of the values of a map.
pub(super) fn value_of(map: &FieldDescriptor) -> FieldDescriptor {
    let Kind::Message(entry) = map.kind() else { unreachable!("a map is a list of entries") };
    entry.map_entry_value_field()
}

/// Returns the entries of a map in the order of their keys: how they are held has none.
pub(super) fn sorted(entries: &std::collections::HashMap<MapKey, Value>) -> Vec<(&MapKey, &Value)> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted
}

/// Returns a key as text.
pub(super) fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Returns what a well-known message stands for: a wrapper for what it wraps.
pub(super) fn unwrapped(message: &DynamicMessage) -> Option<Value> {
    let descriptor = message.descriptor();
    let name = descriptor.full_name().strip_prefix("google.protobuf.")?;
    let is_wrapper = matches!(
        name,
        "DoubleValue"
            | "FloatValue"
            | "Int64Value"
            | "UInt64Value"
            | "Int32Value"
            | "UInt32Value"
            | "BoolValue"
            | "StringValue"
            | "BytesValue"
    );
    is_wrapper.then(|| message.get_field_by_name("value").map(std::borrow::Cow::into_owned)).flatten()
}

/// Returns seconds and nanoseconds of a `google.protobuf.Timestamp`.
pub(super) fn moment(message: &DynamicMessage) -> Option<(i64, i32)> {
    if message.descriptor().full_name() != "google.protobuf.Timestamp" {
        return None;
    }
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    Some((seconds, message.get_field_by_name("nanos")?.as_i32()?))
}

/// Returns the name of an enum's number, if it has one.
pub(super) fn symbol(own: &FieldDescriptor, number: i32) -> Option<String> {
    let Kind::Enum(of) = own.kind() else { return None };
    of.get_value(number).map(|value| value.name().to_owned())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "a bool",
        Value::I32(_) | Value::I64(_) | Value::U32(_) | Value::U64(_) => "a whole number",
        Value::F32(_) | Value::F64(_) => "a floating number",
        Value::String(_) => "a string",
        Value::Bytes(_) => "bytes",
        Value::EnumNumber(_) => "an enum",
        Value::Message(_) => "a message",
        Value::List(_) => "a repeated field",
        Value::Map(_) => "a map",
    }
}

/// Appends a value to a column.
fn push(value: &Value, own: &FieldDescriptor, cells: &mut GrowingColumn, scratch: &mut Vec<u8>) -> Result<(), Misfit> {
    if *cells.column_type() == ColumnType::Json {
        scratch.clear();
        push_json(value, own, scratch);
        return cells.push_json(std::str::from_utf8(scratch).expect("JSON is text"));
    }
    let whole = |cells: &mut GrowingColumn, value: i64| match cells.column_type() {
        ColumnType::Float64 => cells.push_float(value as f64),
        ColumnType::Decimal { .. } => cells.push_unscaled(i128::from(value), 0),
        ColumnType::Date => Err(Misfit::Kind("")),
        _ => cells.push_integer(value),
    };
    let pushed = match value {
        Value::Bool(value) => cells.push_bool(*value),
        Value::I32(value) => whole(cells, i64::from(*value)),
        Value::I64(value) => whole(cells, *value),
        Value::U32(value) => whole(cells, i64::from(*value)),
        Value::U64(value) => match (cells.column_type(), i64::try_from(*value)) {
            (ColumnType::Decimal { .. }, _) => cells.push_unscaled(i128::from(*value), 0),
            (_, Ok(value)) => whole(cells, value),
            (_, Err(_)) => Err(Misfit::Value("outside the range of int64")),
        },
        Value::F32(value) => cells.push_float(f64::from(*value)),
        Value::F64(value) => cells.push_float(*value),
        Value::String(text) => cells.push_text(text),
        Value::Bytes(bytes) => match (cells.column_type(), std::str::from_utf8(bytes)) {
            (ColumnType::String, Ok(text)) => cells.push_text(text),
            (ColumnType::String, Err(_)) => Err(Misfit::Value("its bytes are not UTF-8")),
            _ => Err(Misfit::Kind("")),
        },
        Value::EnumNumber(number) => match cells.column_type() {
            ColumnType::String => cells.push_text(&symbol(own, *number).unwrap_or_else(|| number.to_string())),
            ColumnType::Int64 => cells.push_integer(i64::from(*number)),
            _ => Err(Misfit::Kind("")),
        },
        Value::Message(message) => return push_message(message, own, cells, scratch),
        Value::List(values) => return push_list(values, own, cells, scratch),
        Value::Map(entries) => return push_map(entries, own, cells, scratch),
    };
    pushed.map_err(|misfit| match misfit {
        Misfit::Kind(_) => Misfit::Kind(kind(value)),
        other => other,
    })
}

fn push_message(
    message: &DynamicMessage,
    own: &FieldDescriptor,
    cells: &mut GrowingColumn,
    scratch: &mut Vec<u8>,
) -> Result<(), Misfit> {
    if let Some(value) = unwrapped(message) {
        return push(&value, own, cells, scratch);
    }
    if let Some((seconds, nanos)) = moment(message)
        && cells.column_type().is_timestamp()
    {
        let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(i64::from(nanos / 1000)));
        return cells.push_time(micros.ok_or(Misfit::Value("outside the range of timestamps"))?, 6);
    }
    let Values::Struct(fields) = &mut cells.values else { return Err(Misfit::Kind("a message")) };
    let descriptor = message.descriptor();
    for (name, cells) in fields {
        match descriptor.get_field_by_name(name) {
            Some(own) if !own.supports_presence() || message.has_field(&own) => {
                push(&message.get_field(&own), &own, cells, scratch)?;
            }
            _ => cells.push_null(),
        }
    }
    cells.end_struct()
}

fn push_list(
    values: &[Value],
    own: &FieldDescriptor,
    cells: &mut GrowingColumn,
    scratch: &mut Vec<u8>,
) -> Result<(), Misfit> {
    let Values::List { item, .. } = &mut cells.values else { return Err(Misfit::Kind("a repeated field")) };
    for value in values {
        push(value, own, item, scratch)?;
    }
    cells.end_list()
}

/// A map is a list of its entries.
fn push_map(
    entries: &std::collections::HashMap<MapKey, Value>,
    own: &FieldDescriptor,
    cells: &mut GrowingColumn,
    scratch: &mut Vec<u8>,
) -> Result<(), Misfit> {
    let Values::List { item, .. } = &mut cells.values else { return Err(Misfit::Kind("a map")) };
    let of = value_of(own);
    for (key, value) in sorted(entries) {
        let Values::Struct(fields) = &mut item.values else { return Err(Misfit::Kind("a map")) };
        for (name, cells) in fields {
            match name.as_str() {
                "key" => cells.push_text(&key_text(key))?,
                "value" => push(value, &of, cells, scratch)?,
                _ => cells.push_null(),
            }
        }
        item.end_struct()?;
    }
    cells.end_list()
}
