//! What jobs of others may name: files below configured folders, brokers and registries that are allowed, and nothing that runs code.
//! All of it is the manager's own setting; no job can widen it.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use riverrun_connectors::reach::{self, Reach};
use riverrun_jobs::outside::{Named, Outside, outside};

use super::problem::{Kind, Problem};
use super::record::Spec;
use crate::limits::Limits;
use crate::output::bytes;

/// A name that is not resolved in this time is not waited for.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);
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
#[derive(Clone, Debug)]
pub struct Policy {
    /// Folders below which they may read and write; relative paths begin in the first.
    pub folders: Vec<PathBuf>,
    /// Beginnings of buckets that they may write: `s3://bucket/prefix`.
    pub buckets: Vec<String>,
    /// Hosts that they may talk to, as `host` or `host:port`.
    pub hosts: Vec<String>,
    /// Names among them may resolve to any address.
    pub private_hosts: bool,
    /// What names resolve to; nothing if nobody knows.
    pub resolve: fn(&str) -> Vec<IpAddr>,
    /// What a process may take of the machine: what it gets if its job says nothing, and the most that a job may say.
    pub limits: Limits,
    /// There is somebody who limits CPU time.
    pub limits_cpu: bool,
}

/// Asks the system what a name resolves to. A name that is not known in time is none: nobody can connect to it either.
pub fn resolved(name: &str) -> Vec<IpAddr> {
    let (sender, receiver) = mpsc::channel();
    let name = name.to_owned();
    // The system cannot be told to give up: the thread ends when the system does.
    let asked = std::thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs().map(|all| all.map(|address| address.ip()).collect());
        // Nobody may wait for it any more.
        let _ = sender.send(found.unwrap_or_default());
    });
    asked.ok().and_then(|_| receiver.recv_timeout(RESOLVED_WITHIN).ok()).unwrap_or_default()
}

impl Policy {
    /// Checks what a job names. Everything is looked at, and all that is wrong is said at once.
    pub fn check(&self, spec: &Spec) -> Result<(), Problem> {
        let mut wrong: Vec<String> =
            outside(&spec.text, &spec.set).iter().filter_map(|named| self.named(named, spec).err()).collect();
        let places = [("topics", &spec.topics), ("schemaRegistry", &spec.schema_registry)];
        let places = places.iter().filter_map(|(what, place)| Some((what, place.as_deref()?)));
        wrong.extend(places.filter_map(|(what, place)| self.place(what, place).err()));
        wrong.extend(self.check_limits(&spec.limits).err().map(|problem| problem.detail));
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Problem::new(Kind::InvalidJob, wrong.join("\n"))),
        }
    }

    /// Checks what a process may take of the machine.
    pub fn check_limits(&self, limits: &Limits) -> Result<(), Problem> {
        let beyond = |(name, most): (&str, u64)| {
            let most = match name {
                "--limit-memory" | "--limit-core" => bytes(most),
                "--limit-cpus" => (most as f64 / 100.0).to_string(),
                _ => most.to_string(),
            };
            format!("{name} is beyond what the manager allows a process of a job: {most}")
        };
        let mut wrong: Vec<String> = limits.beyond(&self.limits).into_iter().map(beyond).collect();
        if limits.cpu_percent.is_some() && !self.limits_cpu {
            wrong.push("--limit-cpus needs a control group of the manager's, and it has none\n  hint: it is told of one with --cgroup".to_owned());
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Problem::new(Kind::InvalidJob, wrong.join("\n"))),
        }
    }

    fn named(&self, outside: &Outside, spec: &Spec) -> Result<(), String> {
        let Outside { who, named, path } = outside;
        // The lake of a replay is beside that of its job, which may be all that jobs may use.
        let beside = spec.replay.as_ref().filter(|_| *named == Named::Lake);
        let path = &beside.map_or_else(|| path.clone(), |past| format!("{}@{}", path.trim_end_matches('/'), past.name));
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
            self.leads_out(what, host)?;
        }
        Ok(())
    }

    /// Checks that an allowed name leads into the open network. What is allowed as an address is meant as it is.
    fn leads_out(&self, what: &str, host: &str) -> Result<(), String> {
        let name = name_of(host);
        if self.private_hosts || literal(name).is_some() {
            return Ok(());
        }
        reach::check(name, (self.resolve)(name)).map_err(|why| {
            format!(
                "{what}: {why}\n  hint: the manager is told whom jobs may talk to: --allow-host with the address itself, or --allow-private-hosts"
            )
        })
    }

    /// Returns how far the processes of a job may reach where they connect themselves.
    pub fn reach(&self, spec: &Spec) -> Reach {
        // Brokers are looked up by their own client, which takes no orders in this.
        let Some(registry) = spec.schema_registry.as_deref() else { return Reach::Anywhere };
        let servers = registry.split('?').next().unwrap_or_default().split(',');
        let mut hosts = servers.map(|url| url.rsplit("://").next().unwrap_or(url).trim_end_matches('/'));
        match self.private_hosts || hosts.all(|host| literal(name_of(host)).is_some()) {
            true => Reach::Anywhere,
            false => Reach::Public,
        }
    }

    fn is_allowed(&self, host: &str) -> bool {
        let name = name_of(host);
        self.hosts.iter().any(|allowed| allowed == host || allowed == name)
    }
}

