//! Reads the fields of a JSON object one by one, and names what is wrong or left.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::ApiError;

/// The fields of a JSON object that are not read yet. A field that is null is as one that is absent.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// The object's own name, before those of its fields.
    prefix: String,
}

impl Fields {
    /// Those of a whole body.
    pub(crate) fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| ApiError::request(format!("the body is not valid JSON: {error}")))?;
        match value {
            Value::Object(map) => Ok(Self { map, prefix: String::new() }),
            _ => Err(ApiError::request("the body has to be a JSON object")),
        }
    }

    /// Those of an object within another, by its name.
    pub(crate) fn of(value: Value, name: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { map, prefix: format!("{name}.") }),
            _ => Err(ApiError::field(name, format!("{name} has to be an object"))),
        }
    }

    /// What a field is called in a refusal.
    pub(crate) fn name(&self, field: &str) -> String {
        format!("{}{field}", self.prefix)
    }

    /// A field, whatever it holds.
    pub(crate) fn value(&mut self, field: &str) -> Option<Value> {
        // Order does not matter: those that are left are named one at a time.
        self.map.swap_remove(field).filter(|value| !value.is_null())
    }

    fn read<T>(
        &mut self,
        field: &str,
        what: impl Display,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => {
                let name = self.name(field);
                let message = format!("{name} has to be {what}");
                Err(ApiError::field(name, message))
            }
        }
    }

    pub(crate) fn boolean(&mut self, field: &str) -> Result<Option<bool>, ApiError> {
        self.read(field, "true or false", Value::as_bool)
    }

    pub(crate) fn string(&mut self, field: &str) -> Result<Option<String>, ApiError> {
        self.read(field, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn number(&mut self, field: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let what = format!("a number from {} to {}", range.start(), range.end());
        self.read(field, what, |value| value.as_f64().filter(|number| range.contains(number)))
    }

    pub(crate) fn integer(&mut self, field: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let what = format!("an integer from {} to {}", range.start(), range.end());
        self.read(field, what, |value| value.as_i64().filter(|number| range.contains(number)))
    }

    /// A field's fields.
    pub(crate) fn object(&mut self, field: &str) -> Result<Option<Self>, ApiError> {
        let name = self.name(field);
        self.value(field).map(|value| Self::of(value, &name)).transpose()
    }

    /// A list, of which each entry is read by its own.
    pub(crate) fn list(&mut self, field: &str, most: usize) -> Result<Option<Vec<Value>>, ApiError> {
        let what = format!("a list of at most {most}");
        self.read(field, what, |value| value.as_array().filter(|list| list.len() <= most).cloned())
    }

    /// Refuses a field that is there and that we do not know.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            Some((field, _)) => Err(ApiError::unsupported(short(&self.name(field)))),
            None => Ok(()),
        }
    }
}

/// A name that may be anything, no longer than an answer should be.
fn short(name: &str) -> String {
    if name.is_empty() {
        return "\"\"".to_owned();
    }
    match name.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}
