//! Sinks whose lanes gather rows of several ticks before they commit.

use super::*;
use crate::sink::{Reached, Urgency};

/// Commits once it has gathered rows of so many ticks.
const ENOUGH: usize = 5;

/// A lane that gathers.
pub(super) struct GatheringLane {
    written: WrittenLane,
    token: Option<Tick>,
    gathered: Vec<TickRows>,
}

impl GatheringLane {
    pub(super) fn new(written: WrittenLane) -> GatheringLane {
        let token = written.0.written.lock().unwrap().get(&written.1).and_then(|lane| lane.0);
        GatheringLane { written, token, gathered: Vec::new() }
    }

    fn settle(&mut self, upto: Tick) -> Result<(), SinkError> {
        self.written.commit(upto, &std::mem::take(&mut self.gathered))?;
        self.token = Some(upto);
        Ok(())
    }
}

impl Lane for GatheringLane {
    fn commit(&mut self, _: Tick, _: &[TickRows]) -> Result<(), SinkError> {
        panic!("a lane of a sink that gathers is asked to take rows");
    }

    fn take(&mut self, upto: Tick, ticks: &[TickRows], urgency: Urgency) -> Result<Reached, SinkError> {
        for tick in ticks {
            self.gathered.push(tick.clone());
            if self.gathered.len() == ENOUGH {
                self.settle(tick.tick)?;
            }
        }
        if urgency == Urgency::Now && !self.gathered.is_empty() {
            self.settle(upto)?;
        }
        let covers = self.gathered.first().map_or(upto, |first| first.tick - 1);
        Ok(Reached { token: self.token, covers })
    }
}

fn gathering(seed: u64, rows: usize) -> World {
    World { gathers: true, ..World::new(seed, rows) }
}

#[test]
fn lanes_that_gather_give_the_same_bytes_after_crashes_anywhere() {
    for seed in 0..15 {
        let (want, _) = calm(seed, 600, 1);
        let world = Arc::new(gathering(seed, 600));
        let mut random = Random(seed + 2000);
        let mut crashes = 0;
        loop {
            let fuse = if crashes < 12 { random.below(9) as i64 } else { -1 };
            world.fuse.store(fuse, Ordering::SeqCst);
            match incarnation(&world, 1 + random.below(4) as usize) {
                Ok(_) => break,
                Err(EngineError::Sink { .. } | EngineError::Journal(_)) => crashes += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(world.output(), want, "seed {seed}, {crashes} crashes");
    }
}

/// No checkpoint is published of a tick whose rows a lane only holds in memory.
#[test]
fn a_checkpoint_waits_for_what_lanes_gather() {
    let world = Arc::new(gathering(3, 2000));
    incarnation(&world, 2).unwrap();
    let log = world.log.lock().unwrap();
    let written = world.written.lock().unwrap();
    for parts in world.checkpoints.lock().unwrap().iter() {
        for entry in log.iter().filter(|entry| entry.record.tick <= parts.tick) {
            for lane in &entry.lanes {
                let token = parts.tokens.iter().find(|token| token.lane == lane.lane).map(|token| token.tick);
                assert!(token.is_some_and(|token| token >= entry.record.tick), "lane {} at {token:?}", lane.lane);
            }
        }
    }
    assert!(written.values().all(|(token, _)| token.is_some()));
}
