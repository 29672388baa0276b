//! Where a cluster is and how to reach it: `kafka://host:port,host:port[?option=value&...]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rdkafka::ClientConfig;

use crate::percent::decoded;

/// The option that names a file of further options.
const CONFIG: &str = "config";
/// Options that are ours: what the promise stands on is not for a user to change. Each with the reason.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "the servers stand before the `?`"),
    ("metadata.broker.list", "the servers stand before the `?`"),
    ("group.id", "positions are kept in the job's log"),
    ("group.instance.id", "positions are kept in the job's log"),
    ("enable.auto.commit", "positions are kept in the job's log"),
    ("auto.commit.interval.ms", "positions are kept in the job's log"),
    ("enable.auto.offset.store", "positions are kept in the job's log"),
    ("auto.offset.reset", "a source says where it begins with `start`"),
    ("isolation.level", "only committed records are read"),
    ("enable.partition.eof", "riverrun must know where a partition ends"),
    ("transactional.id", "it names the lane of a sink"),
    ("transaction.timeout.ms", "transactions are short"),
    ("enable.idempotence", "a commit may not be doubled"),
    ("acks", "a commit may not be lost"),
    ("request.required.acks", "a commit may not be lost"),
    ("max.in.flight", "a commit keeps its order"),
    ("max.in.flight.requests.per.connection", "a commit keeps its order"),
    ("partitioner", "a lane of a sink is a partition"),
    ("message.max.bytes", "it is what the topic takes"),
    ("statistics.interval.ms", "riverrun watches partitions by it"),
    ("allow.auto.create.topics", "a topic that is misspelt must not come into being"),
];

/// What makes a broker that was away be met again soon, unless a user says otherwise. The library's own are 10 s and up to a minute: so
/// long would a job stand still after each of them that came back, or that a client asks first though it is frozen.
const SOON: &[(&str, &str)] = &[
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.connection.setup.timeout.ms", "10000"),
    ("socket.timeout.ms", "10000"),
];

/// A Kafka cluster, and the options of librdkafka by which it is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Cluster {
    servers: String,
    options: BTreeMap<String, String>,
}

/// Secrets may be among the options: only the servers are shown.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.servers)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}", self.servers)
    }
}

/// An address is none, or has an option that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

impl Cluster {
    /// Reads what follows `kafka://`. `resolve` puts in what references such as `${env:NAME}` stand for.
    pub fn parse(text: &str, resolve: impl Fn(&str) -> Result<String, String>) -> Result<Cluster, AddressError> {
        let (servers, query) = text.split_once('?').unwrap_or((text, ""));
        let servers = servers.trim_end_matches('/');
        for server in servers.split(',') {
            check_server(server)?;
        }
        let mut options = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                AddressError(format!("`{pair}` is no option of a cluster\nhint: an option is written `name=value`"))
            })?;
            let (name, value) = (decoded(name), decoded(value));
            if name == CONFIG {
                read_file(Path::new(&value), &resolve, &mut options)?;
                continue;
            }
            // What was written is not repeated: it should be in no log.
            if is_secret(&name) && !value.starts_with("${") {
                return Err(AddressError(format!(
                    "`{name}` is a secret, and others can see a command line\nhint: write `{name}=${{env:NAME}}`, or put it \
                     into a file and name that: `{CONFIG}=client.properties`"
                )));
            }
            take(&name, &value, &resolve, &mut options)?;
        }
        Ok(Cluster { servers: servers.to_owned(), options })
    }

    /// Returns the servers that are asked first.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Returns what every client of this cluster is made of.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "riverrun");
        for (name, value) in SOON {
            config.set(*name, *value);
        }
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.servers);
        // A topic that is misspelt is a fault, not a new topic.
        config.set("allow.auto.create.topics", "false");
        config
    }
}

fn check_server(server: &str) -> Result<(), AddressError> {
    // `[::1]:9092` has colons of its own.
    let parts = server.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match parts {
        Some(_) => Ok(()),
        None => Err(AddressError(format!(
            "`{server}` is no address of a Kafka broker\nhint: a cluster is written `kafka://host:port,host:port`"
        ))),
    }
}

