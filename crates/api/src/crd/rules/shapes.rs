//! Rules that come up again and again.

use super::Rule;
use crate::decimal::PATTERN;

/// Exactly one of `fields` is there. The sentences are written out, since the API server cannot bound what `join` costs.
pub(super) fn exactly_one(on: &str, fields: &[&str]) -> Rule {
    let has =
        |fields: &[&str]| fields.iter().map(|field| format!("has(self.{field})")).collect::<Vec<_>>().join(" && ");
    let given: Vec<String> = fields.iter().map(|field| format!("(has(self.{field}) ? 1 : 0)")).collect();
    let mut sentence = String::new();
    for several in [fields.to_vec()].into_iter().chain(pairs(fields)) {
        sentence.push_str(&format!("{} ? 'has {}; keep exactly one' : ", has(&several), list(&several)));
    }
    sentence.push_str(&format!("'has none of {}; write exactly one'", list(fields)));
    let message = format!("needs exactly one of {}", list(fields));
    Rule::new(on, format!("{} == 1", given.join(" + ")), message).says(sentence)
}

fn pairs<'f>(fields: &[&'f str]) -> Vec<Vec<&'f str>> {
    let second = |first: usize| fields[first + 1..].iter().map(move |second| vec![fields[first], *second]);
    (0..fields.len()).flat_map(second).collect()
}

fn list(names: &[&str]) -> String {
    let (last, first) = names.split_last().unwrap_or((&"", &[]));
    format!("{} and {last}", first.join(", "))
}

/// A number is more than 0.
pub(super) fn positive(on: &str, message: &str) -> Rule {
    Rule::new(on, "self > 0", message)
}

/// Text that spells a decimal number.
pub(super) fn decimal_number() -> Rule {
    let message = "is not a decimal number: write one such as \"0.1\" or \"1e-4\"";
    Rule::new("", is_decimal("self"), message).says(format!("'\"' + self + '\" {message}'"))
}

/// CEL: whether `text` spells a decimal number.
pub(super) fn is_decimal(text: &str) -> String {
    format!("{text}.matches('{}')", PATTERN.replace('\\', "\\\\"))
}

/// A decimal number, `value` in `condition`, is in range. Where it is none, that alone is said.
pub(super) fn decimal(on: &str, condition: &str, complaint: &str) -> Rule {
    let condition = condition.replace("value", "double(self)");
    Rule::new(on, format!("!{} || ({condition})", is_decimal("self")), complaint).says(format!("self + ' {complaint}'"))
}

/// Text is not empty.
pub(super) fn not_empty(on: &str, message: &str) -> Rule {
    Rule::new(on, "self.size() > 0", message)
}

/// The name of something that the job holds, which becomes a part of paths.
pub(super) fn name(on: &str) -> Rule {
    let message =
        "is no name; use at most 63 letters, digits, \"-\", \"_\" and \".\", beginning with a letter or digit";
    Rule::new(on, "self.matches('^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$')", message)
        .says(format!("'\"' + self + '\" {message}'"))
}

/// The entries of a list have names of their own.
pub(super) fn unique_names(on: &str, field: &str) -> Rule {
    let names = format!("self.map(entry, entry.{field})");
    let message = "a name is taken twice; choose another name";
    Rule::new(on, format!("{names}.all(name, {names}.exists_one(other, other == name))"), message)
        .says(format!("'\"' + {names}.filter(name, !{names}.exists_one(other, other == name))[0] + '\" is taken twice; choose another name'"))
}

/// The entries of a list of texts differ.
pub(super) fn unique(on: &str) -> Rule {
    Rule::new(on, "self.all(entry, self.exists_one(other, other == entry))", "an entry is there twice; remove one")
        .says("self.filter(entry, !self.exists_one(other, other == entry))[0] + ' is there already; remove one'")
}

/// Where something is, as far as the text shows: pods share no file of one machine.
pub(super) fn uri(on: &str) -> Rule {
    let sentence = r#"self.size() == 0 ? 'it is empty; write where it is, such as "pvc://CLAIM/PATH"'
: !self.contains('://') ? '"' + self + '" has no scheme; write where it is, such as "pvc://CLAIM/PATH"'
: self.startsWith('file://') ? '"' + self + '" is a path of one machine, which pods do not share; put it on a volume and write "pvc://CLAIM/PATH", or use s3://, gs://, az:// or hf://'
: !self.matches('^(pvc|s3|gs|az|hf)://') ? 'the scheme of "' + self + '" is unknown; use one of pvc://, s3://, gs://, az://, hf://'
: self.matches('/[.][.](/|$)') ? '"' + self + '" leads out by ".."; write the path that is meant'
: self.startsWith('pvc://') ? '"' + self + '" names no claim; write "pvc://CLAIM/PATH"'
: self.startsWith('hf://') ? '"' + self + '" names no repository; write "hf://OWNER/NAME@REVISION"'
: '"' + self + '" names no bucket; write "' + self.substring(0, self.indexOf('://')) + '://BUCKET/PATH"'"#;
    let expression = "self.matches('^(pvc|s3|gs|az|hf)://[^/]') && !self.matches('/[.][.](/|$)')";
    Rule::new(on, expression, "is no URI; write \"pvc://CLAIM/PATH\", or one of s3://, gs://, az:// and hf://")
        .says(sentence)
}

/// A URI that is written to.
pub(super) fn writable_uri(on: &str) -> Vec<Rule> {
    let message = "cannot be written to; use pvc://, s3://, gs:// or az://";
    let writable = Rule::new(on, "!self.startsWith('hf://')", message).says(format!("'\"' + self + '\" {message}'"));
    vec![uri(on), writable]
}
