//! Where a registry is and who asks: `http://host:port[/path][,http://...][?option=value&...]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::percent::decoded;
use crate::reach::Reach;

/// The option that names a file of further options.
const CONFIG: &str = "config";
/// The options there are, named as other clients of registries name them, with whether they are secrets.
const OPTIONS: [(&str, bool); 3] = [(USER, true), (TOKEN, true), (CA, false)];
const USER: &str = "basic.auth.user.info";
const TOKEN: &str = "bearer.auth.token";
const CA: &str = "ssl.ca.location";

/// Where a registry is, and the options by which it is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAddress {
    /// The servers, each as good as the other.
    pub(super) urls: Vec<String>,
    /// Whom connections may be made to.
    pub(super) reach: Reach,
    options: BTreeMap<String, String>,
}

/// Secrets may be among the options: only the servers are shown.
impl fmt::Debug for RegistryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryAddress({self})")
    }
}

impl fmt::Display for RegistryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.urls.join(","))
    }
}

/// An address is none, or has an option that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistryAddressError(String);

impl RegistryAddress {
    /// Reads an address. `resolve` puts in what references such as `${env:NAME}` stand for.
    pub fn parse(
        text: &str,
        resolve: impl Fn(&str) -> Result<String, String>,
    ) -> Result<RegistryAddress, RegistryAddressError> {
        // First of all, and whatever else is wrong: a password may hold any sign that would divide the text.
        if text.contains('@') {
            return Err(RegistryAddressError(format!(
                "a user stands before the host, and others can see a command line\nhint: write `?{USER}=${{env:NAME}}`"
            )));
        }
        let (servers, query) = text.split_once('?').unwrap_or((text, ""));
        let urls = servers.split(',').map(|url| check_url(url.trim_end_matches('/'))).collect::<Result<_, _>>()?;
        let mut options = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                // What was written is not repeated: it may be a secret that has lost its name.
                error("what follows the `?` is no `name=value`")
            })?;
            let (name, value) = (decoded(name), decoded(value));
            if name == CONFIG {
                read_file(Path::new(&value), &resolve, &mut options)?;
                continue;
            }
            if is_secret(&name) && !is_reference(&value) {
                return Err(RegistryAddressError(format!(
                    "`{name}` is a secret, and others can see a command line\nhint: write `{name}=${{env:NAME}}`, or put it into a \
                     file and name that: `{CONFIG}=registry.properties`"
                )));
            }
            take(&name, &value, &resolve, &mut options)?;
        }
        Ok(RegistryAddress { urls, reach: Reach::default(), options })
    }

    /// Has the registry be asked only where connections may be made to.
    pub fn within(self, reach: Reach) -> RegistryAddress {
        RegistryAddress { reach, ..self }
    }

    /// Returns user and password, if they are asked for.
    pub(super) fn user(&self) -> Option<(&str, &str)> {
        self.options.get(USER).map(|user| user.split_once(':').unwrap_or((user, "")))
    }

    /// Returns the token, if one is given.
    pub(super) fn token(&self) -> Option<&str> {
        self.options.get(TOKEN).map(String::as_str)
    }

    /// Returns the file of the authority that is trusted.
    pub(super) fn authority(&self) -> Option<PathBuf> {
        self.options.get(CA).map(PathBuf::from)
    }
}

fn error(reason: &str) -> RegistryAddressError {
    RegistryAddressError(format!("{reason}\nhint: a registry is written `http://host:port` or `https://host:port`"))
}

fn check_url(url: &str) -> Result<String, RegistryAddressError> {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    let is_url = !host.is_empty() && !host.starts_with('/') && reqwest::Url::parse(url).is_ok();
    match is_url {
        true => Ok(url.to_owned()),
        false => Err(error(&format!("`{url}` is no address of a schema registry"))),
    }
}

