//! Protobuf: one message per record.
//!
//! Which message it is, and its schema, come from a registry by the number before the message (a zero byte, four bytes of
//! number, then where the message stands in its file), or from a file for records without such a frame. Columns are found by the
//! names of fields; what has presence and is not set is null, what has none is its default, as the language defines; what the
//! job does not name is passed over. The order of a map is that of its keys.

mod cells;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;

use base64::Engine as _;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, FileDescriptor, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::fields::Fields;
use super::framing::{no_frame, unframed, unknown_schema};
use super::records::FillRow;
use super::rows::{Fault, Rows};
use super::{FormatError, SchemaFile};
use crate::registry::{Answer, RegisteredSchema, Registry, SchemaKind};
use cells::Walk;

/// A path to a message in its file is no longer than this.
const INDEXES_MAX: usize = 64;
/// What helps where a file imports another one.
const IMPORTS: &str =
    "an import of your own is not read: name a set of descriptors, made by `protoc --include_imports -o`";
/// What the file of a registered schema is called among those that it imports.
const OWN_FILE: &str = "registered.proto";

/// Where the schema of a record is.
#[derive(Clone)]
pub(crate) enum Written {
    /// In a registry, by the number in the record.
    Registered {
        registry: Registry,
        /// The message that all records are to be.
        message: Option<String>,
        /// The files that were read.
        known: HashMap<u32, Result<FileDescriptor, Fault>>,
    },
    /// Here: all records are of the same message.
    Alike(MessageDescriptor),
}

impl Written {
    /// Returns that the schemas are in a registry.
    pub fn registered(registry: Registry, message: Option<&str>) -> Written {
        Written::Registered { registry, message: message.map(str::to_owned), known: HashMap::new() }
    }
}

/// Fills rows from Protobuf records.
pub(crate) struct ProtobufRows {
    written: Written,
    fields: Fields,
    /// Where texts are put together.
    scratch: Vec<u8>,
}

impl ProtobufRows {
    /// Returns what fills `rows`.
    pub fn new(rows: &Rows, written: Written) -> ProtobufRows {
        ProtobufRows { written, fields: Fields::of(rows), scratch: Vec::new() }
    }

    /// Returns which message a record is, and its bytes.
    fn message<'r>(&mut self, record: &'r [u8]) -> Result<(MessageDescriptor, &'r [u8]), Fault> {
        let (registry, wanted, known) = match &mut self.written {
            Written::Alike(message) => return Ok((message.clone(), record)),
            Written::Registered { registry, message, known } => (registry, message, known),
        };
        let (id, rest) = unframed(record).ok_or_else(|| no_frame(record))?;
        let file = match known.get(&id) {
            Some(file) => file.clone(),
            None => match registry.answer(id) {
                Answer::Unknown(reason) => return Err(unknown_schema(id, &reason)),
                Answer::Known(found) => known.entry(id).insert_entry(file_of(id, &found)).get().clone(),
            },
        }?;
        let (indexes, message) = indexes(rest)?;
        let descriptor = at(&file, &indexes).ok_or_else(|| {
            let path = indexes.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
            Fault::new("malformed", format!("schema {id} has no message at {path}"))
        })?;
        match wanted {
            Some(wanted) if wanted != descriptor.full_name() => {
                let found = descriptor.full_name();
                Err(Fault::new("type", format!("the record is a `{found}`, not a `{wanted}`")))
            }
            _ => Ok((descriptor, message)),
        }
    }
}

impl FillRow for ProtobufRows {
    fn fill(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), Fault> {
        let (descriptor, bytes) = self.message(record)?;
        let message =
            DynamicMessage::decode(descriptor, bytes).map_err(|error| Fault::new("malformed", error.to_string()))?;
        Walk { fields: &self.fields, rows, scratch: &mut self.scratch }.message(&message, 0)
    }
}