/// Returns a host without its port.
fn name_of(host: &str) -> &str {
    if let Some(end) = host.find(']').filter(|_| host.starts_with('[')) {
        return &host[..=end];
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Returns the address that a host is, if it is one.
fn literal(name: &str) -> Option<IpAddr> {
    name.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(folder: &Path) -> Policy {
        let hosts = vec!["broker:9092".to_owned(), "registry".to_owned()];
        let (folders, buckets) = (vec![folder.canonicalize().unwrap()], vec!["s3://lake/jobs".to_owned()]);
        let resolve = |_: &str| vec!["1.1.1.1".parse().unwrap()];
        let limits = Limits::default();
        Policy { folders, buckets, hosts, private_hosts: false, resolve, limits, limits_cpu: false }
    }

    #[test]
    fn an_allowed_name_leads_into_the_open_network_unless_the_manager_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let resolve = |name: &str| -> Vec<IpAddr> {
            let found: &[&str] = match name {
                "loop" => &["127.0.0.1"],
                "metadata" => &["169.254.169.254"],
                "rebound" => &["1.1.1.1", "10.1.2.3"],
                "mapped" => &["::ffff:192.168.0.1"],
                "nat64" => &["64:ff9b::a9fe:a9fe"],
                "local" => &["fd00::1"],
                "open" => &["1.1.1.1", "2606:4700::1111"],
                _ => &[],
            };
            found.iter().map(|address| address.parse().unwrap()).collect()
        };
        let names = ["loop", "metadata", "rebound", "mapped", "nat64", "local", "open", "unknown", "10.0.0.5", "[::1]"];
        let hosts = names.map(str::to_owned).to_vec();
        let policy = Policy { hosts, resolve, ..policy(folder.path()) };
        let open = Policy { private_hosts: true, ..policy.clone() };
        for place in
            ["kafka://HOST:9092", "kafka://open:9092,HOST:9092", "http://HOST:8081", "https://open,https://HOST/"]
        {
            for name in names {
                let place = place.replace("HOST", name);
                let refused = ["loop", "metadata", "rebound", "mapped", "nat64", "local"].contains(&name);
                let said = policy.place("topics", &place);
                assert_eq!(said.is_err(), refused, "{place}: {said:?}");
                assert!(!refused || said.unwrap_err().contains("--allow-private-hosts"), "{place}");
                assert_eq!(open.place("topics", &place), Ok(()), "{place}");
            }
        }
        let registry = |url: &str| {
            let spec: Spec = serde_json::from_str(r#"{"file":"f","text":"t"}"#).unwrap();
            Spec { schema_registry: Some(url.to_owned()), ..spec }
        };
        assert_eq!(policy.reach(&registry("http://open:8081")), Reach::Public);
        assert_eq!(policy.reach(&registry("http://10.0.0.5:8081")), Reach::Anywhere, "allowed as it is");
        assert_eq!(open.reach(&registry("http://open:8081")), Reach::Anywhere);
        assert!(resolved("localhost").iter().all(|address| reach::private(*address).is_some()));
    }

    #[test]
    fn the_lake_of_a_replay_is_not_beside_all_that_jobs_may_use() {
        let folder = tempfile::tempdir().unwrap();
        let policy = policy(folder.path());
        let of = |path: &str, replay: Option<&str>| {
            let past = replay.map(|name| serde_json::json!({ "of": "a", "name": name, "from": "earliest" }));
            let text = format!("job: a\nsinks:\n  out: {{ from: s, lake: {{ path: {path:?} }} }}\n");
            let spec = serde_json::json!({ "file": "f", "text": text, "replay": past });
            policy.check(&serde_json::from_value(spec).unwrap()).is_ok()
        };
        let whole = folder.path().canonicalize().unwrap().display().to_string();
        for root in ["s3://lake/jobs", "s3://lake/jobs/", whole.as_str()] {
            assert!(of(root, None) && !of(root, Some("x")), "{root}");
            assert!(of(&format!("{}/deeper", root.trim_end_matches('/')), Some("x")), "{root}");
        }
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
