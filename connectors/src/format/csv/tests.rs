//! What is written is read back, and fields are split as a naive reader splits them.

use std::sync::Arc;

use proptest::prelude::*;
use riverrun_dataflow::sink::{EncodedRows, Encoder};

use super::super::json::JsonDecoder;
use super::super::samples::{codes, decode, schema, values};
use super::super::{CsvOptions, EncodeSpec, FormatSpec, decoder, preamble};
use super::{CsvDecoder, CsvEncoder, FieldReader, Header, declared_names, header_names};

/// Reads fields one character at a time.
fn naive(record: &str) -> Vec<(String, bool)> {
    let mut fields = vec![(String::new(), false)];
    let (mut quoted, mut fresh) = (false, true);
    let mut chars = record.chars().peekable();
    while let Some(c) = chars.next() {
        let (text, was_quoted) = fields.last_mut().unwrap();
        match c {
            '"' if fresh => (quoted, *was_quoted) = (true, true),
            '"' if quoted && chars.peek() == Some(&'"') => text.push(chars.next().unwrap()),
            '"' if quoted => quoted = false,
            ',' if !quoted => {
                fields.push((String::new(), false));
                fresh = true;
                continue;
            }
            _ => text.push(c),
        }
        fresh = false;
    }
    fields
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn fields_are_split_as_one_character_at_a_time_splits_them(
        pieces in prop::collection::vec(prop::sample::select(&["a", "bc", "\"", "\"", "\"\"", ",", "\n", "ü", " "][..]), 0..20),
    ) {
        let record = pieces.concat();
        let found: Vec<_> = FieldReader::new(&record, b',').map(|f| (f.text.into_owned(), f.quoted)).collect();
        prop_assert_eq!(found, naive(&record));
    }

    #[test]
    fn what_is_written_is_read_back(
        texts in prop::collection::vec((prop::option::of("[ab\",;\n\r\\\\ü ]{0,6}|NULL"), any::<i64>(), any::<bool>(), 0_i64..4_102_444_800_000), 1..8),
        null in prop::sample::select(&["", "NULL"][..]),
        delimiter in prop::sample::select(&b",;\t"[..]),
    ) {
        let schema = schema(&["s: string", "n: int64", "b: bool", "t: timestamp_ms", "l: list<string>"]);
        let options = CsvOptions { header: false, delimiter, null: null.to_owned() };
        let records: Vec<String> = texts
            .iter()
            .map(|(s, n, b, t)| serde_json::json!({"s": s, "n": n, "b": b, "t": t, "l": s.as_ref().map(|s| vec![s])}).to_string())
            .collect();
        let first = decode(&mut JsonDecoder::new(&schema), &records);
        let mut out = EncodedRows::default();
        let mut encoder = CsvEncoder::new(&schema.arrow(), &options, None).unwrap();
        encoder.encode(&first.batches[0], &mut out).unwrap();
        let lines: Vec<&[u8]> = (0..out.len()).map(|row| out.row(row)).collect();

        // Written times are RFC 3339.
        let back = super::super::samples::schema(&["s: string", "n: int64", "b: bool", "t: timestamp", "l: list<string>"]);
        let second = decode(&mut *decoder(&FormatSpec::Csv(options), Arc::new(back)).unwrap()(), &lines);
        prop_assert_eq!(&second.bad, &[]);
        let (mut first, second) = (values(&first), values(&second));
        for row in &mut first {
            let time = row["t"].as_str().unwrap().replace('Z', "000Z");
            row["t"] = time.into();
        }
        prop_assert_eq!(first, second);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let header = Header::default();
        let schema = schema(&["a: int64", "b: json"]);
        header.set(declared_names(&schema)).unwrap();
        decode(&mut CsvDecoder::new(&schema, &CsvOptions::default(), header), &[&bytes]);
        let _ = header_names(&bytes, &CsvOptions::default());
    }
}

#[test]
fn records_that_stand_alone_have_no_header() {
    let schema = Arc::new(schema(&["a: int64", "b: string!", "c: int64"]));
    assert!(decoder(&FormatSpec::Csv(CsvOptions::default()), schema.clone()).is_err());
    let spec = FormatSpec::Csv(CsvOptions { header: false, ..CsvOptions::default() });
    let decoded = decode(&mut *decoder(&spec, schema).unwrap()(), &["1,x,", "2,,3", "inf,x,1", "\"4\",\"\",5"]);
    let rows = [serde_json::json!({"a": 1, "b": "x", "c": null}), serde_json::json!({"a": 4, "b": "", "c": 5})];
    assert_eq!((values(&decoded), codes(&decoded)), (rows.to_vec(), vec!["missing", "type"]));
}

#[test]
fn a_header_is_the_beginning_of_a_file() {
    let schema = schema(&["a: int64", "b;c: string"]).arrow();
    let options = CsvOptions { delimiter: b';', ..CsvOptions::default() };
    assert_eq!(preamble(&EncodeSpec::Csv(options.clone()), &schema), b"a;\"b;c\"\n");
    assert_eq!(preamble(&EncodeSpec::Csv(CsvOptions { header: false, ..options }), &schema), b"");
    assert!(header_names(b"a,b,a", &CsvOptions::default()).is_err());
}

#[test]
fn columns_of_one_field_share_it_without_a_header_too() {
    let schema = Arc::new(schema(&["price: decimal(12,2)", "amount: float64 @ price", "n: int64"]));
    let spec = FormatSpec::Csv(CsvOptions { header: false, ..CsvOptions::default() });
    let decoded = decode(&mut *decoder(&spec, schema).unwrap()(), &["1.50,7", ",8", "2,9"]);
    let row =
        |price: Option<f64>, amount: Option<f64>, n: u64| serde_json::json!({"price": price, "amount": amount, "n": n});
    let rows = [row(Some(1.5), Some(1.5), 7), row(None, None, 8), row(Some(2.0), Some(2.0), 9)];
    assert_eq!((values(&decoded), codes(&decoded)), (rows.to_vec(), Vec::<&str>::new()));
}
