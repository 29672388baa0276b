//! What jobs of others may name: files below configured folders, brokers and registries that are allowed, and nothing that runs code.
//! All of it is the manager's own setting; no job can widen it.

use std::path::{Component, Path, PathBuf};

use riverrun_jobs::outside::{Named, Outside, outside};

use super::problem::{Kind, Problem};
use super::record::Spec;

/// Options of a cluster and of a registry that a job may give: none that names a file, a library or a command.
const OPTIONS: &[&str] = &[
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.pem",
    "ssl.certificate.pem",
    "ssl.key.pem",
    "ssl.key.password",
    "client.rack",
    "basic.auth.user.info",
    "bearer.auth.token",
];

/// What jobs may name.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Folders below which they may read and write; relative paths begin in the first.
    pub folders: Vec<PathBuf>,
    /// Beginnings of buckets that they may write: `s3://bucket/prefix`.
    pub buckets: Vec<String>,
    /// Hosts that they may talk to, as `host` or `host:port`.
    pub hosts: Vec<String>,
}

impl Policy {
    /// Checks what a job names. Everything is looked at, and all that is wrong is said at once.
    pub fn check(&self, spec: &Spec) -> Result<(), Problem> {
        let mut wrong: Vec<String> =
            outside(&spec.text, &spec.set).iter().filter_map(|named| self.named(named).err()).collect();
        let places = [("topics", &spec.topics), ("schemaRegistry", &spec.schema_registry)];
        let places = places.iter().filter_map(|(what, place)| Some((what, place.as_deref()?)));
        wrong.extend(places.filter_map(|(what, place)| self.place(what, place).err()));
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Problem::new(Kind::InvalidJob, wrong.join("\n"))),
        }
    }

    fn named(&self, outside: &Outside) -> Result<(), String> {
        let Outside { who, named, path } = outside;
        match named {
            Named::Console => Err(format!(
                "`{who}` writes to the console, and nobody looks at that of a job under a manager\n  hint: write to a topic, and look at it with `riverrun tap`"
            )),
            Named::Lake if path.contains("://") => self.bucket(who, path),
            _ => self.path(who, path),
        }
    }

    fn bucket(&self, who: &str, path: &str) -> Result<(), String> {
        let within = |bucket: &String| {
            path == bucket || path.strip_prefix(bucket.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        match self.buckets.iter().any(within) && !path.contains("..") {
            true => Ok(()),
            false => Err(format!(
                "`{who}` may not write to `{path}`\n  hint: the manager is told which buckets jobs may use: --files s3://BUCKET/PREFIX"
            )),
        }
    }

    /// Checks a path; of a pattern, what stands before its first sign.
    fn path(&self, who: &str, path: &str) -> Result<(), String> {
        let refused = |why: &str| {
            Err(format!(
                "`{who}` may not use the path `{path}`: {why}\n  hint: the manager is told which folders jobs may use: --files DIR"
            ))
        };
        if path.contains("${") || path.contains('\0') {
            return refused("it is not written out");
        }
        if Path::new(path).components().any(|part| part == Component::ParentDir) {
            return refused("it goes up with `..`");
        }
        let fixed: PathBuf = Path::new(path)
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
            .collect();
        let Some(first) = self.folders.first() else { return refused("jobs may use no folder at all") };
        // Where links lead is what counts, as far as there is anything yet.
        let whole = first.join(fixed);
        let there = whole.ancestors().find_map(|part| part.canonicalize().ok());
        match there.is_some_and(|there| self.folders.iter().any(|folder| there.starts_with(folder))) {
            true => Ok(()),
            false => refused("it is not below a folder that jobs may use"),
        }
    }

    fn place(&self, what: &str, place: &str) -> Result<(), String> {
        let Some((scheme, rest)) = place.split_once("://") else { return self.path(what, place) };
        if scheme == "file" {
            return self.path(what, rest);
        }
        let (hosts, query) = rest.split_once('?').unwrap_or((rest, ""));
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let name = option.split('=').next().unwrap_or_default();
            if !OPTIONS.contains(&name) {
                return Err(format!(
                    "{what}: the option `{name}` is not open to jobs under a manager\n  hint: there are {}",
                    OPTIONS.join(", ")
                ));
            }
        }
        for host in hosts.split(',') {
            // More addresses of a registry bring their scheme along.
            let host = host.rsplit("://").next().unwrap_or(host).trim_end_matches('/');
            if !self.is_allowed(host) {
                return Err(format!(
                    "{what}: jobs may not talk to `{host}`\n  hint: the manager is told whom jobs may talk to: --allow-host HOST[:PORT]"
                ));
            }
        }
        Ok(())
    }

    fn is_allowed(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.hosts.iter().any(|allowed| allowed == host || allowed == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(folder: &Path) -> Policy {
        let hosts = vec!["broker:9092".to_owned(), "registry".to_owned()];
        Policy { folders: vec![folder.canonicalize().unwrap()], buckets: vec!["s3://lake/jobs".to_owned()], hosts }
    }

    #[test]
    fn only_what_is_below_a_folder_can_be_named() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        let policy = policy(folder.path());
        let own = format!("{}/out.jsonl", folder.path().canonicalize().unwrap().display());
        for good in ["in/*.jsonl", "out.jsonl", "./a/b", "deep/er/x.parquet", "*.csv", own.as_str()] {
            assert_eq!(policy.path("x", good), Ok(()), "{good}");
        }
        for bad in
            ["/etc/passwd", "../x", "a/../../x", "link/passwd", "/", "/proc/self/environ", "${env:X}/a", "/*", "link/*"]
        {
            assert!(policy.path("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_hosts_and_options_that_are_allowed_can_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let policy = policy(folder.path());
        for good in [
            "kafka://broker:9092",
            "kafka://broker:9092?sasl.password=${env:P}&sasl.username=me",
            "http://registry:8081",
            "http://registry/,https://registry:443",
            "topics",
        ] {
            assert_eq!(policy.place("topics", good), Ok(()), "{good}");
        }
        for bad in [
            "kafka://broker:9093",
            "kafka://broker:9092,evil:9092",
            "kafka://broker:9092?plugin.library.paths=/tmp/x.so",
            "kafka://broker:9092?sasl.kerberos.kinit.cmd=sh",
            "kafka://broker:9092?config=/etc/passwd",
            "kafka://broker:9092?ssl.ca.location=/etc/x",
            "kafka://broker:9092?%63onfig=/etc/passwd",
            "http://169.254.169.254/latest",
            "http://registry@evil:80",
            "http://[::ffff:127.0.0.1]:80",
            "file:///etc",
            "/etc",
        ] {
            assert!(policy.place("topics", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_buckets_that_are_allowed_can_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let policy = policy(folder.path());
        assert!(["s3://lake/jobs", "s3://lake/jobs/a"].iter().all(|path| policy.bucket("x", path).is_ok()));
        assert!(
            ["s3://lake", "s3://lake/jobs2", "s3://lake/jobs/../x", "s3://other/jobs"]
                .iter()
                .all(|path| policy.bucket("x", path).is_err())
        );
    }
}
