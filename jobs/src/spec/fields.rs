//! Every key of the job file, once: its name, the kind of its value, its default, and what it means.
//!
//! The reader ([`super::reader`]), the JSON Schema ([`crate::schema`]) and the reference page ([`crate::reference`]) all
//! follow this table.

use super::attribution::ATTRIBUTE;
use super::behaviour::{FRUSTRATION, INCIDENTS, PROBLEMS, SCROLL_BASELINE, SESSIONIZE};
use super::funnel::FUNNEL;
use super::lake::LAKE;

/// A map with fixed keys.
#[derive(Debug)]
pub struct Section {
    /// What it describes, for messages: "a source".
    pub what: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Its keys.
    pub fields: &'static [Field],
    /// Groups of keys of which exactly one must be given.
    pub one_of: &'static [Group],
}

/// Keys of which exactly one must be given.
#[derive(Debug)]
pub struct Group {
    /// The group's name in [`Field::group`].
    pub name: &'static str,
    /// What the key says, for messages.
    pub says: &'static str,
}

/// A key.
#[derive(Debug)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// What it means.
    pub doc: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// Its value where it is not given, as it would be written.
    pub default: Option<&'static str>,
    /// The group it belongs to; "" for none.
    pub group: &'static str,
    /// Known, but not in this version.
    pub later: bool,
}

/// The kind of a value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Free text.
    Text,
    /// Text for a connector, in which `${env:NAME}` and `${file:PATH}` stand for what they name.
    Outside,
    /// The name of the job.
    JobName,
    /// The name of a topic.
    Topic,
    /// A source, a step, or one of their side outputs.
    Stream,
    /// Several of them.
    Streams,
    /// A column.
    Column,
    /// Several columns.
    Columns,
    /// An SQL expression.
    Sql,
    /// Several texts.
    Texts,
    /// Names of headers and the columns that they are made of.
    Headers,
    /// Anything: whoever uses the key reads it.
    Anything,
    /// Columns and `"expression as name"`.
    SqlList,
    /// Names and the aggregates they stand for.
    SqlMap,
    /// Names and the SQL conditions they stand for, in an order that counts.
    Conditions,
    /// Names of columns and their types, or the name of a schema.
    Schema,
    /// A duration such as `5s`, between these bounds.
    Duration(&'static str, &'static str),
    /// A size such as `64MiB`, between these bounds.
    Bytes(&'static str, &'static str),
    /// A whole number between these bounds.
    Number(u64, u64),
    /// `true` or `false`.
    Flag,
    /// One character.
    Char,
    /// A date or a time with its zone.
    Time,
    /// One of these words.
    Choice(&'static [Choice]),
    /// Several of these words.
    Words(&'static [&'static str]),
    /// Several words with meanings, each one of these.
    Choices(&'static [Choice]),
    /// One of these words, which explain themselves.
    Word(&'static [&'static str]),
    /// Several of these words.
    /// A number of milliseconds, or `<` and one.
    Limit,
    /// A map with fixed keys.
    Section(&'static Section),
    /// Any number of names, each with such a map.
    Each(&'static Section),
}

/// A word that can stand as a value.
#[derive(Debug)]
pub struct Choice {
    /// The word.
    pub word: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Known, but not in this version.
    pub later: bool,
}

pub(crate) const fn field(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, doc, required: false, default: None, group: "", later: false }
}

const fn later(name: &'static str, group: &'static str, doc: &'static str) -> Field {
    Field { name, kind: Kind::Text, doc, required: false, default: None, group, later: true }
}

pub(super) const fn choice(word: &'static str, doc: &'static str) -> Choice {
    Choice { word, doc, later: false }
}

pub(super) const fn later_choice(word: &'static str) -> Choice {
    Choice { word, doc: "", later: true }
}

impl Field {
    pub(crate) const fn required(mut self) -> Field {
        self.required = true;
        self
    }

    pub(super) const fn default(mut self, default: &'static str) -> Field {
        self.default = Some(default);
        self
    }

    pub(super) const fn of(mut self, group: &'static str) -> Field {
        self.group = group;
        self
    }
}

