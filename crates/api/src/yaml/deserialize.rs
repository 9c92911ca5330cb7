//! Nodes to types through serde, where every refusal names the field's path, its line and the remedy.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Visitor};
use serde::forward_to_deserialize_any;

use super::scalar::quoted;
use super::{Entry, Node, NodeKind, Origin, Path, Resolved, Scalar};
use crate::load::LoadError;

/// The value that `node` describes.
pub(crate) fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, LoadError> {
    let reader = Reader { node, path: Path::Root, origin: node.origin };
    T::deserialize(reader).map_err(|problem| reader.locate(problem))
}

/// What serde or a type refuses, at first without its place.
#[derive(Debug)]
pub(super) enum Problem {
    UnknownField { name: String, expected: &'static [&'static str] },
    MissingField(&'static str),
    UnknownVariant { name: String, expected: &'static [&'static str] },
    Other(String),
    Located(Box<LoadError>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownField { name: name.to_owned(), expected }
    }

    fn missing_field(name: &'static str) -> Self {
        Self::MissingField(name)
    }

    fn unknown_variant(name: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownVariant { name: name.to_owned(), expected }
    }
}

/// A node and its place.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    path: Path<'a>,
    /// Where its field's name is written, or the node itself where it has none.
    origin: Origin,
}

impl<'a> Reader<'a> {
    /// The problem with this node's place, unless it has one.
    fn locate(&self, problem: Problem) -> LoadError {
        let origin = self.origin;
        match problem {
            Problem::Located(error) => *error,
            Problem::MissingField(name) => {
                let path = Path::Field(&self.path, name);
                let within = match (self.path, origin) {
                    (Path::Root, _) | (_, Origin::Override) => String::new(),
                    (path, origin) => format!(" in {path} {origin}"),
                };
                let message = format!("required, but missing{within}; {}", remedy_for_missing(name));
                LoadError::new(&path.to_string(), origin, message)
            }
            Problem::UnknownVariant { name, expected } => {
                let hint = match nearest(&name, expected) {
                    Some(near) => format!(" (did you mean {near}?)"),
                    None => String::new(),
                };
                let message = format!("{} {origin} is unknown; write {}{hint}", quoted(&name), join(expected, "or"));
                LoadError::new(&self.path.to_string(), origin, message)
            }
            Problem::UnknownField { name, expected } => unknown_field(&name, expected, &self.path, origin),
            Problem::Other(message) => {
                LoadError::new(&self.path.to_string(), origin, format!("{message} ({})", parenthesis(origin)))
            }
        }
    }

    fn refuse<T>(&self, message: String) -> Result<T, Problem> {
        Err(Problem::Located(Box::new(LoadError::new(&self.path.to_string(), self.origin, message))))
    }

    fn located<T>(&self, result: Result<T, Problem>) -> Result<T, Problem> {
        result.map_err(|problem| Problem::Located(Box::new(self.locate(problem))))
    }

