//! Requests that are asked again while the store fails, and answers judged in one place.
//!
//! The library's own retries are switched off: it does not say which failures it repeats nor for how long, and it gives up on
//! a conditional create whose answer was lost. Here every request is repeated, that one too: if the lost attempt had created
//! the object, the repetition is told that it exists, and [`Store::create`](super::Store::create) finds its own bytes there.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use tokio::time::{Instant, sleep, timeout};

use super::trouble::{Refusal, Trouble};
use crate::events::StoreFailing;

/// An attempt may take so long, plus the time for what it uploads; a download may pause for so long.
const ATTEMPT: Duration = Duration::from_secs(20);
/// What an upload must reach, in bytes per second.
const UPLOAD: u64 = 256 * 1024;
/// Between the first two attempts; then twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Credentials are asked for no longer than this: without them there is no store.
const CREDENTIALS: Duration = Duration::from_secs(10);

/// Makes clients that are patient.
#[derive(Debug)]
pub struct Connector {
    /// For how long a request is repeated.
    pub patience: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Patient { inner, patience: self.patience }))
    }
}

/// Asks again.
#[derive(Debug)]
struct Patient {
    inner: HttpClient,
    patience: Duration,
}

/// What an attempt came to.
enum Attempt {
    /// An answer that the library understands.
    Answer(HttpResponse),
    /// It may go better next time.
    Failed(String),
    /// It will not.
    Refused(Refusal),
}