impl Section {
    /// Returns the key `name`.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns the keys of `group`.
    pub fn group(&self, group: &str) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().filter(move |field| field.group == group)
    }
}

/// The group of keys that say where rows come from or go to.
pub const CONNECTOR: &str = "connector";
/// The group of keys that say what a step does.
pub const OPERATOR: &str = "operator";
/// The group of keys that say which windows there are.
pub const SPANS: &str = "spans";

/// The longest duration that can be written.
pub(super) const LONG: &str = "36500d";

/// The whole job file.
pub static JOB: Section = Section {
    what: "the job",
    doc: "A job file is one YAML map. It reads from top to bottom as rows flow.",
    one_of: &[],
    fields: &[
        field(
            "job",
            Kind::JobName,
            "The job's name: lower case letters, digits and `-`, at most 63. State, metrics and logs carry it.",
        )
        .required(),
        field("description", Kind::Text, "What the job is for, in a sentence."),
        field("sources", Kind::Each(&SOURCE), "Where rows come from, by name.").required(),
        field(
            "steps",
            Kind::Each(&STEP),
            "What happens to rows, by name. A step may read any other, as long as there is no circle; the order in the file does not matter.",
        ),
        field("sinks", Kind::Each(&SINK), "Where rows go, by name.").required(),
        field("checkpoint", Kind::Section(&CHECKPOINT), "When state is written down."),
        field("commit", Kind::Section(&COMMIT), "When output becomes visible."),
        field("tick", Kind::Section(&TICK), "How input is cut into ticks."),
        field(
            "align",
            Kind::Duration("1ms", LONG),
            "How far a split's event time may run ahead of the slowest one before it waits.",
        )
        .default("1m"),
        field(
            "shards",
            Kind::Number(1, 4096),
            "Into how many shards keys are divided; fixed when the job is created, and an upper bound on workers.",
        )
        .default("128"),
        field("journal", Kind::Section(&JOURNAL), "How much of the recorded past is kept."),
    ],
};

static CHECKPOINT: Section = Section {
    what: "`checkpoint`",
    doc: "When state is written down.",
    one_of: &[],
    fields: &[field(
        "every",
        Kind::Duration("10ms", "1d"),
        "The least time between two checkpoints; the next also waits for 20 times the CPU time of the last one's pause.",
    )
    .default("10s")],
};

static COMMIT: Section = Section {
    what: "`commit`",
    doc: "When output becomes visible.",
    one_of: &[],
    fields: &[field("every", Kind::Duration("10ms", "1h"), "The time between two commits of a sink.").default("1s")],
};

static TICK: Section = Section {
    what: "`tick`",
    doc: "How input is cut into ticks. On bounded input the cut follows from `max_rows` and `max_bytes` alone.",
    one_of: &[],
    fields: &[
        field("interval", Kind::Duration("1ms", "1m"), "The time after which a tick of live input is closed.")
            .default("20ms"),
        field("max_rows", Kind::Number(1, 1 << 32), "Records in a tick, over all sources.").default("65536"),
        field("max_bytes", Kind::Bytes("1KiB", "1TiB"), "Bytes of raw records in a tick, over all sources.")
            .default("64MiB"),
        field(
            "in_flight",
            Kind::Number(1, 64),
            "Ticks that may be incomplete at once: the bound on how much is read ahead.",
        )
        .default("4"),
    ],
};

static JOURNAL: Section = Section {
    what: "`journal`",
    doc: "How much of the recorded past is kept.",
    one_of: &[],
    fields: &[field(
        "keep",
        Kind::Choice(&[
            choice("needed", "what recovery needs: the checkpoints of the last hour, at least three, and the ticks after the oldest of them"),
            choice("all", "the whole journal, back to the start; checkpoints as with `needed`"),
        ]),
        "What of the journal and the checkpoints is kept.",
    )
    .default("needed")],
};

const LATER_CONNECTORS_KAFKA: &str = "An explicit Kafka cluster.";