    fn scalar(&self, wanted: &str) -> Result<&'a Scalar, Problem> {
        match &self.node.kind {
            NodeKind::Scalar(scalar) => Ok(scalar),
            _ => self.refuse(format!(
                "{} {} where {wanted} belongs; write a single value",
                self.node.describe(),
                self.origin
            )),
        }
    }

    /// Text, which a number or boolean without quotes is not: `kubectl` would not take it either.
    fn text(&self) -> Result<&'a str, Problem> {
        let scalar = self.scalar("text")?;
        let (text, origin) = (scalar.text.as_str(), self.origin);
        match scalar.resolve() {
            Resolved::Text(text) => Ok(text),
            // A shell has taken the quotes away.
            _ if origin == Origin::Override => Ok(text),
            Resolved::Null => self.refuse(format!("nothing {origin} where text belongs; write it, or remove the line")),
            Resolved::Bool(_) => {
                self.refuse(format!("{text} is a boolean {origin}, where text belongs; write it in quotes: \"{text}\""))
            }
            Resolved::Integer(_) | Resolved::Float(_) => {
                self.refuse(format!("{text} is a bare number {origin}; write it in quotes: \"{text}\""))
            }
            Resolved::Ambiguous(_) => self.refuse(format!(
                "{text} {origin} is text to some readers of YAML only; write it in quotes: \"{text}\""
            )),
        }
    }

    fn integer(&self, minimum: i128, maximum: i128) -> Result<i128, Problem> {
        let scalar = self.scalar("a whole number")?;
        let (text, origin) = (scalar.text.as_str(), self.origin);
        let value = match scalar.resolve() {
            Resolved::Integer(value) => value,
            Resolved::Float(value) if value.fract() == 0.0 && value.abs() < 1e18 => {
                return self
                    .refuse(format!("{text} {origin} is not written as a whole number; write {}", value as i64));
            }
            Resolved::Ambiguous(remedy) => return self.refuse(format!("{remedy} ({})", parenthesis(origin))),
            Resolved::Text(_) if is_quoted_integer(scalar) => {
                return self.refuse(format!("\"{text}\" is text {origin}; write the number without quotes: {text}"));
            }
            _ => {
                return self
                    .refuse(format!("{} {origin} is not a whole number; write one, such as 10", scalar.describe()));
            }
        };
        if value < minimum {
            return self.refuse(format!("{text} {origin} is too small; the smallest possible is {minimum}"));
        }
        if value > maximum {
            return self.refuse(format!("{text} {origin} is too large; the largest possible is {maximum}"));
        }
        Ok(value)
    }

    fn visit_sequence<'de, V: Visitor<'de>>(&self, items: &'a [Node], visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_seq(Items { items: items.iter().enumerate(), path: &self.path })
    }

    fn visit_mapping<'de, V: Visitor<'de>>(
        &self,
        entries: &'a [Entry],
        nulls: Nulls,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_map(Fields { entries: entries.iter(), value: None, nulls, path: &self.path })
    }
}

/// Whether a field without a value counts as absent, as it does for the API server, or is a value.
#[derive(Clone, Copy, PartialEq)]
enum Nulls {
    Absent,
    Kept,
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            // Kubernetes knows no unsigned numbers.
            let value = self.integer(<$type>::MIN.into(), i128::from(<$type>::MAX).min(i64::MAX.into()))?;
            // The bounds above are the type's own.
            self.located(visitor.$visit(value as $type))
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Problem;

