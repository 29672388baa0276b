//! Live sessions: given as soon as they are there, and corrected when a late row changes them.
//!
//! In:       as for the mode `final`.
//! Out:      a table with signed changes: `op` (`+`, `-`), `rev`, then the columns of a session, `events`, `interactions` and
//!           `merged_into`. A session that changed is taken back and given again with `rev` one higher. After all rows the table has
//!           exactly the sessions of the mode `final` over the same rows. A session that still grows has no `closed_by`.
//! Names:    a session is named by the row that was its first when it was first given. The name stays if an earlier row comes
//!           late; of two that become one the earlier keeps its name, and what takes the other back says so in `merged_into`.
//! Late, Bad: as for the mode `final`; also late is a row before those that were settled for want of room.
//! Keeps:    one `machine` per key, with its rows until the watermark has passed them by `lateness`; of one key at most 10,000
//!           rows: beyond that the oldest are settled before their time. More than `sessions_max` keys or `waiting_max` rows
//!           stop the job.
//! Restart:  machines are checkpointed as JSON, those that changed and those that are gone.
//!
//! The rules are those of `riverrun_behaviour::session::live`; here they are fed rows and told the time. Times count in whole
//! milliseconds, so of two rows within one the id decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, UInt64Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use riverrun_behaviour::event::{Class, Kind};
use riverrun_behaviour::session::bots::{BotReason, BotSettings, BotWatch, Instant};
use riverrun_behaviour::session::live::{Change, Output};
use riverrun_behaviour::session::{Live, Mark, Placed, Rules, Tally};
use riverrun_behaviour::weight::Weight;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, Pulse, StepError, TableSize, TableSpec};
use riverrun_dataflow::tick::StepTick;
use serde::{Deserialize, Serialize};

use super::marks::Marks;
use super::names::Names;
use super::{BATCH_ROWS, Sessionize, checkpoint, reason_word, without_failing, without_late};
use crate::keyed::{KeyedState, Left, Slot};

/// What a live session adds up to: the signs of a bot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Watched {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bot: Option<BotReason>,
    #[serde(default, skip_serializing_if = "is_empty")]
    watch: BotWatch,
}

fn is_empty(watch: &BotWatch) -> bool {
    *watch == BotWatch::default()
}

/// What of a row tells a bot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sign {
    #[serde(skip_serializing_if = "Option::is_none")]
    bot: Option<BotReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_load: Option<(String, i64)>,
}

impl Tally for Watched {
    type Row = Sign;
    type Settings = BotSettings;

    fn add(&mut self, settings: &BotSettings, mark: &Mark<'_>, row: &Sign) {
        if self.bot.is_some() {
            return;
        }
        let mut sign = row.bot;
        if mark.class == Class::Interaction && row.kind.is_some() {
            sign = sign.or(self.watch.interaction(settings, mark.time));
            let since_load = row.since_load.as_ref().map(|(load, us)| (load.as_str(), *us));
            sign = match row.kind {
                Some(Kind::PageView) => sign.or(self.watch.page_view(settings, mark.time)),
                Some(Kind::Click) => sign.or(self.watch.click(settings, Instant { time: mark.time, since_load })),
                _ => sign,
            };
        }
        self.bot = sign;
        if sign.is_some() {
            // It stays a bot's: nothing more is to be watched.
            self.watch = BotWatch::default();
        }
    }
}

/// What the step keeps between ticks, for the shards of one worker.
pub(super) struct LiveState {
    plan: Sessionize,
    rules: Rules,
    bots: BotSettings,
    lateness_ms: i64,
    machines: KeyedState<Live<Watched>>,
}

/// What a call of a machine gave.
type Given = (Slot, Output<Watched>);

fn millis(micros: i64) -> i64 {
    if micros == i64::MAX { micros } else { micros.div_euclid(1000) }
}

impl LiveState {
    pub(super) fn new(plan: Sessionize, shards: ShardRange) -> LiveState {
        let settings = &plan.settings;
        let whole = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        LiveState {
            rules: Rules {
                idle_timeout_ms: whole(settings.gap),
                max_duration_ms: whole(settings.max_duration),
                user_switch: settings.splits.user_switch.is_some(),
                midnight: settings.splits.midnight.clone(),
                campaign_split: settings.splits.campaign.is_some(),
                referrer_split: settings.splits.referrer.is_some(),
            },
            bots: BotSettings::default(),
            lateness_ms: whole(settings.lateness),
            machines: KeyedState::new("machines", plan.keys.clone(), shards),
            plan,
        }
    }

