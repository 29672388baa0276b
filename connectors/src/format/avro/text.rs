//! A value of any type as JSON text, for `json` columns: written as a sink would write it. Bytes are in base64, a map is an
//! object, a union is what its branch is; NaN and infinities are null.

use super::super::calendar::{push_date, push_time};
use super::super::cell::push_escaped;
use super::super::decimal::push_decimal;
use super::cells::{unscaled, uuid};
use super::input::{Input, Malformed};
use super::schema::{AvroSchema, Form, Logical, TypeId};

/// The greatest length of a text, in bytes: a byte of Avro can stand for a name of any length.
const TEXT_MAX: usize = 16 << 20;

/// Appends a value as JSON. `out` is one text.
pub(super) fn push_json(
    schema: &AvroSchema,
    input: &mut Input,
    of: TypeId,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Malformed> {
    input.value(depth)?;
    if out.len() > TEXT_MAX {
        return Err(Malformed(format!("as JSON it is longer than {} MiB", TEXT_MAX >> 20)));
    }
    let kind = schema.get(of);
    match &kind.form {
        Form::Null => out.extend_from_slice(b"null"),
        Form::Boolean => out.extend_from_slice(if input.boolean()? { b"true" } else { b"false" }),
        Form::Int | Form::Long => push_number(input.long()?, kind.logical, out),
        Form::Float => {
            let value = input.float()?;
            push_float(value.is_finite().then(|| ryu::Buffer::new().format_finite(value).to_owned()), out);
        }
        Form::Double => {
            let value = input.double()?;
            push_float(value.is_finite().then(|| ryu::Buffer::new().format_finite(value).to_owned()), out);
        }
        Form::Bytes => push_bytes(input.bytes()?, kind.logical, out),
        Form::Fixed(size) => push_bytes(input.take(*size)?, kind.logical, out),
        Form::String => push_escaped(out, input.text()?),
        Form::Enum(symbols) => push_escaped(out, &symbols[input.index(symbols.len(), "symbol")?]),
        Form::Union(branches) => {
            let branch = branches[input.index(branches.len(), "branch")?];
            push_json(schema, input, branch, out, depth + 1)?;
        }
        Form::Record(fields) => {
            out.push(b'{');
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_escaped(out, &field.name);
                out.push(b':');
                push_json(schema, input, field.of, out, depth + 1)?;
            }
            out.push(b'}');
        }
        Form::Array(item) => push_blocks(schema, input, *item, out, depth, false)?,
        Form::Map(value) => push_blocks(schema, input, *value, out, depth, true)?,
    }
    Ok(())
}

fn push_blocks(
    schema: &AvroSchema,
    input: &mut Input,
    of: TypeId,
    out: &mut Vec<u8>,
    depth: usize,
    keyed: bool,
) -> Result<(), Malformed> {
    let (open, close) = if keyed { (b'{', b'}') } else { (b'[', b']') };
    out.push(open);
    let mut is_first = true;
    loop {
        let count = input.block()?;
        if count == 0 {
            out.push(close);
            return Ok(());
        }
        for _ in 0..count {
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            if keyed {
                push_escaped(out, input.text()?);
                out.push(b':');
            }
            push_json(schema, input, of, out, depth + 1)?;
        }
    }
}

fn push_number(value: i64, logical: Option<Logical>, out: &mut Vec<u8>) {
    match logical {
        Some(Logical::Timestamp { decimals }) => quoted(out, |out| push_time(out, value, decimals)),
        Some(Logical::Date) => quoted(out, |out| push_date(out, value)),
        _ => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
    }
}

fn quoted(out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    push(out);
    out.push(b'"');
}

fn push_float(written: Option<String>, out: &mut Vec<u8>) {
    out.extend_from_slice(written.as_deref().unwrap_or("null").as_bytes());
}

fn push_bytes(bytes: &[u8], logical: Option<Logical>, out: &mut Vec<u8>) {
    use base64::Engine as _;
    let decimal = match logical {
        Some(Logical::Decimal { scale }) => unscaled(bytes).zip(i8::try_from(scale).ok()),
        _ => None,
    };
    match (decimal, logical) {
        (Some((value, scale)), _) => push_decimal(out, value, scale),
        (None, Some(Logical::Uuid)) => push_escaped(out, &uuid(bytes)),
        _ => push_escaped(out, &base64::engine::general_purpose::STANDARD.encode(bytes)),
    }
}
