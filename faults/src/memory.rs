//! O1: the system kills the job because memory runs out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dice::Dice;
use crate::job::STEADY;
use crate::live::{Live, Producers};
use crate::place::Place;
use crate::process::{PAUSE, nap, now};
use crate::report::Report;
use crate::traffic::USUAL;
use crate::{Setup, Tried};

/// A control group whose memory can be taken away.
struct Group {
    path: PathBuf,
    limit: PathBuf,
}

impl Group {
    /// Makes a group, of either version of control groups, or says why it cannot.
    fn make(name: &str) -> Tried<Group> {
        for (root, limit) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
            let path = Path::new(root).join(name);
            if std::fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Group { limit: path.join(limit), path };
            if group.limit.exists() {
                return Ok(group);
            }
        }
        Err("control groups for memory cannot be made here".to_owned())
    }

    fn set(&self, bytes: &str) -> Tried<()> {
        std::fs::write(&self.limit, bytes).map_err(|error| format!("cannot set {}: {error}", self.limit.display()))
    }

    /// Returns what a shell does to join the group. Memory that a process took before it joined would not be counted.
    fn join(&self) -> String {
        format!("echo $$ > {}", self.path.join("cgroup.procs").display())
    }

    /// Returns how many bytes the group uses.
    fn used(&self) -> Tried<u64> {
        let texts =
            ["memory.usage_in_bytes", "memory.current"].map(|name| std::fs::read_to_string(self.path.join(name)));
        let text = texts.into_iter().flatten().next().unwrap_or_default();
        text.trim().parse().map_err(|_| "cannot read what a control group uses".to_owned())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails while a process is in it, which leaves an empty group behind and nothing worse.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// How long the system may take to kill a job that it has taken memory from.
const PATIENCE: Duration = Duration::from_secs(20);

/// O1: the limit of the job's control group drops below what it uses, at random times.
pub fn runs_out(setup: &Setup, kills: u64) -> Tried<Report> {
    let mut report = Report::of("O1");
    if kills == 0 {
        report.left_out = Some("no run of it is asked for".to_owned());
        return Ok(report);
    }
    let group = match Group::make(&format!("riverrun-faults-{}", std::process::id())) {
        Ok(group) => group,
        Err(why) => {
            report.left_out = Some(why);
            return Ok(report);
        }
    };
    let mut dice = Dice::new(setup.seed ^ 0x01);
    Place::with(&setup.binary, |place| {
        let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
        for _ in 0..kills {
            group.set("2147483648")?;
            live.first = Some(group.join());
            live.start(&mut report, 1 + dice.below(3))?;
            live.recovered(&mut report)?;
            nap(dice.moment(Duration::from_millis(700)));
            starve(&mut live, &group)?;
            // The system has killed it; this takes note of it.
            live.kill(&mut report)?;
            report.runs += 1;
        }
        live.first = None;
        live.start(&mut report, 2)?;
        live.recovered(&mut report)?;
        live.finish(&mut report, Producers::Lived)
    })?;
    Ok(report)
}

/// Lowers the limit, further and further, until the system kills the job.
fn starve(live: &mut Live<'_>, group: &Group) -> Tried<()> {
    let from = now();
    while from.elapsed() < PATIENCE {
        if live.job()?.ended()?.is_some() {
            return Ok(());
        }
        // The first version refuses a limit that it cannot reach; the last that it took is a hair above what cannot be
        // reclaimed, and the next page that the job asks for is its last.
        let used = group.used()?;
        for less in [8 << 20, 1 << 20, 64 << 10, 0] {
            if group.set(&used.saturating_sub(less).to_string()).is_ok() {
                break;
            }
        }
        nap(PAUSE);
    }
    Err("the system does not kill a job whose memory was taken away".to_owned())
}
