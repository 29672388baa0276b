//! Incidents: a session's frustration as one case with a severity, and cases of many sessions as one problem.
//!
//! [`points`] says what signals are worth together, [`case`] keeps the incidents of one session, [`problem`] those of one
//! fingerprint over a day, and decides what deserves a ticket. [`signal`] is what they ask of a signal.

pub mod case;
pub mod points;
pub mod problem;
pub mod signal;

#[cfg(test)]
mod tests;

pub use case::{Case, IncidentRow, Scope, State, Told};
pub use points::{Scoring, Severity};
pub use problem::{Gate, Notification, Problem, ProblemRow};
