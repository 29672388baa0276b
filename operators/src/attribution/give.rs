//! The rows that an attribution gives, put together column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::DataType;
use riverrun_behaviour::attribution::ledger::{Through, Unmatched};
use riverrun_behaviour::attribution::{Model, Notice, PathRow, Reason, Row};
use riverrun_behaviour::weight::Weight;
use riverrun_dataflow::operator::{Outputs, StepError};

use super::{AttributionState, NOTICES, PATHS, Said};
use crate::kept::BATCH_ROWS;
use crate::keyed::Slot;

/// The channel of what nobody is credited with.
const NOBODY: &str = "(none)";

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn numbers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn op(weight: Weight) -> &'static str {
    match weight {
        Weight::Insert => "+",
        Weight::Retract => "-",
    }
}

/// Returns the name by which a job file and the column `model` know a model.
pub fn model_name(model: Model) -> &'static str {
    match model {
        Model::FirstTouch => "first_touch",
        Model::LastTouch => "last_touch",
        Model::LastNonDirect => "last_non_direct",
        Model::Linear => "linear",
        Model::PositionBased => "position_based",
        Model::TimeDecay => "time_decay",
    }
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Order => "order",
        Reason::Update => "update",
        Reason::Refund => "refund",
        Reason::Cancel => "cancel",
    }
}

impl AttributionState {
    /// Gives what the ledgers said; `now` is the tick's clock.
    pub(super) fn give(&self, said: &Said, now: i64, out: &mut Outputs) -> Result<(), StepError> {
        let rows: Vec<(Slot, Weight, &Row)> =
            said.iter().flat_map(|(slot, said)| said.rows.iter().map(|(weight, row)| (*slot, *weight, row))).collect();
        for rows in rows.chunks(BATCH_ROWS) {
            out.rows.push(self.rows(rows)?);
            out.pulse.beat();
        }
        let [notices, paths] = self.plan.settings.sides;
        if notices {
            let all: Vec<(Slot, &Notice)> =
                said.iter().flat_map(|(slot, said)| said.notices.iter().map(|notice| (*slot, notice))).collect();
            for notices in all.chunks(BATCH_ROWS) {
                let batch = self.notices(notices, now)?;
                out.side(NOTICES).push(batch);
            }
        }
        if paths {
            let all: Vec<(Slot, Weight, &PathRow)> = said
                .iter()
                .flat_map(|(slot, said)| said.paths.iter().map(|(weight, row)| (*slot, *weight, row)))
                .collect();
            for paths in all.chunks(BATCH_ROWS) {
                let batch = self.paths(paths, now)?;
                out.side(PATHS).push(batch);
            }
        }
        Ok(())
    }

    /// Returns event time and hash of rows of these keys.
    fn hidden(&self, slots: &[Slot], times: impl Iterator<Item = i64>) -> [ArrayRef; 2] {
        let hashes = slots.iter().map(|slot| self.ledgers.hash(*slot));
        [numbers(times), Arc::new(UInt64Array::from_iter_values(hashes))]
    }

