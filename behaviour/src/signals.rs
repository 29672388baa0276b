//! Frustration signals: what the events of one browser tab say about a person who does not get on.

pub mod kind;
pub mod presets;
pub mod rage_click;
pub mod row;
pub mod settings;

pub use kind::SignalKind;
pub use presets::Preset;
pub use row::{Flags, Ledger, Signal};
pub use settings::Settings;
