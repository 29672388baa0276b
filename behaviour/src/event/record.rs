//! An event as a flat row: one column per thing that some kind of event says, null where it says nothing of it.
//!
//! This is the reusable schema of behaviour events beside the envelope. Whoever has rows fills a `Record` by the names in
//! `COLUMNS`, and gets the payload; the text of a page goes no further than that. What is missing takes the value that makes
//! no signal, and numbers outside of their range are brought to its edge.

use super::Kind;
use super::payload::*;
use crate::fingerprint::{ErrorReport, endpoint_fp};
use crate::privacy::{page_name, query_hash};
use crate::target::{Element, Ignore, StepWords, Target, Traits};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// A whole number of 64 bits.
    Int,
    /// Text.
    Text,
    /// Yes or no.
    Bool,
}

/// A value of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A whole number.
    Int(i64),
    /// Text.
    Text(&'a str),
    /// Yes or no.
    Bool(bool),
}

/// Text of a column, as long as its row is looked at.
type Text<'a> = &'a str;

trait Column<'a>: Sized {
    const TYPE: ColumnType;
    fn of(value: Value<'a>) -> Option<Self>;
}

impl Column<'_> for i64 {
    const TYPE: ColumnType = ColumnType::Int;
    fn of(value: Value<'_>) -> Option<i64> {
        if let Value::Int(value) = value { Some(value) } else { None }
    }
}

impl<'a> Column<'a> for Text<'a> {
    const TYPE: ColumnType = ColumnType::Text;
    fn of(value: Value<'a>) -> Option<Text<'a>> {
        if let Value::Text(value) = value { Some(value) } else { None }
    }
}

impl Column<'_> for bool {
    const TYPE: ColumnType = ColumnType::Bool;
    fn of(value: Value<'_>) -> Option<bool> {
        if let Value::Bool(value) = value { Some(value) } else { None }
    }
}

macro_rules! record {
    ($row:lifetime: $($name:ident: $type:ty, $doc:literal;)*) => {
        /// What an event says, column by column.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Record<$row> { $(#[doc = $doc] pub $name: Option<$type>,)* }

        impl<$row> Record<$row> {
            const COLUMNS: &'static [(&'static str, ColumnType, &'static str)] =
                &[$((stringify!($name), <$type as Column>::TYPE, $doc),)*];

            /// Sets a column. Returns whether there is such a column, of the value's type.
            pub fn set(&mut self, name: &str, value: Value<$row>) -> bool {
                match name {
                    $(stringify!($name) => {
                        self.$name = <$type as Column>::of(value);
                        self.$name.is_some()
                    })*
                    _ => false,
                }
            }
        }
    };
}