    fn rows(&self, rows: &[(Slot, Weight, &Row)]) -> Result<RecordBatch, StepError> {
        let slots: Vec<Slot> = rows.iter().map(|(slot, ..)| *slot).collect();
        let all = || rows.iter().map(|(.., row)| *row);
        let touches = || all().map(|row| row.touch.as_ref());
        let text =
            |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef { Arc::new(all().map(of).collect::<StringArray>()) };
        let times = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(values)) };
        let through = all().map(|row| match row.through {
            Some(Through::Click) => Some("click"),
            Some(Through::View) => Some("view"),
            None => None,
        });
        let mut columns = vec![texts(rows.iter().map(|(_, weight, _)| op(*weight)))];
        columns.extend(self.ledgers.keys(&slots));
        columns.extend([
            texts(all().map(|row| row.order_id.as_str())),
            texts(all().map(|row| model_name(row.model))),
            text(&|row| row.touch.as_ref().map(|touch| touch.touch_id.clone())),
            times(touches().map(|touch| touch.map(|touch| touch.time)).collect()),
            texts(touches().map(|touch| touch.map_or(NOBODY, |touch| touch.channel.as_str()))),
            text(&|row| row.touch.as_ref().and_then(|touch| touch.campaign.clone())),
            text(&|row| row.touch.as_ref().and_then(|touch| touch.product.clone())),
            Arc::new(through.collect::<StringArray>()) as ArrayRef,
            numbers(all().map(|row| row.weight_ppm)),
            numbers(all().map(|row| row.conversions_ppm)),
            self.amounts(all().map(|row| row.amount_minor))?,
            texts(all().map(|row| row.currency.as_str())),
            texts(all().map(|row| reason_name(row.reason))),
            texts(all().map(|row| row.event_id.as_str())),
            times(all().map(|row| Some(row.order_time)).collect()),
            times(all().map(|row| Some(row.booked_time)).collect()),
        ]);
        columns.extend(self.hidden(&slots, all().map(|row| row.booked_time.saturating_mul(1000))));
        Ok(RecordBatch::try_new(self.plan.schema.clone(), columns)?)
    }

    fn amounts(&self, minor: impl Iterator<Item = i64>) -> Result<ArrayRef, StepError> {
        match self.plan.settings.amount {
            DataType::Decimal128(precision, scale) => {
                let amounts = Decimal128Array::from_iter_values(minor.map(i128::from));
                Ok(Arc::new(amounts.with_precision_and_scale(precision, scale)?))
            }
            _ => Ok(numbers(minor)),
        }
    }

    fn notices(&self, notices: &[(Slot, &Notice)], now: i64) -> Result<RecordBatch, StepError> {
        let slots: Vec<Slot> = notices.iter().map(|(slot, _)| *slot).collect();
        let told: Vec<Told<'_>> = notices.iter().map(|(_, notice)| told(notice)).collect();
        let optional = |of: &dyn Fn(&Told<'_>) -> Option<String>| -> ArrayRef {
            Arc::new(told.iter().map(of).collect::<StringArray>())
        };
        let mut columns = self.ledgers.keys(&slots);
        columns.extend([
            texts(told.iter().map(|told| told.notice)),
            optional(&|told| told.order_id.map(str::to_owned)),
            optional(&|told| told.event_id.map(str::to_owned)),
            optional(&|told| told.detail.clone()),
        ]);
        columns.extend(self.hidden(&slots, slots.iter().map(|_| now)));
        Ok(RecordBatch::try_new(self.plan.notices.clone(), columns)?)
    }

    fn paths(&self, paths: &[(Slot, Weight, &PathRow)], now: i64) -> Result<RecordBatch, StepError> {
        let slots: Vec<Slot> = paths.iter().map(|(slot, ..)| *slot).collect();
        let lists = |of: fn(&PathRow) -> &Vec<String>| -> ArrayRef {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for (.., row) in paths {
                of(row).iter().for_each(|channel| lists.values().append_value(channel));
                lists.append(true);
            }
            Arc::new(lists.finish())
        };
        let mut columns = vec![texts(paths.iter().map(|(_, weight, _)| op(*weight)))];
        columns.extend(self.ledgers.keys(&slots));
        columns.extend([
            texts(paths.iter().map(|(.., row)| row.order_id.as_str())),
            lists(|row| &row.raw),
            lists(|row| &row.exposure),
            lists(|row| &row.first),
        ]);
        columns.extend(self.hidden(&slots, slots.iter().map(|_| now)));
        Ok(RecordBatch::try_new(self.plan.paths.clone(), columns)?)
    }
}

/// A notice as a row.
struct Told<'a> {
    notice: &'static str,
    order_id: Option<&'a str>,
    event_id: Option<&'a str>,
    detail: Option<String>,
}

fn told(notice: &Notice) -> Told<'_> {
    let touch = |notice, touch_id| Told { notice, order_id: None, event_id: Some(touch_id), detail: None };
    let order = |notice, order_id, event_id, detail| Told { notice, order_id: Some(order_id), event_id, detail };
    match notice {
        Notice::DuplicateClick { touch_id } => touch("duplicate_click", touch_id),
        Notice::TouchForgotten { touch_id } => touch("touch_forgotten", touch_id),
        Notice::DuplicateOrder { order_id, event_id } => order("duplicate_order", order_id, Some(event_id), None),
        Notice::OrderForgotten { order_id } => order("order_forgotten", order_id, None, None),
        Notice::Conflict { order_id, event_id, kept, dropped } => {
            order("conflict", order_id, Some(event_id), Some(format!("kept {kept}, refused {dropped}")))
        }
        Notice::Unmatched { order_id, event_id, why } => {
            let why = match why {
                Unmatched::NoOrder => "no_order",
                Unmatched::TooOld => "too_old",
                Unmatched::Currency => "currency",
                Unmatched::Cancelled => "cancelled",
            };
            order("unmatched", order_id, Some(event_id), Some(why.to_owned()))
        }
        Notice::OverRefund { order_id, event_id, excess_minor } => {
            order("over_refund", order_id, Some(event_id), Some(format!("{excess_minor} minor units were not booked")))
        }
    }
}
