//! The desk of clicks: what is known of the clicks of one page, until it is clear what each of them was.
//!
//! A click may be part of a rage chain, may be dead or slow, and may be followed by an error. Clicks of a rage chain give no
//! signals of their own: what they were sets flags on the chain's. So a click's own signals wait until its chain is closed,
//! which takes a second, and a rage click is told twice: when its chain is closed, and when all its clicks are judged.
//!
//! Keeps: the open chain, at most `PENDING_MAX` clicks that wait for a verdict, at most `RAGES_MAX` rage clicks that wait for
//! theirs, and the newest click. A click beyond that is not judged; its chain is not called responsive then.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::dead_click::{self, Verdict, Watch};
use super::error_click::Errors;
use super::rage_click::{Chain, RageClick, Tap, mark};
use super::row::{Draft, EVIDENCE_MAX, Flags};
use super::scene::{Emit, Machine, Moment, Scene, Seen};
use super::settings::{Mode, Settings};
use crate::event::payload::{Answer, Caps, Click, Payload};
use crate::event::{EventRef, Position};
use crate::target::{Ignore, Traits};

/// Clicks that wait for a verdict at most.
pub const PENDING_MAX: usize = 64;
/// Rage clicks that wait for the verdicts of their clicks at most; further ones are told as they are.
pub const RAGES_MAX: usize = 16;
/// How long after the click on a label its control's own click is the same, in µs.
const ECHO_US: i64 = 5000;
/// How long before a click the pointer may have gone down, in ms.
const POINTER_DOWN_MS_MAX: i64 = 60_000;

/// The desk of clicks of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clicks {
    rage: RageClick,
    /// The number of the chain that is open, or was last.
    chain: u64,
    opening: Opening,
    /// Oldest first.
    pending: Vec<Pending>,
    /// Oldest first.
    rages: Vec<OpenRage>,
    newest: Newest,
    errors: Errors,
    /// When each kind of answer was seen last, by `Answer`, in µs.
    answered_us: [Option<i64>; 9],
}

/// What will be the row of the open chain, if it turns out to be one. Its strings are used again for the next chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Opening {
    evidence: Vec<(EventRef, i64)>,
    /// How many of `evidence` belong to the chain.
    used: usize,
    target_fp: String,
    end: i64,
    /// Whether a click of it stays without a verdict.
    is_unjudged: bool,
    /// Whether a click of it was on the main button of a step.
    is_main: bool,
}

/// A click that waits for its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    this: EventRef,
    at_us: i64,
    time: i64,
    chain: u64,
    target_fp: String,
    traits: Traits,
    ignore: Ignore,
    /// Whether it should be answered so that one can see it.
    is_candidate: bool,
    /// Whether its target was clicked just before.
    is_repeat: bool,
    watch: Watch,
    error: Option<Hit>,
    /// Whether its own signal was told, or needs not be.
    is_judged: bool,
}

/// An error that a click is followed by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hit {
    error_fp: String,
    this: EventRef,
    time: i64,
    is_told: bool,
}

/// A rage click that waits for the verdicts of its clicks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenRage {
    chain: u64,
    first_us: i64,
    last_us: i64,
    draft: Draft,
    is_unjudged: bool,
    is_main: bool,
    /// Whether no further error can be its doing.
    is_past: bool,
}

/// The newest click of the page: the only one that an error is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    is_set: bool,
    is_used: bool,
    this: EventRef,
    at_us: i64,
    time: i64,
    chain: u64,
    target: u64,
    target_fp: String,
    traits: Traits,
    ignore: Ignore,
}

fn copy_ref(to: &mut EventRef, from: &EventRef) {
    to.id.clone_from(&from.id);
    to.position = from.position;
}

impl Opening {
    fn begin(&mut self, target_fp: &str) {
        self.used = 0;
        self.target_fp.clear();
        self.target_fp.push_str(target_fp);
        (self.is_unjudged, self.is_main) = (false, false);
    }

