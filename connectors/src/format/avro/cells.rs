//! Values into cells: what the writer's type and the column's type make of each other.
//!
//! | column | takes |
//! |---|---|
//! | `string` | string, enum, uuid, bytes that are UTF-8 |
//! | `bool` | boolean |
//! | `int64` | int, long, whatever they mean |
//! | `float64` | int, long, float, double |
//! | `decimal` | decimal whose digits fit, int, long, string |
//! | `timestamp` | timestamps, string in RFC 3339 |
//! | `timestamp_s`, `_ms`, `_us` | timestamps, int or long in that unit |
//! | `date` | date, string |
//! | `json` | anything, as JSON |
//! | `list` | array; of a map its entries as `struct{key: string, value: T}` |
//! | `struct` | record, by the names of its fields |
//!
//! A union is what its branch is. A time is cut down to the unit of its column.

use super::super::column::{GrowingColumn, Misfit, Values};
use super::super::fields::{Field, Fields};
use super::super::rows::{Cells, Fault, Rows};
use super::super::schema::ColumnType;
use super::input::{Input, Malformed};
use super::schema::{AvroSchema, Form, Logical, RecordField, TypeId};
use super::text::push_json;

/// One record on its way into the slots.
pub(super) struct Walk<'a> {
    pub schema: &'a AvroSchema,
    pub fields: &'a Fields,
    pub rows: &'a mut Rows,
    pub scratch: &'a mut Vec<u8>,
}

/// Why a value goes into no cell.
pub(super) enum Bad {
    Misfit(Misfit),
    Malformed(Malformed),
}

impl From<Misfit> for Bad {
    fn from(misfit: Misfit) -> Bad {
        Bad::Misfit(misfit)
    }
}

impl From<Malformed> for Bad {
    fn from(malformed: Malformed) -> Bad {
        Bad::Malformed(malformed)
    }
}

impl From<Malformed> for Fault {
    fn from(Malformed(why): Malformed) -> Fault {
        Fault::new("malformed", why)
    }
}

impl Walk<'_> {
    /// Reads a whole record.
    pub fn whole(&mut self, input: &mut Input) -> Result<(), Fault> {
        let fields = self.schema.fields().expect("only records are read");
        self.record(input, fields, 0, 0)
    }

    /// Reads a record whose fields in use are at `node`.
    fn record(&mut self, input: &mut Input, fields: &[RecordField], node: usize, depth: usize) -> Result<(), Fault> {
        input.value(depth)?;
        let (all, mut hint) = (self.fields, 0);
        for field in fields {
            match all.find(node, &field.name, hint) {
                Some(index) => {
                    hint = index + 1;
                    self.field(input, &all.nodes[node][index], field.of, depth + 1)?;
                }
                None => input.skip(self.schema, field.of, depth + 1)?,
            }
        }
        Ok(())
    }

    /// Reads the value of a field in use: into its own slots, and into those of fields within it.
    fn field(&mut self, input: &mut Input, field: &Field, of: TypeId, depth: usize) -> Result<(), Fault> {
        let start = *input;
        for slot in &field.slots {
            *input = start;
            let slot = &mut self.rows.slots[*slot];
            match &mut slot.cells {
                Cells::Kept(cells) => {
                    let mut values = Reading { schema: self.schema, scratch: self.scratch };
                    values.push(input, of, cells, depth).map_err(|bad| match bad {
                        Bad::Misfit(misfit) => Fault::misfit(&slot.column, &misfit),
                        Bad::Malformed(malformed) => malformed.into(),
                    })?;
                }
                Cells::Presence(present) => {
                    let mut at = start;
                    *present = self.schema.get(branch(self.schema, &mut at, of)?).form != Form::Null;
                    input.skip(self.schema, of, depth)?;
                }
            }
        }
        match field.child {
            Some(child) => {
                *input = start;
                self.within(input, field, child, of, depth)
            }
            None => Ok(()),
        }
    }

    /// Reads what is within a field: a record, or a map by its keys.
    fn within(&mut self, input: &mut Input, field: &Field, node: usize, of: TypeId, depth: usize) -> Result<(), Fault> {
        let of = branch(self.schema, input, of)?;
        let schema = self.schema;
        match &schema.get(of).form {
            Form::Null => Ok(()),
            Form::Record(fields) => self.record(input, fields, node, depth),
            Form::Map(value) => loop {
                let count = input.block()?;
                if count == 0 {
                    return Ok(());
                }
                for _ in 0..count {
                    input.value(depth)?;
                    let (key, all) = (input.text()?, self.fields);
                    let Some(index) = all.find(node, key, 0) else {
                        input.skip(schema, *value, depth + 1)?;
                        continue;
                    };
                    let inner = &all.nodes[node][index];
                    // A key that is given twice counts with its last value.
                    inner.under.iter().for_each(|slot| self.rows.reset(*slot));
                    self.field(input, inner, *value, depth + 1)?;
                }
            },
            _ => {
                let below = field.under.iter().find(|slot| !field.slots.contains(slot));
                let column = below.map(|slot| &self.rows.slots[*slot].column);
                let path = column.map(|column| column.path.join(".")).unwrap_or_default();
                let found = schema.name(of);
                Err(Fault::new("type", format!("`{path}` leads through {found}, not a record")))
            }
        }
    }
}

