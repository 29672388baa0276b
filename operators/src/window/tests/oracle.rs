//! The windows from their definition: every row kept, everything computed anew, nothing fast.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

use super::world::{Came, Row, Spans, Tick, batch, text};

type Key = (Option<String>, Option<i64>);

/// What comes out in each tick.
pub(super) fn run(ticks: &[Tick], spans: Spans) -> Vec<Came> {
    let mut windows: BTreeMap<(i64, Key), Vec<Row>> = BTreeMap::new();
    let mut before = i128::MIN;
    let mut all = Vec::new();
    for tick in ticks {
        let mut came = Came::default();
        let mut rows = tick.rows.clone();
        rows.sort_by(order);
        for row in rows {
            if i128::from(row.time) < before.saturating_add(0).saturating_sub(i128::from(spans.lateness)) {
                came.late.push(text(&batch(&[row], None), 0, 10));
            } else if row.n == Some(0) {
                came.bad.push(format!("{} {} division by zero", row.split, row.position));
            } else {
                for start in starts(row.time, spans) {
                    windows.entry((start, (row.k.clone(), row.j))).or_default().push(row.clone());
                }
            }
        }
        let watermark = tick.watermark.map_or(i128::MAX, i128::from).max(before);
        let closed =
            |start: i64| i128::from(start) + i128::from(spans.size) - 1 + i128::from(spans.lateness) < watermark;
        let due: Vec<_> = windows.keys().filter(|(start, _)| closed(*start)).cloned().collect();
        for window in due {
            let rows = windows.remove(&window).unwrap();
            came.rows.push(result(window.0, &window.1, &rows, spans));
        }
        before = watermark;
        came.sort();
        all.push(came);
    }
    all
}

/// Every multiple of `every` whose window holds `time`.
fn starts(time: i64, spans: Spans) -> Vec<i64> {
    let first = (time - spans.size).div_euclid(spans.every) - 1;
    let last = time.div_euclid(spans.every) + 1;
    (first..=last).map(|n| n * spans.every).filter(|start| *start <= time && time < start + spans.size).collect()
}

fn normal(f: f64) -> f64 {
    if f.is_nan() { f64::NAN } else { f + 0.0 }
}

fn hidden(a: &Row, b: &Row) -> Ordering {
    (a.time, &a.id, a.split, a.position).cmp(&(b.time, &b.id, b.split, b.position))
}

fn order(a: &Row, b: &Row) -> Ordering {
    hidden(a, b).then_with(|| match (a.f, b.f) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    })
}

fn show(column: ArrayRef) -> String {
    if column.is_null(0) { "null".into() } else { arrow::util::display::array_value_to_string(&column, 0).unwrap() }
}

fn float(value: Option<f64>) -> String {
    show(Arc::new(Float64Array::from(vec![value])))
}

fn int(value: Option<i64>) -> String {
    show(Arc::new(Int64Array::from(vec![value])))
}

fn decimal(value: Option<i128>, precision: u8, scale: i8) -> String {
    show(Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap()))
}

fn string(value: Option<&String>) -> String {
    show(Arc::new(StringArray::from(vec![value.map(String::as_str)])))
}

/// The row that is last, or first, where ties go by value.
fn last<'a, V>(
    rows: &[&'a Row],
    value: fn(&Row) -> V,
    compare: fn(&V, &V) -> Ordering,
    first: bool,
) -> Option<&'a Row> {
    let by = |a: &&&Row, b: &&&Row| hidden(a, b).then_with(|| compare(&value(a), &value(b)));
    if first { rows.iter().min_by(by).copied() } else { rows.iter().max_by(by).copied() }
}

fn compare_floats(a: &Option<f64>, b: &Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => normal(*a).total_cmp(&normal(*b)),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

fn add(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + value)
}

/// The least value that at least `percent` of all values do not exceed.
fn quantile<V: Copy>(values: Vec<V>, percent: usize, compare: fn(&V, &V) -> Ordering) -> Option<V> {
    let reaches =
        |value: &V| values.iter().filter(|other| compare(other, value).is_le()).count() * 100 >= percent * values.len();
    values.iter().copied().filter(reaches).min_by(compare)
}

fn result(start: i64, key: &Key, rows: &[Row], spans: Spans) -> String {
    let bound = |micros: i64| show(Arc::new(TimestampMicrosecondArray::from(vec![micros])));
    let all: Vec<&Row> = rows.iter().collect();
    let positive: Vec<&Row> = rows.iter().filter(|row| row.n.is_some_and(|n| n > 0)).collect();
    let with_n: Vec<&Row> = rows.iter().filter(|row| row.n.is_some()).collect();
    let n: Vec<i64> = rows.iter().filter_map(|row| row.n).collect();
    let f: Vec<f64> = rows.iter().filter_map(|row| row.f).collect();
    let positive_f: Vec<f64> = positive.iter().filter_map(|row| row.f).collect();
    let d: Vec<i128> = rows.iter().filter_map(|row| row.d).collect();
    let tens: Vec<i64> = n.iter().filter(|n| **n != 1).map(|n| 10 / (n - 1)).collect();
    let some = |given: bool| given.then_some(());
    let sum_d: i128 = d.iter().sum();
    let avg_d = |_| {
        let (count, scaled) = (d.len() as i128, sum_d * 10_000);
        scaled.signum() * ((2 * scaled.abs() + count) / (2 * count))
    };
    [
        bound(start),
        bound(start + spans.size),
        string(key.0.as_ref()),
        int(key.1),
        int(Some(rows.len() as i64)),
        int(Some(positive.iter().filter(|row| row.s.is_some()).count() as i64)),
        int(Some(rows.iter().filter_map(|row| row.s.as_ref()).collect::<BTreeSet<_>>().len() as i64)),
        int(Some(f.iter().map(|f| normal(*f).to_bits()).collect::<BTreeSet<_>>().len() as i64)),
        int(some(!n.is_empty()).map(|_| n.iter().sum())),
        float(some(!f.is_empty()).map(|_| add(&f))),
        decimal(some(!d.is_empty()).map(|_| sum_d), 38, 2),
        float(some(!n.is_empty()).map(|_| n.iter().sum::<i64>() as f64 / n.len() as f64)),
        float(some(!positive_f.is_empty()).map(|_| add(&positive_f) / positive_f.len() as f64)),
        decimal(some(!d.is_empty()).map(avg_d), 16, 6),
        string(rows.iter().filter_map(|row| row.s.as_ref()).min()),
        float(f.iter().map(|f| normal(*f)).max_by(f64::total_cmp)),
        decimal(d.iter().min().copied(), 12, 2),
        string(last(&all, |row| row.s.clone(), Ord::cmp, true).and_then(|row| row.s.as_ref())),
        int(last(&all, |row| row.n, Ord::cmp, false).and_then(|row| row.n)),
        float(last(&with_n, |row| row.f, compare_floats, false).and_then(|row| row.f).map(normal)),
        float(quantile(f.iter().map(|f| normal(*f)).collect(), 90, f64::total_cmp)),
        int(quantile(n.iter().copied().filter(|n| *n > 0).collect(), 50, Ord::cmp)),
        int(some(!tens.is_empty()).map(|_| tens.iter().sum())),
        int(Some(n.iter().filter(|n| 10 / **n != 5).count() as i64)),
    ]
    .join(" ")
}
