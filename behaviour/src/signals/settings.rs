//! The numbers behind the rules, all with their defaults. What a job does not set keeps its default, one by one.

use serde::{Deserialize, Deserializer};

#[macro_use]
mod written;

use self::written::Setting;
use super::SignalKind;
use crate::target::{StepWords, Traits};

pub use written::{Form, SettingField};

/// The longest a duration may be: with a closed or an open end. Written as ms (`1000`, closed) or as `"<1000"` (open).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit {
    /// The longest duration that still holds, in µs.
    pub us: i64,
}

impl Limit {
    /// No duration holds.
    pub const NEVER: Limit = Limit { us: -1 };

    /// Up to `ms`, that included.
    pub const fn at_most(ms: i64) -> Limit {
        Limit { us: ms.saturating_mul(1000) }
    }

    /// Less than `ms`.
    pub const fn below(ms: i64) -> Limit {
        Limit { us: ms.saturating_mul(1000).saturating_sub(1) }
    }

    /// Returns whether a duration of `us` holds.
    pub fn holds(self, us: i64) -> bool {
        (0..=self.us).contains(&us)
    }
}

impl Limit {
    /// Reads `1000` or `<1000`.
    pub fn parse(text: &str) -> Option<Limit> {
        let text = text.trim();
        match text.strip_prefix('<') {
            Some(ms) => ms.trim().parse().ok().filter(|ms| *ms >= 0).map(Limit::below),
            None => text.parse().ok().filter(|ms| *ms >= 0).map(Limit::at_most),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Closed(i64),
            Open(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Closed(ms) => Ok(Limit::at_most(ms)),
            Written::Open(text) => {
                let ms = text.trim().strip_prefix('<').and_then(|ms| ms.trim().parse().ok());
                ms.map(Limit::below)
                    .ok_or_else(|| serde::de::Error::custom("a limit is a number of ms, or `<` and one"))
            }
        }
    }
}

/// The signals that are looked for: a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enabled(pub u32);

impl Enabled {
    /// All of them.
    pub const ALL: Enabled = Enabled(u32::MAX);

    /// Returns the set of `kinds`; the marker of a cap is always among them.
    pub fn only(kinds: &[SignalKind]) -> Enabled {
        Enabled(kinds.iter().fold(1 << SignalKind::Capped as u32, |all, kind| all | 1 << *kind as u32))
    }

    /// Returns whether any of `kinds` is in it.
    pub fn any(self, kinds: &[SignalKind]) -> bool {
        kinds.iter().any(|kind| self.has(*kind))
    }

    /// Returns whether `kind` is in it.
    pub fn has(self, kind: SignalKind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }
}

impl<'de> Deserialize<'de> for Enabled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Enabled::only(&Vec::deserialize(deserializer)?))
    }
}

/// All settings of the signals.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which signals are looked for.
    pub enabled: Enabled,
    /// How far event times of one page load may stray from its monotonic clock, in ms. Events that carry that clock are
    /// put in its order, and so are judged this much later.
    pub clock_skew_ms: i64,
    /// Rage clicks.
    pub rage: Rage,
    /// Dead and slow clicks, and dead swipes.
    pub dead: Dead,
    /// Error clicks.
    pub error: ErrorClick,
    /// Pages left at once.
    pub quick_back: QuickBack,
    /// Thrashed cursors.
    pub thrash: Thrash,
    /// Excessive scrolling.
    pub scroll: ScrollTurns,
    /// Forms abandoned and refused.
    pub form: Forms,
    /// Failing requests.
    pub network: Network,
    /// Reloads and redirects.
    pub reload: Reload,
    /// The checkout.
    pub checkout: Checkout,
    /// Sluggish pages.
    pub jank: Jank,
    /// Pages that fall apart.
    pub crash: Crash,
    /// Swipes.
    pub swipe: Swipes,
    /// Searches.
    pub search: Searches,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            enabled: Enabled::ALL,
            clock_skew_ms: 2000,
            rage: Rage::default(),
            dead: Dead::default(),
            error: ErrorClick::default(),
            quick_back: QuickBack::default(),
            thrash: Thrash::default(),
            scroll: ScrollTurns::default(),
            form: Forms::default(),
            network: Network::default(),
            reload: Reload::default(),
            checkout: Checkout::default(),
            jank: Jank::default(),
            crash: Crash::default(),
            swipe: Swipes::default(),
            search: Searches::default(),
        }
    }
}

groups! {
    "rage" Rage rage;
    "words" Words rage.words;
    "dead" Dead dead;
    "error" ErrorClick error;
    "quick_back" QuickBack quick_back;
    "thrash" Thrash thrash;
    "scroll" ScrollTurns scroll;
    "form" Forms form;
    "network" Network network;
    "reload" Reload reload;
    "checkout" Checkout checkout;
    "jank" Jank jank;
    "crash" Crash crash;
    "swipe" Swipes swipe;
    "search" Searches search;
}

