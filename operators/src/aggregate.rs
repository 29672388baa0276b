//! Aggregates: SQL text such as `count(*) filter (where x > 1)`, and the typed, columnar accumulators behind it.
//!
//! | aggregate | of | gives | without a value |
//! |---|---|---|---|
//! | `count(*)`, `count(x)`, `count(distinct x)` | anything; distinct: scalars | int64 | 0 |
//! | `sum(x)` | int64, float64, decimal(p,s) | int64, float64, decimal(38,s) | null |
//! | `avg(x)` | int64, float64, decimal(p,s) | float64, float64, decimal(p+4,s+4) | null |
//! | `min(x)`, `max(x)` | scalars | the same | null |
//! | `first(x)`, `last(x)` | scalars | the same | null |
//! | `quantile(x, p)` | scalars; `p` a number from 0 to 1 | the same | null |
//!
//! Each may have a `filter (where ...)`, which keeps a row out where it is false or null; the argument then counts, and can
//! fail, only on the rows that are in. Nulls are skipped, except by `count(*)`, and by `first` and `last`, which give the
//! value of the first or last row as it is.
//!
//! Sums and averages of integers and decimals are exact and do not depend on order; a result that its type cannot hold is
//! null. Averages of decimals are rounded half away from zero. Sums of floats are folded in per-key order. `first` and
//! `last` go by per-key order, `(event time, id, source, split, position)`, and by the value itself where that is equal.
//! A quantile is exact, and one of the values: the least one that at least the share `p` of them do not exceed. It keeps them all.
//! Among floats, NaN is one value and greater than all others, and -0.0 is 0.0.

mod accumulator;
mod count;
mod distinct;
mod edge;
mod extreme;
mod fold;
mod parse;
mod quantile;
mod scalar;
mod sum;

use arrow::datatypes::{DataType, Field};

use crate::expression::Expression;
pub use fold::{AggregateInputs, Aggregates};
pub(crate) use scalar::Scalar;

/// What an aggregate makes of the values of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateKind {
    /// The number of rows, or of values that are not null.
    Count,
    /// The number of different values.
    CountDistinct,
    /// Their sum.
    Sum,
    /// Their mean.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The value of the row that is first in per-key order.
    First,
    /// The value of the row that is last in per-key order.
    Last,
    /// The least value that this share of them, of a million, do not exceed.
    Quantile(u32),
}

/// A typed aggregate over the visible columns of a stream.
#[derive(Clone, Debug)]
pub struct Aggregate {
    kind: AggregateKind,
    argument: Option<Expression>,
    filter: Option<Expression>,
    data_type: DataType,
}

impl Aggregate {
    /// Returns what it makes of the values.
    pub fn kind(&self) -> AggregateKind {
        self.kind
    }

    /// Returns its SQL text, normalised.
    pub fn sql(&self) -> String {
        let name = match self.kind {
            AggregateKind::Count | AggregateKind::CountDistinct => "count",
            AggregateKind::Sum => "sum",
            AggregateKind::Avg => "avg",
            AggregateKind::Min => "min",
            AggregateKind::Max => "max",
            AggregateKind::First => "first",
            AggregateKind::Last => "last",
            AggregateKind::Quantile(_) => "quantile",
        };
        let distinct = if self.kind == AggregateKind::CountDistinct { "distinct " } else { "" };
        let argument = self.argument.as_ref().map_or("*", Expression::sql);
        let filter = self.filter.as_ref().map(|filter| format!(" filter (where {})", filter.sql())).unwrap_or_default();
        let share = match self.kind {
            AggregateKind::Quantile(share) => format!(", {}", f64::from(share) / quantile::WHOLE as f64),
            _ => String::new(),
        };
        format!("{name}({distinct}{argument}{share}){filter}")
    }

    /// Returns the type of its result.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Returns whether its result may be null.
    pub fn nullable(&self) -> bool {
        !matches!(self.kind, AggregateKind::Count | AggregateKind::CountDistinct)
    }

    /// Returns its column under the name that the job gives it.
    pub fn field(&self, name: &str) -> Field {
        Field::new(name, self.data_type.clone(), self.nullable())
    }

    /// Returns the names of the columns it reads; a name may stand twice.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let parts = self.argument.iter().chain(&self.filter);
        parts.flat_map(|expression| expression.columns().iter().map(String::as_str))
    }

    /// Returns whether its result depends on per-key order: its input then has to carry the hidden columns that make it.
    pub fn needs_order(&self) -> bool {
        matches!(self.kind, AggregateKind::First | AggregateKind::Last) || self.folds_in_order()
    }

    /// Returns whether it keeps the values of a group, each of which counts towards the bound of its step.
    pub fn keeps_values(&self) -> bool {
        matches!(self.kind, AggregateKind::CountDistinct | AggregateKind::Quantile(_))
    }

    /// Returns whether rows have to be folded in per-key order: float additions do not commute.
    fn folds_in_order(&self) -> bool {
        matches!(self.kind, AggregateKind::Sum | AggregateKind::Avg)
            && self.argument.as_ref().is_some_and(|argument| *argument.data_type() == DataType::Float64)
    }
}
