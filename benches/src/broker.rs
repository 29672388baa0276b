//! A real broker on free ports, which ends with the bench.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, ensure};
use riverrun_connectors::kafka::Cluster;

/// One node of Kafka.
pub struct Broker {
    /// Where it listens.
    pub servers: String,
    folder: PathBuf,
    /// While it is open the broker lives; when this process ends, however it ends, it does too.
    guard: Option<(Child, ChildStdin)>,
}

impl Broker {
    /// Starts it.
    pub fn start() -> anyhow::Result<Broker> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka.sh");
        let folder = tempfile::tempdir()?.keep();
        let mut guard = Command::new("sh")
            .args(["-c", r#"cat >/dev/null; "$1" down "$2"; rm -rf "$2""#, "sh"])
            .args([&script, &folder])
            .stdin(Stdio::piped())
            .spawn()?;
        let open = guard.stdin.take().context("the guard has no stdin")?;
        let mut broker = Broker { servers: String::new(), folder, guard: Some((guard, open)) };
        let up = Command::new(script).arg("up").arg(&broker.folder).env("RIVERRUN_KAFKA_HEAP", "1g").output()?;
        ensure!(up.status.success(), "no broker can be started: {}", String::from_utf8_lossy(&up.stderr));
        broker.servers = String::from_utf8_lossy(&up.stdout).trim().to_owned();
        Ok(broker)
    }

    /// Returns what `--topics` says.
    pub fn address(&self) -> String {
        format!("kafka://{}", self.servers)
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> anyhow::Result<Cluster> {
        Ok(Cluster::parse(&self.servers, |text| Ok(text.to_owned()))?)
    }

    /// Returns the process id of the broker.
    pub fn process(&self) -> anyhow::Result<u32> {
        let text = std::fs::read_to_string(self.folder.join("1.pid")).context("the broker has no id")?;
        Ok(text.trim().parse()?)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((mut guard, open)) = self.guard.take() {
            drop(open);
            // What it stops it stops by itself.
            guard.wait().ok();
        }
    }
}