    /// Feeds the rows of a tick to the machines of their keys, and returns the slots of these.
    fn feed(&mut self, batch: &RecordBatch, out: &mut Outputs) -> Result<Vec<Slot>, StepError> {
        let marks = Marks::of(&self.plan.settings, &self.plan.order, batch)?;
        let slots = self.machines.slots(batch, &self.plan.settings.by)?;
        let mut late: Vec<u32> = Vec::new();
        for row in marks.in_order() {
            let at = row as usize;
            if at.is_multiple_of(BATCH_ROWS) {
                out.pulse.beat();
            }
            let id = marks.id(at);
            let mark = Mark {
                time: millis(marks.times[at]),
                rank: marks.rank(row),
                id: &id,
                class: if marks.is_interaction(at) { Class::Interaction } else { Class::Passive },
                user: marks.user(at),
                campaign: marks.campaign(at),
                referrer: marks.referrer(at),
                leaves: marks.leaves(at),
            };
            let sign = sign_of(&marks, at);
            self.machines.update(slots[at], |live| {
                if live.push(&mark, sign) == Placed::Late {
                    late.push(row);
                }
                Ok::<_, StepError>(Left { size: live.held() + 1, due: None })
            })?;
        }
        out.counts.late += late.len() as u64;
        out.counts.taken += (batch.num_rows() - late.len()) as u64;
        if !late.is_empty() {
            out.late.push(take_record_batch(batch, &UInt32Array::from(late))?);
        }
        let mut touched = slots;
        touched.sort_unstable();
        touched.dedup();
        Ok(touched)
    }

    /// Tells the machines of `touched`, and those whose time has come, that event time has come to `to`.
    fn advance(&mut self, touched: Vec<Slot>, to: i64, pulse: &Pulse) -> Result<Vec<Given>, StepError> {
        let (rules, bots, lateness) = (&self.rules, &self.bots, self.lateness_ms);
        let mut given: Vec<Given> = Vec::new();
        let mut tell = |slot: Slot, live: &mut Live<Watched>| {
            let mut output = Output::default();
            live.advance(rules, bots, lateness, to, &mut output);
            if !output.changes.is_empty() {
                given.push((slot, output));
            }
            let left = if live.is_empty() {
                Left::NOTHING
            } else {
                Left { size: live.held() + 1, due: live.due(rules, lateness) }
            };
            Ok::<_, StepError>(left)
        };
        for slot in touched {
            self.machines.update(slot, |live| tell(slot, live))?;
        }
        self.machines.fire(EventTime(to), pulse, tell)?;
        Ok(given)
    }

    /// Gives the changes of the table.
    fn emit(&self, given: &[Given], out: &mut Outputs) -> Result<(), StepError> {
        let all: Vec<(Slot, &Change<Watched>, Option<&str>)> = given
            .iter()
            .flat_map(|(slot, output)| {
                let moved: BTreeMap<&str, &str> =
                    output.moved.iter().map(|moved| (moved.from.as_str(), moved.to.as_str())).collect();
                output.changes.iter().map(move |change| {
                    let is_taken_back = change.weight == Weight::Retract;
                    let into = moved.get(change.anchor.as_str()).copied().filter(|_| is_taken_back);
                    (*slot, change, into)
                })
            })
            .collect();
        for part in all.chunks(BATCH_ROWS) {
            out.rows.push(self.rows(part)?);
            out.pulse.beat();
        }
        Ok(())
    }

