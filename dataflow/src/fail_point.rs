//! Named points between two outside acts, at which a process under test ends as `kill -9` would end it.
//!
//! Only in debug builds; in a release build nothing of this is left. `RIVERRUN_FAIL_POINT=site:n` ends the process when it
//! comes to the site for the nth time: at once, nothing is unwound, flushed or told. With `site:n:hang` the thread that comes there
//! never goes on instead. The fault matrix asks for [`SITES`], so that none is forgotten, and a debug build refuses to come to a point
//! that is not listed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that names a site and the visit at which to end there.
pub const VARIABLE: &str = "RIVERRUN_FAIL_POINT";

/// All points, in the order in which a run comes to them.
pub const SITES: &[&str] = &[
    // The job's folder: created, begun anew, locked.
    "job.locked",
    "job.create",
    "job.created",
    "fresh.note",
    "fresh.noted",
    "fresh.delete",
    "fresh.deleted",
    "fresh.created",
    // The log, by the kind of record: before its create, and after it but before the floor is read.
    "log.generation.append",
    "log.generation.appended",
    "log.inputs.append",
    "log.inputs.appended",
    "log.ticks.append",
    "log.ticks.appended",
    "log.checkpoint.append",
    "log.checkpoint.appended",
    "log.upgrade.append",
    "log.upgrade.appended",
    // A step works on what came in a tick.
    "step.tick",
    // State files.
    "state.write",
    "state.written",
    // A file: taken, cut to what is committed, rows half written, written, durable, and their token.
    "file.claimed",
    "file.cut",
    "file.rows.torn",
    "file.rows.written",
    "file.rows.synced",
    "sidecar.written",
    "sidecar.renamed",
    "sidecar.settled",
    // A topic: made, taken, a commit half written, written, durable, and told to readers.
    "topic.staged",
    "topic.placed",
    "topic.cut",
    "topic.commit.torn",
    "topic.commit.written",
    "topic.commit.synced",
    "topic.commit.told",
    // Collection.
    "collect.raise",
    "collect.raised",
    "collect.delete",
    "collect.deleted",
];

/// The points of a manager, which a run never comes to: before a decision is written down and after it, before something is done
/// and after it, and before a job is forgotten.
pub const MANAGER_SITES: &[&str] =
    &["manager.step", "manager.stepped", "manager.act", "manager.acted", "manager.forget"];

struct Armed {
    site: String,
    visit: u64,
    visits: AtomicU64,
    hangs: bool,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let read = || {
        let text = std::env::var(VARIABLE).ok()?;
        let (site, visit) = text.split_once(':')?;
        let (visit, hangs) = visit.strip_suffix(":hang").map_or((visit, false), |visit| (visit, true));
        Some(Armed { site: site.to_owned(), visit: visit.parse().ok()?, visits: AtomicU64::new(0), hangs })
    };
    ARMED.get_or_init(read).as_ref()
}

/// Returns all points if `RIVERRUN_FAIL_POINT=list` asks a debug build for them.
pub fn asked_for() -> Option<&'static [&'static str]> {
    let asked = cfg!(debug_assertions) && std::env::var(VARIABLE).is_ok_and(|text| text == "list");
    asked.then_some(SITES)
}

/// Returns whether the process is to end, or the thread to hang, here and now.
fn is_due(site: &'static str) -> bool {
    if !cfg!(debug_assertions) {
        return false;
    }
    assert!(SITES.contains(&site) || MANAGER_SITES.contains(&site), "the point `{site}` is not listed");
    armed().is_some_and(|armed| armed.site == site && armed.visits.fetch_add(1, Ordering::Relaxed) + 1 == armed.visit)
}

/// Comes to a point.
pub fn reach(site: &'static str) {
    if is_due(site) {
        end_or_hang();
    }
}

fn end_or_hang() -> ! {
    if !armed().is_some_and(|armed| armed.hangs) {
        std::process::abort();
    }
    loop {
        std::thread::park();
    }
}

/// Comes to a point at which `bytes` are about to be written: the process ends when half of them are.
pub fn tear(site: &'static str, bytes: &[u8], write: impl FnOnce(&[u8])) {
    if is_due(site) {
        write(&bytes[..bytes.len() / 2]);
        end_or_hang();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_is_listed_once() {
        let mut sites = SITES.to_vec();
        sites.sort_unstable();
        sites.dedup();
        assert_eq!(sites.len(), SITES.len());
    }

    #[test]
    fn a_point_that_is_not_armed_is_passed() {
        SITES.iter().for_each(|site| reach(site));
        tear("file.rows.torn", b"whole", |_| panic!("it is not armed"));
    }
}
