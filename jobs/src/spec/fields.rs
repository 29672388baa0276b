//! Every key of the job file, once: its name, the kind of its value, its default, and what it means.
//!
//! The reader ([`super::reader`]), the JSON Schema ([`crate::schema`]) and the reference page ([`crate::reference`]) all
//! follow this table.

use super::behaviour::{FRUSTRATION, INCIDENTS, PROBLEMS};
use super::funnel::FUNNEL;

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

const fn later_choice(word: &'static str) -> Choice {
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
            later_choice("avro"),
            later_choice("protobuf"),
        ]), "How records are written.").default("json"),
        field("schema", Kind::Schema, "The columns: `name: type`, or `name: { path: a.b, type: string }` for a nested or renamed one. A trailing `!` makes a column required. Or the name of a schema: `\"@behaviour-event\"`, which says what `event_time` and `id` are, too.").required(),
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

static ATTRIBUTE: Section = Section {
    what: "`attribute`",
    doc: "Credits each conversion to a touch of the same key, at most `window` before it (both ends included). Gives the columns of the conversion, those of the touch as `touch_...`, then `attributed`, `model`, `weight_ppm` and `time_to_convert_ms`. A conversion without a touch gives a row too. Null keys never match.",
    one_of: &[],
    fields: &[
        field("conversions", Kind::Stream, "What is credited: orders.").required(),
        field("touches", Kind::Stream, "What is credited with it: clicks.").required(),
        field("by", Kind::Columns, "The columns of the key, with the same names and types on all sides.").required(),
        field("window", Kind::Duration("0s", LONG), "How long before a conversion a touch may be.").required(),
        field("model", Kind::Choice(&[
            choice("last_touch", "the last one: the greatest in (event time, id, source, split, position)"),
            choice("first_touch", "the first one"),
        ]), "Which touch is credited. Other models are among `models`.").default("last_touch"),
        field("dedupe_for", Kind::Duration("0s", LONG), "For how much event time the ids of conversions are remembered; a second conversion with the same key and id is a duplicate. Needs an `id` on their source.").default("24h"),
        field("max_touches", Kind::Number(1, 1 << 32), "How many touches one worker may keep, at some 200 bytes each and their text. More stop the job.").default("10000000"),
        field("max_touches_per_key", Kind::Number(1, 1 << 32), "How many touches of one key may be in its window. More stop the job: to forget one could credit another.").default("100000"),
        field("max_pending", Kind::Number(1, 1 << 32), "How many conversions may wait for the watermark on one worker. More stop the job.").default("1000000"),
        field("max_seen", Kind::Number(1, 1 << 32), "How many ids of conversions one worker may remember. More stop the job: to forget one would let a duplicate through.").default("10000000"),
        field("models", Kind::Choices(&[
            choice("last_touch", "all to the last touch"),
            choice("first_touch", "all to the first one"),
            choice("last_non_direct", "all to the last one whose channel is neither `direct` nor null, if there is one"),
            choice("linear", "the same to each"),
            choice("position_based", "40 % to the first, 40 % to the last, the rest to those between"),
            choice("time_decay", "half as much for every `half_life` of age"),
            later_choice("markov"),
            later_choice("shapley"),
        ]), "Keeps a ledger in place of giving conversions: signed rows of what each touch is given by each of these models, see the guide on attribution. The keys that follow are of the ledger."),
        field("corrections", Kind::Stream, "Refunds, cancellations and new totals of conversions."),
        field("order", Kind::Section(&ORDER), "Which columns of a conversion say what."),
        field("touch", Kind::Section(&TOUCH), "Which columns of a touch say what."),
        field("correction", Kind::Section(&CORRECTION), "Which columns of a correction say what."),
        field("match", Kind::Section(&MATCH), "Which rows of one key belong together; without it, all of a key do."),
        field("strict_click_id", Kind::Flag, "If touches have the conversion's click id, the others count for nothing.").default("false"),
        field("view_window", Kind::Duration("0s", LONG), "How long before a conversion a view may be, if no click is in `window`. Without it, views are not credited."),
        field("half_life", Kind::Duration("1ms", LONG), "After which age a touch counts half; without it, a quarter of the window."),
        field("lateness", Kind::Duration("0s", LONG), "How far behind the watermark a row may be; until then it corrects what was given.").default("10m"),
        field("emit", Kind::Choice(&[
            choice("final", "when the watermark has passed the conversion"),
            choice("eager", "in the tick in which it comes"),
        ]), "When a conversion is given first.").default("final"),
        field("credit", Kind::Choice(&[
            choice("order", "the whole conversion to all touches"),
            choice("product", "each line to the touches of its product, else to those of no product"),
        ]), "What is divided.").default("order"),
        field("count", Kind::Choice(&[
            choice("every", "any number"),
            choice("one", "one: the first"),
        ]), "How many conversions a touch may be credited with.").default("every"),
        field("dedupe_clicks", Kind::Duration("0s", LONG), "A click on the same campaign, creative, product and placement, so short after one, is the same click.").default("1s"),
        field("path", Kind::Choice(&[
            choice("all", "all of them"),
            choice("exposure", "the first of each run of one channel"),
            choice("first", "the first of each channel"),
        ]), "Which touches of a conversion are credited.").default("all"),
        field("max_kept", Kind::Number(1, 1 << 32), "How many touches and conversions one worker may keep. More stop the job.").default("10000000"),
    ],
};

static ORDER: Section = Section {
    what: "`order`",
    doc: "Which columns of a conversion say what.",
    one_of: &[],
    fields: &[
        field("id", Kind::Column, "What names the order; without it, the `id` of the source."),
        field(
            "value",
            Kind::Column,
            "What it is worth: a decimal, or an int64 of minor units. Without it, the sum of its lines, else nothing.",
        ),
        field("currency", Kind::Column, "Its currency. Amounts of several are not converted."),
        field("lines", Kind::Section(&LINES), "The lines of an order."),
    ],
};

