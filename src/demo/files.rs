//! The demo's traffic as files: for scripts, benchmarks and anyone who wants rows to play with.

use std::collections::BTreeMap;
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
    /// Rows of the shop, whole and broken: those that were asked for.
    pub rows: u64,
    /// Impressions and clicks, whole and broken.
    pub clicks: u64,
    /// Orders, whole and broken.
    pub orders: u64,
    /// Refunds and cancellations, besides.
    pub corrections: u64,
    /// What visitors did on the pages, besides.
    pub events: u64,
    /// Assignments to variants, besides.
    pub assignments: u64,
    /// What people did with the product, besides.
    pub telemetry: u64,
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
        self.rows += u64::from(stream.is_shop());
        *match stream {
            Stream::Clicks => &mut self.clicks,
            Stream::Orders => &mut self.orders,
            Stream::Corrections => &mut self.corrections,
            Stream::Events => &mut self.events,
            Stream::Assignments => &mut self.assignments,
            Stream::Telemetry => &mut self.telemetry,
        } += 1;
        match kind {
            Kind::Good => {}
            Kind::Late => self.late += 1,
            Kind::Duplicate => self.duplicate += 1,
            Kind::Broken => self.broken += 1,
        }
    }
}

/// Writes `rows` rows of the shop to files in `folder`, one for each stream, in the order in which they arrive, and what is around
/// the shop as long as that lasts.
pub fn write(traffic: Traffic, rows: u64, folder: &Path, stop: &Asked) -> Result<Written, Failure> {
    fs::create_dir_all(folder).or_exit(Exit::Storage, || format!("cannot make the folder `{}`", folder.display()))?;
    let create = |stream: Stream| {
        let path = folder.join(stream.file());
        let file = File::create(&path).or_exit(Exit::Storage, || format!("cannot write `{}`", path.display()))?;
        Ok((stream, BufWriter::with_capacity(1 << 20, file)))
    };
    let files: Result<BTreeMap<_, _>, Failure> = Stream::ALL.into_iter().map(create).collect();
    let mut files = files?;
    let cannot = || format!("cannot write to `{}`", folder.display());
    let mut written = Written::default();
    for arrival in traffic.take_while(|_| !signals::asked(stop)) {
        if written.rows == rows {
            break;
        }
        let file = files.get_mut(&arrival.stream).expect("there is one for each stream");
        file.write_all(&arrival.line).and_then(|()| file.write_all(b"\n")).or_exit(Exit::Storage, cannot)?;
        written.count(arrival.stream, arrival.kind);
    }
    for file in files.values_mut() {
        file.flush().or_exit(Exit::Storage, cannot)?;
    }
    Ok(written)
}
