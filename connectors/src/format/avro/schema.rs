//! The schema with which a record was written, as a table of types that refer to each other by number.
//!
//! Read as the Avro specification (1.12) says: names are resolved in their namespaces, a type may refer to itself, a logical type
//! that does not fit what it stands on is none. Defaults and documentation do not matter to who reads, and are passed over.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// A schema has no more types than this.
const TYPES_MAX: usize = 100_000;
/// Types may be written this deep in each other.
const DEPTH_MAX: usize = 64;

/// The number of a type in its schema.
pub(crate) type TypeId = usize;

/// A schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AvroSchema {
    types: Vec<AvroType>,
    /// The type of a whole record.
    pub root: TypeId,
}

/// A type: how values are written, and what they mean besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AvroType {
    pub form: Form,
    pub logical: Option<Logical>,
}

/// How values are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(TypeId),
    Map(TypeId),
    Record(Vec<RecordField>),
    Union(Vec<TypeId>),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordField {
    pub name: String,
    pub of: TypeId,
}

/// What values mean besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logical {
    /// An unscaled number of so many digits after the point, big-endian.
    Decimal { scale: u32 },
    /// Text, or 16 bytes.
    Uuid,
    /// Days since 1970-01-01.
    Date,
    /// Of a day; the decimals of a second.
    Time,
    /// Since 1970-01-01T00:00:00Z, or a clock on a wall taken as UTC; the decimals of a second.
    Timestamp { decimals: u32 },
}

impl AvroSchema {
    /// Reads a schema. `known`: the schemas that it refers to, each after those that it refers to itself.
    pub fn parse(text: &str, known: &[&str]) -> Result<AvroSchema, String> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        let mut root = 0;
        for text in known.iter().chain([&text]) {
            // What is no JSON may be the bare name of a type: so registries write `string`.
            let written = serde_json::from_str(text).or_else(|error| match is_name(text.trim()) {
                true => Ok(Value::String(text.trim().to_owned())),
                false => Err(format!("it is no JSON: {error}")),
            })?;
            root = parser.any(&written, "", 0)?;
        }
        Ok(AvroSchema { types: parser.types, root })
    }

    /// Returns a type.
    pub fn get(&self, id: TypeId) -> &AvroType {
        &self.types[id]
    }

    /// Returns the fields of a whole record, if it is one.
    pub fn fields(&self) -> Option<&[RecordField]> {
        match &self.get(self.root).form {
            Form::Record(fields) => Some(fields),
            _ => None,
        }
    }

    /// Returns what a type is called, for messages.
    pub fn name(&self, id: TypeId) -> &'static str {
        let AvroType { form, logical } = self.get(id);
        match (form, logical) {
            (_, Some(Logical::Decimal { .. })) => "a decimal",
            (_, Some(Logical::Uuid)) => "a uuid",
            (_, Some(Logical::Date)) => "a date",
            (_, Some(Logical::Time)) => "a time of day",
            (_, Some(Logical::Timestamp { .. })) => "a timestamp",
            (Form::Null, _) => "null",
            (Form::Boolean, _) => "a boolean",
            (Form::Int, _) => "an int",
            (Form::Long, _) => "a long",
            (Form::Float, _) => "a float",
            (Form::Double, _) => "a double",
            (Form::Bytes, _) => "bytes",
            (Form::String, _) => "a string",
            (Form::Fixed(_), _) => "a fixed",
            (Form::Enum(_), _) => "an enum",
            (Form::Array(_), _) => "an array",
            (Form::Map(_), _) => "a map",
            (Form::Record(_), _) => "a record",
            (Form::Union(_), _) => "a union",
        }
    }
}

struct Parser {
    types: Vec<AvroType>,
    /// Types by full name.
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn add(&mut self, form: Form, logical: Option<Logical>) -> Result<TypeId, String> {
        if self.types.len() >= TYPES_MAX {
            return Err(format!("it has more than {TYPES_MAX} types"));
        }
        self.types.push(AvroType { form, logical });
        Ok(self.types.len() - 1)
    }

