//! Stable names of errors and endpoints: what is one problem has one name, whatever numbers and ids are in it.

use crate::event::payload::Error;
use crate::identity::identity;

/// Frames of a stack that are part of an error's name.
const FRAMES_MAX: usize = 5;
/// The longest part of a message that is looked at, in characters.
const MESSAGE_CHARS_MAX: usize = 1000;

/// An error as a page reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorReport {
    /// Its type, such as `TypeError`.
    pub kind: String,
    /// Its message.
    pub message: String,
    /// Its stack, innermost first.
    pub frames: Vec<Frame>,
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The address of the script.
    pub url: String,
    /// The name of the function; empty if unknown.
    pub function: String,
    /// Whether it is the site's own code and not a library's.
    pub in_app: bool,
    /// Whether a source map gave it its name. If that is so for any frame, the others do not count.
    pub is_resolved: bool,
}

impl ErrorReport {
    /// Returns what the signals need of it.
    pub fn summary(&self) -> Error {
        Error { error_fp: self.fingerprint(), noise: self.is_noise(), hydration: self.is_hydration() }
    }

    /// Returns the error's stable name: the hash of type, message (numbers as `N`, quoted text as `S`) and the first five
    /// frames of the site's own code as `path:function`; without such the first frame. Lines and columns are no part of it.
    pub fn fingerprint(&self) -> String {
        let message = normalised(&self.message);
        let mut parts = vec![self.kind.clone(), message];
        let any_resolved = self.frames.iter().any(|frame| frame.is_resolved);
        let frames = || self.frames.iter().filter(|frame| frame.is_resolved || !any_resolved);
        parts.extend(frames().filter(|frame| frame.in_app).take(FRAMES_MAX).map(Frame::name));
        if parts.len() == 2 {
            parts.extend(frames().next().map(Frame::name));
        }
        identity(&parts.iter().map(String::as_str).collect::<Vec<_>>()).to_string()
    }

    /// Returns whether it says nothing about the page: an error of another origin without a stack, the resize observer's
    /// complaint, or anything with a browser extension in its stack.
    pub fn is_noise(&self) -> bool {
        let message = self.message.trim();
        let foreign = |frame: &Frame| {
            let scheme = frame.url.split_once("://").map_or("", |(scheme, _)| scheme);
            scheme.ends_with("-extension")
        };
        (self.frames.is_empty() && message.eq_ignore_ascii_case("script error."))
            || message.starts_with("ResizeObserver loop")
            || self.frames.iter().any(foreign)
    }

    /// Returns whether the page's framework could not take over what the server rendered.
    pub fn is_hydration(&self) -> bool {
        let numbered = ["418", "419", "422", "423", "425"].iter().any(|number| {
            let texts = [format!("React error #{number}"), format!("React error {number}")];
            texts.iter().any(|text| {
                let mut ends = self.message.match_indices(text.as_str()).map(|(at, found)| at + found.len());
                ends.any(|end| !self.message[end..].starts_with(|c: char| c.is_ascii_digit()))
            })
        });
        numbered
            || self.message.contains("does not match server-rendered HTML")
            || self.message.contains("Hydration failed because")
    }
}

impl Frame {
    /// Path and function: no host, no query, as both change with a release.
    fn name(&self) -> String {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        let path = match url.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
            None => url,
        };
        format!("{path}:{}", self.function)
    }
}

/// A message with each run of digits as `N`, and what stands in quotes as `S`.
fn normalised(message: &str) -> String {
    let text: Vec<char> = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let mut out = String::with_capacity(message.len().min(MESSAGE_CHARS_MAX));
    let mut at = 0;
    // Where each quote is met for the last time: without one further on, a quote is an apostrophe.
    let last = |quote: char| text.iter().rposition(|&c| c == quote);
    let lasts = [('"', last('"')), ('\'', last('\'')), ('`', last('`'))];
    while at < text.len() {
        let c = text[at];
        let in_word = at > 0 && text[at - 1].is_alphanumeric();
        let quoted = lasts.iter().any(|&(quote, last)| quote == c && last.is_some_and(|last| last > at));
        if quoted && !(c == '\'' && in_word) {
            let length = text[at + 1..].iter().position(|&other| other == c).unwrap_or(0);
            out.push('S');
            at += length + 2;
        } else if c.is_ascii_digit() {
            out.push('N');
            at += text[at..].iter().take_while(|c| c.is_ascii_digit()).count();
        } else {
            out.push(c);
            at += 1;
        }
    }
    out
}

/// Returns the stable name of an endpoint: the method and its path with ids as `:id`, without host and query.
///
/// An id is a segment of digits, of hexadecimal digits and dashes (8 or more, a decimal digit among them), or of 16 or more
/// letters and digits with both among them. Parameters of a route template stay as they are.
pub fn endpoint_fp(method: &str, path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => path,
    };
    let segments =
        path.trim_matches('/').split('/').take(32).map(|segment| if is_id(segment) { ":id" } else { segment });
    let path: String = segments.collect::<Vec<_>>().join("/").chars().take(200).collect();
    format!("{} /{path}", method.trim().to_ascii_uppercase())
}

