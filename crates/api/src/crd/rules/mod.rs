//! The rules of [`validate`](crate::validate) in CEL, for the API server, and those on changes, which it alone can see.
//!
//! A rule stands at the type or field it is about, so that the API server names the field; the sentence adds the remedy.

mod changes;
mod data;
mod job;
mod model;
mod optimizer;
mod shapes;
mod stage;

use std::sync::LazyLock;

use serde_json::{Value, json};

/// A CEL expression that has to be true, and the sentence where it is not.
#[derive(Clone, Debug)]
struct Rule {
    /// A type or `Type.field` of the schema.
    on: String,
    expression: String,
    /// The sentence without what the object holds.
    message: String,
    /// CEL that makes the sentence; `message` stands in where it fails.
    sentence: Option<String>,
    /// The field that is meant, below the one on which the rule is.
    field: Option<String>,
}

impl Rule {
    fn new(on: impl Into<String>, expression: impl Into<String>, message: impl Into<String>) -> Self {
        let (on, expression, message) = (on.into(), expression.into(), message.into());
        Self { on, expression, message, sentence: None, field: None }
    }

    /// The sentence, as CEL.
    fn says(self, sentence: impl Into<String>) -> Self {
        Self { sentence: Some(sentence.into()), ..self }
    }

    /// The field that is meant, such as `.tokenizer.learn`.
    fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    fn to_json(&self) -> Value {
        let mut rule = json!({"rule": self.expression, "message": self.message});
        if let Some(sentence) = &self.sentence {
            rule["messageExpression"] = sentence.as_str().into();
        }
        if let Some(field) = &self.field {
            rule["fieldPath"] = field.as_str().into();
        }
        rule
    }
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    [model::rules(), data::rules(), stage::rules(), optimizer::rules(), job::rules(), changes::rules()].concat()
});

/// Where a schema has its rules.
pub(super) const VALIDATIONS: &str = "x-kubernetes-validations";

/// The rule of every decimal number, wherever it stands.
pub(super) fn decimal_number() -> Value {
    shapes::decimal_number().to_json()
}

/// Adds the rules on `name`, a type or `Type.field`, to its schema.
pub(super) fn attach(name: &str, schema: &mut Value) {
    let rules: Vec<Value> = RULES.iter().filter(|rule| rule.on == name).map(Rule::to_json).collect();
    if rules.is_empty() {
        return;
    }
    match &mut schema[VALIDATIONS] {
        Value::Array(present) => present.extend(rules),
        absent => *absent = rules.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule on a type that is renamed would vanish without a word.
    #[test]
    fn every_rule_has_found_its_place() {
        let crd = crate::crd::training_job_crd().to_string();
        for rule in RULES.iter() {
            assert!(crd.contains(&rule.to_json().to_string()), "no {} in the schema", rule.on);
        }
        assert!(RULES.len() > 100, "{}", RULES.len());
    }
}
