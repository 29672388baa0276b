//! `attribute` as written: the plain form, and the ledger that `models` asks for.

use std::time::Duration;

use riverrun_operators::attribute::AttributeBounds;
use riverrun_operators::attribution::rules::{Model, Transform};

use super::AttributeSpec;
use super::fields::{Kind, LONG, Section, choice, field, later_choice};
use super::parts::{count_of, refuse, span_of, word};
use super::reader::Form;
use crate::fault::{Fault, codes};
use crate::yaml::Spanned;

/// The keys of `attribute`.
pub(super) static ATTRIBUTE: Section = Section {
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

/// The ledger form of `attribute`.
#[derive(Clone, Debug)]
pub(crate) struct LedgerSpec {
    pub corrections: Option<Spanned<String>>,
    pub models: Vec<Model>,
    pub view_window: Option<Duration>,
    pub half_life: Option<Duration>,
    pub lateness: Duration,
    pub is_eager: bool,
    pub by_product: bool,
    pub is_once: bool,
    pub is_strict: bool,
    pub dedupe_clicks: Duration,
    pub path: Transform,
    pub max_kept: usize,
    /// The columns by which rows of one key are matched, the same on both sides: click id, person, device.
    pub matches: [Option<Spanned<String>>; 3],
    pub order: OrderSpec,
    pub touch: TouchSpec,
    pub correction: CorrectionSpec,
}

/// Which columns of a conversion say what.
#[derive(Clone, Debug)]
pub(crate) struct OrderSpec {
    pub id: Option<Spanned<String>>,
    pub value: Option<Spanned<String>>,
    pub currency: Option<Spanned<String>>,
    pub lines: Option<LinesSpec>,
}

/// Which fields of a list of structs say what of the lines of an order.
#[derive(Clone, Debug)]
pub(crate) struct LinesSpec {
    pub list: Spanned<String>,
    pub product: Spanned<String>,
    pub price: Spanned<String>,
    pub quantity: Option<Spanned<String>>,
    pub discount: Option<Spanned<String>>,
}

/// Which columns of a touch say what.
#[derive(Clone, Debug)]
pub(crate) struct TouchSpec {
    pub kind: Option<Spanned<String>>,
    pub viewable: Option<Spanned<String>>,
    pub channel: Option<Spanned<String>>,
    pub campaign: Option<Spanned<String>>,
    pub creative: Option<Spanned<String>>,
    pub product: Option<Spanned<String>>,
    pub placement: Option<Spanned<String>>,
}

/// Which columns of a correction say what.
#[derive(Clone, Debug)]
pub(crate) struct CorrectionSpec {
    pub order_id: Spanned<String>,
    pub kind: Spanned<String>,
    pub amount: Spanned<String>,
    pub currency: Option<Spanned<String>>,
}

/// The keys with which a ledger can do nothing, and why.
const PLAIN_ONLY: [(&str, &str); 6] = [
    ("model", "`models` keeps a ledger, which gives other rows than `model`"),
    ("dedupe_for", "a ledger knows an order that is told again by its id, for 90 days"),
    ("max_touches", BOUND),
    ("max_touches_per_key", BOUND),
    ("max_pending", BOUND),
    ("max_seen", BOUND),
];
const BOUND: &str = "a ledger has one bound for all that it keeps, `max_kept`";

/// The keys that only a ledger can do something with.
const LEDGER_ONLY: [&str; 15] = [
    "corrections",
    "view_window",
    "half_life",
    "lateness",
    "emit",
    "credit",
    "count",
    "strict_click_id",
    "dedupe_clicks",
    "path",
    "max_kept",
    "match",
    "order",
    "touch",
    "correction",
];

/// Returns the `attribute` that `form` describes.
pub(super) fn attribute_of(form: &Form, faults: &mut Vec<Fault>) -> Option<AttributeSpec> {
    let ledger = match form.list("models") {
        Some(models) if form.whole => {
            for (key, note) in PLAIN_ONLY.into_iter().filter(|(key, _)| form.wrote(key)) {
                let span = form.get(key).map_or(form.span, |value| value.span);
                let message = format!("`attribute` has both `{key}` and `models`");
                faults.push(
                    Fault::error(codes::DOES_NOT_FIT, span, message).note(note).hint(format!("leave out `{key}`")),
                );
            }
            let named = |name: &Spanned<String>| model_of(&name.value);
            Some(Box::new(ledger_of(form, models.value.iter().filter_map(named).collect())?))
        }
        // What is at fault in a ledger was said.
        Some(_) => return None,
        None => {
            // What is at fault may be `models`.
            let keys = if form.whole { &LEDGER_ONLY[..] } else { &[] };
            refuse(form, keys, "`attribute`", "`model`: it is of the ledger that `models: [...]` keeps", faults);
            None
        }
    };
    Some(AttributeSpec {
        conversions: form.text("conversions")?,
        touches: form.text("touches")?,
        by: form.list("by")?.value,
        window: span_of(form, "window"),
        model: word(form, "model"),
        dedupe_for: span_of(form, "dedupe_for"),
        dedupe_written: form.wrote("dedupe_for").then(|| form.get("dedupe_for").map(|value| value.span)).flatten(),
        bounds: AttributeBounds {
            max_touches: count_of(form, "max_touches"),
            max_touches_per_key: count_of(form, "max_touches_per_key"),
            max_pending: count_of(form, "max_pending"),
            max_seen: count_of(form, "max_seen"),
        },
        ledger,
    })
}

fn model_of(name: &str) -> Option<Model> {
    Model::ALL.into_iter().find(|model| riverrun_operators::attribution::model_name(*model) == name)
}

fn ledger_of(form: &Form, models: Vec<Model>) -> Option<LedgerSpec> {
    let inner = |key: &str| form.form(key).map(|form| form.value);
    let optional = |key: &str| form.duration(key).map(|span| span.value);
    let matches = inner("match")?;
    Some(LedgerSpec {
        corrections: form.text("corrections"),
        models,
        view_window: optional("view_window"),
        half_life: optional("half_life"),
        lateness: span_of(form, "lateness"),
        is_eager: word(form, "emit") == "eager",
        by_product: word(form, "credit") == "product",
        is_once: word(form, "count") == "one",
        is_strict: form.flag("strict_click_id").is_some_and(|flag| flag.value),
        dedupe_clicks: span_of(form, "dedupe_clicks"),
        path: match word(form, "path").as_str() {
            "exposure" => Transform::Exposure,
            "first" => Transform::First,
            _ => Transform::None,
        },
        max_kept: count_of(form, "max_kept"),
        matches: ["click_id", "person", "device"].map(|key| matches.text(key)),
        order: order_of(&inner("order")?)?,
        touch: touch_of(&inner("touch")?),
        correction: correction_of(&inner("correction")?)?,
    })
}

fn order_of(form: &Form) -> Option<OrderSpec> {
    let lines = form.form("lines")?.value;
    let lines = lines.text("list").map(|list| {
        Some(LinesSpec {
            list,
            product: lines.text("product")?,
            price: lines.text("price")?,
            quantity: lines.text("quantity"),
            discount: lines.text("discount"),
        })
    });
    Some(OrderSpec {
        id: form.text("id"),
        value: form.text("value"),
        currency: form.text("currency"),
        lines: match lines {
            Some(None) => return None,
            Some(lines) => lines,
            None => None,
        },
    })
}

fn touch_of(form: &Form) -> TouchSpec {
    TouchSpec {
        kind: form.text("kind"),
        viewable: form.text("viewable"),
        channel: form.text("channel"),
        campaign: form.text("campaign"),
        creative: form.text("creative"),
        product: form.text("product"),
        placement: form.text("placement"),
    }
}

fn correction_of(form: &Form) -> Option<CorrectionSpec> {
    Some(CorrectionSpec {
        order_id: form.text("order_id")?,
        kind: form.text("kind")?,
        amount: form.text("amount")?,
        currency: form.text("currency"),
    })
}
