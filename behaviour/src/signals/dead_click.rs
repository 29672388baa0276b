//! Dead and slow clicks: one machine that judges whether a click was answered.
//!
//! An answer within 2500 ms is in time; one within 7000 ms is slow; without one by then the click is dead. Answers are changes
//! of the document, navigation, requests, windows opened, values changed; also a change of visibility or focus less than 1000
//! ms away, scrolling within 300 ms and a new selection within 100 ms. They are counted from when the pointer went down, where
//! that is known. One timer decides: there is no time between two checks in which a click could be lost, and an answer in the
//! same millisecond is an answer.
//!
//! A page that goes away by navigation has answered. A tab that is closed leaves its clicks unjudged, unless 2500 ms had passed.
//! Where the page cannot observe answers there is no verdict.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::settings::Dead;
use crate::event::payload::{Answer, Click, Leave, Reaction};
use crate::target::Traits;

/// How a click was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// In time.
    Answered,
    /// Late: after so many µs.
    Slow(i64),
    /// Not at all.
    Dead,
    /// That cannot be said.
    Unknown,
}

/// Waits for the answer to one click or swipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// From when answers are counted, in µs.
    base_us: i64,
    verdict: Option<Verdict>,
}

impl Watch {
    /// Waits for answers from `base_us` on.
    pub fn new(base_us: i64) -> Watch {
        Watch { base_us, verdict: None }
    }

    /// Has a verdict from the beginning.
    pub fn decided(base_us: i64, verdict: Verdict) -> Watch {
        Watch { base_us, verdict: Some(verdict) }
    }

    /// Returns the verdict, once there is one.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Takes in what happened at `at_us`. Answers come in the order of their times, so the first that counts decides.
    pub fn see(&mut self, answer: Answer, at_us: i64, settings: &Dead) {
        if self.verdict.is_none() {
            self.verdict = judge(answer, at_us.saturating_sub(self.base_us), settings);
        }
    }

    /// Returns the last time (µs) at which an answer would count.
    pub fn due_us(&self, settings: &Dead) -> Option<i64> {
        self.verdict.is_none().then(|| self.base_us.saturating_add(settings.timeout.us))
    }

    /// Decides, if no answer can come any more at `now_us`.
    pub fn expire(&mut self, now_us: i64, settings: &Dead) {
        if self.due_us(settings).is_some_and(|due| due < now_us) {
            self.verdict = Some(Verdict::Dead);
        }
    }

    /// Decides, as the page is left.
    pub fn leave(&mut self, how: Leave, at_us: i64, settings: &Dead) {
        let waited_us = at_us.saturating_sub(self.base_us);
        let verdict = match how {
            Leave::Navigation => judge(Answer::Nav, waited_us.max(0), settings).unwrap_or(Verdict::Dead),
            Leave::Close if waited_us >= settings.ok.us => Verdict::Dead,
            Leave::Close => Verdict::Unknown,
        };
        self.verdict.get_or_insert(verdict);
    }
}

/// What an answer `delta_us` after the click amounts to; nothing, if it does not count.
fn judge(answer: Answer, delta_us: i64, settings: &Dead) -> Option<Verdict> {
    let is_answered = match answer {
        Answer::Visibility | Answer::Focus => settings.liveness.holds(delta_us.saturating_abs()),
        Answer::Scroll => settings.scroll.holds(delta_us),
        Answer::Selection => settings.selection.holds(delta_us),
        Answer::Dom | Answer::Nav | Answer::Net | Answer::Open | Answer::Input => {
            let is_slow = settings.timeout.holds(delta_us) && !settings.ok.holds(delta_us);
            if is_slow {
                let slow = Verdict::Slow(delta_us);
                return Some(if settings.slow_is_dead { Verdict::Dead } else { slow });
            }
            settings.ok.holds(delta_us)
        }
    };
    is_answered.then_some(Verdict::Answered)
}

/// Returns the verdict from what the browser itself measured.
pub fn judge_measured(reaction: &Reaction, settings: &Dead) -> Verdict {
    let alive = [
        (Answer::Visibility, reaction.visibility_ms),
        (Answer::Focus, reaction.focus_ms),
        (Answer::Scroll, reaction.scroll_ms),
        (Answer::Selection, reaction.selection_ms),
    ];
    let delta_us = |ms: i64| ms.saturating_mul(1000);
    let alive = alive.iter().filter_map(|&(answer, ms)| judge(answer, delta_us(ms?), settings));
    let changes = [reaction.dom_ms, reaction.nav_ms, reaction.net_ms, reaction.open_ms, reaction.input_ms];
    let first = changes.into_iter().flatten().filter(|ms| *ms >= 0).min();
    let changed = first.and_then(|ms| judge(Answer::Dom, delta_us(ms), settings));
    alive.chain(changed).min_by_key(|verdict| *verdict != Verdict::Answered).unwrap_or(Verdict::Dead)
}

