//! The checker: what a run wrote, against the oracle and against the calm run.

use serde_json::Value;

use crate::Tried;
use crate::job::{COUNTS_LANES, TOPICS, VISITS_LANES};
use crate::oracle::{self, Expected, Rows};
use crate::place::Place;

/// Everything that a run wrote, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The attributed orders: a file, or the partitions of a topic.
    pub out: Vec<Vec<u8>>,
    /// The file of late clicks.
    pub late_clicks: Vec<u8>,
    /// The topic of late orders.
    pub late_orders: Vec<u8>,
    /// The topic of bad rows.
    pub bad: Vec<u8>,
    /// The partitions of the topic of counts.
    pub counts: Vec<Vec<u8>>,
    /// The partitions of the topic of visits.
    pub visits: Vec<Vec<u8>>,
}

/// Reads a row of a sink: its time, and what it says.
type Reads = fn(&Value) -> (i64, String);

/// Returns the lines of a text.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

impl Written {
    /// Reads what was written in `place`, as a reader would: files whole, topics up to the last token.
    pub fn read(place: &Place) -> Tried<Written> {
        let lanes = |topic: &str, lanes: u32| -> Tried<Vec<Vec<u8>>> {
            (0..lanes).map(|partition| place.partition(TOPICS, topic, partition)).collect()
        };
        Ok(Written {
            out: vec![place.read("out.jsonl")?],
            late_clicks: place.read("late.jsonl")?,
            late_orders: place.partition(TOPICS, "late", 0)?,
            bad: place.partition(TOPICS, "bad", 0)?,
            counts: lanes("counts", COUNTS_LANES)?,
            visits: lanes("visits", VISITS_LANES)?,
        })
    }

    /// Returns how many rows there are.
    pub fn rows(&self) -> u64 {
        let texts = [&self.late_clicks, &self.late_orders, &self.bad].into_iter();
        texts.chain(&self.out).chain(&self.counts).chain(&self.visits).map(|text| lines(text).count() as u64).sum()
    }

    /// Fails unless it is, byte for byte, what the calm run wrote.
    pub fn same_as(&self, calm: &Written) -> Tried<()> {
        let mut parts = vec![
            ("late clicks", &self.late_clicks, &calm.late_clicks),
            ("late orders", &self.late_orders, &calm.late_orders),
            ("bad rows", &self.bad, &calm.bad),
        ];
        for (what, own, calm) in [
            ("attributed orders", &self.out, &calm.out),
            ("counts", &self.counts, &calm.counts),
            ("visits", &self.visits, &calm.visits),
        ] {
            if own.len() != calm.len() {
                return Err(format!("{what} has {} parts, the calm run's {}", own.len(), calm.len()));
            }
            parts.extend(own.iter().zip(calm).map(|(own, calm)| (what, own, calm)));
        }
        for (what, own, calm) in parts {
            if own != calm {
                let at = own.iter().zip(calm).position(|(a, b)| a != b).unwrap_or(own.len().min(calm.len()));
                let sizes = format!("{} bytes, the calm run wrote {}", own.len(), calm.len());
                return Err(format!("{what} differs from the calm run's at byte {at}: {sizes}"));
            }
        }
        Ok(())
    }

    /// Fails unless it is exactly what the oracle says, in the order of time. Returns how many rows were compared.
    pub fn holds(&self, expected: &Expected) -> Tried<u64> {
        let [out, counts, visits] =
            [&self.out, &self.counts, &self.visits].map(|lanes| lanes.iter().map(Vec::as_slice).collect());
        let parts: [(&str, Vec<&[u8]>, &Rows, Reads); 6] = [
            ("attributed orders", out, &expected.out, oracle::read_out),
            ("counts", counts, &expected.counts, oracle::read_counts),
            ("visits", visits, &expected.visits, oracle::read_visits),
            ("bad rows", vec![&self.bad], &expected.bad, oracle::read_bad),
            ("late orders", vec![&self.late_orders], &expected.late_orders, oracle::read_late_order),
            ("late clicks", vec![&self.late_clicks], &expected.late_clicks, oracle::read_late_click),
        ];
        let mut rows = 0;
        for (what, lanes, expected, read) in parts {
            rows += same_rows(what, &lanes, expected, read)?;
        }
        Ok(rows)
    }
}

fn same_rows(what: &str, lanes: &[&[u8]], expected: &Rows, read: Reads) -> Tried<u64> {
    let mut left = expected.clone();
    let mut rows = 0;
    for lane in lanes {
        let mut before = i64::MIN;
        for line in lines(lane) {
            let row: Value = serde_json::from_slice(line)
                .map_err(|error| format!("{what}: {error} in {}", String::from_utf8_lossy(line)))?;
            let (time, says) = read(&row);
            if time < before {
                return Err(format!("{what}: time goes back from {before} to {time} in {says}"));
            }
            before = time;
            rows += 1;
            *left.entry(says).or_default() -= 1;
        }
    }
    left.retain(|_, count| *count != 0);
    if left.is_empty() {
        return Ok(rows);
    }
    let (lost, doubled) = (left.values().filter(|c| **c > 0).count(), left.values().filter(|c| **c < 0).count());
    let some: Vec<String> = left
        .iter()
        .take(6)
        .map(|(row, count)| format!("  {} {row}", if *count > 0 { "missing" } else { "too many" }))
        .collect();
    Err(format!("{what}: {lost} rows missing, {doubled} too many or wrong\n{}", some.join("\n")))
}

