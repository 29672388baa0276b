//! A job in several processes: started together, and ended together.

use std::time::Duration;

use super::place::Place;
use super::process::{Finished, Invocation, Running};

/// Silence that is noticed soon, in a test of silence.
pub const HASTY: &[&str] = &["--mesh-heartbeat", "100ms", "--mesh-dead-after", "2s"];

/// All processes of one job.
pub struct Crew(Vec<Running>);

impl Place {
    /// Starts `riverrun worker JOB` as so many processes with one worker each, which find each other by sockets in this folder.
    pub fn crew(&self, job: &str, processes: usize, with: impl Fn(Invocation) -> Invocation) -> Crew {
        let peers: Vec<String> = (0..processes).map(|process| format!("unix:p{process}")).collect();
        self.crew_at(job, &peers.join(","), with)
    }

    /// Starts `riverrun worker JOB` as the processes at these addresses.
    pub fn crew_at(&self, job: &str, peers: &str, with: impl Fn(Invocation) -> Invocation) -> Crew {
        let processes = peers.split(',').count();
        let start = |process: usize| {
            let worker = self.riverrun(&["worker", job, "-o", "json", "-w", "1", "--peers", peers]);
            let worker = worker.arg("--processes").arg(processes.to_string()).env("RIVERRUN_LOG", "riverrun=info");
            with(worker.arg("--process").arg(process.to_string())).start()
        };
        Crew((0..processes).map(start).collect())
    }
}

impl Crew {
    /// Returns one of them.
    pub fn member(&mut self, process: usize) -> &mut Running {
        &mut self.0[process]
    }

    /// Waits until each of them has come together with all others. Before that, one that loses another waits for it to come back,
    /// and does not end.
    pub fn together(mut self) -> Crew {
        for process in &mut self.0 {
            process.until_said("the processes of the job are together");
        }
        self
    }

    /// Waits for this long at most, and returns whether process 0 ended.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        self.0[0].ends_within(time)
    }

    /// Kills one of them, as a power cut would, and returns how the others end.
    pub fn kill(mut self, process: usize) -> Vec<Finished> {
        self.0.remove(process).kill();
        self.finish()
    }

    /// Takes one of them out of the crew.
    pub fn leave(&mut self, process: usize) -> Running {
        self.0.remove(process)
    }

    /// Waits for the end of all.
    pub fn finish(self) -> Vec<Finished> {
        self.0.into_iter().map(Running::finish).collect()
    }

    /// Waits for the end of all, which must be a good one; returns that of process 0.
    pub fn succeed(self) -> Finished {
        let mut finished = self.finish();
        for one in &finished {
            assert_eq!(one.code, Some(0), "{one}");
        }
        finished.remove(0)
    }
}
