//! Clocks: event time of records that carry what three clocks said instead.
//!
//! A client's clock is wrong by an unknown amount, but the time between two of its readings is not. So what lay between
//! happening and sending, by that clock, is taken off the time of receipt, by ours. [`riverrun_behaviour::time`] has the rule.

use std::time::Duration;

use riverrun_behaviour::time::{Bounds, Corrected, Stamps};
use riverrun_dataflow::time::micros_of;

use super::FormatError;
use super::rows::{Fault, readable_time};
use super::schema::{ColumnType, RowSchema};

/// The columns of a source that say what clocks said, and how far they are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The column of the client's clock when it happened.
    pub client: String,
    /// The column of the client's clock when it was sent.
    pub sent: Option<String>,
    /// The column of the clock of who received it.
    pub received: String,
    /// The column that is true where the client's clock was too far ahead.
    pub flag: Option<String>,
    /// A row that would lie further ahead of its receipt is taken to have happened when it was received.
    pub max_ahead: Duration,
    /// A row that would lie further back from its receipt is bad.
    pub max_past: Duration,
}

/// The event time that clocks tell, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) micros: i64,
    /// The client's clock was too far ahead.
    pub(crate) ahead: bool,
}

impl Clocks {
    /// Returns the columns that are named, by what they are.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [
            ("client", Some(&self.client)),
            ("sent", self.sent.as_ref()),
            ("received", Some(&self.received)),
            ("flag", self.flag.as_ref()),
        ];
        all.into_iter().filter_map(|(word, name)| Some((word, name?)))
    }

    /// Returns the columns of the clocks.
    pub(super) fn times(&self) -> impl Iterator<Item = &String> {
        self.named().filter(|(word, _)| *word != "flag").map(|(_, name)| name)
    }

    /// Checks that the columns are there and fit.
    pub(super) fn check(&self, schema: &RowSchema) -> Result<(), FormatError> {
        let type_of = |name: &String| match schema.column(name) {
            Some(column) => Ok(&column.column_type),
            None => Err(FormatError(format!("`{name}` of `clocks` is not a column of the schema"))),
        };
        for name in self.times() {
            if schema.event_time.as_ref() == Some(name) {
                return Err(FormatError(format!("event time `{name}` is a clock by which it would be found")));
            }
            if !type_of(name)?.is_timestamp() {
                return Err(FormatError(format!("clock `{name}` is not a timestamp")));
            }
        }
        if let Some(flag) = &self.flag
            && *type_of(flag)? != ColumnType::Bool
        {
            return Err(FormatError(format!("flag `{flag}` is not a bool")));
        }
        match schema.event_time {
            Some(_) => Ok(()),
            None => Err(FormatError("the source has `clocks`, but names no `event_time`".to_owned())),
        }
    }

    /// Returns what `stamps`, in microseconds, tell of event time, which is called `name`.
    pub(super) fn tell(&self, name: &str, stamps: Stamps) -> Result<Told, Fault> {
        let bounds = Bounds { ahead: micros_of(self.max_ahead), past: micros_of(self.max_past) };
        let Clocks { client, received, .. } = self;
        match (stamps.corrected(bounds), stamps.received_at) {
            (Some(Corrected::At(micros)), _) => Ok(Told { micros, ahead: false }),
            (Some(Corrected::ClockFuture(micros)), _) => Ok(Told { micros, ahead: true }),
            (Some(Corrected::TooOld(micros)), at) => {
                let (happened, at) = (readable_time(micros), readable_time(at.unwrap_or(micros)));
                let reason = format!("it happened at {happened}, more than `max_past` before `{received}`, {at}");
                Err(Fault::new("too_old", reason))
            }
            (None, _) => {
                let reason = format!("event time `{name}` is missing or null, and so are `{client}` and `{received}`");
                Err(Fault::new("missing", reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, TimestampMillisecondArray};
    use arrow::datatypes::{Int64Type, TimestampMillisecondType};
    use riverrun_dataflow::schema::Hidden;
    use riverrun_dataflow::source::{Chunk, Decoded, Decoder, Payload};

    use super::super::csv::Header;
    use super::super::parquet::ColumnsDecoder;
    use super::super::samples::{anything, codes, decode, schema};
    use super::super::{CsvOptions, FormatSpec, file_decoder};
    use super::*;

    const DAY: i64 = 24 * 3600 * 1000;

    /// What a record says of its event time, the client's clock, when it was sent and received, in ms.
    type Said = [Option<i64>; 4];

    fn clocked() -> RowSchema {
        let columns = ["at: timestamp_ms!", "sent: timestamp_us", "client: timestamp_ms", "received: timestamp_ms"];
        RowSchema {
            event_time: Some("at".to_owned()),
            clocks: Some(Clocks {
                client: "client".to_owned(),
                sent: Some("sent".to_owned()),
                received: "received".to_owned(),
                flag: Some("early".to_owned()),
                max_ahead: Duration::from_secs(300),
                max_past: Duration::from_secs(3 * 86_400),
            }),
            hidden: vec![Hidden::Time],
            ..schema(&[&columns[..], &["early: bool"]].concat())
        }
    }

    /// Decodes records in each of the three formats.
    fn decoded(schema: &RowSchema, said: &[Said]) -> [Decoded; 3] {
        let text = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
        let sent = |value: Option<i64>| value.map(|ms| ms * 1000);
        let json = |[at, client, sent_at, received]: &Said| {
            let fields = [("at", *at), ("client", *client), ("sent", sent(*sent_at)), ("received", *received)];
            let there = fields.iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", (*value)?)));
            format!("{{{}}}", there.collect::<Vec<_>>().join(","))
        };
        let csv = |[at, client, sent_at, received]: &Said| {
            format!("{},{},{},{},", text(*at), text(sent(*sent_at)), text(*client), text(*received))
        };
        let header = Header::default();
        header.set(["at", "sent", "client", "received", "early"].map(str::to_owned).to_vec()).unwrap();
        let make = |format: FormatSpec| file_decoder(&format, Arc::new(schema.clone()), header.clone()).unwrap()();
        let of = |place: usize| said.iter().map(|said| said[place]).collect::<TimestampMillisecondArray>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("received", Arc::new(of(3))),
            ("at", Arc::new(of(0))),
            ("client", Arc::new(of(1))),
            ("sent", Arc::new(said.iter().map(|said| sent(said[2])).collect::<TimestampMicrosecondArray>())),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mut parquet = Decoded::default();
        let chunk = Chunk { from: 0, to: said.len() as u64, payload: Payload::Columns(rows) };
        ColumnsDecoder::new(schema).decode(&chunk, &anything(), &mut parquet);
        [
            decode(make(FormatSpec::Json).as_mut(), &said.iter().map(json).collect::<Vec<_>>()),
            decode(make(FormatSpec::Csv(CsvOptions::default())).as_mut(), &said.iter().map(csv).collect::<Vec<_>>()),
            parquet,
        ]
    }

    /// Checks event time and flag of each record, in all formats: as hidden and as visible columns.
    fn check(said: &[Said], expected: &[(i64, Option<bool>)]) {
        for decoded in decoded(&clocked(), said) {
            assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
            let batch = &decoded.batches[0];
            let visible = batch["at"].as_primitive::<TimestampMillisecondType>().values();
            let hidden = batch["__time"].as_primitive::<Int64Type>().values().iter().map(|us| us / 1000);
            let flags: Vec<Option<bool>> = batch["early"].as_boolean().iter().collect();
            let times: Vec<i64> = expected.iter().map(|(time, _)| *time).collect();
            assert_eq!((visible.to_vec(), hidden.collect::<Vec<i64>>()), (times.clone(), times));
            assert_eq!(flags, expected.iter().map(|(_, flag)| *flag).collect::<Vec<_>>());
            assert_eq!(decoded.greatest.map(|time| time.0), expected.iter().map(|(time, _)| time * 1000).max());
        }
    }

    /// G-E1 and the rule's other ways, in every format.
    #[test]
    fn clocks_tell_event_time_where_a_record_has_none() {
        check(
            &[
                [None, Some(1000), Some(5000), Some(65_000)],
                [None, Some(1000), None, Some(65_000)],
                [None, None, Some(5000), Some(65_000)],
                [None, Some(1000), Some(5000), None],
                [Some(7), Some(1000), Some(5000), Some(65_000)],
                [None, Some(65_000 + 300_000), None, Some(65_000)],
                [None, Some(65_000 + 300_001), None, Some(65_000)],
            ],
            &[
                (61_000, None),
                (1000, None),
                (65_000, None),
                (1000, None),
                (7, None),
                (365_000, None),
                (65_000, Some(true)),
            ],
        );
    }

    #[test]
    fn a_record_that_is_too_old_or_has_no_time_is_bad_alone() {
        let received = Some(10 * DAY);
        let said = [
            [None, Some(7 * DAY), None, received],
            [None, Some(7 * DAY - 1), None, received],
            [None, None, Some(5), None],
        ];
        for decoded in decoded(&clocked(), &said) {
            assert_eq!(codes(&decoded), ["too_old", "missing"]);
            assert_eq!(decoded.batches[0].num_rows(), 1);
            let reasons: Vec<&str> = decoded.bad.iter().map(|bad| bad.reason.as_str()).collect();
            let happened =
                "it happened at 1970-01-07T23:59:59.999000Z, more than `max_past` before `received`, 1970-01-11T";
            assert!(reasons[0].starts_with(happened), "{}", reasons[0]);
            assert!(reasons[1].ends_with("and so are `client` and `received`"), "{}", reasons[1]);
        }
    }

    #[test]
    fn clocks_that_are_not_in_use_tell_all_the_same() {
        let schema = RowSchema { projected: Some(Vec::new()), ..clocked() };
        for decoded in decoded(&schema, &[[None, Some(1000), Some(5000), Some(65_000)]]) {
            assert_eq!(decoded.batches[0]["__time"].as_primitive::<Int64Type>().values(), &[61_000_000]);
        }
    }

    #[test]
    fn a_file_needs_some_column_that_tells_the_time() {
        let has =
            |names: &'static [&'static str]| move |column: &super::super::Column| names.contains(&column.name.as_str());
        assert_eq!(clocked().lacking(has(&["client"])), None);
        assert_eq!(clocked().lacking(has(&["at"])), None);
        assert_eq!(clocked().lacking(has(&["sent"])).map(|column| column.name.as_str()), Some("at"));
    }
}
