//! Connections: accepted, bounded in number and in time, encrypted if there is a certificate, and ended in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::exit::{Exit, Failure, OrExit};

/// So many connections there may be at once; others wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// A client that takes longer to say what it wants is left.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// A client that takes longer to agree on encryption is left.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// What a client may say before the body.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may take once the server is to end.
const GRACE: Duration = Duration::from_secs(5);
/// After a failure to accept: there may be no file descriptors left just now.
const PAUSE: Duration = Duration::from_millis(100);

/// A certificate and its key, read again when the files change.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    /// The configuration, and when the files that it was made of were written.
    now: Mutex<(Option<SystemTime>, TlsAcceptor)>,
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM.
    pub fn read(cert: &Path, key: &Path) -> Result<Tls, Failure> {
        let acceptor = acceptor(cert, key)?;
        // They are read again from wherever the manager is at work.
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Tls { cert: whole(cert), key: whole(key), now: Mutex::new((written(cert), acceptor)) })
    }

    fn acceptor(&self) -> TlsAcceptor {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let written = written(&self.cert);
        if written != now.0 {
            match acceptor(&self.cert, &self.key) {
                Ok(acceptor) => *now = (written, acceptor),
                // The files may be half replaced: the former pair serves until they fit.
                Err(failure) => tracing::warn!(error = %failure.error, "the changed certificate is not used"),
            }
        }
        now.1.clone()
    }
}

fn written(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    let what = || format!("cannot use the certificate {} with the key {}", cert.display(), key.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).or_exit(Exit::Invalid, what)?.collect();
    let chain = chain.or_exit(Exit::Invalid, what)?;
    let key = PrivateKeyDer::from_pem_file(key).or_exit(Exit::Invalid, what)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .or_exit(Exit::Internal, what)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .or_exit(Exit::Invalid, what)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `ended` changes; then until requests under way are answered, or had their time.
pub async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, app: Router, mut ended: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = match places.clone().acquire_owned().await {
            Ok(place) => place,
            Err(_) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.changed() => break,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection is not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Latency of small answers; a socket that is gone by now fails when it is read.
        let _ = stream.set_nodelay(true);
        let (app, tls, ended) = (app.clone(), tls.clone(), ended.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(stream, from, app, ended).await,
                Some(tls) => {
                    let handshake = tls.acceptor().accept(stream);
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, handshake).await {
                        connection(stream, from, app, ended).await;
                    }
                }
            }
            drop(place);
        });
    }
    drop(listener);
    // All places are free again once the last connection is closed.
    let _ = tokio::time::timeout(GRACE, places.acquire_many(CONNECTIONS_MAX as u32)).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: SocketAddr,
    app: Router,
    mut ended: watch::Receiver<bool>,
) {
    let app = app.layer(axum::Extension(ConnectInfo(from)));
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
    );
    // A client that goes away is its own business.
    tokio::select! {
        _ = serving.as_mut() => {}
        _ = ended.changed() => {
            serving.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(GRACE, serving).await;
        }
    }
}