/// Returns whether a click should be answered so that one can see it: no link (its page answers), no text field, nothing that
/// reacts invisibly, no modifier key; and, if so set, only what looks as if it could be clicked.
pub fn is_candidate(click: &Click, settings: &Dead) -> bool {
    let never = Traits::LINK
        .and(Traits::AWAY)
        .and(Traits::TEXT_FIELD)
        .and(Traits::SELECT)
        .and(Traits::SURFACE)
        .and(Traits::DOCUMENT);
    !click.modifiers
        && !click.traits.any(never)
        && (!settings.require_interactive || click.traits.any(Traits::INTERACTIVE))
}

/// Returns the signal that a verdict is, if it is one, and what that is worth.
pub fn signal(verdict: Verdict, settings: &Dead) -> Option<(SignalKind, u32)> {
    match verdict {
        Verdict::Dead => Some((SignalKind::DeadClick, settings.points)),
        Verdict::Slow(_) => Some((SignalKind::SlowClick, settings.slow_points)),
        Verdict::Answered | Verdict::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::presets::Preset;
    use super::*;
    use crate::target::{Element, StepWords, Target};

    fn raw(answer: Answer, ms: i64) -> Verdict {
        let settings = Dead::default();
        let mut watch = Watch::new(0);
        watch.see(answer, ms * 1000, &settings);
        watch.expire(i64::MAX, &settings);
        watch.verdict().unwrap()
    }

    /// G-D1: an answer in the same millisecond is an answer.
    #[test]
    fn g_d1_an_answer_at_once_is_one() {
        assert_eq!(raw(Answer::Dom, 0), Verdict::Answered);
    }

    /// G-D2.
    #[test]
    fn g_d2_an_answer_after_2500_ms_is_in_time() {
        assert_eq!(raw(Answer::Dom, 2500), Verdict::Answered);
    }

    /// G-D3.
    #[test]
    fn g_d3_an_answer_after_2501_ms_is_slow() {
        assert_eq!(raw(Answer::Dom, 2501), Verdict::Slow(2_501_000));
    }

    /// G-D4.
    #[test]
    fn g_d4_an_answer_after_7000_ms_is_slow() {
        assert_eq!(raw(Answer::Dom, 7000), Verdict::Slow(7_000_000));
    }

    /// G-D5.
    #[test]
    fn g_d5_an_answer_after_7001_ms_comes_too_late() {
        assert_eq!(raw(Answer::Dom, 7001), Verdict::Dead);
    }

    /// G-D6.
    #[test]
    fn g_d6_without_an_answer_a_click_is_dead() {
        let mut watch = Watch::new(0);
        watch.expire(7_000_000, &Dead::default());
        assert_eq!(watch.verdict(), None, "the timer fires once 7000 ms have passed");
        watch.expire(7_000_001, &Dead::default());
        assert_eq!(watch.verdict(), Some(Verdict::Dead));
    }

    /// G-D7.
    #[test]
    fn g_d7_scrolling_answers_for_300_ms() {
        assert_eq!(raw(Answer::Scroll, 300), Verdict::Answered);
        assert_eq!(raw(Answer::Scroll, 301), Verdict::Dead);
    }

    /// G-D8.
    #[test]
    fn g_d8_a_tab_that_became_visible_long_before_answers_nothing() {
        assert_eq!(raw(Answer::Visibility, -600), Verdict::Answered);
        assert_eq!(raw(Answer::Visibility, -60_000), Verdict::Dead);
    }

    /// G-D11: a click that is looked at between two thresholds is not lost.
    #[test]
    fn g_d11_a_look_in_between_loses_no_click() {
        let mut watch = Watch::new(0);
        for ms in [2500, 2600, 2750, 7001] {
            watch.expire(ms * 1000, &Dead::default());
        }
        assert_eq!(watch.verdict(), Some(Verdict::Dead));
    }

    #[test]
    fn every_kind_of_answer_has_its_time() {
        for answer in [Answer::Dom, Answer::Nav, Answer::Net, Answer::Open, Answer::Input] {
            assert_eq!(raw(answer, 2500), Verdict::Answered);
            assert_eq!(raw(answer, -1), Verdict::Dead, "what came before the click is no answer");
        }
        assert_eq!((raw(Answer::Selection, 100), raw(Answer::Selection, 101)), (Verdict::Answered, Verdict::Dead));
        assert_eq!((raw(Answer::Focus, 999), raw(Answer::Focus, 1000)), (Verdict::Answered, Verdict::Dead));
    }

    #[test]
    fn a_measured_reaction_is_judged_alike() {
        let settings = Dead::default();
        let dom = |ms| judge_measured(&Reaction { dom_ms: Some(ms), ..Reaction::default() }, &settings);
        for ms in [0, 2500, 2501, 7000, 7001] {
            assert_eq!(dom(ms), raw(Answer::Dom, ms), "{ms}");
        }
        let mixed = Reaction { dom_ms: Some(5000), net_ms: Some(20), ..Reaction::default() };
        assert_eq!(judge_measured(&mixed, &settings), Verdict::Answered, "the first counts");
        let alive = Reaction { dom_ms: Some(5000), visibility_ms: Some(-600), ..Reaction::default() };
        assert_eq!(judge_measured(&alive, &settings), Verdict::Answered);
        assert_eq!(judge_measured(&Reaction::default(), &settings), Verdict::Dead);
    }

    #[test]
    fn leaving_by_navigation_answers() {
        let settings = Dead::default();
        let left = |how, ms: i64| {
            let mut watch = Watch::new(0);
            watch.leave(how, ms * 1000, &settings);
            watch.verdict().unwrap()
        };
        assert_eq!(left(Leave::Navigation, 2000), Verdict::Answered);
        assert_eq!(left(Leave::Navigation, 4000), Verdict::Slow(4_000_000));
        assert_eq!(left(Leave::Close, 2499), Verdict::Unknown);
        assert_eq!(left(Leave::Close, 2500), Verdict::Dead);
    }

    /// The outcomes that Datadog's tests publish for what is clicked: all without an answer.
    #[test]
    fn datadogs_elements_come_out_as_theirs() {
        let settings = Preset::Datadog.settings().dead;
        let element = |tag: &str| Element { tag: tag.to_owned(), ..Element::default() };
        let input = |input_type: &str| Element { input_type: input_type.to_owned(), ..element("input") };
        let link = Element { has_href: true, ..element("a") };
        let editor = Element { is_editable: true, ..element("div") };
        let label = |control: Option<Element>| Element {
            is_label_for: true,
            control: control.map(Box::new),
            ..element("label")
        };
        for (path, dead) in [
            (vec![input("")], false),
            (vec![element("textarea")], false),
            (vec![input("checkbox")], true),
            (vec![input("password")], false),
            (vec![element("canvas")], false),
            (vec![element("a")], true),
            (vec![link.clone()], false),
            (vec![element("span"), link], false),
            (vec![editor.clone()], false),
            (vec![element("span"), editor], false),
            (vec![label(Some(input("text")))], false),
            (vec![label(Some(input("checkbox")))], true),
            (vec![label(None)], true),
        ] {
            let traits = Target::of(&path, &StepWords::default()).traits;
            let click = Click { traits, ..Click::default() };
            assert_eq!(is_candidate(&click, &settings), dead, "{path:?}");
        }
    }

    #[test]
    fn by_our_numbers_only_what_looks_clickable_is_a_candidate() {
        let candidate =
            |traits, modifiers| is_candidate(&Click { traits, modifiers, ..Click::default() }, &Dead::default());
        assert!(candidate(Traits::INTERACTIVE, false));
        assert!(!candidate(Traits::INTERACTIVE, true), "a modifier opens elsewhere");
        assert!(!candidate(Traits::default(), false));
        for trait_ in [Traits::AWAY, Traits::SELECT, Traits::DOCUMENT, Traits::SURFACE] {
            assert!(!candidate(Traits::INTERACTIVE.and(trait_), false));
        }
    }

    #[test]
    fn posthog_takes_a_late_change_for_none() {
        let settings = Preset::Posthog.settings().dead;
        let dom = |ms| judge_measured(&Reaction { dom_ms: Some(ms), ..Reaction::default() }, &settings);
        assert_eq!((dom(2499), dom(2500)), (Verdict::Answered, Verdict::Dead));
    }
}
