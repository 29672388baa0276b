//! YAML with positions: a text becomes a tree in which every key and value knows where it stands.
//!
//! Scalars stay text; what a value means follows from the key it belongs to ([`crate::spec::fields`]). Left out on purpose:
//! anchors, aliases, tags and several documents in one file. Repeated keys are kept, so that they can be reported.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Nesting deeper than this is refused; the deepest job file has 8.
const DEPTH_MAX: usize = 32;

/// A stretch of one of the texts that make up a job: the file, or an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// Which text; 0 is the job file.
    pub text: usize,
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

impl Span {
    /// Returns the empty stretch at the beginning of this one.
    pub fn head(self) -> Span {
        Span { end: self.start, ..self }
    }
}

/// A value together with where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// A value as written.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// The kinds of values.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A word, a number, a quoted or a block text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order written, repeated keys included.
    Map(Vec<Entry>),
}

/// A scalar as written.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// Its text, quotes and escapes resolved.
    pub text: String,
    /// It was written without quotes.
    pub plain: bool,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Spanned<String>,
    /// Its value.
    pub value: Node,
}

impl Value {
    /// Returns what the value is, for a message.
    pub fn describe(&self) -> String {
        match self {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(scalar) => format!("`{}`", crate::fault::shorten(&scalar.text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// A text that is no YAML, or YAML that job files do not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What the reader can do.
    pub hint: Option<String>,
}

/// Reads `source`, which is text number `text`. An empty text is `Null`.
pub fn parse(source: &str, text: usize) -> Result<Node, YamlError> {
    let mut reader = Reader { parser: Parser::new_from_str(source), places: Places::new(source, text) };
    let mut builder = Builder { open: Vec::new(), root: None };
    loop {
        let (event, span) = reader.next()?;
        let node = match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if builder.root.is_some() => {
                return Err(refuse(
                    span,
                    "there is more than one document",
                    "keep one job in a file and drop the `---`",
                ));
            }
            Event::Alias(_) => {
                return Err(refuse(span, "aliases (`*name`) are not used in job files", "write the value out"));
            }
            Event::Scalar(.., anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor > 0 =>
            {
                return Err(refuse(span, "anchors (`&name`) are not used in job files", "write the value out"));
            }
            Event::Scalar(.., Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(refuse(
                    span,
                    "tags (`!name`) are not used in job files",
                    "drop the tag, or quote the text",
                ));
            }
            Event::Scalar(text, style, ..) => Some(scalar(&text, style, span)),
            Event::SequenceStart(..) => builder.open(span, Value::List(Vec::new()))?,
            Event::MappingStart(..) => builder.open(span, Value::Map(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => Some(builder.close(span)),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => None,
        };
        if let Some(node) = node {
            builder.place(node)?;
        }
    }
    let end = Span { text, start: 0, end: 0 };
    Ok(builder.root.unwrap_or(Node { span: end, value: Value::Null }))
}

fn refuse(span: Span, message: &str, hint: &str) -> YamlError {
    YamlError { message: message.to_owned(), span, hint: Some(hint.to_owned()) }
}

fn scalar(text: &str, style: ScalarStyle, span: Span) -> Node {
    let plain = style == ScalarStyle::Plain;
    let value = match text {
        "" | "~" | "null" if plain => Value::Null,
        _ => Value::Scalar(Scalar { text: text.to_owned(), plain }),
    };
    Node { span, value }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    places: Places,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok((event, span))) => Ok((event, self.places.span(span.start.index(), span.end.index()))),
            Some(Err(error)) => {
                let at = error.marker().index();
                Err(YamlError { message: error.info().to_owned(), span: self.places.span(at, at), hint: None })
            }
        }
    }
}

/// From the parser's count of characters to bytes.
struct Places {
    text: usize,
    length: usize,
    /// Byte of every character; empty for ASCII, where they are the same.
    bytes: Vec<usize>,
}

impl Places {
    fn new(source: &str, text: usize) -> Places {
        let bytes = if source.is_ascii() { Vec::new() } else { source.char_indices().map(|(byte, _)| byte).collect() };
        Places { text, length: source.len(), bytes }
    }

    fn byte(&self, char: usize) -> usize {
        if self.bytes.is_empty() { char.min(self.length) } else { *self.bytes.get(char).unwrap_or(&self.length) }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let start = self.byte(start);
        Span { text: self.text, start, end: self.byte(end).max(start) }
    }
}

/// The collections that are not closed yet, outermost first, each with the key that waits for its value.
struct Builder {
    open: Vec<(Node, Option<Spanned<String>>)>,
    root: Option<Node>,
}

impl Builder {
    fn open(&mut self, span: Span, value: Value) -> Result<Option<Node>, YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(refuse(span, "the nesting is too deep", "job files need no more than a few levels"));
        }
        self.open.push((Node { span, value }, None));
        Ok(None)
    }

    fn close(&mut self, end: Span) -> Node {
        let (mut node, _) = self.open.pop().expect("the parser closes only what it opened");
        node.span.end = match (&node.value, end.end > end.start) {
            // The bracket itself: the parser counts the blanks after it in.
            (_, true) => end.start + 1,
            (Value::Map(entries), _) => entries.last().map_or(node.span.end, |entry| entry.value.span.end),
            (Value::List(items), _) => items.last().map_or(node.span.end, |item| item.span.end),
            _ => node.span.end,
        };
        node
    }

    fn place(&mut self, node: Node) -> Result<(), YamlError> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Node { value: Value::List(items), .. }, _)) => items.push(node),
            Some((Node { value: Value::Map(entries), .. }, waiting)) => match waiting.take() {
                Some(key) => entries.push(Entry { key, value: node }),
                None => *waiting = Some(key_of(node)?),
            },
            Some((Node { value: Value::Null | Value::Scalar(_), .. }, _)) => {
                unreachable!("only collections are opened")
            }
        }
        Ok(())
    }
}

fn key_of(node: Node) -> Result<Spanned<String>, YamlError> {
    match node.value {
        Value::Scalar(scalar) => Ok(Spanned { value: scalar.text, span: node.span }),
        // `null: ""` is an option of CSV: a key is always text.
        Value::Null if node.span.end > node.span.start => Ok(Spanned { value: "null".to_owned(), span: node.span }),
        other => Err(refuse(node.span, &format!("{} cannot be a key", other.describe()), "a key is a plain word")),
    }
}

/// Returns where byte `at` of the scalar's text stands in `source`: quotes, escapes and line breaks are stepped over.
pub fn place_in(source: &str, scalar: &Spanned<String>, at: usize) -> usize {
    let raw = source.get(scalar.span.start..scalar.span.end).unwrap_or("");
    let skip = usize::from(raw.starts_with(['"', '\'']));
    let mut rest = raw.char_indices().skip(skip).peekable();
    for (_, wanted) in scalar.value.char_indices().take_while(|(byte, _)| *byte < at) {
        // Blanks are folded, so one in the text may stand for several in the source; everything else stands for itself.
        for (_, found) in rest.by_ref() {
            if found == wanted || (wanted.is_whitespace() && found.is_whitespace()) {
                break;
            }
        }
    }
    let wanted = scalar.value[at.min(scalar.value.len())..].chars().next();
    while wanted.is_some() && rest.peek().is_some_and(|(_, found)| Some(*found) != wanted) {
        rest.next();
    }
    scalar.span.start + rest.peek().map_or(raw.len().saturating_sub(skip), |(byte, _)| *byte)
}

#[cfg(test)]
mod tests;
