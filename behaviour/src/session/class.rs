//! Which events are a person's doing.
//!
//! A page in the background that polls must not keep a visit alive, so only what a person does in a browser is an interaction.

use super::Class;

/// Types that are interactions if they come from a browser.
///
/// Beside clicks, page views, input and the steps of a purchase these are the signing in (it has to be able to end the session
/// of another account) and the clicks of promotions and products.
const INTERACTIONS: &[&str] = &[
    "cart_add",
    "cart_remove",
    "checkout_started",
    "checkout_step",
    "click",
    "form_change",
    "form_start",
    "form_submit",
    "identify",
    "input",
    "key",
    "order_completed",
    "page_view",
    "product_click",
    "promo_click",
    "result_click",
    "scroll",
    "search",
    "swipe",
];

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

/// Returns the class of an event of the type `kind`. Types that are not known are passive.
pub fn class_of(kind: &str, origin: Origin, cause: Cause) -> Class {
    let is_done = origin == Origin::Browser && cause == Cause::Person;
    if is_done && INTERACTIONS.binary_search(&kind).is_ok() { Class::Interaction } else { Class::Passive }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(INTERACTIONS.is_sorted());
    }

    #[test]
    fn what_a_person_does_is_an_interaction() {
        for kind in ["page_view", "click", "identify", "scroll", "checkout_step", "order_completed"] {
            assert_eq!(class_of(kind, Origin::Browser, Cause::Person), Class::Interaction, "{kind}");
        }
    }

    #[test]
    fn what_happens_by_itself_is_passive() {
        for kind in
            ["network_request", "long_task", "web_vital", "js_error", "impression", "visibility", "page_leave", "?"]
        {
            assert_eq!(class_of(kind, Origin::Browser, Cause::Person), Class::Passive, "{kind}");
        }
        assert_eq!(class_of("page_view", Origin::Browser, Cause::Page), Class::Passive, "rendered ahead");
        assert_eq!(class_of("scroll", Origin::Browser, Cause::Page), Class::Passive, "by script");
        assert_eq!(class_of("order_completed", Origin::Server, Cause::Person), Class::Passive, "from a server");
    }
}
