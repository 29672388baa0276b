//! Reads the input as the records of the ticks say, and moves time by what they have read.

use std::collections::BTreeMap;

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::tick::{SplitMark, TickRecord};
use serde_json::{Value, json};

use super::{Calm, Cut, MAX, MIN, Row, SECOND, minus};
use crate::scene::{Input, Scene};
use crate::world::Inner;

/// How far the input was read.
pub(super) struct Reading<'s> {
    scene: &'s Scene,
    /// The recorded clock after each tick.
    nows: Vec<i64>,
    marks: BTreeMap<u32, SplitMark>,
    watermarks: Vec<i128>,
}

impl<'s> Reading<'s> {
    pub(super) fn new(scene: &'s Scene, world: &Inner) -> Reading<'s> {
        let split = |id: u32| {
            (
                id,
                SplitMark {
                    split: id,
                    from: 0,
                    to: 0,
                    rows: 0,
                    xxh3: 0,
                    greatest: riverrun_dataflow::EventTime::MIN,
                    idle: false,
                    at_end: false,
                    ended: false,
                },
            )
        };
        let splits = scene.inputs.iter().map(|input| input.splits.len()).sum::<usize>() as u32;
        Reading {
            scene,
            nows: vec![world.begun],
            marks: (0..splits).map(split).collect(),
            watermarks: vec![MIN; scene.inputs.len()],
        }
    }

    /// Reads the rows of the next tick; what cannot be read goes to the bad rows.
    pub(super) fn cut(&mut self, record: &TickRecord, calm: &mut Calm) -> Result<Cut, String> {
        let tick = record.tick;
        let rows = self.read(record, calm)?;
        let before = self.watermarks.clone();
        self.move_time();
        let recorded: Vec<i128> = record.watermarks.iter().map(|time| i128::from(time.0)).collect();
        if recorded != self.watermarks {
            return Err(format!("tick {tick}: the watermarks are {recorded:?}, expected {:?}", self.watermarks));
        }
        let last = *self.nows.last().expect("the clock began");
        if record.now < last {
            return Err(format!("tick {tick}: the recorded clock went back from {last} to {}", record.now));
        }
        self.nows.push(record.now);
        Ok(Cut { rows, before, watermarks: recorded })
    }

    fn read(&mut self, record: &TickRecord, calm: &mut Calm) -> Result<Vec<Vec<Row>>, String> {
        let tick = record.tick;
        let mut rows = vec![Vec::new(); self.scene.inputs.len()];
        let now = self.nows[(tick.saturating_sub(self.scene.in_flight)) as usize];
        for mark in &record.splits {
            let (source, number) = self.place(mark.split);
            let input = &self.scene.inputs[source];
            let known = self.marks[&mark.split].clone();
            if mark.from != known.to || mark.to - mark.from != mark.rows {
                return Err(format!(
                    "tick {tick}: split {} was read from {}, not from {}",
                    mark.split, mark.from, known.to
                ));
            }
            let mut greatest = i128::from(known.greatest.0);
            for position in mark.from..mark.to {
                let text = &input.splits[number][position as usize].text;
                let mut counts = Counts { input: 1, ..Counts::default() };
                let value = serde_json::from_str::<Value>(text).ok();
                let time = value.as_ref().and_then(|value| value["ts"].as_i64()).map(|ms| i128::from(ms) * 1000);
                let in_time = |time: i128| self.scene.bounded || time <= i128::from(now) + 3600 * SECOND;
                match value.zip(time.filter(|time| in_time(*time))) {
                    Some((value, time)) => {
                        counts.taken += 1;
                        counts.out += 1;
                        greatest = greatest.max(time);
                        let id = input.id.and_then(|id| value[id].as_str()).map(str::to_owned);
                        rows[source].push(Row { time, id, split: mark.split, position, value });
                    }
                    None => {
                        counts.bad += 1;
                        if source == 0 {
                            let bad = json!({ "source": "clicks", "split": number.to_string(), "position": position, "code": "malformed",
                                "raw": text, "raw_base64": null, "raw_length": text.len() });
                            calm.put("bad", &bad);
                        }
                    }
                }
                *calm.counts(input.name) += counts;
            }
            if i128::from(mark.greatest.0) != greatest {
                return Err(format!("tick {tick}: the greatest time of split {} is not {greatest}", mark.split));
            }
            self.marks.insert(mark.split, mark.clone());
        }
        Ok(rows)
    }

    /// Returns the source of a split, and its number there: splits are numbered from the first source on.
    fn place(&self, split: u32) -> (usize, usize) {
        let mut number = split as usize;
        let mut source = 0;
        let holds = |input: &Input, number: usize| number < input.splits.len();
        while !holds(&self.scene.inputs[source], number) {
            number -= self.scene.inputs[source].splits.len();
            source += 1;
        }
        (source, number)
    }

    /// The least over splits that are neither idle nor ended, two seconds back; never backwards.
    fn move_time(&mut self) {
        let reading = &*self;
        let own = |source: usize| reading.marks.values().filter(move |mark| reading.place(mark.split).0 == source);
        let live = |source: usize| {
            let live = own(source).filter(|mark| !mark.ended && !mark.idle);
            live.map(|mark| minus(i128::from(mark.greatest.0), 2 * SECOND)).min()
        };
        let ended = |source: usize| own(source).all(|mark| mark.ended);
        let sources = 0..self.watermarks.len();
        let others = sources.clone().filter(|source| !ended(*source)).filter_map(live).min();
        let moved = sources.map(|source| {
            let before = self.watermarks[source];
            match (ended(source), live(source)) {
                (true, _) => MAX,
                (false, Some(time)) => before.max(time),
                (false, None) => before.max(others.unwrap_or(before)),
            }
        });
        self.watermarks = moved.collect();
    }

    /// Every split was read to its end, or the job was drained.
    pub(super) fn check_all_read(&self) -> Result<(), String> {
        if self.scene.drains && self.marks.values().all(|mark| mark.ended) {
            return Ok(());
        }
        let all = self.scene.inputs.iter().flat_map(|input| input.splits.iter());
        for (mark, lines) in self.marks.values().zip(all) {
            if mark.to != lines.len() as u64 {
                return Err(format!("split {} was read to {} of {}", mark.split, mark.to, lines.len()));
            }
        }
        Ok(())
    }
}
