//! Arrow's messages that come from outside: the schema in a Parquet file, rows from another process.
//!
//! Arrow's own readers take for granted that whoever wrote a message was Arrow: a type that it does not know, a list without
//! a child, a buffer that lies outside the message end in a panic. What was checked here is read without one.

use arrow::datatypes::{DataType, Schema};
use arrow::ipc::{
    Buffer, DateUnit, Field, FieldNode, IntervalUnit, Precision, RecordBatch, TimeUnit, Type, root_as_message,
};
use base64::Engine as _;

/// Where the writer of a Parquet file keeps the file's Arrow schema.
pub const PARQUET_NOTE: &str = "ARROW:schema";

/// Fields of one schema, those within others included: more are refused, for the form allows to count one field many times.
const FIELDS_MAX: usize = 65_536;

/// Checks the Arrow schema that stands in a Parquet file under [`PARQUET_NOTE`].
pub fn check_schema_note(note: &str) -> Result<(), String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(note).map_err(|error| error.to_string())?;
    // Written with or without the marks of a stream before it.
    match bytes.get(..4) {
        Some([0xff, 0xff, 0xff, 0xff]) => check_schema(bytes.get(8..).unwrap_or_default()),
        _ => check_schema(&bytes),
    }
}

/// Checks the message of an Arrow schema: what passes is converted without a panic.
pub fn check_schema(message: &[u8]) -> Result<(), String> {
    let message = root_as_message(message).map_err(|error| format!("its Arrow schema is none: {error}"))?;
    let schema = message.header_as_schema().ok_or("its Arrow schema is a message of another kind")?;
    let fields = schema.fields().ok_or("its Arrow schema has no fields")?;
    let mut left = FIELDS_MAX;
    fields.iter().try_for_each(|field| check_field(field, &mut left))
}

/// Checks the head of a message with rows of `schema`, of which the buffers lie in `body` bytes. The rows themselves, whether
/// offsets ascend and texts are UTF-8, are checked by Arrow.
pub fn check_rows(head: RecordBatch, schema: &Schema, body: usize) -> Result<(), String> {
    let buffers = head.buffers().ok_or("it has no buffers")?;
    let within = |at: i64, length: i64| {
        let (at, length) = (usize::try_from(at).ok()?, usize::try_from(length).ok()?);
        at.checked_add(length).filter(|end| *end <= body && at % ALIGNED == 0)
    };
    if let Some(buffer) = buffers.iter().find(|buffer| within(buffer.offset(), buffer.length()).is_none()) {
        let (at, length) = (buffer.offset(), buffer.length());
        return Err(format!("a buffer of {length} bytes at {at} is not within its {body}"));
    }
    let nodes = head.nodes().ok_or("it has no columns")?;
    // A row takes a bit at least, but for columns of nothing but nulls.
    let rows_max = i64::try_from(body).unwrap_or(i64::MAX).saturating_mul(8);
    let is_whole = |rows: i64, nulls: i64| (0..=rows).contains(&nulls) && (rows <= rows_max || rows == nulls);
    if !nodes.iter().all(|node| is_whole(node.length(), node.null_count())) || head.length() < 0 {
        return Err("it counts more rows than it can hold".into());
    }
    let mut views = head.variadicBufferCounts().into_iter().flatten();
    let mut columns = Columns { nodes: nodes.iter(), buffers: buffers.iter(), views: &mut views };
    let fits = schema.fields().iter().try_for_each(|field| columns.pass(field.data_type()));
    fits.ok_or_else(|| "its buffers are not those of its columns".to_string())
}

/// Where Arrow wants values to begin: at a multiple of the widest.
const ALIGNED: usize = 16;

/// The parts of rows that are not passed yet.
struct Columns<'a, N, B> {
    nodes: N,
    buffers: B,
    views: &'a mut dyn Iterator<Item = i64>,
}

