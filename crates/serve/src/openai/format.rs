//! What an output must look like: `response_format`, and vLLM's `guided_*` and `structured_outputs`.

use palimpsest_infer::Grammars;
use palimpsest_proto::inference::Format;
use palimpsest_proto::inference::format::Kind;
use serde_json::{Value, json};

use super::ApiError;
use super::fields::Fields;

/// What an output must look like, and the field that says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AskedFormat {
    pub(crate) field: &'static str,
    pub(crate) format: Format,
}

/// Reads it, whichever way it is written.
pub(super) fn read(fields: &mut Fields) -> Result<Option<AskedFormat>, ApiError> {
    let mut found = Vec::new();
    if let Some(kind) = response_format(fields)? {
        found.push(("response_format", kind));
    }
    for (field, key) in
        [("guided_json", "json"), ("guided_regex", "regex"), ("guided_choice", "choice"), ("guided_grammar", "grammar")]
    {
        if let Some(value) = fields.value(field) {
            found.push((field, kind_of(field, key, value)?));
        }
    }
    if let Some(mut outputs) = fields.object("structured_outputs")? {
        for key in ["json", "regex", "choice", "grammar"] {
            let name = outputs.name(key);
            if let Some(value) = outputs.value(key) {
                found.push(("structured_outputs", kind_of(&name, key, value)?));
            }
        }
        if outputs.boolean("json_object")? == Some(true) {
            found.push(("structured_outputs", any_object()));
        }
        outputs.finish()?;
    }
    if let [(first, _), (second, _), ..] = &found[..] {
        let message = format!("{second}: the output can have one format, and {first} gives one already");
        return Err(ApiError::field(*second, message));
    }
    let asked = found.pop().map(|(field, kind)| AskedFormat { field, format: Format { kind: Some(kind) } });
    if let Some(asked) = &asked {
        check_bytes(&asked.format, asked.field)?;
    }
    Ok(asked)
}

/// Says that a format is longer than an engine reads; before it is sent there, as a message may have no more than so many bytes.
pub(crate) fn check_bytes(format: &Format, field: &str) -> Result<(), ApiError> {
    let (bytes, most) = match &format.kind {
        Some(Kind::JsonSchema(text) | Kind::Regex(text) | Kind::Lark(text)) => (text.len(), Grammars::MOST_BYTES),
        None => return Ok(()),
    };
    if bytes > most {
        return Err(ApiError::field(field, format!("{field} has {bytes} bytes; give one of {most} at most")));
    }
    Ok(())
}

fn response_format(fields: &mut Fields) -> Result<Option<Kind>, ApiError> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(None) };
    let name = format.name("type");
    let kind = match format.string("type")?.as_deref() {
        Some("text") => None,
        Some("json_object") => Some(any_object()),
        Some("json_schema") => {
            let Some(mut schema) = format.object("json_schema")? else {
                return Err(ApiError::field("response_format.json_schema", "response_format.json_schema is missing"));
            };
            schema.string("name")?;
            schema.string("description")?;
            // Every schema is kept to; there is nothing that is less strict.
            schema.boolean("strict")?;
            let name = schema.name("schema");
            let value = schema.value("schema").unwrap_or_else(|| json!({"type": "object"}));
            schema.finish()?;
            Some(kind_of(&name, "json", value)?)
        }
        Some("regex") => Some(text_kind(&mut format, "regex")?),
        Some("grammar") => Some(text_kind(&mut format, "grammar")?),
        _ => {
            let what = "has to be text, json_object, json_schema, regex or grammar";
            return Err(ApiError::field(name.clone(), format!("{name} {what}")));
        }
    };
    format.finish()?;
    Ok(kind)
}

fn text_kind(format: &mut Fields, key: &str) -> Result<Kind, ApiError> {
    let name = format.name(key);
    let value = format.value(key).ok_or_else(|| ApiError::field(name.clone(), format!("{name} is missing")))?;
    kind_of(&name, key, value)
}

fn any_object() -> Kind {
    Kind::JsonSchema(json!({"type": "object"}).to_string())
}

fn kind_of(name: &str, key: &str, value: Value) -> Result<Kind, ApiError> {
    let refuse = |what: &str| Err(ApiError::field(name, format!("{name} has to be {what}")));
    match (key, value) {
        ("json", value @ (Value::Object(_) | Value::Bool(_))) => Ok(Kind::JsonSchema(value.to_string())),
        ("json", Value::String(text)) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(_) | Value::Bool(_)) => Ok(Kind::JsonSchema(text)),
            _ => refuse("a JSON schema"),
        },
        ("json", _) => refuse("a JSON schema"),
        ("regex", Value::String(text)) => Ok(Kind::Regex(text)),
        ("grammar", Value::String(text)) => Ok(Kind::Lark(text)),
        ("choice", Value::Array(choices)) if (1..=1000).contains(&choices.len()) => {
            let texts: Option<Vec<String>> = choices.iter().map(|choice| choice.as_str().map(escape)).collect();
            match texts {
                Some(texts) => Ok(Kind::Regex(texts.join("|"))),
                None => refuse("a list of strings"),
            }
        }
        ("choice", _) => refuse("a list of 1 to 1000 strings"),
        _ => refuse("a string"),
    }
}

/// A regular expression that this text alone matches.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<Option<Kind>, ApiError> {
        let mut fields = Fields::of_body(body.to_string().as_bytes())?;
        let format = read(&mut fields)?;
        fields.finish()?;
        Ok(format.and_then(|asked| asked.format.kind))
    }

    #[test]
    fn each_way_to_ask_for_a_format_is_known() {
        let schema = r#"{"type":"object"}"#;
        let asks = |body, kind| assert_eq!(parse(body), Ok(kind));
        asks(json!({"response_format": {"type": "text"}}), None);
        asks(json!({"response_format": {"type": "json_object"}}), Some(Kind::JsonSchema(schema.into())));
        let named = json!({"name": "x", "strict": true, "schema": {"type": "object"}});
        asks(
            json!({"response_format": {"type": "json_schema", "json_schema": named}}),
            Some(Kind::JsonSchema(schema.into())),
        );
        asks(json!({"guided_json": schema}), Some(Kind::JsonSchema(schema.into())));
        asks(json!({"guided_choice": ["a.b", "c"]}), Some(Kind::Regex(r"a\.b|c".into())));
        asks(json!({"structured_outputs": {"regex": "a+"}}), Some(Kind::Regex("a+".into())));
        asks(json!({"guided_grammar": "start: \"a\""}), Some(Kind::Lark("start: \"a\"".into())));
    }

    #[test]
    fn two_formats_and_wrong_ones_are_refused() {
        let param = |body| parse(body).unwrap_err().param.unwrap();
        assert_eq!(param(json!({"guided_regex": "a", "guided_json": {}})), "guided_regex");
        assert_eq!(param(json!({"response_format": {"type": "xml"}})), "response_format.type");
        assert_eq!(param(json!({"response_format": {"type": "text", "x": 1}})), "response_format.x");
        assert_eq!(param(json!({"guided_choice": [1]})), "guided_choice");
    }
}
