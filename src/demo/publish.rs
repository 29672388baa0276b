//! The demo's traffic into topics, at the pace at which it would happen.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use riverrun_connectors::topic::{Partitioning, Producer, ProducerOptions, Record};

use super::files::Written;
use super::traffic::{Settings, Stream, Traffic};
use crate::exit::{Exit, Failure};
use crate::signals::{self, Asked};
use crate::topic::{failed, open_or_create};

/// How long the writer rests when it is ahead of the clock.
const REST: Duration = Duration::from_millis(10);

/// When the writing ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Until {
    /// After so many rows.
    pub rows: Option<u64>,
    /// After so long.
    pub span: Option<Duration>,
}

/// Returns the time now, in milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "live traffic happens now; what is written is input, not output")]
pub fn now_ms() -> Result<i64, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.map_err(|_| Failure::new(Exit::Failed, "the clock of this machine stands before 1970"))?;
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Writes traffic to the topics in `dir`, until `until` or a signal: what happened in the last `history` at once, then what happens
/// now, as it happens. `count` is told of the rows written.
#[expect(clippy::disallowed_methods, reason = "the pace of live traffic; what is written is input, not output")]
pub fn publish(
    settings: Settings,
    dir: &Path,
    history: Duration,
    until: Until,
    asked: &Asked,
    count: &Arc<AtomicU64>,
) -> Result<Written, Failure> {
    let mut producers = BTreeMap::new();
    for stream in Stream::ALL {
        let topic = open_or_create(dir, stream.topic(), None)?;
        let options = ProducerOptions {
            partitioning: Partitioning::Key,
            group_bytes: 4 << 20,
            group_wait: REST,
            holder: "riverrun demo".to_owned(),
        };
        producers.insert(stream, Producer::open(&topic, options).map_err(failed)?);
    }
    let now_ms = now_ms()?;
    let start_ms = now_ms - i64::try_from(history.as_millis()).unwrap_or(0);
    let began = Instant::now();
    let mut written = Written::default();
    for arrival in Traffic::new(Settings { start_ms, ..settings }) {
        let due = Duration::from_millis(u64::try_from(arrival.at_ms - now_ms).unwrap_or(0));
        while began.elapsed() < due && !signals::asked(asked) && until.span.is_none_or(|span| began.elapsed() < span) {
            for producer in producers.values_mut() {
                producer.sync().map_err(failed)?;
            }
            thread::sleep(REST.min(due.saturating_sub(began.elapsed())));
        }
        let is_over = until.rows.is_some_and(|rows| written.rows >= rows)
            || until.span.is_some_and(|span| began.elapsed() >= span)
            || signals::asked(asked);
        if is_over {
            break;
        }
        let key = format!("u{}", arrival.user);
        let record = Record { timestamp: arrival.at_ms * 1000, key: Some(key.as_bytes()), value: &arrival.line };
        let producer = producers.get_mut(&arrival.stream).expect("there is one for each stream");
        producer.append(&record).map_err(failed)?;
        written.count(arrival.stream, arrival.kind);
        count.store(written.rows, Ordering::Relaxed);
    }
    for producer in producers.values_mut() {
        producer.sync().map_err(failed)?;
    }
    Ok(written)
}