    integers! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    }

    /// A value of any shape: the fields of Hugging Face's `config.json`, or a pod template.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let scalar = match &self.node.kind {
            NodeKind::Sequence(items) => return self.located(self.visit_sequence(items, visitor)),
            NodeKind::Mapping(entries) => return self.located(self.visit_mapping(entries, Nulls::Kept, visitor)),
            NodeKind::Scalar(scalar) => scalar,
        };
        let result = match scalar.resolve() {
            Resolved::Null => visitor.visit_unit(),
            Resolved::Bool(value) => visitor.visit_bool(value),
            Resolved::Float(value) => visitor.visit_f64(value),
            Resolved::Text(text) => visitor.visit_str(text),
            Resolved::Integer(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_f64(value as f64),
            },
            Resolved::Ambiguous(remedy) => return self.refuse(format!("{remedy} ({})", parenthesis(self.origin))),
        };
        self.located(result)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let scalar = self.scalar("true or false")?;
        match scalar.resolve() {
            Resolved::Bool(value) => visitor.visit_bool(value),
            _ => self.refuse(format!("{} {} is not a boolean; write true or false", scalar.describe(), self.origin)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let text = self.text()?;
        self.located(visitor.visit_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.kind {
            NodeKind::Sequence(items) => self.located(self.visit_sequence(items, visitor)),
            _ => self.refuse(format!(
                "{} {} where a list belongs; write [...], or lines that begin with \"- \"",
                self.node.describe(),
                self.origin
            )),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.kind {
            NodeKind::Sequence(items) if items.len() != length => self.refuse(format!(
                "a list of {} {}, where one of {length} belongs; write exactly {length} entries",
                items.len(),
                self.origin
            )),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.kind {
            NodeKind::Mapping(entries) => self.located(self.visit_mapping(entries, Nulls::Kept, visitor)),
            _ => self.refuse(format!(
                "{} {} where a mapping belongs; write {{NAME: VALUE}}",
                self.node.describe(),
                self.origin
            )),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match &self.node.kind {
            NodeKind::Mapping(entries) => {
                for entry in entries {
                    // serde does not see a field without a value, so its name is checked here.
                    if entry.value.is_null() && !fields.contains(&entry.key.as_str()) {
                        let error = unknown_field(&entry.key, fields, &self.path, entry.origin);
                        return Err(Problem::Located(Box::new(error)));
                    }
                }
                self.located(self.visit_mapping(entries, Nulls::Absent, visitor))
            }
            _ => {
                let (what, origin) = (self.node.describe(), self.origin);
                self.refuse(format!("{what} {origin} where a mapping belongs; its fields are {}", join(fields, "and")))
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let scalar = self.scalar(&format!("one of {}", join(variants, "or")))?;
        self.located(visitor.visit_enum(de::value::StrDeserializer::new(scalar.text.as_str())))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple_struct identifier }
}

/// The items of a list.
struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: &'a Path<'a>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader { node, path: Path::Index(self.path, index), origin: node.origin }).map(Some)
    }
}

/// The fields of a mapping.
struct Fields<'a> {
    entries: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
    nulls: Nulls,
    path: &'a Path<'a>,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let entry = match self.nulls {
            Nulls::Kept => self.entries.next(),
            Nulls::Absent => self.entries.find(|entry| !entry.value.is_null()),
        };
        let Some(entry) = entry else { return Ok(None) };
        self.value = Some(entry);
        match seed.deserialize(de::value::StrDeserializer::new(entry.key.as_str())) {
            Ok(key) => Ok(Some(key)),
            Err(Problem::UnknownField { name, expected }) => {
                Err(Problem::Located(Box::new(unknown_field(&name, expected, self.path, entry.origin))))
            }
            Err(problem) => Err(problem),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let Some(entry) = self.value.take() else { return Err(de::Error::custom("a value was read before its key")) };
        // A block begins a line below its name; a scalar is where it is.
        let origin = match (&entry.value.kind, entry.value.origin) {
            (NodeKind::Scalar(_), origin) | (_, origin @ Origin::Override) => origin,
            _ => entry.origin,
        };
        seed.deserialize(Reader { node: &entry.value, path: Path::Field(self.path, &entry.key), origin })
    }
}

fn unknown_field(name: &str, expected: &[&str], parent: &Path<'_>, origin: Origin) -> LoadError {
    let path = Path::Field(parent, name).to_string();
    let message = match nearest(name, expected) {
        Some(near) => format!("unknown field {origin}; did you mean \"{near}\"?"),
        None => format!("unknown field {origin}; remove it (the fields here are {})", join(expected, "and")),
    };
    LoadError::new(&path, origin, message)
}

/// The allowed name that the user probably meant.
pub(crate) fn nearest<'n>(name: &str, allowed: &[&'n str]) -> Option<&'n str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let name = plain(name);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&name, &plain(candidate));
    let (distance, candidate) = allowed.iter().map(|candidate| (distance(candidate), *candidate)).min()?;
    (distance <= candidate.len().div_ceil(4).max(1)).then_some(candidate)
}

fn remedy_for_missing(name: &str) -> String {
    match name {
        "apiVersion" => format!("write \"apiVersion: {}\"", crate::API_VERSION),
        "kind" => "write \"kind: TrainingJob\"".to_owned(),
        "metadata" => "write \"metadata: {name: ...}\"".to_owned(),
        "model" => "write \"model: {uri: ...}\" or \"model: {architecture: {...}}\"".to_owned(),
        "output" => "write where the trained model goes, such as \"output: {uri: file://out}\"".to_owned(),
        "budget" => "write one of tokens, steps and epochs, such as \"budget: {epochs: 1}\"".to_owned(),
        "mixture" => "write which datasets it trains on, such as \"mixture: [{dataset: NAME, weight: 1}]\"".to_owned(),
        "stages" => "write at least one stage, with its name, mixture and budget".to_owned(),
        "datasets" => "write at least one dataset, such as \"datasets: [{name: NAME, uri: file://corpus}]\"".to_owned(),
        "uri" => "write where it is, such as \"uri: file://PATH\"".to_owned(),
        _ => format!("write \"{name}: ...\""),
    }
}

fn is_quoted_integer(scalar: &Scalar) -> bool {
    let unquoted = Scalar { text: scalar.text.clone(), plain: true };
    matches!(unquoted.resolve(), Resolved::Integer(_))
}

fn parenthesis(origin: Origin) -> String {
    match origin {
        Origin::Line(line) => format!("line {line}"),
        Origin::Override => "--set".to_owned(),
    }
}

fn join(names: &[&str], conjunction: &str) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} {conjunction} {last}", most.join(", ")),
    }
}
