//! Which events are a person's doing, for a session.
//!
//! A page in the background that polls must not keep a visit alive, so only what a person does in a browser is an interaction.

use crate::event::{Class, Kind};

/// Where an event was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By a page in a browser.
    Browser,
    /// By a server: it says nothing about whether somebody is there.
    Server,
}

/// Whether somebody caused an event that also happens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A person did it.
    Person,
    /// The page did it: a scroll by script, a page that the browser rendered ahead of its being asked for.
    Page,
}

/// Returns the class of an event. Beside what shows a person at work, the signing in starts a session: it has to be able to end
/// that of another account.
pub fn class_of(kind: Kind, origin: Origin, cause: Cause) -> Class {
    let is_done = origin == Origin::Browser && cause == Cause::Person;
    if is_done && kind == Kind::Identify {
        return Class::Interaction;
    }
    if is_done { kind.class() } else { Class::Passive }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_does_is_an_interaction() {
        for kind in
            [Kind::PageView, Kind::Click, Kind::Identify, Kind::Scroll, Kind::CheckoutStep, Kind::OrderCompleted]
        {
            assert_eq!(class_of(kind, Origin::Browser, Cause::Person), Class::Interaction, "{kind:?}");
        }
    }

    #[test]
    fn what_happens_by_itself_is_passive() {
        for kind in [
            Kind::NetworkRequest,
            Kind::LongTask,
            Kind::WebVital,
            Kind::JsError,
            Kind::Impression,
            Kind::Visibility,
            Kind::PageLeave,
        ] {
            assert_eq!(class_of(kind, Origin::Browser, Cause::Person), Class::Passive, "{kind:?}");
        }
        assert_eq!(class_of(Kind::PageView, Origin::Browser, Cause::Page), Class::Passive, "rendered ahead");
        assert_eq!(class_of(Kind::Scroll, Origin::Browser, Cause::Page), Class::Passive, "by script");
        assert_eq!(class_of(Kind::OrderCompleted, Origin::Server, Cause::Person), Class::Passive, "from a server");
        assert_eq!(class_of(Kind::Identify, Origin::Server, Cause::Person), Class::Passive, "from a server");
    }
}
