//! `doctor`: what stands between this machine and a manager.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::documents::Check;
use super::http::{Client, fit};
use crate::args::{DoctorArgs, Global};
use crate::exit::{Done, Exit, Failure};
use crate::manager::{Cluster, Version};
use crate::output::{self, Format, Stdout};

/// Clocks further apart make times in logs hard to compare.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// Looks at everything, and fails if something is wrong.
pub fn doctor(args: &DoctorArgs, global: &Global) -> Done {
    let client = Client::of(&args.server, global)?;
    let mut checks = Vec::new();
    let mut put = |what: &str, good, found: String| checks.push(Check { what: what.to_owned(), good, found });
    let asked = client.get::<Version>("/version");
    let worst = match &asked {
        Ok(version) => {
            put("the manager answers", true, client.server().to_owned());
            put("it knows who asks", true, format!("{}, as {:?}", version.caller, version.role).to_lowercase());
            let versions = format!("manager {}, here {}", version.version, env!("CARGO_PKG_VERSION"));
            put("the versions fit", fit(env!("CARGO_PKG_VERSION"), &version.version), versions);
            let skew = skew(version.now.0);
            put("the clocks agree", skew <= SKEW_MAX, format!("{:.1} s apart", skew.as_secs_f64()));
            match client.get::<Cluster>("/cluster") {
                Ok(cluster) => {
                    let failed = cluster.jobs.get("failed").copied().unwrap_or(0);
                    let jobs: usize = cluster.jobs.values().sum();
                    put("no job has failed", failed == 0, format!("{failed} of {jobs} jobs"));
                }
                Err(failure) => put("no job has failed", false, first_line(&failure)),
            }
            Exit::Failed
        }
        Err(failure) => {
            put("the manager answers", failure.exit == Exit::Denied, first_line(failure));
            failure.exit
        }
    };
    let bad = checks.iter().filter(|check| !check.good).count()
        + usize::from(asked.is_err_and(|failure| failure.exit == Exit::Denied));
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&checks)?,
        Format::Table => {
            let row = |check: &Check| {
                vec![if check.good { "ok" } else { "no" }.to_owned(), check.what.clone(), check.found.clone()]
            };
            stdout.line(&output::table(&["", "what", "found"], &[], checks.iter().map(row).collect()).to_string())?;
        }
    }
    stdout.flush()?;
    match bad {
        0 => Ok(()),
        _ => Err(Failure::new(worst, "something is not as it should be")),
    }
}

fn first_line(failure: &Failure) -> String {
    failure.error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "compares two clocks for a person; reaches no output of a job")]
fn skew(theirs: i64) -> Duration {
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    ours.abs_diff(Duration::from_millis(u64::try_from(theirs).unwrap_or(0)))
}
