//! Takes three fields out of a JSON object and skips the rest.

use std::fmt;

use palimpsest_api::Fields;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::RecordProblem;

/// The fields of a record that are read.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) text: Value,
    pub(super) prompt: Value,
    pub(super) category: Value,
}

/// What a field holds.
#[derive(Debug, Default)]
pub(super) enum Value {
    /// It is not there, or null.
    #[default]
    Absent,
    String(String),
    /// Something else, in words.
    Other(&'static str),
}

/// Parses a line.
pub(super) fn parse(line: &str, fields: &Fields) -> Result<Parsed, RecordProblem> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let parsed = RecordSeed(fields).deserialize(&mut deserializer).and_then(|parsed| {
        deserializer.end()?;
        Ok(parsed)
    });
    match parsed {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(kind)) => Err(RecordProblem::NotAnObject(kind)),
        Err(error) => Err(RecordProblem::NotJson(describe(&error))),
    }
}

/// The parser's message with the column alone: the line is known, and it counts from the line's own beginning.
fn describe(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    format!("{message} at column {}", error.column())
}

struct RecordSeed<'a>(&'a Fields);

impl<'de> DeserializeSeed<'de> for RecordSeed<'_> {
    type Value = Result<Parsed, &'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The visitor methods by which a value that is not wanted is consumed and named.
macro_rules! name_others {
    ($wrap:expr; $($method:ident($argument:ty) => $kind:literal),*) => {
        $(fn $method<E: serde::de::Error>(self, _: $argument) -> Result<Self::Value, E> { Ok($wrap($kind)) })*
    };
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = Result<Parsed, &'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut parsed = Parsed::default();
        while let Some(role) = map.next_key_seed(KeySeed(self.0))? {
            match role {
                Role::Text => parsed.text = map.next_value_seed(ValueSeed)?,
                Role::Prompt => parsed.prompt = map.next_value_seed(ValueSeed)?,
                Role::Category => parsed.category = map.next_value_seed(ValueSeed)?,
                Role::None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Ok(parsed))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err("a list"))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(Err("null"))
    }

    name_others!(Err; visit_bool(bool) => "a boolean", visit_i64(i64) => "a number", visit_u64(u64) => "a number",
        visit_f64(f64) => "a number", visit_str(&str) => "a string");
}

enum Role {
    Text,
    Prompt,
    Category,
    None,
}

struct KeySeed<'a>(&'a Fields);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Role;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Role, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Role;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Role, E> {
        let Fields { text, prompt, category } = self.0;
        Ok(match key {
            _ if key == text => Role::Text,
            _ if key == prompt => Role::Prompt,
            _ if key == category => Role::Category,
            _ => Role::None,
        })
    }
}

struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an object"))
    }

    name_others!(Value::Other; visit_bool(bool) => "a boolean", visit_i64(i64) => "a number",
        visit_u64(u64) => "a number", visit_f64(f64) => "a number");
}
