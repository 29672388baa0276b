//! Requests to a manager, and what its answers mean for a command.

use std::time::Duration;

use reqwest::{Certificate, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{Global, ServerArgs};
use crate::exit::{Exit, Failure, OrExit};
use crate::manager::{PREFIX, ProblemDocument, VERSION_HEADER};
use crate::output::{Format, Stdout};

/// A manager that takes longer to be reached is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// One that takes longer to answer is in trouble.
const ANSWER: Duration = Duration::from_secs(60);

/// Asks one manager.
pub struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    server: String,
    key: Option<String>,
    /// Problems are shown to programs.
    json: bool,
    quiet: bool,
}

/// An answer, not yet read.
pub struct Answer {
    text: String,
}

impl Client {
    /// Returns a client that has asked nothing yet.
    pub fn of(args: &ServerArgs, global: &Global) -> Result<Client, Failure> {
        let server = args.server.trim_end_matches('/').to_owned();
        let url =
            reqwest::Url::parse(&server).ok().filter(|url| url.has_host() && ["http", "https"].contains(&url.scheme()));
        let Some(url) = url else {
            let message =
                "--server is no address of a manager\n  hint: one is written http://HOST:PORT or https://HOST:PORT";
            return Err(Failure::new(Exit::Usage, message));
        };
        if !url.username().is_empty() || url.password().is_some() {
            let message = "--server holds a user or a password, and others can see a command line\n  hint: give the API key by RIVERRUN_API_KEY or --api-key-file";
            return Err(Failure::new(Exit::Usage, message));
        }
        let key = key(args)?;
        // Someone else in this process may have chosen already; any choice will do.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .user_agent(concat!("riverrun/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &args.server_ca {
            let what = || format!("cannot use the certificate in --server-ca {}", path.display());
            let pem = std::fs::read(path).or_exit(Exit::Usage, what)?;
            let trusted = Certificate::from_pem_bundle(&pem).or_exit(Exit::Usage, what)?;
            builder = builder.tls_certs_merge(trusted);
        }
        let what = || "cannot start the client".to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        Ok(Client {
            http: builder.build().or_exit(Exit::Internal, what)?,
            runtime: runtime.or_exit(Exit::Internal, what)?,
            server,
            key,
            json: global.output == Format::Json,
            quiet: global.quiet,
        })
    }

    /// Returns the manager's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Asks for a document.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.read(&self.ask(Method::GET, path, None, &[])?)
    }

    /// Asks for something to be done, and returns the answer.
    pub fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let body = body.map(|body| serde_json::to_value(body).expect("our own types are representable"));
        self.read(&self.ask(method, path, body, &[])?)
    }

    /// Asks, and returns the answer as it is, if it is a good one.
    pub fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        self.ask_for(ANSWER, method, path, body, headers)
    }

    /// Asks for something that may take so long.
    pub fn ask_for(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        let mut request = self.request(method, path).timeout(patience);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = self.runtime.block_on(async {
            let answer = request.send().await?;
            let status = answer.status();
            let header =
                |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let version = header(VERSION_HEADER);
            Ok::<_, reqwest::Error>((status, version, answer.text().await?))
        });
        let (status, version, text) = answer.map_err(|error| self.unreachable(&error))?;
        self.compare_versions(version.as_deref());
        if status.is_success() { Ok(Answer { text }) } else { Err(self.refused(status, &text)) }
    }

    /// Asks for something that is no document.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let request = self.request(Method::GET, path);
        let answer = self.runtime.block_on(async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        });
        let (status, bytes) = answer.map_err(|error| self.unreachable(&error))?;
        match status.is_success() {
            true => Ok(bytes.to_vec()),
            false => Err(self.refused(status, &String::from_utf8_lossy(&bytes))),
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{PREFIX}{path}", self.server));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Reads a stream of server-sent events; `each` is given the name and the data of each, and says whether to go on.
    pub fn events(&self, path: &str, mut each: impl FnMut(&str, &str) -> Result<bool, Failure>) -> Result<(), Failure> {
        let request = self.request(Method::GET, path);
        self.runtime.block_on(async {
            let mut answer = request.send().await.map_err(|error| self.unreachable(&error))?;
            if !answer.status().is_success() {
                let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
                return Err(self.refused(status, &text));
            }
            let mut rest: Vec<u8> = Vec::new();
            while let Some(part) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
                rest.extend_from_slice(&part);
                while let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
                    let event = String::from_utf8_lossy(&rest[..end]).into_owned();
                    rest.drain(..end + 2);
                    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                    if !each(field("event: "), field("data: "))? {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    /// Reads a document of the manager.
    pub fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        serde_json::from_str(&answer.text).or_exit(Exit::Failed, || {
            format!("{} answers what this version cannot read\n  hint: is a manager of riverrun there, and of this version?", self.server)
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut reason = error.to_string();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(deeper) = cause {
            reason = deeper.to_string();
            cause = deeper.source();
        }
        let message = format!(
            "the manager at {} cannot be reached: {reason}\n  hint: `riverrun serve` starts one; --server URL says where it is",
            self.server
        );
        Failure::new(Exit::Unreachable, message)
    }

    fn refused(&self, status: StatusCode, text: &str) -> Failure {
        let problem: Option<ProblemDocument> = serde_json::from_str(text).ok();
        let exit = match status.as_u16() {
            401 | 403 => Exit::Denied,
            404 => Exit::NotFound,
            409 | 412 => Exit::Conflict,
            400 | 405 | 413 | 501 => Exit::Usage,
            422 => Exit::Invalid,
            502 => Exit::Storage,
            _ => Exit::Failed,
        };
        let Some(problem) = problem else {
            return Failure::new(
                exit,
                format!("{} answers {status}\n  hint: is a manager of riverrun there?", self.server),
            );
        };
        if self.json {
            let mut stdout = Stdout::lock();
            if let Err(failure) = stdout.document(&problem).and_then(|()| stdout.flush()) {
                return failure;
            }
        }
        Failure::new(exit, problem.detail.trim_end().to_owned())
    }

    /// Says so if client and manager are more than a minor version apart.
    fn compare_versions(&self, theirs: Option<&str>) {
        let (Some(theirs), false) = (theirs, self.quiet) else { return };
        if !fit(env!("CARGO_PKG_VERSION"), theirs) {
            eprintln!(
                "note: this is riverrun {}, and the manager is {theirs}: one minor version apart they understand each other, further they may not",
                env!("CARGO_PKG_VERSION")
            );
        }
    }
}

/// Returns a path with a query, written by the rules of forms.
pub fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let whole = reqwest::Url::parse_with_params("http://localhost/", query);
    let query = whole.ok().and_then(|whole| whole.query().map(str::to_owned)).unwrap_or_default();
    format!("{path}?{query}")
}

/// Returns whether two versions are at most one minor version apart.
pub fn fit(ours: &str, theirs: &str) -> bool {
    let parts = |version: &str| -> Option<(u64, u64)> {
        let mut parts = version.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    };
    match (parts(ours), parts(theirs)) {
        (Some((major, minor)), Some((their_major, their_minor))) => {
            major == their_major && minor.abs_diff(their_minor) <= 1
        }
        _ => false,
    }
}

/// Returns the API key, from the file or from the environment; never from the command line, which others can see.
fn key(args: &ServerArgs) -> Result<Option<String>, Failure> {
    let key = match &args.api_key_file {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            Some(text.or_exit(Exit::Usage, || format!("cannot read the API key in {}", path.display()))?)
        }
        None => std::env::var("RIVERRUN_API_KEY").ok(),
    };
    let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    match key.as_deref().is_none_or(|key| key.chars().all(|c| c.is_ascii_graphic())) {
        true => Ok(key),
        false => Err(Failure::new(Exit::Usage, "what is given as an API key is none: it has signs that no key has")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_may_be_one_minor_apart() {
        for (ours, theirs, good) in [
            ("0.1.0", "0.1.9", true),
            ("0.1.0", "0.2.0", true),
            ("1.3.0", "1.1.0", false),
            ("1.0.0", "0.9.0", false),
            ("1.0.0", "x", false),
        ] {
            assert_eq!(fit(ours, theirs), good, "{ours} {theirs}");
        }
    }
}
