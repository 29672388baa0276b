//! The text reader.

use std::io::{self, Cursor, Read};

use proptest::prelude::*;
use riverrun_dataflow::source::{ReadLimits, SourceError, SplitReader};

use super::super::compression::Compression;
use super::super::text::{Input, Layout, TextReader};
use super::{ALL, bytes, read_all, records};

/// Gives bytes in pieces of odd sizes.
struct Dribble(Cursor<Vec<u8>>, usize);

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 * 31 % 97 + 1;
        let most = into.len().min(self.1);
        self.0.read(&mut into[..most])
    }
}

fn reader(text: &[u8], layout: Layout, position: u64) -> TextReader {
    let rest = Dribble(Cursor::new(text[position as usize..].to_vec()), 7);
    let input = Input { what: "text".to_owned(), bytes: Box::new(rest), compression: Compression::None, left: None };
    TextReader::new(input, layout, position).unwrap()
}

const CSV: Layout = Layout::Csv { delimiter: b',', header: false };

/// The records by the rules as they are written.
fn naive(text: &[u8], layout: Layout) -> Vec<(u64, Vec<u8>)> {
    let (mut found, mut start, mut at, mut quoted) = (Vec::new(), 0, 0, false);
    if text.starts_with(b"\xef\xbb\xbf") {
        (start, at) = (3, 3);
    }
    while at <= text.len() {
        let ends = at == text.len() || (text[at] == b'\n' && !quoted);
        if ends {
            let record = text[start..at].strip_suffix(b"\r").unwrap_or(&text[start..at]);
            if !record.is_empty() {
                found.push((start as u64, record.to_vec()));
            }
            (start, quoted) = (at + 1, false);
        } else if layout != Layout::Lines && text[at] == b'"' {
            if quoted {
                quoted = text.get(at + 1) == Some(&b'"');
                at += usize::from(quoted);
            } else {
                quoted = at == start || text[at - 1] == b',';
            }
        }
        at += 1;
    }
    found
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(&["a", "bcd", "\n", "\n", "\r\n", "\r", "\"", "\"\"", ",", ",\"", "\",", "ü"][..]);
    let mark = prop::sample::select(&["", "", "", "\u{feff}"][..]);
    (mark, prop::collection::vec(piece, 0..60))
        .prop_map(|(mark, pieces)| (mark.to_owned() + &pieces.concat()).into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_cut_gives_the_same_records_positions_and_bytes(
        text in text(),
        csv: bool,
        cuts in prop::collection::vec((1_usize..6, 1_usize..20, any::<bool>()), 1..30),
    ) {
        let layout = if csv { CSV } else { Layout::Lines };
        let whole = read_all(&mut reader(&text, layout, 0), &ALL);
        let all = naive(&text, layout);
        prop_assert_eq!(records(&whole), all.clone());
        prop_assert!(text.starts_with(&bytes(&whole)));

        let (mut pieces, mut left) = (Vec::new(), all.len());
        let mut split = reader(&text, layout, 0);
        for (rows, bytes, again) in cuts.iter().cycle() {
            prop_assert_eq!(split.ended(), left == 0);
            let Some(chunk) = split.read(&ReadLimits::at_most(*rows, *bytes)).unwrap() else { break };
            prop_assert!(chunk.rows() == left.min(*rows) || chunk.bytes() + 1 > 1, "fewer only at the byte limit");
            prop_assert!(chunk.rows() == 1 || chunk.bytes() <= *bytes);
            if *again {
                split = reader(&text, layout, chunk.to);
            }
            left -= records(std::slice::from_ref(&chunk)).len();
            pieces.push(chunk);
        }
        prop_assert_eq!(records(&pieces), all);
        prop_assert_eq!(bytes(&pieces), bytes(&whole));
        // What was read between two positions is read again with `until`.
        for piece in &pieces {
            let limits = ReadLimits { until: Some(piece.to), ..ALL };
            let again = read_all(&mut reader(&text, layout, piece.from), &limits);
            prop_assert_eq!(records(&again), records(std::slice::from_ref(piece)));
            prop_assert_eq!(bytes(&again), bytes(std::slice::from_ref(piece)));
        }
    }

    #[test]
    fn row_limits_are_met_exactly(lines in prop::collection::vec("[a-z]{0,9}", 0..40), limit in 1_usize..10) {
        let text = lines.join("\n");
        let wanted = lines.iter().filter(|line| !line.is_empty()).count();
        let chunks = read_all(&mut reader(text.as_bytes(), Layout::Lines, 0), &ReadLimits { rows: limit, ..ALL });
        let mut left = wanted;
        for chunk in chunks {
            prop_assert_eq!(chunk.rows(), left.min(limit));
            left -= chunk.rows();
        }
        prop_assert_eq!(left, 0);
    }
}

#[test]
fn a_csv_header_is_no_record_but_part_of_the_bytes() {
    let layout = Layout::Csv { delimiter: b';', header: true };
    let text = b"\xef\xbb\xbf\n\"a\nb\";c\r\n1;2\n\n3;4";
    let chunks = read_all(&mut reader(text, layout, 0), &ReadLimits { rows: 1, ..ALL });
    assert_eq!(records(&chunks), [(13, b"1;2".to_vec()), (18, b"3;4".to_vec())]);
    assert_eq!(bytes(&chunks), text);
    for empty in [&b""[..], b"a;b", b"a;b\n\n", b"\xef\xbb\xbf", b"\n\r\n\r"] {
        let mut reader = reader(empty, layout, 0);
        assert!(reader.ended() && reader.read(&ALL).unwrap().is_none());
    }
}

/// The longest record that is none too many.
const MAX: usize = 64 << 20;

#[test]
fn a_record_too_long_is_one_cut_record() {
    for length in [MAX, MAX + 1, MAX + (2 << 20)] {
        let mut text = b"a\n\n".to_vec();
        text.resize(3 + length, b'x');
        text.extend_from_slice(b"\r\nb\n");
        let chunks = read_all(&mut fast(&text, 0), &ALL);
        let found = records(&chunks);
        assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 3, 5 + length as u64]);
        assert_eq!(found[1].1.len(), length.min(MAX + 1));
        assert_eq!(chunks.last().unwrap().to, text.len() as u64);
        let again = read_all(&mut fast(&text, 2), &ReadLimits::at_most(1, 1));
        assert_eq!(records(&again), found[1..]);
    }
}

#[test]
fn endless_empty_lines_are_one_cut_record() {
    let mut text = b"a\n".to_vec();
    text.resize(MAX + (2 << 20), b'\n');
    text.extend_from_slice(b"b\n");
    let found = records(&read_all(&mut fast(&text, 0), &ALL));
    assert_eq!(
        found.iter().map(|(at, record)| (*at, record.len())).collect::<Vec<_>>(),
        [(0, 1), (2, MAX + 1), (MAX as u64 + (2 << 20), 1)]
    );
}

fn fast(text: &[u8], position: usize) -> TextReader {
    let bytes = Box::new(Cursor::new(text[position..].to_vec()));
    let input = Input { what: "text".to_owned(), bytes, compression: Compression::None, left: None };
    TextReader::new(input, Layout::Lines, position as u64).unwrap()
}

#[test]
fn a_file_cut_while_it_is_read_is_a_changed_one() {
    let bytes = Box::new(Cursor::new(b"one\ntwo".to_vec()));
    let input = Input { what: "text".to_owned(), bytes, compression: Compression::None, left: Some(8) };
    let error = TextReader::new(input, Layout::Lines, 0).err().unwrap();
    assert!(matches!(error, SourceError::Changed { .. }), "{error}");
}
