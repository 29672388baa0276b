//! Rows for live jobs: first as many as the state is to hold, then some every second, in order of their event time.
//!
//! Event time goes on by one second in every `rate` rows, whatever the clock says, so that the rows are the same at every run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use riverrun_connectors::topic::{CreateOptions, NO_TIME, Producer, ProducerOptions, Record, Topic};

/// Of so many rows one is followed by an order.
const ORDERS: u64 = 10;
/// How often rows are written.
const PAUSE: Duration = Duration::from_millis(20);

/// Which job the rows are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Clicks, each of a key of its own, and orders that find one of them.
    W1,
    /// Clicks on items: every item is seen once, then any again and again.
    W4,
}

impl Workload {
    /// Both.
    pub const ALL: [Workload; 2] = [Workload::W1, Workload::W4];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Workload::W1 => "w1",
            Workload::W4 => "w4",
        }
    }

    /// Returns the step that keeps the state.
    pub fn step(self) -> &'static str {
        match self {
            Workload::W1 => "attributed",
            Workload::W4 => "items",
        }
    }
}

/// Measures each workload in a folder of its own, which is removed after.
pub fn each(
    scratch: &Path,
    what: &str,
    mut measure: impl FnMut(&Path, Workload) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for workload in Workload::ALL {
        let folder = scratch.join(format!("{what}-{}", workload.name()));
        std::fs::create_dir_all(&folder)?;
        measure(&folder, workload).with_context(|| format!("{what} of {workload:?}"))?;
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// What is fed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For which job.
    pub workload: Workload,
    /// Keys that the state is to hold.
    pub keys: u64,
    /// Rows a second after that.
    pub rate: u64,
    /// Over which time before the first row a second the event times of the first `keys` rows are spread.
    pub spread: Duration,
}

/// Writes rows to the topics in a folder.
pub struct Feeder {
    plan: Plan,
    clicks: Producer,
    orders: Option<Producer>,
    /// Event time of the first row after the first `keys`, in milliseconds.
    begins_ms: u64,
    /// Rows written.
    rows: u64,
    dice: u64,
}

impl Feeder {
    /// Makes the topics in `folder`. Event time begins now: rows far ahead of the clock would be refused.
    #[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
    pub fn open(folder: &Path, plan: Plan) -> anyhow::Result<Feeder> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let topic = |name: &str| -> anyhow::Result<Producer> {
            let topic = Topic::open_or_create(folder, name, &CreateOptions::default())?;
            let options = ProducerOptions { group_bytes: 8 << 20, group_wait: PAUSE, ..ProducerOptions::default() };
            Ok(Producer::open(&topic, options)?)
        };
        let orders = (plan.workload == Workload::W1).then(|| topic("orders")).transpose()?;
        let begins_ms = u64::try_from(now.as_millis())?;
        Ok(Feeder { plan, clicks: topic("clicks")?, orders, begins_ms, rows: 0, dice: 7 })
    }

    /// Writes the rows that make the state.
    pub fn fill(&mut self) -> anyhow::Result<()> {
        while self.rows < self.plan.keys {
            self.row()?;
        }
        // Without a row in both topics no watermark would move.
        self.order()?;
        self.sync()
    }

    /// Goes on by the rows of every second, on a thread of its own, until the result is dropped.
    pub fn go_on(mut self) -> Feed {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let work = move || -> anyhow::Result<()> {
            let mut due = 0.0;
            let mut last = now();
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(PAUSE);
                let passed = last.elapsed();
                last += passed;
                // A feeder that was held up does not make up for more than a second: no job could.
                due += passed.as_secs_f64().min(1.0) * self.plan.rate as f64;
                while due >= 1.0 {
                    self.row()?;
                    if self.rows.is_multiple_of(ORDERS) {
                        self.order()?;
                    }
                    due -= 1.0;
                }
                self.sync()?;
            }
            Ok(())
        };
        Feed { over, thread: Some(std::thread::spawn(work)) }
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        self.clicks.sync()?;
        self.orders.as_mut().map_or(Ok(()), Producer::sync).context("cannot write orders")
    }

    /// Returns when row `number` happened, in milliseconds.
    fn time(&self, number: u64) -> u64 {
        let Plan { keys, rate, spread, .. } = self.plan;
        match number.checked_sub(keys) {
            Some(later) => self.begins_ms + later * 1000 / rate,
            None => {
                let before = u128::from(keys - number) * spread.as_millis() / u128::from(keys);
                self.begins_ms - u64::try_from(before).expect("a share of the spread")
            }
        }
    }

    fn row(&mut self) -> anyhow::Result<()> {
        let (number, ts) = (self.rows, self.time(self.rows));
        let line = match self.plan.workload {
            Workload::W1 => format!(
                r#"{{"event_id":"c{number:09}","user_id":"{}","item_id":"{}","event_type":"click","ts":{ts}}}"#,
                user(number),
                item(number % 1000)
            ),
            Workload::W4 => {
                let key = if number < self.plan.keys { number } else { self.below(self.plan.keys) };
                let event = if number.is_multiple_of(3) { "click" } else { "impression" };
                format!(r#"{{"item_id":"{}","event_type":"{event}","ts":{ts}}}"#, item(key))
            }
        };
        self.rows += 1;
        append(&mut self.clicks, line.as_bytes())
    }

    /// Writes an order for one of the last keys; none where the job has no orders.
    fn order(&mut self) -> anyhow::Result<()> {
        if self.orders.is_none() {
            return Ok(());
        }
        let last = self.rows.saturating_sub(1);
        let (number, ts) = (last - self.below(self.plan.keys.min(last + 1)), self.time(last));
        let line = format!(
            r#"{{"order_id":"o{:09}","user_id":"{}","item_id":"{}","price":19.90,"ts":{ts}}}"#,
            self.rows,
            user(number),
            item(number % 1000)
        );
        self.orders.as_mut().map_or(Ok(()), |orders| append(orders, line.as_bytes()))
    }

    /// Returns a number below `count`, from a fixed seed (xorshift64*).
    fn below(&mut self, count: u64) -> u64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        let high = u128::from(self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d)) * u128::from(count);
        u64::try_from(high >> 64).expect("it is below `count`")
    }
}

/// Identifiers as shops have them: they do not come in order.
fn user(number: u64) -> String {
    format!("u-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn item(number: u64) -> String {
    format!("item-{number:08}")
}

fn append(producer: &mut Producer, line: &[u8]) -> anyhow::Result<()> {
    producer.append(&Record { timestamp: NO_TIME, key: None, value: line })?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Rows that are being written; they end with it.
pub struct Feed {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Feed {
    /// Fails if writing did.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is joined once");
        thread.join().map_err(|_| anyhow::anyhow!("the feeder panicked"))?
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Returns where the topics of a bench lie.
pub fn topics(folder: &Path) -> PathBuf {
    folder.join("topics")
}
