//! What the fold looks at in the rows of a batch: their order, which are interactions, who is there.

use std::cmp::Ordering;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{Int64Type, UInt64Type};
use riverrun_behaviour::event::{Class, Kind};
use riverrun_behaviour::session::bots::{BotReason, Instant};
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::Hidden;

use super::{Interactions, SessionizeSettings};
use crate::events::EventRows;
use crate::expression::FailedRow;
use crate::order::{KeyOrder, OrderColumns};

/// The rows of a batch, as the fold sees them.
pub(super) struct Marks<'b> {
    /// Event time, microseconds.
    pub times: ScalarBuffer<i64>,
    /// Hash of the key.
    pub hashes: ScalarBuffer<u64>,
    /// Which rows are interactions; all where there is none.
    interactions: Option<BooleanBuffer>,
    /// Which rows move the end of their session; none where there is none.
    leaves: Option<BooleanBuffer>,
    users: Option<&'b StringArray>,
    campaigns: Option<&'b StringArray>,
    referrers: Option<&'b StringArray>,
    events: Option<EventRows<'b>>,
    ids: Option<&'b StringArray>,
    order: OrderColumns,
}

/// Returns the rows on which a condition of the step fails.
pub(super) fn failures(settings: &SessionizeSettings, batch: &RecordBatch) -> Vec<FailedRow> {
    let conditions = [settings.interactions.condition(), settings.leaves.as_ref()];
    conditions.into_iter().flatten().flat_map(|condition| condition.filter(batch).failed).collect()
}

impl<'b> Marks<'b> {
    /// Reads a batch; `order` is that of its schema.
    pub(super) fn of(
        settings: &SessionizeSettings,
        order: &KeyOrder,
        batch: &'b RecordBatch,
    ) -> Result<Marks<'b>, StepError> {
        let text = |column: Option<usize>| column.map(|column| batch.column(column).as_string::<i32>());
        let hidden = |hidden: Hidden| {
            let column = batch.column_by_name(hidden.name());
            column.ok_or_else(|| StepError::Internal(format!("rows of a session carry `{}`", hidden.name())))
        };
        let events = settings.events.as_ref().map(|reader| reader.rows(batch)).transpose()?;
        let by_rule = |is: &dyn Fn(&EventRows<'_>, usize) -> bool| {
            events.as_ref().map(|events| (0..events.len()).map(|row| is(events, row)).collect::<BooleanBuffer>())
        };
        let interactions = match &settings.interactions {
            Interactions::All => None,
            Interactions::Where(condition) => Some(condition.filter(batch).kept),
            Interactions::ByType => by_rule(&|events, row| events.class(row) == Class::Interaction),
        };
        let leaves = match &settings.leaves {
            Some(condition) => Some(condition.filter(batch).kept),
            None => by_rule(&|events, row| events.kinds[row] == Some(Kind::PageLeave)),
        };
        Ok(Marks {
            times: hidden(Hidden::Time)?.as_primitive::<Int64Type>().values().clone(),
            hashes: hidden(Hidden::Hash)?.as_primitive::<UInt64Type>().values().clone(),
            interactions,
            leaves,
            users: text(settings.splits.user_switch),
            campaigns: text(settings.splits.campaign),
            referrers: text(settings.splits.referrer),
            events,
            ids: batch.column_by_name(Hidden::Id.name()).map(|ids| ids.as_string::<i32>()),
            order: order.columns(batch),
        })
    }

    /// Returns all rows in the total order: time, rank of the type, then what orders the rows of a key.
    pub(super) fn in_order(&self) -> Vec<u32> {
        let mut timed: Vec<(i64, u32)> = self.times.iter().copied().zip(0..).collect();
        timed.sort_unstable_by(|a, b| {
            let ranks = || self.rank(a.1).cmp(&self.rank(b.1));
            a.0.cmp(&b.0).then_with(ranks).then_with(|| self.break_tie(a.1, b.1))
        });
        timed.into_iter().map(|(_, row)| row).collect()
    }

    /// Returns the rank of a row's type among rows of one time.
    pub(super) fn rank(&self, row: u32) -> u8 {
        let kind = self.events.as_ref().and_then(|events| events.kinds[row as usize]);
        // What is of no known type comes last, as other behaviour does.
        kind.map_or(Kind::Usage.rank(), Kind::rank)
    }

    fn break_tie(&self, a: u32, b: u32) -> Ordering {
        // Rows of different keys never meet: their order is made as cheaply as can be.
        let (a_hash, b_hash) = (self.hashes[a as usize], self.hashes[b as usize]);
        a_hash.cmp(&b_hash).then_with(|| self.order.break_tie(a as usize, &self.order, b as usize))
    }

    /// Returns whether a row starts and prolongs sessions.
    pub(super) fn is_interaction(&self, row: usize) -> bool {
        self.interactions.as_ref().is_none_or(|interactions| interactions.value(row))
    }

    /// Returns whether a row moves the end of its session, though not its life.
    pub(super) fn leaves(&self, row: usize) -> bool {
        self.leaves.as_ref().is_some_and(|leaves| leaves.value(row))
    }

    /// Returns the account that a row names.
    pub(super) fn user(&self, row: usize) -> Option<&'b str> {
        at(self.users, row)
    }

    /// Returns the campaign that a row names; of behaviour events only that of a page view.
    pub(super) fn campaign(&self, row: usize) -> Option<&'b str> {
        at(self.campaigns, row).filter(|_| self.may_bring(row))
    }

    /// Returns the referrer that a row names; of behaviour events only that of a page view.
    pub(super) fn referrer(&self, row: usize) -> Option<&'b str> {
        at(self.referrers, row).filter(|_| self.may_bring(row))
    }

    fn may_bring(&self, row: usize) -> bool {
        self.events.as_ref().is_none_or(|events| events.kinds[row] == Some(Kind::PageView))
    }

    /// Returns the id of a row: that of its source, or the place where it was read.
    pub(super) fn id(&self, row: usize) -> String {
        let given = self.ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row).to_owned());
        given.unwrap_or_else(|| {
            let [split, position] = self.order.origin(row);
            format!("{split}:{position}")
        })
    }

    /// Returns the events, if rows are behaviour events.
    pub(super) fn events(&self) -> Option<&EventRows<'b>> {
        self.events.as_ref()
    }

    /// Returns the sign of a bot that the row itself bears.
    pub(super) fn bot(&self, row: usize) -> Option<BotReason> {
        self.events.as_ref().and_then(|events| events.bot(row))
    }

    /// Returns when an event happened, by the best clock there is.
    pub(super) fn instant<'m>(&'m self, events: &EventRows<'m>, row: usize) -> Instant<'m> {
        let since_load = events.mono_us(row).map(|us| (events.page_load(row), us));
        Instant { time: events.time_ms(row), since_load }
    }
}

/// Returns a text that is there and not empty.
fn at(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row)).filter(|text| !text.is_empty())
}
