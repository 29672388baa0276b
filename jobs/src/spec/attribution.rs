//! `attribute` as written: the plain form, and the ledger that `models` asks for.

use std::time::Duration;

use riverrun_operators::attribute::AttributeBounds;
use riverrun_operators::attribution::rules::{Model, Transform};

use super::AttributeSpec;
use super::parts::{count_of, refuse, span_of, word};
use super::reader::Form;
use crate::fault::{Fault, codes};
use crate::yaml::Spanned;

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
