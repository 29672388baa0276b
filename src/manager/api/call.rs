//! A request as handlers see it, and what they answer.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use riverrun_jobs::rewind;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::manager::keys::Caller;
use crate::manager::problem::{Kind, Problem};

/// A request, by somebody who may.
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    params: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    body: Bytes,
    headers: HeaderMap,
}

impl Call {
    /// Reads a request.
    pub fn read(caller: Caller, params: BTreeMap<String, String>, parts: &Parts, body: Bytes) -> Result<Call, Problem> {
        // Read by the rules of forms; a host of its own makes it a whole address.
        let query = parts.uri.query().unwrap_or_default();
        let whole = reqwest::Url::parse(&format!("http://localhost/?{query}"))
            .map_err(|error| Problem::new(Kind::BadRequest, format!("the query cannot be read: {error}")))?;
        let query = whole.query_pairs().into_owned().collect();
        Ok(Call { caller, params, query, body, headers: parts.headers.clone() })
    }

    /// Returns the name of the job, which is one, or that of a replay of one.
    pub fn job(&self) -> Result<&str, Problem> {
        let name = self.param("job");
        rewind::split_job(name).map_err(|rule| {
            Problem::new(Kind::BadRequest, format!("a job cannot have the name `{}`: {rule}", name.escape_debug()))
        })?;
        Ok(name)
    }

    /// Returns an id of the path: letters and digits.
    pub fn id_param(&self, name: &str) -> Result<&str, Problem> {
        let id = self.param(name);
        match (1..=64).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric()) {
            true => Ok(id),
            false => {
                Err(Problem::new(Kind::BadRequest, format!("an id is letters and digits, not `{}`", id.escape_debug())))
            }
        }
    }

    /// Returns the name of a savepoint, which is one.
    pub fn savepoint(&self) -> Result<&str, Problem> {
        let name = self.param("savepoint");
        riverrun_state::savepoint::check_name(name).map_err(|rule| Problem::new(Kind::BadRequest, rule))?;
        Ok(name)
    }

    /// Returns the tick of a checkpoint; `None`: the newest is meant.
    pub fn checkpoint(&self) -> Result<Option<u64>, Problem> {
        match self.param("checkpoint") {
            "latest" => Ok(None),
            tick => tick.parse().map(Some).map_err(|_| {
                let detail = format!("a checkpoint is a tick, or `latest`, not `{}`", tick.escape_debug());
                Problem::new(Kind::BadRequest, detail)
            }),
        }
    }

    /// Returns a part of the path as it is, for looking it up among what is known.
    pub fn text_param(&self, name: &str) -> &str {
        self.param(name)
    }

    fn param(&self, name: &str) -> &str {
        self.params.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Returns a parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Returns whether a switch of the query is on.
    pub fn switch(&self, name: &str) -> Result<bool, Problem> {
        match self.query(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => {
                let detail = format!("`{name}` is true or false, not `{}`", other.escape_debug());
                Err(Problem::new(Kind::BadRequest, detail))
            }
        }
    }

    /// Returns a number of the query.
    pub fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.query(name) else { return Ok(None) };
        match text.parse().ok().filter(|number| bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = bounds.into_inner();
                let detail = format!("`{name}` is a number, {least} to {most}, not `{}`", text.escape_debug());
                Err(Problem::new(Kind::BadRequest, detail))
            }
        }
    }

    /// Returns a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns what names this request among those of the caller, if it may come twice.
    pub fn repeat(&self) -> Result<Option<String>, Problem> {
        let Some(key) = self.header("idempotency-key") else { return Ok(None) };
        match (1..=128).contains(&key.len()) && key.chars().all(|c| c.is_ascii_graphic()) {
            true => Ok(Some(format!("{} {} {key}", self.caller.id, self.param("job")))),
            false => Err(Problem::new(Kind::BadRequest, "an idempotency key is 1 to 128 letters, digits and signs")),
        }
    }

    /// Returns the body as what it is to be.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let json = self.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if !json {
            return Err(Problem::new(Kind::BadRequest, "the body is JSON: `Content-Type: application/json`"));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Problem::new(Kind::BadRequest, format!("the body cannot be read: {error}")))
    }

    /// Returns the body as what it is to be, or what stands for none.
    pub fn body_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.is_empty() { Ok(T::default()) } else { self.body() }
    }
}

/// What a handler answers.
pub enum Answer {
    /// A document.
    Document {
        /// The status.
        status: StatusCode,
        /// The document.
        body: Vec<u8>,
        /// More headers.
        headers: Vec<(header::HeaderName, String)>,
    },
    /// A file.
    Bytes(Vec<u8>),
    /// A stream of server-sent events.
    Stream(Body),
}

impl Answer {
    /// Returns a document.
    pub fn json(value: &impl Serialize) -> Answer {
        Answer::with(StatusCode::OK, value)
    }

    /// Returns a document, with a status.
    pub fn with(status: StatusCode, value: &impl Serialize) -> Answer {
        let body = serde_json::to_vec(value).expect("our own types are representable");
        Answer::Document { status, body, headers: Vec::new() }
    }

    /// Returns nothing but that it was done.
    pub fn nothing() -> Answer {
        Answer::Document { status: StatusCode::NO_CONTENT, body: Vec::new(), headers: Vec::new() }
    }

    /// Adds a header.
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Answer {
        if let Answer::Document { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Answer::Bytes(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
            Answer::Stream(body) => ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response(),
            Answer::Document { status, body, headers } => {
                let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
                for (name, value) in headers {
                    if let Ok(value) = header::HeaderValue::from_str(&value) {
                        response.headers_mut().insert(name, value);
                    }
                }
                response
            }
        }
    }
}
