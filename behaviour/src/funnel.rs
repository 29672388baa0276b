//! Funnels: how far the rows of a key go through steps that are to be taken one after the other, within a time.
//!
//! A journey begins with a row of the first step. From then on only the step that comes next is waited for: a row that is of a
//! later one, or of one that was taken before, changes nothing, so who skips a step is not counted further. What else a key does
//! in between does not matter. A row takes one step at most. All steps lie within `within` of the first, both ends included; a
//! first step that is taken again does not begin the time anew. The journey is over once its last step is taken or its time has
//! passed. The key can begin another one when it is over and more than `again_after` has passed since it began.
//!
//! Rows are fed in the order of time, those of one time by the earliest step that they are of: which of two things that
//! happened in the same moment came first is not known, and is taken to be what the funnel expects.

use serde::{Deserialize, Serialize};

use crate::event::EventRef;

/// A time that is never reached.
const NEVER: i64 = i64::MAX;

/// What decides where a journey begins and ends. Spans are in µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many steps there are; at least one.
    pub steps: usize,
    /// The longest time from the first step to the last, itself included.
    pub within_us: i64,
    /// A key begins anew only after more than this since it began.
    pub again_after_us: i64,
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// When, in µs since the epoch.
    #[serde(rename = "at")]
    pub time_us: i64,
    /// The row that took it.
    pub by: EventRef,
}

/// What became of a journey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It took a step, the last one of [`Journey::taken`].
    Step,
    /// It is over.
    Over,
}

/// The journey of a key, or that it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    /// The steps that were taken, in their order; empty: there is no journey.
    taken: Vec<Taken>,
    /// What is carried along from its first row, as text.
    #[serde(default)]
    carried: Vec<Option<String>>,
    is_over: bool,
}

/// A row as a journey takes it in.
pub struct Row<'a> {
    /// When it was, in µs since the epoch.
    pub time_us: i64,
    /// Says whether it is of a step, by its number.
    pub is_of: &'a dyn Fn(usize) -> bool,
    /// Which row it is.
    pub this: &'a dyn Fn() -> EventRef,
    /// What it carries along if it begins a journey.
    pub carried: &'a dyn Fn() -> Vec<Option<String>>,
}

impl Journey {
    /// Returns whether there is none.
    pub fn is_none(&self) -> bool {
        self.taken.is_empty()
    }

    /// Returns the steps that were taken, in their order.
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// Returns what is carried along from its first row.
    pub fn carried(&self) -> &[Option<String>] {
        &self.carried
    }

    /// Returns when it began.
    fn began_us(&self) -> Option<i64> {
        self.taken.first().map(|first| first.time_us)
    }

    /// Returns the time that must have passed before something happens by itself: it is over, or it is forgotten.
    pub fn due_us(&self, rules: &Rules) -> Option<i64> {
        let began = self.began_us()?;
        let span = if self.is_over { rules.again_after_us } else { rules.within_us };
        Some(began.saturating_add(span))
    }

    /// Takes in a row, which is not before one that was taken in; `tell` is told what becomes of it.
    pub fn take(&mut self, rules: &Rules, row: &Row<'_>, tell: &mut dyn FnMut(Told, &Journey)) {
        self.wake(rules, row.time_us, tell);
        let next = if self.is_over { return } else { self.taken.len() };
        if next >= rules.steps || !(row.is_of)(next) {
            return;
        }
        if next == 0 {
            self.carried = (row.carried)();
        }
        self.taken.push(Taken { time_us: row.time_us, by: (row.this)() });
        tell(Told::Step, self);
        if self.taken.len() == rules.steps {
            self.is_over = true;
            tell(Told::Over, self);
        }
    }

    /// Is told that all before `now_us` has happened: nothing earlier will be taken in any more.
    pub fn wake(&mut self, rules: &Rules, now_us: i64, tell: &mut dyn FnMut(Told, &Journey)) {
        let Some(began) = self.began_us() else { return };
        let passed = |span: i64| now_us == NEVER || began.saturating_add(span) < now_us;
        if !self.is_over && passed(rules.within_us) {
            self.is_over = true;
            tell(Told::Over, self);
        }
        if self.is_over && passed(rules.again_after_us) {
            *self = Journey::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { steps: 3, within_us: 100, again_after_us: 100 };

    /// Feeds rows, each a time and the steps that it is of, and returns what was told: the times of the steps of a journey.
    fn told(rules: &Rules, rows: &[(i64, &[usize])], end: i64) -> Vec<Vec<i64>> {
        let (mut journey, mut told) = (Journey::default(), Vec::new());
        let mut tell = |what: Told, journey: &Journey| {
            if what == Told::Over {
                told.push(journey.taken().iter().map(|taken| taken.time_us).collect());
            }
        };
        for (time_us, of) in rows {
            let is_of = |step: usize| of.contains(&step);
            let row = Row { time_us: *time_us, is_of: &is_of, this: &EventRef::default, carried: &Vec::new };
            journey.take(rules, &row, &mut tell);
        }
        journey.wake(rules, end, &mut tell);
        told
    }

    #[test]
    fn steps_count_in_their_order_only() {
        assert_eq!(told(&RULES, &[(1, &[0]), (2, &[1]), (3, &[2])], 0), [[1, 2, 3]]);
        assert_eq!(told(&RULES, &[(1, &[0]), (2, &[2]), (3, &[1])], NEVER), [[1, 3]], "the last step came too early");
        assert_eq!(told(&RULES, &[(1, &[0]), (2, &[2]), (3, &[2])], NEVER), [[1]], "a step was skipped");
        assert!(told(&RULES, &[(1, &[1]), (2, &[2])], NEVER).is_empty(), "nobody entered");
    }

    #[test]
    fn a_row_takes_one_step_at_most() {
        assert_eq!(told(&RULES, &[(1, &[0, 1, 2])], NEVER), [[1]]);
        assert_eq!(told(&RULES, &[(1, &[0, 1]), (1, &[0, 1]), (1, &[2])], NEVER), [[1, 1, 1]]);
    }

    #[test]
    fn the_time_runs_from_the_first_entry_and_includes_its_end() {
        assert_eq!(told(&RULES, &[(0, &[0]), (50, &[0]), (100, &[1]), (101, &[2])], NEVER), [[0, 100]]);
        assert_eq!(told(&RULES, &[(0, &[0])], 100), Vec::<Vec<i64>>::new(), "it may still go on");
        assert_eq!(told(&RULES, &[(0, &[0])], 101), [[0]]);
    }

    #[test]
    fn with_one_step_the_first_row_of_a_key_is_told() {
        let rules = Rules { steps: 1, ..RULES };
        assert_eq!(told(&rules, &[(5, &[0]), (6, &[0]), (105, &[0]), (106, &[0])], 5), [[5], [106]]);
    }

    #[test]
    fn a_key_enters_again_when_it_may() {
        assert_eq!(told(&RULES, &[(0, &[0]), (100, &[0]), (101, &[0]), (150, &[1])], NEVER), [vec![0], vec![101, 150]]);
        let once = Rules { again_after_us: 1000, ..RULES };
        assert_eq!(told(&once, &[(0, &[0]), (500, &[0]), (600, &[1])], NEVER), [[0]]);
        let at_once = Rules { steps: 2, again_after_us: 0, ..RULES };
        let rows: [(i64, &[usize]); 4] = [(0, &[0]), (5, &[1]), (6, &[0]), (7, &[1])];
        assert_eq!(told(&at_once, &rows, NEVER), [[0, 5], [6, 7]]);
    }
}
