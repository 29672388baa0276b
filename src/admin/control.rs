//! `/control/` of the admin port: what steers a job that runs. Only with the token from `--control-token-file`; without that
//! option there is no such path.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use riverrun_dataflow::tick::Tick;
use riverrun_jobs::Plan;
use riverrun_state::{Location, StateError, savepoint};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::Board;
use super::freeze::NoCheckpoint;
use crate::args::WatchArgs;
use crate::exit::{Exit, Failure, OrExit};
use crate::run::{Role, Stopping};

/// A wish is a line of JSON.
const BODY_BYTES_MAX: usize = 4096;
/// A checkpoint that is not published in this time is not waited for any longer. Whoever asks has some more patience than this.
const CHECKPOINT_TIME: Duration = Duration::from_secs(50);
/// A token that can be guessed is none.
const TOKEN_LETTERS_MIN: usize = 32;

/// What steers a job.
pub struct Steering {
    /// It writes the log: checkpoints are for it to take.
    leads: bool,
    token: String,
    job: String,
    state: Location,
    stopping: Stopping,
}

/// A checkpoint that is to be taken now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointWish {
    /// The name under which it is kept.
    #[serde(default)]
    pub savepoint: Option<String>,
}

/// What a process refuses, and why.
type Refused = (StatusCode, String);

/// How a job is to be stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopWish {
    /// The name under which it leaves its last state.
    #[serde(default)]
    pub savepoint: Option<String>,
    /// It is the end of all input, for good: what waits for later rows comes out.
    #[serde(default)]
    pub drain: bool,
}

impl StopWish {
    /// Returns whether nothing is asked for but a clean stop, as by a signal.
    pub fn is_plain(&self) -> bool {
        self.savepoint.is_none() && !self.drain
    }
}

impl Steering {
    /// Returns what the options allow; `None` if nobody may steer the job.
    pub fn of(
        args: &WatchArgs,
        plan: &Plan,
        state: &Location,
        stopping: &Stopping,
        role: Role,
    ) -> Result<Option<Arc<Steering>>, Failure> {
        let Some(path) = &args.control_token_file else { return Ok(None) };
        let (job, state) = (plan.name().to_owned(), state.clone());
        let leads = role == Role::Leads;
        let steering = Steering { leads, token: read_token(path)?, job, state, stopping: stopping.clone() };
        Ok(Some(Arc::new(steering)))
    }

    /// Stops the job, unless its savepoint could not be made. Asked again it is the same wish.
    fn stop(&self, wish: StopWish) -> Result<(), Refused> {
        if let Some(name) = &wish.savepoint
            && self.stopping.savepoint().as_ref() != Some(name)
        {
            self.check_savepoint(name)?;
        }
        if wish.drain && self.stopping.is_asked() && !self.stopping.drains() {
            return Err((StatusCode::CONFLICT, format!("job `{}` is stopping already, without a drain", self.job)));
        }
        self.stopping.stop_with(wish);
        Ok(())
    }

    /// Takes a checkpoint, and names it if it is to have a name. Returns its tick.
    fn checkpoint(&self, wish: &CheckpointWish, board: &Board) -> Result<Tick, Refused> {
        let refused = |code, why: String| Err((code, format!("job `{}`: {why}", self.job)));
        if !self.leads {
            return refused(StatusCode::CONFLICT, "another process takes its checkpoints: the first".to_owned());
        }
        if let Some(name) = &wish.savepoint {
            self.check_savepoint(name)?;
        }
        let tick = match board.take_checkpoint(CHECKPOINT_TIME) {
            Ok(tick) => tick,
            Err(NoCheckpoint::NotRunning(why)) => return refused(StatusCode::CONFLICT, why),
            Err(NoCheckpoint::NotInTime(patience)) => {
                let seconds = patience.as_secs();
                let why = format!("its checkpoint is not published after {seconds} s; it still may be, without a name");
                return refused(StatusCode::SERVICE_UNAVAILABLE, why);
            }
        };
        let Some(name) = &wish.savepoint else { return Ok(tick) };
        let made = self.state.open().and_then(|store| savepoint::create(store, &self.job, name, Some(tick)));
        match made {
            Ok(Some(_)) => Ok(tick),
            Ok(None) => {
                refused(StatusCode::SERVICE_UNAVAILABLE, format!("its checkpoint at tick {tick} was collected"))
            }
            Err(error @ (StateError::SavepointExists { .. } | StateError::SavepointName { .. })) => {
                refused(StatusCode::CONFLICT, error.to_string())
            }
            Err(error) => refused(StatusCode::BAD_GATEWAY, error.to_string()),
        }
    }

