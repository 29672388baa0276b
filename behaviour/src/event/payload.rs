//! What each kind of event says, as far as the signals need it. Bounds: no field is text of a page or a person.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::target::{Ignore, Traits};

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// A page, or a route of it, is shown.
    PageView(Box<PageView>),
    /// The page is left.
    PageLeave(Leave),
    /// A click.
    Click(Box<Click>),
    /// A finger was drawn over the screen; the event's time is that of the finger's lift.
    Swipe(Box<Swipe>),
    /// Something that may be the answer to a click.
    Reaction(Answer),
    /// A value was changed.
    Input,
    /// A key was pressed.
    Key,
    /// The page was scrolled.
    Scroll(Scroll),
    /// A request; the event's time is that of its end, or of its start as long as it has no `status`.
    Request(Box<Request>),
    /// An uncaught error or an unhandled rejection.
    Error(Box<Error>),
    /// The page's thread was busy; the event's time is that of its start.
    LongTask {
        /// For how long, in ms.
        duration_ms: i64,
    },
    /// An interaction was answered.
    Responded {
        /// After how long, in ms.
        latency_ms: i64,
    },
    /// A sample of the pointer's way.
    MouseMove(MouseMove),
    /// A summary of the pointer's way, made by the browser; the event's time is that of its end.
    CursorBurst(CursorBurst),
    /// A form is entered. Tabbing through is no start of work on it: only a change is.
    FormStart(Form),
    /// A field of a form was changed.
    FormChange(Form),
    /// A form is sent.
    FormSubmit(Form),
    /// A form says that something is wrong.
    FormError(Form),
    /// A large part of the document vanished.
    DomDrop {
        /// How much of its nodes, in percent.
        removed_pct: u8,
    },
    /// The view has been blank up to now.
    Blank {
        /// For how long, in ms.
        blank_ms: i64,
    },
    /// The checkout is entered.
    CheckoutStarted,
    /// A step of the checkout is shown.
    CheckoutStep {
        /// Which one.
        step: String,
    },
    /// A coupon was refused.
    CouponDenied,
    /// An order is placed: by this session, or by the same person elsewhere.
    OrderCompleted,
    /// Something is put into the cart.
    CartAdd,
    /// A product's own page.
    ProductView,
    /// A search.
    Search {
        /// The hash of the normalised query: trimmed, in lower case, runs of blanks as one; see `privacy::query_hash`.
        query_hash: String,
    },
    /// A result of a search was clicked.
    ResultClick,
    /// Of no matter to any signal.
    Other(Kind),
}

impl Payload {
    /// Returns the kind of the event.
    pub fn kind(&self) -> Kind {
        match self {
            Payload::PageView(_) => Kind::PageView,
            Payload::PageLeave(_) => Kind::PageLeave,
            Payload::Click(_) => Kind::Click,
            Payload::Swipe(_) => Kind::Swipe,
            Payload::Reaction(answer) => answer.kind(),
            Payload::Input => Kind::Input,
            Payload::Key => Kind::Key,
            Payload::Scroll(_) => Kind::Scroll,
            Payload::Request(_) => Kind::NetworkRequest,
            Payload::Error(_) => Kind::JsError,
            Payload::LongTask { .. } => Kind::LongTask,
            Payload::Responded { .. } => Kind::Responded,
            Payload::MouseMove(_) => Kind::MouseMove,
            Payload::CursorBurst(_) => Kind::CursorBurst,
            Payload::FormStart(_) => Kind::FormStart,
            Payload::FormChange(_) => Kind::FormChange,
            Payload::FormSubmit(_) => Kind::FormSubmit,
            Payload::FormError(_) => Kind::FormError,
            Payload::DomDrop { .. } => Kind::DomDrop,
            Payload::Blank { .. } => Kind::Blank,
            Payload::CheckoutStarted => Kind::CheckoutStarted,
            Payload::CheckoutStep { .. } => Kind::CheckoutStep,
            Payload::CouponDenied => Kind::CouponDenied,
            Payload::OrderCompleted => Kind::OrderCompleted,
            Payload::CartAdd => Kind::CartAdd,
            Payload::ProductView => Kind::ProductView,
            Payload::Search { .. } => Kind::Search,
            Payload::ResultClick => Kind::ResultClick,
            Payload::Other(kind) => *kind,
        }
    }
}

impl Payload {
    /// Returns the names that it carries.
    pub fn names_mut(&mut self) -> Vec<&mut String> {
        match self {
            Payload::PageView(view) => vec![&mut view.referrer_key],
            Payload::Click(click) => vec![&mut click.target_fp],
            Payload::Swipe(swipe) => vec![&mut swipe.target_fp],
            Payload::Request(request) => vec![&mut request.endpoint_fp, &mut request.initiator],
            Payload::Error(error) => vec![&mut error.error_fp],
            Payload::FormStart(form)
            | Payload::FormChange(form)
            | Payload::FormSubmit(form)
            | Payload::FormError(form) => vec![&mut form.form_fp, &mut form.field_fp, &mut form.submit_id],
            Payload::CheckoutStep { step } => vec![step],
            Payload::Search { query_hash } => vec![query_hash],
            _ => Vec::new(),
        }
    }
}

