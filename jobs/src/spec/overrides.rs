//! Overrides: `--set sources.clicks.file.path=in/*.jsonl` changes the tree before it is read.

use super::fields::{CONNECTOR, SINK, SOURCE};
use crate::fault::{Fault, Text, codes, shorten};
use crate::yaml::{self, Entry, Node, Span, Spanned, Value};

/// Returns the text under which faults of an override are shown.
pub fn text_of(written: &str) -> Text {
    let key = written.split_once('=').map_or(written, |(key, _)| key);
    Text { name: format!("--set {}", shorten(key)), text: written.to_owned() }
}

/// Applies the override `written`, which is text number `text`, to the job's tree.
pub fn apply(root: &mut Node, written: &str, text: usize) -> Result<(), Fault> {
    let whole = Span { text, start: 0, end: written.len() };
    let Some((path, value)) = written.split_once('=') else {
        let fault = Fault::error(codes::BAD_OVERRIDE, whole, format!("the override `{}` has no `=`", shorten(written)));
        return Err(fault.hint("write `--set key.of.the.job=value`"));
    };
    let mut keys = Vec::new();
    let mut start = 0;
    for part in path.split('.') {
        keys.push(Spanned { value: part.to_owned(), span: Span { text, start, end: start + part.len() } });
        start += part.len() + 1;
    }
    if let Some(empty) = keys.iter().find(|key| key.value.is_empty()) {
        let message = format!("the key `{}` of the override has an empty part", shorten(path));
        return Err(Fault::error(codes::BAD_OVERRIDE, empty.span, message));
    }
    let node = value_of(value, path.len() + 1, text)?;
    replace_connector(root, &keys);
    set(root, &keys, node)
}

/// Reads the value as YAML: a word, a quoted text, a list or a map in one line.
fn value_of(value: &str, offset: usize, text: usize) -> Result<Node, Fault> {
    let blank = Node { span: Span { text, start: offset, end: offset + value.len() }, value: Value::Null };
    if value.trim().is_empty() {
        return Ok(Node { value: Value::Scalar(yaml::Scalar { text: String::new(), plain: false }), ..blank });
    }
    // `*.csv` would be an alias and `@x` an error: what is no YAML is taken as it stands, unless it means to be YAML.
    match yaml::parse(value, text) {
        Ok(mut node) => {
            shift(&mut node, offset);
            Ok(node)
        }
        Err(error) if value.starts_with(['{', '[', '"', '\'']) => {
            let span = Span { text, start: error.span.start + offset, end: error.span.end + offset };
            Err(Fault::error(
                codes::BAD_OVERRIDE,
                span,
                format!("the value of the override is no YAML: {}", error.message),
            ))
        }
        Err(_) => Ok(Node { value: Value::Scalar(yaml::Scalar { text: value.to_owned(), plain: true }), ..blank }),
    }
}

fn shift(node: &mut Node, offset: usize) {
    let moved = |span: Span| Span { start: span.start + offset, end: span.end + offset, ..span };
    node.span = moved(node.span);
    match &mut node.value {
        Value::Null | Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, offset)),
        Value::Map(entries) => {
            for entry in entries {
                entry.key.span = moved(entry.key.span);
                shift(&mut entry.value, offset);
            }
        }
    }
}

/// Takes the connector of a source or sink away if the override gives it another one.
fn replace_connector(root: &mut Node, keys: &[Spanned<String>]) {
    let [kind, name, connector, ..] = keys else { return };
    let section = match kind.value.as_str() {
        "sources" => &SOURCE,
        "sinks" => &SINK,
        _ => return,
    };
    let is_connector = |key: &str| section.field(key).is_some_and(|field| field.group == CONNECTOR);
    if !is_connector(&connector.value) {
        return;
    }
    let part = entry(root, &kind.value).and_then(|node| entry(node, &name.value));
    if let Some(Node { value: Value::Map(entries), .. }) = part {
        entries.retain(|entry| entry.key.value == connector.value || !is_connector(&entry.key.value));
    }
}

fn entry<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().find(|entry| entry.key.value == key).map(|entry| &mut entry.value),
        _ => None,
    }
}

fn set(node: &mut Node, keys: &[Spanned<String>], value: Node) -> Result<(), Fault> {
    let (key, rest) = keys.split_first().expect("a key has at least one part");
    if matches!(node.value, Value::Null) {
        *node = Node { span: key.span, value: Value::Map(Vec::new()) };
    }
    let Value::Map(entries) = &mut node.value else {
        let message = format!("the override sets `{}` in {}, which has no keys", key.value, node.value.describe());
        return Err(Fault::error(codes::BAD_OVERRIDE, key.span, message));
    };
    let at = match entries.iter().position(|entry| entry.key.value == key.value) {
        Some(at) => at,
        None => {
            entries.push(Entry { key: key.clone(), value: Node { span: key.span, value: Value::Null } });
            entries.len() - 1
        }
    };
    match rest {
        // `--set sources.orders.id=null` takes a key away.
        [] if matches!(value.value, Value::Null) => drop(entries.remove(at)),
        [] => entries[at] = Entry { key: key.clone(), value },
        _ => set(&mut entries[at].value, rest, value)?,
    }
    Ok(())
}
