//! The REST API. One table says what there is: method, path, who may, what it takes and gives, and who does it. The router, the checks
//! of roles, the audit log, the metrics and the OpenAPI document are made from it.

mod acts;
mod call;
mod catalogue;
mod checkpoints;
pub mod document;
mod history;
mod jobs;
mod keys;
mod logs;
mod metrics;
mod offsets;
mod operators;
mod patch;
mod preview;
mod probe;
mod progress;
mod replays;
mod shapes;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, RawPathParams, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use tokio::sync::Semaphore;

pub use call::{Answer, Call};
pub use shapes::*;

use super::Manager;
use super::keys::{Caller, Role};
use super::moment::Moment;
use super::problem::{Kind, Problem};
use super::store::AuditEntry;
use crate::checkpoints::View;
use crate::connectors::{ConnectorSchema, Connectors};
use document::{Shape, shape};
use riverrun_state::inspect::Report;

/// Everything begins with this.
pub const PREFIX: &str = "/api/v1";
/// Says which version answers.
pub const VERSION_HEADER: &str = "x-riverrun-version";
/// What a request may say: a job file of 1 MiB, and what stands around it in JSON.
const BODY_BYTES_MAX: usize = 2 << 20;
/// So many requests are worked on at once.
const REQUESTS_MAX: usize = 64;
/// A body that takes longer to come is left.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What does a request.
type Handler = fn(&Arc<Manager>, &Call) -> Result<Answer, Problem>;

/// Something that can be asked for.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path below [`PREFIX`].
    pub path: &'static str,
    /// Who may; none: everybody.
    pub role: Option<Role>,
    /// What it does.
    pub does: &'static str,
    /// What it takes.
    pub takes: Option<Shape>,
    /// What it gives.
    pub gives: Option<Shape>,
    /// The form of a good answer.
    pub form: Form,
    /// The status of a good answer.
    pub status: u16,
    /// The parameters that may stand behind the path's `?`.
    pub query: &'static [(&'static str, &'static str)],
    /// It is written into the audit log.
    pub audited: bool,
    handler: Handler,
}

/// The form of a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON.
    Document,
    /// Bytes.
    File,
    /// Server-sent events.
    Events,
    /// JSON, or server-sent events if that is asked for.
    DocumentOrEvents,
}

macro_rules! routes {
    ($($method:ident $path:literal $role:expr, $does:literal, ($($takes:ty)?) -> $status:literal $($form:ident)? ($($gives:ty)?), [$($query:literal: $means:literal),*], $handler:path;)*) => {
        /// Returns everything that can be asked for.
        pub fn routes() -> Vec<Route> {
            vec![$(Route {
                method: Method::$method,
                path: $path,
                role: $role,
                does: $does,
                takes: [$(shape::<$takes>())?].into_iter().next(),
                gives: [$(shape::<$gives>())?].into_iter().next(),
                form: [$(Form::$form)?].into_iter().next().unwrap_or(Form::Document),
                status: $status,
                query: &[$(($query, $means)),*],
                // Who sees records is written down, whatever way they come.
                audited: Method::$method != Method::GET || $role == TAPPER,
                handler: $handler,
            }),*]
        }
    };
}

const VIEWER: Option<Role> = Some(Role::Viewer);
const TAPPER: Option<Role> = Some(Role::Tapper);
const OPERATOR: Option<Role> = Some(Role::Operator);
const EDITOR: Option<Role> = Some(Role::Editor);
const ADMIN: Option<Role> = Some(Role::Admin);

