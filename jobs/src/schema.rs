//! The JSON Schema of the job file, and of test files, for editors: draft 2020-12, made of the table in [`crate::spec::fields`].

use riverrun_connectors::format::Meta;
use serde_json::{Map, Value, json};

use crate::job_test::count_names;
use crate::job_test::fields::{CASE, EXPECTED, FILE};
use crate::spec::fields::{CONNECTOR, Field, JOB, Kind, SINK, SOURCE, Section};
use crate::spec::reusable;

/// The pattern of durations.
const DURATION: &str = "^[0-9]+(us|ms|s|m|h|d)$";
/// The pattern of sizes.
const SIZE: &str = "^[0-9]+(B|KiB|MiB|GiB|TiB)$";
/// The pattern of names of sources, steps and sinks.
const PART: &str = "^[A-Za-z][A-Za-z0-9_-]{0,62}$";
/// The pattern of names of columns.
const COLUMN: &str = "^(?!__)[A-Za-z_][A-Za-z0-9_]*$";

/// Returns the JSON Schema of the job file.
pub fn json_schema() -> Value {
    let mut schema = section(&JOB);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Riverrun job file");
    schema
}

/// A connector: what a source reads or a sink writes.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The key that names it in a job file.
    pub kind: &'static str,
    /// What it is as a source; none: nothing can be read there.
    pub source: Option<Value>,
    /// What it is as a sink; none: nothing can be written there.
    pub sink: Option<Value>,
}

/// Returns the connectors, each with the JSON Schema of what stands under its key.
pub fn connectors() -> Vec<Connector> {
    let mut all: Vec<Connector> = Vec::new();
    for (section, is_source) in [(&SOURCE, true), (&SINK, false)] {
        for field in section.group(CONNECTOR).filter(|field| !field.later) {
            let at = all.iter().position(|known| known.kind == field.name).unwrap_or_else(|| {
                all.push(Connector { kind: field.name, source: None, sink: None });
                all.len() - 1
            });
            let place = if is_source { &mut all[at].source } else { &mut all[at].sink };
            *place = Some(property(field));
        }
    }
    all
}

/// Returns the JSON Schema of test files, those of `riverrun test`.
pub fn test_schema() -> Value {
    // A block of text: a table, or JSON lines.
    let rows = || json!({ "type": ["string", "array", "null"], "maxItems": 0 });
    let by_name = |values: Value| json!({ "type": "object", "additionalProperties": values });
    let number = |name: &str| {
        let description = format!("The number `{name}` of the balance.");
        json!({ "type": "integer", "minimum": 0, "description": description })
    };
    let mut expected = section(&EXPECTED);
    explain(&mut expected, "rows", rows());
    let counts: Map<String, Value> = count_names().map(|name| (name.to_owned(), number(name))).collect();
    let counts = json!({ "type": "object", "properties": counts, "additionalProperties": false });
    let mut case = section(&CASE);
    explain(&mut case, "given", by_name(rows()));
    explain(&mut case, "expect", by_name(json!({ "oneOf": [expected, rows()] })));
    explain(&mut case, "counts", by_name(counts));
    let mut schema = section(&FILE);
    explain(&mut schema, "tests", by_name(case));
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Riverrun test file");
    schema
}

/// Says of a property that the table knows only by its key what its values are.
fn explain(schema: &mut Value, key: &str, values: Value) {
    let property = &mut schema["properties"][key];
    let description = property["description"].take();
    *property = values;
    property["description"] = description;
}