record! { 'a:
    nav_type: Text<'a>, "page_view: `navigate`, `reload`, `back_forward` or `prerender`.";
    referrer_key: Text<'a>, "page_view: the page it was reached from.";
    caps: Text<'a>, "page_view: what can be observed: `reactions`, `cursor`, `network`, `longtask`, `forms`, `scroll`.";
    page_tags: Text<'a>, "page_view: `scrolls_freely`, `pointer_surface`, `passes_through`, `localhost`, `success`, `sign_in`.";
    leave: Text<'a>, "page_leave: `navigation` or `close`.";
    x: i64, "click, mouse_move: where, in CSS pixels.";
    y: i64, "click, mouse_move: where, in CSS pixels.";
    button: i64, "click: which button; 0 is the primary one.";
    detail: i64, "click: how many in a row; 0 by the keyboard; 1 if not said.";
    secondary_pointer: bool, "click: whether a second finger made it.";
    modifiers: bool, "click: whether a modifier key was held.";
    selection: bool, "click: whether text was selected with it.";
    scrolled: bool, "click: whether the page scrolled with it.";
    pointer_down_ms: i64, "click: how long before it the pointer went down.";
    target_fp: Text<'a>, "click, swipe: the target's stable name; else it is made from the columns that follow.";
    target_traits: Text<'a>, "click, swipe: what is known of the target or its ancestors; see `Traits::parse`.";
    tag: Text<'a>, "click, swipe: the target's tag.";
    role: Text<'a>, "click, swipe: its role.";
    input_type: Text<'a>, "click: the type of an input.";
    element_id: Text<'a>, "click, swipe: its id.";
    test_id: Text<'a>, "click, swipe: its `data-testid`.";
    href: Text<'a>, "click: the address of a link; only whether there is one is kept.";
    text: Text<'a>, "click: its text.";
    aria_label: Text<'a>, "click: its label.";
    ignore: Text<'a>, "click, swipe, forms: the value of `data-ufse-ignore`.";
    reaction_dom_ms: i64, "click, swipe: when the document changed, as the browser measured; any such column makes it measured.";
    reaction_nav_ms: i64, "click, swipe: when another page or route was shown.";
    reaction_net_ms: i64, "click, swipe: when a request was begun.";
    reaction_open_ms: i64, "click, swipe: when a window was opened.";
    reaction_input_ms: i64, "click, swipe: when a value was changed.";
    reaction_focus_ms: i64, "click, swipe: when the window got or lost the focus.";
    reaction_scroll_ms: i64, "click, swipe: when the page was scrolled.";
    reaction_selection_ms: i64, "click, swipe: when the selection changed.";
    reaction_visibility_ms: i64, "click, swipe: when the tab became visible or hidden.";
    is_measured: bool, "click, swipe: that the browser measured, and maybe saw nothing.";
    dx: i64, "swipe: how far to the right, in CSS pixels.";
    dy: i64, "swipe: how far down, in CSS pixels.";
    pointers: i64, "swipe: how many fingers.";
    answered_while_down: bool, "swipe: whether the page moved, changed or selected meanwhile.";
    scroll_top: i64, "scroll: the upper edge of the view.";
    viewport_h: i64, "scroll: the height of the view.";
    by_user: bool, "scroll: whether a person did it; yes if not said.";
    held: bool, "mouse_move: whether a button is held.";
    over_surface: bool, "mouse_move: whether over a canvas, a map or a game.";
    reversals_x: i64, "cursor_burst: from left to right and back.";
    reversals_y: i64, "cursor_burst: up and down.";
    path_px: i64, "cursor_burst: the length of the way.";
    span_ms: i64, "cursor_burst: from the first reversal to the last.";
    method: Text<'a>, "network_request: the method.";
    route: Text<'a>, "network_request: the path or its template.";
    status: i64, "network_request: the status; 0 without an answer; null as long as it has only begun.";
    duration_ms: i64, "network_request, long_task: how long it took.";
    aborted: bool, "network_request: whether the page gave it up.";
    initiator: Text<'a>, "network_request: the submit that caused it.";
    denied_host: bool, "network_request: whether its host does not matter.";
    incidental: bool, "network_request: whether it is a preflight, an icon or an image.";
    error_fp: Text<'a>, "js_error: its stable name; else it is made from type and message.";
    error_type: Text<'a>, "js_error: its type.";
    message: Text<'a>, "js_error: its message.";
    is_noise: bool, "js_error: whether it says nothing about the page; else that is seen from the message.";
    latency_ms: i64, "interaction: how long until its effect was shown.";
    form_fp: Text<'a>, "forms: the stable name of the form.";
    field_fp: Text<'a>, "form_change, form_error: the stable name of the field.";
    submit_id: Text<'a>, "form_submit, form_error: the submit.";
    trivial: bool, "forms: whether it is a search box or has one field.";
    removed_pct: i64, "dom_drop: how much of the document vanished, in percent.";
    blank_ms: i64, "blank: for how long.";
    step: Text<'a>, "checkout_step: which one.";
    query: Text<'a>, "search: the query; only its hash is kept.";
    query_hash: Text<'a>, "search: the hash of the query, if the browser made it.";
}

/// The columns: name, type and meaning.
pub const COLUMNS: &[(&str, ColumnType, &str)] = Record::COLUMNS;

/// Brings a number to the range of another type.
fn fit<T: TryFrom<i64>>(value: Option<i64>, least: T, greatest: T) -> T {
    let value = value.unwrap_or(0);
    T::try_from(value).unwrap_or(if value < 0 { least } else { greatest })
}

fn px(value: Option<i64>) -> i32 {
    fit(value, i32::MIN, i32::MAX)
}