/// What makes quick clicks a rage click.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Any `clicks` of the chain lie within `window`.
    Sliding,
    /// The chain has `clicks`, each within `gap` of the one before.
    Consecutive,
    /// The chain has `clicks` within `window` of the first, and that one is dead.
    OnDead,
}

/// When two clicks are on one spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// On one named target and near (`same_target_px`), or very near (`radius_px`) on whatever.
    TargetOrNear,
    /// Very near (`radius_px`, the sum of both axes, open), on whatever.
    Near,
    /// On one named target and near (`same_target_px`, as the crow flies, closed).
    TargetAndNear,
    /// On one named target.
    Target,
    /// On one named target, and all clicks within a box of `same_target_px`.
    TargetAndBox,
}

/// Clicks that a chain may have to have at most.
pub const CLICKS_MAX: u8 = 8;

settings! {
    /// Rage clicks.
    Rage {
        /// What is counted.
        mode: Mode = Mode::Sliding,
        /// How many clicks it takes; 2 to 8.
        clicks: u8 = 3 => (2, 8),
        /// Within how long they lie.
        window: Limit = Limit::at_most(1000),
        /// How long after the one before a click still belongs to the chain.
        gap: Limit = Limit::at_most(1000),
        /// What is one spot.
        space: Space = Space::TargetOrNear,
        /// Very near: less than this, in CSS pixels, the sum of both axes.
        radius_px: i32 = 30,
        /// Near: at most this, in CSS pixels, as the crow flies.
        same_target_px: i32 = 100,
        /// What it is worth.
        points: u32 = 4,
        /// What it is worth if every click was answered.
        points_responsive: u32 = 2,
    }
    beside {
        /// Targets on which quick clicks mean nothing: a preset fixes them.
        not_on: TraitSet = TraitSet(RAGE_NOT_ON),
        /// Words of elements that are made for many clicks; their settings are a group of their own.
        words: Words = Words::default(),
    }
}

words!(Mode: Sliding "sliding", Consecutive "consecutive", OnDead "on_dead");
words!(
    Space: TargetOrNear "target_or_near",
    Near "near",
    TargetAndNear "target_and_near",
    Target "target",
    TargetAndBox "target_and_box"
);

const RAGE_NOT_ON: Traits =
    Traits::TEXT_FIELD.and(Traits::STEPS).and(Traits::SURFACE).and(Traits::SLIDER).and(Traits::KEYPAD);

/// A set of traits that a preset fixes; a job does not write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraitSet(pub Traits);

impl<'de> Deserialize<'de> for TraitSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let known = |name: &String| match Traits::parse(name) {
            unknown if unknown == Traits::default() => {
                Err(serde::de::Error::custom(format!("no such trait: `{name}`")))
            }
            one => Ok(one),
        };
        let sets = names.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        Ok(TraitSet(sets.into_iter().fold(Traits::default(), Traits::and)))
    }
}

settings! {
    /// Words of elements that are made for many clicks; see `StepWords`.
    Words {
        /// Anywhere in the text, in lower case.
        contained: Vec<String> = StepWords::default().contained,
        /// The whole text.
        whole: Vec<String> = StepWords::default().whole,
    }
}

settings! {
    /// Dead and slow clicks.
    Dead {
        /// An answer within this is in time.
        ok: Limit = Limit::at_most(2500),
        /// An answer within this is slow; without one by then the click is dead.
        timeout: Limit = Limit::at_most(7000),
        /// Scrolling within this is an answer.
        scroll: Limit = Limit::at_most(300),
        /// A change of the selection within this is an answer.
        selection: Limit = Limit::at_most(100),
        /// A change of visibility or focus so near, before or after, is an answer.
        liveness: Limit = Limit::below(1000),
        /// A click on a target that was clicked so shortly before is no candidate.
        same_node: Limit = Limit::below(1000),
        /// Whether only what looks as if it could be clicked is a candidate.
        require_interactive: bool = true,
        /// Whether a slow answer makes a click dead.
        slow_is_dead: bool = false,
        /// What a dead click is worth.
        points: u32 = 2,
        /// What a slow click is worth.
        slow_points: u32 = 2,
    }
}

settings! {
    /// Error clicks.
    ErrorClick {
        /// An error within this of the newest click is its doing.
        window: Limit = Limit::at_most(2000),
        /// An error that also came within this before the click is not, in ms.
        noise_ms: i64 = 10_000,
        /// What it is worth.
        points: u32 = 5,
    }
}