fn take(
    name: &str,
    value: &str,
    resolve: impl Fn(&str) -> Result<String, String>,
    options: &mut BTreeMap<String, String>,
) -> Result<(), RegistryAddressError> {
    if OPTIONS.iter().all(|(known, _)| *known != name) {
        let known: Vec<&str> = OPTIONS.iter().map(|(known, _)| *known).collect();
        return Err(RegistryAddressError(format!(
            "`{name}` is no option of a schema registry\nhint: there are {}, and `{CONFIG}` for a file of them",
            known.join(", ")
        )));
    }
    let value = resolve(value).map_err(|reason| RegistryAddressError(format!("the option `{name}`: {reason}")))?;
    options.insert(name.to_owned(), value);
    Ok(())
}

/// Reads a file of `name=value` lines; `#` begins a comment.
fn read_file(
    path: &Path,
    resolve: &impl Fn(&str) -> Result<String, String>,
    options: &mut BTreeMap<String, String>,
) -> Result<(), RegistryAddressError> {
    let place = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| RegistryAddressError(format!("cannot read `{place}`, which `{CONFIG}` names: {error}")))?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |reason: &str| RegistryAddressError(format!("`{place}`, line {number}: {reason}"));
        let (name, value) = line.split_once('=').ok_or_else(|| at("it is no `name=value`"))?;
        take(name.trim(), value.trim(), resolve, options).map_err(|error| at(&error.0))?;
    }
    Ok(())
}

/// Returns whether nothing is written out: references alone, with a colon between two of them perhaps.
fn is_reference(value: &str) -> bool {
    let reference = |part: &str| part.starts_with("${") && part.ends_with('}') && part.matches('}').count() == 1;
    value.split_inclusive('}').all(|part| reference(part.strip_prefix(':').unwrap_or(part)))
}

fn is_secret(name: &str) -> bool {
    OPTIONS.iter().any(|(known, secret)| *known == name && *secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegistryAddress, String> {
        let plain = |text: &str| match text {
            "${env:SECRET}" => Ok("me:hush".to_owned()),
            other => Ok(other.to_owned()),
        };
        RegistryAddress::parse(text, plain).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_and_options_are_read() {
        let address = parse("http://a:8081/,https://b/apis/ccompat/v7?ssl.ca.location=%2Fca.pem").unwrap();
        assert_eq!(address.urls, ["http://a:8081", "https://b/apis/ccompat/v7"]);
        assert_eq!(address.authority(), Some(PathBuf::from("/ca.pem")));
        assert_eq!(address.to_string(), "http://a:8081,https://b/apis/ccompat/v7");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, says) in [
            ("", "no address"),
            ("host:8081", "no address"),
            ("ftp://host", "no address"),
            ("http://", "no address"),
            ("http://me:hush@host", "before the host"),
            ("http://me:p/hush@host:1", "before the host"),
            ("http://me:80/hush@host", "before the host"),
            ("http://me:hush,hush?hush@host", "before the host"),
            ("http://host?x", "no `name=value`"),
            ("http://host?no.such.option=1", "no option"),
            ("http://host?config=/no/such/file", "cannot read"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("hush"), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_is_a_reference_or_stands_in_a_file_and_is_never_shown() {
        let error = parse("http://a?basic.auth.user.info=me:swordfish").unwrap_err();
        assert!(error.contains("secret") && !error.contains("swordfish"), "{error}");
        for half in ["${env:SECRET}:swordfish", "swordfish${env:SECRET}", "${env:SECRET}${swordfish"] {
            let error = parse(&format!("http://a?basic.auth.user.info={half}")).unwrap_err();
            assert!(error.contains("secret") && !error.contains("swordfish"), "{error}");
        }
        assert!(is_reference("${env:USER}:${file:/run/password}") && !is_reference("${env:A}:"));
        let address = parse("http://a?basic.auth.user.info=${env:SECRET}").unwrap();
        assert_eq!(address.user(), Some(("me", "hush")));
        assert!(!format!("{address:?} {address}").contains("hush"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registry.properties");
        std::fs::write(&file, "# who we are\nbearer.auth.token = ${env:SECRET}\n").unwrap();
        let address = parse(&format!("http://a?config={}", file.display())).unwrap();
        assert_eq!(address.token(), Some("me:hush"));
    }
}
