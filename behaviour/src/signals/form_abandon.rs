//! Abandoned forms: a form is begun, and its page left without success.
//!
//! A form is begun by its first change; to focus or tab through it is no beginning. Leaving its page is a signal if two fields
//! were changed, or if that was 10 s or more after the first change, and no submit of it succeeded or still waits for its
//! outcome. A later success in the session makes it worth nothing. One form gives one signal until it succeeds; abandoning it
//! again revises that. Search boxes, forms of one field and what the site ignores are left out.
//!
//! Keeps: at most `FORMS_MAX` forms that are being filled in, and as many that were abandoned; the oldest goes first.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::{Draft, Flags};
use super::scene::{Emit, Moment, Scene, Seen, name_mark};
use crate::event::payload::Form;

/// Forms that are kept at most.
pub const FORMS_MAX: usize = 16;
/// Fields that are told apart at most.
const FIELDS_MAX: usize = 32;

/// The forms of one tab that are filled in or were abandoned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormAbandon {
    works: Vec<Work>,
    abandoned: Vec<Abandoned>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Work {
    form: u64,
    start_us: i64,
    fields: Vec<u64>,
    /// Whether a submit of it waits for its outcome.
    is_sent: bool,
    draft: Draft,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Abandoned {
    form: u64,
    left_us: i64,
    draft: Draft,
}

impl FormAbandon {
    /// A field was changed.
    pub fn change(&mut self, seen: &Seen<'_>, form: &Form, scene: &Scene<'_>) {
        if form.trivial || form.form_fp.is_empty() || form.ignore.has(SignalKind::FormAbandon) {
            return;
        }
        let (name, field) = (name_mark(&form.form_fp), name_mark(&form.field_fp));
        let Some(work) = self.works.iter_mut().find(|work| work.form == name) else {
            let mut draft = Draft::new(SignalKind::FormAbandon, &scene.page.key, seen.this(), seen.time());
            draft.target_fp.clone_from(&form.form_fp);
            draft.points = scene.settings.form.abandon_points;
            if self.works.len() == FORMS_MAX {
                self.works.remove(0);
            }
            self.works.push(Work { form: name, start_us: seen.at_us, fields: vec![field], is_sent: false, draft });
            return;
        };
        if work.fields.contains(&field) {
            work.draft.add(seen.this(), seen.time());
        } else if work.fields.len() < FIELDS_MAX {
            work.fields.push(field);
            work.draft.grow(seen.this(), seen.time());
        }
    }

    /// The form was sent.
    pub fn submit(&mut self, form_fp: &str) {
        self.set_sent(form_fp, true);
    }

    /// A submit of it failed: the work goes on.
    pub fn submit_failed(&mut self, form_fp: &str) {
        self.set_sent(form_fp, false);
    }

    fn set_sent(&mut self, form_fp: &str, is_sent: bool) {
        let name = name_mark(form_fp);
        if let Some(work) = self.works.iter_mut().find(|work| work.form == name) {
            work.is_sent = is_sent;
        }
    }

    /// A submit of it succeeded.
    pub fn succeeded(&mut self, form_fp: &str, emit: &mut Emit<'_>) {
        let name = name_mark(form_fp);
        self.works.retain(|work| work.form != name);
        self.recover(|abandoned| abandoned.form == name, emit);
    }

    /// A page is shown that means success: what was sent, and what was left for it, succeeded.
    pub fn reached_success(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let wait_us = scene.settings.form.submit_result_ms.saturating_mul(1000);
        self.works.retain(|work| !work.is_sent);
        self.recover(|abandoned| seen.at_us.saturating_sub(abandoned.left_us) <= wait_us, emit);
    }

    fn recover(&mut self, is_it: impl Fn(&Abandoned) -> bool, emit: &mut Emit<'_>) {
        self.abandoned.retain_mut(|abandoned| {
            let recovers = is_it(abandoned);
            if recovers {
                abandoned.draft.points = 0;
                abandoned.draft.flags.set(Flags::RECOVERED);
                emit.tell(&mut abandoned.draft);
            }
            !recovers
        });
    }

    /// The page is left.
    pub fn leave(&mut self, moment: &Moment, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.form;
        let (sent, left): (Vec<Work>, Vec<Work>) =
            std::mem::take(&mut self.works).into_iter().partition(|work| work.is_sent);
        self.works = sent;
        for work in left {
            let in_it_us = moment.at_us.saturating_sub(work.start_us);
            let is_work = work.fields.len() >= usize::from(settings.min_fields)
                || in_it_us >= settings.min_ms.saturating_mul(1000);
            if is_work {
                self.abandon(work, moment, emit);
            }
        }
    }

    fn abandon(&mut self, work: Work, moment: &Moment, emit: &mut Emit<'_>) {
        let mut draft = match self.abandoned.iter().position(|abandoned| abandoned.form == work.form) {
            Some(at) => self.abandoned.remove(at).draft,
            None => work.draft,
        };
        draft.end = draft.end.max(moment.time);
        draft.count = draft.count.max(u32::try_from(work.fields.len()).unwrap_or(u32::MAX));
        emit.tell(&mut draft);
        if self.abandoned.len() == FORMS_MAX {
            self.abandoned.remove(0);
        }
        self.abandoned.push(Abandoned { form: work.form, left_us: moment.at_us, draft });
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Script, last};
    use super::*;
    use crate::event::payload::{PageView, Payload, Tags};
    use crate::target::Ignore;

    fn field(field_fp: &str) -> Form {
        Form { form_fp: "#order".to_owned(), field_fp: field_fp.to_owned(), ..Form::default() }
    }

    fn change(script: &mut Script, ms: i64, field_fp: &str) {
        script.at(ms, Payload::FormChange(field(field_fp)));
    }

    fn f1() -> Script {
        let mut script = Script::observed();
        change(&mut script, 0, "name");
        change(&mut script, 8000, "phone");
        script.leave(20_000);
        script
    }

    /// G-F1.
    #[test]
    fn g_f1_two_fields_and_away_is_one() {
        let rows = f1().rows();
        assert_eq!((rows.len(), rows[0].kind, rows[0].points), (1, SignalKind::FormAbandon, 3));
        assert_eq!((rows[0].start, rows[0].end, rows[0].count, rows[0].target_fp.as_str()), (0, 20_000, 2, "#order"));
    }

    /// G-F2.
    #[test]
    fn g_f2_one_field_and_4_s_are_none() {
        for (leave, signals) in [(4000, 0), (9999, 0), (10_000, 1)] {
            let mut script = Script::observed();
            change(&mut script, 0, "name");
            assert_eq!(script.leave(leave).rows().len(), signals, "{leave}");
        }
    }

    /// G-F3.
    #[test]
    fn g_f3_a_later_success_makes_it_worth_nothing() {
        let mut script = f1();
        script.page(30_000, "/", PageView::default());
        script.at(320_000, Payload::FormSubmit(field("")));
        let rows = last(&script.rows_at(400_000));
        assert_eq!((rows.len(), rows[0].points, rows[0].rev), (1, 0, 1));
        assert!(rows[0].flags.has(Flags::RECOVERED));
    }

    #[test]
    fn a_refused_submit_is_no_success() {
        let mut script = f1();
        script.page(30_000, "/", PageView::default());
        script.at(320_000, Payload::FormSubmit(field(""))).at(321_000, Payload::FormError(field("")));
        assert_eq!(last(&script.rows_at(400_000))[0].points, 3);
    }

    #[test]
    fn a_form_that_was_sent_is_none() {
        let mut script = Script::observed();
        change(&mut script, 0, "name");
        change(&mut script, 8000, "phone");
        script.at(20_000, Payload::FormSubmit(field(""))).leave(20_500);
        assert_eq!(script.rows_at(60_000), []);
    }

    #[test]
    fn a_page_of_success_is_one() {
        let mut script = Script::observed();
        change(&mut script, 0, "name");
        change(&mut script, 8000, "phone");
        let thanks = PageView { tags: Tags { success: true, ..Tags::default() }, ..PageView::default() };
        script.page(20_000, "/thanks", thanks);
        assert_eq!(last(&script.rows())[0].points, 0);
    }

    #[test]
    fn looking_at_a_form_trivial_ones_and_ignored_ones_are_none() {
        let mut script = Script::observed();
        script.at(0, Payload::FormStart(field("name"))).leave(20_000);
        assert_eq!(script.rows(), []);
        for form in [
            Form { trivial: true, ..field("name") },
            Form { ignore: Ignore::parse("form"), ..field("name") },
            Form { form_fp: String::new(), ..field("name") },
        ] {
            let mut script = Script::observed();
            script.at(0, Payload::FormChange(form)).leave(20_000);
            assert_eq!(script.rows(), []);
        }
    }

    #[test]
    fn the_end_of_the_session_is_a_leave() {
        let mut script = Script::observed();
        change(&mut script, 0, "name");
        change(&mut script, 8000, "phone");
        assert_eq!(script.close(1_800_000).rows().len(), 1);
    }

    #[test]
    fn abandoning_again_revises_the_signal() {
        let mut script = f1();
        script.page(30_000, "/", PageView::default());
        change(&mut script, 40_000, "name");
        change(&mut script, 41_000, "mail");
        script.leave(50_000);
        let rows = script.rows();
        assert_eq!(rows.iter().map(|row| (row.rev, row.end)).collect::<Vec<_>>(), [(0, 20_000), (1, 50_000)]);
        assert_eq!(rows[0].signal_id, rows[1].signal_id);
    }
}
