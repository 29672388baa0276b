//! How rows are divided into folders: by the date and hour of their event time, in UTC, in the style of Hive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::push_date;

const HOUR_MICROS: i64 = 3_600_000_000;
/// What readers of such folders take for null: a row without event time is in no date.
pub(super) const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The folders of a lake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub enum PartitionBy {
    /// `date=2026-03-01/hour=13`.
    #[default]
    Hour,
    /// `date=2026-03-01`.
    Date,
    /// No folders.
    Nothing,
}

/// The number of a partition: hours or days since 1970, in UTC; `None` for rows without event time.
pub(super) type Partition = Option<i64>;

impl PartitionBy {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            PartitionBy::Hour => "hour",
            PartitionBy::Date => "date",
            PartitionBy::Nothing => "none",
        }
    }

    /// Returns the names of the folders' columns.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            PartitionBy::Hour => &["date", "hour"],
            PartitionBy::Date => &["date"],
            PartitionBy::Nothing => &[],
        }
    }

    /// Returns the division by these columns, if there is one.
    pub fn of(columns: &[impl AsRef<str>]) -> Option<PartitionBy> {
        let is = |by: &PartitionBy| by.columns().iter().copied().eq(columns.iter().map(AsRef::as_ref));
        [PartitionBy::Hour, PartitionBy::Date, PartitionBy::Nothing].into_iter().find(is)
    }

    /// Returns the partition of a row of this event time, `i64::MIN` for none.
    pub(super) fn partition(self, micros: i64) -> Partition {
        let unit = match self {
            PartitionBy::Nothing => return Some(0),
            PartitionBy::Hour => HOUR_MICROS,
            PartitionBy::Date => 24 * HOUR_MICROS,
        };
        (micros != i64::MIN).then(|| micros.div_euclid(unit))
    }

    /// Returns what the folders of a partition are called, by column.
    pub(super) fn values(self, partition: Partition) -> BTreeMap<String, String> {
        let date = |days: i64| {
            let mut text = Vec::new();
            push_date(&mut text, days);
            String::from_utf8(text).expect("a date is ASCII")
        };
        let values = match (self, partition) {
            (PartitionBy::Nothing, _) => Vec::new(),
            (_, None) => vec![NO_VALUE.to_owned(); self.columns().len()],
            (PartitionBy::Date, Some(days)) => vec![date(days)],
            // Not `09`: DuckDB takes that for text, and all hours with it.
            (PartitionBy::Hour, Some(hours)) => {
                vec![date(hours.div_euclid(24)), hours.rem_euclid(24).to_string()]
            }
        };
        self.columns().iter().map(|name| (*name).to_owned()).zip(values).collect()
    }

    /// Returns the path of `file` in the folders of a partition.
    pub(super) fn path(self, values: &BTreeMap<String, String>, file: &str) -> String {
        let mut path = String::new();
        for column in self.columns() {
            let value = values.get(*column).map_or(NO_VALUE, String::as_str);
            path.extend([*column, "=", value, "/"]);
        }
        path + file
    }
}

impl From<PartitionBy> for Vec<String> {
    fn from(by: PartitionBy) -> Vec<String> {
        by.columns().iter().map(|name| (*name).to_owned()).collect()
    }
}

impl TryFrom<Vec<String>> for PartitionBy {
    type Error = String;

    fn try_from(columns: Vec<String>) -> Result<PartitionBy, String> {
        PartitionBy::of(&columns).ok_or_else(|| format!("a lake is not partitioned by {columns:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(by: PartitionBy, micros: i64) -> String {
        by.path(&by.values(by.partition(micros)), "f")
    }

    #[test]
    fn folders_are_dates_and_hours_in_utc() {
        // 2026-03-01T13:59:59.999999Z, and a microsecond later.
        let last = 1_772_373_600_000_000 - 1;
        assert_eq!(path(PartitionBy::Hour, last), "date=2026-03-01/hour=13/f");
        assert_eq!(path(PartitionBy::Hour, last + 1), "date=2026-03-01/hour=14/f");
        assert_eq!(path(PartitionBy::Date, last), "date=2026-03-01/f");
        assert_eq!(path(PartitionBy::Nothing, last), "f");
        assert_eq!(path(PartitionBy::Hour, -1), "date=1969-12-31/hour=23/f");
    }

    #[test]
    fn rows_without_event_time_are_in_folders_that_readers_take_for_null() {
        let null = "__HIVE_DEFAULT_PARTITION__";
        assert_eq!(path(PartitionBy::Hour, i64::MIN), format!("date={null}/hour={null}/f"));
        assert_eq!(path(PartitionBy::Nothing, i64::MIN), "f");
    }

    #[test]
    fn columns_name_a_division() {
        assert_eq!(PartitionBy::of(&["date", "hour"]), Some(PartitionBy::Hour));
        assert_eq!(PartitionBy::of(&[] as &[&str]), Some(PartitionBy::Nothing));
        assert_eq!(PartitionBy::of(&["hour"]), None);
    }
}