/// Reads where in its file a message stands: how many numbers, then the numbers; none stands for the first message.
fn indexes(bytes: &[u8]) -> Result<(Vec<usize>, &[u8]), Fault> {
    let wrong = || Fault::new("malformed", "the record does not say which message of its schema it is");
    let mut rest = bytes;
    let mut number = || -> Option<i64> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let (byte, after) = rest.split_first()?;
            rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        None
    };
    let count = number().and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= INDEXES_MAX);
    let count = count.ok_or_else(wrong)?;
    let mut indexes = Vec::with_capacity(count.max(1));
    for _ in 0..count {
        indexes.push(number().and_then(|index| usize::try_from(index).ok()).ok_or_else(wrong)?);
    }
    if indexes.is_empty() {
        indexes.push(0);
    }
    Ok((indexes, rest))
}

fn at(file: &FileDescriptor, indexes: &[usize]) -> Option<MessageDescriptor> {
    let (first, rest) = indexes.split_first()?;
    let mut message = file.messages().nth(*first)?;
    for index in rest {
        let inner = message.child_messages().nth(*index)?;
        message = inner;
    }
    Some(message)
}

/// Reads a registered schema.
fn file_of(id: u32, found: &RegisteredSchema) -> Result<FileDescriptor, Fault> {
    let unusable =
        |reason: String| Fault::new("unknown_schema", format!("schema {id} of the registry cannot be used: {reason}"));
    if found.kind != SchemaKind::Protobuf {
        return Err(unusable(format!("it is {}, not PROTOBUF", found.kind.word())));
    }
    let mut files: HashMap<String, String> = found.references.iter().cloned().collect();
    files.insert(OWN_FILE.to_owned(), found.text.clone());
    let pool = compiled(Texts(files), OWN_FILE).map_err(unusable)?;
    pool.get_file_by_name(OWN_FILE).ok_or_else(|| unusable("it holds no file".to_owned()))
}

/// Files by name.
struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => match described(name, text) {
                Some(file) => Ok(file),
                None => File::from_source(name, text),
            },
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Returns the file that a descriptor in base64 describes: so some clients register their schemas, and some registries give them.
fn described(name: &str, text: &str) -> Option<File> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let mut descriptor = FileDescriptorProto::decode(&*bytes).ok()?;
    // It is known by the name by which it is referred to.
    descriptor.name = Some(name.to_owned());
    Some(File::from_file_descriptor_proto(descriptor))
}

fn compiled(texts: Texts, main: &str) -> Result<DescriptorPool, String> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(texts);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file(main).map_err(|error| error.to_string())?;
    Ok(compiler.descriptor_pool())
}

/// Reads the schema in a file, and finds the message that records are.
pub(crate) fn parse_alone(file: &SchemaFile, message: Option<&str>) -> Result<MessageDescriptor, FormatError> {
    let is_text = std::path::Path::new(&file.path).extension().is_some_and(|extension| extension == "proto");
    let pool = match is_text {
        true => {
            let text =
                std::str::from_utf8(&file.bytes).map_err(|error| FormatError(format!("it is not UTF-8: {error}")))?;
            let texts = HashMap::from([(OWN_FILE.to_owned(), text.to_owned())]);
            compiled(Texts(texts), OWN_FILE).map_err(|reason| match reason.contains("not found") {
                true => FormatError(format!("{reason}\nhint: {IMPORTS}")),
                false => FormatError(reason),
            })?
        }
        false => DescriptorPool::decode(&*file.bytes).map_err(|error| FormatError(error.to_string()))?,
    };
    if let Some(name) = message {
        return pool.get_message_by_name(name).ok_or_else(|| {
            FormatError(format!("it has no message `{name}`\nhint: it has {}", names(&pool).join(", ")))
        });
    }
    let mut own = pool
        .files()
        .filter(|file| !file.name().starts_with("google/"))
        .flat_map(|file| file.messages().collect::<Vec<_>>());
    match (own.next(), own.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(FormatError("it has no message".to_owned())),
        _ => Err(FormatError(format!(
            "it has several messages\nhint: say which one: `message: {}`",
            names(&pool).join("` or `")
        ))),
    }
}

/// Returns the names of some messages, for hints.
fn names(pool: &DescriptorPool) -> Vec<String> {
    let own = pool.all_messages().filter(|message| !message.full_name().starts_with("google.protobuf"));
    own.filter(|message| !message.is_map_entry()).take(8).map(|message| message.full_name().to_owned()).collect()
}
