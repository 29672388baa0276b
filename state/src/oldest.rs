//! How far the job had read at the oldest checkpoint from which it may be restored: sources must still have what comes after.

use std::collections::BTreeMap;

use riverrun_dataflow::source::SplitId;

use crate::error::StateError;
use crate::log::LogReader;

/// Looks for it in the log of a job that runs.
#[derive(Clone, Debug)]
pub struct Oldest {
    reader: LogReader,
    /// The last upgrade: no restart looks behind it. 0 if there was none.
    upgraded: u64,
    known: Option<(u64, BTreeMap<SplitId, u64>)>,
}

impl Oldest {
    pub(crate) fn of(reader: LogReader, upgraded: u64) -> Oldest {
        Oldest { reader, upgraded, known: None }
    }

    /// Returns the position of each split; those that are missing are read from their beginning.
    pub fn positions(&mut self) -> Result<BTreeMap<SplitId, u64>, StateError> {
        let seq = self.reader.oldest_kept()?.max(self.upgraded);
        if let Some((known, positions)) = &self.known
            && *known == seq
        {
            return Ok(positions.clone());
        }
        let checkpoint = match seq {
            // All of the log is there: the job's beginning counts as a checkpoint.
            0 => None,
            _ => self.reader.read(seq)?.body.checkpoint().cloned(),
        };
        let timeline = checkpoint.map(|checkpoint| checkpoint.into_parts().after());
        let splits = timeline.into_iter().flat_map(|timeline| timeline.splits);
        let positions: BTreeMap<SplitId, u64> = splits.map(|(split, mark)| (split, mark.to)).collect();
        self.known = Some((seq, positions.clone()));
        Ok(positions)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use riverrun_dataflow::EventTime;
    use riverrun_dataflow::journal::CheckpointParts;
    use riverrun_dataflow::tick::{SplitMark, Timeline};

    use crate::collect::{KeepLog, Retention};
    use crate::tests::model::{entry, inputs, parts, start, tokens};

    /// A checkpoint at which split 0 was read to ten times its tick.
    fn checkpoint(tick: u64) -> CheckpointParts {
        let mark = SplitMark {
            split: 0,
            from: 3,
            to: tick * 10,
            rows: 1,
            xxh3: 1,
            greatest: EventTime(0),
            idle: false,
            at_end: false,
            ended: false,
        };
        let before = Timeline { tick, splits: [(0, mark)].into(), ..Timeline::start(1, 0) };
        CheckpointParts { before, ..parts(tick, Vec::new()) }
    }

    #[test]
    fn a_restart_changes_nothing_of_what_the_oldest_kept_checkpoint_needs() {
        let dir = tempfile::tempdir().unwrap();
        let keep = |checkpoints| Retention { checkpoints, keep_for: Duration::ZERO, log: KeepLog::Needed };
        let mut needed = Vec::new();
        for restart in 0..4 {
            let mut started = start(dir.path());
            started.retain(keep(5));
            if started.inputs().is_none() {
                started.append_inputs(inputs()).unwrap();
            }
            let mut oldest = started.oldest();
            let (_, mut running) = started.recover(&tokens(restart * 50)).unwrap();
            needed.push(oldest.positions().unwrap().get(&0).copied());
            for tick in restart * 50 + 1..=restart * 50 + 50 {
                running.journal.append_ticks(&[entry(tick, 1)]).unwrap();
                running.journal.append_checkpoint(checkpoint(tick)).unwrap();
            }
            // What was asked before is asked again, not remembered for good.
            needed.push(oldest.positions().unwrap().get(&0).copied());
        }
        assert_eq!(needed[0], None, "all of the log is there: a restart may begin with its first tick");
        for (at, position) in needed.iter().enumerate().skip(2) {
            let newest = (at as u64).div_ceil(2) * 500;
            let position = position.expect("some were collected");
            assert!(position <= newest - 40 && position + 500 > newest - 40, "{at}: {needed:?}");
        }
        assert!(
            needed[2] < Some(500) && needed[2] == needed[1].or(needed[2]),
            "that it begins again drops none: {needed:?}"
        );
    }
}
