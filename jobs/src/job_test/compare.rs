//! Compares what came with what was expected, and one play with another.

use std::collections::{BTreeMap, HashMap, VecDeque};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::schema::Hidden;
use riverrun_dataflow::sink::TickRows;
use riverrun_dataflow::tick::Tick;
use serde_json::value::RawValue;

use super::arrival::Facts;
use super::expect::{CountOf, Expectation};
use super::file::{Case, TestFile};
use super::play::Played;
use super::value::{self, Value};
use super::{Failure, show};

/// A row that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its tick and event time: rows that share both come in no particular order.
    pub group: (Tick, i64),
    /// Its values, by the stream's columns.
    pub cells: Vec<Value>,
}

/// How the rows of two lists go together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// Expected and come, by their places in the lists.
    pub equal: Vec<(usize, usize)>,
    /// Expected and not come.
    pub missing: Vec<usize>,
    /// Come and not expected.
    pub unexpected: Vec<usize>,
    /// Alike, though not equal.
    pub changed: Vec<(usize, usize)>,
}

impl Matching {
    /// Returns whether all rows are equal.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.changed.is_empty()
    }
}

/// Reads what hidden columns say of the rows of a batch.
pub fn facts_of(batch: &RecordBatch, facts: &mut [Facts]) {
    let column = |hidden: Hidden| batch.column_by_name(hidden.name());
    let Some(positions) = column(Hidden::Position).map(|column| column.as_primitive::<UInt64Type>()) else { return };
    for (row, position) in positions.values().iter().enumerate() {
        let Some(fact) = usize::try_from(*position).ok().and_then(|at| facts.get_mut(at)) else { continue };
        fact.time = column(Hidden::Time).map(|times| times.as_primitive::<Int64Type>().value(row));
        fact.id = column(Hidden::Id).and_then(|ids| {
            let ids = ids.as_string::<i32>();
            ids.is_valid(row).then(|| ids.value(row).to_owned())
        });
    }
}

/// Returns the rows of every expectation's stream.
pub fn seen(file: &TestFile, case: &Case, played: &Played) -> Vec<Vec<Seen>> {
    let rows = |expectation: &Expectation| {
        let mut rows: Vec<Seen> =
            played.taps[expectation.tap].iter().flat_map(|tick| seen_in(expectation, tick)).collect();
        if file.is_bad_stream(&expectation.stream.value) {
            rows.iter_mut().for_each(|row| number_as_given(expectation, row, played));
        }
        rows
    };
    case.expected.iter().map(rows).collect()
}

fn seen_in(expectation: &Expectation, tick: &TickRows) -> Vec<Seen> {
    let row = |index: usize| {
        let (_, bytes) = tick.rows.key_value(index);
        let members: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).unwrap_or_default();
        let cell = |column: &value::ColumnOf| {
            let raw = members.get(&column.name).map_or("null", |raw| raw.get());
            value::of_json(column.holds, raw, None).unwrap_or(Value::Null)
        };
        Seen { group: (tick.tick, tick.times[index]), cells: expectation.all.iter().map(cell).collect() }
    };
    (0..tick.rows.len()).map(row).collect()
}

/// Has a bad row say the number of its record as given, whenever that arrived.
fn number_as_given(expectation: &Expectation, row: &mut Seen, played: &Played) {
    let at = |name: &str| expectation.all.iter().position(|column| column.name == name);
    let (Some(split), Some(position)) = (at("split"), at("position")) else { return };
    let (Value::Text(split), Value::Number(arrived)) = (&row.cells[split], &row.cells[position]) else { return };
    let order = played.orders.get(split);
    let given = arrived.parse::<usize>().ok().and_then(|arrived| order.and_then(|order| order.get(arrived)));
    if let Some(given) = given {
        row.cells[position] = Value::Number(given.to_string());
    }
}

fn projected(expectation: &Expectation, row: &[Value]) -> Vec<Value> {
    expectation.compared.iter().map(|at| row[*at].clone()).collect()
}