#[async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Who asks for credentials has none to sign with.
        let credentials = !request.headers().contains_key("authorization");
        let patience = if credentials { self.patience.min(CREDENTIALS) } else { self.patience };
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut tries = 0;
        loop {
            tries += 1;
            let left = patience.saturating_sub(begun.elapsed()).max(PAUSE_MIN);
            let last = match self.attempt(request.clone(), left).await {
                Attempt::Answer(answer) => return Ok(answer),
                Attempt::Refused(refusal) => return Err(given_up(Trouble::Refused(refusal))),
                Attempt::Failed(last) => last,
            };
            StoreFailing { method: request.method().as_str(), path: request.uri().path(), tries, failure: &last }.log();
            let time = begun.elapsed();
            if time + pause >= patience {
                return Err(given_up(Trouble::Failing { tries, time, last, credentials }));
            }
            sleep(uneven(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Patient {
    async fn attempt(&self, request: HttpRequest, left: Duration) -> Attempt {
        let conditional = request.headers().contains_key("if-none-match");
        let upload = Duration::from_secs(request.body().content_length() as u64 / UPLOAD);
        let answer = match limited((ATTEMPT + upload).min(left), self.inner.execute(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Attempt::Failed(cause(&error)),
            Err(late) => return Attempt::Failed(late),
        };
        let (parts, body) = answer.into_parts();
        let mut frames = body.bytes_stream();
        let mut whole = BytesMut::new();
        let mut only = None;
        loop {
            match limited(ATTEMPT.min(left), frames.next()).await {
                Ok(Some(Ok(frame))) if whole.is_empty() && only.is_none() => only = Some(frame),
                Ok(Some(Ok(frame))) => {
                    whole.extend_from_slice(&only.take().unwrap_or_default());
                    whole.extend_from_slice(&frame);
                }
                Ok(None) => break,
                Ok(Some(Err(error))) => return Attempt::Failed(cause(&error)),
                Err(late) => return Attempt::Failed(late),
            }
        }
        let body = only.unwrap_or_else(|| whole.freeze());
        let status = parts.status.as_u16();
        let region = parts.headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
        let said = Said { status, region, body: &body, conditional };
        match said.judged() {
            None => Attempt::Answer(HttpResponse::from_parts(parts, body.into())),
            Some(judged) => judged,
        }
    }
}

/// What the store said.
struct Said<'a> {
    status: u16,
    region: Option<&'a str>,
    body: &'a Bytes,
    conditional: bool,
}

impl Said<'_> {
    /// Returns what is to be done about it; `None` if the library understands it.
    fn judged(&self) -> Option<Attempt> {
        if matches!(self.status, 200..300 | 304 | 412) {
            return None;
        }
        let code = tag(self.body, "Code").unwrap_or_default();
        match (self.status, code.as_str()) {
            (404 | 416, code) if code != "NoSuchBucket" => return None,
            // Other creates of the same object are under way: whether they succeed is not known yet.
            (409, "ConditionalRequestConflict" | "OperationAborted") => {}
            (409, _) => return None,
            // Nothing of it was taken in.
            (400, "RequestTimeout" | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch") => {}
            (501 | 505, _) => return Some(self.refused(code)),
            (408 | 425 | 429 | 500.., _) => {}
            _ => return Some(self.refused(code)),
        }
        let message = tag(self.body, "Message").unwrap_or_default();
        Some(Attempt::Failed(format!("it answered {} {code} {message}", self.status).trim_end().to_owned()))
    }

    fn refused(&self, code: String) -> Attempt {
        let elsewhere = matches!(self.status, 301 | 307 | 400) && code != "ExpiredToken";
        let region = tag(self.body, "Region").or_else(|| self.region.map(str::to_owned)).filter(|_| elsewhere);
        let message = tag(self.body, "Message").unwrap_or_default();
        Attempt::Refused(Refusal { status: self.status, code, message, region, conditional: self.conditional })
    }
}

fn given_up(trouble: Trouble) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, trouble)
}

async fn limited<T>(limit: Duration, act: impl Future<Output = T>) -> Result<T, String> {
    timeout(limit, act).await.map_err(|_| format!("no answer within {:.1} s", limit.as_secs_f64()))
}

/// Returns the deepest cause: the layers above it only say that a request failed.
fn cause(error: &HttpError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Returns the text of the first element `name` of an XML document, of which nothing but short texts is needed.
fn tag(document: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(document).ok()?;
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.chars().filter(|c| !c.is_control()).take(300).collect())
}

/// Returns a part of `pause`, another one in each process: what failed together should not come back together.
fn uneven(pause: Duration) -> Duration {
    let dice = RandomState::new().hash_one(pause) % 512;
    pause.mul_f64(0.5 + dice as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what becomes of an answer: `taken` as it is, `again`, or `refused` with what is said.
    fn judge(status: u16, body: &'static str) -> String {
        let body = Bytes::from_static(body.as_bytes());
        match (Said { status, region: None, body: &body, conditional: true }).judged() {
            None => "taken".to_owned(),
            Some(Attempt::Failed(last)) => format!("again: {last}"),
            Some(Attempt::Refused(refusal)) => format!("refused: {}", Trouble::Refused(refusal)),
            Some(Attempt::Answer(_)) => unreachable!("an answer is not judged to be one"),
        }
    }

    #[test]
    fn what_the_library_understands_is_taken_as_it_is() {
        for status in [200, 204, 206, 304, 404, 409, 412, 416] {
            assert_eq!(judge(status, "<Error><Code>Whatever</Code></Error>"), "taken", "{status}");
        }
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(judge(status, "").starts_with("again: it answered"), "{status}");
        }
        assert!(judge(409, "<Error><Code>ConditionalRequestConflict</Code></Error>").starts_with("again"));
        assert!(judge(400, "<Error><Code>IncompleteBody</Code></Error>").starts_with("again"));
        let busy = judge(503, "<Error><Code>SlowDown</Code><Message>Reduce your\nrate</Message></Error>");
        assert_eq!(busy, "again: it answered 503 SlowDown Reduce yourrate");
    }

    #[test]
    fn what_will_not_pass_says_what_to_do() {
        let cases = [
            (404, "<Error><Code>NoSuchBucket</Code></Error>", "create the bucket"),
            (403, "<Error><Code>AccessDenied</Code></Error>", "s3:PutObject"),
            (403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", "AWS_SECRET_ACCESS_KEY"),
            (403, "<Error><Code>RequestTimeTooSkewed</Code></Error>", "clock"),
            (400, "<Error><Code>ExpiredToken</Code></Error>", "AWS_SESSION_TOKEN"),
            (
                400,
                "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-north-1</Region></Error>",
                "AWS_REGION=eu-north-1",
            ),
            (301, "<Error><Code>PermanentRedirect</Code></Error>", "AWS_REGION"),
            (501, "<Error><Code>NotImplemented</Code></Error>", "only if it is absent"),
        ];
        for (status, body, hint) in cases {
            let said = judge(status, body);
            assert!(said.starts_with("refused") && said.contains(hint), "{status} {body}: {said}");
        }
    }

    #[test]
    fn pauses_are_uneven_and_never_longer() {
        let pause = Duration::from_millis(800);
        let pauses: Vec<Duration> = (0..50).map(|_| uneven(pause)).collect();
        assert!(pauses.iter().all(|one| *one >= pause / 2 && *one <= pause));
        assert!(pauses.iter().any(|one| *one != pauses[0]));
    }
}