    fn rows(&self, part: &[(Slot, &Change<Watched>, Option<&str>)]) -> Result<RecordBatch, StepError> {
        let slots: Vec<Slot> = part.iter().map(|(slot, ..)| *slot).collect();
        let keys = self.machines.keys(&slots);
        let names = Names::of_keys(&self.plan.settings, &keys);
        let named = |at: usize, anchor: &str| names.session(at, anchor).to_string();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let spans = || part.iter().map(|(_, change, _)| &change.session.span);
        let micros = |millis: i64| millis.saturating_mul(1000);
        let ops = part.iter().map(|(_, change, _)| if change.weight == Weight::Retract { "-" } else { "+" });
        let ids = part.iter().enumerate().map(|(at, (_, change, _))| named(at, &change.anchor));
        let into = part.iter().enumerate().map(|(at, (.., into))| into.map(|into| named(at, into)));
        let reasons = part.iter().map(|(_, change, _)| change.reason.map(reason_word));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ops)),
            Arc::new(part.iter().map(|(_, change, _)| Some(i64::from(change.rev))).collect::<Int64Array>()),
            Arc::new(StringArray::from_iter_values(ids)),
            self.plan.times(spans().map(|span| micros(span.start)))?,
            self.plan.times(spans().map(|span| micros(span.end())))?,
            Arc::new(reasons.collect::<StringArray>()),
        ];
        columns.extend(keys.iter().cloned());
        columns.push(Arc::new(Int64Array::from_iter_values(spans().map(|span| number(span.events)))));
        columns.push(Arc::new(Int64Array::from_iter_values(spans().map(|span| number(span.interactions)))));
        columns.push(Arc::new(into.collect::<StringArray>()));
        if self.plan.settings.events.is_some() {
            let bots = || part.iter().map(|(_, change, _)| change.session.tally.bot);
            let words = bots().map(|bot| bot.map(checkpoint::bot_word).transpose()).collect::<Result<Vec<_>, _>>()?;
            columns.push(Arc::new(bots().map(|bot| Some(bot.is_some())).collect::<BooleanArray>()));
            columns.push(Arc::new(StringArray::from(words)));
        }
        columns.push(Arc::new(Int64Array::from_iter_values(spans().map(|span| micros(span.end())))));
        columns.push(Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| self.machines.hash(*slot)))));
        let options = RecordBatchOptions::new().with_row_count(Some(part.len()));
        Ok(RecordBatch::try_new_with_options(self.plan.schema.clone(), columns, &options)?)
    }

    fn check_bounds(&self) -> Result<(), StepError> {
        let (keys, rows, settings) = (self.machines.len(), self.machines.size(), &self.plan.settings);
        if keys > settings.sessions_max || rows > settings.waiting_max {
            return Err(StepError::Bound(format!(
                "it keeps {keys} keys and {rows} rows that may yet change their sessions; {} and {} are allowed on one worker: \
                 allow less lateness or run more workers",
                settings.sessions_max, settings.waiting_max
            )));
        }
        Ok(())
    }
}

fn sign_of(marks: &Marks<'_>, row: usize) -> Sign {
    let Some(events) = marks.events() else { return Sign::default() };
    let since_load = events.mono_us(row).map(|us| (events.page_load(row).to_owned(), us));
    Sign { bot: marks.bot(row), kind: events.kinds[row], since_load }
}

impl Operator for LiveState {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let lateness = self.plan.settings.lateness;
        let mut came = Vec::new();
        for batch in inputs.into_iter().flatten().filter(|batch| batch.num_rows() > 0) {
            out.counts.input += batch.num_rows() as u64;
            let on_time = without_late(batch, tick.before.minus(lateness), out)?;
            let whole = without_failing(&self.plan.settings, on_time, out)?;
            came.extend(Some(whole).filter(|rows| rows.num_rows() > 0));
        }
        let touched = match came.is_empty() {
            true => Vec::new(),
            false => {
                let batch = concat_batches(&self.plan.input, &came)?;
                self.feed(&batch, out)?
            }
        };
        let to = if tick.last { i64::MAX } else { millis(tick.watermark.0) };
        let given = self.advance(touched, to, &out.pulse)?;
        self.emit(&given, out)?;
        self.machines.tidy()?;
        self.check_bounds()
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![self.machines.spec()]
    }

    fn sizes(&self) -> Vec<TableSize> {
        vec![self.machines.table_size()]
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        Ok(vec![self.machines.freeze(rebase.first().map_or(&[], Vec::as_slice))?.into()])
    }

    fn restore(&mut self, _: usize, rows: &RecordBatch) -> Result<(), StepError> {
        self.machines.restore(rows)
    }
}
