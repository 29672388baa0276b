//! What the structures of a Parquet file are made of.
//!
//! The format: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>. Here are the fields that are read, those
//! of encrypted files and of indexes left out, which are not.

/// A structure: the numbers of its fields, and what they are.
pub(super) type Shape = &'static [(i16, Kind)];

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    Truth,
    Byte,
    /// Of 16, 32 or 64 bits: they are written alike, and writers do not agree on which is which.
    Number,
    /// A number that matters.
    Noted(Note),
    Double,
    Binary,
    List(&'static Kind),
    /// A list of the elements of a schema.
    Schema,
    Struct(Shape),
}

/// Numbers that matter before a structure is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    /// Of an element of a schema.
    Children,
    /// The bytes of a page when it is unpacked.
    PageBytes,
    /// The values in a dictionary.
    DictionaryValues,
}

/// How many they are.
pub(super) const NOTES: usize = 3;

use Kind::{Binary, Byte, Double, List, Noted, Number, Schema, Struct, Truth};

pub(super) const FILE_META_DATA: Shape = &[
    (1, Number), // version
    (2, Schema),
    (3, Number), // num_rows
    (4, List(&Struct(ROW_GROUP))),
    (5, List(&Struct(KEY_VALUE))),
    (6, Binary), // created_by
    (7, List(&Struct(COLUMN_ORDER))),
    (8, Struct(&[])), // encryption_algorithm
    (9, Binary),      // footer_signing_key_metadata
];

pub(super) const SCHEMA_ELEMENT: Shape = &[
    (1, Number), // type
    (2, Number), // type_length
    (3, Number), // repetition_type
    (4, Binary), // name
    (5, Noted(Note::Children)),
    (6, Number), // converted_type
    (7, Number), // scale
    (8, Number), // precision
    (9, Number), // field_id
    (10, Struct(LOGICAL_TYPE)),
];

const LOGICAL_TYPE: Shape = &[
    (1, Struct(&[])),                          // STRING
    (2, Struct(&[])),                          // MAP
    (3, Struct(&[])),                          // LIST
    (4, Struct(&[])),                          // ENUM
    (5, Struct(&[(1, Number), (2, Number)])),  // DECIMAL: scale, precision
    (6, Struct(&[])),                          // DATE
    (7, Struct(TIME)),                         // TIME
    (8, Struct(TIME)),                         // TIMESTAMP
    (10, Struct(&[(1, Byte), (2, Truth)])),    // INTEGER: bit_width, is_signed
    (11, Struct(&[])),                         // UNKNOWN
    (12, Struct(&[])),                         // JSON
    (13, Struct(&[])),                         // BSON
    (14, Struct(&[])),                         // UUID
    (15, Struct(&[])),                         // FLOAT16
    (16, Struct(&[(1, Byte)])),                // VARIANT: specification_version
    (17, Struct(&[(1, Binary)])),              // GEOMETRY: crs
    (18, Struct(&[(1, Binary), (2, Number)])), // GEOGRAPHY: crs, algorithm
];

/// Whether it is in UTC, and its unit.
const TIME: Shape = &[(1, Truth), (2, Struct(&[(1, Struct(&[])), (2, Struct(&[])), (3, Struct(&[]))]))];

const COLUMN_ORDER: Shape = &[(1, Struct(&[])), (2, Struct(&[]))];

const KEY_VALUE: Shape = &[(1, Binary), (2, Binary)];

const ROW_GROUP: Shape = &[
    (1, List(&Struct(COLUMN_CHUNK))),
    (2, Number), // total_byte_size
    (3, Number), // num_rows
    (4, List(&Struct(SORTING_COLUMN))),
    (5, Number), // file_offset
    (6, Number), // total_compressed_size
    (7, Number), // ordinal
];

/// Its number, and whether it descends and has nulls first.
const SORTING_COLUMN: Shape = &[(1, Number), (2, Truth), (3, Truth)];

const COLUMN_CHUNK: Shape = &[
    (1, Binary), // file_path
    (2, Number), // file_offset
    (3, Struct(COLUMN_META_DATA)),
    (4, Number),      // offset_index_offset
    (5, Number),      // offset_index_length
    (6, Number),      // column_index_offset
    (7, Number),      // column_index_length
    (8, Struct(&[])), // crypto_metadata
    (9, Binary),      // encrypted_column_metadata
];

const COLUMN_META_DATA: Shape = &[
    (1, Number),        // type
    (2, List(&Number)), // encodings
    (3, List(&Binary)), // path_in_schema
    (4, Number),        // codec
    (5, Number),        // num_values
    (6, Number),        // total_uncompressed_size
    (7, Number),        // total_compressed_size
    (8, List(&Struct(KEY_VALUE))),
    (9, Number),  // data_page_offset
    (10, Number), // index_page_offset
    (11, Number), // dictionary_page_offset
    (12, Struct(STATISTICS)),
    (13, List(&Struct(&[(1, Number), (2, Number), (3, Number)]))), // encoding_stats: page_type, encoding, count
    (14, Number),                                                  // bloom_filter_offset
    (15, Number),                                                  // bloom_filter_length
    (16, Struct(&[(1, Number), (2, List(&Number)), (3, List(&Number))])), // size_statistics
    (17, Struct(&[(1, Struct(BOUNDING_BOX)), (2, List(&Number))])), // geospatial_statistics
];

const STATISTICS: Shape = &[
    (1, Binary), // max
    (2, Binary), // min
    (3, Number), // null_count
    (4, Number), // distinct_count
    (5, Binary), // max_value
    (6, Binary), // min_value
    (7, Truth),  // is_max_value_exact
    (8, Truth),  // is_min_value_exact
];

const BOUNDING_BOX: Shape =
    &[(1, Double), (2, Double), (3, Double), (4, Double), (5, Double), (6, Double), (7, Double), (8, Double)];

pub(super) const PAGE_HEADER: Shape = &[
    (1, Number), // type
    (2, Noted(Note::PageBytes)),
    (3, Number), // compressed_page_size
    (4, Number), // crc
    (5, Struct(DATA_PAGE_HEADER)),
    (6, Struct(&[])), // index_page_header
    (7, Struct(DICTIONARY_PAGE_HEADER)),
    (8, Struct(DATA_PAGE_HEADER_V2)),
];

/// How many values, their encoding, and whether they are sorted.
const DICTIONARY_PAGE_HEADER: Shape = &[(1, Noted(Note::DictionaryValues)), (2, Number), (3, Truth)];

const DATA_PAGE_HEADER: Shape = &[
    (1, Number), // num_values
    (2, Number), // encoding
    (3, Number), // definition_level_encoding
    (4, Number), // repetition_level_encoding
    (5, Struct(STATISTICS)),
];

const DATA_PAGE_HEADER_V2: Shape = &[
    (1, Number), // num_values
    (2, Number), // num_nulls
    (3, Number), // num_rows
    (4, Number), // encoding
    (5, Number), // definition_levels_byte_length
    (6, Number), // repetition_levels_byte_length
    (7, Truth),  // is_compressed
    (8, Struct(STATISTICS)),
];