/// A source.
pub static SOURCE: Section = Section {
    what: "a source",
    doc: "A source names one connector, says how its records are written, and which columns they have.",
    one_of: &[Group { name: CONNECTOR, says: "where rows come from" }],
    fields: &[
        field("topic", Kind::Topic, "A topic of the deployment's log. Where topics live is given by `--topics`, not by the job.").of(CONNECTOR),
        field("file", Kind::Section(&FILE_SOURCE), "A fixed set of files.").of(CONNECTOR),
        later("kafka", CONNECTOR, LATER_CONNECTORS_KAFKA),
        later("http", CONNECTOR, "Rows posted over HTTP."),
        later("postgres", CONNECTOR, "A Postgres table."),
        later("mysql", CONNECTOR, "A MySQL table."),
        later("s3", CONNECTOR, "Objects in a bucket."),
        later("nats", CONNECTOR, "A NATS stream."),
        later("websocket", CONNECTOR, "A web socket."),
        field("format", Kind::Choice(&[
            choice("json", "one JSON object per record"),
            choice("csv", "comma-separated values"),
            choice("parquet", "Parquet files"),
            choice("avro", "one Avro datum per record, with the number of its schema in a registry before it, or by `schema_file`"),
            choice("protobuf", "one Protobuf message per record, with the number of its schema in a registry before it, or by `schema_file`"),
        ]), "How records are written.").default("json"),
        field("framing", Kind::Choice(&[
            choice("none", "nothing stands before the JSON"),
            choice("registry", "a zero byte and the number of a registered schema may stand before the JSON, as Confluent's serializer of JSON Schema writes them; the number is passed over"),
        ]), "topic, json: what stands before a record.").default("none"),
        field("schema_file", Kind::Text, "avro, protobuf: the file of the schema with which all records were written, relative to the working directory: `.avsc`; `.proto`, or a set of descriptors as `protoc -o` writes it. Without it each record names its schema by the number that it has in the registry, `--schema-registry`."),
        field("message", Kind::Text, "protobuf: the message that records are, such as `shop.Order`. Without it, what the record says, or the only one in the file."),
        field("schema", Kind::Schema, "The columns: `name: type`, or `name: { path: a.b, type: string }` for a nested or renamed one; of a topic also `name: { meta: key, type: string }` (`key`, `timestamp`, `partition`, `offset`; `headers`, all of them, as `json` or a list; `value`, the whole value as it came; `key_base64`, `value_base64`, those that are no text) and `name: { header: trace, type: string }`, which are around the value. A trailing `!` makes a column required. Or the name of a schema: `\"@behaviour-event\"`, which says what `event_time` and `id` are, too; with columns beside its own, `[\"@behaviour-event\", { shop: string }]`.").required(),
        field("event_time", Kind::Column, "The timestamp column that says when the thing happened. A row without it is bad."),
        field("clocks", Kind::Section(&CLOCKS), "How event time is found in a record that has none."),
        field("id", Kind::Column, "The string or int64 column that names a row: it breaks ties and is the key of deduplication."),
        field("max_disorder", Kind::Duration("0s", LONG), "How late a row may be behind the greatest event time seen: the watermark is that time minus this.").default("0s"),
        field("max_future", Kind::Duration("0s", LONG), "On live input, rows further ahead of the clock than this are bad and never move the watermark.").default("1h"),
        field("idle_after", Kind::Duration("10ms", LONG), "A live split that was empty for so long no longer holds back the watermark.").default("30s"),
        field("event_time_range", Kind::Section(&TIMES), "Event times that are believed; a row outside is bad."),
        field("on_bad_row", Kind::Choice(&[
            choice("divert", "it goes to `<source>.bad`; where nothing reads that, it is counted and sampled into the log"),
            choice("drop", "it is counted"),
            choice("stop", "it stops the job"),
        ]), "What happens to a row that cannot be used.").default("divert"),
        field("start", Kind::Text, "topic: where a new job begins: `earliest`, `latest`, a time such as `2026-01-31T12:00:00Z` (the first record of each partition with that timestamp or a later one), or offsets by partition such as `\"0:1200,1:1187\"`. A job that has state goes on where it was.").default("earliest"),
        field("on_lost", Kind::Choice(&[
            choice("stop", "the job stops and says which offsets are gone"),
            choice("skip", "it goes on with the first record that there is, and says how many offsets it skipped"),
        ]), "topic: what happens when Kafka deleted records before the job read them.").default("stop"),
        field("on_missing", Kind::Choice(&[
            choice("stop", "the job stops and says so"),
            choice("end", "the partition ends there; a job whose partitions have all ended is finished"),
        ]), "topic: what happens when Kafka deletes a partition, or the topic, while the job reads it.").default("stop"),
        field("allow_compacted", Kind::Flag, "topic: a topic is read that Kafka compacts. What a restart must read again may have been deleted by then; the job stops if it was.").default("false"),
        field("mirror_offsets", Kind::Flag, "topic: the offsets up to which checkpoints go are told to the group `riverrun.<job>`, for tools that show how far consumers are. The job never reads them.").default("true"),
        field("tombstones", Kind::Choice(&[
            choice("bad", "they are bad rows: there is nothing in them that could be decoded"),
            choice("drop", "they are left out, and counted as filtered"),
        ]), "topic: what becomes of records without a value, which say that their key is gone; in embedded topics: of empty ones.").default("bad"),
        field("discover_every", Kind::Duration("1s", LONG), "topic: how often Kafka is asked for new partitions. They are read from their first record on.").default("30s"),
        field("header", Kind::Flag, "csv: the first record of a file names its columns; otherwise they follow the order of `schema`.").default("true"),
        field("delimiter", Kind::Char, "csv: what stands between two fields.").default(","),
        field("null", Kind::Text, "csv: an unquoted field with this text is null.").default(""),
    ],
};