    /// Checks that `name` can be that of a new savepoint.
    fn check_savepoint(&self, name: &str) -> Result<(), Refused> {
        savepoint::check_name(name).map_err(|reason| (StatusCode::BAD_REQUEST, format!("`{name}`: {reason}")))?;
        let store = self.state.open_existing().map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?;
        let taken = store.is_some_and(|store| savepoint::read(store, &self.job, name).is_ok());
        match taken {
            true => Err((StatusCode::CONFLICT, format!("job `{}` has a savepoint `{name}` already", self.job))),
            false => Ok(()),
        }
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).or_exit(Exit::Usage, || format!("cannot read the token in {shown}"))?;
    let token = text.trim();
    if token.len() < TOKEN_LETTERS_MIN || !token.chars().all(|c| c.is_ascii_graphic()) {
        let message =
            format!("the token in {shown} is none\n  hint: a token is {TOKEN_LETTERS_MIN} or more letters and digits");
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(token.to_owned())
}

/// Returns the paths below `/control/`.
pub fn routes(steering: Arc<Steering>, board: Arc<Board>) -> Router {
    let asked = board.clone();
    Router::new()
        .route("/control/status", get(move || status(board.clone())))
        .route("/control/stop", post(stop))
        .route("/control/checkpoint", post(move |state, body| checkpoint(state, asked.clone(), body)))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(steering.clone(), only_with_token))
        .with_state(steering)
}

async fn only_with_token(State(steering): State<Arc<Steering>>, request: Request, next: Next) -> Response {
    if is_known(request.headers(), &steering.token) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::UNAUTHORIZED, challenge, "only with the token of --control-token-file\n").into_response()
}

fn is_known(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    bool::from(given.as_bytes().ct_eq(token.as_bytes()))
}

async fn status(board: Arc<Board>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::OK, headers, board.status()).into_response()
}

async fn stop(State(steering): State<Arc<Steering>>, body: Bytes) -> Response {
    let stop = move |wish| steering.stop(wish).map(|()| (StatusCode::ACCEPTED, "stopping".to_owned()));
    answered(&body, stop).await
}

async fn checkpoint(State(steering): State<Arc<Steering>>, board: Arc<Board>, body: Bytes) -> Response {
    let take = move |wish: CheckpointWish| {
        let tick = steering.checkpoint(&wish, &board)?;
        Ok((StatusCode::CREATED, json!({ "tick": tick }).to_string()))
    };
    answered(&body, take).await
}

/// Answers to a wish, which may be left out.
async fn answered<W: DeserializeOwned + Default + Send + 'static>(
    body: &Bytes,
    act: impl FnOnce(W) -> Result<(StatusCode, String), Refused> + Send + 'static,
) -> Response {
    let wish = match body.is_empty() {
        true => Ok(W::default()),
        false => serde_json::from_slice(body),
    };
    let answer = match wish {
        // A store may be far away: it is not asked on the thread that serves.
        Ok(wish) => tokio::task::spawn_blocking(move || act(wish)).await,
        Err(error) => Ok(Err((StatusCode::BAD_REQUEST, format!("this is no such wish: {error}")))),
    };
    let (code, text) = match answer {
        Ok(Ok(done)) => done,
        Ok(Err(refusal)) => refusal,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    (code, [(header::CACHE_CONTROL, "no-store")], format!("{text}\n")).into_response()
}
