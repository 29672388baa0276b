//! What commands print with `-o json` that is no document of the manager's own; and, checked in as
//! `docs/reference/documents.json`, what each of them prints.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something was deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// Its name.
    pub deleted: String,
}

/// A record of a sink.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TappedRecord {
    /// The sink.
    pub sink: String,
    /// Its topic.
    pub topic: String,
    /// The record: as JSON if it is some, else as text.
    pub value: Value,
}

/// A line of a log that is followed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// What it says.
    pub line: String,
}

/// Something that `doctor` looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// What should be.
    pub what: String,
    /// It is.
    pub good: bool,
    /// What was found.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use riverrun_state::inspect::Report;
    use serde_json::json;

    use super::*;
    use crate::checkpoints::View;
    use crate::config::Shown;
    use crate::connectors::{ConnectorSchema, Connectors};
    use crate::manager::{
        Exceptions, JobList, Keys, Logs, MadeKey, Offsets, OperationView, Rescales, Savepoint, SavepointCatalogue,
        Savepoints, Status, Submitted, Taken, described, shape,
    };

    /// `UPDATE=1` writes it anew; the difference is reviewed like code.
    #[test]
    fn what_commands_print_is_described() {
        let operation = ["submit", "replay", "stop", "suspend", "resume", "restart", "cancel", "rescale", "delete"];
        let mut commands = vec![
            ("list", shape::<JobList>()),
            ("status", shape::<Status>()),
            ("logs", shape::<Logs>()),
            ("rescales", shape::<Rescales>()),
            ("exceptions", shape::<Exceptions>()),
            ("offsets show", shape::<Offsets>()),
            ("offsets set", shape::<OperationView>()),
            ("submit --dry-run", shape::<Submitted>()),
            ("savepoint create", shape::<Savepoint>()),
            ("savepoint ls", shape::<Savepoints>()),
            ("savepoint ls (all jobs)", shape::<SavepointCatalogue>()),
            ("savepoint rm", shape::<Deleted>()),
            ("connectors", shape::<Connectors>()),
            ("connectors KIND", shape::<ConnectorSchema>()),
            ("checkpoints trigger", shape::<Taken>()),
            ("checkpoints verify", shape::<Report>()),
            ("checkpoints query", shape::<Vec<View>>()),
            ("tap", shape::<TappedRecord>()),
            ("key create", shape::<MadeKey>()),
            ("key ls", shape::<Keys>()),
            ("key rm", shape::<Deleted>()),
            ("doctor", shape::<Vec<Check>>()),
            ("config show", shape::<Vec<Shown>>()),
        ];
        commands.extend(operation.map(|command| (command, shape::<OperationView>())));
        let (commands, schemas) = described(&commands);
        let whole = json!({ "commands": commands, "schemas": schemas });
        let text = format!("{whole:#}\n");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/documents.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let known = std::fs::read_to_string(path).unwrap_or_default();
        assert!(known == text, "docs/reference/documents.json is not that of this code: UPDATE=1 writes it anew");
    }
}