settings! {
    /// Pages left at once for the one before.
    QuickBack {
        /// A shorter stay is a redirect, in ms.
        min_dwell_ms: i64 = 250,
        /// A longer stay is a visit, in ms.
        max_dwell_ms: i64 = 5000,
        /// What it is worth.
        points: u32 = 1,
    }
}

settings! {
    /// Thrashed cursors.
    Thrash {
        /// Reversals on one axis; 2 to 16.
        reversals: u8 = 10 => (2, 16),
        /// Within how long they lie.
        window: Limit = Limit::below(2000),
        /// The shortest leg that counts, in CSS pixels.
        min_leg_px: i32 = 3,
        /// The shortest way, in CSS pixels.
        min_path_px: i64 = 500,
        /// The series is over after so long without a reversal, in ms.
        debounce_ms: i64 = 2000,
        /// What it is worth.
        points: u32 = 1,
    }
}

settings! {
    /// Excessive scrolling.
    ScrollTurns {
        /// Within how long the reversals lie.
        window: Limit = Limit::at_most(20_000),
        /// How many; 2 to 16.
        reversals: u8 = 6 => (2, 16),
        /// The shortest leg, in percent of the view's height.
        leg_viewport_pct: i64 = 25,
        /// The shortest way, in heights of the view.
        travel_viewports: i64 = 4,
        /// Whether the end of each page view is told, with its reversals: what `scroll_baseline` learns a page's average from.
        page_ends: bool = false,
        /// What it is worth.
        points: u32 = 1,
    }
}

settings! {
    /// Forms.
    Forms {
        /// Fields changed that make work on a form.
        min_fields: u8 = 2,
        /// Or so long in it, in ms.
        min_ms: i64 = 10_000,
        /// A submit that was not refused within this succeeded, in ms.
        submit_result_ms: i64 = 5000,
        /// Refusals that make a signal; 2 to 8.
        failures: u8 = 3 => (2, 8),
        /// Within how long they lie.
        failure_window: Limit = Limit::at_most(300_000),
        /// What an abandoned form is worth.
        abandon_points: u32 = 3,
        /// What a refused form or field is worth.
        failure_points: u32 = 5,
        /// What a refused sign-in is worth.
        auth_points: u32 = 2,
    }
}

settings! {
    /// Failing requests.
    Network {
        /// Failures of one endpoint; 2 to 8.
        same_endpoint: u8 = 3 => (2, 8),
        /// Within how long they lie.
        same_window: Limit = Limit::at_most(30_000),
        /// Failures of any endpoints; 2 to 8.
        any: u8 = 5 => (2, 8),
        /// Within how long they lie.
        any_window: Limit = Limit::at_most(60_000),
        /// A further failure of one endpoint counts only after this, in ms, unless a click came before it.
        poll_floor_ms: i64 = 5000,
        /// The signal is over after so long without a failure, in ms.
        quiet_ms: i64 = 60_000,
        /// An unanswered request so shortly before the page was left was given up by leaving, in ms.
        leaving_ms: i64 = 500,
        /// A refusal (401) that a success follows within this was the renewal of a token, in ms.
        token_ms: i64 = 5000,
        /// What it is worth.
        points: u32 = 4,
    }
}

settings! {
    /// Reloads and redirects.
    Reload {
        /// Reloads of one page; 2 to 8.
        count: u8 = 3 => (2, 8),
        /// Within how long they lie.
        span: Limit = Limit::below(60_000),
        /// Page views without anything done between; 2 to 8.
        redirect_count: u8 = 6 => (2, 8),
        /// Within how long they lie.
        redirect_window: Limit = Limit::at_most(10_000),
        /// The signal is over after so long without a reload, in ms.
        quiet_ms: i64 = 60_000,
        /// What a reload loop is worth.
        points: u32 = 4,
        /// What a redirect loop is worth.
        redirect_points: u32 = 6,
    }
}

settings! {
    /// The checkout.
    Checkout {
        /// Active time on one step, in ms.
        active_ms: i64 = 120_000,
        /// The most that one interaction adds to it, in ms.
        interaction_credit_ms: i64 = 15_000,
        /// Failed attempts on the step.
        attempts: u32 = 2,
        /// What being stuck is worth.
        points: u32 = 8,
        /// What leaving is worth.
        drop_points: u32 = 3,
        /// An order within this makes good.
        recover: Limit = Limit::at_most(30 * 60 * 1000),
    }
}

