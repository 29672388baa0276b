//! The kinds of events: our name, the names of others, their rank in the order, and whether a person did it.

use serde::{Deserialize, Serialize};

/// Whether an event shows a person at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Starts and extends a session.
    Interaction,
    /// Attaches to a session, but neither starts nor extends one.
    Passive,
}

macro_rules! kinds {
    ($($kind:ident $name:literal $rank:literal $class:ident [$($alias:literal),*] $doc:literal;)*) => {
        /// What an event is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind { $(#[doc = $doc] $kind,)* }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];

            /// Our names of them.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Returns our name of it.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }

            /// Returns its rank among events of one key and one time: a touch before an order, an order before its refund.
            pub fn rank(self) -> u8 {
                match self { $(Kind::$kind => $rank,)* }
            }

            /// Returns whether it shows a person at work. A page view that only prerenders does not, and what a server
            /// sends does not: the caller knows that.
            pub fn class(self) -> Class {
                match self { $(Kind::$kind => Class::$class,)* }
            }

            /// Returns the names that others have for it.
            pub fn aliases(self) -> &'static [&'static str] {
                match self { $(Kind::$kind => &[$($alias,)*],)* }
            }
        }
    };
}

// Aliases are those of Segment's e-commerce events, of GA4, Snowplow, OpenTelemetry and PostHog. Names that others use only
// for something near (Snowplow's `page_ping`, which comes every few seconds and is no leave) are left out.
kinds! {
    Identify "identify" 0 Passive ["identify call", "$identify"] "A device says whose it is.";
    PageView "page_view" 1 Interaction ["page", "page call", "page viewed", "browser.page_view", "$pageview"] "A page, or a route of it, is shown.";
    PageLeave "page_leave" 4 Passive ["$pageleave"] "The page is left.";
    Click "click" 3 Interaction ["link_click", "button_click", "app.screen.click", "app.widget.click", "$autocapture"] "A click on an element.";
    Impression "impression" 2 Passive ["promotion viewed", "product list viewed", "view_promotion", "view_item_list"] "Something was shown that can be clicked.";
    PromoClick "promo_click" 3 Interaction ["promotion clicked", "select_promotion"] "A click on a promotion.";
    ProductClick "product_click" 3 Interaction ["product clicked", "select_item"] "A click on a product in a list.";
    ProductView "product_view" 4 Interaction ["product viewed", "view_item"] "A product's own page.";
    CartAdd "cart_add" 5 Interaction ["product added", "add_to_cart"] "Something is put into the cart.";
    CheckoutStarted "checkout_started" 5 Interaction ["checkout started", "begin_checkout"] "The checkout is entered.";
    CheckoutStep "checkout_step" 5 Interaction ["checkout step viewed", "checkout step completed", "add_payment_info", "add_shipping_info"] "A step of the checkout is seen or done.";
    CouponDenied "coupon_denied" 5 Interaction ["coupon denied"] "A coupon was refused.";
    OrderCompleted "order_completed" 6 Interaction ["order completed", "purchase", "transaction"] "An order is placed.";
    OrderUpdated "order_updated" 7 Passive ["order updated"] "An order is changed.";
    OrderRefunded "order_refunded" 8 Passive ["order refunded", "refund"] "An order is paid back, in part or whole.";
    OrderCancelled "order_cancelled" 8 Passive ["order cancelled"] "An order is called off.";
    JsError "js_error" 4 Passive ["exception", "application_error", "$exception"] "An uncaught error or an unhandled rejection.";
    NetworkRequest "network_request" 4 Passive [] "A request that the page made.";
    LongTask "long_task" 4 Passive ["app.jank"] "The page's thread was busy for more than 50 ms.";
    WebVital "web_vital" 4 Passive ["$web_vitals"] "A measurement of how the page feels.";
    Responded "interaction" 4 Passive [] "How long an interaction took until the page showed its effect.";
    Input "input" 4 Interaction [] "A value was changed; never which.";
    Key "key" 4 Interaction [] "A key was pressed; never which.";
    Selection "selection" 4 Passive [] "The selection of text changed.";
    Scroll "scroll" 4 Interaction [] "The page was scrolled.";
    Swipe "swipe" 4 Interaction [] "A finger was drawn over the screen.";
    MouseMove "mouse_move" 4 Passive [] "A sample of the pointer's way.";
    CursorBurst "cursor_burst" 4 Passive [] "A summary of the pointer's way, made by the browser.";
    DomReaction "dom_reaction" 4 Passive [] "The document changed.";
    WindowOpen "window_open" 4 Passive [] "A window was opened by script.";
    Visibility "visibility" 4 Passive [] "The tab became visible or hidden.";
    Focus "focus" 4 Passive [] "The window got or lost the focus.";
    FormStart "form_start" 4 Interaction [] "A form is entered.";
    FormChange "form_change" 4 Interaction [] "A field of a form was changed.";
    FormSubmit "form_submit" 4 Interaction [] "A form is sent.";
    FormError "form_error" 4 Passive [] "A form says that something is wrong.";
    DomDrop "dom_drop" 4 Passive [] "A large part of the document vanished.";
    Blank "blank" 4 Passive [] "The view has been blank for a while.";
    Search "search" 4 Interaction ["products searched", "view_search_results"] "A search in the shop.";
    ResultClick "result_click" 3 Interaction [] "A click on a result of a search.";
    Heartbeat "heartbeat" 4 Passive [] "The page is still there.";
    SessionStart "session_start" 4 Passive ["session.start"] "The client thinks that a session begins: a hint.";
    SessionEnd "session_end" 4 Passive ["session.end"] "The client thinks that a session ends: a hint.";
    Usage "usage" 4 Passive [] "Something billed.";
}

