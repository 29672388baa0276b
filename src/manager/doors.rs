//! Who is let in: keys, or nobody asked on an address of this machine.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};

use super::keys::{self, Caller, Key, Role};
use super::moment::Moment;
use super::problem::{Kind, Problem};
use super::store::Store;
use crate::exit::{Exit, Failure};

/// Who is let in.
pub struct Doors {
    /// The key that came with the command line: it makes the first others.
    first: Option<Key>,
    /// Whoever reaches the address may do everything.
    open: bool,
}

impl Doors {
    /// Returns the doors of a manager that listens at `address`. Without keys it does so on addresses of this machine only, unless
    /// somebody insists.
    pub fn at(address: SocketAddr, first: Option<Key>, store: &Store, insecure: bool) -> Result<Doors, Failure> {
        let known = store.keys().map_err(|error| Failure::new(Exit::Storage, error.to_string()))?;
        let has_keys = first.is_some() || known.iter().any(|key| key.role == Role::Admin);
        let open = !has_keys;
        if open && !address.ip().is_loopback() && !insecure {
            let message = format!(
                "{address} can be reached from outside, and there is no API key: everybody could do everything\n  hint: give the first key, --admin-key-file FILE; or listen on 127.0.0.1"
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        if open && !address.ip().is_loopback() {
            tracing::warn!(%address, "everybody who reaches this address may do everything: --insecure-no-auth");
        }
        Ok(Doors { first, open })
    }

    /// Returns whether no key is asked for.
    pub fn are_open(&self) -> bool {
        self.open
    }

    /// Finds out who asks.
    pub fn caller(&self, headers: &HeaderMap, store: &Store) -> Result<Caller, Problem> {
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(given) = text(header::AUTHORIZATION) else {
            return if self.open { anonymous(headers) } else { Err(unknown("no API key was given")) };
        };
        let shown = given.strip_prefix("Bearer ").unwrap_or_default();
        let (id, secret) = keys::split(shown).ok_or_else(|| unknown("what was given is no API key"))?;
        let first = self.first.as_ref().filter(|key| key.id == id).cloned();
        let key = if first.is_some() { first } else { store.key(id)? };
        key.and_then(|key| key.admits(secret, Moment::now()))
            .ok_or_else(|| unknown("the API key is not good, or not any more"))
    }
}

fn unknown(why: &str) -> Problem {
    Problem::new(
        Kind::Unauthenticated,
        format!("{why}\n  hint: RIVERRUN_API_KEY or --api-key-file; `riverrun key create` makes one"),
    )
}

/// A page in a browser on this machine can send requests, too: what comes from one, or under another name, is not let in.
fn anonymous(headers: &HeaderMap) -> Result<Caller, Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let own = name == "localhost" || address.is_ok();
    if !own || headers.contains_key(header::ORIGIN) {
        let detail =
            "without API keys, requests of browsers and those under another name than this machine's are refused";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(Caller::anonymous())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_browsers_are_not_let_in() {
        let headers = |all: &[(&'static str, &'static str)]| {
            all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        for good in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081", "127.0.0.1"] {
            assert!(anonymous(&headers(&[("host", good)])).is_ok(), "{good}");
        }
        for bad in ["evil.example:8081", "", "localhost.evil.example"] {
            assert!(anonymous(&headers(&[("host", bad)])).is_err(), "{bad}");
        }
        assert!(anonymous(&headers(&[("host", "localhost:8081"), ("origin", "null")])).is_err());
    }

    #[test]
    fn who_can_be_reached_from_outside_asks_for_keys() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (outside, inside) = ("0.0.0.0:1".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
        assert!(Doors::at(outside, None, &store, false).is_err());
        assert!(Doors::at(outside, None, &store, true).unwrap().are_open());
        assert!(Doors::at(inside, None, &store, false).unwrap().are_open());
        let (key, shown) = Key::make("first", Role::Admin, "*", None, Moment(0)).unwrap();
        let doors = Doors::at(outside, Some(key), &store, false).unwrap();
        let given = |text: String| HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().unwrap())]);
        assert_eq!(doors.caller(&given(format!("Bearer {shown}")), &store).unwrap().role, Role::Admin);
        for bad in ["Bearer x".to_owned(), shown.clone(), format!("Bearer {shown}0")] {
            assert_eq!(doors.caller(&given(bad.clone()), &store).unwrap_err().kind, Kind::Unauthenticated, "{bad}");
        }
        assert_eq!(doors.caller(&HeaderMap::new(), &store).unwrap_err().kind, Kind::Unauthenticated);
        store.put_key(&Key::make("a", Role::Admin, "*", None, Moment(0)).unwrap().0).unwrap();
        assert!(!Doors::at(inside, None, &store, false).unwrap().are_open(), "who made keys wants them asked for");
    }
}
