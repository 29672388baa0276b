//! What a bucket's store can answer instead of what it was asked for, in words that say what to do. Nothing in here holds a
//! secret: of a request only its method and address are kept, of an answer its status, its code and its message.

use std::fmt;
use std::time::Duration;

/// The store did not do what it was asked for.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// It will not, however often it is asked.
    Refused(Refusal),
    /// It failed or did not answer for as long as it was asked again.
    Failing {
        /// How often it was asked.
        tries: u32,
        /// For how long.
        time: Duration,
        /// The last failure.
        last: String,
        /// Credentials were asked for, not the store.
        credentials: bool,
    },
}

/// An answer that will not change by asking again.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The store's own code, for example `NoSuchBucket`; empty if there was none.
    pub code: String,
    /// The store's own words.
    pub message: String,
    /// The region in which the bucket is, if the store said.
    pub region: Option<String>,
    /// The request asked to create an object only if it is absent.
    pub conditional: bool,
}

impl std::error::Error for Trouble {}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(refusal) => refusal.fmt(f),
            Trouble::Failing { last, credentials: true, .. } => write!(
                f,
                "there are no credentials for it: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and the service \
                 that gives them to machines and containers does not either ({last})\n  hint: set them in the environment"
            ),
            Trouble::Failing { tries, time, last, .. } => write!(
                f,
                "the store failed for {:.1} s, in {tries} attempts, the last time so: {last}\n  hint: see whether AWS_ENDPOINT_URL is right \
                 and answers; a restart goes on where this run stopped, and --state-patience 10m waits longer",
                time.as_secs_f64()
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match (self.code.as_str(), self.message.as_str()) {
            ("", "") => format!("the store answers {}", self.status),
            ("", message) => format!("the store answers {}: {message}", self.status),
            (code, "") => format!("the store answers {} {code}", self.status),
            (code, message) => format!("the store answers {} {code}: {message}", self.status),
        };
        f.write_str(&said)?;
        match self.hint() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    fn hint(&self) -> Option<String> {
        if let Some(region) = &self.region {
            return Some(format!("the bucket is in region {region}: set AWS_REGION={region}"));
        }
        let hint = match (self.code.as_str(), self.status) {
            ("NoSuchBucket", _) => "create the bucket, or name another one with --state",
            ("InvalidAccessKeyId", _) => "the store does not know this AWS_ACCESS_KEY_ID",
            ("SignatureDoesNotMatch", _) => "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
            ("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken", _) => {
                "AWS_SESSION_TOKEN is not valid any more; renew the credentials and start again"
            }
            ("RequestTimeTooSkewed", _) => "the clock of this machine is wrong",
            ("AuthorizationHeaderMalformed" | "PermanentRedirect", _) | (_, 301) => {
                "the bucket is in another region: set AWS_REGION"
            }
            (_, 501) if self.conditional => {
                "the store cannot create an object only if it is absent, which state needs; choose another one with --state"
            }
            (_, 401 | 403) => {
                "the credentials need s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject on \
                 what is below the prefix"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