static LINES: Section = Section {
    what: "`lines`",
    doc: "Which fields of a list of structs say what of the lines of an order.",
    one_of: &[],
    fields: &[
        field("list", Kind::Column, "The column: `list<struct{product: string, price: decimal(12,2)}>` or more."),
        field("product", Kind::Text, "The field that names the product.").default("product"),
        field("price", Kind::Text, "The field with the price of one.").default("price"),
        field("quantity", Kind::Text, "The field with how many, an int64; without it, one."),
        field("discount", Kind::Text, "The field with what is taken off the line."),
    ],
};

static TOUCH: Section = Section {
    what: "`touch`",
    doc: "Which columns of a touch say what.",
    one_of: &[],
    fields: &[
        field("kind", Kind::Column, "`click`, `landing` or `view`; null and without it: a click."),
        field(
            "viewable",
            Kind::Column,
            "A bool: whether a view was seen; one that was not never counts. Without it, all were.",
        ),
        field("channel", Kind::Column, "Where the visitor came from; null is `direct`."),
        field("campaign", Kind::Column, "The campaign."),
        field("creative", Kind::Column, "The creative."),
        field("product", Kind::Column, "The product."),
        field("placement", Kind::Column, "Where it was shown."),
    ],
};

static CORRECTION: Section = Section {
    what: "`correction`",
    doc: "Which columns of a correction say what.",
    one_of: &[],
    fields: &[
        field("order_id", Kind::Column, "The order.").default("order_id"),
        field(
            "kind",
            Kind::Column,
            "`refund`, `cancel` or `update` (also `order_refunded`, `order_cancelled`, `order_updated`).",
        )
        .default("kind"),
        field("amount", Kind::Column, "What is given back, or the new total.").default("amount"),
        field("currency", Kind::Column, "Its currency; one that is not the order's is not booked."),
    ],
};

static MATCH: Section = Section {
    what: "`match`",
    doc: "Columns by which touches and conversions of one key are matched, with the same names on both sides: they belong together if one of them is equal.",
    one_of: &[],
    fields: &[
        field("click_id", Kind::Column, "The advertiser's id of the click."),
        field("person", Kind::Column, "The account."),
        field("device", Kind::Column, "The device."),
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

static SESSIONIZE: Section = Section {
    what: "`sessionize`",
    doc: "Groups the rows of a key into sessions: a session ends when nothing happens for longer than `gap`, when it is longer than `max_duration`, or where `split` says so. It is given once, when no row on time can change it any more. Gives `session_id`, `session_start`, `session_end`, `closed_by` (`idle`, `user_switch`, `max_duration`, `midnight`, `campaign` or `referrer`), the keys and the aggregates.",
    one_of: &[],
    fields: &[
        field("from", Kind::Stream, FROM).required(),
        field("by", Kind::Columns, "The columns of the key: whose sessions they are. Null is a key like any other.").required(),
        field("tenant", Kind::Column, "Which column of `by` is the tenant; it stands first in what `session_id` is made of."),
        field("gap", Kind::Duration("1ms", LONG), "The longest silence inside a session, itself included.").default("30m"),
        field("max_duration", Kind::Duration("1ms", LONG), "The longest time from the first to the last interaction, itself included.").default("24h"),
        field("behaviour", Kind::Flag, "The rows are behaviour events, as those of `\"@behaviour-event\"`: their type says which are interactions, and in which order those of one time are; a `page_leave` moves the end of its session; `is_bot` and `bot_reason` say whether a program made it.").default("false"),
        field("extend_when", Kind::Sql, "An SQL condition: which rows are interactions, which start and prolong a session. Other rows attach to the session that is open, and go to `<step>.sessionless` where none is. Without it, all rows, or what the type of a behaviour event says."),
        field("leave_when", Kind::Sql, "An SQL condition: which of the other rows move the end of their session, though they do not prolong it."),
        field("split", Kind::Section(&SPLIT), "What else ends a session."),
        field("lateness", Kind::Duration("0s", LONG), "How long rows are waited for that come late.").default("10m"),
        field("mode", Kind::Choice(&[
            choice("final", "once, when no row on time can change it any more"),
            choice("live", "as soon as it is there, and again whenever it changes: a row with `op` `-` takes back the one before, one with `+` gives it with `rev` one higher, `closed_by` is null while it may still grow, and what became part of another session says so in `merged_into`; it has the columns `events` and `interactions` in place of aggregates"),
        ]), "When a session is given.").default("final"),
        field("aggregates", Kind::SqlMap, "The columns of the result: `name: aggregate`, as those of a window."),
    ],
};

static SPLIT: Section = Section {
    what: "`split`",
    doc: "What else ends a session, at an interaction. Columns are of type string; null and the empty text say nothing.",
    one_of: &[],
    fields: &[
        field(
            "user_switch",
            Kind::Column,
            "The column of the account: another one than the session's ends it. That somebody signs in does not. Where `behaviour` is true it is `user_id`, unless that is part of `by`; `off`: none.",
        ),
        field(
            "campaign",
            Kind::Column,
            "The column of the campaign: another one than that of the session's first row ends it; of behaviour events only that of a `page_view` counts.",
        ),
        field("referrer", Kind::Column, "The column of the outside referrer, likewise."),
        field(
            "midnight",
            Kind::Text,
            "The place whose midnight ends sessions: `UTC`, or how far its clocks are ahead, such as `+02:00`.",
        ),
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
                later_choice("avro"),
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