#[rustfmt::skip]
routes! {
    GET "/openapi.json" None, "this document", () -> 200 (), [], document::serve;
    GET "/version" VIEWER, "which version this is, and who asks", () -> 200 (Version), [], state::version;
    GET "/cluster" VIEWER, "the jobs by phase", () -> 200 (Cluster), [], state::cluster;
    GET "/config" ADMIN, "how the manager is set up, each setting with where it comes from; passwords are left out", () -> 200 (Config), [], catalogue::config;
    GET "/connectors" VIEWER, "what sources read and sinks write", () -> 200 (Connectors), [], catalogue::connectors;
    GET "/connectors/{kind}/schema" VIEWER, "what stands under the key of a connector, as JSON Schema", () -> 200 (ConnectorSchema), [], catalogue::connector_schema;
    GET "/savepoints" VIEWER, "the savepoints of all jobs, by job and name", () -> 200 (SavepointCatalogue), ["limit": "at most so many, 1 to 1000", "cursor": "those after this one: `next` of the answer before"], catalogue::savepoints;
    POST "/jobs:explain" EDITOR, "says what a job would do: steps, keys, state and its bound, watermarks", (Submit) -> 200 (Explained), [], jobs::explain;
    POST "/jobs:preview" EDITOR, "the first rows that a job would write, with its sinks off, as server-sent events: `row` and, at last, `end`", (NewPreview) -> 200 Events (), [], preview::preview;
    POST "/jobs:validate" EDITOR, "checks a job file and changes nothing", (Submit) -> 200 (Checked), [], jobs::validate;
    GET "/jobs" VIEWER, "the jobs, by name", () -> 200 (JobList), ["state": "only jobs in this phase", "limit": "at most so many, 1 to 1000", "cursor": "those after this name"], jobs::list;
    GET "/jobs/{job}" VIEWER, "a job as it was submitted", () -> 200 (JobView), [], jobs::show;
    PUT "/jobs/{job}" EDITOR, "creates a job or changes it; `If-Match` holds it to a revision", (Submit) -> 202 (Submitted), ["dryRun": "true: says what would happen, and changes nothing"], jobs::submit;
    PATCH "/jobs/{job}" OPERATOR, "changes whether a job runs and over what it is spread; `If-Match` holds it to a revision", (PatchJob) -> 202 (JobView), [], patch::patch;
    DELETE "/jobs/{job}" EDITOR, "ends a job at once and forgets it", () -> 202 (OperationView), ["purge": "true: its state is deleted too"], acts::delete;
    GET "/jobs/{job}/status" VIEWER, "how a job is doing", () -> 200 (Status), [], state::status;
    GET "/jobs/{job}/events" VIEWER, "what happened to a job, the newest last", () -> 200 (Events), [], state::events;
    GET "/jobs/{job}/graph" VIEWER, "the steps of a job", () -> 200 (), [], state::graph;
    GET "/jobs/{job}/offsets" VIEWER, "how far each split of a job is read; of a job at rest, where it goes on", () -> 200 (Offsets), [], progress::offsets;
    PATCH "/jobs/{job}/offsets" EDITOR, "has a suspended job go on from other positions of its topics; its state stays as it is", (PatchOffsets) -> 202 (OperationView), [], offsets::patch;
    GET "/jobs/{job}/operators" VIEWER, "what each source and step of a job has done with its rows", () -> 200 (Operators), [], progress::operators;
    GET "/jobs/{job}/operators/{operator}" VIEWER, "a source, step or sink of a job: what it has done, what it keeps", () -> 200 (OperatorDetail), [], operators::operator;
    GET "/jobs/{job}/operators/{operator}/workers" VIEWER, "how the work of a source, step or sink is spread over workers", () -> 200 (OperatorWorkers), [], operators::workers;
    GET "/jobs/{job}/metrics" VIEWER, "the last five minutes of a job in figures, of all its processes together", () -> 200 (JobMetrics), ["names": "only these metrics, with commas between", "from": "only what was noted then or later, a time with its zone", "step": "of each span of so many seconds the last figures, 2 to 300"], metrics::metrics;
    GET "/jobs/{job}/logs" VIEWER, "what the processes of a job said", () -> 200 DocumentOrEvents (Logs), ["process": "of this process; 0 if nothing is said", "generation": "of this generation; the last one if nothing is said", "tail": "so many lines, 1 to 10000", "after": "what came after this position", "follow": "true: a stream of server-sent events"], logs::logs;
    GET "/jobs/{job}/checkpoints" VIEWER, "the checkpoints of a job, the newest first", () -> 200 (), [], checkpoints::list;
    POST "/jobs/{job}/checkpoints" OPERATOR, "has a job take a checkpoint now", () -> 201 (Taken), [], checkpoints::take;
    POST "/jobs/{job}/checkpoints:verify" OPERATOR, "reads everything back that a job has written, and holds it against its checksums", () -> 200 (Report), [], checkpoints::verify;
    GET "/jobs/{job}/checkpoints/{checkpoint}" VIEWER, "a checkpoint, by its tick or as `latest`", () -> 200 (), [], checkpoints::show;
    GET "/jobs/{job}/checkpoints/{checkpoint}/tables" VIEWER, "the tables of a checkpoint", () -> 200 (Vec<View>), [], checkpoints::views;
    GET "/jobs/{job}/checkpoints/{checkpoint}/script" TAPPER, "the script with which DuckDB sees a checkpoint, and the files that it needs", () -> 200 (StateScript), ["folder": "where the files will lie"], checkpoints::script_of;
    GET "/jobs/{job}/checkpoints/{checkpoint}/file" TAPPER, "a file of a checkpoint", () -> 200 File (), ["path": "its place, as the script's answer names it"], checkpoints::file;
    GET "/jobs/{job}/savepoints" VIEWER, "the savepoints of a job", () -> 200 (Savepoints), [], checkpoints::savepoints;
    POST "/jobs/{job}/savepoints" OPERATOR, "has a job take a checkpoint now that is kept under a name; of a job at rest, its last one", (NewSavepoint) -> 201 (Savepoint), [], checkpoints::new_savepoint;
    GET "/jobs/{job}/savepoints/{savepoint}" VIEWER, "a savepoint of a job", () -> 200 (Savepoint), [], catalogue::savepoint;
    GET "/jobs/{job}/savepoints/{savepoint}/inspect" VIEWER, "what a savepoint holds: positions, watermarks, tables and their sizes", () -> 200 (), [], catalogue::inspect;
    DELETE "/jobs/{job}/savepoints/{savepoint}" OPERATOR, "deletes a savepoint", () -> 204 (), [], checkpoints::delete_savepoint;
    GET "/jobs/{job}/tap" TAPPER, "the newest committed records of a sink that is a topic", () -> 200 (Tapped), ["sink": "the sink; may be left out if there is one", "limit": "at most so many records, 1 to 1000"], state::tap;
    POST "/jobs/{job}/stop" OPERATOR, "stops a job cleanly; it leaves a savepoint if it is given a name", (Stop) -> 202 (OperationView), [], acts::stop;
    POST "/jobs/{job}/suspend" OPERATOR, "stops a job cleanly", () -> 202 (OperationView), [], acts::suspend;
    POST "/jobs/{job}/resume" OPERATOR, "lets a job go on", () -> 202 (OperationView), [], acts::resume;
    POST "/jobs/{job}/restart" OPERATOR, "stops a job cleanly and starts it again", () -> 202 (OperationView), [], acts::restart;
    POST "/jobs/{job}/cancel" OPERATOR, "ends a job at once", () -> 202 (OperationView), [], acts::cancel;
    POST "/jobs/{job}/rescale" OPERATOR, "lets a job go on with other processes and workers", (Rescale) -> 202 (OperationView), [], acts::rescale;
    GET "/jobs/{job}/rescales" VIEWER, "the starts of a job, the newest first: rescales and all others, with how long no rows came out", () -> 200 (Rescales), ["reason": "only those for this reason: `rescale`, `upgrade`, `killed`, ...", "limit": "at most so many, 1 to 100"], history::rescales;
    GET "/jobs/{job}/exceptions" VIEWER, "what the processes of a job ended with, the cause before what followed", () -> 200 (Exceptions), ["limit": "at most so many, 1 to 50"], history::exceptions;
    POST "/jobs/{job}/replay" EDITOR, "runs the job file over a past, as a job `JOB@NAME` beside the job", (NewReplay) -> 202 (OperationView), [], replays::replay;
    GET "/operations/{operation}" VIEWER, "something that takes its time", () -> 200 (OperationView), [], acts::operation;
    GET "/api-keys" ADMIN, "the API keys, without their secrets", () -> 200 (Keys), [], keys::list;
    POST "/api-keys" ADMIN, "makes an API key, which is shown this once", (NewKey) -> 201 (MadeKey), [], keys::make;
    DELETE "/api-keys/{key}" ADMIN, "deletes an API key", () -> 204 (), [], keys::delete;
    GET "/audit" ADMIN, "what was asked for, the newest first", () -> 200 (Audit), ["limit": "at most so many, 1 to 1000"], keys::audit;
}

