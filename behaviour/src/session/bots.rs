//! Bots: visits that no person made. They are flagged and routed, never deleted.
//!
//! A visit is a bot's from the moment on that one sign of it was seen, and it stays one. The signs are what the browser says of
//! itself, more interactions or page views in a minute than hands can make, and clicks as even as a metronome's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The most times that are kept to count what happened within a minute, whatever the settings say.
pub const RATE_MAX: usize = 1_000;
/// The most gaps between clicks that are kept, whatever the settings say.
pub const GAPS_MAX: usize = 100;

/// The span in which interactions and page views are counted, its ends included.
const SPAN_MS: i64 = 60_000;

/// What user agents of bots contain, in lower case. A shell that wraps a web page for the desktop is not among them.
const AGENTS: &[&str] = &[
    "ahrefsbot",
    "applebot",
    "baiduspider",
    "bingbot",
    "bytespider",
    "ccbot",
    "chrome-lighthouse",
    "claudebot",
    "crawler",
    "curl/",
    "cypress",
    "discordbot",
    "dotbot",
    "duckduckbot",
    "facebookexternalhit",
    "go-http-client",
    "googlebot",
    "gptbot",
    "headlesschrome",
    "linkedinbot",
    "mj12bot",
    "petalbot",
    "phantomjs",
    "pingdom",
    "python-requests",
    "semrushbot",
    "slackbot",
    "statuscake",
    "telegrambot",
    "twitterbot",
    "uptimerobot",
    "wget/",
    "yandexbot",
];

/// When a visit is a bot's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotSettings {
    /// More interactions than this within 60 s; at most [`RATE_MAX`].
    pub interactions_per_min: usize,
    /// More page views than this within 60 s; at most [`RATE_MAX`].
    pub page_views_per_min: usize,
    /// This many clicks in a row with gaps that are alike; at most [`GAPS_MAX`] + 1, at least 3.
    pub metronome_clicks: usize,
    /// How far gaps that are alike may be apart, in milliseconds.
    pub metronome_ms: i64,
}

impl Default for BotSettings {
    fn default() -> Self {
        Self { interactions_per_min: 300, page_views_per_min: 60, metronome_clicks: 20, metronome_ms: 2 }
    }
}

/// The sign that gave a bot away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BotReason {
    /// The user agent is that of a known bot.
    Agent,
    /// A browser event without a user agent.
    NoAgent,
    /// The browser says that it is driven by a program.
    Webdriver,
    /// Too many interactions within a minute.
    InteractionRate,
    /// Too many page views within a minute.
    PageViewRate,
    /// Clicks as even as a metronome's.
    Metronome,
}

/// Returns what the browser of an event says of itself, if it is a sign of a bot.
pub fn by_browser(user_agent: Option<&str>, is_webdriver: bool) -> Option<BotReason> {
    let Some(agent) = user_agent.filter(|agent| !agent.trim().is_empty()) else { return Some(BotReason::NoAgent) };
    if is_webdriver {
        return Some(BotReason::Webdriver);
    }
    let agent = agent.to_ascii_lowercase();
    AGENTS.iter().any(|known| agent.contains(known)).then_some(BotReason::Agent)
}

/// When an event happened, by the best clock there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant<'a> {
    /// Event time, milliseconds.
    pub time: i64,
    /// The page load and the microseconds since it, where known; within one page load they count, not the event time.
    pub since_load: Option<(&'a str, i64)>,
}

/// What is remembered of a visit to know a bot: some times of the last minute, and the last gaps between clicks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BotWatch {
    interactions: VecDeque<i64>,
    page_views: VecDeque<i64>,
    last_click: Option<LastClick>,
    /// Microseconds.
    gaps: VecDeque<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LastClick {
    time: i64,
    since_load: Option<(String, i64)>,
}

impl BotWatch {
    /// Takes in an interaction, and says whether it was one too many.
    pub fn interaction(&mut self, settings: &BotSettings, time: i64) -> Option<BotReason> {
        is_too_many(&mut self.interactions, time, settings.interactions_per_min).then_some(BotReason::InteractionRate)
    }

    /// Takes in a page view, and says whether it was one too many.
    pub fn page_view(&mut self, settings: &BotSettings, time: i64) -> Option<BotReason> {
        is_too_many(&mut self.page_views, time, settings.page_views_per_min).then_some(BotReason::PageViewRate)
    }

