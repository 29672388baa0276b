//! The admin port of a run: health for whoever keeps the process up, metrics for Prometheus, the state of the job as JSON.
//!
//! One thread with a runtime of its own, there only if somebody asked for it. It is told nothing and asks the observer when it is
//! asked itself, so a job that nobody looks at pays nothing. Looking needs no authentication: it listens on loopback only. What
//! changes something ([`control`]) needs a token.

pub mod board;
pub mod catalogue;
mod control;
mod freeze;
mod page;
mod process;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use board::Board;
pub use control::{Steering, StopWish};

use crate::exit::{Exit, Failure, OrExit};

/// How long requests under way may take once the job has ended.
const GRACE: Duration = Duration::from_secs(1);

/// What there is, with what it is for.
const PATHS: &[(&str, &str)] = &[
    ("/livez", "200 unless the job stands still"),
    ("/readyz", "200 once the job has caught up with its input, 503 before and while it stops"),
    ("/metrics", "for Prometheus, text format"),
    ("/status", "how the job is doing, as JSON"),
];

/// Reads an address to listen on: `127.0.0.1:9464`, `[::1]:9464`, `localhost:9464`; port 0: any that is free.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
    let address = local.as_deref().unwrap_or(text).parse();
    address.map_err(|_| "an address is written as 127.0.0.1:9464, [::1]:9464 or localhost:9464".to_owned())
}

/// Refuses an address that others can reach, unless somebody insists: there is no authentication that could stand before it.
pub fn allow(address: SocketAddr, insecure: bool) -> Result<SocketAddr, Failure> {
    if address.ip().is_loopback() || insecure {
        return Ok(address);
    }
    let message = format!(
        "--admin: {} can be reached from outside, and this port has no authentication\n  hint: listen on 127.0.0.1, and put a proxy with authentication before it; or, where the network lets nobody else reach it, say so with --insecure-no-auth",
        address.ip()
    );
    Err(Failure::new(Exit::Usage, message))
}

/// A server that runs until it is dropped.
pub struct Admin {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Starts serving what the board shows, and, to who knows the token, what steers the job.
    pub fn start(address: SocketAddr, board: Arc<Board>, steering: Option<Arc<Steering>>) -> Result<Admin, Failure> {
        let attempt = || format!("cannot serve --admin at {address}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .or_exit(Exit::Internal, attempt)?;
        let listener = runtime.block_on(TcpListener::bind(address)).or_exit(Exit::Conflict, attempt)?;
        let address = listener.local_addr().or_exit(Exit::Conflict, attempt)?;
        let (end, ended) = oneshot::channel();
        let serving = move || {
            runtime.block_on(serve(listener, board, steering, ended));
            runtime.shutdown_timeout(Duration::ZERO);
        };
        let thread =
            std::thread::Builder::new().name("admin".to_owned()).spawn(serving).or_exit(Exit::Internal, attempt)?;
        Ok(Admin { address, end: Some(end), thread: Some(thread) })
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // The thread may be gone only because it panicked, which has ended the process.
        self.end.take().map(|end| end.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(
    listener: TcpListener,
    board: Arc<Board>,
    steering: Option<Arc<Steering>>,
    ended: oneshot::Receiver<()>,
) {
    let steered = steering.map(|steering| control::routes(steering, board.clone())).unwrap_or_default();
    let app = Router::new()
        .route("/", get(index))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .fallback(missing)
        .with_state(board)
        .merge(steered);
    let (told, hears) = oneshot::channel::<()>();
    let wish = async {
        // A sender that is gone is a wish to end too.
        ended.await.ok();
        told.send(()).ok();
    };
    let serving = axum::serve(listener, app).with_graceful_shutdown(wish);
    let patience = async {
        hears.await.ok();
        tokio::time::sleep(GRACE).await;
    };
    tokio::pin!(patience);
    // Whichever is first: all requests are answered, or they had their time.
    let serving = std::future::IntoFuture::into_future(serving);
    tokio::pin!(serving);
    std::future::poll_fn(|context| {
        use std::future::Future;
        let served = serving.as_mut().poll(context).map(|_| ());
        if served.is_ready() { served } else { patience.as_mut().poll(context) }
    })
    .await;
}

type Shown = State<Arc<Board>>;

fn text(code: StatusCode, body: impl Into<String>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (code, headers, body.into()).into_response()
}

async fn index(State(board): Shown) -> Response {
    let lines: String = PATHS.iter().map(|(path, what)| format!("{path:<10}{what}\n")).collect();
    text(StatusCode::OK, format!("riverrun {}, job `{}`\n\n{lines}", env!("CARGO_PKG_VERSION"), board.job()))
}

async fn livez(State(board): Shown) -> Response {
    match board.lives() {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn readyz(State(board): Shown) -> Response {
    match board.ready() {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(board): Shown) -> Response {
    match board.metrics() {
        Ok(page) => {
            let headers = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT), (header::CACHE_CONTROL, "no-store")];
            (StatusCode::OK, headers, page).into_response()
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn status(State(board): Shown) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::OK, headers, board.status()).into_response()
}

async fn missing(uri: Uri) -> Response {
    let known: Vec<&str> = PATHS.iter().map(|(path, _)| *path).collect();
    text(StatusCode::NOT_FOUND, format!("there is no {}: there are {}\n", uri.path(), known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on_unless_somebody_insists() {
        for good in ["127.0.0.1:9464", "localhost:0", "[::1]:1", "127.9.9.9:80"] {
            assert!(allow(address(good).unwrap(), false).is_ok(), "{good}");
        }
        for open in ["0.0.0.0:9464", "[::]:9464", "192.168.1.7:80", "[::ffff:127.0.0.1]:80"] {
            let open = address(open).unwrap();
            assert!(allow(open, false).unwrap_err().error.to_string().contains("no authentication"), "{open}");
            assert_eq!(allow(open, true).unwrap(), open);
        }
        for wrong in ["", "9464", "localhost", "example.org:80", "127.0.0.1", "127.0.0.1:70000"] {
            assert!(address(wrong).unwrap_err().contains("is written as"), "{wrong}");
        }
    }
}
