//! Typed reading of JSON fields, with errors that name them.

use serde_json::{Map, Value};

use crate::{Error, Result};

pub(super) struct Fields<'a> {
    pub(super) map: &'a Map<String, Value>,
    /// The file or field that holds the map.
    pub(super) origin: &'a str,
}

impl Fields<'_> {
    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::Config { origin: self.origin.to_owned(), key: key.to_owned(), problem: problem.into() }
    }

    fn present(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A whole number of at least 1.
    pub(super) fn optional_size(&self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        match value.as_i64() {
            Some(size) if size >= 1 => Ok(Some(size)),
            _ => Err(self.error(key, format!("{value} is not a whole number of at least 1"))),
        }
    }

    pub(super) fn size(&self, key: &str) -> Result<i64> {
        self.optional_size(key)?.ok_or_else(|| self.error(key, "is missing; give a whole number of at least 1"))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.error(key, format!("{value} is not a number")))
    }

    /// A flag, false where absent.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        let Some(value) = self.present(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.error(key, format!("{value} is not true or false")))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        value
            .as_str()
            .map(|text| Some(text.to_owned()))
            .ok_or_else(|| self.error(key, format!("{value} is not a string")))
    }

    /// A token id, a list of them, or none.
    pub(super) fn ids(&self, key: &str) -> Result<Vec<i64>> {
        let Some(value) = self.present(key) else { return Ok(Vec::new()) };
        let ids: Option<Vec<i64>> = match value {
            Value::Array(values) => values.iter().map(Value::as_i64).collect(),
            single => single.as_i64().map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.error(key, format!("{value} is not a token id or a list of them")))
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<&Map<String, Value>>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        value.as_object().map(Some).ok_or_else(|| self.error(key, format!("{value} is not an object")))
    }
}
