//! What was clicked: from the elements under the pointer to a stable name and a few traits.
//!
//! A page describes the element that was hit and its ancestors. What the signals need of that is made here at once, so that
//! no text of the page is ever kept: the name (`fingerprint`), the traits that exclude signals, and the signals that the site
//! itself does not want.

use serde::{Deserialize, Serialize};

use crate::privacy::element_text;
use crate::signals::SignalKind;

/// Elements that are looked at, from the one that was hit upwards.
pub const PATH_MAX: usize = 32;
/// Ancestors that a name made of tags may have.
const ANCESTORS_MAX: usize = 4;
/// Classes of one element in a name made of tags.
const CLASSES_MAX: usize = 3;
/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Buttons with one digit each that, side by side, make a keypad.
const KEYPAD_BUTTONS_MIN: u16 = 6;

/// One element, as the page describes it. Tags, types and roles are in lower case; what it does not have is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Its tag.
    pub tag: String,
    /// Its `id`.
    pub id: String,
    /// Its `data-testid`.
    pub data_testid: String,
    /// Its `data-test-id`.
    pub data_test_id: String,
    /// Its `data-ufse`.
    pub data_ufse: String,
    /// Its `role`.
    pub role: String,
    /// Its visible text; see `privacy::element_text`.
    pub text: String,
    /// Its `aria-label`.
    pub aria_label: String,
    /// Its classes.
    pub classes: Vec<String>,
    /// The `type` of an input.
    pub input_type: String,
    /// Whether it has an `href`.
    pub has_href: bool,
    /// The `target` of a link.
    pub link_target: String,
    /// Whether it has `download`.
    pub is_download: bool,
    /// Whether it is `contenteditable`.
    pub is_editable: bool,
    /// Whether it has a handler of clicks written in the document.
    pub has_onclick: bool,
    /// Whether the pointer is a hand over it.
    pub has_pointer_cursor: bool,
    /// Whether it is a label that names a control by `for`.
    pub is_label_for: bool,
    /// The control that a label is for, if there is such a control.
    pub control: Option<Box<Element>>,
    /// Buttons beside it whose text is one digit, itself among them.
    pub digit_buttons: u16,
    /// Whether it is a map, whatever it is made of.
    pub is_map: bool,
    /// Its `data-ufse-ignore`: empty for all signals, else names of signals.
    pub ignore: Option<String>,
    /// Whether it has `data-ufse-mask`.
    pub is_masked: bool,
    /// Whether it has `data-ufse-dblclick`: it waits for double clicks.
    pub takes_double_click: bool,
    /// Whether it is the main button of its form or step.
    pub is_main_button: bool,
}

/// What matters of a target: a set of traits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits(pub u32);

impl Traits {
    /// Text is edited in it.
    pub const TEXT_FIELD: Traits = Traits(1);
    /// A word or a symbol on it says that it is made for many clicks: next, previous, plus, minus.
    pub const STEPS: Traits = Traits(1 << 1);
    /// A canvas, a map, a medium, an embedded document: it reacts invisibly.
    pub const SURFACE: Traits = Traits(1 << 2);
    /// A slider or a spin button.
    pub const SLIDER: Traits = Traits(1 << 3);
    /// A key of an on-screen keypad.
    pub const KEYPAD: Traits = Traits(1 << 4);
    /// It waits for double clicks.
    pub const DOUBLE_CLICK: Traits = Traits(1 << 5);
    /// A link, or inside one.
    pub const LINK: Traits = Traits(1 << 6);
    /// A link that downloads or opens elsewhere.
    pub const AWAY: Traits = Traits(1 << 7);
    /// A list of choices.
    pub const SELECT: Traits = Traits(1 << 8);
    /// The document itself.
    pub const DOCUMENT: Traits = Traits(1 << 9);
    /// It looks as if it could be clicked.
    pub const INTERACTIVE: Traits = Traits(1 << 10);
    /// A label that names a control: the browser sends a second click to that.
    pub const LABEL: Traits = Traits(1 << 11);
    /// The main button of its form or step.
    pub const MAIN_BUTTON: Traits = Traits(1 << 12);

    /// Returns the traits of the names, split at blanks and commas; unknown names are ignored.
    pub fn parse(names: &str) -> Traits {
        let one = |name: &str| match name {
            "text_field" => Traits::TEXT_FIELD,
            "steps" => Traits::STEPS,
            "surface" => Traits::SURFACE,
            "slider" => Traits::SLIDER,
            "keypad" => Traits::KEYPAD,
            "double_click" => Traits::DOUBLE_CLICK,
            "link" => Traits::LINK,
            "away" => Traits::AWAY,
            "select" => Traits::SELECT,
            "document" => Traits::DOCUMENT,
            "interactive" => Traits::INTERACTIVE,
            "label" => Traits::LABEL,
            "main_button" => Traits::MAIN_BUTTON,
            _ => Traits::default(),
        };
        names.split([' ', ',']).map(one).fold(Traits::default(), Traits::and)
    }

