//! API keys and roles: who may ask what of the manager.
//!
//! A key is shown once, when it is made: `riverrun_<id>_<secret>`. What is kept of it is the SHA-256 of its secret, which is random
//! and long: there is nothing to guess, so nothing slow is needed to keep it.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::moment::Moment;
use crate::output::hex;

/// Bytes of a key's secret.
const SECRET_BYTES: usize = 32;
/// A secret that somebody else made is at least as long as 256 bits are in letters and digits.
const SECRET_LETTERS_MIN: usize = 43;
/// Bytes of a key's id.
const ID_BYTES: usize = 6;

/// What a key allows; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To look at jobs; at no record of their data.
    Viewer,
    /// To look at records, too.
    Tapper,
    /// To stop, start and rescale jobs, and to make savepoints.
    Operator,
    /// To submit, change and delete jobs.
    Editor,
    /// Everything: keys, and the audit log.
    Admin,
}

/// An API key, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Its id: no secret.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The jobs that it is for: a name, or the beginning of names and a `*`.
    pub jobs: String,
    /// The SHA-256 of its secret, in hexadecimal digits.
    pub sha256: String,
    /// When it was made.
    pub created: Moment,
    /// It is good for nothing from then on.
    pub expires: Option<Moment>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The id of the key, or `anonymous`.
    pub id: String,
    /// What is allowed.
    pub role: Role,
    /// The jobs for which it is.
    pub jobs: String,
}

impl Caller {
    /// Returns who asks where no keys are wanted.
    pub fn anonymous() -> Caller {
        Caller { id: "anonymous".to_owned(), role: Role::Admin, jobs: "*".to_owned() }
    }

    /// Returns whether the caller may do what needs `role`, with `job` if it is about one. Who is let in for some jobs only makes no
    /// keys, which could be for others.
    pub fn may(&self, role: Role, job: Option<&str>) -> bool {
        let wide_enough = role < Role::Admin || self.jobs == "*";
        self.role >= role && wide_enough && job.is_none_or(|job| self.knows(job))
    }

    /// Returns whether the job is among those that the caller may see. A replay is its job's: whoever sees the one sees the other.
    pub fn knows(&self, job: &str) -> bool {
        let job = job.split_once('@').map_or(job, |(job, _)| job);
        match self.jobs.strip_suffix('*') {
            Some(start) => job.starts_with(start),
            None => job == self.jobs,
        }
    }
}

impl Key {
    /// Makes a key, and returns it with what is shown once.
    pub fn make(name: &str, role: Role, jobs: &str, expires: Option<Moment>, now: Moment) -> io::Result<(Key, String)> {
        let (id, secret) = (random(ID_BYTES)?, random(SECRET_BYTES)?);
        let shown = format!("riverrun_{id}_{secret}");
        let sha256 = hex(&Sha256::digest(secret.as_bytes()));
        let key = Key { id, name: name.to_owned(), role, jobs: jobs.to_owned(), sha256, created: now, expires };
        Ok((key, shown))
    }

    /// Returns the key that is written `riverrun_<id>_<secret>`, for somebody who may do everything; `None` if it is none, or one
    /// that could be guessed.
    pub fn first(shown: &str) -> Option<Key> {
        let (id, secret) = split(shown)?;
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
        (plain(id) && plain(secret) && secret.len() >= SECRET_LETTERS_MIN).then(|| Key {
            id: id.to_owned(),
            name: "first".to_owned(),
            role: Role::Admin,
            jobs: "*".to_owned(),
            sha256: hex(&Sha256::digest(secret.as_bytes())),
            created: Moment(0),
            expires: None,
        })
    }

    /// Returns who asks, if `secret` is that of this key and it is still good.
    pub fn admits(&self, secret: &str, now: Moment) -> Option<Caller> {
        let given = hex(&Sha256::digest(secret.as_bytes()));
        let known = bool::from(given.as_bytes().ct_eq(self.sha256.as_bytes()));
        let good = self.expires.is_none_or(|expires| now < expires);
        (known && good).then(|| Caller { id: self.id.clone(), role: self.role, jobs: self.jobs.clone() })
    }
}

/// Splits a key as it was shown into its id and its secret.
pub fn split(shown: &str) -> Option<(&str, &str)> {
    shown.strip_prefix("riverrun_")?.split_once('_')
}

/// Checks for which jobs a key is.
pub fn check_jobs(jobs: &str) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let start = jobs.strip_suffix('*').unwrap_or(jobs);
    match !jobs.is_empty() && jobs.len() <= 64 && start.chars().all(letters) {
        true => Ok(()),
        false => Err("the jobs of a key are a name, or the beginning of names and a `*`".to_owned()),
    }
}

/// Returns so many random bytes of the system, in hexadecimal digits.
pub fn random(bytes: usize) -> io::Result<String> {
    let mut buffer = vec![0; bytes];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut buffer)?;
    Ok(hex(&buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_admits_its_secret_until_it_expires_and_no_other() {
        let (key, shown) = Key::make("ci", Role::Editor, "shop-*", Some(Moment(100)), Moment(0)).unwrap();
        let (id, secret) = split(&shown).unwrap();
        assert!(id == key.id && secret.len() == 64 && !format!("{key:?}").contains(secret), "{key:?}");
        let caller = key.admits(secret, Moment(99)).unwrap();
        assert!(caller.may(Role::Editor, Some("shop-orders")) && caller.may(Role::Viewer, None));
        let exact = Caller { jobs: "shop".to_owned(), ..caller.clone() };
        assert!(exact.knows("shop@may") && !exact.knows("shop-orders") && !exact.knows("shopping@shop"));
        assert!(!caller.may(Role::Admin, None) && !caller.may(Role::Viewer, Some("bank")));
        let narrow = Caller { role: Role::Admin, ..caller };
        assert!(!narrow.may(Role::Admin, None) && Caller { jobs: "*".to_owned(), ..narrow }.may(Role::Admin, None));
        assert_eq!(key.admits(secret, Moment(100)), None);
        assert_eq!(key.admits(&secret.replace(['0', '1', '2'], "3"), Moment(1)), None);
        assert_eq!(key.admits("", Moment(1)), None);
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in ["", "riverrun_", "riverrun_abc", "riverun_a_b", "Bearer riverrun_a_b"] {
            assert_eq!(split(text), None, "{text}");
        }
        assert!(["*", "shop", "shop-*"].iter().all(|jobs| check_jobs(jobs).is_ok()));
        assert!(["", "**", "Shop", "a/b", "a*b"].iter().all(|jobs| check_jobs(jobs).is_err()));
    }
}
