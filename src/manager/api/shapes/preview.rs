//! Documents about previews.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manager::record::Spec;
use crate::manager::secrets::Sensitive;

/// Rows of a preview, unless somebody says otherwise.
const ROWS: usize = 20;
/// Seconds that it may take, unless somebody says otherwise.
const SECONDS: u64 = 30;

/// A preview that is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPreview {
    /// What is to be run.
    pub spec: Spec,
    /// The values of the secrets that it refers to, by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, Sensitive>,
    /// Only rows of this sink.
    #[serde(default)]
    pub sink: Option<String>,
    /// So many rows at most, 1 to 1000; 20 if nothing is said.
    #[serde(default)]
    pub limit: Option<u16>,
    /// It ends after so many seconds, 1 to 120; 30 if nothing is said.
    #[serde(default)]
    pub seconds: Option<u16>,
}

impl NewPreview {
    /// Returns how many rows are shown at most.
    pub fn limit(&self) -> usize {
        self.limit.map_or(ROWS, usize::from)
    }

    /// Returns how long it may take.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.map_or(SECONDS, u64::from))
    }
}

/// A row that a sink would get: the event `row`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PreviewRow {
    /// The sink.
    pub sink: String,
    /// The row, if the sink writes JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<Value>,
    /// The row as text, if it writes something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The end of a preview: the event `end`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PreviewEnd {
    /// So many rows were shown.
    pub rows: usize,
    /// `done`: enough rows, or its time or its input came to an end; `time`, `memory`, `size`: it had to be ended; `failed`.
    pub reason: String,
    /// What came in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
