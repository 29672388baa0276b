//! The demo's traffic as files: for scripts, benchmarks and anyone who wants rows to play with.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::traffic::{Kind, Stream, Traffic};
use crate::exit::{Exit, Failure, OrExit};
use crate::signals::{self, Asked};

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Rows of all kinds.
    pub rows: u64,
    /// Impressions and clicks, whole and broken.
    pub clicks: u64,
    /// Orders, whole and broken.
    pub orders: u64,
    /// Rows later than the disorder allows.
    pub late: u64,
    /// Rows written before.
    pub duplicate: u64,
    /// Rows that are none.
    pub broken: u64,
}

impl Written {
    /// Counts a row.
    pub fn count(&mut self, stream: Stream, kind: Kind) {
        self.rows += 1;
        match stream {
            Stream::Clicks => self.clicks += 1,
            Stream::Orders => self.orders += 1,
        }
        match kind {
            Kind::Good => {}
            Kind::Late => self.late += 1,
            Kind::Duplicate => self.duplicate += 1,
            Kind::Broken => self.broken += 1,
        }
    }
}

/// Writes `rows` rows to `clicks.jsonl` and `orders.jsonl` in `folder`, in the order in which they arrive.
pub fn write(traffic: Traffic, rows: u64, folder: &Path, stop: &Asked) -> Result<Written, Failure> {
    fs::create_dir_all(folder).or_exit(Exit::Storage, || format!("cannot make the folder `{}`", folder.display()))?;
    let create = |name: &str| {
        let path = folder.join(name);
        let file = File::create(&path).or_exit(Exit::Storage, || format!("cannot write `{}`", path.display()))?;
        Ok(BufWriter::with_capacity(1 << 20, file))
    };
    let mut clicks = create("clicks.jsonl")?;
    let mut orders = create("orders.jsonl")?;
    let cannot = || format!("cannot write to `{}`", folder.display());
    let mut written = Written::default();
    let count = usize::try_from(rows).unwrap_or(usize::MAX);
    for arrival in traffic.take(count).take_while(|_| !signals::asked(stop)) {
        let file = match arrival.stream {
            Stream::Clicks => &mut clicks,
            Stream::Orders => &mut orders,
        };
        file.write_all(&arrival.line).and_then(|()| file.write_all(b"\n")).or_exit(Exit::Storage, cannot)?;
        written.count(arrival.stream, arrival.kind);
    }
    clicks.flush().and_then(|()| orders.flush()).or_exit(Exit::Storage, cannot)?;
    Ok(written)
}