/// Takes an option, if librdkafka knows it and it is not ours.
fn take(
    name: &str,
    value: &str,
    resolve: impl Fn(&str) -> Result<String, String>,
    options: &mut BTreeMap<String, String>,
) -> Result<(), AddressError> {
    if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Err(AddressError(format!("the option `{name}` is not yours to set: {reason}")));
    }
    let value = resolve(value).map_err(|reason| AddressError(format!("the option `{name}`: {reason}")))?;
    // Only librdkafka knows all its options; its words do not repeat the value of a secret.
    let mut alone = ClientConfig::new();
    alone.set(name, &value);
    if let Err(error) = alone.create_native_config() {
        let reason = match error {
            rdkafka::error::KafkaError::ClientConfig(_, reason, _, _) if !is_secret(name) => reason,
            _ => "its value cannot be".to_owned(),
        };
        return Err(AddressError(format!(
            "the option `{name}` cannot be used: {reason}\nhint: options are those of librdkafka, such as `security.protocol`"
        )));
    }
    options.insert(name.to_owned(), value);
    Ok(())
}

/// Reads a file of `name=value` lines; `#` begins a comment.
fn read_file(
    path: &Path,
    resolve: &impl Fn(&str) -> Result<String, String>,
    options: &mut BTreeMap<String, String>,
) -> Result<(), AddressError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| AddressError(format!("cannot read `{}`, which `{CONFIG}` names: {error}", path.display())))?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |reason: String| AddressError(format!("`{}`, line {number}: {reason}", path.display()));
        let (name, value) = line.split_once('=').ok_or_else(|| at("it is no `name=value`".to_owned()))?;
        take(name.trim(), value.trim(), resolve, options).map_err(|error| at(error.0))?;
    }
    Ok(())
}

fn is_secret(name: &str) -> bool {
    ["password", "secret", "oauthbearer.config", ".pem"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Result<String, String> {
        match text {
            "${env:SECRET}" => Ok("hush".to_owned()),
            other => Ok(other.to_owned()),
        }
    }

    fn parse(text: &str) -> Result<Cluster, String> {
        Cluster::parse(text, plain).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_and_options_are_read() {
        let cluster = parse("a:9092,[::1]:9093/?security.protocol=SASL_SSL&sasl.mechanism=SCRAM-SHA-512").unwrap();
        assert_eq!(cluster.servers(), "a:9092,[::1]:9093");
        assert_eq!(cluster.options["security.protocol"], "SASL_SSL");
        assert_eq!(cluster.to_string(), "kafka://a:9092,[::1]:9093");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, says) in [
            ("", "no address"),
            ("host", "no address"),
            ("host:port", "no address"),
            (":9092", "no address"),
            ("a:1,,b:2", "no address"),
            ("a:1?x", "no option"),
            ("a:1?no.such.option=1", "cannot be used"),
            ("a:1?acks=1", "not yours to set"),
            ("a:1?config=/no/such/file", "cannot read"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_is_a_reference_or_stands_in_a_file_and_is_never_shown() {
        let error = parse("a:1?sasl.password=swordfish").unwrap_err();
        assert!(error.contains("secret") && !error.contains("swordfish"), "{error}");
        let cluster = parse("a:1?sasl.password=${env:SECRET}").unwrap();
        assert_eq!(cluster.options["sasl.password"], "hush");
        assert!(!format!("{cluster:?} {cluster}").contains("hush"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("client.properties");
        std::fs::write(&file, "# who we are\nsasl.username = me\n\nsasl.password=${env:SECRET}\n").unwrap();
        let cluster = parse(&format!("a:1?config={}", file.display())).unwrap();
        assert_eq!(
            (cluster.options["sasl.username"].as_str(), cluster.options["sasl.password"].as_str()),
            ("me", "hush")
        );
        std::fs::write(&file, "sasl.username = me\nfetch.min.bytes = few\n").unwrap();
        let error = parse(&format!("a:1?config={}", file.display())).unwrap_err();
        assert!(error.contains("line 2") && error.contains("fetch.min.bytes"), "{error}");
    }
}