static CLOCKS: Section = Section {
    what: "`clocks`",
    doc: "Event time of records that carry what clocks said instead of an event time: `received - (sent - client)`, for a client's clock is wrong, but not the time between two of its readings; without `sent`, the client's own time; without `client`, when it was received. A record that has an event time keeps it. Columns are timestamps of the schema. A source with the schema `\"@behaviour-event\"` has these clocks; any other one has them if `clocks` is written, be it `clocks: {}`.",
    one_of: &[],
    fields: &[
        field("client", Kind::Column, "The column of the client's clock when it happened.").default("client_time"),
        field("sent", Kind::Column, "The column of the client's clock when it was sent; unless it is written, `sent_at` if there is such a column.").default("sent_at"),
        field("received", Kind::Column, "The column of the clock of who received it; never the client's.").default("received_at"),
        field("flag", Kind::Column, "A bool column that is made true in a row whose client's clock was too far ahead; unless it is written, `clock_future` if there is such a column.").default("clock_future"),
        field("max_ahead", Kind::Duration("0s", LONG), "A row that would lie further ahead of its receipt is taken to have happened when it was received.").default("5m"),
        field("max_past", Kind::Duration("0s", LONG), "A row that would lie further back from its receipt is bad (`too_old`).").default("72h"),
    ],
};

static FILE_SOURCE: Section = Section {
    what: "a file source",
    doc: "A fixed set of files; each is a split. `.gz` and `.zst` are unpacked.",
    one_of: &[],
    fields: &[field(
        "path",
        Kind::Outside,
        "A path or a glob such as `in/*.jsonl`, relative to the working directory.",
    )
    .required()],
};

static TIMES: Section = Section {
    what: "`event_time_range`",
    doc: "Event times that are believed, both ends included.",
    one_of: &[],
    fields: &[
        field("from", Kind::Time, "The earliest.").default("1970-01-01"),
        field("to", Kind::Time, "The latest.").default("2100-01-01"),
    ],
};