/// Returns the type of a value, which of a union is that of its branch.
fn branch(schema: &AvroSchema, input: &mut Input, of: TypeId) -> Result<TypeId, Malformed> {
    match &schema.get(of).form {
        Form::Union(branches) => Ok(branches[input.index(branches.len(), "branch")?]),
        _ => Ok(of),
    }
}

/// Reads values by a schema.
struct Reading<'a> {
    schema: &'a AvroSchema,
    scratch: &'a mut Vec<u8>,
}

impl Reading<'_> {
    /// Reads a value into a new cell.
    fn push(&mut self, input: &mut Input, of: TypeId, cells: &mut GrowingColumn, depth: usize) -> Result<(), Bad> {
        input.value(depth)?;
        let of = branch(self.schema, input, of)?;
        let (kind, schema) = (self.schema.get(of), self.schema);
        if kind.form == Form::Null {
            cells.push_null();
            return Ok(());
        }
        if *cells.column_type() == ColumnType::Json {
            self.scratch.clear();
            push_json(schema, input, of, self.scratch, depth)?;
            let text = std::str::from_utf8(self.scratch).expect("JSON is text");
            return Ok(cells.push_json(text)?);
        }
        let unfit = || Misfit::Kind(schema.name(of));
        match (&kind.form, kind.logical) {
            (Form::Null | Form::Union(_), _) => unreachable!("a branch was chosen, and it is not null"),
            (Form::Boolean, _) => cells.push_bool(input.boolean()?).map_err(|_| unfit())?,
            (Form::Int | Form::Long, logical) => {
                let value = if kind.form == Form::Int { input.int()? } else { input.long()? };
                push_number(cells, value, logical).map_err(|misfit| named(misfit, unfit))?;
            }
            (Form::Float, _) => cells.push_float(f64::from(input.float()?)).map_err(|_| unfit())?,
            (Form::Double, _) => cells.push_float(input.double()?).map_err(|_| unfit())?,
            (Form::Bytes | Form::Fixed(_), logical) => {
                let bytes = match kind.form {
                    Form::Fixed(size) => input.take(size)?,
                    _ => input.bytes()?,
                };
                push_bytes(cells, bytes, logical, kind.form == Form::Bytes).map_err(|misfit| named(misfit, unfit))?;
            }
            (Form::String, _) => cells.push_text(input.text()?).map_err(|misfit| named(misfit, unfit))?,
            (Form::Enum(symbols), _) => {
                let symbol = &symbols[input.index(symbols.len(), "symbol")?];
                match cells.column_type() {
                    ColumnType::String => cells.push_text(symbol)?,
                    _ => return Err(unfit().into()),
                }
            }
            (Form::Array(item), _) => self.array(input, *item, cells, depth, unfit())?,
            (Form::Map(value), _) => self.map(input, *value, cells, depth, unfit())?,
            (Form::Record(fields), _) => self.record(input, fields, cells, depth, unfit())?,
        }
        Ok(())
    }

    fn array(
        &mut self,
        input: &mut Input,
        of: TypeId,
        cells: &mut GrowingColumn,
        depth: usize,
        unfit: Misfit,
    ) -> Result<(), Bad> {
        let Values::List { item, .. } = &mut cells.values else { return Err(unfit.into()) };
        loop {
            let count = input.block()?;
            if count == 0 {
                return Ok(cells.end_list()?);
            }
            for _ in 0..count {
                self.push(input, of, item, depth + 1)?;
            }
        }
    }

    /// A map is a list of its entries, in the order in which they are written.
    fn map(
        &mut self,
        input: &mut Input,
        of: TypeId,
        cells: &mut GrowingColumn,
        depth: usize,
        unfit: Misfit,
    ) -> Result<(), Bad> {
        let Values::List { item, .. } = &mut cells.values else { return Err(unfit.into()) };
        loop {
            let count = input.block()?;
            if count == 0 {
                return Ok(cells.end_list()?);
            }
            for _ in 0..count {
                input.value(depth)?;
                let key = input.text()?;
                let Values::Struct(fields) = &mut item.values else { return Err(unfit.into()) };
                let mut is_read = false;
                for (name, cells) in fields {
                    match name.as_str() {
                        "key" => cells.push_text(key)?,
                        "value" => {
                            self.push(input, of, cells, depth + 1)?;
                            is_read = true;
                        }
                        _ => {}
                    }
                }
                if !is_read {
                    input.skip(self.schema, of, depth + 1)?;
                }
                item.end_struct()?;
            }
        }
    }

    fn record(
        &mut self,
        input: &mut Input,
        fields: &[RecordField],
        cells: &mut GrowingColumn,
        depth: usize,
        unfit: Misfit,
    ) -> Result<(), Bad> {
        let Values::Struct(wanted) = &mut cells.values else { return Err(unfit.into()) };
        for field in fields {
            match wanted.iter_mut().find(|(name, _)| *name == field.name) {
                Some((_, cells)) => self.push(input, field.of, cells, depth + 1)?,
                None => input.skip(self.schema, field.of, depth + 1)?,
            }
        }
        Ok(cells.end_struct()?)
    }
}

