//! Presets: the published numbers of other tools, run by the same code.

use super::settings::{Dead, Enabled, Limit, Mode, Rage, Settings, Space, TraitSet};
use crate::target::Traits;

/// Whose numbers are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Our own.
    Ours,
    /// Those of PostHog's browser library.
    Posthog,
    /// Those of Datadog's browser library.
    Datadog,
    /// Those of OpenReplay's server.
    OpenReplay,
    /// Those of Amplitude's autocapture.
    Amplitude,
    /// Those of Sentry's replay.
    Sentry,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 6] =
        [Preset::Ours, Preset::Posthog, Preset::Datadog, Preset::OpenReplay, Preset::Amplitude, Preset::Sentry];

    /// Returns the preset of that name.
    pub fn parse(name: &str) -> Option<Preset> {
        Preset::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Ours => "ours",
            Preset::Posthog => "posthog",
            Preset::Datadog => "datadog",
            Preset::OpenReplay => "openreplay",
            Preset::Amplitude => "amplitude",
            Preset::Sentry => "sentry",
        }
    }

    /// Returns the settings: what a preset does not fix is ours.
    ///
    /// Amplitude's box is not published; 50 CSS pixels is our choice.
    pub fn settings(self) -> Settings {
        let ours = Settings::default();
        let (rage, dead) = match self {
            Preset::Ours => return ours,
            Preset::Posthog => (
                rage(Mode::Consecutive, 3, Limit::below(1000), Space::Near),
                // A change of the document at 2500 ms or later is none.
                Dead { slow_is_dead: true, ..dead(Limit::below(2500), Limit::at_most(2750), Limit::below(100)) },
            ),
            Preset::Datadog => (
                Rage { not_on: TraitSet(Traits::default()), ..ours.rage.clone() },
                dead(Limit::at_most(100), Limit::at_most(100), Limit::at_most(100)),
            ),
            Preset::OpenReplay => (
                rage(Mode::Consecutive, 3, Limit::below(300), Space::Target),
                dead(Limit::at_most(1234), Limit::at_most(1234), Limit::NEVER),
            ),
            Preset::Amplitude => (
                rage(Mode::Sliding, 4, Limit::below(1000), Space::TargetAndBox),
                dead(Limit::at_most(3000), Limit::at_most(3000), Limit::NEVER),
            ),
            Preset::Sentry => (
                rage(Mode::OnDead, 5, Limit::at_most(7000), Space::Target),
                Dead {
                    require_interactive: true,
                    ..dead(Limit::at_most(3000), Limit::at_most(7000), Limit::at_most(300))
                },
            ),
        };
        let rage = match self {
            Preset::Datadog => Rage { space: Space::TargetAndNear, ..rage },
            Preset::Amplitude => Rage { same_target_px: 50, ..rage },
            _ => rage,
        };
        Settings { rage, dead, ..ours }
    }

    /// Returns the settings for rage, dead and slow clicks alone.
    pub fn clicks_only(self) -> Settings {
        use super::SignalKind::{DeadClick, ErrorClick, RageClick, SlowClick};
        Settings { enabled: Enabled::only(&[RageClick, DeadClick, SlowClick, ErrorClick]), ..self.settings() }
    }
}

fn rage(mode: Mode, clicks: u8, limit: Limit, space: Space) -> Rage {
    Rage { mode, clicks, window: limit, gap: limit, space, ..Rage::default() }
}

fn dead(ok: Limit, timeout: Limit, scroll: Limit) -> Dead {
    Dead { ok, timeout, scroll, require_interactive: false, ..Dead::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_go_by_name() {
        for preset in Preset::ALL {
            assert_eq!(Preset::parse(preset.name()), Some(preset));
        }
        assert_eq!(Preset::parse("hotjar"), None);
    }

    #[test]
    fn a_preset_changes_rage_and_dead_clicks_alone() {
        for preset in Preset::ALL {
            let Settings { rage, dead, .. } = Settings::default();
            assert_eq!(Settings { rage, dead, ..preset.settings() }, Settings::default(), "{}", preset.name());
        }
    }

    #[test]
    fn published_numbers_are_the_presets() {
        let clicks = Preset::ALL.map(|preset| preset.settings().rage.clicks);
        assert_eq!(clicks, [3, 3, 3, 3, 4, 5]);
        let timeouts_ms = Preset::ALL.map(|preset| preset.settings().dead.timeout.us / 1000);
        assert_eq!(timeouts_ms, [7000, 2750, 100, 1234, 3000, 7000]);
    }
}