impl<'b, N: Iterator<Item = &'b FieldNode>, B: Iterator<Item = &'b Buffer>> Columns<'_, N, B> {
    /// Passes the parts of a column, if they are there and its bits are as many as its rows.
    fn pass(&mut self, data_type: &DataType) -> Option<()> {
        let node = self.nodes.next()?;
        match data_type {
            DataType::Null => return Some(()),
            // None is anything that we write.
            DataType::Union(..)
            | DataType::Dictionary(..)
            | DataType::RunEndEncoded(..)
            | DataType::ListView(_)
            | DataType::LargeListView(_) => return None,
            _ => {}
        }
        let bits = |buffer: &Buffer| buffer.length().saturating_mul(8) >= node.length();
        self.buffers.next().filter(|valid| node.null_count() == 0 || bits(valid))?;
        // Arrow takes buffers for whole numbers.
        let whole =
            |width: usize| move |buffer: &&Buffer| usize::try_from(buffer.length()).is_ok_and(|it| it % width == 0);
        match data_type {
            DataType::Struct(fields) => fields.iter().try_for_each(|field| self.pass(field.data_type())),
            DataType::FixedSizeList(field, _) => self.pass(field.data_type()),
            DataType::List(field) | DataType::Map(field, _) => {
                self.buffers.next().filter(whole(4))?;
                self.pass(field.data_type())
            }
            DataType::LargeList(field) => {
                self.buffers.next().filter(whole(8))?;
                self.pass(field.data_type())
            }
            DataType::Boolean => self.buffers.next().filter(|values| bits(values)).map(|_| ()),
            DataType::Utf8 | DataType::Binary => {
                self.buffers.next().filter(whole(4))?;
                self.buffers.next().map(|_| ())
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.buffers.next().filter(whole(8))?;
                self.buffers.next().map(|_| ())
            }
            DataType::Utf8View | DataType::BinaryView => {
                self.buffers.next().filter(whole(16))?;
                let more = usize::try_from(self.views.next()?).ok()?;
                (0..more).try_for_each(|_| self.buffers.next().map(|_| ()))
            }
            _ => self.buffers.next().filter(whole(data_type.primitive_width().unwrap_or(1))).map(|_| ()),
        }
    }
}

fn check_field(field: Field, left: &mut usize) -> Result<(), String> {
    let name = field.name().unwrap_or_default();
    *left = left.checked_sub(1).ok_or_else(|| format!("its Arrow schema has more than {FIELDS_MAX} fields"))?;
    if let Some(dictionary) = field.dictionary() {
        let index = dictionary.indexType().map(|int| int.bitWidth());
        if !index.is_some_and(is_width) {
            return Err(format!("its Arrow schema gives `{name}` a dictionary with {index:?} bits"));
        }
    }
    if !is_known(field) {
        return Err(format!("its Arrow schema gives `{name}` a type that there is not: {:?}", field.type_type()));
    }
    let children = field.children();
    let count = children.map_or(0, |children| children.len());
    let wanted = match field.type_type() {
        Type::List | Type::LargeList | Type::ListView | Type::LargeListView | Type::FixedSizeList | Type::Map => 1,
        Type::RunEndEncoded => 2,
        _ => count,
    };
    if count != wanted {
        return Err(format!("its Arrow schema gives `{name}` {count} parts, not {wanted}"));
    }
    children.into_iter().flatten().try_for_each(|child| check_field(child, left))
}

