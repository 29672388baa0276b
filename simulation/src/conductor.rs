//! The conductor: one thread runs at a time, and the seed says which. Work beside the workers is done in between, by whichever
//! thread has the turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use riverrun_dataflow::engine::{Aside, Pace, Wait, Worked};

use crate::scene::EPOCH_MS;
use crate::world::World;

type Asides = Arc<Mutex<Vec<Option<Box<dyn Aside>>>>>;

/// The pace of one life of a simulated process.
pub struct Conductor {
    world: Arc<World>,
    epoch: Instant,
    baton: Mutex<Baton>,
    woken: Vec<Condvar>,
    asides: Asides,
}

struct Baton {
    turn: Option<usize>,
    alive: Vec<bool>,
    /// Turns until a clean stop is asked for.
    stop_in: Option<u64>,
    /// The stop is to be the end of all input.
    drains: bool,
    /// Turns left: a job that does not come to an end is stuck.
    turns: u64,
}

impl Conductor {
    /// Returns the pace of a process with so many workers.
    #[expect(clippy::disallowed_methods, reason = "only differences to it are ever looked at")]
    pub fn new(world: Arc<World>, workers: usize, turns: u64) -> Conductor {
        let first = world.lock().dice.roll(workers as u64) as usize;
        Conductor {
            world,
            epoch: Instant::now(),
            baton: Mutex::new(Baton {
                turn: Some(first),
                alive: vec![true; workers],
                stop_in: None,
                drains: false,
                turns,
            }),
            woken: (0..workers).map(|_| Condvar::new()).collect(),
            asides: Asides::default(),
        }
    }

    /// Asks for a clean stop after so many turns, or for one that drains the job.
    pub fn stopping_after(self, turns: Option<u64>, drains: bool) -> Conductor {
        {
            let mut baton = self.baton();
            (baton.stop_in, baton.drains) = (turns, drains);
        }
        self
    }

    fn baton(&self) -> MutexGuard<'_, Baton> {
        self.baton.lock().expect("no one panics while holding the baton")
    }

    fn wait(&self, mut baton: MutexGuard<'_, Baton>, me: usize) {
        while baton.turn != Some(me) {
            baton = self.woken[me].wait(baton).expect("no one panics while holding the baton");
        }
    }

    /// Draws who is next among workers and work beside them; does the latter until a worker is drawn.
    fn draw(&self) -> Option<usize> {
        let mut baton = self.baton();
        baton.turns = baton.turns.saturating_sub(1);
        if baton.turns == 0 {
            let mut inner = self.world.lock();
            inner.wrong("the job makes no progress: it is stuck".to_owned());
            inner.kill_now();
        }
        baton.stop_in = match baton.stop_in {
            Some(0) => {
                let control = self.world.lock().control.clone();
                let drains = baton.drains;
                control.inspect(|control| if drains { control.drain() } else { control.stop() });
                None
            }
            left => left.map(|turns| turns - 1),
        };
        let alive: Vec<usize> = (0..baton.alive.len()).filter(|worker| baton.alive[*worker]).collect();
        drop(baton);
        loop {
            if alive.is_empty() {
                return None;
            }
            let beside = self.asides.lock().expect("asides are only taken and put back").len();
            let drawn = {
                let mut inner = self.world.lock();
                inner.time += passed(&mut inner.dice);
                inner.dice.roll((alive.len() + beside) as u64) as usize
            };
            match drawn.checked_sub(alive.len()) {
                None => return Some(alive[drawn]),
                Some(aside) => {
                    work(&self.asides, aside);
                }
            }
        }
    }
}

/// Mostly moments, sometimes long ones.
fn passed(dice: &mut crate::world::Dice) -> u64 {
    match dice.roll(200) {
        0 => dice.roll(30_000),
        1..20 => dice.roll(2_000),
        _ => dice.roll(100),
    }
}

/// Lets a piece of work beside the workers be done; what panicked is gone, as its thread would be.
fn work(asides: &Asides, index: usize) -> Worked {
    let taken = asides.lock().expect("asides are only taken and put back")[index].take();
    let Some(mut aside) = taken else { return Worked::Over };
    let worked = catch_unwind(AssertUnwindSafe(|| aside.work(Wait::No))).unwrap_or(Worked::Over);
    if worked != Worked::Over {
        asides.lock().expect("asides are only taken and put back")[index] = Some(aside);
    }
    worked
}

impl Pace for Conductor {
    fn wall(&self) -> i64 {
        let inner = self.world.lock();
        EPOCH_MS * 1000 + 3_600_000_000 + inner.time as i64 + inner.skew
    }

    fn now(&self) -> Instant {
        self.epoch + Duration::from_micros(self.world.lock().time)
    }

    fn cpu_micros(&self) -> u64 {
        0
    }

    fn sleep(&self, _: Duration) -> Duration {
        Duration::ZERO
    }

    fn enter(&self, worker: usize) {
        self.wait(self.baton(), worker);
    }

    fn pass(&self, worker: usize) {
        self.world.lock().event("turn of worker", worker as u64);
        let next = self.draw();
        let mut baton = self.baton();
        baton.turn = next;
        if let Some(next) = next.filter(|next| *next != worker) {
            self.woken[next].notify_one();
            self.wait(baton, worker);
        }
    }

    fn leave(&self, worker: usize) {
        self.baton().alive[worker] = false;
        let next = self.draw();
        let mut baton = self.baton();
        baton.turn = next;
        if let Some(next) = next {
            self.woken[next].notify_one();
        }
    }

    fn beside(&self, _: &str, aside: Box<dyn Aside>) -> std::io::Result<Box<dyn FnOnce()>> {
        let asides = self.asides.clone();
        let mut all = asides.lock().expect("asides are only taken and put back");
        let index = all.len();
        all.push(Some(aside));
        drop(all);
        Ok(Box::new(move || {
            while work(&asides, index) == Worked::Done {}
            asides.lock().expect("asides are only taken and put back")[index] = None;
        }))
    }
}
