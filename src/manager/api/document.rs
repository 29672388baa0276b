//! The OpenAPI document, made from the table of routes and the types of their documents. It is checked in as
//! `docs/reference/openapi.json`, so that a change of the interface is seen.

use std::cell::RefCell;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::call::{Answer, Call};
use super::{Form, PREFIX, Route, probe, routes};
use crate::manager::Manager;
use crate::manager::problem::{Problem, ProblemDocument};

/// The schemas of documents, by name.
type Schemas = RefCell<Map<String, Value>>;

/// Gives the schema of a document.
#[derive(Clone, Copy)]
pub struct Shape(fn(&Schemas) -> Value);

/// Returns the shape of a type.
pub fn shape<T: DeserializeOwned>() -> Shape {
    Shape(probe::schema::<T>)
}

/// Answers with the document.
pub fn serve(_: &Arc<Manager>, _: &Call) -> Result<Answer, Problem> {
    Ok(Answer::json(&document()))
}

/// Returns the document.
pub fn document() -> Value {
    let schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let path = paths.entry(format!("{PREFIX}{}", route.path)).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(&route, &schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Riverrun",
            "version": "1",
            "description": "What a manager of Riverrun, `riverrun serve`, can be asked for. Problems are `application/problem+json`.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.into_inner(),
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// Returns the schemas of named documents, and those within them.
#[cfg(test)]
pub fn described(documents: &[(&str, Shape)]) -> (Map<String, Value>, Map<String, Value>) {
    let schemas = Schemas::default();
    let named = documents.iter().map(|(name, shape)| ((*name).to_owned(), (shape.0)(&schemas))).collect();
    (named, schemas.into_inner())
}

fn operation(route: &Route, schemas: &Schemas) -> Value {
    let within = route.path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    let text = json!({ "type": "string" });
    let mut parameters: Vec<Value> =
        within.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text })).collect();
    let query =
        |(name, means): &(&str, &str)| json!({ "name": name, "in": "query", "description": means, "schema": text });
    parameters.extend(route.query.iter().map(query));
    let problem = json!({ "application/problem+json": { "schema": probe::schema::<ProblemDocument>(schemas) } });
    let mut good = json!({ "description": "done, or begun" });
    let content = content(route, schemas);
    if content.as_object().is_some_and(|content| !content.is_empty()) {
        good["content"] = content;
    }
    let status = route.status.to_string();
    let who = route.role.map_or("Open to everybody.".to_owned(), |role| format!("role: {role:?}.").to_lowercase());
    let mut operation = json!({
        "operationId": id(route),
        "summary": route.does,
        "description": who,
        "parameters": parameters,
        "responses": { status: good, "default": { "description": "not done", "content": problem } },
    });
    if let Some(takes) = route.takes {
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": (takes.0)(schemas) } } });
    }
    if route.role.is_some() {
        operation["security"] = json!([{ "key": [] }]);
    }
    operation
}

/// Returns what a good answer may be: a document, which need not be one of ours, a file, or a stream of events.
fn content(route: &Route, schemas: &Schemas) -> Value {
    let any = json!({ "schema": {} });
    let mut content = Map::new();
    match (route.gives, route.form) {
        (Some(gives), _) => {
            drop(content.insert("application/json".to_owned(), json!({ "schema": (gives.0)(schemas) })))
        }
        (None, Form::Document) if route.status != 204 => {
            drop(content.insert("application/json".to_owned(), any.clone()))
        }
        (None, Form::File) => drop(content.insert("application/octet-stream".to_owned(), any.clone())),
        (None, _) => {}
    }
    if matches!(route.form, Form::Events | Form::DocumentOrEvents) {
        let text = json!({ "type": "string" });
        let event = json!({ "type": "object", "properties": { "data": text, "event": text, "id": text } });
        content.insert("text/event-stream".to_owned(), json!({ "schema": event }));
    }
    Value::Object(content)
}

/// Returns a name for a route that programs can be made from: `get_jobs_job_status`.
fn id(route: &Route) -> String {
    let words: String = route.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let words: Vec<&str> = words.split('_').filter(|word| !word.is_empty()).collect();
    format!("{}_{}", route.method.as_str().to_lowercase(), words.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1` writes it anew; the difference is reviewed like code.
    #[test]
    fn the_document_that_is_checked_in_is_that_of_this_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/openapi.json");
        let text = format!("{:#}\n", document());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let known = std::fs::read_to_string(path).unwrap_or_default();
        assert!(known == text, "docs/reference/openapi.json is not that of this code: UPDATE=1 writes it anew");
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let names: Vec<String> = routes().iter().map(id).collect();
        let once: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(once.len(), names.len());
    }
}