    fn add(&mut self, seen: &Seen<'_>) {
        self.end = seen.time();
        if self.used == EVIDENCE_MAX {
            return;
        }
        if self.used == self.evidence.len() {
            self.evidence.push((EventRef { id: String::new(), position: Position::default() }, 0));
        }
        let (this, time) = &mut self.evidence[self.used];
        copy_ref(this, seen.this());
        *time = seen.time();
        self.used += 1;
    }

    fn draft(&self, chain: &Chain, page_key: &str, points: u32) -> Option<Draft> {
        let ((first, time), rest) = self.evidence[..self.used].split_first()?;
        let mut draft = Draft::new(SignalKind::RageClick, page_key, first, *time);
        rest.iter().for_each(|(this, time)| draft.add(this, *time));
        draft.end = draft.end.max(self.end);
        draft.target_fp.clone_from(&self.target_fp);
        (draft.count, draft.points) = (chain.count, points);
        Some(draft)
    }
}

impl Newest {
    fn set(&mut self, seen: &Seen<'_>, click: &Click, target: u64, chain: u64) {
        (self.is_set, self.is_used) = (true, false);
        copy_ref(&mut self.this, seen.this());
        (self.at_us, self.time, self.chain, self.target) = (seen.at_us, seen.time(), chain, target);
        self.target_fp.clone_from(&click.target_fp);
        (self.traits, self.ignore) = (click.traits, click.ignore);
    }

    fn pending(&self) -> Pending {
        Pending {
            this: self.this.clone(),
            at_us: self.at_us,
            time: self.time,
            chain: self.chain,
            target_fp: self.target_fp.clone(),
            traits: self.traits,
            ignore: self.ignore,
            is_candidate: false,
            is_repeat: false,
            watch: Watch::decided(self.at_us, Verdict::Unknown),
            error: None,
            is_judged: true,
        }
    }
}

impl Clicks {
    fn click(&mut self, seen: &Seen<'_>, click: &Click, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = scene.settings;
        let target = mark(&click.target_fp);
        if self.is_echo(seen.at_us, click, target) {
            return;
        }
        let since_us = seen.at_us.saturating_sub(self.newest.at_us);
        let same = self.newest.is_set && target != 0 && self.newest.target == target;
        let is_repeat = same && settings.dead.same_node.holds(since_us);
        self.join(seen, click, target, scene, emit);
        self.errors.click();
        self.newest.set(seen, click, target, self.chain);
        let watch = self.watch(seen, click, scene);
        if watch.verdict() == Some(Verdict::Unknown) || self.pending.len() == PENDING_MAX {
            self.opening.is_unjudged = true;
        } else {
            let is_candidate = dead_click::is_candidate(click, &settings.dead);
            let known = self.newest.pending();
            self.pending.push(Pending { is_candidate, is_repeat, watch, is_judged: false, ..known });
        }
        self.settle(seen.at_us, scene, emit);
    }

    /// Whether it is the click that the browser makes on a label's control. The label's click is then taken to be on that.
    fn is_echo(&mut self, at_us: i64, click: &Click, target: u64) -> bool {
        let newest = &mut self.newest;
        let is_near = (0..=ECHO_US).contains(&at_us.saturating_sub(newest.at_us));
        if !(newest.is_set && newest.traits.any(Traits::LABEL) && is_near && !click.traits.any(Traits::LABEL)) {
            return false;
        }
        newest.traits = click.traits.and(Traits::LABEL);
        if target != 0 && target != newest.target {
            newest.target = target;
            newest.target_fp.clone_from(&click.target_fp);
            if let Some(pending) = self.pending.last_mut().filter(|pending| pending.this == newest.this) {
                pending.target_fp.clone_from(&click.target_fp);
                pending.traits = newest.traits;
            }
        }
        true
    }

