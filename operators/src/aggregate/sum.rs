//! Sum and average: exact for integers and decimals, in the order of folding for floats.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, DecimalType, Field, Float64Type, Int64Type, i256,
};

use super::accumulator::{Accumulator, Fold, gather};
use super::scalar::Scalar;

/// A sum that is exact whatever the order: 128 bits and a carry.
pub(super) struct ExactSum {
    of: DataType,
    result: DataType,
    average: bool,
    sums: Vec<i128>,
    /// How often `sums` went over its upper end, less how often it went under the lower one.
    carries: Vec<i64>,
    counts: Vec<i64>,
}

impl ExactSum {
    pub(super) fn new(of: DataType, result: DataType, average: bool) -> ExactSum {
        ExactSum { of, result, average, sums: Vec::new(), carries: Vec::new(), counts: Vec::new() }
    }

    fn sum_type(&self) -> DataType {
        match self.of {
            DataType::Decimal128(_, scale) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale),
            _ => DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
        }
    }

    fn total(&self, slot: usize) -> i256 {
        i256::from_i128(self.sums[slot]).wrapping_add(i256::from_parts(0, i128::from(self.carries[slot])))
    }

    /// The average of decimals, rounded half away from zero; `None` if it does not fit.
    fn decimal_average(&self, slot: usize, by: i256, precision: u8, scale: i8) -> Option<i128> {
        let total = self.total(slot);
        let negative = total < i256::ZERO;
        let total = if negative { total.wrapping_neg() } else { total };
        let count = i256::from_i128(i128::from(self.counts[slot]));
        let two = i256::from_i128(2);
        let doubled = total.checked_mul(by)?.checked_mul(two)?.checked_add(count)?;
        let rounded = doubled.checked_div(count.checked_mul(two)?)?.to_i128()?;
        let signed = if negative { -rounded } else { rounded };
        Decimal128Type::is_valid_decimal_precision(signed, precision).then_some(signed).filter(|_| scale >= 0)
    }
}

impl Accumulator for ExactSum {
    fn grow(&mut self, slots: usize) {
        self.sums.resize(slots, 0);
        self.carries.resize(slots, 0);
        self.counts.resize(slots, 0);
    }
    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            self.sums[*slot as usize] = 0;
            self.carries[*slot as usize] = 0;
            self.counts[*slot as usize] = 0;
        }
    }
    fn fold(&mut self, rows: &Fold<'_>) {
        let (sums, counts, carries) = (&mut self.sums, &mut self.counts, &mut self.carries);
        if let DataType::Decimal128(..) = self.of {
            let values = i128::column(rows.values());
            rows.for_each_valid(|slot, row| {
                let value = values[row];
                let (sum, over) = sums[slot].overflowing_add(value);
                sums[slot] = sum;
                carries[slot] += i64::from(over) * value.signum() as i64;
                counts[slot] += 1;
            });
        } else {
            // 2^63 values of 64 bits do not fill 128.
            let values = i64::column(rows.values());
            rows.for_each_valid(|slot, row| {
                sums[slot] += i128::from(values[row]);
                counts[slot] += 1;
            });
        }
    }
    fn finish(&self, slots: &[u32]) -> ArrayRef {
        let filled = slots.iter().map(|slot| Some(*slot as usize).filter(|slot| self.counts[*slot] > 0));
        let (mean, sums, counts) = (self.average, &self.sums, &self.counts);
        match (&self.result, &self.of) {
            (DataType::Float64, _) => {
                debug_assert!(mean, "sums of integers are integers");
                Arc::new(filled.map(|s| s.map(|s| sums[s] as f64 / counts[s] as f64)).collect::<Float64Array>())
            }
            (DataType::Decimal128(precision, scale), DataType::Decimal128(_, from)) if mean => {
                let by = i256::from_i128(10i128.pow(u32::from((scale - from).max(0).unsigned_abs())));
                let means = filled.map(|s| s.and_then(|s| self.decimal_average(s, by, *precision, *scale)));
                i128::array(means, &self.result)
            }
            (DataType::Decimal128(precision, _), _) => {
                let fits = |sum: &i128| Decimal128Type::is_valid_decimal_precision(*sum, *precision);
                let sums = filled.map(|s| s.and_then(|s| self.total(s).to_i128()).filter(fits));
                i128::array(sums, &self.result)
            }
            _ => Arc::new(filled.map(|s| s.and_then(|s| i64::try_from(sums[s]).ok())).collect::<Int64Array>()),
        }
    }
    fn state_fields(&self, name: &str) -> Vec<Field> {
        vec![
            Field::new(format!("{name}.sum"), self.sum_type(), true),
            Field::new(format!("{name}.carry"), DataType::Int64, true),
            Field::new(format!("{name}.count"), DataType::Int64, true),
        ]
    }
    fn save(&self, slots: &[u32]) -> Vec<ArrayRef> {
        let sums = Decimal128Array::from(gather(&self.sums, slots)).with_data_type(self.sum_type());
        vec![
            Arc::new(sums),
            Arc::new(Int64Array::from(gather(&self.carries, slots))),
            Arc::new(Int64Array::from(gather(&self.counts, slots))),
        ]
    }
    fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]) {
        let sums = columns[0].as_primitive::<Decimal128Type>().values();
        let carries = columns[1].as_primitive::<Int64Type>().values();
        let counts = columns[2].as_primitive::<Int64Type>().values();
        for (slot, row) in slots.iter().zip(rows).map(|(slot, row)| (*slot as usize, *row as usize)) {
            (self.sums[slot], self.carries[slot], self.counts[slot]) = (sums[row], carries[row], counts[row]);
        }
    }
}