/// Returns the router of all routes.
pub fn router(manager: Arc<Manager>) -> Router {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut router = Router::new();
    for route in routes() {
        let route = Arc::new(route);
        let filter = MethodFilter::try_from(route.method.clone()).expect("methods of the table are common ones");
        let (manager, places, path) = (manager.clone(), places.clone(), format!("{PREFIX}{}", route.path));
        let serve = move |params: RawPathParams, ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request| {
            let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let asked = Asked { manager: manager.clone(), route: route.clone(), from };
            asked.answer(places.clone(), params, request)
        };
        router = router.route(&path, on(filter, serve));
    }
    router.method_not_allowed_fallback(wrong_method).fallback(missing)
}

async fn wrong_method(request: Request) -> Response {
    let detail = format!("{} does not answer to {}", request.uri().path(), request.method());
    refused(Problem::new(Kind::WrongMethod, detail), request.uri().path())
}

async fn missing(request: Request) -> Response {
    let detail = format!("there is no {}\n  hint: {PREFIX}/openapi.json says what there is", request.uri().path());
    refused(Problem::new(Kind::NotFound, detail), request.uri().path())
}

/// Returns the answer to a request that nobody handles.
fn refused(problem: Problem, path: &str) -> Response {
    let id = super::keys::random(8).unwrap_or_default();
    dressed(problem.document(path, &id).into_response(), &id)
}

