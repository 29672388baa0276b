//! Signed changes: what a reader adds to a table or takes from it, so that a result may be corrected.

use serde::{Deserialize, Serialize};

/// Whether a row joins a table or leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Weight {
    /// The row leaves: -1.
    Retract,
    /// The row joins: +1.
    Insert,
}
