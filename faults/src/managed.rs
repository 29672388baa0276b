//! A job that a manager keeps, in several processes: who runs, who is hit, and what the manager says of it.
//!
//! The processes are the manager's, not ours, and outlive it. They are found by what they write down of themselves, and none of them
//! outlives a round.

use std::path::PathBuf;

use serde_json::Value;

use crate::Tried;
use crate::job::{NAME, TOPICS};
use crate::place::Place;
use crate::process::{self, HUNG_AFTER, PAUSE, Process, nap, now};

/// The manager's folder.
const FOLDER: &str = "manager";

/// A manager, and the processes of its job.
pub struct Managed<'a> {
    place: &'a Place,
    manager: Option<Process>,
}

/// A process of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its process id.
    pub pid: u32,
    folder: PathBuf,
}

/// The processes of one start of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crew {
    /// Which start of all of them this is.
    pub generation: u64,
    /// They, in order.
    pub members: Vec<Member>,
}

impl Member {
    /// Returns whether it lives, be it frozen.
    pub fn lives(&self, place: &Place) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, fields)| fields.trim_start().chars().next());
        // A process id that is used again is somebody else's.
        state.is_some_and(|state| !matches!(state, 'Z' | 'X')) && command_line(self.pid).contains(&folder(place))
    }

    /// Returns the exit code that it left; none if it was killed.
    pub fn said_at_last(&self) -> Option<i64> {
        let end = std::fs::read(self.folder.join("end.json")).ok()?;
        serde_json::from_slice::<Value>(&end).ok()?["code"].as_i64()
    }
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

fn folder(place: &Place) -> String {
    place.path(FOLDER).display().to_string()
}

impl<'a> Managed<'a> {
    /// Starts a manager.
    pub fn begin(place: &'a Place) -> Tried<Managed<'a>> {
        let mut managed = Managed { place, manager: None };
        managed.serve()?;
        Ok(managed)
    }

    /// Starts the manager, again if it was killed.
    pub fn serve(&mut self) -> Tried<()> {
        let place = self.place;
        place.remove(&format!("{FOLDER}/address"))?;
        let own = ["--log", "info", "serve", "--data", FOLDER, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let jobs = ["--topics", TOPICS, "--state", "state", "--files", "."];
        let mut manager = Process::start(place, place.command(&[&own[..], &jobs].concat()), "manager.out")?;
        let there = || Ok(place.path(FOLDER).join("address").exists());
        manager.until(place, "the manager", false, there)?;
        self.manager = Some(manager);
        Ok(())
    }

    /// Returns the manager's process id.
    pub fn id(&self) -> Tried<u32> {
        self.manager.as_ref().map(Process::id).ok_or_else(|| "there is no manager".to_owned())
    }

    /// Takes note that the manager was killed.
    pub fn was_killed(&mut self) -> Tried<()> {
        let mut manager = self.manager.take().ok_or("there is no manager")?;
        manager.kill(self.place).map(|_| ())
    }

    /// Asks the manager, and returns its answer.
    pub fn ask(&self, arguments: &[&str]) -> Tried<Value> {
        let address = String::from_utf8_lossy(&self.place.read(&format!("{FOLDER}/address"))?).trim().to_owned();
        let answer = self.place.run(&[&["-q", "-o", "json"], arguments, &["--server", &address]].concat())?;
        serde_json::from_slice(&answer).map_err(|error| format!("{arguments:?} is answered with no JSON: {error}"))
    }

    /// Returns in which phase the job is.
    pub fn phase(&self) -> Tried<String> {
        let status = self.ask(&["status", NAME])?;
        Ok(status["job"]["phase"].as_str().unwrap_or_default().to_owned())
    }

    /// Returns the processes of the newest start; those that have not said yet who they are, are missing.
    pub fn crew(&self) -> Crew {
        let (generation, path) = self.starts().into_iter().max().unwrap_or_default();
        let members = numbered(&path, "p").into_iter().filter_map(|(_, folder)| member(folder)).collect();
        Crew { generation, members }
    }

    /// Waits until none of a start lives any more.
    pub fn until_gone(&mut self, members: &[Member]) -> Tried<()> {
        let (place, from) = (self.place, now());
        while members.iter().any(|member| member.lives(place)) {
            self.keep_waiting("the end of a lost start", from.elapsed())?;
        }
        Ok(())
    }

    /// Waits until more than `before` is committed; returns false if the job comes to its end first.
    pub fn until_more(&mut self, before: u64) -> Tried<bool> {
        let (from, mut asked) = (now(), 0);
        while process::committed(self.place, "out.jsonl")? <= before {
            self.keep_waiting("a new row", from.elapsed())?;
            // Asking starts a process, so it is done seldom.
            if from.elapsed().as_secs() > asked {
                asked = from.elapsed().as_secs();
                if self.manager.is_some() && self.phase()? == "finished" {
                    return Ok(process::committed(self.place, "out.jsonl")? > before);
                }
            }
        }
        Ok(true)
    }

    /// Waits a little, unless it has been too long or the manager ended by itself.
    pub fn keep_waiting(&mut self, what: &str, waited: std::time::Duration) -> Tried<()> {
        if let Some(manager) = &mut self.manager
            && let Some(status) = manager.ended()?
        {
            return Err(format!("the manager ended by itself with {status}\n{}", self.place.said()));
        }
        if waited > HUNG_AFTER {
            return Err(format!("{what} never came\n{}\n{}", self.place.said(), self.last_words()));
        }
        nap(PAUSE);
        Ok(())
    }

    /// Returns what the processes of the newest start said last.
    pub fn last_words(&self) -> String {
        let tail = |path: PathBuf| {
            let said = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&said[said.len().saturating_sub(600)..]).into_owned()
        };
        let folders = numbered(&self.starts().into_iter().max().unwrap_or_default().1, "p");
        folders.into_iter().map(|(index, folder)| format!("process {index}: {}", tail(folder.join("log")))).collect()
    }

    /// The starts of the job, with their folders.
    fn starts(&self) -> Vec<(u64, PathBuf)> {
        numbered(&self.place.path(FOLDER).join("run").join(NAME), "g")
    }
}

impl Drop for Managed<'_> {
    fn drop(&mut self) {
        // The manager first, or it would start what is ended here.
        self.manager.take();
        let all = self.starts().into_iter().flat_map(|(_, path)| numbered(&path, "p"));
        let alive: Vec<u32> = all
            .filter_map(|(_, folder)| member(folder))
            .filter(|member| member.lives(self.place))
            .map(|member| member.pid)
            .collect();
        if !alive.is_empty() {
            // They may end by themselves in this very moment.
            let _ = process::signal("KILL", &alive);
        }
    }
}

fn member(folder: PathBuf) -> Option<Member> {
    let who: Value = serde_json::from_slice(&std::fs::read(folder.join("process.json")).ok()?).ok()?;
    Some(Member { pid: u32::try_from(who["pid"].as_u64()?).ok()?, folder })
}

/// Returns the folders whose name is `start` and a number, in order.
fn numbered(folder: &std::path::Path, start: &str) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(start)?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> =
        entries.filter_map(|entry| Some((number(&entry.path())?, entry.path()))).collect();
    found.sort();
    found
}
