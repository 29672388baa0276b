//! A value of any type as JSON text, for `json` columns: by the names of fields as they are declared; times as RFC 3339, enums by
//! name, bytes in base64; NaN and infinities are null, and so is what has presence and is not set.

use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage, Value};

use super::super::calendar::push_time;
use super::super::cell::push_escaped;
use super::cells::{key_text, moment, sorted, symbol, unwrapped, value_of};

/// Appends a value as JSON.
pub(super) fn push_json(value: &Value, own: &FieldDescriptor, out: &mut Vec<u8>) {
    use base64::Engine as _;
    let mut whole = itoa::Buffer::new();
    match value {
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::I32(value) => out.extend_from_slice(whole.format(*value).as_bytes()),
        Value::I64(value) => out.extend_from_slice(whole.format(*value).as_bytes()),
        Value::U32(value) => out.extend_from_slice(whole.format(*value).as_bytes()),
        Value::U64(value) => out.extend_from_slice(whole.format(*value).as_bytes()),
        Value::F32(value) if value.is_finite() => {
            out.extend_from_slice(ryu::Buffer::new().format_finite(*value).as_bytes());
        }
        Value::F64(value) if value.is_finite() => {
            out.extend_from_slice(ryu::Buffer::new().format_finite(*value).as_bytes());
        }
        Value::F32(_) | Value::F64(_) => out.extend_from_slice(b"null"),
        Value::String(text) => push_escaped(out, text),
        Value::Bytes(bytes) => push_escaped(out, &base64::engine::general_purpose::STANDARD.encode(bytes)),
        Value::EnumNumber(number) => match symbol(own, *number) {
            Some(name) => push_escaped(out, &name),
            None => out.extend_from_slice(whole.format(*number).as_bytes()),
        },
        Value::Message(message) => push_message(message, own, out),
        Value::List(values) => {
            out.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_json(value, own, out);
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            let of = value_of(own);
            out.push(b'{');
            for (index, (key, value)) in sorted(entries).into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_escaped(out, &key_text(key));
                out.push(b':');
                push_json(value, &of, out);
            }
            out.push(b'}');
        }
    }
}

fn push_message(message: &DynamicMessage, own: &FieldDescriptor, out: &mut Vec<u8>) {
    if let Some(value) = unwrapped(message) {
        return push_json(&value, own, out);
    }
    let micros = |(seconds, nanos): (i64, i32)| seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1000));
    if let Some(micros) = moment(message).and_then(micros) {
        out.push(b'"');
        push_time(out, micros, 6);
        out.push(b'"');
        return;
    }
    out.push(b'{');
    for (index, field) in message.descriptor().fields().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_escaped(out, field.name());
        out.push(b':');
        match field.supports_presence() && !message.has_field(&field) {
            true => out.extend_from_slice(b"null"),
            false => push_json(&message.get_field(&field), &field, out),
        }
    }
    out.push(b'}');
}
