//! JSON values as block YAML that every reader reads alike.

use serde_json::Value;

use super::{Resolved, Scalar};

/// `value` as a YAML document.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    write_block(value, 0, &mut out);
    out
}

/// Writes a value at the beginning of a line that is indented already.
fn write_block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (name, field)) in fields.iter().enumerate() {
                if index > 0 {
                    indent_by(indent, out);
                }
                out.push_str(&text(name));
                out.push(':');
                match field {
                    Value::Object(fields) if !fields.is_empty() => nest(field, indent + 2, out),
                    Value::Array(items) if !items.is_empty() => nest(field, indent, out),
                    scalar => out.push_str(&format!(" {}\n", inline(scalar))),
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    indent_by(indent, out);
                }
                out.push_str("- ");
                write_block(item, indent + 2, out);
            }
        }
        scalar => out.push_str(&format!("{}\n", inline(scalar))),
    }
}

fn nest(value: &Value, indent: usize, out: &mut String) {
    out.push('\n');
    indent_by(indent, out);
    write_block(value, indent, out);
}

fn indent_by(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// A scalar, or something empty.
fn inline(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        other => other.to_string(),
    }
}

/// Text without quotes where nobody could take it for anything else, else as JSON writes it.
fn text(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.')
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.')
        && text.chars().all(|c| c.is_alphanumeric() || " ,./_-;".contains(c));
    let scalar = Scalar { text: text.to_owned(), plain: true };
    match scalar.resolve() {
        Resolved::Text(_) if is_plain && text.len() > 1 => text.to_owned(),
        _ => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::write;

    #[test]
    fn every_value_is_written_as_a_person_would() {
        let value = json!({
            "name": "tj",
            "words": ["One of: a", "true", "no", "y", "1e-4", "-x", "it's", ""],
            "nested": {"list": [{"a": 1, "b": [2.5, null]}, [], {}], "empty": {}},
            "quoted key:": "two\nlines",
        });
        expect![[r#"
            name: tj
            words:
            - "One of: a"
            - "true"
            - "no"
            - "y"
            - "1e-4"
            - "-x"
            - "it's"
            - ""
            nested:
              list:
              - "a": 1
                "b":
                - 2.5
                - null
              - []
              - {}
              empty: {}
            "quoted key:": "two\nlines"
        "#]]
        .assert_eq(&write(&value));
    }
}