/// A request on its way to its answer.
struct Asked {
    manager: Arc<Manager>,
    route: Arc<Route>,
    from: SocketAddr,
}

type Params = std::collections::BTreeMap<String, String>;

impl Asked {
    #[expect(clippy::disallowed_methods, reason = "how long a request took is a metric; reaches no output of a job")]
    async fn answer(self, places: Arc<Semaphore>, params: Params, request: Request) -> Response {
        let begun = Instant::now();
        let id = super::keys::random(8).unwrap_or_default();
        let path = request.uri().path().to_owned();
        let caller = self.caller(&request, &params);
        let who = caller.as_ref().map_or("unknown".to_owned(), |caller| caller.id.clone());
        let job = params.get("job").cloned();
        // Those who are not known share what their address has.
        let limited = caller.as_ref().map_or_else(|_| self.from.ip().to_string(), |caller| caller.id.clone());
        let caller = match self.manager.buckets.take(&limited, Moment::now()) {
            true => caller,
            false => Err(Problem::new(Kind::TooMany, "so many requests are too many: wait a second")),
        };
        let result = match (caller, places.try_acquire()) {
            (Err(problem), _) => Err(problem),
            (Ok(_), Err(_)) => {
                Err(Problem::new(Kind::Busy, "so many requests are worked on that this one is not begun"))
            }
            (Ok(caller), Ok(_place)) => self.done(caller, params, request).await,
        };
        let response = match result {
            Ok(answer) => answer.into_response(),
            Err(problem) => problem.document(&path, &id).into_response(),
        };
        let status = response.status().as_u16();
        self.manager.metrics.answered(self.route.method.as_str(), self.route.path, status, begun.elapsed());
        if self.route.audited {
            let what = format!("{} {path}", self.route.method);
            let from = self.from.ip().to_string();
            self.audit(AuditEntry { at: Moment::now(), who, from, what, job, status, request: id.clone() }).await;
        }
        dressed(response, &id)
    }

    /// Finds out who asks, and whether they may.
    fn caller(&self, request: &Request, params: &Params) -> Result<Caller, Problem> {
        let Some(role) = self.route.role else { return Ok(Caller::anonymous()) };
        let caller = self.manager.doors.caller(request.headers(), &self.manager.store)?;
        let job = params.get("job").map(String::as_str);
        if job.is_some_and(|job| !caller.knows(job)) {
            // Whether there is such a job is none of their business.
            return Err(Problem::no_job(job.unwrap_or_default()));
        }
        match caller.may(role, job) {
            true => Ok(caller),
            false => {
                let detail = format!("this needs the role {role:?}, and the key `{}` has {:?}", caller.id, caller.role);
                Err(Problem::new(Kind::Forbidden, detail.to_lowercase()))
            }
        }
    }

    async fn done(&self, caller: Caller, params: Params, request: Request) -> Result<Answer, Problem> {
        let (parts, body) = request.into_parts();
        let body = tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_BYTES_MAX)).await;
        let body = match body {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                return Err(Problem::new(Kind::TooLarge, format!("a request is at most {BODY_BYTES_MAX} bytes")));
            }
            Err(_) => return Err(Problem::new(Kind::BadRequest, "the body of the request did not come in time")),
        };
        let call = Call::read(caller, params, &parts, body)?;
        let (manager, handler) = (self.manager.clone(), self.route.handler);
        // The database and the disk are waited for: not on the thread that serves.
        let done = tokio::task::spawn_blocking(move || handler(&manager, &call)).await;
        done.unwrap_or_else(|error| Err(Problem::new(Kind::Internal, error.to_string())))
    }

    async fn audit(&self, entry: AuditEntry) {
        let manager = self.manager.clone();
        let written = tokio::task::spawn_blocking(move || manager.audit(&entry)).await;
        if let Err(error) = written {
            tracing::error!(%error, "the audit log is not written");
        }
    }
}

/// Adds what every answer has.
fn dressed(mut response: Response<Body>, id: &str) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(VERSION_HEADER, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-request-id", id);
    }
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_says_who_may_and_is_there_once() {
        let all = routes();
        let names: BTreeSet<String> = all.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(names.len(), all.len());
        let open: Vec<&str> = all.iter().filter(|route| route.role.is_none()).map(|route| route.path).collect();
        assert_eq!(open, ["/openapi.json"], "nothing else is open to everybody");
        for route in all.iter().filter(|route| route.method != Method::GET) {
            assert!(route.audited && route.role >= Some(Role::Operator), "{} {}", route.method, route.path);
        }
    }
}
