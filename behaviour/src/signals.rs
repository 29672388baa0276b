//! Frustration signals: what the events of one browser tab say about a person who does not get on.
//!
//! `Tab` runs all rules over one stream of events; `Visit` holds the tabs of a session and what they share. Each rule is a machine of its own file, and says there what makes a signal,
//! what does not, and what it keeps. Soft signals only add points; hard ones may open an incident. Sessions of machines
//! (`Envelope::is_bot`) are not fed.
//!
//! | rule | signal |
//! |---|---|
//! | `rage_click` | three clicks on one spot within a second |
//! | `dead_click` | a click without an answer within 7 s, or with a late one |
//! | `error_click` | an error within 2 s of a click |
//! | `quick_back` | a page left within 5 s for the one before |
//! | `thrashed_cursor` | ten reversals of the pointer within 2 s |
//! | `excessive_scroll` | six long reversals of scrolling within 20 s |
//! | `form_abandon` | a form begun and left |
//! | `submit_failures` | three refusals of a form, a field or a sign-in within 5 min |
//! | `network_errors` | three failures of an endpoint within 30 s, or five of any within 60 s |
//! | `reload_loop` | three reloads within a minute; six redirects within 10 s |
//! | `checkout` | two minutes and two failures on a step of the checkout; leaving it after such |
//! | `jank` | three slow interactions within a minute, or 2 s of blocking within 10 s |
//! | `app_crash` | a document that vanishes near an error; a blank view; a page that is not taken over |
//! | `dead_swipe` | a swipe without an answer |
//! | `search_struggle` | three queries within 2 min and no result looked at |

pub mod app_crash;
pub mod checkout;
pub mod clicks;
pub mod dead_click;
pub mod dead_swipe;
pub mod dormant;
pub mod error_click;
pub mod excessive_scroll;
pub mod form_abandon;
pub mod forms;
pub mod jank;
pub mod kind;
pub mod network_errors;
pub mod presets;
pub mod quick_back;
pub mod rage_click;
pub mod reload_loop;
pub mod row;
pub mod scene;
pub mod search_struggle;
pub mod settings;
pub mod submit_failures;
pub mod tab;
pub mod thrashed_cursor;
pub mod usual_scroll;
pub mod visit;

pub use kind::SignalKind;
pub use presets::Preset;
pub use row::{Flags, Ledger, PageEnd, Signal};
pub use settings::Settings;
pub use tab::{Desk, Tab};
pub use visit::Visit;

#[cfg(test)]
mod samples;