/// Names what was found where only its kind is at fault.
fn named(misfit: Misfit, unfit: impl Fn() -> Misfit) -> Misfit {
    match misfit {
        Misfit::Kind(_) => unfit(),
        other => other,
    }
}

fn push_number(cells: &mut GrowingColumn, value: i64, logical: Option<Logical>) -> Result<(), Misfit> {
    match (logical, cells.column_type()) {
        (_, ColumnType::Int64) => cells.push_integer(value),
        (Some(Logical::Timestamp { decimals }), _) => cells.push_time(value, decimals),
        (Some(Logical::Date), _) => cells.push_days(value),
        (Some(_), _) => Err(Misfit::Kind("")),
        (None, ColumnType::Float64) => cells.push_float(value as f64),
        (None, ColumnType::Decimal { .. }) => cells.push_unscaled(i128::from(value), 0),
        (None, ColumnType::Date) => Err(Misfit::Kind("")),
        (None, _) => cells.push_integer(value),
    }
}

fn push_bytes(
    cells: &mut GrowingColumn,
    bytes: &[u8],
    logical: Option<Logical>,
    has_length: bool,
) -> Result<(), Misfit> {
    match logical {
        Some(Logical::Decimal { scale }) => {
            let value = unscaled(bytes).ok_or(Misfit::Value("too many digits"))?;
            cells.push_unscaled(value, scale)
        }
        Some(Logical::Uuid) => match *cells.column_type() {
            ColumnType::String => cells.push_text(&uuid(bytes)),
            _ => Err(Misfit::Kind("")),
        },
        _ if has_length && *cells.column_type() == ColumnType::String => {
            cells.push_text(std::str::from_utf8(bytes).map_err(|_| Misfit::Value("its bytes are not UTF-8"))?)
        }
        _ => Err(Misfit::Kind("")),
    }
}

/// Returns a number in two's complement, big-endian, if it has no more than 128 bits that matter.
pub(super) fn unscaled(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let (beyond, kept) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut wide = [fill; 16];
    wide[16 - kept.len()..].copy_from_slice(kept);
    let value = i128::from_be_bytes(wide);
    let is_whole = beyond.iter().all(|byte| *byte == fill) && (value < 0) == negative;
    is_whole.then_some(value)
}

/// Returns 16 bytes as a UUID is written.
pub(super) fn uuid(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    out
}
