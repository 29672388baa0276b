//! The job under test: each order with a click before it, counts per item, the visits of each user, what is late and what is
//! bad. Sinks of both kinds.

/// How long before an order a click may be, in milliseconds.
pub const CREDIT_MS: i64 = 5_000;
/// The width of the windows, in milliseconds.
pub const WINDOW_MS: i64 = 1_000;
/// The longest silence inside a visit, in milliseconds.
pub const GAP_MS: i64 = 400;
/// The longest time from the first to the last click of a visit, in milliseconds.
pub const VISIT_MS: i64 = 2_000;
/// Partitions of the topic of counts.
pub const COUNTS_LANES: u32 = 3;
/// Partitions of the topic of visits.
pub const VISITS_LANES: u32 = 2;
/// Partitions of the topic of attributed orders, where they go to one.
pub const OUT_LANES: u32 = 3;
/// Partitions of the topics that are read.
pub const PARTITIONS: u32 = 4;
/// The folder of the topics.
pub const TOPICS: &str = "topics";
/// The job's name.
pub const NAME: &str = "faulted";

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Files; the job ends with them.
    Files,
    /// Topics, up to where they end when the job begins.
    Ended,
    /// Topics that are written meanwhile.
    Live,
}

/// How often a job does what can be interrupted.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// `commit.every`.
    pub commit_ms: u64,
    /// `checkpoint.every`.
    pub checkpoint_ms: u64,
    /// `tick.max_rows`.
    pub tick_rows: u64,
}

/// As the fault matrix has it.
pub const STEADY: Pace = Pace { commit_ms: 100, checkpoint_ms: 500, tick_rows: 200 };
/// As often as can be, for runs of few rows.
pub const BUSY: Pace = Pace { commit_ms: 10, checkpoint_ms: 50, tick_rows: 100 };

/// Returns the job file.
pub fn file(input: Input, pace: Pace) -> String {
    let source = |name: &str| match input {
        Input::Files => format!("file: {{ path: \"in/{name}-*.jsonl\" }}"),
        Input::Ended | Input::Live => format!("topic: {name}"),
    };
    let head = head(NAME, &source("clicks"), &source("orders"));
    let foot = foot(pace);
    format!(
        r#"{head}
sinks:
  out: {{ from: attributed, file: {{ path: out.jsonl }}, format: json, timestamps: epoch_ms }}
  counted: {{ from: counts, topic: counts, partitions: {COUNTS_LANES}, format: json, timestamps: epoch_ms }}
  visits: {{ from: visits, topic: visits, partitions: {VISITS_LANES}, format: json, timestamps: epoch_ms }}
  late_orders: {{ from: attributed.late, topic: late, partitions: 1, format: json, timestamps: epoch_ms }}
  late_clicks: {{ from: counts.late, file: {{ path: late.jsonl }}, format: json, timestamps: epoch_ms }}
  bad: {{ from: clicks.bad, topic: bad, partitions: 1, format: json, timestamps: epoch_ms }}
{foot}"#
    )
}

/// Topics of a cluster between which a job runs.
#[derive(Clone, Debug)]
pub struct Between {
    /// The job's name.
    pub job: String,
    /// What the topics that it reads begin with.
    pub from: String,
    /// What the topics that it writes begin with.
    pub to: String,
}

/// Returns the job file of the same job with all its sinks on topics.
pub fn on_topics(between: &Between, pace: Pace) -> String {
    let Between { job, from, to } = between;
    let head = head(job, &format!("topic: {from}.clicks"), &format!("topic: {from}.orders"));
    let foot = foot(pace);
    format!(
        r#"{head}
sinks:
  out: {{ from: attributed, topic: {to}.out, key: [user_id], partitions: {OUT_LANES}, format: json, timestamps: epoch_ms }}
  counted: {{ from: counts, topic: {to}.counts, key: [item_id], partitions: {COUNTS_LANES}, format: json, timestamps: epoch_ms }}
  visits: {{ from: visits, topic: {to}.visits, key: [user_id], partitions: {VISITS_LANES}, format: json, timestamps: epoch_ms }}
  late_orders: {{ from: attributed.late, topic: {to}.late, partitions: 1, format: json, timestamps: epoch_ms }}
  late_clicks: {{ from: counts.late, topic: {to}.late-clicks, partitions: 1, format: json, timestamps: epoch_ms }}
  bad: {{ from: clicks.bad, topic: {to}.bad, partitions: 1, format: json, timestamps: epoch_ms }}
{foot}"#
    )
}

/// Name, sources and steps.
fn head(job: &str, clicks: &str, orders: &str) -> String {
    let (credit, window, gap, longest) = (CREDIT_MS, WINDOW_MS, GAP_MS, VISIT_MS);
    format!(
        r#"job: {job}
sources:
  clicks:
    {clicks}
    format: json
    schema: {{ event_id: string, user_id: string, item_id: string, event_type: string, ts: timestamp_ms }}
    event_time: ts
    id: event_id
    max_disorder: 200ms
    max_future: 12h
    idle_after: 1h
  orders:
    {orders}
    format: json
    schema: {{ order_id: string, user_id: string, item_id: string, price: "decimal(12,2)", ts: timestamp_ms }}
    event_time: ts
    id: order_id
    max_disorder: 200ms
    max_future: 12h
    idle_after: 1h
steps:
  item_clicks:
    select: {{ from: clicks, where: "event_type = 'click'", columns: [event_id, user_id, item_id, ts] }}
  attributed:
    attribute: {{ conversions: orders, touches: item_clicks, by: [user_id, item_id], window: {credit}ms, model: last_touch }}
  counts:
    window:
      from: clicks
      tumble: {window}ms
      by: [item_id]
      aggregates:
        impressions: "count(*) filter (where event_type = 'impression')"
        clicks: "count(*) filter (where event_type = 'click')"
  once: {{ deduplicate: {{ from: clicks, by: [event_id], within: 10s }} }}
  visits:
    sessionize:
      from: once
      by: [user_id]
      gap: {gap}ms
      max_duration: {longest}ms
      lateness: 100ms
      extend_when: "event_type = 'click'"
      aggregates: {{ events: "count(*)", items: "count(distinct item_id)", landing: "first(item_id)" }}"#
    )
}

/// How often it does what can be interrupted.
fn foot(pace: Pace) -> String {
    let Pace { commit_ms, checkpoint_ms, tick_rows } = pace;
    format!(
        "commit: {{ every: {commit_ms}ms }}\ncheckpoint: {{ every: {checkpoint_ms}ms }}\ntick: {{ max_rows: {tick_rows} }}\n"
    )
}