/// Compares a play with what the case expects.
pub fn expected(file: &TestFile, case: &Case, played: &Played, seen: &[Vec<Seen>]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (expectation, seen) in case.expected.iter().zip(seen) {
        let wanted: Vec<Vec<Value>> = expectation.rows.iter().map(|(cells, _)| cells.clone()).collect();
        let came: Vec<Vec<Value>> = seen.iter().map(|row| projected(expectation, &row.cells)).collect();
        let matching = match_rows(&wanted, &came);
        let lines: Vec<Option<usize>> = expectation.rows.iter().map(|(_, span)| Some(file.line(*span))).collect();
        let place = file.place(expectation.stream.span);
        if !matching.is_whole() {
            let rows = show::Rows { wanted: &wanted, came: &came, lines: &lines };
            failures.push(show::failure("as given", Some(place), case.start, expectation, &rows, &matching));
        } else if expectation.ordered && !in_order(&wanted, &came, seen) {
            let message = format!(
                "the rows of `{}` are right, but not their order; `unordered: true` lets it be any",
                expectation.stream.value
            );
            let table = show::order(case.start, expectation, &came);
            let about = Some(expectation.stream.value.clone());
            let play = "as given".to_owned();
            failures.push(Failure { play, about, place: Some(place), message, rows: Vec::new(), table });
        }
    }
    failures.extend(counts(file, case, &played.balance));
    failures.extend(silent_losses(case, &played.balance));
    failures
}

/// Returns whether rows come in the order expected: those of a group in any.
pub fn in_order(wanted: &[Vec<Value>], came: &[Vec<Value>], seen: &[Seen]) -> bool {
    let mut from = 0;
    while from < came.len() {
        let group = seen[from].group;
        let to = from + seen[from..].iter().take_while(|row| row.group == group).count();
        let sorted = |rows: &[Vec<Value>]| {
            let mut rows = rows.to_vec();
            rows.sort();
            rows
        };
        if sorted(&wanted[from..to]) != sorted(&came[from..to]) {
            return false;
        }
        from = to;
    }
    true
}

fn counts(file: &TestFile, case: &Case, balance: &BTreeMap<String, Counts>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for wanted in &case.counts {
        let came = wanted.of.of(&balance.get(&wanted.name).copied().unwrap_or_default());
        if came != wanted.number.value {
            let message =
                format!("`{}` of `{}` is {came}, expected {}", wanted.of.name(), wanted.name, wanted.number.value);
            failures.push(Failure {
                play: "as given".to_owned(),
                about: Some(wanted.name.clone()),
                place: Some(file.place(wanted.number.span)),
                message,
                rows: Vec::new(),
                table: String::new(),
            });
        }
    }
    failures
}

/// Bad and late rows of which the case says nothing: whoever gives rows that are lost on the way should know.
fn silent_losses(case: &Case, balance: &BTreeMap<String, Counts>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (name, counts) in balance {
        for of in [CountOf::Bad, CountOf::Late] {
            let rows = of.of(counts);
            let side = format!("{name}.{}", of.name());
            let said = case.counts.iter().any(|wanted| wanted.name == *name && wanted.of == of)
                || case.expected.iter().any(|expectation| expectation.stream.value == side);
            if rows > 0 && !said {
                let (was, word) = if rows == 1 { ("row is", of.name()) } else { ("rows are", of.name()) };
                let message = format!(
                    "{rows} {was} {word} at `{name}`, of which the test says nothing; if that is meant: `counts: {{ {name}: {{ {word}: {rows} }} }}`, or expect `{side}`"
                );
                let (play, about) = ("as given".to_owned(), Some(side));
                failures.push(Failure { play, about, place: None, message, rows: Vec::new(), table: String::new() });
            }
        }
    }
    failures
}

