//! The keys of `funnel`.

use std::time::Duration;

use super::fields::{FROM, Kind, LONG, Section, choice, field};
use super::reader::Form;
use crate::yaml::Spanned;

/// The keys of `funnel`.
pub(super) static FUNNEL: Section = Section {
    what: "`funnel`",
    doc: "Follows each key through steps that are to be taken one after the other, the last of them at most `within` after the first. A step counts only after the one before it, so who skips one is not counted further; other rows in between do not matter, and a first step that is taken again does not begin the time anew. Gives the keys, `columns`, and what `give` says. Rows are taken in their order, once the watermark has passed them; of rows at one time those of earlier steps come first. Rows with a null key are nobody's.",
    one_of: &[],
    fields: &[
        field("from", Kind::Stream, FROM).required(),
        field("by", Kind::Columns, "The columns of the key: who goes through the steps.").required(),
        field("steps", Kind::Conditions, "The steps in their order, 1 to 32: `name: condition`, such as `signed_up: \"type = 'user_signed_up'\"`. A row takes one step at most. With one step the first row of each key is given, by event time.").required(),
        field("within", Kind::Duration("1ms", LONG), "The longest time from the first step to the last, itself included.").required(),
        field("again_after", Kind::Duration("0s", LONG), "Once its journey is over and more than this has passed since it began, a key can enter again. Without it, `within`."),
        field("columns", Kind::Columns, "Columns of the row of the first step that are given along, such as where the key came from."),
        field("give", Kind::Choice(&[
            choice("journeys", "one row per journey, at the time of its first step, once its last step is taken or its time has passed: `reached` (how many steps), `last_step`, `completed`, for each step `<name>_at` and, but for the first, `<name>_after_ms` since the step before, and `completed_after_ms` since the first"),
            choice("steps", "one row per step, at its own time, as soon as no row on time can change it: `step`, `number`, `entered_at`, `taken_at`, `after_ms` since the step before, and `after_entry_ms`"),
        ]), "Which rows are given. Where the input was read from a source, `evidence` and `evidence_at` name the rows that took the steps.").default("journeys"),
        field("lateness", Kind::Duration("0s", LONG), "How long rows are waited for that come late.").default("0s"),
        field("max_keys", Kind::Number(1, 1 << 32), "How many keys with a journey one worker may keep. More stop the job: to forget one would let its key enter twice.").default("10000000"),
    ],
};

/// A `funnel` as written.
#[derive(Clone, Debug)]
pub(crate) struct FunnelSpec {
    pub from: Spanned<String>,
    pub by: Vec<Spanned<String>>,
    pub steps: Spanned<Vec<(Spanned<String>, Spanned<String>)>>,
    pub within: Duration,
    pub again_after: Duration,
    pub columns: Vec<Spanned<String>>,
    pub is_by_step: bool,
    pub lateness: Duration,
    pub max_keys: usize,
}

/// Returns the step that `form` describes.
pub(super) fn funnel_of(form: &Form) -> Option<FunnelSpec> {
    // A list that is at fault is not one that was left out.
    if !form.whole {
        return None;
    }
    let duration = |key: &str| form.duration(key).map(|value| value.value);
    let within = duration("within")?;
    Some(FunnelSpec {
        from: form.text("from")?,
        by: form.list("by")?.value,
        steps: form.named("steps")?,
        within,
        again_after: duration("again_after").unwrap_or(within),
        columns: form.list("columns").map(|list| list.value).unwrap_or_default(),
        is_by_step: form.text("give").is_some_and(|give| give.value == "steps"),
        lateness: duration("lateness")?,
        max_keys: form.number("max_keys").and_then(|number| usize::try_from(number.value).ok())?,
    })
}