/// A step.
pub static STEP: Section = Section {
    what: "a step",
    doc: "A step names one operator, with its options under it.",
    one_of: &[Group { name: OPERATOR, says: "what the step does" }],
    fields: &[
        field("select", Kind::Section(&SELECT), "Keeps some rows and computes columns.").of(OPERATOR),
        field("union", Kind::Section(&UNION), "Makes one stream of several with the same columns.").of(OPERATOR),
        field("window", Kind::Section(&WINDOW), "Aggregates rows by key in windows of event time.").of(OPERATOR),
        field("attribute", Kind::Section(&ATTRIBUTE), "Credits each conversion to a touch before it.").of(OPERATOR),
        field("deduplicate", Kind::Section(&DEDUPLICATE), "Lets the first row of a key through.").of(OPERATOR),
        field("join", Kind::Section(&JOIN), "Pairs the rows of two streams that lie close together in time.")
            .of(OPERATOR),
        field("sessionize", Kind::Section(&SESSIONIZE), "Groups the rows of a key into sessions.").of(OPERATOR),
        field(
            "frustration",
            Kind::Section(&FRUSTRATION),
            "Finds in behaviour events the signs of people who do not get on.",
        )
        .of(OPERATOR),
        field(
            "incidents",
            Kind::Section(&INCIDENTS),
            "Makes of the signals of each session one incident with a severity.",
        )
        .of(OPERATOR),
        field(
            "problems",
            Kind::Section(&PROBLEMS),
            "Gathers incidents that are alike, over sessions, and says which deserve a ticket.",
        )
        .of(OPERATOR),
        field(
            "scroll_baseline",
            Kind::Section(&SCROLL_BASELINE),
            "Takes signals of excessive scrolling back that are usual for their page.",
        )
        .of(OPERATOR),
        field(
            "funnel",
            Kind::Section(&FUNNEL),
            "Follows each key through steps that are to be taken one after the other.",
        )
        .of(OPERATOR),
        field(
            "was",
            Kind::Text,
            "The name that the step had before: an upgrade brings its state over. Without effect otherwise, it may stay.",
        ),
        later("anomaly", OPERATOR, "Finds unusual values."),
        later("meter", OPERATOR, "Meters usage."),
        later("proof", OPERATOR, "Proves totals."),
        later("sql", OPERATOR, "A streaming SELECT."),
        later("view", OPERATOR, "A live table."),
        later("match", OPERATOR, "A pattern over a key's rows."),
    ],
};

pub(super) const FROM: &str = "Where rows come from: a source, a step, or a side output such as `clicks.bad`.";

static SELECT: Section = Section {
    what: "`select`",
    doc: "Keeps the rows for which `where` is true, and computes columns. Event time and id travel along. Keeps no state.",
    one_of: &[],
    fields: &[
        field("from", Kind::Stream, FROM).required(),
        field("where", Kind::Sql, "An SQL condition; rows for which it is not true are left out."),
        field(
            "columns",
            Kind::SqlList,
            "The columns of the result: names, and `\"expression as name\"`. Without it, all columns.",
        ),
    ],
};

static UNION: Section = Section {
    what: "`union`",
    doc: "Makes one stream of several with the same columns. Keeps no state.",
    one_of: &[],
    fields: &[field("from", Kind::Streams, "The streams; names and types of their columns must be equal.").required()],
};

static WINDOW: Section = Section {
    what: "`window`",
    doc: "Aggregates rows by key in windows of event time, UTC and aligned to the epoch. A window is emitted once, when the watermark has passed its end and `lateness`. Gives `window_start`, `window_end`, the keys and the aggregates.",
    one_of: &[Group { name: SPANS, says: "which windows there are" }],
    fields: &[
        field("from", Kind::Stream, FROM).required(),
        field("tumble", Kind::Duration("1ms", LONG), "Windows back to back, of this length.").of(SPANS),
        field("hop", Kind::Section(&HOP), "Windows that overlap.").of(SPANS),
        field("by", Kind::Columns, "The columns of the key; without it, one group of all rows. Null is a key like any other."),
        field("aggregates", Kind::SqlMap, "The columns of the result: `name: aggregate`, such as `clicks: \"count(*) filter (where event_type = 'click')\"`. There are count, count(distinct), sum, min, max, avg, first, last and quantile; `quantile(x, 0.5)` is the median: exact, and one of the values, all of which it keeps.").required(),
        field("lateness", Kind::Duration("0s", LONG), "How long a window stays open for rows that come late.").default("0s"),
    ],
};

static HOP: Section = Section {
    what: "`hop`",
    doc: "Windows of `size`, one beginning at every multiple of `every`.",
    one_of: &[],
    fields: &[
        field("size", Kind::Duration("1ms", LONG), "The length of a window; a multiple of `every`.").required(),
        field("every", Kind::Duration("1ms", LONG), "The time between the beginnings of two windows.").required(),
    ],
};

