//! Files that a writer made are opened and read; structures that would hold up or mislead a reader are not.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float16Array, Int64Array, ListArray, ListBuilder,
    MapBuilder, RecordBatch, StringArray, StringBuilder, Time32MillisecondArray, TimestampNanosecondArray, UInt8Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, Repetition};
use parquet::column::page::Page;
use parquet::data_type::ByteArrayType;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;

use super::kinds::*;
use super::walk::{Fault, Notes, check};
use super::*;

/// Rows of many types.
fn rows() -> RecordBatch {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for name in ["a", "b", "c"] {
        map.keys().append_value(name);
        map.values().append_value("x");
        map.append(true).unwrap();
    }
    let columns: [(&str, ArrayRef); 10] = [
        ("long", Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)]))),
        // A least and a greatest value that no head of a page holds in the bytes that are looked at first.
        ("text", Arc::new(StringArray::from(vec!["a".repeat(5000), "b".repeat(5000), "c".into()]))),
        ("truth", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("small", Arc::new(UInt8Array::from(vec![1, 2, 255]))),
        ("half", Arc::new(Float16Array::from(vec![Some(Default::default()), None, None]))),
        ("money", Arc::new(Decimal128Array::from(vec![1, 2, 3]).with_precision_and_scale(30, 4).unwrap())),
        ("time", Arc::new(Time32MillisecondArray::from(vec![1, 2, 3]))),
        ("moment", Arc::new(TimestampNanosecondArray::from(vec![1, 2, 3]).with_timezone("UTC"))),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), None, None])),
        ),
        ("map", Arc::new(map.finish())),
    ];
    let named = DictionaryArray::<Int32Type>::from_iter(["x", "y", "x"]);
    let columns = columns.into_iter().chain([("named", Arc::new(named) as ArrayRef)]);
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn written(properties: WriterPropertiesBuilder) -> Bytes {
    let (rows, mut bytes) = (rows(), Vec::new());
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties.build())).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    bytes.into()
}

/// Reads a file, without the notes in its schema.
fn read(bytes: Bytes) -> Result<RecordBatch, String> {
    let file = open(bytes)?;
    let schema = Arc::new(Schema::new(file.schema().fields().clone()));
    let batches = Rows::of(file)?.collect::<Result<Vec<_>, _>>()?;
    let batches: Vec<_> = batches.into_iter().map(|batch| batch.with_schema(schema.clone()).unwrap()).collect();
    concat_batches(&schema, &batches).map_err(|error| error.to_string())
}

#[test]
fn what_a_writer_wrote_is_read() {
    let plain = WriterProperties::builder;
    let notes = vec![KeyValue::new("a".into(), "b".to_owned()), KeyValue::new("c".into(), None)];
    let sorted = vec![SortingColumn { column_idx: 0, descending: true, nulls_first: false }];
    for properties in [
        plain(),
        plain().set_dictionary_enabled(false).set_compression(Compression::SNAPPY),
        plain().set_writer_version(WriterVersion::PARQUET_2_0).set_max_row_group_row_count(Some(2)),
        plain().set_data_page_row_count_limit(1).set_write_batch_size(1),
        plain()
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_write_page_header_statistics(true)
            .set_statistics_truncate_length(None)
            .set_bloom_filter_enabled(true)
            .set_sorting_columns(Some(sorted))
            .set_key_value_metadata(Some(notes)),
    ] {
        assert_eq!(read(written(properties)), Ok(rows()));
    }
}

#[test]
fn a_file_is_read_from_the_disk_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    std::fs::write(&path, written(WriterProperties::builder())).unwrap();
    let mut read = Rows::of(open(std::fs::File::open(path).unwrap()).unwrap()).unwrap();
    assert_eq!(read.next(), Some(Ok(rows())));
    assert_eq!(read.next(), None);
}

