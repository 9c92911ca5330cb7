//! The JSON schema of a type as a structural schema: no references, no `oneOf`, no null, and rules where they belong.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::rules::{self, VALIDATIONS};
use crate::decimal::PATTERN;

/// What an enumeration's values mean, on the way from the enumeration to the field that holds it.
const MEANINGS: &str = "x-meanings";

/// The structural schema of `T`.
pub(crate) fn structural_schema<T: JsonSchema>(description: &str) -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let mut converted = Converter { definitions: &definitions }.of_type(&T::schema_name(), &schema);
    converted["description"] = description.into();
    converted
}

struct Converter<'a> {
    definitions: &'a Map<String, Value>,
}

impl Converter<'_> {
    /// A type's schema, with the type's rules.
    fn of_type(&self, name: &str, schema: &Value) -> Value {
        let mut converted = self.convert(name, schema);
        rules::attach(name, &mut converted);
        converted
    }

    /// The schema of `owner`, or of a part of it.
    fn convert(&self, owner: &str, schema: &Value) -> Value {
        let Some(fields) = schema.as_object() else {
            // `true`: any value.
            return json!({"x-kubernetes-preserve-unknown-fields": true});
        };
        let mut converted = Map::new();
        for (name, value) in fields {
            match name.as_str() {
                "$ref" => converted.extend(into_map(self.referred(value))),
                // An `Option` is one of its type and null, and an absent field is none.
                "anyOf" => {
                    let some = value.as_array().into_iter().flatten().find(|option| option["type"] != "null");
                    converted.extend(into_map(self.convert(owner, some.unwrap_or(&Value::Null))));
                }
                "oneOf" => converted.extend(enumeration(value)),
                "properties" => {
                    converted.insert(name.clone(), self.properties(owner, value));
                }
                "items" => {
                    converted.insert(name.clone(), self.convert(owner, value));
                }
                "additionalProperties" => {
                    converted.extend(additional(value, |of| self.convert(owner, of)));
                }
                "type" => {
                    let kinds = value.as_array().into_iter().flatten();
                    let kind = kinds.clone().find(|kind| **kind != "null").unwrap_or(value);
                    converted.insert(name.clone(), kind.clone());
                }
                "format" => converted.extend(format(value)),
                "default" if value.is_null() => {}
                // A rule says the same, with an example in the place of the expression.
                "pattern" if value == PATTERN => {
                    converted.insert(VALIDATIONS.to_owned(), json!([rules::decimal_number()]));
                }
                // What only says again what the structure says.
                "$schema" | "$defs" | "title" => {}
                _ => {
                    converted.insert(name.clone(), value.clone());
                }
            }
        }
        Value::Object(converted)
    }

    fn referred(&self, path: &Value) -> Value {
        let name = path.as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        self.of_type(name, self.definitions.get(name).unwrap_or(&Value::Null))
    }

    fn properties(&self, owner: &str, properties: &Value) -> Value {
        let mut converted = Map::new();
        for (name, schema) in properties.as_object().into_iter().flatten() {
            let path = format!("{owner}.{name}");
            let mut property = self.convert(&path, schema);
            describe_values(&mut property);
            rules::attach(&path, &mut property);
            converted.insert(name.clone(), property);
        }
        Value::Object(converted)
    }
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// An enumeration whose values are described one by one.
fn enumeration(values: &Value) -> Map<String, Value> {
    let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
    let meaning = |value: &Value| {
        let (name, meaning) = (value["const"].as_str(), value["description"].as_str());
        format!(" {}: {}", name.unwrap_or_default(), meaning.unwrap_or_default())
    };
    let mut converted = Map::new();
    converted.insert("type".to_owned(), "string".into());
    converted.insert("enum".to_owned(), values.iter().map(|value| value["const"].clone()).collect());
    converted.insert(MEANINGS.to_owned(), values.iter().map(meaning).collect::<String>().into());
    converted
}

/// Adds what its values mean to the description of a field, since `kubectl explain` shows that alone.
fn describe_values(property: &mut Value) {
    for pointer in ["", "/items"] {
        let part = property.pointer_mut(pointer).and_then(Value::as_object_mut);
        let Some(Value::String(meanings)) = part.and_then(|part| part.shift_remove(MEANINGS)) else { continue };
        let description = property["description"].as_str().unwrap_or_default();
        property["description"] = format!("{description}{meanings}").into();
    }
}

/// Unknown fields are pruned or refused by the API server itself; where any are welcome it has to be told.
fn additional(value: &Value, convert: impl Fn(&Value) -> Value) -> Map<String, Value> {
    let mut converted = Map::new();
    match value {
        Value::Bool(false) => {}
        Value::Bool(true) => {
            converted.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
        }
        of => {
            converted.insert("additionalProperties".to_owned(), convert(of));
        }
    }
    converted
}

/// Kubernetes knows no unsigned numbers; how small and large they may be is said besides.
fn format(value: &Value) -> Map<String, Value> {
    let mut converted = Map::new();
    match value.as_str().unwrap_or_default() {
        "uint32" => {
            converted.insert("format".to_owned(), "int64".into());
            converted.insert("maximum".to_owned(), u32::MAX.into());
        }
        "uint64" => {
            converted.insert("format".to_owned(), "int64".into());
        }
        other => {
            converted.insert("format".to_owned(), other.into());
        }
    }
    converted
}
