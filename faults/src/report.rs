//! What a row of the matrix came to, as a table for people and as lines of JSON.

use std::time::Duration;

use serde_json::json;

/// The result of one row of the matrix.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The row.
    pub row: &'static str,
    /// What was counted towards the row's number: kills, chains, rounds.
    pub runs: u64,
    /// Faults that really hit a running job.
    pub faults: u64,
    /// Starts of the job.
    pub restarts: u64,
    /// From a fault to the first row committed after it.
    pub recoveries: Vec<Duration>,
    /// Rows of output that were compared.
    pub rows: u64,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// Why it failed; none if it passed.
    pub failed: Option<String>,
    /// What the row needs and this machine does not have; it was left out.
    pub left_out: Option<String>,
}

impl Report {
    /// Returns the report of a row to which nothing has happened yet.
    pub fn of(row: &'static str) -> Report {
        Report { row, ..Report::default() }
    }

    /// Adds what happened to another part of the same row.
    pub fn add(&mut self, other: Report) {
        self.runs += other.runs;
        self.faults += other.faults;
        self.restarts += other.restarts;
        self.recoveries.extend(other.recoveries);
        self.rows += other.rows;
        self.notes.extend(other.notes);
    }

    /// Returns recovery at this share of all cases, in seconds.
    fn recovery(&self, share: f64) -> Option<f64> {
        at_share(&self.recoveries, share)
    }

    fn verdict(&self) -> &'static str {
        match (&self.failed, &self.left_out) {
            (Some(_), _) => "FAILED",
            (None, Some(_)) => "left out",
            (None, None) => "passed",
        }
    }

    /// Returns the report as a line of JSON.
    pub fn json(&self) -> String {
        json!({
            "row": self.row,
            "verdict": self.verdict(),
            "runs": self.runs,
            "faults": self.faults,
            "restarts": self.restarts,
            "recovery_seconds": {
                "samples": self.recoveries.len(),
                "p50": self.recovery(0.5),
                "p95": self.recovery(0.95),
                "max": self.recovery(1.0),
            },
            "rows_checked": self.rows,
            "seconds": self.took.as_secs_f64(),
            "notes": self.notes,
            "failed": self.failed,
            "left_out": self.left_out,
        })
        .to_string()
    }
}

/// Returns the time at this share of all cases, in seconds.
fn at_share(times: &[Duration], share: f64) -> Option<f64> {
    let mut all = times.to_vec();
    all.sort();
    let at = ((all.len() as f64 * share).ceil() as usize).saturating_sub(1);
    all.get(at).map(Duration::as_secs_f64)
}

/// Returns how times are spread, in words.
pub fn spread(times: &[Duration]) -> String {
    let [half, most, worst] = [0.5, 0.95, 1.0].map(|share| at_share(times, share).unwrap_or_default());
    format!("{} times, median {half:.2} s, p95 {most:.2} s, worst {worst:.2} s", times.len())
}

/// Returns all reports as a table.
pub fn table(reports: &[Report]) -> String {
    let head = ["row", "runs", "faults", "starts", "p50 s", "p95 s", "max s", "rows checked", "took s", "verdict"];
    let mut rows = vec![head.map(str::to_owned)];
    for report in reports {
        let seconds = |share| report.recovery(share).map_or("-".to_owned(), |seconds| format!("{seconds:.3}"));
        rows.push([
            report.row.to_owned(),
            report.runs.to_string(),
            report.faults.to_string(),
            report.restarts.to_string(),
            seconds(0.5),
            seconds(0.95),
            seconds(1.0),
            report.rows.to_string(),
            format!("{:.1}", report.took.as_secs_f64()),
            report.verdict().to_owned(),
        ]);
    }
    let widths: Vec<usize> =
        (0..head.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    for report in reports {
        let left_out = report.left_out.iter().map(|why| format!("left out: {why}"));
        for note in report.notes.iter().cloned().chain(left_out).chain(report.failed.clone()) {
            text.push_str(&format!("{}: {note}\n", report.row));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_read_off_the_sorted_cases() {
        let recoveries = (1..=100).rev().map(Duration::from_secs).collect();
        let report = Report { recoveries, ..Report::of("P1") };
        assert_eq!(report.recovery(0.5), Some(50.0));
        assert_eq!(report.recovery(0.95), Some(95.0));
        assert_eq!(report.recovery(1.0), Some(100.0));
        assert_eq!(Report::of("P1").recovery(0.5), None);
    }

    #[test]
    fn a_failure_is_in_table_and_line() {
        let report = Report { failed: Some("lost".to_owned()), ..Report::of("P1") };
        assert!(report.json().contains("\"verdict\":\"FAILED\""));
        assert!(table(&[report]).contains("P1: lost"));
    }
}
