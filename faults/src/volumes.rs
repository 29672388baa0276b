//! D1: a disk that is full: under the state, under the topics, under the file sink.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::bounded::{Calm, wait_to_end};
use crate::dice::Dice;
use crate::job::{Input, STEADY, TOPICS};
use crate::live::GAVE;
use crate::place::Place;
use crate::process::{self, Process, nap};
use crate::report::Report;
use crate::{Setup, Tried};

/// The exit code of a job whose storage fails.
const STORAGE: i32 = 74;
/// Room of a volume.
const ROOM: &str = "size=64m";
/// The folder under the file sink.
const FILES: &str = "files";

/// A small disk in memory.
struct Volume(PathBuf);

impl Volume {
    /// Mounts a volume at the folder `name`, or says why it cannot.
    fn mount(place: &Place, name: &str) -> Tried<Volume> {
        let path = place.path(name);
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot make {name}: {error}"))?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", ROOM, "riverrun-faults"]).arg(&path).output();
        match mounted {
            Ok(done) if done.status.success() => Ok(Volume(path)),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
            Err(error) => Err(format!("cannot start mount: {error}")),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Fills it to the last block.
    fn fill(&self) -> Tried<()> {
        let mut file = File::create(self.ballast()).map_err(|error| format!("cannot fill a volume: {error}"))?;
        // In pieces that get smaller: the job frees and takes room meanwhile.
        for piece in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        Ok(())
    }

    fn clear(&self) -> Tried<()> {
        std::fs::remove_file(self.ballast()).map_err(|error| format!("cannot clear a volume: {error}"))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Best effort: a process that still holds it lets go of it later.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// D1: each of the three volumes in turn is full for a while.
pub fn full(setup: &Setup, runs: u64) -> Tried<Report> {
    let mut report = Report::of("D1");
    let probe = Place::with(&setup.binary, |place| Ok(Volume::mount(place, "probe").err()))?;
    if let Some(why) = probe {
        report.left_out = Some(format!("volumes of its own need the right to mount: {why}"));
        return Ok(report);
    }
    let mut dice = Dice::new(setup.seed ^ 0xD1);
    let calm = Calm::long(setup, Input::Files, STEADY, dice.roll())?;
    while report.runs < runs {
        for full in ["state", TOPICS, FILES] {
            // A job that was done before its disk was full met no fault: once more.
            let mut tries = 1;
            while !one(setup, &calm, full, &mut report, &mut dice)? {
                tries += 1;
                if tries > 20 {
                    return Err(format!("no job met a full {full} before it was done: the input is too short"));
                }
            }
        }
        report.runs += 1;
    }
    Ok(report)
}

/// Runs a job on volumes of its own, of which one gets full. Returns whether it was hit.
fn one(setup: &Setup, calm: &Calm, full: &str, report: &mut Report, dice: &mut Dice) -> Tried<bool> {
    Place::with(&setup.binary, |place| {
        let volume = Volume::mount(place, full)?;
        calm.fill(place)?;
        std::fs::create_dir_all(place.path(FILES)).map_err(|error| format!("cannot make {FILES}: {error}"))?;
        for name in ["out.jsonl", "out.jsonl.riverrun.json"] {
            let linked = std::os::unix::fs::symlink(place.path(FILES).join(name), place.path(name));
            linked.map_err(|error| format!("cannot link {name}: {error}"))?;
        }
        let hit = fill(calm, place, &volume, report, dice)?;
        start(calm, place, 2).and_then(|mut job| wait_to_end(place, &mut job))?;
        report.restarts += 1;
        report.rows += calm.check(place)?;
        Ok(hit)
    })
}

fn start(calm: &Calm, place: &Place, workers: u64) -> Tried<Process> {
    let path = format!("sinks.out.file.path={FILES}/out.jsonl");
    Process::start(place, calm.command(place, workers, &["--set", &path]), GAVE)
}

/// Runs the job until it has written something, fills the volume, and sees it end with the right code. Returns false if it
/// was done before that.
fn fill(calm: &Calm, place: &Place, volume: &Volume, report: &mut Report, dice: &mut Dice) -> Tried<bool> {
    let mut job = start(calm, place, 1 + dice.below(3))?;
    report.restarts += 1;
    job.until(place, "output", true, || Ok(process::committed(place, "out.jsonl")? > 0))?;
    nap(dice.moment(Duration::from_millis(300)));
    if job.ended()?.is_some() {
        return Ok(false);
    }
    volume.fill()?;
    let status = job.wait()?;
    volume.clear()?;
    match status.code() {
        Some(STORAGE) => {
            report.faults += 1;
            let said = place.said();
            // The system's words for it, wherever they come from.
            match said.contains("No space left") || said.contains("StorageFull") || said.contains("no storage space") {
                true => Ok(true),
                false => Err(format!("a full disk is not named\n{said}")),
            }
        }
        Some(0) => Ok(false),
        _ => Err(format!("a run on a full {} ended with {status}\n{}", volume.0.display(), place.said())),
    }
}