/// How a page came to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Navigation {
    /// By a link, a form, a script or the address line.
    #[default]
    Navigate,
    /// By loading it again.
    Reload,
    /// By the browser's back or forward.
    BackForward,
    /// It is only prepared, and not seen by anybody yet.
    Prerender,
}

/// What a page view says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageView {
    /// How it came to be shown.
    pub navigation: Navigation,
    /// The page it was reached from; empty if unknown.
    pub referrer_key: String,
    /// What the page's script can observe.
    pub caps: Caps,
    /// What kind of page it is.
    pub tags: Tags,
}

/// What the script on a page can observe. A rule that needs the absence of something is silent where that cannot be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps(pub u8);

impl Caps {
    /// Changes of the document, windows opened, selections: what a click may cause.
    pub const REACTIONS: Caps = Caps(1);
    /// The pointer's way.
    pub const CURSOR: Caps = Caps(2);
    /// Requests.
    pub const NETWORK: Caps = Caps(4);
    /// Long tasks.
    pub const LONG_TASK: Caps = Caps(8);
    /// Forms.
    pub const FORMS: Caps = Caps(16);
    /// Scrolling.
    pub const SCROLL: Caps = Caps(32);

    /// Returns the set of the names, split at blanks and commas; unknown names are ignored.
    pub fn parse(names: &str) -> Caps {
        let one = |name: &str| match name {
            "reactions" => 1,
            "cursor" => 2,
            "network" => 4,
            "longtask" => 8,
            "forms" => 16,
            "scroll" => 32,
            _ => 0,
        };
        Caps(names.split([' ', ',']).map(one).fold(0, |all, bit| all | bit))
    }

    /// Returns whether all of `other` is in here.
    pub fn has(self, other: Caps) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What kind of page it is, as the site says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    /// An endless list, a map or a long document, where scrolling to and fro is usual.
    pub scrolls_freely: bool,
    /// A map, a drawing or a game, where the pointer moves to and fro.
    pub pointer_surface: bool,
    /// A payment or sign-in page of someone else, from which one is sent back.
    pub passes_through: bool,
    /// A developer's own machine.
    pub localhost: bool,
    /// Reaching it means that a form before it succeeded.
    pub success: bool,
    /// A page of the sign-in, where refusals may be an attack.
    pub sign_in: bool,
}

impl Tags {
    /// Returns the tags of the names, split at blanks and commas; unknown names are ignored.
    pub fn parse(names: &str) -> Tags {
        let mut tags = Tags::default();
        for name in names.split([' ', ',']) {
            match name {
                "scrolls_freely" | "feed" | "document" => tags.scrolls_freely = true,
                "pointer_surface" | "game" => tags.pointer_surface = true,
                "map" => (tags.scrolls_freely, tags.pointer_surface) = (true, true),
                "passes_through" => tags.passes_through = true,
                "localhost" => tags.localhost = true,
                "success" => tags.success = true,
                "sign_in" => tags.sign_in = true,
                _ => {}
            }
        }
        tags
    }
}

/// How a page is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// For another page, which is an answer to a click.
    Navigation,
    /// By closing the tab.
    Close,
}

/// A click.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Click {
    /// Where, in CSS pixels.
    pub x: i32,
    /// Where, in CSS pixels.
    pub y: i32,
    /// Which button; 0 is the primary one.
    pub button: u8,
    /// How many clicks in a row the browser counts; 0: made by the keyboard or a script.
    pub detail: u8,
    /// Whether a second finger made it.
    pub secondary_pointer: bool,
    /// Whether a modifier key was held.
    pub modifiers: bool,
    /// The stable name of what was clicked; empty if it has none.
    pub target_fp: String,
    /// What was clicked.
    pub traits: Traits,
    /// The signals that the site does not want from here.
    pub ignore: Ignore,
    /// Whether text was selected with it.
    pub selection: bool,
    /// Whether the page scrolled with it.
    pub scroll: bool,
    /// How long before the click the pointer went down, in ms.
    pub pointer_down_ms: Option<i64>,
    /// What the browser itself saw happen after it; else the tab's reaction events tell.
    pub reaction: Option<Reaction>,
}

impl Click {
    /// Returns whether a hand made it: the primary button of the primary pointer, not the keyboard, not a script.
    pub fn is_by_hand(&self) -> bool {
        self.button == 0 && self.detail > 0 && !self.secondary_pointer && (self.x, self.y) != (0, 0)
    }
}

/// What the browser saw happen after a click or a swipe: ms since it, per kind. Visibility and focus may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of `Answer`")]
pub struct Reaction {
    pub dom_ms: Option<i64>,
    pub nav_ms: Option<i64>,
    pub net_ms: Option<i64>,
    pub open_ms: Option<i64>,
    pub input_ms: Option<i64>,
    pub focus_ms: Option<i64>,
    pub scroll_ms: Option<i64>,
    pub selection_ms: Option<i64>,
    pub visibility_ms: Option<i64>,
}

