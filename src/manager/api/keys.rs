//! API keys and the audit log.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;

use super::call::{Answer, Call};
use super::shapes::{Audit, KeyView, Keys, MadeKey, NewKey};
use crate::manager::Manager;
use crate::manager::keys::{Key, check_jobs};
use crate::manager::moment::Moment;
use crate::manager::problem::{Kind, Problem};

/// A day.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest name of a key.
const NAME_MAX: usize = 100;

/// Lists the keys.
pub fn list(manager: &Arc<Manager>, _: &Call) -> Result<Answer, Problem> {
    Ok(Answer::json(&Keys { keys: manager.store.keys()?.iter().map(KeyView::of).collect() }))
}

/// Makes a key.
pub fn make(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let new: NewKey = call.body()?;
    check_jobs(&new.jobs).map_err(|rule| Problem::new(Kind::BadRequest, rule))?;
    if new.name.is_empty() || new.name.chars().count() > NAME_MAX || new.name.chars().any(char::is_control) {
        return Err(Problem::new(
            Kind::BadRequest,
            format!("the name of a key is 1 to {NAME_MAX} characters in one line"),
        ));
    }
    let now = Moment::now();
    let expires = new.days.map(|days| now.after(DAY.saturating_mul(days)));
    let made = Key::make(&new.name, new.role, &new.jobs, expires, now);
    let (key, secret) =
        made.map_err(|error| Problem::new(Kind::Internal, format!("there is no randomness: {error}")))?;
    manager.store.put_key(&key)?;
    Ok(Answer::with(StatusCode::CREATED, &MadeKey { key: KeyView::of(&key), secret }))
}

/// Deletes a key.
pub fn delete(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let id = call.id_param("key")?;
    match manager.store.delete_key(id)? {
        true => Ok(Answer::nothing()),
        false => Err(Problem::new(Kind::NotFound, format!("there is no API key `{id}`"))),
    }
}

/// Shows what was asked for.
pub fn audit(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let limit = call.number("limit", 1..=1000)?.unwrap_or(100);
    Ok(Answer::json(&Audit { entries: manager.store.audited(limit)? }))
}