    /// Puts a click into its chain.
    fn join(&mut self, seen: &Seen<'_>, click: &Click, target: u64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.rage;
        let wants = emit.wants(SignalKind::RageClick) && !click.ignore.has(SignalKind::RageClick);
        if !wants || click.traits.any(settings.not_on.0) {
            // It is a click elsewhere: it ends the chain and is alone.
            if let Some(chain) = self.rage.close() {
                self.close_chain(&chain, scene, emit);
            }
            self.chain += 1;
            return;
        }
        let tap = Tap {
            at_us: seen.at_us,
            x: click.x,
            y: click.y,
            target,
            spoils: click.selection || click.scroll,
            pairs: click.traits.any(Traits::DOUBLE_CLICK),
        };
        let is_open = self.rage.open().is_some();
        let closed = self.rage.push(&tap, settings).closed;
        if let Some(chain) = &closed {
            self.close_chain(chain, scene, emit);
        }
        if closed.is_some() || !is_open {
            self.chain += 1;
            self.opening.begin(&click.target_fp);
        }
        self.opening.add(seen);
        self.opening.is_main |= click.traits.any(Traits::MAIN_BUTTON);
    }

    fn watch(&self, seen: &Seen<'_>, click: &Click, scene: &Scene<'_>) -> Watch {
        let settings = &scene.settings.dead;
        let down_ms = click.pointer_down_ms.unwrap_or(0).clamp(0, POINTER_DOWN_MS_MAX);
        let base_us = seen.at_us.saturating_sub(down_ms * 1000);
        if !scene.page.caps.has(Caps::REACTIONS) {
            return Watch::decided(base_us, Verdict::Unknown);
        }
        if click.selection || click.scroll {
            return Watch::decided(base_us, Verdict::Answered);
        }
        if let Some(reaction) = &click.reaction {
            return Watch::decided(base_us, dead_click::judge_measured(reaction, settings));
        }
        let mut watch = Watch::new(base_us);
        for (answer, at_us) in ANSWERS.iter().zip(self.answered_us) {
            if let Some(at_us) = at_us {
                watch.see(*answer, at_us, settings);
            }
        }
        watch
    }

    fn answer(&mut self, answer: Answer, at_us: i64, scene: &Scene<'_>) {
        let settings = &scene.settings.dead;
        self.answered_us[answer as usize] = self.answered_us[answer as usize].max(Some(at_us));
        for pending in &mut self.pending {
            pending.watch.see(answer, at_us, settings);
        }
        let since_us = self.rage.open().map(|chain| at_us.saturating_sub(chain.last_us));
        let spoils = since_us.is_some_and(|since| match answer {
            Answer::Selection => settings.selection.holds(since),
            Answer::Scroll => settings.scroll.holds(since),
            _ => false,
        });
        if spoils {
            self.rage.spoil();
        }
    }