    /// Returns whether any trait of `other` is in here.
    pub fn any(self, other: Traits) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the traits of both.
    pub const fn and(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }
}

/// The signals that a site does not want from an element, by its `data-ufse-ignore`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignore(pub u32);

impl Ignore {
    /// Every signal.
    pub const ALL: Ignore = Ignore(u32::MAX);

    /// Reads the value of `data-ufse-ignore`: names of signals, whole (`rage_click`, `rage-click`) or their first word
    /// (`rage`). Nothing but blanks, or `all`, means all of them; unknown names mean nothing.
    pub fn parse(value: &str) -> Ignore {
        let value = value.trim().to_ascii_lowercase().replace('-', "_");
        if value.is_empty() || value.split_whitespace().any(|name| name == "all") {
            return Ignore::ALL;
        }
        let bit = |kind: &SignalKind| {
            let first = kind.name().split('_').next().unwrap_or_default();
            // Two signals begin with `dead`; the swipe goes by its second word.
            let short = if *kind == SignalKind::DeadSwipe { "swipe" } else { first };
            let named = value.split_whitespace().any(|name| name == short || name == kind.name());
            if named { 1 << *kind as u32 } else { 0 }
        };
        Ignore(SignalKind::ALL.iter().map(bit).fold(0, |all, bit| all | bit))
    }

    /// Returns whether `kind` is not wanted.
    pub fn has(self, kind: SignalKind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }

    /// Returns what either does not want.
    pub fn and(self, other: Ignore) -> Ignore {
        Ignore(self.0 | other.0)
    }
}

/// Words and symbols on elements that are made for many clicks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepWords {
    /// Anywhere in the text, in lower case.
    pub contained: Vec<String>,
    /// The whole text, so that `sign-up` and `C++` stay what they are.
    pub whole: Vec<String>,
}

impl Default for StepWords {
    fn default() -> Self {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        StepWords {
            contained: owned(&["next", "previous", "prev"]),
            whole: owned(&[">", "<", "+", "-", "\u{2212}", "\u{2013}"]),
        }
    }
}

/// What the machines need of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its stable name; empty if it has none.
    pub name: String,
    /// Its traits.
    pub traits: Traits,
    /// The signals that are not wanted from it.
    pub ignore: Ignore,
}

impl Target {
    /// Makes the target of a click on the first element of `path`, which goes upwards from there; at most 32 are looked at.
    ///
    /// The target is the closest button or link, else the element itself; a label's is its control.
    pub fn of(path: &[Element], words: &StepWords) -> Target {
        let path = &path[..path.len().min(PATH_MAX)];
        let Some(hit) = path.first() else { return Target::default() };
        let mut traits = path.iter().fold(Traits::default(), |all, element| all.and(inherited(element, words)));
        let ignore = path.iter().filter_map(|element| element.ignore.as_deref()).map(Ignore::parse);
        let ignore = ignore.fold(Ignore::default(), Ignore::and);
        if let Some(label) = path.iter().find(|element| element.is_label_for) {
            traits = traits.and(Traits::LABEL).and(Traits::INTERACTIVE);
            if let Some(control) = label.control.as_deref() {
                traits = traits.and(inherited(control, words)).and(own(control));
                let ignore = ignore.and(control.ignore.as_deref().map(Ignore::parse).unwrap_or_default());
                return Target { name: name(std::slice::from_ref(control)), traits, ignore };
            }
        }
        let at = path.iter().position(is_button_or_link).unwrap_or(0);
        traits = traits.and(own(hit)).and(own(&path[at]));
        Target { name: name(&path[at..]), traits, ignore }
    }
}

fn is_button_or_link(element: &Element) -> bool {
    element.tag == "button" || element.tag == "a" || element.role == "button"
}

