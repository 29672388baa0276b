//! Positions, and what job files do without.

use super::*;

fn get<'a>(node: &'a Node, path: &str) -> &'a Node {
    path.split('.').fold(node, |node, key| match &node.value {
        Value::Map(entries) => &entries.iter().find(|e| e.key.value == key).unwrap().value,
        other => panic!("no map at {key}: {other:?}"),
    })
}

fn slice<'a>(source: &'a str, node: &Node) -> &'a str {
    &source[node.span.start..node.span.end]
}

#[test]
fn every_value_knows_where_it_stands() {
    let source = "job: käse\nsources:\n  a: { path: 'it''s', n: 3, list: [x, \"y z\"] }\n  b:\n    c: 5s\nlast: end\n";
    let root = parse(source, 0).unwrap();
    assert_eq!(slice(source, get(&root, "job")), "käse");
    assert_eq!(slice(source, get(&root, "sources.a")), "{ path: 'it''s', n: 3, list: [x, \"y z\"] }");
    assert_eq!(slice(source, get(&root, "sources.a.path")), "'it''s'");
    assert_eq!(slice(source, get(&root, "sources.a.list")), "[x, \"y z\"]");
    assert_eq!(slice(source, get(&root, "sources.b")), "c: 5s");
    assert_eq!(slice(source, get(&root, "last")), "end");
}

#[test]
fn repeated_keys_are_kept_and_null_is_a_key() {
    let root = parse("a: 1\na: 2\nnull: ''\n", 0).unwrap();
    let Value::Map(entries) = root.value else { panic!() };
    assert_eq!(entries.iter().map(|e| e.key.value.as_str()).collect::<Vec<_>>(), ["a", "a", "null"]);
}

#[test]
fn what_job_files_do_not_use_is_refused() {
    for (source, message) in [
        ("a: &x 1\nb: *x\n", "anchors (`&name`) are not used in job files"),
        ("a: !tag 1\n", "tags (`!name`) are not used in job files"),
        ("a: 1\n---\nb: 1\n", "there is more than one document"),
        ("[a]: 1\n", "a list cannot be a key"),
    ] {
        assert_eq!(parse(source, 0).unwrap_err().message, message, "{source}");
    }
    assert_eq!(parse(&"[".repeat(40), 0).unwrap_err().message, "the nesting is too deep");
    assert!(parse(&"[".repeat(100_000), 0).is_err());
}

#[test]
fn a_syntax_error_names_its_place() {
    let source = "a: 1\nb: [1, 2\nc: 3\n";
    let error = parse(source, 0).unwrap_err();
    assert!(error.span.start > source.find("b:").unwrap(), "{error:?}");
}

#[test]
fn a_place_inside_a_text_is_found_through_quotes_escapes_and_folds() {
    let source = "a: \"x = 'q' and \\\"é\\\" y\"\nb: 'it''s here'\nc: plain text\nd: |\n  one\n    two\n  three\ne: >\n  one\n  two\n";
    let root = parse(source, 0).unwrap();
    for (key, word) in
        [("a", "y"), ("a", "and"), ("a", "é"), ("b", "here"), ("c", "text"), ("d", "three"), ("e", "two")]
    {
        let node = get(&root, key);
        let Value::Scalar(scalar) = &node.value else { panic!() };
        let spanned = Spanned { value: scalar.text.clone(), span: node.span };
        let at = place_in(source, &spanned, scalar.text.find(word).unwrap());
        assert!(source[at..].starts_with(word), "{key} {word}: {:?}", &source[at..]);
    }
}