    fn error(&mut self, seen: &Seen<'_>, error_fp: &str, settings: &Settings) {
        let click_us = self.newest.is_set.then_some(self.newest.at_us);
        if !self.errors.error(error_fp, seen.at_us, click_us, &settings.error) || self.newest.is_used {
            return;
        }
        self.newest.is_used = true;
        if self.newest.ignore.has(SignalKind::ErrorClick) {
            return;
        }
        if !self.pending.iter().any(|pending| pending.this == self.newest.this) {
            if self.pending.len() == PENDING_MAX {
                return;
            }
            self.pending.push(self.newest.pending());
        }
        let hit = Hit { error_fp: error_fp.to_owned(), this: seen.this().clone(), time: seen.time(), is_told: false };
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.this == self.newest.this) {
            pending.error = Some(hit);
        }
    }

    /// Takes in that a chain is closed. If it is a rage click, it is told.
    fn close_chain(&mut self, chain: &Chain, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.rage;
        if !chain.is_rage() {
            return;
        }
        let Some(mut draft) = self.opening.draft(chain, &scene.page.key, settings.points) else { return };
        if settings.mode != Mode::OnDead {
            emit.tell(&mut draft);
            self.note_attempt(self.opening.is_main, chain.last_us, &draft, emit);
        }
        if self.rages.len() == RAGES_MAX {
            self.pending.retain(|pending| pending.chain != self.chain);
            return;
        }
        self.rages.push(OpenRage {
            chain: self.chain,
            first_us: chain.first_us,
            last_us: chain.last_us,
            draft,
            is_unjudged: self.opening.is_unjudged,
            is_main: self.opening.is_main,
            is_past: false,
        });
    }

    fn note_attempt(&self, is_main: bool, at_us: i64, draft: &Draft, emit: &mut Emit<'_>) {
        if is_main && draft.is_told() {
            emit.attempt(at_us, draft.end, draft.anchor());
        }
    }

    /// Tells what has become clear at `now_us`.
    fn settle(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let window_us = scene.settings.error.window.us;
        let is_past = |at_us: i64| at_us.saturating_add(window_us) < now_us;
        for rage in &mut self.rages {
            rage.is_past |= is_past(rage.last_us);
        }
        while let Some(at) = self.rages.iter().position(|rage| rage.is_past && self.is_judged(rage.chain)) {
            let rage = self.rages.remove(at);
            self.settle_rage(rage, scene, emit);
        }
        let open = self.rage.open().map(|_| self.chain);
        let mut at = 0;
        while let Some(pending) = self.pending.get_mut(at) {
            if Some(pending.chain) == open || self.rages.iter().any(|rage| rage.chain == pending.chain) {
                at += 1;
                continue;
            }
            tell_alone(pending, scene, emit);
            if pending.is_judged && is_past(pending.at_us) {
                self.pending.remove(at);
            } else {
                at += 1;
            }
        }
    }

    fn is_judged(&self, chain: u64) -> bool {
        let mut of_chain = self.pending.iter().filter(|pending| pending.chain == chain);
        of_chain.all(|pending| pending.watch.verdict().is_some())
    }

    /// All clicks of a rage click are judged: it is told again.
    fn settle_rage(&mut self, rage: OpenRage, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.rage;
        let OpenRage { chain, first_us, last_us, mut draft, is_unjudged, is_main, .. } = rage;
        let clicks = || self.pending.iter().filter(|pending| pending.chain == chain);
        if settings.mode == Mode::OnDead {
            let first = clicks().find(|pending| pending.at_us == first_us);
            if first.is_none_or(|first| first.watch.verdict() != Some(Verdict::Dead)) {
                // Its clicks are clicks like others.
                return;
            }
        }
        let mut is_responsive = !is_unjudged;
        for click in clicks() {
            let verdict = click.watch.verdict().unwrap_or(Verdict::Unknown);
            is_responsive &= verdict == Verdict::Answered && click.error.is_none();
            match verdict {
                Verdict::Dead if click.is_candidate => draft.flags.set(Flags::DEAD),
                Verdict::Slow(_) if click.is_candidate => draft.flags.set(Flags::SLOW),
                _ => {}
            }
            if let Some(hit) = &click.error {
                draft.flags.set(Flags::ERROR);
                if draft.cause_fp.is_empty() {
                    draft.cause_fp.clone_from(&hit.error_fp);
                }
            }
        }
        if is_responsive {
            draft.flags.set(Flags::RESPONSIVE);
            draft.points = settings.points_responsive;
        }
        let was_told = draft.is_told();
        emit.tell(&mut draft);
        if !was_told {
            self.note_attempt(is_main, last_us, &draft, emit);
        }
        self.pending.retain(|pending| pending.chain != chain);
    }
}

/// All answers, each at the place of its number.
const ANSWERS: [Answer; 9] = [
    Answer::Dom,
    Answer::Nav,
    Answer::Net,
    Answer::Open,
    Answer::Input,
    Answer::Focus,
    Answer::Scroll,
    Answer::Selection,
    Answer::Visibility,
];

