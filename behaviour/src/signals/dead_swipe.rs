//! Dead swipes: a finger drawn over the screen, without an answer.
//!
//! One finger, at least 30 px as the crow flies, nothing that moved, changed or was selected while it was down, and not on
//! something that reacts invisibly. Then the judge of clicks decides, from the lift of the finger on; links are candidates here.
//! At most 10 are told per page load.
//!
//! Keeps: at most `PENDING_MAX` swipes that wait for a verdict; a further one is not judged.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::dead_click::{self, Verdict, Watch};
use super::row::{Draft, Flags};
use super::scene::{Emit, Machine, Moment, Scene, Seen};
use super::settings::Settings;
use crate::event::payload::{Answer, Caps, Payload, Swipe};
use crate::target::Traits;

/// Swipes that wait for a verdict at most.
pub const PENDING_MAX: usize = 16;

/// The dead swipes of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadSwipe {
    /// Oldest first.
    pending: Vec<(Watch, Draft)>,
    /// The page load that is counted, and its dead swipes.
    told: (u64, u8),
    /// When visibility and focus changed last, in µs.
    alive_us: [Option<i64>; 2],
}

impl DeadSwipe {
    fn swipe(&mut self, seen: &Seen<'_>, swipe: &Swipe, scene: &Scene<'_>) {
        let settings = scene.settings;
        let (dx, dy) = (i128::from(swipe.dx), i128::from(swipe.dy));
        let is_long = dx * dx + dy * dy >= i128::from(settings.swipe.min_px).pow(2);
        let is_candidate = swipe.pointers == 1 && is_long && !swipe.answered_while_down;
        let is_observed = scene.page.caps.has(Caps::REACTIONS) && !swipe.traits.any(Traits::SURFACE);
        let is_wanted = !swipe.ignore.has(SignalKind::DeadSwipe) && self.pending.len() < PENDING_MAX;
        if !(is_candidate && is_observed && is_wanted) {
            return;
        }
        let mut draft = Draft::new(SignalKind::DeadSwipe, &scene.page.key, seen.this(), seen.time());
        draft.target_fp.clone_from(&swipe.target_fp);
        draft.points = settings.swipe.points;
        draft.flags = direction(swipe);
        let mut watch = match &swipe.reaction {
            Some(reaction) => Watch::decided(seen.at_us, dead_click::judge_measured(reaction, &settings.dead)),
            None => Watch::new(seen.at_us),
        };
        for (answer, at_us) in [Answer::Visibility, Answer::Focus].into_iter().zip(self.alive_us) {
            if let Some(at_us) = at_us {
                watch.see(answer, at_us, &settings.dead);
            }
        }
        self.pending.push((watch, draft));
    }

    fn settle(&mut self, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if self.told.0 != scene.page.load_number {
            self.told = (scene.page.load_number, 0);
        }
        let mut at = 0;
        while at < self.pending.len() {
            let Some(verdict) = self.pending[at].0.verdict() else {
                at += 1;
                continue;
            };
            let (_, mut draft) = self.pending.remove(at);
            if verdict == Verdict::Dead && self.told.1 < scene.settings.swipe.per_page_load {
                self.told.1 += 1;
                emit.tell(&mut draft);
            }
        }
    }
}

fn direction(swipe: &Swipe) -> Flags {
    if swipe.dx.unsigned_abs() >= swipe.dy.unsigned_abs() {
        if swipe.dx < 0 { Flags::LEFT } else { Flags::RIGHT }
    } else if swipe.dy < 0 {
        Flags::UP
    } else {
        Flags::DOWN
    }
}

