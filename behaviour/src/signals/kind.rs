//! The kinds of signals: their names, the rule they come from, what they are worth, and whether one may open an incident.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($kind:ident $name:literal $number:literal $points:literal $hard:literal $doc:literal;)*) => {
        /// What a signal says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum SignalKind { $(#[doc = $doc] $kind,)* }

        impl SignalKind {
            /// All kinds.
            pub const ALL: &'static [SignalKind] = &[$(SignalKind::$kind,)*];

            /// Their names.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Returns its name in rows and ids.
            pub fn name(self) -> &'static str {
                match self { $(SignalKind::$kind => $name,)* }
            }

            /// Returns the number of the rule it comes from, 1 to 16; 0: none.
            pub fn rule(self) -> u8 {
                match self { $(SignalKind::$kind => $number,)* }
            }

            /// Returns what one is worth by default.
            pub fn points(self) -> u32 {
                match self { $(SignalKind::$kind => $points,)* }
            }

            /// Returns whether one may open an incident; others only add points.
            pub fn is_hard(self) -> bool {
                match self { $(SignalKind::$kind => $hard,)* }
            }
        }
    };
}

kinds! {
    RageClick "rage_click" 1 4 true "Many quick clicks on one spot.";
    DeadClick "dead_click" 2 2 true "A click that nothing answered.";
    SlowClick "slow_click" 3 2 true "A click that was answered late.";
    ErrorClick "error_click" 4 5 true "A click that was followed by an error.";
    QuickBack "quick_back" 5 1 false "A page was left at once for the one before.";
    ThrashedCursor "thrashed_cursor" 6 1 false "The pointer was moved wildly to and fro.";
    ExcessiveScroll "excessive_scroll" 7 1 false "The page was scrolled far to and fro.";
    FormAbandon "form_abandon" 8 3 true "A form was begun and never sent.";
    SubmitFailures "submit_failures" 9 5 true "A form was refused again and again.";
    FieldStruggle "field_struggle" 9 5 true "One field was changed and refused again and again.";
    AuthFailures "auth_failures" 9 2 true "A sign-in was refused again and again; never a reason for a ticket, as it may be an attack.";
    NetworkErrors "network_errors" 10 4 true "Requests failed again and again.";
    ReloadLoop "reload_loop" 11 4 true "A page was loaded again and again.";
    RedirectLoop "redirect_loop" 11 6 true "Pages sent to each other without end.";
    CheckoutStuck "checkout_stuck" 12 8 true "A step of the checkout took long, with failed attempts.";
    FunnelDrop "funnel_drop" 12 3 true "The checkout was left on a step that did not work.";
    Jank "jank" 13 1 false "The page was sluggish.";
    AppCrash "app_crash" 14 8 true "The page fell apart.";
    DeadSwipe "dead_swipe" 15 2 true "A swipe that nothing answered.";
    SearchStruggle "search_struggle" 16 2 false "Query after query without a result that was looked at.";
    Capped "capped" 0 0 false "The session had more signals than are told: this one marks the place.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_wire() {
        for kind in SignalKind::ALL {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }

    #[test]
    fn soft_signals_open_nothing() {
        let soft = SignalKind::ALL.iter().filter(|kind| !kind.is_hard()).map(|kind| kind.rule());
        assert_eq!(soft.collect::<Vec<_>>(), [5, 6, 7, 13, 16, 0]);
    }

    #[test]
    fn a_set_of_kinds_fits_a_word() {
        assert!(SignalKind::ALL.len() < 32);
    }
}
