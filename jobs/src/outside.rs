//! What a job file names on the machine that reads it: files, lakes, schema files, references to files. Read from the text alone, before
//! anything that it names is opened: whoever runs jobs of others decides by it what they may name.

use crate::spec;
use crate::spec::values::{Piece, pieces};
use crate::yaml::{Node, Value};

/// What kind of thing is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Files that are read.
    Read,
    /// A file that is written.
    Written,
    /// A lake, in a folder or a bucket.
    Lake,
    /// A file with a schema.
    Schema,
    /// A file whose text is put in: `${file:PATH}`.
    Reference,
    /// The terminal.
    Console,
}

/// Something that a job file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Who names it: `sources.clicks`.
    pub who: String,
    /// What kind of thing it is.
    pub named: Named,
    /// Its path, as it is written.
    pub path: String,
}

/// Returns what the job file `text` names, with its overrides. What cannot be read names nothing: it is refused by
/// [`crate::check`].
pub fn outside(text: &str, overrides: &[String]) -> Vec<Outside> {
    let mut found = Vec::new();
    let Some(root) = spec::tree(text, overrides) else { return found };
    for (section, file) in [("sources", Named::Read), ("sinks", Named::Written)] {
        for (name, part) in entries(child(&root, section)) {
            let who = format!("{section}.{name}");
            let mut put = |named, path: &str| found.push(Outside { who: who.clone(), named, path: path.to_owned() });
            for (key, value) in entries(Some(part)) {
                match (key, path_of(value)) {
                    ("file", Some(path)) => put(file, path),
                    ("lake", Some(path)) => put(Named::Lake, path),
                    ("schema_file", _) => put(Named::Schema, scalar(value).unwrap_or_default()),
                    ("console", _) => put(Named::Console, ""),
                    _ => {}
                }
            }
        }
    }
    references(&root, "the job", &mut found);
    found
}

/// Returns the name that a job file gives its job, whatever else is wrong with it.
pub fn name_of(text: &str, overrides: &[String]) -> Option<String> {
    let root = spec::tree(text, overrides)?;
    child(&root, "job").and_then(scalar).map(str::to_owned)
}

/// Returns the path of a connector: `file: { path: ... }`.
fn path_of(node: &Node) -> Option<&str> {
    entries(Some(node)).find(|(key, _)| *key == "path").and_then(|(_, value)| scalar(value))
}

fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    // Of keys that are repeated, which are a fault, the last one.
    entries(Some(node)).filter(|(name, _)| *name == key).last().map(|(_, value)| value)
}

fn entries(node: Option<&Node>) -> impl Iterator<Item = (&str, &Node)> {
    let entries = match node.map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|entry| (entry.key.value.as_str(), &entry.value))
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}

fn references(node: &Node, who: &str, found: &mut Vec<Outside>) {
    match &node.value {
        Value::Null => {}
        Value::Scalar(scalar) => {
            for piece in pieces(&scalar.text).unwrap_or_default() {
                if let Piece::File(path) = piece {
                    found.push(Outside { who: who.to_owned(), named: Named::Reference, path: path.to_owned() });
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| references(item, who, found)),
        Value::Map(entries) => entries.iter().for_each(|entry| references(&entry.value, &entry.key.value, found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_a_job_names_is_found_overrides_included() {
        let text = r#"
job: j
sources:
  clicks: { file: { path: "in/*.jsonl" }, schema_file: a.avsc, schema: { path: { path: user.id, type: string } } }
  orders: { topic: orders }
sinks:
  out: { from: clicks, file: { path: "${file:/etc/name}" } }
  lake: { from: clicks, lake: { path: s3://bucket/x } }
"#;
        let given = [
            r#"sinks.out.file.path=other.jsonl"#.to_owned(),
            "sources.orders.file.path=/x".to_owned(),
            "sinks.term.console={}".to_owned(),
        ];
        let short =
            |found: Vec<Outside>| -> Vec<(Named, String)> { found.into_iter().map(|it| (it.named, it.path)).collect() };
        let expected = [
            (Named::Read, "in/*.jsonl"),
            (Named::Schema, "a.avsc"),
            (Named::Written, "${file:/etc/name}"),
            (Named::Lake, "s3://bucket/x"),
            (Named::Reference, "/etc/name"),
        ];
        assert_eq!(short(outside(text, &[])), expected.map(|(named, path)| (named, path.to_owned())));
        let found = short(outside(text, &given));
        for it in [(Named::Written, "other.jsonl"), (Named::Read, "/x"), (Named::Console, "")] {
            assert!(found.contains(&(it.0, it.1.to_owned())), "{it:?}: {found:?}");
        }
        assert!(!found.iter().any(|(_, path)| path.contains("/etc")), "it was replaced");
        assert!(outside("a: [", &[]).is_empty());
        assert_eq!(name_of(text, &[]).as_deref(), Some("j"));
        assert_eq!(name_of(text, &["job=k".to_owned()]).as_deref(), Some("k"));
    }
}
