//! The keys of the behaviour steps. The settings of signals are the rules' own table, turned into keys.

use std::time::Duration;

use riverrun_operators::frustration::{EVENTS, SIGNALS, settings};
use settings::SettingField;

use super::fields::{FROM, Field, Kind, LONG, Section, choice, field};
use super::reader::{Form, Value};
use crate::yaml::{Span, Spanned};

/// The keys of `sessionize`.
pub(super) static SESSIONIZE: Section = Section {
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

/// The keys of `frustration`.
pub static FRUSTRATION: Section = Section {
    what: "`frustration`",
    doc: "Finds in the events of each session the signs of a person who does not get on: rage clicks, dead clicks, failing forms and requests, and more. Reads the columns of `@behaviour-event`. Events are looked at in their order, once the watermark has passed them. A later row replaces that of the same `signal_id` with a lower `rev`. Rows of the kinds `goal`, `bot` and `session_end`, without `signal_id`, tell what became of a session with signals.",
    one_of: &[],
    fields: &[
        field("from", Kind::Stream, FROM).required(),
        field(
            "preset",
            Kind::Choice(&[
                choice("ours", "our own"),
                choice("posthog", "those of PostHog's browser library"),
                choice("datadog", "those of Datadog's browser library"),
                choice("openreplay", "those of OpenReplay's server"),
                choice("amplitude", "those of Amplitude's autocapture"),
                choice("sentry", "those of Sentry's replay"),
            ]),
            "Whose numbers for rage and dead clicks are used, as far as the settings that follow do not say otherwise.",
        )
        .default("ours"),
        field("signals", Kind::Words(SIGNALS), "The signals that are looked for; without it, all."),
        field(
            "sessions",
            Kind::Choice(&[
                choice("named", "the rows' `session_id`"),
                choice("device", "those that `sessionize` makes by `tenant_id` and `anonymous_id`, with the same ids"),
            ]),
            "Which sessions there are.",
        )
        .default("named"),
        field(
            "gap",
            Kind::Duration("1s", LONG),
            "A session in which nobody did anything for longer than this has ended.",
        )
        .default("30m"),
        field(
            "max_duration",
            Kind::Duration("1s", LONG),
            "`sessions: device`: the longest time from the first to the last thing done in a session.",
        )
        .default("24h"),
        field("lateness", Kind::Duration("0s", LONG), "For how long after the watermark events are waited for.")
            .default("0s"),
        field("goals", Kind::Words(EVENTS), "The types of events that people come for; without it, `order_completed`."),
        field("rage", Kind::Section(&RAGE), "Rage clicks."),
        field("words", Kind::Section(&WORDS), "Words on elements that are made for many clicks."),
        field("dead", Kind::Section(&DEAD), "Dead and slow clicks, and dead swipes."),
        field("error", Kind::Section(&ERROR), "Clicks that are followed by an error."),
        field("quick_back", Kind::Section(&QUICK_BACK), "Pages left at once for the one before."),
        field("thrash", Kind::Section(&THRASH), "Thrashed cursors."),
        field("scroll", Kind::Section(&SCROLL), "Excessive scrolling."),
        field("form", Kind::Section(&FORM), "Forms abandoned and refused."),
        field("network", Kind::Section(&NETWORK), "Failing requests."),
        field("reload", Kind::Section(&RELOAD), "Reloads and redirects."),
        field("checkout", Kind::Section(&CHECKOUT), "The checkout."),
        field("jank", Kind::Section(&JANK), "Sluggish pages."),
        field("crash", Kind::Section(&CRASH), "Pages that fall apart."),
        field("swipe", Kind::Section(&SWIPE), "Swipes."),
        field("search", Kind::Section(&SEARCH), "Searches."),
    ],
};

/// The keys of `incidents`.
pub static INCIDENTS: Section = Section {
    what: "`incidents`",
    doc: "Makes of the signals of each session one incident with a severity. It opens when the points of five minutes are enough and one of the signals is a hard one, takes in what follows, and closes with its session. A later row replaces that of the same `incident_id` with a lower `rev`; a row `moved` takes an incident away from its former `fingerprint`.",
    one_of: &[],
    fields: &[
        field("from", Kind::Stream, "Where signals come from: a step of `frustration`.").required(),
        field(
            "scope",
            Kind::Choice(&[
                choice("session", "all signals of a session are one incident"),
                choice("gap", "a new one begins after `quiet`, or when the one before has reached `age`"),
            ]),
            "How signals make incidents.",
        )
        .default("session"),
        field(
            "quiet",
            Kind::Duration("1ms", LONG),
            "`scope: gap`: after more than this without a signal a new incident begins.",
        )
        .default("5m"),
        field("age", Kind::Duration("1ms", LONG), "`scope: gap`: an incident takes in signals for so long.")
            .default("30m"),
        field("span", Kind::Duration("1ms", LONG), "The span within which points are added up.").default("5m"),
        field(
            "open",
            Kind::Number(1, 1_000_000),
            "Points within the span that open an incident, with at least one hard signal.",
        )
        .default("6"),
        field(
            "medium",
            Kind::Number(1, 1_000_000),
            "Points within the span from which on it is medium; below, it is low.",
        )
        .default("6"),
        field("high", Kind::Number(1, 1_000_000), "Points from which on it is high.").default("15"),
        field("critical", Kind::Number(1, 1_000_000), "Points from which on it is critical.").default("25"),
        field(
            "funnel",
            Kind::Texts,
            "Parts of routes; a signal on such a page is worth half as much again. Without it, `cart`, `checkout`, `sign-up` and `signup`.",
        ),
        field(
            "coalesce",
            Kind::Duration("0s", LONG),
            "Changes are told at most once in so much event time; opening and closing are told at once.",
        )
        .default("30s"),
        field("named", Kind::Number(1, 400), "How many signals a row names.").default("50"),
        field("keep", Kind::Duration("0s", LONG), "How long after its close an incident takes corrections.")
            .default("1h"),
        field(
            "forget_after",
            Kind::Duration("1s", LONG),
            "An incident of which nothing was heard for so long is closed, whatever became of its session.",
        )
        .default("24h"),
    ],
};

/// The keys of `problems`.
pub static PROBLEMS: Section = Section {
    what: "`problems`",
    doc: "Gathers the incidents of one `fingerprint` over a sliding window, and says which of them deserve a ticket: `passes`, with `sessions` and `persons`, or `critical_sessions` if one is critical. `notify` is `first` when a problem passes for the first time, and `again` when, after `repeat`, it has twice the sessions or is worse.",
    one_of: &[],
    fields: &[
        field("from", Kind::Stream, "Where incidents come from: a step of `incidents`.").required(),
        field("window", Kind::Duration("1s", LONG), "How far back incidents count, by their last signal.")
            .default("24h"),
        field("hop", Kind::Duration("1s", LONG), "How often a problem is looked at.").default("5m"),
        field("sessions", Kind::Number(1, 10_000), "Sessions that deserve a ticket, if there are `persons` too.")
            .default("5"),
        field(
            "persons",
            Kind::Number(0, 10_000),
            "Different persons that deserve a ticket, if there are `sessions` too.",
        )
        .default("3"),
        field(
            "critical_sessions",
            Kind::Number(1, 10_000),
            "Sessions that deserve a ticket if one of them is critical.",
        )
        .default("2"),
        field("repeat", Kind::Duration("0s", LONG), "The least time between two notices.").default("4h"),
    ],
};

/// The keys of `scroll_baseline`.
pub static SCROLL_BASELINE: Section = Section {
    what: "`scroll_baseline`",
    doc: "Knows how often the visitors of each page turn while they scroll, and takes a signal of `excessive_scroll` back where it is not above that: gives the row that replaces it, with `rev` one higher and 0 points. Let `incidents` read a `union` of the signals and this. Without it every such signal counts.",
    one_of: &[],
    fields: &[
        field(
            "from",
            Kind::Stream,
            "Where signals come from: a step of `frustration` with `scroll: { page_ends: true }`.",
        )
        .required(),
        field("views", Kind::Number(1, 1_000_000_000), "From how many page views on the usual of a page is known.")
            .default("500"),
        field("sigma", Kind::Number(0, 100), "By how many standard deviations a view must be above the mean to count.")
            .default("3"),
        field(
            "forget_after",
            Kind::Duration("1m", LONG),
            "A page of which no view has ended for longer is forgotten, and learned anew.",
        )
        .default("30d"),
    ],
};

/// Turns the rules' table of a group into keys.
const fn keys<const N: usize>(table: &[SettingField]) -> [Field; N] {
    let mut keys = [const { field("", Kind::Text, "") }; N];
    let mut at = 0;
    while at < N {
        let kind = match table[at].form {
            settings::Form::Int(least, most) => Kind::Number(least, most),
            settings::Form::Limit => Kind::Limit,
            settings::Form::Flag => Kind::Flag,
            settings::Form::Word(words) => Kind::Word(words),
            settings::Form::Texts => Kind::Texts,
        };
        keys[at] = field(table[at].name, kind, table[at].doc);
        at += 1;
    }
    keys
}

macro_rules! groups {
    ($($name:ident $keys:ident $group:literal $type:ident $doc:literal;)*) => {
        $(
            static $keys: [Field; settings::$type::FIELDS.len()] = keys(settings::$type::FIELDS);
            static $name: Section =
                Section { what: concat!("`", $group, "`"), doc: $doc, one_of: &[], fields: &$keys };
        )*

        /// The groups of settings.
        pub const GROUPS: &[&str] = &[$($group,)*];
    };
}

groups! {
    RAGE RAGE_KEYS "rage" Rage "What makes quick clicks a rage click. A limit is a number of ms, both ends included, or `<` and one.";
    WORDS WORDS_KEYS "words" Words "An element with such a word is made for many clicks: next, previous, plus, minus.";
    DEAD DEAD_KEYS "dead" Dead "What makes a click dead, or slow.";
    ERROR ERROR_KEYS "error" ErrorClick "What makes an error that of a click.";
    QUICK_BACK QUICK_BACK_KEYS "quick_back" QuickBack "What makes leaving a page a turning back.";
    THRASH THRASH_KEYS "thrash" Thrash "What makes moving the pointer a thrashing.";
    SCROLL SCROLL_KEYS "scroll" ScrollTurns "What makes scrolling excessive.";
    FORM FORM_KEYS "form" Forms "What makes a form abandoned, or refused again and again.";
    NETWORK NETWORK_KEYS "network" Network "What makes failing requests a signal.";
    RELOAD RELOAD_KEYS "reload" Reload "What makes reloads and redirects a loop.";
    CHECKOUT CHECKOUT_KEYS "checkout" Checkout "What makes a checkout stuck, or left.";
    JANK JANK_KEYS "jank" Jank "What makes a page sluggish.";
    CRASH CRASH_KEYS "crash" Crash "What makes a page fall apart.";
    SWIPE SWIPE_KEYS "swipe" Swipes "What makes a swipe one.";
    SEARCH SEARCH_KEYS "search" Searches "What makes a search a struggle.";
}

/// A `frustration` as written.
#[derive(Clone, Debug)]
pub(crate) struct FrustrationSpec {
    pub from: Spanned<String>,
    pub preset: String,
    pub signals: Option<Vec<String>>,
    pub is_device: bool,
    pub gap: Duration,
    pub max_duration: Duration,
    pub lateness: Duration,
    pub goals: Vec<String>,
    pub settings: Vec<SettingSpec>,
    /// What was written although it goes with the other sessions.
    pub misplaced: Option<Span>,
}

/// A setting as written.
#[derive(Clone, Debug)]
pub(crate) struct SettingSpec {
    pub group: &'static str,
    pub name: &'static str,
    pub written: Vec<String>,
    pub span: Span,
}

/// A `scroll_baseline` as written.
#[derive(Clone, Debug)]
pub(crate) struct ScrollBaselineSpec {
    pub from: Spanned<String>,
    pub views: u64,
    pub sigma: u64,
    pub forget_after: Duration,
}

/// Returns the step that `form` describes.
pub(super) fn scroll_baseline_of(form: &Form) -> Option<ScrollBaselineSpec> {
    Some(ScrollBaselineSpec {
        from: form.text("from")?,
        views: form.number("views")?.value,
        sigma: form.number("sigma")?.value,
        forget_after: form.duration("forget_after")?.value,
    })
}

/// Returns the step that `form` describes.
pub(super) fn frustration_of(form: &Form) -> Option<FrustrationSpec> {
    let texts =
        |key: &str| form.list(key).map(|list| list.value.into_iter().map(|text| text.value).collect::<Vec<String>>());
    // What is at fault is not "all signals".
    if !form.whole {
        return None;
    }
    let is_device = form.text("sessions").is_some_and(|sessions| sessions.value == "device");
    let length = form.get("max_duration").map(|value| value.span);
    let settings = GROUPS.iter().flat_map(|group| written(group, form.form(group).map(|inner| inner.value)));
    Some(FrustrationSpec {
        from: form.text("from")?,
        preset: form.text("preset").map(|text| text.value).unwrap_or_default(),
        signals: texts("signals"),
        is_device,
        gap: form.duration("gap")?.value,
        max_duration: form.duration("max_duration")?.value,
        lateness: form.duration("lateness")?.value,
        goals: texts("goals").unwrap_or_else(|| vec!["order_completed".to_owned()]),
        settings: settings.collect(),
        misplaced: length.filter(|_| !is_device && form.wrote("max_duration")),
    })
}

fn written(group: &'static str, form: Option<Form>) -> Vec<SettingSpec> {
    let Some(form) = form else { return Vec::new() };
    let one = |field: &'static SettingField| {
        let value = form.get(field.name).filter(|_| form.wrote(field.name))?;
        let written = match &value.value {
            Value::Number(number) => vec![number.to_string()],
            Value::Flag(flag) => vec![flag.to_string()],
            Value::Text(text) => vec![text.clone()],
            Value::List(list) => list.iter().map(|text| text.value.clone()).collect(),
            _ => return None,
        };
        Some(SettingSpec { group, name: field.name, written, span: value.span })
    };
    settings::Settings::fields(group).iter().filter_map(one).collect()
}