/// The traits that an element hands down to what is inside it.
fn inherited(element: &Element, words: &StepWords) -> Traits {
    let mut traits = Traits::default();
    let mut set = |is: bool, one: Traits| traits = if is { traits.and(one) } else { traits };
    let types = ["", "text", "search", "email", "password", "url", "tel", "number"];
    let input = element.tag == "input";
    let text_input = input && types.contains(&element.input_type.as_str());
    set(text_input || element.tag == "textarea" || element.is_editable, Traits::TEXT_FIELD);
    set(element.tag == "select", Traits::SELECT);
    let surfaces = ["canvas", "video", "audio", "embed", "object", "map"];
    set(surfaces.contains(&element.tag.as_str()) || element.is_map, Traits::SURFACE);
    let slides = input && matches!(element.input_type.as_str(), "range" | "number");
    set(slides || matches!(element.role.as_str(), "slider" | "spinbutton"), Traits::SLIDER);
    set(element.digit_buttons >= KEYPAD_BUTTONS_MIN, Traits::KEYPAD);
    set(element.takes_double_click, Traits::DOUBLE_CLICK);
    set(element.tag == "a" && element.has_href, Traits::LINK);
    let elsewhere = !element.link_target.is_empty() && element.link_target != "_self";
    set(element.tag == "a" && (element.is_download || elsewhere), Traits::AWAY);
    set(element.is_main_button, Traits::MAIN_BUTTON);
    set(says_step(&element.text, words) || says_step(&element.aria_label, words), Traits::STEPS);
    traits
}

fn says_step(text: &str, words: &StepWords) -> bool {
    let text = text.trim().to_lowercase();
    !text.is_empty() && (words.contained.iter().any(|word| text.contains(word.as_str())) || words.whole.contains(&text))
}

/// The traits of an element alone.
fn own(element: &Element) -> Traits {
    let roles = ["button", "link", "tab", "menuitem", "option", "switch", "checkbox", "radio", "treeitem"];
    let inputs = ["button", "submit", "reset", "image", "checkbox", "radio", "file"];
    let interactive = match element.tag.as_str() {
        "a" => !element.has_href,
        "button" | "summary" => true,
        "input" => inputs.contains(&element.input_type.as_str()),
        _ => false,
    };
    let looks_so = roles.contains(&element.role.as_str()) || element.has_onclick || element.has_pointer_cursor;
    let interactive = if interactive || looks_so { Traits::INTERACTIVE } else { Traits::default() };
    let document = matches!(element.tag.as_str(), "html" | "body");
    if document { interactive.and(Traits::DOCUMENT) } else { interactive }
}

/// The stable name of the first element of `path`: by the first of test id, id, role with accessible name, or tags with
/// those of their classes that look like words.
fn name(path: &[Element]) -> String {
    let Some(element) = path.first() else { return String::new() };
    let tests = [
        ("data-testid", &element.data_testid),
        ("data-test-id", &element.data_test_id),
        ("data-ufse", &element.data_ufse),
    ];
    let name = if let Some((attribute, value)) = tests.into_iter().find(|(_, value)| !value.is_empty()) {
        format!("[{attribute}={value}]")
    } else if !element.id.is_empty() && !looks_generated(&element.id) {
        format!("#{}", element.id)
    } else if let Some(name) = accessible(element) {
        name
    } else {
        let tags: Vec<String> = path.iter().take(1 + ANCESTORS_MAX).map(tag_and_classes).collect();
        tags.iter().rev().filter(|tag| !tag.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" > ")
    };
    name.chars().take(NAME_CHARS_MAX).collect()
}

/// Whether an id has six hexadecimal digits or three decimal ones in a row.
fn looks_generated(id: &str) -> bool {
    longest_run(id, |c| c.is_ascii_digit() || ('a'..='f').contains(&c)) >= 6
        || longest_run(id, |c| c.is_ascii_digit()) >= 3
}

fn longest_run(text: &str, is_in: impl Fn(char) -> bool) -> usize {
    let step = |(longest, now): (usize, usize), c: char| {
        let now = if is_in(c) { now + 1 } else { 0 };
        (longest.max(now), now)
    };
    text.chars().fold((0, 0), step).0
}

fn accessible(element: &Element) -> Option<String> {
    let role = match (element.role.as_str(), element.tag.as_str()) {
        ("", "button") => "button",
        ("", "a") => "link",
        ("", _) => return None,
        (role, _) => role,
    };
    let label = element_text(&element.aria_label, true, element.is_masked).trim();
    let text = element_text(&element.text, is_button_or_link(element), element.is_masked).trim();
    let name = if label.is_empty() { text } else { label };
    (!name.is_empty()).then(|| format!("{role}[{name}]"))
}

fn tag_and_classes(element: &Element) -> String {
    let mut name = element.tag.clone();
    for class in element.classes.iter().filter(|class| looks_like_words(class)).take(CLASSES_MAX) {
        name.push('.');
        name.push_str(class);
    }
    name
}

/// Whether a class was made by a person: no four consonants or digits in a row.
fn looks_like_words(class: &str) -> bool {
    let hard = |c: char| c.is_ascii_digit() || (c.is_ascii_alphabetic() && !"aeiouyAEIOUY".contains(c));
    !class.is_empty() && longest_run(class, hard) < 4
}

#[cfg(test)]
mod tests;
