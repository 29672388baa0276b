//! What sources read and sinks write, as `riverrun connectors` and a manager show it.

use riverrun_jobs::schema::{self, Connector};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Connectors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connectors {
    /// In the order of the reference.
    pub connectors: Vec<ConnectorView>,
}

/// A connector: what a source reads or a sink writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectorView {
    /// The key that names it in a job file.
    pub kind: String,
    /// What it is as a source; none: nothing can be read there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What it is as a sink; none: nothing can be written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
}

/// What stands under the key of a connector, as JSON Schema.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectorSchema {
    /// The key.
    pub kind: String,
    /// In a source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Value>,
    /// In a sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Value>,
}

/// Returns all connectors.
pub fn all() -> Connectors {
    Connectors { connectors: schema::connectors().iter().map(view).collect() }
}

fn view(connector: &Connector) -> ConnectorView {
    let says = |schema: &Option<Value>| {
        schema.as_ref().map(|schema| schema["description"].as_str().unwrap_or_default().to_owned())
    };
    let (source, sink) = (says(&connector.source), says(&connector.sink));
    ConnectorView { kind: connector.kind.to_owned(), source, sink }
}

/// Returns the schema of a connector, if there is one of this name.
pub fn schema_of(kind: &str) -> Option<ConnectorSchema> {
    let found = schema::connectors().into_iter().find(|connector| connector.kind == kind)?;
    Some(ConnectorSchema { kind: found.kind.to_owned(), source: found.source, sink: found.sink })
}
