//! Every key of a test file, once: read by the same reader as the job file's.

use crate::spec::fields::{Kind, Section, field};

/// The whole test file.
pub static FILE: Section = Section {
    what: "the test file",
    doc: "A test file is one YAML map.",
    one_of: &[],
    fields: &[
        field(
            "job",
            Kind::Text,
            "The job file, relative to this one. Without it: `NAME.yaml` beside `NAME.test.yaml`.",
        ),
        field("description", Kind::Text, "What is tested, in a sentence."),
        field("set", Kind::Texts, "Values of the job file that are other ones here, written as for `--set`."),
        field("start", Kind::Time, "The time from which `+5m` and `00:05:00` count."),
        field("shuffle", Kind::Flag, "Whether rows also arrive in other orders."),
        field("restart", Kind::Flag, "Whether the job is also stopped in the middle and started again."),
        field("workers", Kind::Number(1, 64), "With how many workers, besides one, the job is played."),
        field("tests", Kind::Anything, "The tests by name.").required(),
    ],
};

/// The key of a test that says how its job fails.
pub const FAILS_KEY: &str = "fails";

/// A test.
pub static CASE: Section = Section {
    what: "a test",
    doc: "A test gives rows and says what is expected of them.",
    one_of: &[],
    fields: &[
        field("description", Kind::Text, "What is tested, in a sentence."),
        field("start", Kind::Time, "As in the file, for this test."),
        field("given", Kind::Anything, "Rows by source, in the order in which they arrive.").required(),
        field("expect", Kind::Anything, "Rows by stream: a source, a step, a side output or a sink."),
        field("counts", Kind::Anything, "Numbers of the balance by source or step: `clicks: { bad: 1 }`."),
        field(
            FAILS_KEY,
            Kind::Section(&FAILS),
            "That the job stops, and what it says then; in the place of `expect` and `counts`.",
        ),
        field("shuffle", Kind::Flag, "As in the file, for this test."),
        field("restart", Kind::Flag, "As in the file, for this test."),
        field("workers", Kind::Number(1, 64), "As in the file, for this test."),
    ],
};

/// How a job is expected to fail.
pub static FAILS: Section = Section {
    what: "`fails`",
    doc: "How the job is expected to stop: on a row that cannot be used (`on_bad_row: stop`), at the bound of a step.",
    one_of: &[],
    fields: &[
        field("says", Kind::Text, "A part of the message with which it stops."),
        field("exit", Kind::Number(1, 255), "The exit code that `riverrun run` would have."),
    ],
};

/// What is expected of a stream, where there is more to say than its rows.
pub static EXPECTED: Section = Section {
    what: "an expectation",
    doc: "Rows, and how they are compared.",
    one_of: &[],
    fields: &[
        field("rows", Kind::Anything, "The rows, as a table or as JSON lines.").required(),
        field("columns", Kind::Columns, "The columns that are compared; without it those of the rows."),
        field("unordered", Kind::Flag, "The order of the rows does not matter."),
        field(
            "key",
            Kind::Columns,
            "Of a stream with `rev`: the columns that name a row, of which the last one counts.",
        ),
    ],
};