/// Compares a play that must give the same bytes in the same ticks with the first one.
pub fn same(
    file: &TestFile,
    case: &Case,
    play: &str,
    (first, seen_first): (&Played, &[Vec<Seen>]),
    other: &Played,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    let seen_other = seen(file, case, other);
    for (index, expectation) in case.expected.iter().enumerate() {
        if first.taps[expectation.tap] == other.taps[expectation.tap] {
            continue;
        }
        let all = |rows: &[Seen]| rows.iter().map(|row| projected(expectation, &row.cells)).collect::<Vec<_>>();
        failures.push(differs(case, play, expectation, &all(&seen_first[index]), &all(&seen_other[index])));
    }
    for name in first.balance.keys().chain(other.balance.keys().filter(|name| !first.balance.contains_key(*name))) {
        if first.balance.get(name) != other.balance.get(name) {
            failures.push(balance_differs(play, name, first.balance.get(name), other.balance.get(name)));
        }
    }
    failures
}

/// Compares a play in which rows arrived otherwise with the first one: the rows that stand at the end.
pub fn settled(
    file: &TestFile,
    case: &Case,
    play: &str,
    (first, seen_first): (&Played, &[Vec<Seen>]),
    other: &Played,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    let seen_other = seen(file, case, other);
    for (index, expectation) in case.expected.iter().enumerate() {
        let one = settle(expectation, &seen_first[index]);
        let two = settle(expectation, &seen_other[index]);
        if !match_rows(&one, &two).is_whole() {
            failures.push(differs(case, play, expectation, &one, &two));
        }
    }
    let lost = |counts: Option<&Counts>| counts.map(|counts| (counts.late, counts.bad, counts.duplicate));
    let none = Some((0, 0, 0));
    for name in first.balance.keys().chain(other.balance.keys().filter(|name| !first.balance.contains_key(*name))) {
        let (one, two) = (first.balance.get(name), other.balance.get(name));
        if lost(one).or(none) != lost(two).or(none) {
            failures.push(balance_differs(play, name, one, two));
        }
    }
    failures
}

fn differs(case: &Case, play: &str, expectation: &Expectation, one: &[Vec<Value>], two: &[Vec<Value>]) -> Failure {
    let matching = match_rows(one, two);
    let lines = vec![None; one.len()];
    if matching.is_whole() {
        let message =
            format!("`{}` gives the same rows as in the play as given, in another order", expectation.stream.value);
        let (play, about, table) = (play.to_owned(), Some(expectation.stream.value.clone()), String::new());
        return Failure { play, about, place: None, message, rows: Vec::new(), table };
    }
    let rows = show::Rows { wanted: one, came: two, lines: &lines };
    let mut failure = show::failure(play, None, case.start, expectation, &rows, &matching);
    failure.message = format!("{}, compared with the play as given", failure.message);
    failure
}

fn balance_differs(play: &str, name: &str, one: Option<&Counts>, two: Option<&Counts>) -> Failure {
    let say = |counts: Option<&Counts>| {
        let counts = counts.copied().unwrap_or_default();
        let parts = [CountOf::In, CountOf::Taken, CountOf::Late, CountOf::Bad, CountOf::Duplicate, CountOf::Out];
        parts.map(|of| format!("{} {}", of.name(), of.of(&counts))).join(", ")
    };
    Failure {
        play: play.to_owned(),
        about: Some(name.to_owned()),
        place: None,
        message: format!("the balance of `{name}` is {}; in the play as given it was {}", say(two), say(one)),
        rows: Vec::new(),
        table: String::new(),
    }
}