fn is_id(segment: &str) -> bool {
    let has_digit = segment.bytes().any(|byte| byte.is_ascii_digit());
    let has_letter = segment.bytes().any(|byte| byte.is_ascii_alphabetic());
    let all = |is: fn(u8) -> bool| segment.bytes().all(is);
    has_digit
        && (all(|byte| byte.is_ascii_digit())
            || (segment.len() >= 8 && all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
            || (segment.len() >= 16 && has_letter && all(|byte| byte.is_ascii_alphanumeric())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(url: &str, function: &str, in_app: bool) -> Frame {
        Frame { url: url.to_owned(), function: function.to_owned(), in_app, is_resolved: false }
    }

    fn report(message: &str, frames: Vec<Frame>) -> ErrorReport {
        ErrorReport { kind: "TypeError".to_owned(), message: message.to_owned(), frames }
    }

    #[test]
    fn numbers_and_quotes_are_no_part_of_a_message() {
        assert_eq!(normalised("item 17 of 'cart 3' is \"gone\" at 12:30"), "item N of S is S at N:N");
        assert_eq!(normalised("can't read x of undefined, can't"), "can't read x of undefined, can't");
        assert_eq!(normalised("`a` \""), "S \"");
        assert_eq!(normalised("''"), "S");
        assert_eq!(normalised(""), "");
    }

    /// The cases of PostHog's tests of its first error fingerprints, in our form: only the site's own frames count; only
    /// resolved ones, if any is; all, if none is; the first, if none is the site's own.
    #[test]
    fn frames_count_as_in_posthogs_four_cases() {
        let same = |some: &[&Frame], others: &[&Frame]| {
            let of = |frames: &[&Frame]| report("m", frames.iter().map(|&frame| frame.clone()).collect()).fingerprint();
            of(some) == of(others)
        };
        let [a, b] = ["a", "b"].map(|name| Frame { is_resolved: true, ..frame("/app.js", name, true) });
        let [c, d] = ["c", "d"].map(|name| frame("/app.js", name, true));
        let [x, y] = ["x", "y"].map(|name| frame("/lib.js", name, false));
        assert!(same(&[&a, &b, &Frame { is_resolved: true, ..x.clone() }], &[&a, &b]), "own frames alone");
        assert!(same(&[&a, &b, &c], &[&a, &b]), "resolved frames alone");
        assert!(!same(&[&c, &d], &[&c]), "all frames, if none is resolved");
        assert!(same(&[&x, &y], &[&x]), "the first frame, if none is the site's own");
    }

    #[test]
    fn own_frames_make_the_name() {
        let own = frame("https://shop.example/a.js?v=1", "pay", true);
        let library = frame("https://cdn.example/lib.js", "call", false);
        let mixed = report("m", vec![library.clone(), own.clone()]).fingerprint();
        assert_eq!(mixed, report("m", vec![own.clone()]).fingerprint());
        let none = report("m", vec![library.clone(), frame("/other.js", "x", false)]).fingerprint();
        assert_eq!(none, report("m", vec![library]).fingerprint());
        assert_ne!(mixed, none);
        let renamed = report("m", vec![Frame { function: "buy".to_owned(), ..own.clone() }]).fingerprint();
        assert_ne!(mixed, renamed);
        let bare = report("m", vec![]).fingerprint();
        assert_eq!(bare, identity(&["TypeError", "m"]).to_string());
        let release = report("m", vec![Frame { url: "https://other.example/a.js?v=2".to_owned(), ..own }]);
        assert_eq!(mixed, release.fingerprint());
    }

    #[test]
    fn the_sixth_frame_does_not_matter() {
        let frames = |last: &str| {
            let mut frames: Vec<Frame> = (0..5).map(|n| frame("/a.js", &format!("f{n}"), true)).collect();
            frames.push(frame("/a.js", last, true));
            frames
        };
        assert_eq!(report("m", frames("x")).fingerprint(), report("m", frames("y")).fingerprint());
    }

    #[test]
    fn noise_is_told_apart() {
        assert!(report("Script error.", vec![]).is_noise());
        assert!(!report("Script error.", vec![frame("/a.js", "f", true)]).is_noise());
        assert!(report("ResizeObserver loop completed with undelivered notifications.", vec![]).is_noise());
        assert!(report("m", vec![frame("chrome-extension://abc/x.js", "f", false)]).is_noise());
        assert!(!report("x is not a function", vec![frame("https://shop.example/a.js", "f", true)]).is_noise());
    }

    #[test]
    fn hydration_is_known_by_its_messages() {
        for message in [
            "Minified React error #418; visit https://react.dev/errors/418",
            "Hydration failed because the initial UI",
            "Text content does not match server-rendered HTML.",
        ] {
            assert!(report(message, vec![]).is_hydration(), "{message}");
        }
        for message in ["Minified React error #4180", "Minified React error #421", "Hydration"] {
            assert!(!report(message, vec![]).is_hydration(), "{message}");
        }
    }

    #[test]
    fn ids_are_no_part_of_an_endpoint() {
        assert_eq!(endpoint_fp("post", "https://api.example/cart/4711/items?x=1"), "POST /cart/:id/items");
        assert_eq!(endpoint_fp("GET", "/o/550e8400-e29b-41d4-a716-446655440000"), "GET /o/:id");
        assert_eq!(endpoint_fp("GET", "/u/V1StGXR8Z5jdHi6B"), "GET /u/:id");
        assert_eq!(endpoint_fp("GET", "/v2/products/:sku"), "GET /v2/products/:sku");
        assert_eq!(endpoint_fp("GET", "/deadbeef/face"), "GET /deadbeef/face");
        assert_eq!(endpoint_fp("GET", ""), "GET /");
    }
}