/// An `incidents` as written.
#[derive(Clone, Debug)]
pub(crate) struct IncidentsSpec {
    pub from: Spanned<String>,
    pub is_gap: bool,
    pub quiet: Duration,
    pub age: Duration,
    pub span: Duration,
    /// Points that open one, that make it medium, high, critical.
    pub points: [u64; 4],
    pub funnel: Option<Vec<String>>,
    pub coalesce: Duration,
    pub named: u64,
    pub keep: Duration,
    pub forget_after: Duration,
    /// What was written although it goes with the other scope.
    pub misplaced: Vec<(&'static str, Span)>,
}

/// A `problems` as written.
#[derive(Clone, Debug)]
pub(crate) struct ProblemsSpec {
    pub from: Spanned<String>,
    pub window: Spanned<Duration>,
    pub hop: Duration,
    pub repeat: Duration,
    /// Sessions, persons, sessions of which one is critical.
    pub gate: [u64; 3],
}

/// Returns the step that `form` describes.
pub(super) fn incidents_of(form: &Form) -> Option<IncidentsSpec> {
    if !form.whole {
        return None;
    }
    let duration = |key: &str| form.duration(key).map(|value| value.value);
    let number = |key: &str| form.number(key).map(|value| value.value);
    let is_gap = form.text("scope").is_some_and(|scope| scope.value == "gap");
    let misplaced = ["quiet", "age"].into_iter().filter(|key| !is_gap && form.wrote(key));
    Some(IncidentsSpec {
        from: form.text("from")?,
        is_gap,
        quiet: duration("quiet")?,
        age: duration("age")?,
        span: duration("span")?,
        points: [number("open")?, number("medium")?, number("high")?, number("critical")?],
        funnel: form.list("funnel").map(|list| list.value.into_iter().map(|text| text.value).collect()),
        coalesce: duration("coalesce")?,
        named: number("named")?,
        keep: duration("keep")?,
        forget_after: duration("forget_after")?,
        misplaced: misplaced.filter_map(|key| Some((key, form.get(key)?.span))).collect(),
    })
}

/// Returns the step that `form` describes.
pub(super) fn problems_of(form: &Form) -> Option<ProblemsSpec> {
    if !form.whole {
        return None;
    }
    let duration = |key: &str| form.duration(key).map(|value| value.value);
    let number = |key: &str| form.number(key).map(|value| value.value);
    Some(ProblemsSpec {
        from: form.text("from")?,
        window: form.duration("window")?,
        hop: duration("hop")?,
        repeat: duration("repeat")?,
        gate: [number("sessions")?, number("persons")?, number("critical_sessions")?],
    })
}
