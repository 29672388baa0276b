//! The protocol: a few requests over HTTP, one at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Method, StatusCode};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::{Answer, RegisteredSchema, RegistryAddress, SchemaKind};
use crate::percent::escaped;
use crate::reach::{check_literal, held};

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// A schema may refer to no more schemas than this, all in all.
const REFERENCES_MAX: usize = 1000;
/// What registries call their own media type.
const MEDIA: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// A registry does not give what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryFault {
    /// It does not answer, or with something else than an answer. It may by and by.
    #[error("{0}")]
    Away(String),
    /// It does not let us in, or does not take what it is given. A person must act.
    #[error("{0}")]
    Refused(String),
}

/// Asks a registry.
pub(super) struct Client {
    http: reqwest::Client,
    runtime: Runtime,
    address: RegistryAddress,
    /// Which of the servers is asked.
    at: usize,
}

/// A schema as it is written in an answer.
#[derive(Deserialize)]
struct Written {
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: u32,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Complaint {
    error_code: u32,
    #[serde(default)]
    message: String,
}

/// An answer, or what it complains about.
enum Said {
    Text(String),
    Complaint(StatusCode, Complaint),
}

/// Why there is no schema.
enum Lack {
    /// The registry could not be asked.
    Fault(RegistryFault),
    /// It has answered, and that will not change by asking again.
    Unusable(String),
}

impl From<RegistryFault> for Lack {
    fn from(fault: RegistryFault) -> Lack {
        Lack::Fault(fault)
    }
}

/// Returns whether an answer says something of what was asked for, not of how the server is.
fn is_verdict(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

impl Client {
    /// Returns a client that has asked nothing yet.
    pub fn new(address: &RegistryAddress) -> Result<Client, RegistryFault> {
        let refused = |reason: String| RegistryFault::Refused(format!("schema registry {address}: {reason}"));
        // Someone else in this process may have chosen already; any choice will do.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT).timeout(REQUEST).user_agent("riverrun");
        if let Some(path) = address.authority() {
            let read = std::fs::read(&path).map_err(|error| error.to_string());
            let trusted = read.and_then(|pem| Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string()));
            let cannot = |reason| refused(format!("cannot use `{}`: {reason}", path.display()));
            builder = builder.tls_certs_only(trusted.map_err(cannot)?);
        }
        for url in &address.urls {
            let url = reqwest::Url::parse(url).map_err(|error| refused(error.to_string()))?;
            check_literal(&url, address.reach).map_err(refused)?;
        }
        let http = held(builder, address.reach).build().map_err(|error| refused(plain(&error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| RegistryFault::Away(error.to_string()))?;
        Ok(Client { http, runtime, address: address.clone(), at: 0 })
    }

    /// Returns what a number stands for.
    pub fn schema(&mut self, id: u32) -> Result<Answer, RegistryFault> {
        let written: Written = match self.request(Method::GET, &format!("/schemas/ids/{id}"), None)? {
            Said::Text(text) => self.parsed(&text)?,
            Said::Complaint(status, Complaint { error_code, message }) if is_verdict(status) => {
                return Ok(Answer::Unknown(format!("{message} (error {error_code})")));
            }
            Said::Complaint(status, complaint) => return Err(self.complains(status, &complaint)),
        };
        let kind = match written.kind.as_deref() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some("JSON") => SchemaKind::Json,
            Some(other) => return Ok(Answer::Unknown(format!("it is of the kind `{other}`, which is not known"))),
        };
        let mut references = Vec::new();
        match self.referred(written.references, &mut references, &mut HashSet::new()) {
            Ok(()) => {}
            Err(Lack::Fault(fault)) => return Err(fault),
            Err(Lack::Unusable(reason)) => return Ok(Answer::Unknown(reason)),
        }
        Ok(Answer::Known(Arc::new(RegisteredSchema { kind, text: written.schema, references })))
    }

    /// Adds what is referred to, each after what it refers to itself.
    fn referred(
        &mut self,
        wanted: Vec<Reference>,
        found: &mut Vec<(String, String)>,
        seen: &mut HashSet<String>,
    ) -> Result<(), Lack> {
        for Reference { name, subject, version } in wanted {
            if !seen.insert(name.clone()) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Err(Lack::Unusable(format!("it refers to more than {REFERENCES_MAX} others")));
            }
            let path = format!("/subjects/{}/versions/{version}", escaped(&subject));
            let written: Written = match self.request(Method::GET, &path, None)? {
                Said::Text(text) => self.parsed(&text)?,
                Said::Complaint(status, Complaint { message, .. }) if is_verdict(status) => {
                    return Err(Lack::Unusable(format!("it refers to version {version} of `{subject}`: {message}")));
                }
                Said::Complaint(status, complaint) => return Err(self.complains(status, &complaint).into()),
            };
            self.referred(written.references, found, seen)?;
            found.push((name, written.schema));
        }
        Ok(())
    }

    /// Registers a schema and returns its number.
    pub fn register(&mut self, subject: &str, kind: SchemaKind, text: &str) -> Result<u32, RegistryFault> {
        let body = serde_json::json!({ "schema": text, "schemaType": kind.word() }).to_string();
        match self.request(Method::POST, &format!("/subjects/{}/versions", escaped(subject)), Some(body))? {
            Said::Text(text) => self.parsed(&text).map(|Id { id }| id),
            Said::Complaint(_, complaint) => Err(RegistryFault::Refused(complaint.message)),
        }
    }

    /// Asks one server; when it does not answer, the next one is asked the next time.
    fn request(&mut self, method: Method, path: &str, body: Option<String>) -> Result<Said, RegistryFault> {
        let url = format!("{}{path}", self.address.urls[self.at % self.address.urls.len()]);
        let mut request = self.http.request(method, &url).header("accept", MEDIA);
        if let Some(body) = body {
            request = request.header("content-type", "application/vnd.schemaregistry.v1+json").body(body);
        }
        if let Some((user, password)) = self.address.user() {
            request = request.basic_auth(user, Some(password));
        } else if let Some(token) = self.address.token() {
            request = request.bearer_auth(token);
        }
        let answer = self.runtime.block_on(async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.text().await?))
        });
        let (status, text) = answer.map_err(|error| {
            self.at += 1;
            RegistryFault::Away(plain(&error))
        })?;
        match status {
            _ if status.is_success() => Ok(Said::Text(text)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryFault::Refused(format!(
                "schema registry {}: it answers `{status}`: who asks is not allowed to",
                self.address
            ))),
            _ => match serde_json::from_str::<Complaint>(&text) {
                // Registries say what is wrong by a number of their own; anything else comes from something that is none.
                Ok(complaint) if complaint.error_code >= 400 && !status.is_server_error() => {
                    Ok(Said::Complaint(status, complaint))
                }
                _ => {
                    self.at += 1;
                    Err(RegistryFault::Away(format!("it answers `{status}` to {path}")))
                }
            },
        }
    }

    fn parsed<'t, T: Deserialize<'t>>(&self, text: &'t str) -> Result<T, RegistryFault> {
        serde_json::from_str(text)
            .map_err(|error| RegistryFault::Away(format!("it answers what is no schema: {error}")))
    }

    fn complains(&self, status: StatusCode, complaint: &Complaint) -> RegistryFault {
        let Complaint { error_code, message } = complaint;
        RegistryFault::Away(format!("it answers `{status}`: {message} (error {error_code})"))
    }
}

/// Returns what a request failed of, down to the cause, without the address.
fn plain(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut last = error.to_string();
    while let Some(inner) = cause {
        last = inner.to_string();
        cause = inner.source();
    }
    last
}