    fn any(&mut self, written: &Value, space: &str, depth: usize) -> Result<TypeId, String> {
        if depth > DEPTH_MAX {
            return Err(format!("its types are nested more than {DEPTH_MAX} deep"));
        }
        match written {
            Value::String(name) => self.by_name(name, space),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.any(branch, space, depth + 1));
                let branches = branches.collect::<Result<Vec<_>, _>>()?;
                if branches.iter().any(|branch| matches!(self.types[*branch].form, Form::Union(_))) {
                    return Err("a union stands in a union".to_owned());
                }
                self.add(Form::Union(branches), None)
            }
            Value::Object(object) => self.object(object, space, depth),
            other => Err(format!("`{}` is no type", shorten(&other.to_string()))),
        }
    }

    fn by_name(&mut self, name: &str, space: &str) -> Result<TypeId, String> {
        if let Some(form) = primitive(name) {
            return self.add(form, None);
        }
        let spaced = full_name(name, space);
        let known = self.names.get(&spaced).or_else(|| self.names.get(name));
        known.copied().ok_or_else(|| format!("the type `{}` is not known", shorten(name)))
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str, depth: usize) -> Result<TypeId, String> {
        let written = object.get("type").ok_or("a type does not say its `type`")?;
        let Value::String(kind) = written else {
            // `{"type": {"type": "string"}}`: a type around a type.
            return self.any(written, space, depth + 1);
        };
        match kind.as_str() {
            "record" | "error" => self.record(object, space, depth),
            "enum" => {
                let symbols = array(object, "symbols", "an enum")?.iter().map(|symbol| {
                    symbol.as_str().map(str::to_owned).ok_or_else(|| "a symbol of an enum is no text".to_owned())
                });
                let form = Form::Enum(symbols.collect::<Result<_, String>>()?);
                self.named(object, space, form, None)
            }
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let form = Form::Fixed(size.ok_or("a fixed has no `size`")?);
                let logical = logical(object, &form);
                self.named(object, space, form, logical)
            }
            "array" => {
                let items = self.any(object.get("items").ok_or("an array has no `items`")?, space, depth + 1)?;
                self.add(Form::Array(items), None)
            }
            "map" => {
                let values = self.any(object.get("values").ok_or("a map has no `values`")?, space, depth + 1)?;
                self.add(Form::Map(values), None)
            }
            name => match primitive(name) {
                Some(form) => {
                    let logical = logical(object, &form);
                    self.add(form, logical)
                }
                None => self.by_name(name, space),
            },
        }
    }

    fn record(&mut self, object: &Map<String, Value>, space: &str, depth: usize) -> Result<TypeId, String> {
        // Known before its fields are read: they may be of its own type.
        let record = self.named(object, space, Form::Record(Vec::new()), None)?;
        let own = own_name(object, space)?;
        let space = own.rsplit_once('.').map_or("", |(space, _)| space);
        let mut fields: Vec<RecordField> = Vec::new();
        for field in array(object, "fields", "a record")? {
            let name = field.get("name").and_then(Value::as_str).ok_or("a field has no `name`")?;
            let written = field.get("type").ok_or_else(|| format!("the field `{}` has no `type`", shorten(name)))?;
            if fields.iter().any(|other| other.name == name) {
                return Err(format!("a record has two fields `{}`", shorten(name)));
            }
            fields.push(RecordField { name: name.to_owned(), of: self.any(written, space, depth + 1)? });
        }
        self.types[record].form = Form::Record(fields);
        Ok(record)
    }

    /// Adds a type that can be referred to.
    fn named(
        &mut self,
        object: &Map<String, Value>,
        space: &str,
        form: Form,
        logical: Option<Logical>,
    ) -> Result<TypeId, String> {
        let name = own_name(object, space)?;
        let id = self.add(form, logical)?;
        match self.names.insert(name, id) {
            None => Ok(id),
            Some(_) => Err(format!("the type `{}` is declared twice", shorten(&own_name(object, space)?))),
        }
    }
}

/// Returns the full name of a type that is declared.
fn own_name(object: &Map<String, Value>, space: &str) -> Result<String, String> {
    let name = object.get("name").and_then(Value::as_str).filter(|name| is_name(name));
    let name = name.ok_or("a record, enum or fixed has no `name` that is one")?;
    let space = object.get("namespace").and_then(Value::as_str).unwrap_or(space);
    Ok(full_name(name, space))
}

fn full_name(name: &str, space: &str) -> String {
    match name.contains('.') || space.is_empty() {
        true => name.to_owned(),
        false => format!("{space}.{name}"),
    }
}

fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part.chars().all(|c| c == '_' || c.is_alphanumeric())
    };
    text.split('.').all(part)
}

fn array<'v>(object: &'v Map<String, Value>, key: &str, who: &str) -> Result<&'v Vec<Value>, String> {
    object.get(key).and_then(Value::as_array).ok_or_else(|| format!("{who} has no list of `{key}`"))
}

fn primitive(name: &str) -> Option<Form> {
    Some(match name {
        "null" => Form::Null,
        "boolean" => Form::Boolean,
        "int" => Form::Int,
        "long" => Form::Long,
        "float" => Form::Float,
        "double" => Form::Double,
        "bytes" => Form::Bytes,
        "string" => Form::String,
        _ => return None,
    })
}

