//! A rule that takes no room before an event concerns it: of a dozen rules a page mostly wakes a few, and a million tabs are kept.
//!
//! It behaves as the rule itself does, which [`Machine::wakes`] promises.

use serde::{Deserialize, Serialize};

use super::scene::{Emit, Machine, Moment, Scene, Seen};
use super::settings::Settings;

/// A rule, once it has something to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dormant<R>(Option<Box<R>>);

impl<R: Machine> Dormant<R> {
    /// Returns the rule, if it is awake.
    pub fn awake(&mut self) -> Option<&mut R> {
        self.0.as_deref_mut()
    }

    /// Shows it an event, if signals of its kinds are wanted.
    pub fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let is_shown = self.0.is_some() || R::wakes(&seen.event.payload);
        if is_shown && scene.settings.enabled.any(R::kinds()) {
            self.0.get_or_insert_default().see(seen, scene, emit);
        }
    }

    /// Returns the earliest time (µs) that it waits for.
    pub fn due_us(&self, settings: &Settings) -> Option<i64> {
        self.0.as_deref()?.due_us(settings)
    }

    /// Does what is due before `now_us`.
    pub fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if let Some(rule) = self.awake().filter(|rule| rule.due_us(scene.settings).is_some_and(|due| due < now_us)) {
            rule.fire(now_us, scene, emit);
        }
    }

    /// Tells that the page is left. A rule that keeps nothing then sleeps again.
    pub fn leave(&mut self, moment: &Moment, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if let Some(rule) = self.awake() {
            rule.leave(moment, scene, emit);
        }
        self.0.take_if(|rule| **rule == R::default());
    }

    /// Tells that the session is over.
    pub fn close(&mut self, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if let Some(rule) = self.awake() {
            rule.close(scene, emit);
        }
    }
}