impl Kind {
    /// Returns the kind of the name that a producer wrote: ours, another's, or ours as a CloudEvents type
    /// (`com.<vendor>.<ours>.v1`). Upper and lower case are alike.
    pub fn parse(name: &str) -> Option<Kind> {
        let name = name.trim();
        let inner = name.strip_prefix("com.").and_then(|rest| rest.strip_suffix(".v1"));
        let inner = inner.and_then(|rest| rest.rsplit_once('.')).map(|(_, ours)| ours);
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        let named = |kind: &Kind| is(kind.name()) || kind.aliases().iter().any(|alias| is(alias));
        let wrapped = |kind: &Kind| inner.is_some_and(|ours| kind.name().eq_ignore_ascii_case(ours));
        Kind::ALL.iter().copied().find(|kind| named(kind) || wrapped(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_of_others_mean_ours() {
        for (name, kind) in [
            ("page_view", Kind::PageView),
            ("$pageview", Kind::PageView),
            ("Promotion Viewed", Kind::Impression),
            ("begin_checkout", Kind::CheckoutStarted),
            ("Order Completed", Kind::OrderCompleted),
            ("purchase", Kind::OrderCompleted),
            ("app.widget.click", Kind::Click),
            ("com.acme.order_refunded.v1", Kind::OrderRefunded),
            (" CLICK ", Kind::Click),
        ] {
            assert_eq!(Kind::parse(name), Some(kind), "{name}");
        }
        for name in ["", "page_ping", "com.acme.v1", "com.acme.purchase.v1", "clicks"] {
            assert_eq!(Kind::parse(name), None, "{name}");
        }
    }

    #[test]
    fn no_name_means_two_kinds() {
        let mut seen = BTreeSet::new();
        for kind in Kind::ALL {
            for name in std::iter::once(&kind.name()).chain(kind.aliases()) {
                assert!(seen.insert(name.to_lowercase()), "{name}");
                assert_eq!(Kind::parse(name), Some(*kind));
            }
        }
    }

    #[test]
    fn ranks_put_causes_before_effects() {
        let ranks = [
            Kind::Identify,
            Kind::PageView,
            Kind::Impression,
            Kind::Click,
            Kind::JsError,
            Kind::CartAdd,
            Kind::OrderCompleted,
            Kind::OrderUpdated,
            Kind::OrderRefunded,
        ];
        let ranks = ranks.map(Kind::rank);
        assert_eq!(ranks, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn polling_is_no_interaction() {
        for kind in [Kind::NetworkRequest, Kind::LongTask, Kind::JsError, Kind::PageLeave, Kind::Heartbeat] {
            assert_eq!(kind.class(), Class::Passive);
        }
        for kind in [Kind::Click, Kind::PageView, Kind::FormSubmit, Kind::OrderCompleted] {
            assert_eq!(kind.class(), Class::Interaction);
        }
    }
}
