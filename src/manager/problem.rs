//! What the API answers when it does not do what it was asked for: `application/problem+json`, RFC 9457.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use riverrun_jobs::fault::Report;
use riverrun_jobs::run::RunError;
use riverrun_state::StateError;
use serde::{Deserialize, Serialize};

use super::store::{ChangeError, StoreError};

/// What came in the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Its kind.
    pub kind: Kind,
    /// What came in the way, and what to do.
    pub detail: String,
    /// What is wrong in a job file.
    pub errors: Vec<Finding>,
}

/// What came in the way, as it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemDocument {
    /// Names the kind of problem for good.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same in a few words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What came in the way, and what to do.
    pub detail: String,
    /// The path that was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The last part of `type`.
    pub code: String,
    /// What is wrong in a job file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Finding>,
    /// The id of the request, as it stands in the log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Who must do something: `user`, `external` (storage, a broker), `internal` (a fault of the manager's own).
    pub domain: String,
    /// The same request may succeed later.
    pub retryable: bool,
}

/// A fault of a job file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its code, with a page in the documentation.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What the reader can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be read.
    BadRequest,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks may not.
    Forbidden,
    /// What was named is not there.
    NotFound,
    /// There is something there, but not for this method.
    WrongMethod,
    /// It contradicts what is there.
    Conflict,
    /// The job was changed meanwhile.
    Stale,
    /// Something would be lost that was not allowed to.
    NeedsAllowReset,
    /// It is too long.
    TooLarge,
    /// The job file, or where it is to run, must be changed first.
    InvalidJob,
    /// Somebody asks too often.
    TooMany,
    /// A fault of the manager's own.
    Internal,
    /// It is not in this version.
    NotSupported,
    /// Storage or another system failed.
    Storage,
    /// There is too much to do just now.
    Busy,
}

impl Kind {
    fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Kind::BadRequest => (400, "bad-request", "the request cannot be read"),
            Kind::Unauthenticated => (401, "unauthenticated", "an API key is needed"),
            Kind::Forbidden => (403, "forbidden", "this is not allowed"),
            Kind::NotFound => (404, "not-found", "there is no such thing"),
            Kind::WrongMethod => (405, "wrong-method", "it does not answer to this method"),
            Kind::Conflict => (409, "conflict", "it contradicts what is there"),
            Kind::Stale => (412, "stale", "it was changed meanwhile"),
            Kind::NeedsAllowReset => (409, "needs-allow-reset", "something would be lost"),
            Kind::TooLarge => (413, "too-large", "it is too long"),
            Kind::InvalidJob => (422, "invalid-job", "the job cannot run as it is"),
            Kind::TooMany => (429, "too-many", "too many requests"),
            Kind::Internal => (500, "internal", "a fault of the manager's own"),
            Kind::NotSupported => (501, "not-supported", "it is not in this version"),
            Kind::Storage => (502, "storage", "storage failed"),
            Kind::Busy => (503, "busy", "there is too much to do just now"),
        }
    }
}

impl Problem {
    /// Returns a problem of a kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), errors: Vec::new() }
    }

    /// Returns it as it is sent: in answer to the request with this id, for this path.
    pub fn document(self, instance: &str, request: &str) -> ProblemDocument {
        let (status, code, title) = self.kind.facts();
        let domain = match self.kind {
            Kind::Internal => "internal",
            Kind::Storage | Kind::Busy => "external",
            _ => "user",
        };
        ProblemDocument {
            kind: format!("urn:riverrun:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: self.detail,
            instance: instance.to_owned(),
            code: code.to_owned(),
            errors: self.errors,
            request_id: request.to_owned(),
            domain: domain.to_owned(),
            retryable: matches!(self.kind, Kind::TooMany | Kind::Storage | Kind::Busy),
        }
    }

    /// Returns the problem of a job that has faults.
    pub fn faulty(report: &Report) -> Problem {
        let faults = report.faults();
        let finding = |fault: &&riverrun_jobs::fault::Fault| {
            let place = report.place(fault);
            Finding {
                code: fault.code.name().to_owned(),
                message: fault.message.clone(),
                line: place.as_ref().map(|place| place.line),
                column: place.map(|place| place.col),
                hint: fault.hint.as_deref().map(str::to_owned),
            }
        };
        let errors = faults.iter().map(finding).collect();
        Problem { errors, ..Problem::new(Kind::InvalidJob, report.to_string()) }
    }

    /// Returns the problem that a job of this name is not there.
    pub fn no_job(name: &str) -> Problem {
        Problem::new(
            Kind::NotFound,
            format!("there is no job `{name}`\n  hint: `riverrun list` shows those that are there"),
        )
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        Problem::new(Kind::Storage, error.to_string())
    }
}

impl From<ChangeError<Problem>> for Problem {
    fn from(error: ChangeError<Problem>) -> Problem {
        match error {
            ChangeError::Store(error) => error.into(),
            ChangeError::Refused(problem) => problem,
        }
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Problem {
        let kind = match &error {
            StateError::OtherJob { .. } | StateError::NoSavepoint { .. } => Kind::NotFound,
            StateError::SavepointExists { .. } => Kind::Conflict,
            StateError::SavepointName { .. } => Kind::BadRequest,
            _ => Kind::Storage,
        };
        Problem::new(kind, error.to_string())
    }
}

impl From<RunError> for Problem {
    fn from(error: RunError) -> Problem {
        match &error {
            RunError::Connect(report) => Problem::faulty(report),
            _ => {
                let kind = match error.exit_code() {
                    3 => Kind::NotFound,
                    5 | 75 => Kind::Conflict,
                    78 => Kind::InvalidJob,
                    74 => Kind::Storage,
                    _ => Kind::Internal,
                };
                Problem::new(kind, error.to_string())
            }
        }
    }
}

impl IntoResponse for ProblemDocument {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("our own types are representable");
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], Body::from(body)).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if self.retryable {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}
