//! A lane of a lake: rows are gathered, and committed as files and one record.

use std::sync::Arc;

use riverrun_dataflow::objects::Objects;
use riverrun_dataflow::sink::{Lane, Reached, SinkError, TickRows, Token, Urgency};
use riverrun_dataflow::tick::Tick;

use super::error::LakeError;
use super::files::{Gathered, first_place, missing, place};
use super::log::{Appended, Log};
use super::record::{Body, Writer};
use super::sweep;

/// A lane, held by one thread.
pub(super) struct LakeLane {
    log: Log,
    writer: Writer,
    number: u32,
    generation: u64,
    token: Option<Tick>,
    gathered: Gathered,
    /// Why the lane can write no more.
    failed: Option<String>,
}

impl LakeLane {
    /// Returns the lane that the last record of `log` opened.
    pub(super) fn new(log: Log, writer: Writer, number: u32, generation: u64, gathered: Gathered) -> LakeLane {
        let token = log.table().lane(&writer, number).and_then(|lane| lane.tick);
        LakeLane { log, writer, number, generation, token, gathered, failed: None }
    }

    /// Returns the lane's token.
    pub(super) fn token(&self) -> Option<Token> {
        let tick = self.token?;
        Some(Token { incarnation: self.writer.incarnation.clone(), generation: self.generation, tick })
    }

    /// Writes what was gathered, and the record that makes it count.
    fn settle(&mut self, upto: Tick) -> Result<(), SinkError> {
        let objects: Arc<dyn Objects> = self.log.objects().clone();
        let layout = self.log.table().layout;
        let prefix = format!("{}t{upto:012}", prefix_of(&self.writer, self.number, Some(self.generation)));
        let name = |file: usize| format!("{prefix}-{file:03}");
        let add = self.gathered.finish(name, |path, bytes| {
            objects.put(&first_place(layout, path), bytes).map_err(LakeError::from)?;
            Ok(())
        })?;
        let paths: Vec<String> = add.iter().map(|file| file.path.clone()).collect();
        if let Some(path) = missing(objects.as_ref(), layout, paths.iter().map(String::as_str))? {
            let reason = "it is gone before its record was written: a sweep takes files for orphans that a process left for long".to_owned();
            return Err(SinkError::Write { what: objects.name(&path), reason });
        }
        self.append(upto, add)?;
        self.token = Some(upto);
        place(objects.as_ref(), layout, paths.iter().map(String::as_str))?;
        sweep::now_and_then(&mut self.log)?;
        Ok(())
    }

    fn append(&mut self, upto: Tick, add: Vec<super::LakeFile>) -> Result<(), LakeError> {
        loop {
            let (writer, lane, generation) = (self.writer.clone(), self.number, self.generation);
            let body = Body::Commit { writer, lane, generation, tick: upto, add: add.clone() };
            if self.log.append(body)? == Appended::Done {
                return Ok(());
            }
            // Other lanes and compactions may have come first, and a later start of the job.
            let lane = self.log.table().lane(&self.writer, self.number);
            let Some(lane) = lane.filter(|lane| lane.generation == self.generation) else {
                return Err(fenced(&self.log, &self.writer));
            };
            // It was written, and only the answer was lost: no other writes for this generation of the lane.
            if lane.tick.is_some_and(|tick| tick >= upto) {
                return Ok(());
            }
        }
    }

    fn take_in(&mut self, upto: Tick, ticks: &[TickRows], urgency: Urgency) -> Result<(), SinkError> {
        for tick in ticks {
            self.gathered.push(tick)?;
            if self.gathered.is_enough() {
                self.settle(tick.tick)?;
            }
        }
        match (self.gathered.first(), urgency) {
            (Some(_), Urgency::Now) => self.settle(upto),
            _ => Ok(()),
        }
    }
}

pub(super) fn fenced(log: &Log, writer: &Writer) -> LakeError {
    LakeError::Fenced(format!(
        "lake {} belongs to a later start of job `{}`, sink `{}`",
        log.objects().name(""),
        writer.job,
        writer.sink
    ))
}

/// Returns what the names of a lane's files begin with: of all its generations, or of one.
pub(super) fn prefix_of(writer: &Writer, lane: u32, generation: Option<u64>) -> String {
    let life: String = writer.incarnation.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let of_lane = format!("{}.{}-l{lane:03}-{life}-", writer.job, writer.sink);
    generation.map_or_else(|| of_lane.clone(), |generation| format!("{of_lane}g{generation:06}-"))
}

impl Lane for LakeLane {
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        self.take(upto, ticks, Urgency::Now).map(|_| ())
    }

    fn take(&mut self, upto: Tick, ticks: &[TickRows], urgency: Urgency) -> Result<Reached, SinkError> {
        if let Some(reason) = &self.failed {
            let reason = format!("an earlier write failed ({reason}); the job must be started again");
            return Err(SinkError::Write { what: self.log.objects().name(""), reason });
        }
        self.take_in(upto, ticks, urgency).inspect_err(|error| self.failed = Some(error.to_string()))?;
        let covers = self.gathered.first().map_or(upto, |first| first - 1);
        Ok(Reached { token: self.token, covers })
    }
}