    /// Takes in a click, and says whether the last ones were too even.
    pub fn click(&mut self, settings: &BotSettings, at: Instant<'_>) -> Option<BotReason> {
        let gap = self.last_click.as_ref().map(|last| last.gap_us(at));
        match (&mut self.last_click, at.since_load) {
            // The text of the page load is kept as it is: it seldom changes.
            (Some(LastClick { time, since_load: Some((load, us)) }), Some((its_load, its_us))) if load == its_load => {
                (*time, *us) = (at.time, its_us);
            }
            (last, since_load) => {
                let since_load = since_load.map(|(load, us)| (load.to_owned(), us));
                *last = Some(LastClick { time: at.time, since_load });
            }
        }
        let wanted = settings.metronome_clicks.clamp(3, GAPS_MAX + 1) - 1;
        let gap = gap?;
        let near_us = settings.metronome_ms.saturating_mul(1_000);
        let is_like_the_last =
            self.gaps.back().is_some_and(|last| gap.saturating_sub(*last).saturating_abs() <= near_us);
        self.gaps.push_back(gap);
        while self.gaps.len() > wanted {
            self.gaps.pop_front();
        }
        // Most clicks are told by the gap before; only of the others all gaps are looked at.
        if self.gaps.len() < wanted || !is_like_the_last {
            return None;
        }
        let (least, most) = (self.gaps.iter().min()?, self.gaps.iter().max()?);
        (most.saturating_sub(*least) <= near_us).then_some(BotReason::Metronome)
    }
}

impl LastClick {
    fn gap_us(&self, at: Instant<'_>) -> i64 {
        match (&self.since_load, at.since_load) {
            (Some((load, us)), Some((its_load, its_us))) if load == its_load => its_us.saturating_sub(*us),
            _ => at.time.saturating_sub(self.time).saturating_mul(1_000),
        }
    }
}

/// Adds `time` to the times of the last minute, and says whether there are then more than `limit`.
fn is_too_many(times: &mut VecDeque<i64>, time: i64, limit: usize) -> bool {
    while times.front().is_some_and(|first| time.saturating_sub(*first) > SPAN_MS) {
        times.pop_front();
    }
    times.push_back(time);
    if times.len() <= limit.min(RATE_MAX) {
        return false;
    }
    times.pop_front();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clicks(times_us: impl IntoIterator<Item = i64>) -> Vec<usize> {
        let mut watch = BotWatch::default();
        let settings = BotSettings::default();
        let at = |us: i64| Instant { time: 0, since_load: Some(("load", us)) };
        let found = times_us.into_iter().map(|us| watch.click(&settings, at(us))).enumerate();
        found.filter_map(|(nth, found)| found.map(|_| nth + 1)).collect()
    }

    #[test]
    fn a_browser_gives_itself_away() {
        let person = Some("Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0");
        assert_eq!(by_browser(person, false), None);
        assert_eq!(by_browser(Some("Mozilla/5.0 SomeApp Electron/31.0"), false), None);
        assert_eq!(by_browser(person, true), Some(BotReason::Webdriver));
        assert_eq!(by_browser(Some("Mozilla/5.0 HeadlessChrome/120"), false), Some(BotReason::Agent));
        assert_eq!(by_browser(Some(" "), false), Some(BotReason::NoAgent));
        assert_eq!(by_browser(None, false), Some(BotReason::NoAgent));
    }

    #[test]
    fn the_301st_interaction_within_a_minute_is_a_bot_s() {
        let settings = BotSettings::default();
        let mut watch = BotWatch::default();
        let found: Vec<_> = (0..=300).map(|n| watch.interaction(&settings, n * 200)).collect();
        assert!(found[..300].iter().all(Option::is_none));
        assert_eq!(found[300], Some(BotReason::InteractionRate), "60 s after the first, and the end counts");
        let mut watch = BotWatch::default();
        assert!((0..=300).all(|n| watch.interaction(&settings, n * 200 + n / 300).is_none()), "60.001 s are too long");
    }

    #[test]
    fn the_61st_page_view_within_a_minute_is_a_bot_s() {
        let settings = BotSettings::default();
        let mut watch = BotWatch::default();
        let found: Vec<_> = (0..=60).map(|n| watch.page_view(&settings, n * 1_000)).collect();
        assert!(found[..60].iter().all(Option::is_none));
        assert_eq!(found[60], Some(BotReason::PageViewRate));
    }

    #[test]
    fn twenty_even_clicks_are_a_metronome_s() {
        assert_eq!(clicks((0..20).map(|n| n * 500_000)), [20]);
        assert!(clicks((0..19).map(|n| n * 500_000)).is_empty());
        assert_eq!(clicks((0..20).map(|n| n * 500_000 + (n % 2) * 1_000)), [20], "gaps 2 ms apart are alike");
        assert!(clicks((0..40).map(|n| n * 500_000 + (n % 2) * 1_001)).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let settings =
            BotSettings { interactions_per_min: usize::MAX, metronome_clicks: usize::MAX, ..BotSettings::default() };
        let mut watch = BotWatch::default();
        for n in 0..5_000 {
            watch.interaction(&settings, n);
            watch.click(&settings, Instant { time: n * n, since_load: None });
        }
        assert!(watch.interactions.len() <= RATE_MAX && watch.gaps.len() <= GAPS_MAX);
    }
}
