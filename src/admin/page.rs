//! A page of metrics in the text format of Prometheus.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Series, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use riverrun_dataflow::engine::Durations;

use super::catalogue::{ALL, Kind, Metric};

/// Metrics with their values, to be written out.
pub struct Page {
    job: String,
    series: BTreeMap<&'static str, Vec<Series>>,
}

impl Page {
    /// Returns an empty page about a job.
    pub fn new(job: &str) -> Page {
        Page { job: job.to_owned(), series: BTreeMap::new() }
    }

    /// Adds a series of a counter or a gauge. `labels` are the values, in the order of the metric's labels.
    pub fn put(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        let mut series = Series::from_label(self.labels(metric, labels));
        match metric.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                series.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                series.set_gauge(gauge);
            }
            Kind::Histogram => unreachable!("histograms are put by `durations`"),
        }
        self.series.entry(metric.name).or_default().push(series);
    }

    /// Adds a series of a histogram.
    pub fn durations(&mut self, metric: &Metric, labels: &[&str], durations: &Durations) {
        let bucket = |(bound, count): &(f64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(durations.buckets.iter().map(bucket).collect());
        histogram.set_sample_count(durations.count);
        histogram.set_sample_sum(durations.seconds);
        let mut series = Series::from_label(self.labels(metric, labels));
        series.set_histogram(histogram);
        self.series.entry(metric.name).or_default().push(series);
    }

    fn labels(&self, metric: &Metric, values: &[&str]) -> Vec<LabelPair> {
        assert_eq!(metric.labels.len(), values.len(), "{}: a value for every label", metric.name);
        let pair = |(name, value): (&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let job = metric.names_job().then_some(("job_name", self.job.as_str()));
        job.into_iter().chain(metric.labels.iter().copied().zip(values.iter().copied())).map(pair).collect()
    }

    /// Returns the page as text, in the order of the catalogue.
    pub fn text(mut self) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = Vec::new();
        for metric in ALL {
            let Some(series) = self.series.remove(metric.name) else { continue };
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(series);
            families.push(family);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue as metrics;
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::new("j");
        page.put(&metrics::JOB_TICK, &[], 7.0);
        page.put(&metrics::TAKEN, &["a\"b", "step"], 3.0);
        let durations = Durations { buckets: vec![(0.5, 1), (1.0, 2)], count: 3, seconds: 4.5 };
        page.durations(&metrics::LATENCY, &["out"], &durations);
        let text = String::from_utf8(page.text().unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let want = [
            "riverrun_job_tick{job_name=\"j\"} 7",
            "riverrun_operator_taken_records_total{job_name=\"j\",operator=\"a\\\"b\",operator_kind=\"step\"} 3",
            "riverrun_end_to_end_latency_seconds_bucket{job_name=\"j\",sink=\"out\",le=\"0.5\"} 1",
            "riverrun_end_to_end_latency_seconds_bucket{job_name=\"j\",sink=\"out\",le=\"1\"} 2",
            "riverrun_end_to_end_latency_seconds_bucket{job_name=\"j\",sink=\"out\",le=\"+Inf\"} 3",
            "riverrun_end_to_end_latency_seconds_sum{job_name=\"j\",sink=\"out\"} 4.5",
            "riverrun_end_to_end_latency_seconds_count{job_name=\"j\",sink=\"out\"} 3",
        ];
        assert_eq!(lines, want);
    }
}