/// What may be the answer to a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The document changed.
    Dom,
    /// Another page or route is shown.
    Nav,
    /// A request was begun.
    Net,
    /// A window was opened.
    Open,
    /// A value was changed.
    Input,
    /// The window got or lost the focus.
    Focus,
    /// The page was scrolled.
    Scroll,
    /// The selection changed.
    Selection,
    /// The tab became visible or hidden.
    Visibility,
}

impl Answer {
    fn kind(self) -> Kind {
        match self {
            Answer::Dom => Kind::DomReaction,
            Answer::Nav => Kind::PageView,
            Answer::Net => Kind::NetworkRequest,
            Answer::Open => Kind::WindowOpen,
            Answer::Input => Kind::Input,
            Answer::Focus => Kind::Focus,
            Answer::Scroll => Kind::Scroll,
            Answer::Selection => Kind::Selection,
            Answer::Visibility => Kind::Visibility,
        }
    }
}

/// A swipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swipe {
    /// How far to the right, in CSS pixels.
    pub dx: i32,
    /// How far down, in CSS pixels.
    pub dy: i32,
    /// How many fingers.
    pub pointers: u8,
    /// The stable name of what it began on; empty if it has none.
    pub target_fp: String,
    /// What it began on.
    pub traits: Traits,
    /// The signals that the site does not want from here.
    pub ignore: Ignore,
    /// Whether the page scrolled, changed or selected text while the finger was down.
    pub answered_while_down: bool,
    /// What the browser itself saw happen after it; else the tab's reaction events tell.
    pub reaction: Option<Reaction>,
}

/// The page was scrolled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scroll {
    /// Where the upper edge of the view is now, in CSS pixels.
    pub top: i32,
    /// The height of the view, in CSS pixels.
    pub viewport: i32,
    /// Whether a person did it.
    pub by_user: bool,
}

/// A request of the page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The stable name of the endpoint; see `fingerprint::endpoint_fp`.
    pub endpoint_fp: String,
    /// The status; 0: no answer (network down, timeout); none: only begun.
    pub status: Option<u16>,
    /// Whether it was given up by the page.
    pub aborted: bool,
    /// How long it took, in ms.
    pub duration_ms: i64,
    /// The id of the submit that caused it; empty if none.
    pub initiator: String,
    /// Whether its host is on the list of those that do not matter.
    pub denied_host: bool,
    /// Whether it is a preflight (`OPTIONS`), an icon or an image.
    pub incidental: bool,
}

/// An uncaught error or an unhandled rejection; see `fingerprint::ErrorReport`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The stable name of the error.
    pub error_fp: String,
    /// Whether it says nothing about the page: cross-origin, a browser extension's, the resize observer's.
    pub noise: bool,
    /// Whether the page's framework could not take over what the server rendered.
    pub hydration: bool,
}

/// A sample of the pointer's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MouseMove {
    /// Where, in CSS pixels.
    pub x: i32,
    /// Where, in CSS pixels.
    pub y: i32,
    /// Whether a button is held.
    pub held: bool,
    /// Whether it is over a canvas, a map or a game.
    pub over_surface: bool,
}

/// A summary of the pointer's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorBurst {
    /// Reversals from left to right and back.
    pub reversals_x: u32,
    /// Reversals up and down.
    pub reversals_y: u32,
    /// The length of the way, in CSS pixels.
    pub path_px: i64,
    /// How long it took from the first reversal to the last, in ms.
    pub span_ms: i64,
}

/// What events of a form say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// The stable name of the form.
    pub form_fp: String,
    /// The stable name of the field; empty where the event is the whole form's.
    pub field_fp: String,
    /// The submit that this is, or belongs to; empty if unknown.
    pub submit_id: String,
    /// Whether it is a search box or a form of one field, whose abandoning says nothing.
    pub trivial: bool,
    /// The signals that the site does not want from here.
    pub ignore: Ignore,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_are_read_by_name() {
        let caps = Caps::parse("reactions, scroll nonsense");
        assert!(caps.has(Caps::REACTIONS) && caps.has(Caps::SCROLL));
        assert!(!caps.has(Caps::CURSOR) && !caps.has(Caps::NETWORK));
    }

    #[test]
    fn only_a_hand_makes_a_click() {
        let click = Click { x: 1, y: 1, detail: 1, ..Click::default() };
        assert!(click.is_by_hand());
        assert!(!Click { detail: 0, ..click.clone() }.is_by_hand(), "the keyboard");
        assert!(!Click { x: 0, y: 0, ..click.clone() }.is_by_hand(), "a script");
        assert!(!Click { button: 2, ..click.clone() }.is_by_hand(), "the other button");
        assert!(!Click { secondary_pointer: true, ..click }.is_by_hand(), "the second finger");
    }
}