/// Tells what is clear of a click that is in no rage chain.
fn tell_alone(pending: &mut Pending, scene: &Scene<'_>, emit: &mut Emit<'_>) {
    let is_main = pending.traits.any(Traits::MAIN_BUTTON);
    let new = |kind: SignalKind, points: u32| {
        let mut draft = Draft::new(kind, &scene.page.key, &pending.this, pending.time);
        draft.target_fp.clone_from(&pending.target_fp);
        draft.points = points;
        draft
    };
    let mut told = Vec::new();
    if let Some(hit) = pending.error.as_mut().filter(|hit| !hit.is_told) {
        hit.is_told = true;
        let mut draft = new(SignalKind::ErrorClick, scene.settings.error.points);
        draft.cause_fp.clone_from(&hit.error_fp);
        draft.add(&hit.this, hit.time);
        told.push(draft);
    }
    if let Some(verdict) = pending.watch.verdict().filter(|_| !pending.is_judged) {
        pending.is_judged = true;
        let signal = dead_click::signal(verdict, &scene.settings.dead);
        let is_judgeable = pending.is_candidate && !pending.is_repeat;
        if let Some((kind, points)) = signal.filter(|(kind, _)| is_judgeable && !pending.ignore.has(*kind)) {
            let mut draft = new(kind, points);
            if let Verdict::Slow(us) = verdict {
                draft.end = draft.end.saturating_add(us / 1000);
            }
            told.push(draft);
        }
    }
    for mut draft in told {
        emit.tell(&mut draft);
        if is_main && draft.kind != SignalKind::SlowClick && draft.is_told() {
            emit.attempt(pending.at_us, draft.end, &pending.this);
        }
    }
}

impl Machine for Clicks {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::RageClick, SignalKind::DeadClick, SignalKind::SlowClick, SignalKind::ErrorClick]
    }

    fn wakes(_: &Payload) -> bool {
        true
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::Click(click) if click.is_by_hand() => self.click(seen, click, scene, emit),
            Payload::Error(error) if !error.noise => {
                self.error(seen, &error.error_fp, scene.settings);
                self.settle(seen.at_us, scene, emit);
            }
            _ => {
                if let Some((answer, at_us)) = seen.answer() {
                    self.answer(answer, at_us, scene);
                    self.settle(seen.at_us, scene, emit);
                }
            }
        }
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        let window_us = settings.error.window.us;
        let open = self.rage.open().map(|_| self.chain);
        let is_held = |chain: u64| Some(chain) == open || self.rages.iter().any(|rage| rage.chain == chain);
        let click = |pending: &Pending| match pending.watch.due_us(&settings.dead) {
            None if is_held(pending.chain) => None,
            None => Some(pending.at_us.saturating_add(window_us)),
            due => due,
        };
        let rages = self.rages.iter().filter(|rage| !rage.is_past).map(|rage| rage.last_us.saturating_add(window_us));
        let clicks = self.pending.iter().filter_map(click);
        self.rage.due_us(&settings.rage).into_iter().chain(rages).chain(clicks).min()
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        for pending in &mut self.pending {
            pending.watch.expire(now_us, &scene.settings.dead);
        }
        let is_over = self.rage.due_us(&scene.settings.rage).is_some_and(|due| due < now_us);
        if let Some(chain) = self.rage.close_if(is_over) {
            self.close_chain(&chain, scene, emit);
        }
        self.settle(now_us, scene, emit);
    }

    fn leave(&mut self, moment: &Moment, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        for pending in &mut self.pending {
            pending.watch.leave(moment.how, moment.at_us, &scene.settings.dead);
        }
        if let Some(chain) = self.rage.close() {
            self.close_chain(&chain, scene, emit);
        }
        self.settle(i64::MAX, scene, emit);
        self.newest.is_set = false;
        // Visibility and focus are the tab's and not the page's.
        for answer in [Answer::Dom, Answer::Nav, Answer::Net, Answer::Open, Answer::Input, Answer::Scroll] {
            self.answered_us[answer as usize] = None;
        }
        self.answered_us[Answer::Selection as usize] = None;
    }
}

#[cfg(test)]
mod tests;