impl Machine for DeadSwipe {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::DeadSwipe]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::Swipe(_) | Payload::Reaction(Answer::Visibility | Answer::Focus))
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if let Payload::Swipe(swipe) = &seen.event.payload {
            self.swipe(seen, swipe, scene);
        } else if let Some((answer, at_us)) = seen.answer() {
            match answer {
                Answer::Visibility => self.alive_us[0] = Some(at_us),
                Answer::Focus => self.alive_us[1] = Some(at_us),
                _ => {}
            }
            for (watch, _) in &mut self.pending {
                watch.see(answer, at_us, &scene.settings.dead);
            }
        } else {
            return;
        }
        self.settle(scene, emit);
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        self.pending.iter().filter_map(|(watch, _)| watch.due_us(&settings.dead)).min()
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        for (watch, _) in &mut self.pending {
            watch.expire(now_us, &scene.settings.dead);
        }
        self.settle(scene, emit);
    }

    fn leave(&mut self, moment: &Moment, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        for (watch, _) in &mut self.pending {
            watch.leave(moment.how, moment.at_us, &scene.settings.dead);
        }
        self.settle(scene, emit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Script, ids};
    use super::*;
    use crate::target::Ignore;

    fn swipe(dx: i32, dy: i32) -> Swipe {
        Swipe { dx, dy, pointers: 1, target_fp: "#carousel".to_owned(), ..Swipe::default() }
    }

    fn rows(swipe: Swipe) -> usize {
        let mut script = Script::observed();
        script.at(0, Payload::Swipe(Box::new(swipe)));
        script.rows_at(60_000).len()
    }

    /// G-W1.
    #[test]
    fn g_w1_a_swipe_without_an_answer_is_dead() {
        let mut script = Script::observed();
        script.at(0, Payload::Swipe(Box::new(swipe(-80, 5))));
        assert_eq!(script.rows_at(7000), []);
        let rows = script.rows_at(7001);
        assert_eq!((rows.len(), rows[0].kind, rows[0].flags), (1, SignalKind::DeadSwipe, Flags::LEFT));
        assert_eq!((rows[0].target_fp.as_str(), rows[0].points, ids(&rows[0])), ("#carousel", 2, vec!["e1"]));
    }

    /// G-W2.
    #[test]
    fn g_w2_a_swipe_of_less_than_30_px_is_none() {
        assert_eq!(rows(swipe(20, 22)), 0);
        assert_eq!(rows(swipe(18, 24)), 1, "30 px are one");
    }

    /// G-W3.
    #[test]
    fn g_w3_a_swipe_that_scrolls_the_page_is_none() {
        assert_eq!(rows(Swipe { answered_while_down: true, ..swipe(-80, 5) }), 0);
    }

    #[test]
    fn what_is_no_single_finger_on_an_observable_thing_is_none() {
        assert_eq!(rows(Swipe { pointers: 2, ..swipe(-80, 5) }), 0);
        assert_eq!(rows(Swipe { traits: Traits::SURFACE, ..swipe(-80, 5) }), 0);
        assert_eq!(rows(Swipe { ignore: Ignore::parse("swipe"), ..swipe(-80, 5) }), 0);
        assert_eq!(rows(Swipe { traits: Traits::LINK, ..swipe(-80, 5) }), 1, "a link is a candidate");
        let mut blind = Script::new();
        blind.view("/").at(0, Payload::Swipe(Box::new(swipe(-80, 5))));
        assert_eq!(blind.rows_at(60_000), [], "without a look at answers there is no verdict");
    }

    #[test]
    fn an_answered_swipe_is_none() {
        let mut script = Script::observed();
        script.at(0, Payload::Swipe(Box::new(swipe(-80, 5)))).at(300, Payload::Reaction(Answer::Dom));
        assert_eq!(script.rows_at(60_000), []);
    }

    #[test]
    fn ten_are_told_per_page_load() {
        let mut script = Script::observed();
        for n in 0..12 {
            script.at(n * 10_000, Payload::Swipe(Box::new(swipe(-80, 5))));
        }
        assert_eq!(script.rows_at(200_000).len(), 10);
    }

    #[test]
    fn extreme_swipes_do_not_overflow() {
        assert_eq!(rows(swipe(i32::MIN, i32::MIN)), 1);
    }
}
