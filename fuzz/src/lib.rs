//! Hostile bytes: every decoder is given what no writer of ours would write, and must end in an error that can be read.
//!
//! **The rule.** No panic, no hang, and no more memory than [`hold::FACTOR`] times the input and a constant of the target.
//! [`mutate`] makes hostile inputs of valid ones, [`hold`] keeps a [`hold::Target`] to the rule. The targets are the tests of
//! this crate, and `corpus/` holds, for each, valid inputs and every input that ever broke the rule.
//!
//! Nothing guides the mutations but the shape of the formats: lengths, numbers, tokens, and checksums, which a target puts
//! right after a mutation so that the decoder behind them is reached.

pub mod dice;
pub mod hold;
pub mod mutate;
