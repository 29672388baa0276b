//! The admin port of the manager: health for whoever keeps it up, metrics for Prometheus.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::Manager;
use super::moment::Moment;
use super::phase::Phase;
use super::record::{Job, Wanted};

/// Bounds of buckets, in seconds.
const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0];

/// What is counted.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    reconcile_seconds: HistogramVec,
    reconcile_errors: IntCounterVec,
    state: IntGaugeVec,
    wanted: IntGaugeVec,
    restarts: IntCounterVec,
    state_since: GaugeVec,
    state_seconds: CounterVec,
    /// When each job was last looked at.
    looked: Mutex<BTreeMap<String, Moment>>,
}

impl Metrics {
    /// Returns metrics that count from nothing.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels).expect("the name is one");
            registry.register(Box::new(metric.clone())).expect("it is there once");
            metric
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect("the name is one");
            registry.register(Box::new(metric.clone())).expect("it is there once");
            metric
        };
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let metric = HistogramVec::new(options, labels).expect("the name is one");
            registry.register(Box::new(metric.clone())).expect("it is there once");
            metric
        };
        let build = gauge("riverrun_build_info", "Always 1; the labels say which build runs.", &["version", "build"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), riverrun_jobs::BUILD_ID]).set(1);
        let (state_since, state_seconds) = times(&registry);
        Metrics {
            requests: counter(
                "riverrun_http_requests_total",
                "Requests that were answered.",
                &["method", "route", "status"],
            ),
            request_seconds: histogram(
                "riverrun_http_request_duration_seconds",
                "How long requests took.",
                &["method", "route"],
            ),
            reconcile_seconds: histogram(
                "riverrun_manager_reconcile_duration_seconds",
                "How long it took to look at a job once.",
                &["kind"],
            ),
            reconcile_errors: counter(
                "riverrun_manager_reconcile_errors_total",
                "Looks at a job that failed.",
                &["kind"],
            ),
            state: gauge(
                "riverrun_job_state",
                "1 for the phase that the job is in, 0 for the others.",
                &["job_name", "state"],
            ),
            wanted: gauge("riverrun_job_wanted", "1 if the job is to run.", &["job_name"]),
            restarts: counter(
                "riverrun_job_restarts_total",
                "Starts of the job after the first one since it was submitted, by reason.",
                &["job_name", "reason"],
            ),
            state_since,
            state_seconds,
            looked: Mutex::default(),
            registry,
        }
    }

    /// Counts a request.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.request_seconds.with_label_values(&[method, route]).observe(took.as_secs_f64());
    }

    /// Counts a look at a job.
    pub fn reconciled(&self, took: Duration, error: Option<&str>) {
        self.reconcile_seconds.with_label_values(&["job"]).observe(took.as_secs_f64());
        if error.is_some() {
            self.reconcile_errors.with_label_values(&["job"]).inc();
        }
    }

    /// Notes how a job is doing.
    pub fn seen(&self, job: &Job) {
        let now = Moment::now();
        let last = self.looked.lock().unwrap_or_else(PoisonError::into_inner).insert(job.name.clone(), now);
        let elapsed = last.map_or(Duration::ZERO, |last| now.since(last));
        // Every step of a job is seen, so no phase is passed over.
        self.state_seconds.with_label_values(&[&job.name, job.phase.name()]).inc_by(elapsed.as_secs_f64());
        for phase in Phase::ALL {
            self.state.with_label_values(&[&job.name, phase.name()]).set(i64::from(*phase == job.phase));
        }
        self.wanted.with_label_values(&[&job.name]).set(i64::from(job.wanted == Wanted::Running));
        self.state_since.with_label_values(&[&job.name]).set(job.since.0 as f64 / 1000.0);
        for (reason, count) in &job.restarts.by_reason {
            let counter = self.restarts.with_label_values(&[job.name.as_str(), reason]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Takes a job out that is forgotten.
    pub fn forgotten(&self, job: &Job) {
        for phase in Phase::ALL {
            // What was never noted need not be taken out.
            let _ = self.state.remove_label_values(&[&job.name, phase.name()]);
            let _ = self.state_seconds.remove_label_values(&[&job.name, phase.name()]);
        }
        let _ = self.wanted.remove_label_values(&[&job.name]);
        let _ = self.state_since.remove_label_values(&[&job.name]);
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).remove(&job.name);
        for reason in job.restarts.by_reason.keys() {
            let _ = self.restarts.remove_label_values(&[&job.name, reason]);
        }
    }

    fn page(&self, manager: &Manager) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(gathered(manager)?);
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

/// Returns what tells since when a job is in its phase, and how long it was in each.
fn times(registry: &Registry) -> (GaugeVec, CounterVec) {
    let since = Opts::new(
        "riverrun_job_state_start_time_seconds",
        "When the job came into the phase that it is in, since the epoch.",
    );
    let since = GaugeVec::new(since, &["job_name"]).expect("the name is one");
    let seconds =
        Opts::new("riverrun_job_state_seconds_total", "Time that the job was in a phase, since this manager started.");
    let seconds = CounterVec::new(seconds, &["job_name", "state"]).expect("the name is one");
    registry.register(Box::new(since.clone())).expect("it is there once");
    registry.register(Box::new(seconds.clone())).expect("it is there once");
    (since, seconds)
}

/// Returns what is counted only when somebody asks.
fn gathered(manager: &Manager) -> Result<Vec<prometheus::proto::MetricFamily>, prometheus::Error> {
    let registry = Registry::new();
    let jobs = IntGaugeVec::new(Opts::new("riverrun_manager_jobs", "Jobs by the phase that they are in."), &["state"])?;
    registry.register(Box::new(jobs.clone()))?;
    for phase in Phase::ALL {
        jobs.with_label_values(&[phase.name()]).set(0);
    }
    for job in manager.store.jobs().unwrap_or_default() {
        jobs.with_label_values(&[job.phase.name()]).inc();
    }
    processes(manager, &registry)?;
    let leader = prometheus::IntGauge::new("riverrun_manager_leader", "Always 1: the folder of a manager is locked.")?;
    leader.set(1);
    registry.register(Box::new(leader))?;
    let open = prometheus::IntGauge::new("riverrun_manager_open", "1 if no API key is asked for.")?;
    open.set(i64::from(manager.doors.are_open()));
    registry.register(Box::new(open))?;
    Ok(registry.gather())
}

/// Adds what processes of jobs take of the machine, and what they may.
fn processes(manager: &Manager, registry: &Registry) -> Result<(), prometheus::Error> {
    let labels = ["job_name", "process"];
    let of = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &labels);
    let cpu = CounterVec::new(
        Opts::new("riverrun_job_process_cpu_seconds_total", "CPU time of a process of a job since it was started."),
        &labels,
    )?;
    let resident = of("riverrun_job_process_resident_memory_bytes", "Resident memory of a process of a job.")?;
    let limit = of("riverrun_job_process_memory_limit_bytes", "Memory that a process of a job may have.")?;
    registry.register(Box::new(cpu.clone()))?;
    registry.register(Box::new(resident.clone()))?;
    registry.register(Box::new(limit.clone()))?;
    for job in manager.store.jobs().unwrap_or_default() {
        let Some(launch) = &job.launch else { continue };
        for index in 0..launch.processes {
            let process = index.to_string();
            let labels = [job.name.as_str(), process.as_str()];
            let Some(usage) = manager.processes.usage(&job.name, launch.generation, index) else { continue };
            cpu.with_label_values(&labels).inc_by(usage.cpu_millis as f64 / 1000.0);
            resident.with_label_values(&labels).set(i64::try_from(usage.resident_bytes).unwrap_or(i64::MAX));
            if let Some(bytes) = manager.processes.memory_limit(&job.name, launch.generation, index) {
                limit.with_label_values(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
    }
    Ok(())
}

/// Returns the router of the admin port.
pub fn router(manager: Arc<Manager>) -> Router {
    Router::new()
        .route("/livez", get(|| async { text(StatusCode::OK, "ok\n") }))
        .route("/startupz", get(|| async { text(StatusCode::OK, "ok\n") }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /startupz and /metrics\n") })
        .with_state(manager)
}

fn text(code: StatusCode, body: impl Into<String>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (code, headers, body.into()).into_response()
}

async fn readyz(State(manager): State<Arc<Manager>>) -> Response {
    let asked = tokio::task::spawn_blocking(move || manager.store.jobs().map(|_| ())).await;
    match asked {
        Ok(Ok(())) => text(StatusCode::OK, "ok\n"),
        Ok(Err(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

async fn metrics(State(manager): State<Arc<Manager>>) -> Response {
    let page = tokio::task::spawn_blocking(move || manager.metrics.page(&manager)).await;
    match page {
        Ok(Ok(page)) => {
            let headers = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT), (header::CACHE_CONTROL, "no-store")];
            (StatusCode::OK, headers, page).into_response()
        }
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
