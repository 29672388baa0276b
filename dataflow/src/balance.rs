//! The balance: every row that comes in is taken, filtered, late, bad or a duplicate. No row vanishes unseen.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Counts of rows at one step or source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that came in.
    #[serde(rename = "in")]
    pub input: u64,
    /// Rows the step went on with.
    pub taken: u64,
    /// Rows that a `where` refused.
    pub filtered: u64,
    /// Rows that came after their time.
    pub late: u64,
    /// Rows that could not be decoded or on which an expression failed.
    pub bad: u64,
    /// Rows seen before.
    pub duplicate: u64,
    /// Rows that went out; counted apart, no part of the sum.
    pub out: u64,
}

impl Counts {
    /// Returns whether every row that came in is accounted for.
    pub fn balances(&self) -> bool {
        self.input == self.taken + self.filtered + self.late + self.bad + self.duplicate
    }

    /// Returns what came since `before`, an earlier state of these counts.
    pub fn since(&self, before: &Counts) -> Counts {
        Counts {
            input: self.input - before.input,
            taken: self.taken - before.taken,
            filtered: self.filtered - before.filtered,
            late: self.late - before.late,
            bad: self.bad - before.bad,
            duplicate: self.duplicate - before.duplicate,
            out: self.out - before.out,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.input += other.input;
        self.taken += other.taken;
        self.filtered += other.filtered;
        self.late += other.late;
        self.bad += other.bad;
        self.duplicate += other.duplicate;
        self.out += other.out;
    }
}