/// Returns the rows that stand at the end: corrections applied, without the columns that say what is one.
fn settle(expectation: &Expectation, seen: &[Seen]) -> Vec<Vec<Value>> {
    let at = |name: &str| expectation.all.iter().position(|column| column.name == name);
    let (op, rev) = (at("op"), at("rev"));
    let rest: Vec<usize> =
        expectation.compared.iter().copied().filter(|at| Some(*at) != op && Some(*at) != rev).collect();
    let project = |row: &Vec<Value>| rest.iter().map(|at| row[*at].clone()).collect::<Vec<_>>();
    match (op, rev) {
        (Some(op), _) => {
            let mut sums: BTreeMap<Vec<Value>, i64> = BTreeMap::new();
            for row in seen {
                let sign = if row.cells[op] == Value::Text("-".to_owned()) { -1 } else { 1 };
                let whole = row.cells.iter().enumerate().filter(|(at, _)| *at != op && Some(*at) != rev);
                *sums.entry(whole.map(|(_, cell)| cell.clone()).collect()).or_default() += sign;
            }
            // Columns after those that were left out have moved.
            let moved = |at: &usize| at - usize::from(op < *at) - usize::from(rev.is_some_and(|rev| rev < *at));
            let places: Vec<usize> = rest.iter().map(moved).collect();
            let standing = sums.into_iter().filter(|(_, count)| *count != 0);
            standing
                .flat_map(|(row, count)| {
                    let mut cells: Vec<Value> = places.iter().map(|at| row[*at].clone()).collect();
                    if count < 0 {
                        // Taken back without ever having been given: shown, so that it equals nothing.
                        cells.push(Value::Unfit("taken back".to_owned()));
                    }
                    std::iter::repeat_n(cells, usize::try_from(count.unsigned_abs()).unwrap_or(1))
                })
                .collect()
        }
        (None, Some(rev)) if !expectation.key.is_empty() => {
            let number = |row: &Seen| match &row.cells[rev] {
                Value::Number(text) => text.parse::<i64>().unwrap_or(i64::MIN),
                _ => i64::MIN,
            };
            let mut last: BTreeMap<Vec<Value>, &Seen> = BTreeMap::new();
            for row in seen {
                let key = expectation.key.iter().map(|at| row.cells[*at].clone()).collect();
                let standing = last.entry(key).or_insert(row);
                if number(row) >= number(standing) {
                    *standing = row;
                }
            }
            last.values().map(|row| project(&row.cells)).collect()
        }
        _ => seen.iter().map(|row| project(&row.cells)).collect(),
    }
}

/// Finds which rows go together: first the equal ones, then those of which at least half the cells are equal.
pub fn match_rows(wanted: &[Vec<Value>], came: &[Vec<Value>]) -> Matching {
    let mut places: HashMap<&[Value], VecDeque<usize>> = HashMap::new();
    for (at, row) in came.iter().enumerate() {
        places.entry(row).or_default().push_back(at);
    }
    let mut matching = Matching::default();
    let mut missing = Vec::new();
    for (at, row) in wanted.iter().enumerate() {
        match places.get_mut(row.as_slice()).and_then(VecDeque::pop_front) {
            Some(came) => matching.equal.push((at, came)),
            None => missing.push(at),
        }
    }
    let mut left: Vec<usize> = places.into_values().flatten().collect();
    left.sort_unstable();
    for at in missing {
        let alike = |other: &usize| wanted[at].iter().zip(&came[*other]).filter(|(a, b)| a == b).count();
        let best = left.iter().copied().enumerate().max_by_key(|(place, other)| (alike(other), usize::MAX - place));
        match best.filter(|(_, other)| 2 * alike(other) >= wanted[at].len().max(1)) {
            Some((place, other)) => {
                left.remove(place);
                matching.changed.push((at, other));
            }
            None => matching.missing.push(at),
        }
    }
    matching.unexpected = left;
    matching
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&str]) -> Vec<Vec<Value>> {
        texts.iter().map(|text| text.split(' ').map(|word| Value::Text(word.into())).collect()).collect()
    }

    #[test]
    fn equal_rows_go_together_then_those_alike() {
        let matching = match_rows(&rows(&["a 1", "b 2", "b 2", "c 3", "x 9"]), &rows(&["b 2", "c 4", "y 8", "a 1"]));
        assert_eq!(matching.equal, [(0, 3), (1, 0)]);
        assert_eq!(matching.changed, [(3, 1)]);
        assert_eq!((matching.missing, matching.unexpected), (vec![2, 4], vec![2]));
        assert!(match_rows(&rows(&["a", "b"]), &rows(&["b", "a"])).is_whole());
    }
}