/// A sum of floats: it depends on the order of its rows, which the caller has to see to.
pub(super) struct FloatSum {
    average: bool,
    sums: Vec<f64>,
    counts: Vec<i64>,
}

impl FloatSum {
    pub(super) fn new(average: bool) -> FloatSum {
        FloatSum { average, sums: Vec::new(), counts: Vec::new() }
    }
}

impl Accumulator for FloatSum {
    fn grow(&mut self, slots: usize) {
        self.sums.resize(slots, 0.0);
        self.counts.resize(slots, 0);
    }
    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            self.sums[*slot as usize] = 0.0;
            self.counts[*slot as usize] = 0;
        }
    }
    fn fold(&mut self, rows: &Fold<'_>) {
        let values = f64::column(rows.values());
        rows.for_each_valid(|slot, row| {
            self.sums[slot] += values[row];
            self.counts[slot] += 1;
        });
    }
    fn finish(&self, slots: &[u32]) -> ArrayRef {
        let result = |slot: usize| match self.average {
            true => self.sums[slot] / self.counts[slot] as f64,
            false => self.sums[slot],
        };
        let results = slots.iter().map(|slot| (self.counts[*slot as usize] > 0).then(|| result(*slot as usize)));
        // One NaN, whatever went in.
        Arc::new(results.map(|r| r.map(|r| if r.is_nan() { f64::NAN } else { r })).collect::<Float64Array>())
    }
    fn state_fields(&self, name: &str) -> Vec<Field> {
        vec![
            Field::new(format!("{name}.sum"), DataType::Float64, true),
            Field::new(format!("{name}.count"), DataType::Int64, true),
        ]
    }
    fn save(&self, slots: &[u32]) -> Vec<ArrayRef> {
        vec![
            Arc::new(Float64Array::from(gather(&self.sums, slots))),
            Arc::new(Int64Array::from(gather(&self.counts, slots))),
        ]
    }
    fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]) {
        let sums = columns[0].as_primitive::<Float64Type>().values();
        let counts = columns[1].as_primitive::<Int64Type>().values();
        for (slot, row) in slots.iter().zip(rows).map(|(slot, row)| (*slot as usize, *row as usize)) {
            (self.sums[slot], self.counts[slot]) = (sums[row], counts[row]);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, RecordBatch};
    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::accumulator::OrderKeys;

    fn fold(accumulator: &mut dyn Accumulator, values: ArrayRef) -> String {
        let batch = RecordBatch::try_from_iter_with_nullable([("v", values, true)]).unwrap();
        let rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        accumulator.grow(1);
        let order = OrderKeys::of(&batch);
        let slots = vec![0; rows.len()];
        accumulator.fold(&Fold { rows: &rows, slots: &slots, argument: Some(batch.column(0)), order: &order });
        let result = accumulator.finish(&[0]);
        match result.is_null(0) {
            true => "null".into(),
            false => arrow::util::display::array_value_to_string(&result, 0).unwrap(),
        }
    }

    fn sum_of_ints(values: &[i64]) -> String {
        let mut sum = ExactSum::new(DataType::Int64, DataType::Int64, false);
        fold(&mut sum, Arc::new(Int64Array::from(values.to_vec())))
    }

    #[test]
    fn an_integer_sum_may_overflow_on_the_way_but_not_at_the_end() {
        assert_eq!(sum_of_ints(&[i64::MAX, 1, -1]), i64::MAX.to_string());
        assert_eq!(sum_of_ints(&[i64::MAX, 1]), "null");
        assert_eq!(sum_of_ints(&[i64::MIN, -1]), "null");
        assert_eq!(sum_of_ints(&[]), "null");
        let mut mean = ExactSum::new(DataType::Int64, DataType::Float64, true);
        assert_eq!(fold(&mut mean, Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX]))), "9.223372036854776e18");
    }

    #[test]
    fn averages_of_decimals_are_rounded_half_away_from_zero() {
        let mean = |values: Vec<i128>| {
            let (of, result) = (DataType::Decimal128(6, 2), DataType::Decimal128(10, 6));
            let mut mean = ExactSum::new(of.clone(), result, true);
            fold(&mut mean, Arc::new(Decimal128Array::from(values).with_data_type(of)))
        };
        assert_eq!(mean(vec![100, 100, 101]), "1.003333");
        assert_eq!(mean(vec![-100, -100, -101]), "-1.003333");
        // 1/64 = 0.015625, and half of the last place.
        assert_eq!(mean([vec![1], vec![0; 127]].concat()), "0.000078");
        assert_eq!(mean([vec![1], vec![0; 3199]].concat()), "0.000003");
        assert_eq!(mean([vec![-1], vec![0; 1999]].concat()), "-0.000005");
        assert_eq!(mean([vec![-3], vec![0; 19_999]].concat()), "-0.000002");
    }

    proptest! {
        /// Sums of the largest decimals are the same in any order, also where 128 bits overflow on the way.
        #[test]
        fn decimal_sums_are_exact(values in prop::collection::vec(-3i128..4, 0..12), turn in 0usize..12) {
            let most = 10i128.pow(38) - 1;
            let wide: Vec<i128> = values.iter().map(|v| if *v == 0 { 7 } else { v.signum() * (most - v.abs() + 1) }).collect();
            let of = DataType::Decimal128(38, 0);
            let sum = |values: &[i128]| {
                let mut sum = ExactSum::new(of.clone(), of.clone(), false);
                fold(&mut sum, Arc::new(Decimal128Array::from(values.to_vec()).with_data_type(of.clone())))
            };
            let mut turned = wide.clone();
            turned.rotate_left(turn.min(wide.len()));
            prop_assert_eq!(sum(&wide), sum(&turned));
            let exact = wide.iter().fold(i256::ZERO, |sum, value| sum.wrapping_add(i256::from_i128(*value)));
            let fits = !wide.is_empty() && exact <= i256::from_i128(most) && exact >= i256::from_i128(-most);
            prop_assert_eq!(sum(&wide), if fits { exact.to_string() } else { "null".to_owned() });
        }
    }
}