/// Returns whether the field's own type, its parts aside, is one that Arrow converts.
fn is_known(field: Field) -> bool {
    match field.type_type() {
        Type::Null
        | Type::Bool
        | Type::Binary
        | Type::BinaryView
        | Type::LargeBinary
        | Type::Utf8
        | Type::Utf8View
        | Type::LargeUtf8
        | Type::List
        | Type::LargeList
        | Type::ListView
        | Type::LargeListView
        | Type::Struct_
        | Type::RunEndEncoded => true,
        Type::Int => field.type_as_int().is_some_and(|int| is_width(int.bitWidth())),
        Type::FixedSizeBinary => field.type_as_fixed_size_binary().is_some_and(|it| it.byteWidth() >= 0),
        Type::FloatingPoint => field
            .type_as_floating_point()
            .is_some_and(|float| matches!(float.precision(), Precision::HALF | Precision::SINGLE | Precision::DOUBLE)),
        Type::Date => {
            field.type_as_date().is_some_and(|date| matches!(date.unit(), DateUnit::DAY | DateUnit::MILLISECOND))
        }
        Type::Time => field.type_as_time().is_some_and(|time| {
            matches!(
                (time.bitWidth(), time.unit()),
                (32, TimeUnit::SECOND | TimeUnit::MILLISECOND) | (64, TimeUnit::MICROSECOND | TimeUnit::NANOSECOND)
            )
        }),
        Type::Timestamp => field.type_as_timestamp().is_some_and(|time| is_unit(time.unit())),
        Type::Duration => field.type_as_duration().is_some_and(|time| is_unit(time.unit())),
        Type::Interval => field.type_as_interval().is_some_and(|interval| {
            matches!(interval.unit(), IntervalUnit::YEAR_MONTH | IntervalUnit::DAY_TIME | IntervalUnit::MONTH_DAY_NANO)
        }),
        Type::FixedSizeList => field.type_as_fixed_size_list().is_some_and(|list| list.listSize() >= 0),
        Type::Map => field.type_as_map().is_some(),
        Type::Decimal => {
            field.type_as_decimal().is_some_and(|it| is_decimal(it.bitWidth(), it.precision(), it.scale()))
        }
        // A union is nothing that a Parquet file or a batch of ours can hold.
        _ => false,
    }
}

fn is_width(bits: i32) -> bool {
    matches!(bits, 8 | 16 | 32 | 64)
}

fn is_unit(unit: TimeUnit) -> bool {
    matches!(unit, TimeUnit::SECOND | TimeUnit::MILLISECOND | TimeUnit::MICROSECOND | TimeUnit::NANOSECOND)
}

fn is_decimal(bits: i32, precision: i32, scale: i32) -> bool {
    let digits = match bits {
        32 => 9,
        64 => 18,
        128 => 38,
        256 => 76,
        _ => return false,
    };
    (1..=digits).contains(&precision) && (-digits..=digits).contains(&scale)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, IntervalUnit, TimeUnit};
    use arrow::ipc::convert::try_schema_from_flatbuffer_bytes;
    use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};

    use super::{DataType, Schema, check_schema};

    fn message(schema: &Schema) -> Vec<u8> {
        let mut dictionaries = DictionaryTracker::new(false);
        let options = IpcWriteOptions::default();
        IpcDataGenerator::default()
            .schema_to_bytes_with_dictionary_tracker(schema, &mut dictionaries, &options)
            .ipc_message
    }

    #[test]
    fn every_type_that_is_written_passes() {
        let item = |data_type| Arc::new(Field::new("item", data_type, true));
        let types = [
            DataType::Null,
            DataType::UInt16,
            DataType::Float16,
            DataType::Utf8View,
            DataType::FixedSizeBinary(3),
            DataType::Date64,
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::Timestamp(TimeUnit::Second, Some("UTC".into())),
            DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Duration(TimeUnit::Millisecond),
            DataType::Decimal32(9, 2),
            DataType::Decimal256(76, -3),
            DataType::List(item(DataType::List(item(DataType::Int8)))),
            DataType::FixedSizeList(item(DataType::Boolean), 4),
            DataType::Struct(vec![Field::new("a", DataType::LargeUtf8, true)].into()),
            DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()),
        ];
        let fields: Vec<Field> =
            types.iter().enumerate().map(|(at, it)| Field::new(format!("f{at}"), it.clone(), true)).collect();
        let message = message(&Schema::new(fields));
        assert_eq!(check_schema(&message), Ok(()));
        assert_eq!(try_schema_from_flatbuffer_bytes(&message).unwrap().fields().len(), types.len());
    }

    #[test]
    fn what_passes_is_converted_without_a_panic_and_the_rest_is_refused() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Timestamp(TimeUnit::Second, None), true)));
        let fields = vec![
            Field::new("shard", DataType::UInt16, false),
            Field::new("list", list, true),
            Field::new("price", DataType::Decimal128(12, 2), true),
        ];
        let good = message(&Schema::new(fields));
        let mut refused = 0;
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                match check_schema(&bad) {
                    Ok(()) => drop(try_schema_from_flatbuffer_bytes(&bad).map(|schema| schema.fields().len())),
                    Err(reason) => {
                        assert!(!reason.is_empty());
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