fn yes(value: Option<bool>) -> bool {
    value.unwrap_or(false)
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

impl Record<'_> {
    /// Makes the payload of an event of this kind.
    pub fn payload(&self, kind: Kind, words: &StepWords) -> Payload {
        match kind {
            Kind::PageView => Payload::PageView(Box::new(self.page_view())),
            Kind::PageLeave if self.leave == Some("close") => Payload::PageLeave(Leave::Close),
            Kind::PageLeave => Payload::PageLeave(Leave::Navigation),
            Kind::Click => Payload::Click(Box::new(self.click(words))),
            Kind::Swipe => Payload::Swipe(Box::new(self.swipe(words))),
            Kind::DomReaction => Payload::Reaction(Answer::Dom),
            Kind::WindowOpen => Payload::Reaction(Answer::Open),
            Kind::Selection => Payload::Reaction(Answer::Selection),
            Kind::Visibility => Payload::Reaction(Answer::Visibility),
            Kind::Focus => Payload::Reaction(Answer::Focus),
            Kind::Input => Payload::Input,
            Kind::Key => Payload::Key,
            Kind::Scroll => Payload::Scroll(Scroll {
                top: px(self.scroll_top),
                viewport: px(self.viewport_h),
                by_user: self.by_user.unwrap_or(true),
            }),
            Kind::NetworkRequest => Payload::Request(Box::new(self.request())),
            Kind::JsError => Payload::Error(Box::new(self.error())),
            Kind::LongTask => Payload::LongTask { duration_ms: self.duration_ms.unwrap_or(0) },
            Kind::Responded => Payload::Responded { latency_ms: self.latency_ms.unwrap_or(0) },
            Kind::MouseMove | Kind::CursorBurst => self.cursor(kind),
            Kind::FormStart => Payload::FormStart(self.form()),
            Kind::FormChange => Payload::FormChange(self.form()),
            Kind::FormSubmit => Payload::FormSubmit(self.form()),
            Kind::FormError => Payload::FormError(self.form()),
            Kind::DomDrop => Payload::DomDrop { removed_pct: fit(self.removed_pct, 0, u8::MAX) },
            Kind::Blank => Payload::Blank { blank_ms: self.blank_ms.unwrap_or(0) },
            Kind::CheckoutStarted => Payload::CheckoutStarted,
            Kind::CheckoutStep => Payload::CheckoutStep { step: text(self.step) },
            Kind::CouponDenied => Payload::CouponDenied,
            Kind::OrderCompleted => Payload::OrderCompleted,
            Kind::CartAdd => Payload::CartAdd,
            Kind::ProductView => Payload::ProductView,
            Kind::Search => Payload::Search { query_hash: self.query_hash() },
            Kind::ResultClick => Payload::ResultClick,
            other => Payload::Other(other),
        }
    }

    fn page_view(&self) -> PageView {
        let navigation = match self.nav_type {
            Some("reload") => Navigation::Reload,
            Some("back_forward") => Navigation::BackForward,
            Some("prerender") => Navigation::Prerender,
            _ => Navigation::Navigate,
        };
        PageView {
            navigation,
            referrer_key: page_name(self.referrer_key.unwrap_or_default()),
            caps: Caps::parse(self.caps.unwrap_or_default()),
            tags: Tags::parse(self.page_tags.unwrap_or_default()),
        }
    }

    /// Name, traits and unwanted signals of what was hit.
    fn target(&self, words: &StepWords) -> Target {
        // Of an element of which nothing is said there is nothing to know.
        let mut target = if self.describes_element() { self.described(words) } else { Target::default() };
        if let Some(name) = self.target_fp {
            name.clone_into(&mut target.name);
        }
        target.traits = target.traits.and(Traits::parse(self.target_traits.unwrap_or_default()));
        target.ignore = target.ignore.and(self.unwanted());
        target
    }

    fn describes_element(&self) -> bool {
        let said = [
            self.tag,
            self.role,
            self.input_type,
            self.element_id,
            self.test_id,
            self.href,
            self.text,
            self.aria_label,
        ];
        said.iter().any(Option::is_some)
    }

    fn described(&self, words: &StepWords) -> Target {
        let element = Element {
            tag: text(self.tag),
            role: text(self.role),
            input_type: text(self.input_type),
            id: text(self.element_id),
            data_testid: text(self.test_id),
            has_href: self.href.is_some(),
            text: text(self.text),
            aria_label: text(self.aria_label),
            ..Element::default()
        };
        Target::of(&[element], words)
    }

    fn unwanted(&self) -> Ignore {
        self.ignore.map(Ignore::parse).unwrap_or_default()
    }

    fn click(&self, words: &StepWords) -> Click {
        let target = self.target(words);
        Click {
            x: px(self.x),
            y: px(self.y),
            button: fit(self.button, u8::MAX, u8::MAX),
            detail: fit(self.detail.or(Some(1)), 0, u8::MAX),
            secondary_pointer: yes(self.secondary_pointer),
            modifiers: yes(self.modifiers),
            target_fp: target.name,
            traits: target.traits,
            ignore: target.ignore,
            selection: yes(self.selection),
            scroll: yes(self.scrolled),
            pointer_down_ms: self.pointer_down_ms,
            reaction: self.reaction(),
        }
    }

    fn swipe(&self, words: &StepWords) -> Swipe {
        let target = self.target(words);
        Swipe {
            dx: px(self.dx),
            dy: px(self.dy),
            pointers: fit(self.pointers.or(Some(1)), 0, u8::MAX),
            target_fp: target.name,
            traits: target.traits,
            ignore: target.ignore,
            answered_while_down: yes(self.answered_while_down),
            reaction: self.reaction(),
        }
    }

    fn reaction(&self) -> Option<Reaction> {
        let reaction = Reaction {
            dom_ms: self.reaction_dom_ms,
            nav_ms: self.reaction_nav_ms,
            net_ms: self.reaction_net_ms,
            open_ms: self.reaction_open_ms,
            input_ms: self.reaction_input_ms,
            focus_ms: self.reaction_focus_ms,
            scroll_ms: self.reaction_scroll_ms,
            selection_ms: self.reaction_selection_ms,
            visibility_ms: self.reaction_visibility_ms,
        };
        (yes(self.is_measured) || reaction != Reaction::default()).then_some(reaction)
    }

    fn cursor(&self, kind: Kind) -> Payload {
        if kind == Kind::MouseMove {
            let (held, over_surface) = (yes(self.held), yes(self.over_surface));
            return Payload::MouseMove(MouseMove { x: px(self.x), y: px(self.y), held, over_surface });
        }
        Payload::CursorBurst(CursorBurst {
            reversals_x: fit(self.reversals_x, 0, u32::MAX),
            reversals_y: fit(self.reversals_y, 0, u32::MAX),
            path_px: self.path_px.unwrap_or(0),
            span_ms: self.span_ms.unwrap_or(0).max(0),
        })
    }

    fn request(&self) -> Request {
        let (method, route) = (self.method.unwrap_or("GET"), self.route.unwrap_or_default());
        Request {
            endpoint_fp: endpoint_fp(method, route),
            status: self.status.map(|status| fit(Some(status), 0, u16::MAX)),
            aborted: yes(self.aborted),
            duration_ms: self.duration_ms.unwrap_or(0),
            initiator: text(self.initiator),
            denied_host: yes(self.denied_host),
            incidental: yes(self.incidental) || method.eq_ignore_ascii_case("options"),
        }
    }

    fn error(&self) -> Error {
        let report = ErrorReport { kind: text(self.error_type), message: text(self.message), frames: Vec::new() };
        let made = report.summary();
        // A name of its own means that there was a stack, so the error is not one of another origin.
        let noise = self.is_noise.unwrap_or(made.noise && self.error_fp.is_none());
        Error { error_fp: self.error_fp.map_or(made.error_fp, str::to_owned), noise, hydration: made.hydration }
    }

    fn form(&self) -> Form {
        Form {
            form_fp: text(self.form_fp),
            field_fp: text(self.field_fp),
            submit_id: text(self.submit_id),
            trivial: yes(self.trivial),
            ignore: self.unwanted(),
        }
    }

    fn query_hash(&self) -> String {
        let made = || query_hash(self.query.unwrap_or_default()).to_string();
        self.query_hash.map_or_else(made, str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::SignalKind;

    fn payload(kind: Kind, columns: &[(&str, Value<'_>)]) -> Payload {
        let mut record = Record::default();
        for (name, value) in columns {
            assert!(record.set(name, *value), "{name}");
        }
        record.payload(kind, &StepWords::default())
    }

    #[test]
    fn columns_are_set_by_name_and_type() {
        let mut record = Record::default();
        assert!(record.set("x", Value::Int(3)) && record.x == Some(3));
        assert!(!record.set("x", Value::Text("3")), "of another type");
        assert!(!record.set("z", Value::Int(3)), "no such column");
        for (name, column, _) in COLUMNS {
            let value = match column {
                ColumnType::Int => Value::Int(1),
                ColumnType::Text => Value::Text("a"),
                ColumnType::Bool => Value::Bool(true),
            };
            assert!(record.set(name, value), "{name}");
        }
    }

    #[test]
    fn a_click_is_made_of_its_columns() {
        let columns = [
            ("x", Value::Int(7)),
            ("y", Value::Int(i64::MAX)),
            ("tag", Value::Text("button")),
            ("text", Value::Text("Next")),
            ("ignore", Value::Text("dead")),
            ("reaction_dom_ms", Value::Int(20)),
        ];
        let Payload::Click(click) = payload(Kind::Click, &columns) else { panic!("a click") };
        assert_eq!((click.x, click.y, click.target_fp.as_str()), (7, i32::MAX, "button[Next]"));
        assert!(click.is_by_hand() && click.traits.any(Traits::STEPS) && click.traits.any(Traits::INTERACTIVE));
        assert!(click.ignore.has(SignalKind::DeadClick) && !click.ignore.has(SignalKind::RageClick));
        assert_eq!(click.reaction.and_then(|reaction| reaction.dom_ms), Some(20));
        let named = [("target_fp", Value::Text("#buy")), ("target_traits", Value::Text("link main_button"))];
        let Payload::Click(click) = payload(Kind::Click, &named) else { panic!("a click") };
        assert_eq!((click.target_fp.as_str(), click.reaction), ("#buy", None));
        assert!(click.traits.any(Traits::LINK) && click.traits.any(Traits::MAIN_BUTTON));
    }

    #[test]
    fn of_an_element_without_a_description_nothing_is_known() {
        assert_eq!(Record::default().described(&StepWords::default()), Target::default());
    }

    #[test]
    fn a_request_without_a_status_has_only_begun() {
        let columns = [("method", Value::Text("post")), ("route", Value::Text("/cart/17?x=1"))];
        let Payload::Request(request) = payload(Kind::NetworkRequest, &columns) else { panic!("a request") };
        assert_eq!((request.endpoint_fp.as_str(), request.status), ("POST /cart/:id", None));
        let Payload::Request(request) = payload(Kind::NetworkRequest, &[("status", Value::Int(-5))]) else {
            panic!("a request")
        };
        assert_eq!(request.status, Some(0));
    }

    #[test]
    fn a_query_is_kept_as_its_hash() {
        let Payload::Search { query_hash } = payload(Kind::Search, &[("query", Value::Text(" Red Shoes"))]) else {
            panic!("a search")
        };
        assert_eq!(query_hash, crate::privacy::query_hash("red shoes").to_string());
    }

    #[test]
    fn a_page_says_what_it_can_observe() {
        let columns = [
            ("nav_type", Value::Text("reload")),
            ("caps", Value::Text("reactions network")),
            ("page_tags", Value::Text("localhost,sign_in")),
        ];
        let Payload::PageView(view) = payload(Kind::PageView, &columns) else { panic!("a page view") };
        assert_eq!(view.navigation, Navigation::Reload);
        assert!(view.caps.has(Caps::REACTIONS) && !view.caps.has(Caps::CURSOR));
        assert!(view.tags.localhost && view.tags.sign_in && !view.tags.success);
    }

    #[test]
    fn every_kind_has_a_payload_of_its_kind() {
        for kind in Kind::ALL {
            assert_eq!(payload(*kind, &[]).kind(), *kind);
        }
    }
}
