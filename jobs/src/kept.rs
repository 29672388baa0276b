//! Which rows of a checkpoint a step still keeps: rows of tables without a key leave by the watermark, and are deleted from files
//! only when those are written anew.

use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::{ShardRange, StepWork};
use riverrun_dataflow::tick::Floor;
use riverrun_state::inspect::tables::{Kept, Tables};

use crate::plan::Plan;

/// Returns from which event time on each table without a key keeps its rows in a checkpoint that `plan` made.
pub fn kept(plan: &Plan, tables: &Tables) -> Kept {
    let mut kept = Kept::new();
    let shards = ShardRange { worker: 0, workers: 1, shards: plan.settings().shards };
    for step in &plan.steps {
        let StepWork::Operator(make) = &step.work else { continue };
        let operator = make(shards);
        let of = |source: usize| tables.watermarks.get(&plan.sources[source].name).copied().unwrap_or(EventTime::MIN);
        let ways = step.watermark.iter().map(|way| of(way.source).minus(way.delay));
        let floor = tables.floors.get(&step.name).copied();
        let watermark = Floor::hold(floor, tables.tick, ways.min().unwrap_or(EventTime::MAX));
        for (table, span) in operator.tables().iter().zip(operator.kept_for()) {
            if let Some(span) = span {
                kept.insert((step.name.clone(), table.name.to_owned()), watermark.minus(span));
            }
        }
    }
    kept
}