/// Returns the logical type, if there is one that fits what it stands on.
fn logical(object: &Map<String, Value>, form: &Form) -> Option<Logical> {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    match (object.get("logicalType")?.as_str()?, form) {
        ("decimal", Form::Bytes | Form::Fixed(_)) => {
            let (precision, scale) = (number("precision")?, number("scale").unwrap_or(0));
            let scale = u32::try_from(scale).ok().filter(|_| precision > 0 && scale <= precision)?;
            Some(Logical::Decimal { scale })
        }
        ("uuid", Form::String | Form::Fixed(16)) => Some(Logical::Uuid),
        ("date", Form::Int) => Some(Logical::Date),
        ("time-millis", Form::Int) | ("time-micros", Form::Long) => Some(Logical::Time),
        ("timestamp-millis" | "local-timestamp-millis", Form::Long) => Some(Logical::Timestamp { decimals: 3 }),
        ("timestamp-micros" | "local-timestamp-micros", Form::Long) => Some(Logical::Timestamp { decimals: 6 }),
        ("timestamp-nanos" | "local-timestamp-nanos", Form::Long) => Some(Logical::Timestamp { decimals: 9 }),
        _ => None,
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(schema: &AvroSchema, field: &str) -> AvroType {
        let fields = schema.fields().unwrap();
        schema.get(fields.iter().find(|known| known.name == field).unwrap().of).clone()
    }

    #[test]
    fn names_are_found_in_their_namespace() {
        let schema = AvroSchema::parse(
            r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
                {"name": "next", "type": ["null", "Order"], "default": null},
                {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["red", "blue"]}},
                {"name": "other", "type": "shop.Colour"},
                {"name": "hash", "type": {"type": "fixed", "name": "elsewhere.Hash", "size": 3}}]}"#,
            &[],
        )
        .unwrap();
        let Form::Union(branches) = form(&schema, "next").form else { panic!("it is a union") };
        assert_eq!(branches[1], schema.root);
        assert_eq!(form(&schema, "colour"), form(&schema, "other"));
        assert_eq!(form(&schema, "hash").form, Form::Fixed(3));
    }

    #[test]
    fn a_logical_type_that_does_not_fit_is_none() {
        let schema = AvroSchema::parse(
            r#"{"type": "record", "name": "R", "fields": [
                {"name": "a", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
                {"name": "b", "type": {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 9}},
                {"name": "c", "type": {"type": "int", "logicalType": "timestamp-millis"}},
                {"name": "d", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
                {"name": "e", "type": {"type": "long", "logicalType": "of-our-own"}}]}"#,
            &[],
        )
        .unwrap();
        let of = |field| form(&schema, field).logical;
        assert_eq!(of("a"), Some(Logical::Decimal { scale: 2 }));
        assert_eq!((of("b"), of("c"), of("e")), (None, None, None));
        assert_eq!(of("d"), Some(Logical::Timestamp { decimals: 9 }));
    }

    #[test]
    fn a_schema_may_refer_to_others() {
        let item = r#"{"type": "record", "name": "shop.Item", "fields": [{"name": "id", "type": "string"}]}"#;
        let order = r#"{"type": "record", "name": "shop.Order", "fields": [{"name": "item", "type": "Item"}]}"#;
        let schema = AvroSchema::parse(order, &[item]).unwrap();
        assert!(matches!(form(&schema, "item").form, Form::Record(fields) if fields[0].name == "id"));
        assert!(AvroSchema::parse(order, &[]).unwrap_err().contains("`Item` is not known"));
    }

    #[test]
    fn what_is_no_schema_says_why() {
        let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(70), "}".repeat(70));
        for (text, says) in [
            ("", "no JSON"),
            ("7", "no type"),
            ("nothing", "not known"),
            (r#"["int", ["null"]]"#, "union stands in a union"),
            (r#"{"type": "record", "name": "R"}"#, "no list of `fields`"),
            (r#"{"type": "record", "fields": []}"#, "no `name`"),
            (
                r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}"#,
                "two",
            ),
            (r#"{"type": "array"}"#, "`items`"),
            (r#"{"type": "fixed", "name": "F", "size": -1}"#, "`size`"),
            (
                r#"[{"type": "enum", "name": "E", "symbols": []}, {"type": "enum", "name": "E", "symbols": []}]"#,
                "twice",
            ),
            (deep.as_str(), "deep"),
        ] {
            let error = AvroSchema::parse(text, &[]).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(AvroSchema::parse("string", &[]).unwrap().get(0).form, Form::String);
    }
}
