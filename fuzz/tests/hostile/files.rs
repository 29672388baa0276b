//! Files as sources: text with its line ends, packed text, Parquet.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression as Codec;
use parquet::file::properties::WriterProperties;
use riverrun_connectors::file::{Compression, FileSource, FileSourceConfig};
use riverrun_connectors::format::{CsvOptions, FormatSpec};
use riverrun_dataflow::source::{ReadLimits, Source};
use riverrun_fuzz::hold::Target;

use crate::rows::{CSV, JSON, decode, schema};
use crate::{as_it_is, hold, quick_dir};

/// Records that are read at once.
const LIMITS: ReadLimits = ReadLimits::at_most(512, 1 << 20);
/// More is not read of one input: what is packed well unpacks to as much as it likes, block by block.
const CHUNKS_MAX: usize = 200;

/// Reads a file to its end, or to its first fault, as a job does.
fn read(path: &std::path::Path, format: &FormatSpec) {
    let path = path.to_str().expect("a plain path").to_owned();
    let config = FileSourceConfig { path, format: format.clone(), compression: Compression::Auto, schema: schema() };
    let source = FileSource::new(config).expect("the settings fit");
    let make = source.decoder().expect("the schema fits");
    for bounded in [true, false] {
        let Ok(splits) = source.splits(bounded) else { continue };
        for split in &splits {
            let Ok(mut reader) = source.open(split, 0) else { continue };
            let mut decoder = make();
            for _ in 0..CHUNKS_MAX {
                match reader.read(&LIMITS) {
                    Ok(Some(chunk)) => decode(decoder.as_mut(), &chunk),
                    Ok(None) if reader.ended() => break,
                    Ok(None) => {}
                    Err(error) => {
                        assert!(error.to_string().contains("input"), "an error names its file: {error}");
                        break;
                    }
                }
            }
        }
    }
}

fn hold_file(name: &'static str, ending: &str, format: FormatSpec, samples: Vec<Vec<u8>>, spare: usize, cases: u64) {
    let folder = quick_dir();
    let path = folder.path().join(format!("input.{ending}"));
    hold(&Target {
        name,
        samples,
        mend: as_it_is(),
        spare,
        cases,
        read: Box::new(|bytes| {
            fs::write(&path, bytes).expect("the test can write");
            read(&path, &format);
        }),
    });
}

#[test]
fn json_file() {
    let crlf = JSON.replace('\n', "\r\n\r\n");
    let marked = format!("\u{feff}{JSON}");
    let samples = [JSON, &crlf, &marked].map(|text| text.as_bytes().to_vec()).to_vec();
    hold_file("json-file", "jsonl", FormatSpec::Json, samples, 16 << 20, 300);
}

#[test]
fn csv_file() {
    let text = format!("id,n,price,ok,ts,at,day,seconds,note,list,inner,inner.c.text\n{CSV}");
    hold_file("csv-file", "csv", FormatSpec::Csv(CsvOptions::default()), vec![text.into_bytes()], 16 << 20, 300);
}

#[test]
fn gzip_file() {
    let pack = |text: &str| {
        let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(text.as_bytes()).expect("memory takes all");
        packer.finish().expect("memory takes all")
    };
    let samples = vec![pack(JSON), [pack(JSON), pack(JSON)].concat(), pack(&JSON.repeat(40))];
    hold_file("gzip-file", "jsonl.gz", FormatSpec::Json, samples, 16 << 20, 300);
}

#[test]
fn zstd_file() {
    let pack = |text: &str| zstd::encode_all(text.as_bytes(), 3).expect("memory takes all");
    let samples = vec![pack(JSON), [pack(JSON), pack(JSON)].concat(), pack(&JSON.repeat(40))];
    // A frame may ask for a window, which is allocated as a whole.
    hold_file("zstd-file", "jsonl.zst", FormatSpec::Json, samples, 32 << 20, 300);
}

fn columns() -> RecordBatch {
    let prices = Decimal128Array::from(vec![Some(1250), None, Some(-1)]).with_precision_and_scale(12, 2);
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("id", Arc::new(StringArray::from(vec![Some("a"), Some("bä"), None])), true),
        ("n", Arc::new(Int64Array::from(vec![Some(-7), None, Some(i64::MAX)])), true),
        ("price", Arc::new(prices.expect("a decimal")), true),
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![1_767_225_600_000, 1, 1_767_225_600_002])), true),
        ("note", Arc::new(StringArray::from(vec![Some("{}"), Some("[1"), None])), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

#[test]
fn parquet_file() {
    let pack = |codec: Codec, dictionary: bool| {
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_dictionary_enabled(dictionary)
            .set_max_row_group_row_count(Some(2))
            .build();
        let rows = columns();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).expect("it can be written");
        writer.write(&rows).and_then(|()| writer.close()).expect("memory takes all");
        bytes
    };
    let samples = vec![pack(Codec::UNCOMPRESSED, false), pack(Codec::SNAPPY, true), pack(Codec::LZ4_RAW, false)];
    hold_file("parquet-file", "parquet", FormatSpec::Parquet, samples, 16 << 20, 800);
}