fn section(section: &Section) -> Value {
    let built = || section.fields.iter().filter(|field| !field.later);
    let properties: Map<String, Value> = built().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<&str> = built().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let [group] = section.one_of {
        let one = section.group(group.name).filter(|field| !field.later);
        schema["oneOf"] = one.map(|field| json!({ "required": [field.name] })).collect();
    }
    if section.fields.is_empty() {
        schema["type"] = json!(["object", "null"]);
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut schema = kind(field.kind);
    schema["description"] = json!(field.doc.trim());
    if let Some(default) = field.default {
        schema["default"] = match field.kind {
            Kind::Number(..) => default.parse::<u64>().map_or(json!(default), |number| json!(number)),
            Kind::Flag => json!(default == "true"),
            _ => json!(default),
        };
    }
    schema
}

fn kind(kind: Kind) -> Value {
    let names = |pattern: &str, values: Value| json!({ "type": "object", "patternProperties": { pattern: values }, "additionalProperties": false });
    match kind {
        Kind::Text | Kind::Outside | Kind::Stream | Kind::Sql | Kind::Time => json!({ "type": "string" }),
        Kind::JobName => json!({ "type": "string", "pattern": "^[a-z0-9-]{1,63}$" }),
        Kind::Topic => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$" }),
        Kind::Column => json!({ "type": "string", "pattern": COLUMN }),
        Kind::Anything => json!({}),
        Kind::Streams | Kind::SqlList | Kind::Texts => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })
        }
        Kind::Columns => json!({ "type": "array", "items": { "type": "string", "pattern": COLUMN } }),
        Kind::Headers => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::SqlMap | Kind::Conditions => names(COLUMN, json!({ "type": "string" })),
        Kind::Schema => {
            let nested = json!({
                "type": "object",
                "properties": {
                    "path": { "type": "string" }, "meta": { "enum": Meta::WORDS }, "header": { "type": "string" },
                    "type": { "type": "string" },
                },
                "required": ["type"],
                "oneOf": [{ "required": ["path"] }, { "required": ["meta"] }, { "required": ["header"] }],
                "additionalProperties": false,
            });
            let columns = names(COLUMN, json!({ "oneOf": [{ "type": "string" }, nested] }));
            let named: Vec<&str> = reusable::ALL.iter().map(|schema| schema.name).collect();
            let beside = json!([{ "enum": named }, columns]);
            let extended = json!({ "type": "array", "prefixItems": beside, "items": false, "minItems": 2 });
            json!({ "oneOf": [columns, { "enum": named }, extended] })
        }
        Kind::Duration(..) => json!({ "type": "string", "pattern": DURATION }),
        Kind::Bytes(..) => json!({ "type": "string", "pattern": SIZE }),
        Kind::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        Kind::Choice(choices) => {
            let words: Vec<&str> = choices.iter().filter(|choice| !choice.later).map(|choice| choice.word).collect();
            json!({ "enum": words })
        }
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Words(words) => json!({ "type": "array", "items": { "enum": words }, "minItems": 1 }),
        Kind::Limit => json!({ "type": ["integer", "string"], "pattern": "^<? ?[0-9]+$" }),
        Kind::Choices(choices) => {
            json!({ "type": "array", "items": self::kind(Kind::Choice(choices)), "minItems": 1, "uniqueItems": true })
        }
        Kind::Section(inner) => section(inner),
        Kind::Each(inner) => names(PART, section(inner)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundled::{BUNDLED, STARTERS};
    use crate::yaml::{self, Node};

    /// Checks what an editor would: that every key of `node` is one of the schema, and every value of its type.
    fn follow(node: &Node, schema: &Value, path: &str) {
        let types = &schema["type"];
        let is = |name: &str| types == name || types.as_array().is_some_and(|all| all.contains(&json!(name)));
        match &node.value {
            yaml::Value::Map(entries) => {
                let nested = schema["oneOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "object"));
                let nested = nested.filter(|_| schema["type"].is_null());
                let schema = nested.unwrap_or(schema);
                assert!(schema["type"] == "object" || is("object"), "{path} is a map");
                for entry in entries {
                    let key = &entry.key.value;
                    let patterns = schema["patternProperties"].as_object();
                    let others = || Some(&schema["additionalProperties"]).filter(|others| others.is_object());
                    let inner = schema["properties"].get(key).or_else(|| patterns.and_then(|all| all.values().next()));
                    let inner = inner.or_else(others);
                    follow(&entry.value, inner.unwrap_or_else(|| panic!("{path}.{key} is not in the schema")), key);
                }
            }
            yaml::Value::List(items) => {
                let lists = |one: &&Value| {
                    one["type"] == "array"
                        || one["type"].as_array().is_some_and(|types| types.contains(&json!("array")))
                };
                let one = schema["oneOf"].as_array().and_then(|all| all.iter().find(lists));
                assert!(is("array") || one.is_some(), "{path} is a list");
                let list = one.unwrap_or(schema);
                for (index, item) in items.iter().enumerate() {
                    follow(item, list["prefixItems"].get(index).unwrap_or(&list["items"]), path);
                }
            }
            yaml::Value::Scalar(scalar) => match schema["enum"].as_array() {
                Some(words) => assert!(words.contains(&json!(scalar.text)), "{path}: {}", scalar.text),
                None => assert!(is("string") || !is("object") && !is("array"), "{path} is {}", scalar.text),
            },
            yaml::Value::Null => {}
        }
    }

    #[test]
    fn bundled_jobs_and_starters_fit_the_schema() {
        let schema = json_schema();
        for job in BUNDLED.iter().chain(&STARTERS) {
            follow(&yaml::parse(job.text, 0).unwrap(), &schema, job.name);
        }
    }

    #[test]
    fn connectors_are_those_of_the_job_file() {
        let all = connectors();
        let kinds: Vec<(&str, bool, bool)> =
            all.iter().map(|it| (it.kind, it.source.is_some(), it.sink.is_some())).collect();
        assert_eq!(
            kinds,
            [("topic", true, true), ("file", true, true), ("lake", false, true), ("console", false, true)],
            "{all:?}"
        );
        let source = &json_schema()["properties"]["sources"]["patternProperties"][PART];
        assert_eq!(all[1].source.as_ref(), Some(&source["properties"]["file"]));
    }

    #[test]
    fn tests_of_bundled_jobs_fit_the_schema_of_tests() {
        let schema = test_schema();
        for job in BUNDLED {
            let path = format!("{}/{}.test.yaml", env!("CARGO_MANIFEST_DIR"), job.name);
            follow(&yaml::parse(&std::fs::read_to_string(path).unwrap(), 0).unwrap(), &schema, job.name);
        }
        let fails = "tests: { one: { given: {}, fails: { says: bound, exit: 70 }, counts: { a: { bad: 1 } } } }";
        follow(&yaml::parse(fails, 0).unwrap(), &schema, "fails");
    }

    #[test]
    #[should_panic(expected = "one.fail is not in the schema")]
    fn an_unknown_key_of_a_test_does_not_fit() {
        follow(&yaml::parse("tests: { one: { given: {}, fail: {} } }", 0).unwrap(), &test_schema(), "file");
    }

    #[test]
    fn every_object_is_closed_and_every_property_explained() {
        fn visit(schema: &Value, path: &str) {
            if schema["type"] == "object" {
                // What has names of the user's is closed one level below.
                assert!(!schema["additionalProperties"].is_null() && schema["additionalProperties"] != true, "{path}");
            }
            if schema["additionalProperties"].is_object() {
                visit(&schema["additionalProperties"], path);
            }
            for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
                assert!(path.ends_with("schema") || inner["description"].is_string(), "{path}.{name}");
                visit(inner, &format!("{path}.{name}"));
            }
        }
        visit(&json_schema(), "job");
        visit(&test_schema(), "tests");
    }
}
