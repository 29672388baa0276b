//! The privacy floor: what never leaves, whatever a page sends.
//!
//! No values of inputs, no key codes, no full addresses with their query, no IP address: the event model has no field for them.
//! What it has is cut down here.

use crate::identity::{Id, identity};

/// The longest text of an element, in characters.
pub const TEXT_CHARS_MAX: usize = 64;
/// The longest page key, in characters.
pub const PAGE_KEY_CHARS_MAX: usize = 256;

/// Returns what may be kept of the text of an element: 64 characters of a button's or a link's, nothing of others' and of
/// masked ones'.
pub fn element_text(text: &str, is_button_or_link: bool, is_masked: bool) -> &str {
    if !is_button_or_link || is_masked {
        return "";
    }
    text.char_indices().nth(TEXT_CHARS_MAX).map_or(text, |(at, _)| &text[..at])
}

/// Returns how a person is named outside of billing: by a hash with the tenant's salt.
pub fn person(tenant_salt: &str, user_id: &str) -> Id {
    identity(&[tenant_salt, user_id])
}

/// Returns the key of a page from its path or route template: lower case, without scheme and host, query, hash and trailing
/// slash. The root is `/`.
pub fn page_key(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => path,
    };
    let key: String =
        path.trim_end_matches('/').chars().take(PAGE_KEY_CHARS_MAX).flat_map(char::to_lowercase).collect();
    if key.is_empty() { "/".to_owned() } else { key }
}

/// Returns the key of a page that an event names; nothing where it names none.
pub fn page_name(page: &str) -> String {
    // What is a key already is the rule, and is copied as it is.
    let is_odd = |byte: u8| byte.is_ascii_uppercase() || !byte.is_ascii() || matches!(byte, b'?' | b'#');
    let is_long = page.len() > PAGE_KEY_CHARS_MAX;
    if page.is_empty() || !(is_long || page.ends_with('/') || page.contains("://") || page.bytes().any(is_odd)) {
        return page.to_owned();
    }
    page_key(page)
}

/// Returns the hash by which a search query is known: of the query without blanks at its ends, in lower case, each run of
/// blanks as one.
pub fn query_hash(query: &str) -> Id {
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    identity(&["query/1", &words.join(" ")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_of_buttons_and_links_alone() {
        assert_eq!(element_text("Pay now", true, false), "Pay now");
        assert_eq!(element_text("Mrs Smith", false, false), "");
        assert_eq!(element_text("Pay now", true, true), "");
        assert_eq!(element_text(&"é".repeat(65), true, false), "é".repeat(64));
    }

    #[test]
    fn a_page_key_has_no_query() {
        assert_eq!(page_key("https://Shop.example/Cart/?token=secret#pay"), "/cart");
        assert_eq!(page_key("/product/:ID/"), "/product/:id");
        assert_eq!(page_key("https://shop.example"), "/");
        assert_eq!(page_key(""), "/");
        for page in [
            "/cart",
            "/",
            "cart",
            "/Cart",
            "/cart/",
            "/cart?token=s",
            "https://shop.example/cart#x",
            "/größe",
            "/GRÖSSE",
        ] {
            assert_eq!(page_name(page), page_key(page), "{page}");
        }
        assert_eq!(page_name(&"/x".repeat(400)), page_key(&"/x".repeat(400)));
        assert_eq!(page_name(""), "");
    }

    #[test]
    fn a_person_is_a_hash_with_the_salt() {
        assert_ne!(person("salt-1", "u1"), person("salt-2", "u1"));
        assert!(!person("salt-1", "u1").to_string().contains("u1"));
    }

    #[test]
    fn queries_alike_have_one_hash() {
        assert_eq!(query_hash("a"), query_hash(" A "));
        assert_eq!(query_hash("red  shoes"), query_hash("Red shoes"));
        assert_ne!(query_hash("red shoes"), query_hash("redshoes"));
    }
}