static DEDUPLICATE: Section = Section {
    what: "`deduplicate`",
    doc: "Lets the first row of a key through, in the tick in which it comes; a row that has the key of one that went through, and is less than `within` younger than it, is a duplicate. Duplicates do not prolong that span. They are counted, and are in `<step>.duplicates`. A row with a null in its key is never a duplicate. Gives the columns of its input.",
    one_of: &[],
    fields: &[
        field("from", Kind::Stream, FROM).required(),
        field("by", Kind::Columns, "The columns of the key. Without it, the `id` that the source names."),
        field("within", Kind::Duration("1ms", LONG), "For how much event time after it was accepted the key of a row is remembered.").default("24h"),
        field("compare", Kind::Columns, "Columns in which rows with one key should be equal. A duplicate in which they are not goes to `<step>.conflicts`, with the columns `kept_hash` and `refused_hash`, and not to `<step>.duplicates`."),
        field("lateness", Kind::Duration("0s", LONG), "How far behind the watermark a row may be. A later one goes to `<step>.late`, and not through.").default("0s"),
        field("max_keys", Kind::Number(1, 1 << 32), "How many keys one worker may remember, at some 40 bytes each. More stop the job: to forget one would let a duplicate through.").default("10000000"),
    ],
};

static JOIN: Section = Section {
    what: "`join`",
    doc: "Pairs the rows of two streams that have the same key and lie close together in event time. Gives the columns of the left row, then those of the right row with `prefix` before their names; the event time of a pair is the later one of both. Null keys never match.",
    one_of: &[],
    fields: &[
        field("left", Kind::Stream, "The first stream: its rows give the id and the order of the pairs.").required(),
        field("right", Kind::Stream, "The second stream.").required(),
        field("on", Kind::SqlList, "What both rows have in common: names of columns, or `\"left_column = right_column\"` where they are called otherwise. Their types must be equal.").required(),
        field("within", Kind::Section(&JOIN_WITHIN), "How far apart the rows of a pair may be.").required(),
        field("kind", Kind::Choice(&[
            choice("inner", "pairs only"),
            choice("left", "also each left row without a pair, with nulls for the right one, once the watermark has passed `after`"),
        ]), "Which rows are given.").default("inner"),
        field("prefix", Kind::Text, "What stands before the names of the right row's columns.").default("right_"),
        field("max_per_key", Kind::Number(1, 1 << 32), "How many rows of one key and side are kept that can still match. A row beyond them is a bad row (`crowded`) and matches nothing.").default("10000"),
        field("max_rows", Kind::Number(1, 1 << 32), "How many rows one worker may keep, of both sides. More stop the job.").default("10000000"),
    ],
};

static JOIN_WITHIN: Section = Section {
    what: "`within`",
    doc: "A right row is in the window of a left row from `before` before it to `after` after it, both ends included.",
    one_of: &[],
    fields: &[
        field("before", Kind::Duration("0s", LONG), "How long before the left row the right one may be.").default("0s"),
        field("after", Kind::Duration("0s", LONG), "How long after the left row the right one may be.").default("0s"),
    ],
};