#[test]
fn room_is_made_for_no_more_rows_than_there_are() {
    let file = open(written(WriterProperties::builder())).unwrap().with_batch_size(1 << 20);
    let batch = Rows::of(file).unwrap().next().unwrap().unwrap();
    assert!(batch.get_array_memory_size() < 1 << 20, "{} bytes", batch.get_array_memory_size());
}

/// 2^31 - 1 as a number.
const MANY: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 7];

/// A structure with one field of this number and type.
fn field(number: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 4 | kind], value, &[STOP]].concat()
}

/// A list of 2^31 - 1 truth values.
fn endless() -> Vec<u8> {
    [&[15 << 4 | TRUE], MANY.as_slice()].concat()
}

#[test]
fn each_type_is_passed() {
    let inner = field(1, I32, &[0x96, 1]);
    for bytes in [
        field(1, TRUE, &[]),
        field(1, BYTE, &[7]),
        field(1, I64, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        field(1, DOUBLE, &[0; 8]),
        field(1, UUID, &[0; 16]),
        field(1, BINARY, b"\x03abc"),
        field(1, LIST, &[&[2 << 4 | STRUCT], inner.as_slice(), &inner].concat()),
        field(1, LIST, &[0]),
        field(1, SET, &[&[15 << 4 | I16, 16], [0; 16].as_slice()].concat()),
        field(1, MAP, &[0]),
        field(1, MAP, &[1, BINARY << 4 | I32, 1, b'a', 5]),
        field(1, STRUCT, &inner),
        // The number of a field by itself.
        vec![BYTE, 0x80, 2, 9, STOP],
    ] {
        assert_eq!(check(&bytes, &[]), Ok(Notes::default()), "{bytes:?}");
        for cut in 0..bytes.len() {
            let fault = check(&bytes[..cut], &[]);
            assert!(matches!(fault, Err(Fault::Cut(_))), "{bytes:?} to {cut}: {fault:?}");
        }
    }
}

#[test]
fn lists_that_take_no_bytes_are_refused() {
    for (value, says) in [
        (endless(), "truth values"),
        (vec![2 << 4 | FALSE, 1, 1], "truth values"),
        ([&[15 << 4 | STRUCT], MANY.as_slice()].concat(), "2147483647 elements"),
        (vec![1 << 4 | STOP], "of type 0"),
        (vec![1 << 4 | LIST; 100], "within each other"),
    ] {
        let error = check(&field(1, LIST, &value), &[]).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let pairs = [MANY.as_slice(), &[TRUE << 4 | TRUE]].concat();
    assert!(check(&field(1, MAP, &pairs), &[]).is_err());
}

/// The reader would take the bytes of such a field for something else, and what follows for fields that are none.
#[test]
fn fields_have_the_types_of_their_numbers() {
    let hidden = [&[6], endless().as_slice()].concat();
    for (bytes, shape, says) in [
        (field(1, BINARY, &hidden), FILE_META_DATA, "field 1 is a value of type 8"),
        (field(2, LIST, &[1 << 4 | BINARY, 1, b'a']), FILE_META_DATA, "a list of values of type 8"),
        (field(2, SET, &[0]), FILE_META_DATA, "field 2 is a value of type 10"),
        (field(4, LIST, &[&[1 << 4 | STRUCT], field(2, BINARY, b"\0").as_slice()].concat()), FILE_META_DATA, "field 2"),
        (field(5, STRUCT, &field(5, STRUCT, &field(3, DOUBLE, &[0; 8]))), PAGE_HEADER, "field 3 is a value of type 7"),
        // By numbers that are told as they are.
        (vec![BINARY, 2, 1, b'a', STOP], FILE_META_DATA, "field 1 is a value of type 8"),
        (vec![I32, 0xfe, 0xff, 3, 0, 1 << 4 | I32, 0, STOP], PAGE_HEADER, "above all"),
        (vec![I32, 0xff, 0xff, 0xff, 0x7f, 0, STOP], PAGE_HEADER, "above all"),
    ] {
        let error = check(&bytes, shape).unwrap_err().to_string();
        assert!(error.contains(says), "{bytes:?}: {error}");
    }
    // Numbers are written alike, whatever their width, and of fields that nobody knows any type is right.
    assert!(check(&field(1, I64, &[2]), FILE_META_DATA).is_ok());
    assert!(check(&field(14, BINARY, &[0]), FILE_META_DATA).is_ok());
}

#[test]
fn a_footer_is_found_at_the_end_of_a_file() {
    let file = |footer: &[u8]| {
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        Bytes::from([b"PAR1", footer, &length, b"PAR1"].concat())
    };
    let there = field(1, 14, &[]);
    assert_eq!(footer(&file(&there)), Ok(Some(there.clone().into())));
    assert!(open(file(&there)).is_err_and(|error| error.contains("its footer is none")));
    // These are for the reader.
    for none in [b"".as_slice(), b"PAR1", b"\xff\xff\xff\xffPAR1", b"\x01\x00\x00\x00PARE"] {
        assert_eq!(footer(&Bytes::copy_from_slice(none)), Ok(None));
        assert!(open(Bytes::copy_from_slice(none)).is_err());
    }
}

#[test]
fn the_head_of_a_page_is_checked_when_it_is_read() {
    let head = |bytes: &[u8]| Checked(Bytes::copy_from_slice(bytes)).get_read(0).unwrap();
    let all = |bytes: &[u8]| {
        let mut read = Vec::new();
        head(bytes).read_to_end(&mut read).map(|_| read).map_err(|error| error.to_string())
    };
    // Much longer than what is looked at first, and rows after it.
    let long =
        [field(4, I32, &[9])[..2].to_vec(), vec![12 << 4 | BINARY, 0xa0, 0x1f], vec![b'x'; 4000], vec![STOP; 900]]
            .concat();
    assert_eq!(all(&long), Ok(long));
    let bad = field(14, LIST, &endless());
    assert!(all(&bad).unwrap_err().contains("truth values"));
    // Nobody reads it: it may be the rows of a page of which the head is known.
    drop(head(&bad));
    assert!(all(&[5 << 4 | STRUCT]).unwrap_err().contains("in the middle"));
    // A list that may have its elements further on, and has not.
    let endless_list = [field(14, LIST, &[15 << 4 | BYTE])[..2].to_vec(), MANY.to_vec(), vec![0; 5000]].concat();
    assert!(all(&endless_list).unwrap_err().contains("2147483647 elements"));
}

/// An element of a schema: a required group of so many columns, or a column of 64 bits.
fn element(name: &str, children: Option<u64>) -> Vec<u8> {
    let mut bytes = if children.is_none() { vec![1 << 4 | I32, 4, 2 << 4 | I32, 0] } else { vec![3 << 4 | I32, 0] };
    bytes.push(1 << 4 | BINARY);
    number(name.len() as u64, &mut bytes);
    bytes.extend(name.as_bytes());
    if let Some(children) = children {
        bytes.push(1 << 4 | I32);
        number(children << 1, &mut bytes);
    }
    bytes.push(STOP);
    bytes
}

fn number(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 127 {
        bytes.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[test]
fn a_schema_is_a_tree_of_no_great_depth() {
    let schema = |elements: &[Vec<u8>]| {
        let mut list = vec![15 << 4 | STRUCT];
        number(elements.len() as u64, &mut list);
        check(&field(2, LIST, &[list, elements.concat()].concat()), FILE_META_DATA).map_err(|fault| fault.to_string())
    };
    let (column, group) = (element("a", None), |children: u64| element("a", Some(children)));
    let good = [group(3), column.clone(), group(2), column.clone(), group(1), column.clone(), column.clone()];
    assert!(schema(&good).is_ok(), "{:?}", schema(&good));
    assert!(schema(&[group(0)]).is_ok());
    for (elements, says) in [
        (&good[..6], "other columns than there are"),
        (&[good.as_slice(), std::slice::from_ref(&column)].concat(), "in no group"),
        (&[group(1 << 31), column.clone()], "other columns than there are"),
        (&[vec![group(1); 100], vec![column.clone()]].concat(), "within each other for ever"),
        // One long name, in the path of each of many columns.
        (
            &[vec![element(&"a".repeat(50_000), Some(5000))], vec![column.clone(); 5000]].concat(),
            "paths of its columns",
        ),
    ] {
        let error = schema(elements).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_dictionary_has_no_more_values_than_there_is_room_for() {
    let page = |values: u64, bytes: u64| {
        let mut head = vec![1 << 4 | I32, 4, 1 << 4 | I32];
        number(bytes << 1, &mut head);
        head.extend([1 << 4 | I32, 0, 4 << 4 | STRUCT, 1 << 4 | I32]);
        number(values << 1, &mut head);
        head.extend([1 << 4 | I32, 0, STOP, STOP]);
        let mut read = Vec::new();
        Checked(Bytes::from(head))
            .get_read(0)
            .unwrap()
            .read_to_end(&mut read)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(page(80, 10), Ok(()));
    assert!(page(i32::MAX as u64, 0).unwrap_err().contains("more values than there is room for"));
}

/// Of texts that are not called so in the old way the reader makes texts in a release build, whatever they are.
#[test]
fn texts_are_utf_8_whatever_they_are_called() {
    let texts = |bytes: &[u8]| {
        let kind = "message m { required binary note (JSON); required group g { required binary name (STRING); } }";
        let kind = Arc::new(parse_message_type(kind).unwrap());
        let mut file = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut file, kind, Default::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for value in [bytes, b"b"] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&[value.into()], None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        read(file.into())
    };
    assert_eq!(texts(b"a").unwrap().column(0).as_ref(), &StringArray::from(vec!["a"]) as &dyn Array);
    assert!(texts(&[0xf0]).is_err());
    let usual = open(written(WriterProperties::builder())).unwrap();
    assert_eq!(unproven(usual.parquet_schema()), BTreeSet::new());
}

/// Texts, and lists of them, in one of the encodings that begin with lengths.
fn with_lengths(encoding: Encoding, version: WriterVersion, rows: usize) -> (RecordBatch, Bytes) {
    let texts = StringArray::from_iter((0..rows).map(|row| (row % 7 > 0).then(|| format!("text {}", row / 3))));
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        lists.append_option((row % 5 > 0).then(|| vec![Some("a"), None, Some("abc")].into_iter().take(row % 4)));
    }
    let whole = StringArray::from_iter_values((0..rows).map(|row| "x".repeat(row % 9)));
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("texts", Arc::new(texts), true),
        ("lists", Arc::new(lists.finish()), true),
        ("whole", Arc::new(whole), false),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_dictionary_enabled(false)
        .set_encoding(encoding)
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(100)
        .set_max_row_group_row_count(Some(250));
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    (batch, bytes.into())
}

#[test]
fn a_page_makes_room_for_no_more_lengths_than_it_has_values() {
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for encoding in [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
            let (rows, bytes) = with_lengths(encoding, version, 600);
            assert_eq!(read(bytes.clone()), Ok(rows));
            // Blocks of 128 lengths, 4 to a block; then how many: those of the 100 whole texts of a page.
            let head = [0x80, 1, 4, 100];
            let heads: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..*at + 4] == head).collect();
            let refused = heads.iter().filter(|at| {
                let mut changed = bytes.to_vec();
                changed[**at + 3] = 101;
                read(changed.into()).is_err_and(|error| error.contains("lengths of more values than it has"))
            });
            // Pages of the other columns may have more values than lengths, which are none of nulls.
            let pages = if encoding == Encoding::DELTA_BYTE_ARRAY { 10 } else { 5 };
            assert!(refused.count() >= pages, "{encoding}");
        }
    }
}

#[test]
fn lengths_that_are_none_are_refused() {
    let name = "message m { required binary a (STRING); }";
    let column = SchemaDescriptor::new(Arc::new(parse_message_type(name).unwrap())).column(0);
    let page = |encoding: Encoding, numbers: &[u64], rest: &[u8]| {
        let mut buf = Vec::new();
        numbers.iter().for_each(|one| number(*one, &mut buf));
        buf.extend(rest);
        let page = Page::DataPage {
            buf: buf.into(),
            num_values: u32::MAX,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        delta::check(&page, &column)
    };
    let lengths = |numbers: &[u64]| page(Encoding::DELTA_LENGTH_BYTE_ARRAY, numbers, &[]);
    assert_eq!(lengths(&[128, 4, 1 << 24, 0]), Ok(()));
    assert!(lengths(&[128, 4, (1 << 24) + 1, 0]).unwrap_err().contains("more values"));
    assert!(lengths(&[128, 4, 1 << 60, 0]).unwrap_err().contains("more values"));
    for none in [[128, 0, 9, 0], [128, 3, 9, 0], [1 << 60, 4, 9, 0]] {
        assert!(lengths(&none).unwrap_err().contains("none"), "{none:?}");
    }
    assert!(lengths(&[128, 4]).unwrap_err().contains("ends within"));
    assert!(page(Encoding::DELTA_LENGTH_BYTE_ARRAY, &[128, 4, 9], &[255; 10]).unwrap_err().contains("none"));
    let both = |blocks: &[u8], again: &[u64]| {
        let mut rest = blocks.to_vec();
        again.iter().for_each(|one| number(*one, &mut rest));
        page(Encoding::DELTA_BYTE_ARRAY, &[128, 4, 40, 0], &rest)
    };
    // Of four small blocks two have numbers: of 3 bits, and of none. What the others say of their width counts for nothing.
    let blocks = [[0, 3, 0, 200, 200].as_slice(), &[7; 12]].concat();
    assert_eq!(both(&blocks, &[128, 4, 40, 0]), Ok(()));
    assert!(both(&blocks, &[128, 4, 1 << 40, 0]).unwrap_err().contains("more values"));
    assert!(both(&blocks[..10], &[]).unwrap_err().contains("ends within"));
    assert_eq!(page(Encoding::PLAIN, &[], &[]), Ok(()));
}

/// Arrow has no groups without columns: its types are not taken for those of the columns behind one.
#[test]
fn a_group_without_columns_is_left_out() {
    let number = Type::primitive_type_builder("n", parquet::basic::Type::INT64).with_repetition(Repetition::REQUIRED);
    let nothing = Type::group_type_builder("nothing").with_repetition(Repetition::REQUIRED);
    let fields = [nothing.build().unwrap(), number.build().unwrap()].map(Arc::new).to_vec();
    let kind = Type::group_type_builder("m").with_fields(fields).build().unwrap();
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, Arc::new(kind), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<parquet::data_type::Int64Type>().write_batch(&[1, 2, 3], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let rows = read(file.into()).unwrap();
    assert_eq!((rows.num_columns(), rows.column(0).as_ref()), (1, &Int64Array::from(vec![1, 2, 3]) as &dyn Array));
}

/// Each byte of a file is changed to each of some values: all end, as files or as errors, some of which the reader panicked at.
#[test]
fn one_changed_byte_ends_as_rows_or_as_an_error() {
    let mut panics = 0;
    let written =
        [false, true].map(|dictionary| written(WriterProperties::builder().set_dictionary_enabled(dictionary)));
    let lengths = [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY]
        .map(|encoding| with_lengths(encoding, WriterVersion::PARQUET_1_0, 20).1);
    for bytes in written.into_iter().chain(lengths) {
        // One byte of each run of equal ones, which long texts are.
        for at in (1..bytes.len()).filter(|at| bytes[*at] != bytes[at - 1]) {
            for value in [0, 0xf1, bytes[at] ^ 0x10] {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                panics +=
                    usize::from(read(changed.into()).is_err_and(|error| error.starts_with("it contradicts itself")));
            }
        }
    }
    assert!(panics > 0, "nothing has to be caught any more");
}
