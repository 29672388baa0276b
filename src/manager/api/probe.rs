//! What a type of a document looks like, as JSON Schema, found out by reading it: a deserializer that is asked for this or that notes
//! what it was asked for and gives something that fits. So the schema is that of the code that reads the document, and of nothing else.

use std::cell::RefCell;

use serde::de::value::{Error, MapDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, json};

/// A text that fits wherever a text is read: moments are texts, too.
const TEXT: &str = "1970-01-01T00:00:00Z";
/// A tagged document that is one of ours.
const TAGGED: [(&str, &str); 1] = [("kind", "run")];

/// Returns a reference to the schema of `T`, which is added to `known` with those within it.
pub fn schema<T: DeserializeOwned>(known: &RefCell<Map<String, Value>>) -> Value {
    let found = RefCell::new(Value::Null);
    // What it gives is of no use; what it asked for is.
    if let Err(error) = T::deserialize(Probe { known, found: &found }) {
        unreachable!("{} cannot be looked into: {error}", std::any::type_name::<T>());
    }
    found.into_inner()
}

/// Gives what it is asked for, and notes that it was.
#[derive(Clone, Copy)]
struct Probe<'a> {
    known: &'a RefCell<Map<String, Value>>,
    found: &'a RefCell<Value>,
}

impl Probe<'_> {
    fn note(self, schema: Value) {
        *self.found.borrow_mut() = schema;
    }

    /// Looks into something that lies within this.
    fn within<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Value), Error> {
        let found = RefCell::new(Value::Null);
        let value = seed.deserialize(Probe { known: self.known, found: &found })?;
        Ok((value, found.into_inner()))
    }
}

macro_rules! scalars {
    ($($method:ident $visit:ident $value:expr, $schema:tt;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.note(json!($schema));
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    scalars! {
        deserialize_bool visit_bool false, { "type": "boolean" };
        deserialize_u8 visit_u8 0, { "type": "integer" };
        deserialize_u16 visit_u16 0, { "type": "integer" };
        deserialize_u32 visit_u32 0, { "type": "integer" };
        deserialize_u64 visit_u64 0, { "type": "integer" };
        deserialize_i32 visit_i32 0, { "type": "integer" };
        deserialize_i64 visit_i64 0, { "type": "integer" };
        deserialize_f64 visit_f64 0.0, { "type": "number" };
        deserialize_str visit_str TEXT, { "type": "string" };
        deserialize_string visit_str TEXT, { "type": "string" };
    }

    /// Whatever it is, a tagged document among ours or anything at all.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(json!({}));
        visitor.visit_map(MapDeserializer::new(TAGGED.into_iter()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = visitor.visit_some(self)?;
        let found = self.found.borrow().clone();
        self.note(or_null(found));
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Once { probe: self, left: true })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Once { probe: self, left: true })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let properties = RefCell::new(Map::new());
        let value =
            visitor.visit_map(Fields { probe: self, fields: fields.iter(), at: None, properties: &properties })?;
        let schema = json!({ "type": "object", "properties": properties.into_inner() });
        self.known.borrow_mut().insert(name.to_owned(), schema);
        self.note(json!({ "$ref": format!("#/components/schemas/{name}") }));
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(json!({ "type": "string", "enum": variants }));
        let first: StrDeserializer<'_, Error> = variants[0].into_deserializer();
        visitor.visit_enum(first)
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// Returns the schema of what may be null.
fn or_null(mut schema: Value) -> Value {
    match schema["type"].as_str().map(str::to_owned) {
        Some(name) => {
            schema["type"] = json!([name, "null"]);
            if let Some(choice) = schema.get_mut("enum").and_then(Value::as_array_mut) {
                choice.push(Value::Null);
            }
            schema
        }
        // What may be anything may be null.
        None if schema["$ref"].is_null() => schema,
        None => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// A list or a map with one entry.
struct Once<'a> {
    probe: Probe<'a>,
    left: bool,
}

impl<'de> SeqAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if !std::mem::take(&mut self.left) {
            return Ok(None);
        }
        let (value, items) = self.probe.within(seed)?;
        self.probe.note(json!({ "type": "array", "items": items }));
        Ok(Some(value))
    }
}

impl<'de> MapAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if !std::mem::take(&mut self.left) {
            return Ok(None);
        }
        self.probe.within(seed).map(|(key, _)| Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (value, schema) = self.probe.within(seed)?;
        self.probe.note(json!({ "type": "object", "additionalProperties": schema }));
        Ok(value)
    }
}

/// The fields of a document, each with what it asks for.
struct Fields<'a> {
    probe: Probe<'a>,
    fields: std::slice::Iter<'static, &'static str>,
    at: Option<&'static str>,
    properties: &'a RefCell<Map<String, Value>>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.at = self.fields.next().copied();
        let Some(name) = self.at else { return Ok(None) };
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let name = self.at.take().expect("a key comes before its value");
        let (value, schema) = self.probe.within(seed)?;
        self.properties.borrow_mut().insert(name.to_owned(), schema);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only looked into")]
    struct Outer {
        a_name: String,
        count: Option<u64>,
        perhaps: Option<Inner>,
        chosen: Option<Choice>,
        inner: Vec<Inner>,
        by_name: BTreeMap<String, bool>,
        any: Value,
        choice: Choice,
    }

    #[derive(Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "it is only looked into")]
        x: f64,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        One,
        Two,
    }

    #[test]
    fn a_document_is_described_as_it_is_read() {
        let known = RefCell::default();
        assert_eq!(schema::<Outer>(&known), json!({ "$ref": "#/components/schemas/Outer" }));
        let known = known.into_inner();
        assert_eq!(known["Inner"], json!({ "type": "object", "properties": { "x": { "type": "number" } } }));
        assert_eq!(
            known["Outer"]["properties"],
            json!({
                "aName": { "type": "string" },
                "count": { "type": ["integer", "null"] },
                "perhaps": { "anyOf": [{ "$ref": "#/components/schemas/Inner" }, { "type": "null" }] },
                "chosen": { "type": ["string", "null"], "enum": ["one", "two", null] },
                "inner": { "type": "array", "items": { "$ref": "#/components/schemas/Inner" } },
                "byName": { "type": "object", "additionalProperties": { "type": "boolean" } },
                "any": {},
                "choice": { "type": "string", "enum": ["one", "two"] },
            })
        );
    }
}