/// A sink.
pub static SINK: Section = Section {
    what: "a sink",
    doc: "A sink names the stream it writes and one connector.",
    one_of: &[Group { name: CONNECTOR, says: "where rows go" }],
    fields: &[
        field("from", Kind::Stream, FROM).required(),
        field("topic", Kind::Topic, "A topic of the deployment's log; it is created if there is none.").of(CONNECTOR),
        field("file", Kind::Section(&FILE_SINK), "One file.").of(CONNECTOR),
        field("lake", Kind::Section(&LAKE), "Parquet files by date and hour, in a folder or a bucket.").of(CONNECTOR),
        field("console", Kind::Section(&CONSOLE), "Standard output. Rows may repeat after a crash.").of(CONNECTOR),
        later("kafka", CONNECTOR, LATER_CONNECTORS_KAFKA),
        later("http", CONNECTOR, "Rows posted over HTTP."),
        later("postgres", CONNECTOR, "A Postgres table."),
        later("mysql", CONNECTOR, "A MySQL table."),
        later("clickhouse", CONNECTOR, "A ClickHouse table."),
        later("redis", CONNECTOR, "Redis."),
        later("parquet", CONNECTOR, "Parquet files."),
        later("s3", CONNECTOR, "Objects in a bucket."),
        later("iceberg", CONNECTOR, "An Iceberg table."),
        later("delta", CONNECTOR, "A Delta table."),
        later("nats", CONNECTOR, "A NATS stream."),
        later("elasticsearch", CONNECTOR, "An Elasticsearch index."),
        later("jira", CONNECTOR, "Tickets in Jira."),
        later("linear", CONNECTOR, "Tickets in Linear."),
        later("slack", CONNECTOR, "Messages in Slack."),
        later("metrics", CONNECTOR, "Metrics of the process."),
        field(
            "format",
            Kind::Choice(&[
                choice("json", "one JSON object per row"),
                choice("csv", "comma-separated values"),
                later_choice("parquet"),
                choice("avro", "topic: one Avro datum per row, with the number before it under which the schema of the columns is registered as `TOPIC-value`"),
                later_choice("protobuf"),
            ]),
            "How rows are written.",
        )
        .default("json"),
        field(
            "timestamps",
            Kind::Choice(&[
                choice("rfc3339", "text such as `2026-01-01T00:00:00.123Z`"),
                choice("epoch_ms", "whole milliseconds since 1970"),
            ]),
            "json: how timestamps are written.",
        )
        .default("rfc3339"),
        field(
            "key",
            Kind::Columns,
            "topic: the columns that are the record's key and place it in a partition. Without it, rows are placed by the key of the step they come from.",
        ),
        field("partitioner", Kind::Choice(&[
            choice("riverrun", "riverrun's own hash of the columns of the key"),
            choice("murmur2", "murmur2 of the bytes of the key, as Kafka's Java client, Kafka Streams and librdkafka's `murmur2` choose it, so that topics with as many partitions have equal keys in equal partitions. Needs `key`"),
        ]), "topic: how the key of a row chooses its partition.").default("riverrun"),
        field("headers", Kind::Headers, "topic of Kafka: headers and the columns that they are made of, `{ trace: trace_id }`; a null gives none. The columns stay in the value."),
        field("op", Kind::Choice(&[
            choice("field", "a field of the value, as it is"),
            choice("header", "the header `op`, `+` or `-`, and not in the value; of Kafka only"),
            choice("tombstone", "not at all: a row that is taken back is its key without a value, and comes before all rows of its tick that are given. Needs `key`"),
        ]), "topic: how the column `op` is written of a stream that is corrected: `+` a row that joins the table, `-` one that leaves it.").default("field"),
        field(
            "partitions",
            Kind::Number(1, 1024),
            "topic: into how many partitions it is divided. A topic that exists must have as many; without, it keeps those it has, and a new one gets one.",
        ),
        field("delivery", Kind::Choice(&[
            choice("exactly_once", "rows are written in transactions and seen once they are committed, each once, by readers with `isolation.level=read_committed`"),
            choice("at_least_once", "rows are written without transactions, and may come again after a crash"),
        ]), "topic: what a topic of Kafka is promised. Embedded topics are always exactly once.").default("exactly_once"),
        field(
            "dead_letters",
            Kind::Topic,
            "topic: where rows go that are too large for a topic of Kafka, cut, with the reason in their headers. Without it, such a row stops the job.",
        ),
        later("lanes", "", "In how many lanes a sink writes."),
        later("partition_by", "", "Columns that divide output into folders."),
        field("header", Kind::Flag, "csv: the first record names the columns.").default("true"),
        field("delimiter", Kind::Char, "csv: what stands between two fields.").default(","),
        field("null", Kind::Text, "csv: what is written for null.").default(""),
    ],
};

static FILE_SINK: Section = Section {
    what: "a file sink",
    doc: "One file, in one lane. Rows appear at every commit.",
    one_of: &[],
    fields: &[field("path", Kind::Outside, "The file, relative to the working directory.").required()],
};

static CONSOLE: Section =
    Section { what: "`console`", doc: "Standard output. It has no options: `console: {}`.", one_of: &[], fields: &[] };
