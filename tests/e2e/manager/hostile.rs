//! Every route is asked for what it never expected, made from the document that describes it: whatever comes, the manager answers, and
//! never with a fault of its own.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Managed, http};
use crate::support::Dice;

/// So many requests of each route.
const EACH: usize = 10;
/// What stands in paths, queries and texts.
const TEXTS: [&str; 22] = [
    "attribution",
    "attribution@r",
    "nobody",
    "latest",
    "0",
    "1",
    "18446744073709551616",
    "-1",
    "",
    "true",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "a%0ab",
    "%ff%fe",
    "%F0%9F%A6%80",
    "'%22%3b--",
    "%7B%7B7*7%7D%7D",
    "s3://x/y",
    "kafka://127.0.0.1:1",
    "earliest",
    "*",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

fn text(dice: &mut Dice) -> &'static str {
    TEXTS[dice.below(TEXTS.len() as u64) as usize]
}

/// A value that may fit the schema, or nearly, or not at all.
fn value(schema: &Value, all: &Value, dice: &mut Dice, depth: usize) -> Value {
    if dice.below(6) == 0 || depth == 0 {
        return match dice.below(7) {
            0 => Value::Null,
            1 => json!(u64::MAX),
            2 => json!(-1.5e300),
            3 => json!([[[]]]),
            4 => json!({ "unknown": 1 }),
            5 => json!(true),
            _ => json!(text(dice)),
        };
    }
    if let Some(name) = schema["$ref"].as_str() {
        return value(&all[name.rsplit('/').next().unwrap()], all, dice, depth - 1);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return value(&choices[0], all, dice, depth - 1);
    }
    let kind = schema["type"].as_array().map_or(&schema["type"], |kinds| &kinds[0]);
    match kind.as_str() {
        Some("object") => {
            let mut fields = Map::new();
            for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
                if dice.below(4) > 0 {
                    fields.insert(name.clone(), value(inner, all, dice, depth - 1));
                }
            }
            Value::Object(fields)
        }
        Some("array") => (0..dice.below(3)).map(|_| value(&schema["items"], all, dice, depth - 1)).collect(),
        Some("boolean") => json!(dice.below(2) == 0),
        Some("integer" | "number") => json!(dice.below(5)),
        _ if schema["enum"].is_array() => schema["enum"][0].clone(),
        _ => json!(text(dice)),
    }
}

#[test]
fn whatever_a_route_is_asked_for_the_manager_answers_and_it_is_no_fault_of_its_own() {
    let managed = Managed::with_traffic(750);
    managed.submit("job.yaml", &["--until-end"]);
    managed.until_phase("attribution", "finished");
    managed.cli(&["replay", "attribution", "--from", "earliest", "--as", "r"]).succeed();
    let address = managed.address();
    let document: Value = serde_json::from_str(&http(&address, "GET", "/api/v1/openapi.json", "", "").2).unwrap();
    let schemas = &document["components"]["schemas"];
    let (mut dice, mut seen) = (Dice::new(750), 0);
    for (route, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for _ in 0..EACH {
                let mut path = route.clone();
                let mut query = Vec::new();
                for parameter in operation["parameters"].as_array().unwrap() {
                    let name = parameter["name"].as_str().unwrap();
                    let chosen = match name {
                        // What is deleted is not there to be asked for more.
                        "job" if method == "delete" => "nobody",
                        "job" if dice.below(2) == 0 => "attribution",
                        _ => text(&mut dice),
                    };
                    match parameter["in"].as_str() {
                        Some("path") if name == "operator" && dice.below(2) == 0 => {
                            path = path.replace("{operator}", "attributed");
                        }
                        Some("path") => path = path.replace(&format!("{{{name}}}"), chosen),
                        // A stream goes on until its job ends.
                        _ if name != "follow" && dice.below(2) == 0 => query.push(format!("{name}={chosen}")),
                        _ => {}
                    }
                }
                let takes = &operation["requestBody"]["content"]["application/json"]["schema"];
                let body = match dice.below(8) {
                    0 => "{\"spec\":".to_owned(),
                    1 => "[".repeat(5000),
                    _ if takes.is_null() => String::new(),
                    _ => value(takes, schemas, &mut dice, 6).to_string(),
                };
                let kind = if dice.below(8) == 0 { "text/plain" } else { "application/json" };
                let path = format!("{path}?{}", query.join("&"));
                let ask = || http(&address, &method.to_uppercase(), &path, &format!("Content-Type: {kind}\r\n"), &body);
                let mut answer = ask();
                while answer.0 == 429 {
                    std::thread::sleep(Duration::from_millis(20));
                    answer = ask();
                }
                let (code, _, text) = answer;
                let refuses = code == 501 && text.contains("not-supported");
                // Who is asked for a checkpoint may just be ending.
                let is_busy = code == 503 && text.contains("busy");
                assert!(code < 500 || refuses || is_busy, "{method} {path} {body}: {code} {text}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 30 * EACH, "{seen}");
    assert_eq!(http(&address, "GET", "/api/v1/version", "", "").0, 200, "it still answers");
    assert_eq!(managed.cli(&["doctor"]).finish().code, Some(0));
}