settings! {
    /// Sluggish pages.
    Jank {
        /// A longer interaction is slow, in ms.
        slow_interaction_ms: i64 = 500,
        /// Slow interactions; 2 to 8.
        slow_count: u8 = 3 => (2, 8),
        /// Within how long they lie.
        slow_window: Limit = Limit::at_most(60_000),
        /// Blocking time, in ms: what long tasks take above 50 ms each.
        blocking_ms: i64 = 2000,
        /// Within how long it is spent.
        blocking_window: Limit = Limit::at_most(10_000),
        /// Long tasks so shortly after the page's view do not count, in ms.
        load_grace_ms: i64 = 5000,
        /// The signal is over after so long without more, in ms.
        quiet_ms: i64 = 60_000,
        /// What it is worth.
        points: u32 = 1,
    }
}

settings! {
    /// Pages that fall apart.
    Crash {
        /// How much of the document vanishes, in percent.
        removed_pct: u8 = 70,
        /// How near an error is to that.
        window: Limit = Limit::below(2000),
        /// How long a view is blank, in ms.
        blank_ms: i64 = 3000,
        /// What it is worth.
        points: u32 = 8,
        /// What a failed take-over of a server's page is worth.
        hydration_points: u32 = 2,
    }
}

settings! {
    /// Swipes.
    Swipes {
        /// The shortest swipe, in CSS pixels, as the crow flies.
        min_px: i32 = 30,
        /// Dead swipes of one page load.
        per_page_load: u8 = 10,
        /// What it is worth.
        points: u32 = 2,
    }
}

settings! {
    /// Searches.
    Searches {
        /// Different queries; 2 to 8.
        queries: u8 = 3 => (2, 8),
        /// Within how long they lie.
        window: Limit = Limit::at_most(120_000),
        /// What it is worth.
        points: u32 = 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_keeps_its_default() {
        let settings: Settings = serde_json::from_str(r#"{"rage": {"clicks": 4}, "dead": {"ok": "<100"}}"#).unwrap();
        assert_eq!(settings.rage, Rage { clicks: 4, ..Rage::default() });
        assert_eq!(settings.dead, Dead { ok: Limit::below(100), ..Dead::default() });
        assert_eq!(settings.jank, Jank::default());
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for json in
            [r#"{"raje": {}}"#, r#"{"rage": {"click": 4}}"#, r#"{"dead": {"ok": "soon"}}"#, r#"{"enabled": ["x"]}"#]
        {
            assert!(serde_json::from_str::<Settings>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_job_sets_one_by_one_and_reads_what_it_would_write() {
        for group in Settings::GROUPS {
            let fields = Settings::fields(group);
            assert!(!fields.is_empty(), "{group}");
            for field in fields {
                let mut settings = Settings::default();
                let written = settings.get(group, field.name).unwrap();
                let texts: Vec<&str> = match field.form {
                    Form::Texts => written.split(", ").collect(),
                    _ => vec![&written],
                };
                settings.set(group, field.name, &texts).unwrap();
                assert_eq!(settings, Settings::default(), "{group}.{}", field.name);
                assert!(field.doc.len() > 5);
            }
        }
        let mut settings = Settings::default();
        settings.set("rage", "clicks", &["4"]).unwrap();
        settings.set("dead", "ok", &["<100"]).unwrap();
        settings.set("rage", "mode", &["on_dead"]).unwrap();
        settings.set("words", "whole", &["+", "-"]).unwrap();
        assert_eq!((settings.rage.clicks, settings.dead.ok, settings.rage.mode), (4, Limit::below(100), Mode::OnDead));
        assert_eq!(settings.rage.words.whole, ["+", "-"]);
        for (group, name, text) in [
            ("rage", "click", "4"),
            ("raje", "clicks", "4"),
            ("rage", "clicks", "many"),
            ("rage", "mode", "x"),
            ("dead", "ok", "-1"),
        ] {
            assert!(settings.set(group, name, &[text]).is_err(), "{group}.{name}");
        }
        let bounds = Rage::FIELDS.iter().find(|field| field.name == "clicks").map(|field| field.form);
        assert_eq!(bounds, Some(Form::Int(2, 8)));
    }

    #[test]
    fn limits_are_closed_or_open() {
        assert!(Limit::at_most(1000).holds(1_000_000) && !Limit::at_most(1000).holds(1_000_001));
        assert!(Limit::below(1000).holds(999_999) && !Limit::below(1000).holds(1_000_000));
        assert!(!Limit::at_most(1000).holds(-1) && !Limit::NEVER.holds(0));
    }

    #[test]
    fn signals_are_chosen_by_name() {
        let settings: Settings = serde_json::from_str(r#"{"enabled": ["rage_click"]}"#).unwrap();
        assert!(settings.enabled.has(SignalKind::RageClick) && settings.enabled.has(SignalKind::Capped));
        assert!(!settings.enabled.has(SignalKind::DeadClick));
    }
}