/// Fails unless the balance that a run gave adds up at every place, and says that all of `expected` was read, up to `unread`
/// rows at the end of each source that only move time on: a job that was stopped need not have come to them.
pub fn balance(gave: &[u8], expected: &Expected, unread: u64) -> Tried<()> {
    let outcome: Value = serde_json::from_slice(gave).map_err(|error| format!("a run gave no outcome: {error}"))?;
    let balance = outcome["snapshot"]["balance"].as_object().ok_or("a run gave no balance")?;
    for (place, counts) in balance {
        let of = |name: &str| counts[name].as_u64().unwrap_or(u64::MAX / 8);
        let parts = ["taken", "filtered", "late", "bad", "duplicate"].map(of).iter().sum::<u64>();
        if of("in") != parts {
            return Err(format!("the balance of {place} does not add up: {counts}"));
        }
    }
    for (source, read) in [("clicks", expected.clicks_read), ("orders", expected.orders_read)] {
        if !balance[source]["in"].as_u64().is_some_and(|got| got <= read && got + unread >= read) {
            return Err(format!("{read} rows of {source} were written, the balance says {}", balance[source]));
        }
    }
    let sum = |rows: &Rows| rows.values().sum::<i64>().unsigned_abs();
    let late = sum(&expected.late_orders) + expected.late_touches;
    for (place, count, is) in [
        ("clicks", "bad", sum(&expected.bad)),
        ("orders", "bad", 0),
        ("attributed", "late", late),
        ("attributed", "duplicate", expected.duplicates),
        ("counts", "late", sum(&expected.late_clicks)),
        ("once", "late", sum(&expected.late_clicks)),
        ("once", "duplicate", expected.doubled_clicks),
        ("visits", "late", 0),
    ] {
        if balance.get(place).is_some_and(|counts| counts[count] != is) {
            return Err(format!("{is} rows of {place} are {count}, the balance says {}", balance[place]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLICKS: &str = r#"{"event_id":"e1","user_id":"u","item_id":"i","event_type":"click","ts":1000}
{"event_id":"e2","user_id":"u","item_id":"i","event_type":"click","ts":2500}
nonsense"#;
    const ORDERS: &str = r#"{"order_id":"o1","user_id":"u","item_id":"i","price":1.50,"ts":2000}
{"order_id":"o1","user_id":"u","item_id":"i","price":1.50,"ts":2000}
{"order_id":"o2","user_id":"v","item_id":"i","price":2.00,"ts":3000}"#;
    const OUT: [&str; 2] = [
        r#"{"order_id":"o1","user_id":"u","item_id":"i","price":1.50,"ts":2000,"touch_event_id":"e1","touch_user_id":"u","touch_item_id":"i","touch_ts":1000,"attributed":true,"model":"last_touch","weight_ppm":1000000,"time_to_convert_ms":1000}"#,
        r#"{"order_id":"o2","user_id":"v","item_id":"i","price":2.00,"ts":3000,"touch_event_id":null,"touch_user_id":null,"touch_item_id":null,"touch_ts":null,"attributed":false,"model":"last_touch","weight_ppm":null,"time_to_convert_ms":null}"#,
    ];

    fn written(out: &[&str]) -> Written {
        let count = |start: i64| {
            format!(
                r#"{{"window_start":{start},"window_end":{},"item_id":"i","impressions":0,"clicks":1}}"#,
                start + 1000
            )
        };
        let visit = |at: i64| {
            format!(
                r#"{{"session_start":{at},"session_end":{at},"closed_by":"idle","user_id":"u","events":1,"items":1,"landing":"i"}}"#
            )
        };
        Written {
            out: vec![out.join("\n").into_bytes()],
            bad: br#"{"raw":"nonsense"}"#.to_vec(),
            counts: vec![format!("{}\n{}\n", count(1000), count(2000)).into_bytes()],
            visits: vec![visit(1000).into_bytes(), visit(2500).into_bytes()],
            ..Written::default()
        }
    }

    fn verdict(out: &[&str]) -> Tried<u64> {
        let expected = oracle::expected(lines(CLICKS.as_bytes()), lines(ORDERS.as_bytes()), i64::MAX);
        written(out).holds(&expected)
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(verdict(&OUT), Ok(7));
    }

    #[test]
    fn a_row_that_is_missing_doubled_changed_or_out_of_order_is_found() {
        assert!(verdict(&OUT[..1]).unwrap_err().contains("1 rows missing"));
        assert!(verdict(&[OUT[0], OUT[1], OUT[1]]).unwrap_err().contains("1 too many"));
        assert!(
            verdict(&[OUT[0], &OUT[1].replace("2.00", "2.01")]).unwrap_err().contains("1 rows missing, 1 too many")
        );
        assert!(verdict(&[&OUT[0].replace("\"e1\"", "\"e2\""), OUT[1]]).is_err());
        assert!(verdict(&[OUT[1], OUT[0]]).unwrap_err().contains("time goes back"));
    }

    #[test]
    fn one_byte_is_a_difference() {
        let calm = written(&OUT);
        let mut other = calm.clone();
        assert_eq!(other.same_as(&calm), Ok(()));
        other.counts[0].pop();
        assert!(other.same_as(&calm).unwrap_err().contains("counts differs"));
    }

    #[test]
    fn a_balance_must_add_up_and_fit_the_input() {
        let expected = oracle::expected(lines(CLICKS.as_bytes()), lines(ORDERS.as_bytes()), i64::MAX);
        let outcome = |taken: u64| {
            format!(
                r#"{{"snapshot":{{"balance":{{"clicks":{{"in":3,"taken":{taken},"filtered":0,"late":0,"bad":1,"duplicate":0}},
                "orders":{{"in":3,"taken":3,"filtered":0,"late":0,"bad":0,"duplicate":0}}}}}}}}"#
            )
        };
        assert_eq!(balance(outcome(2).as_bytes(), &expected, 0), Ok(()));
        assert!(balance(outcome(1).as_bytes(), &expected, 0).unwrap_err().contains("does not add up"));
    }
}
