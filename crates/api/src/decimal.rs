//! A decimal number written as a string, because a spec holds no floats.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::training_job::limits;

/// A finite decimal number that keeps the text the user wrote, such as `"1e-4"`.
#[derive(Clone, PartialEq)]
pub struct Decimal {
    text: String,
    value: f64,
}

impl Decimal {
    /// The number that `text` spells, or a sentence that says why it spells none.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(value) if is_within_the_pattern(text) => Ok(Self { text: text.to_owned(), value }),
            _ => Err(format!("\"{text}\" is not a decimal number: write one such as \"0.1\" or \"1e-4\"")),
        }
    }

    /// A number known to be well formed: the schema's own defaults.
    pub(crate) fn constant(text: &'static str) -> Self {
        Self { text: text.to_owned(), value: text.parse().unwrap_or(f64::NAN) }
    }

    /// Its value.
    pub fn value(&self) -> f64 {
        self.value
    }
}

/// What the API server allows. Two digits of an exponent and 32 characters are always finite, so that its rules can
/// compare what the text spells.
pub(crate) const PATTERN: &str = r"^-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?$";

/// Whether a text that spells a number is one of the pattern: no sign +, no infinity, no long exponent.
fn is_within_the_pattern(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    text.len() <= limits::DECIMAL
        && !mantissa.starts_with('+')
        && mantissa.bytes().any(|byte| byte.is_ascii_digit())
        && mantissa.bytes().all(|byte| b"-.0123456789".contains(&byte))
        && exponent.trim_start_matches(['-', '+']).len() <= 2
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number in quotes, such as \"1e-4\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                Decimal::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl JsonSchema for Decimal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": PATTERN,
            "maxLength": limits::DECIMAL,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_its_pattern_allows_and_nothing_else() {
        for (text, value) in [("1e-4", 1e-4), ("0.1", 0.1), (".5", 0.5), ("2.", 2.0), ("-1", -1.0), ("1E+3", 1e3)] {
            assert_eq!(Decimal::parse(text).unwrap().value(), value);
        }
        for text in [
            "", "nan", "inf", "infinity", "+1", "1e400", "0x10", "1_000", " 1", "1,5", "e5", ".", "1e", "1e100", "-inf",
        ] {
            assert!(Decimal::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keeps_the_text_it_was_written_as() {
        let decimal: Decimal = serde_json::from_str("\"1e-4\"").unwrap();
        assert_eq!(serde_json::to_string(&decimal).unwrap(), "\"1e-4\"");
        assert!(serde_json::from_str::<Decimal>("0.1").is_err());
    }
}
