//! Values of records as a person can read them: text as it is, what was written with a registered schema as JSON, and of anything
//! else what it is and its bytes in hexadecimal. Never bytes that are no text: a terminal would take them for commands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use riverrun_connectors::format::{AvroText, unframed};
use riverrun_connectors::reach::Reach;
use riverrun_connectors::registry::{Answer, Registry, SchemaKind};
use riverrun_jobs::RegistryPlace;
use serde_json::value::RawValue;

use crate::exit::{Exit, Failure};

/// How long a registry has to answer before a record is shown without its schema.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for an answer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Makes values legible.
pub struct Legible {
    registry: Option<Registry>,
    /// What is known of the schemas that records named.
    schemas: HashMap<u32, Schema>,
}

/// What is known of a registered schema.
enum Schema {
    /// It makes JSON of its records.
    Avro(AvroText),
    /// Its records are JSON.
    Json,
    /// Why its records cannot be shown.
    Not(String),
}

/// A value that can be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// As text.
    Text(Cow<'a, str>),
    /// It is none; says what it is.
    Bytes(String),
}

impl Legible {
    /// Returns what asks the registry at this address, if there is one.
    pub fn new(registry: Option<&str>) -> Result<Legible, Failure> {
        let registry = match registry.map(|address| RegistryPlace::parse(address, Reach::Anywhere)) {
            None | Some(RegistryPlace::Nowhere) => None,
            Some(RegistryPlace::At(registry)) => Some(registry),
            Some(RegistryPlace::Elsewhere(reason)) => return Err(Failure::new(Exit::Usage, reason)),
        };
        Ok(Legible { registry, schemas: HashMap::new() })
    }

    /// Returns a value as it is shown.
    pub fn show<'a>(&mut self, value: &'a [u8]) -> Value<'a> {
        let Some((id, rest)) = unframed(value) else {
            return match std::str::from_utf8(value) {
                Ok(text) => Value::Text(text.into()),
                Err(_) => Value::Bytes("no text".to_owned()),
            };
        };
        let json = || serde_json::from_slice::<&RawValue>(rest).ok().map(|json| Value::Text(json.get().into()));
        let Some(registry) = &self.registry else {
            let what = || Value::Bytes(format!("of schema {id} of a registry, which `--schema-registry` would name"));
            return json().unwrap_or_else(what);
        };
        let schema = self.schemas.entry(id).or_insert_with(|| known(registry, id));
        let shown = match schema {
            Schema::Avro(schema) => schema.json(rest).map(|json| Value::Text(json.into())),
            Schema::Json => json().ok_or_else(|| "it is no JSON".to_owned()),
            Schema::Not(reason) => Err(reason.clone()),
        };
        shown.unwrap_or_else(|reason| Value::Bytes(format!("of schema {id} of the registry: {reason}")))
    }
}

fn known(registry: &Registry, id: u32) -> Schema {
    let found = match answer(registry, id) {
        Ok(Answer::Known(found)) => found,
        Ok(Answer::Unknown(reason)) | Err(reason) => return Schema::Not(reason),
    };
    match found.kind {
        SchemaKind::Avro => AvroText::new(&found).map_or_else(Schema::Not, Schema::Avro),
        SchemaKind::Json => Schema::Json,
        kind => Schema::Not(format!("it is {}, which is not shown", kind.word())),
    }
}

/// Returns what a registry says of a number, or why it says nothing.
fn answer(registry: &Registry, id: u32) -> Result<Answer, String> {
    registry.ask([id]);
    for _ in 0..PATIENCE.as_millis() / LOOK_EVERY.as_millis() {
        if let Some(answer) = registry.known(id) {
            return Ok(answer);
        }
        if let Some(refused) = registry.refused() {
            return Err(refused);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err(format!("{} does not answer", registry.place()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_named_and_never_shown_as_text() {
        let mut legible = Legible::new(None).unwrap();
        let mut shown = |value: &[u8]| match legible.show(value) {
            Value::Text(text) => text.into_owned(),
            Value::Bytes(what) => format!("<{what}>"),
        };
        assert_eq!(shown(b""), "");
        assert_eq!(shown("{\"a\":\"\u{fc}\"}".as_bytes()), "{\"a\":\"\u{fc}\"}");
        assert_eq!(shown(b"\xff\x1b[2J"), "<no text>");
        // As the serializers of a registry write them.
        assert_eq!(shown(b"\0\0\0\0\x07{\"a\":1}"), "{\"a\":1}");
        assert!(shown(b"\0\0\0\x01\x00\x02a").contains("schema 256 of a registry"));
    }
}
