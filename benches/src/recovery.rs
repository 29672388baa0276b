//! How long is a job away when it is killed, and what does that cost? Live jobs with much state, killed with `kill -9` again and again.
//!
//! Measured from the kill to the first new row in the output; the job is started again as soon as the killed process is gone.
//! Rows keep coming meanwhile, so what was missed has to be read too.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Arguments;
use crate::compare::binary;
use crate::feed::{Feeder, Plan, Workload, each, topics};
use crate::live::{Life, Live, Restore};
use crate::measure::{machine, percentile};

/// The clicks that are kept before the first kill are of this time.
const SPREAD: Duration = Duration::from_secs(3600);

/// What was measured of the lives of a job.
#[derive(Default)]
struct Measured {
    away: Vec<Duration>,
    /// Greatest resident memory of a life between its first new row and its end, as it ran.
    running_kib: Vec<u64>,
    /// Greatest resident memory between a start and the first new row.
    restart_kib: Vec<u64>,
    restores: Vec<Restore>,
    state_rows: f64,
    state_bytes: f64,
    stored_bytes: u64,
    /// Greatest resident memory of the first life, which put nothing back.
    first_kib: u64,
}

/// Measures both workloads.
pub fn recovery(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    println!("recovery: {}", machine());
    println!(
        "| workload | state rows | in memory MB | stored MB | kills | away s p50 | p95 | most | restored M rows/s per core | MiB at most, running | at restart | first life |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    each(scratch, "recovery", |folder, workload| {
        print(workload, &measure(arguments, folder, workload)?);
        Ok(())
    })
}

fn measure(arguments: &Arguments, folder: &Path, workload: Workload) -> anyhow::Result<Measured> {
    let job = Live {
        binary: binary(arguments)?.canonicalize()?,
        folder: folder.canonicalize()?,
        workload,
        processes: usize::from(arguments.processes),
        workers: arguments.workers,
        set: Vec::new(),
    };
    let plan = Plan { workload, keys: arguments.keys_or(&[2_000_000])[0], rate: arguments.rate, spread: SPREAD };
    let mut feeder = Feeder::open(&topics(folder), plan)?;
    feeder.fill()?;
    let mut life = job.start()?;
    life.until_saved()?;
    let feed = feeder.go_on();
    let mut measured = Measured { first_kib: life.memory_kib("VmHWM"), ..Measured::default() };
    life.forget_peak()?;
    for number in 0..=arguments.kills {
        let before = job.written();
        life.until("a row", |_| job.written() > before)?;
        // Any moment between two checkpoints, the same ones at every run.
        std::thread::sleep(Duration::from_millis(1200 + number * 617 % 1000));
        let step = format!("operator=\"{}\"", workload.step());
        measured.state_rows = life.metric("riverrun_operator_state_rows", &step).unwrap_or(measured.state_rows);
        measured.state_bytes = life.metric("riverrun_operator_state_bytes", &step).unwrap_or(measured.state_bytes);
        measured.running_kib.push(life.memory_kib("VmHWM"));
        // The last start put the most back: its life is measured as the others were.
        if number < arguments.kills {
            life = measured.kill(life, &job)?;
        }
    }
    let newest = job.checkpoints("ls", &[])?;
    measured.stored_bytes = newest["checkpoints"][0]["bytes"].as_u64().unwrap_or(0);
    life.kill()?;
    feed.end()?;
    Ok(measured)
}

impl Measured {
    /// Kills the job and starts it again; returns its next life once there is a new row.
    fn kill(&mut self, life: Life, job: &Live) -> anyhow::Result<Life> {
        let begun = now();
        life.kill()?;
        // What was not committed may be cut off first, and is no new row.
        let before = job.written();
        let mut life = job.start()?;
        life.until("the first new row", |_| job.written() > before)?;
        self.away.push(begun.elapsed());
        self.restart_kib.push(life.memory_kib("VmHWM"));
        life.forget_peak()?;
        self.restores.push(life.restored());
        Ok(life)
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
fn now() -> Instant {
    Instant::now()
}

fn print(workload: Workload, measured: &Measured) {
    let seconds = |of_hundred| percentile(&measured.away, of_hundred).unwrap_or_default().as_secs_f64();
    let mib = |kib: Option<u64>| kib.unwrap_or(0) as f64 / 1024.0;
    let greatest = |figures: &[u64]| mib(figures.iter().copied().max());
    let (rows, cpu) = measured
        .restores
        .iter()
        .fold((0, 0.0), |(rows, cpu), restore| (rows + restore.rows, cpu + restore.cpu.as_secs_f64()));
    println!(
        "| {} | {} | {:.0} | {:.0} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} |",
        workload.name(),
        measured.state_rows,
        measured.state_bytes / 1e6,
        measured.stored_bytes as f64 / 1e6,
        measured.away.len(),
        seconds(50),
        seconds(95),
        seconds(100),
        rows as f64 / cpu.max(1e-6) / 1e6,
        greatest(&measured.running_kib),
        greatest(&measured.restart_kib),
        mib(Some(measured.first_kib)),
    );
}
