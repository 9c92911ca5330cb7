//! What a plain scalar means in YAML 1.2's core schema, and where YAML 1.1 (which `kubectl` reads) differs.

/// A scalar as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so that its text decides its type.
    pub(crate) plain: bool,
}

/// What a scalar means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Resolved<'a> {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
    /// YAML 1.1 and 1.2 read it differently; the sentence says what to write.
    Ambiguous(String),
}

impl Scalar {
    /// Its meaning.
    pub(crate) fn resolve(&self) -> Resolved<'_> {
        if self.plain { resolve_plain(&self.text) } else { Resolved::Text(&self.text) }
    }

    /// What it is, for a sentence.
    pub(crate) fn describe(&self) -> String {
        match self.resolve() {
            Resolved::Null => "nothing".to_owned(),
            Resolved::Bool(value) => value.to_string(),
            Resolved::Text(text) => quoted(text),
            Resolved::Integer(_) | Resolved::Float(_) | Resolved::Ambiguous(_) => self.text.clone(),
        }
    }
}

/// `text` in double quotes, cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{:?}", format!("{}...", &text[..cut])),
        None => format!("{text:?}"),
    }
}

fn resolve_plain(text: &str) -> Resolved<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        _ => {}
    }
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" => return ambiguous_bool(text, true),
        "no" | "off" => return ambiguous_bool(text, false),
        _ => {}
    }
    if let Some(integer) = integer(text) {
        return integer;
    }
    if is_float(text)
        && let Ok(value) = text.parse()
    {
        return Resolved::Float(value);
    }
    let without_underscores = text.replace('_', "");
    let is_grouped = without_underscores.len() < text.len() && text.starts_with(|c: char| c.is_ascii_digit());
    if is_grouped && is_digits(&without_underscores) {
        return Resolved::Ambiguous(format!(
            "{text} is a number to some readers of YAML and text to others; write {without_underscores}"
        ));
    }
    Resolved::Text(text)
}

fn ambiguous_bool(text: &str, value: bool) -> Resolved<'static> {
    Resolved::Ambiguous(format!(
        "{text} is a boolean to some readers of YAML (kubectl) and text to others; write {value} or \"{text}\""
    ))
}

fn integer(text: &str) -> Option<Resolved<'static>> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i128::from_str_radix(digits, 16).ok().map(Resolved::Integer);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i128::from_str_radix(digits, 8).ok().map(Resolved::Integer);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !is_digits(digits) {
        return None;
    }
    if digits.len() > 1 && digits.starts_with('0') {
        let decimal = digits.trim_start_matches('0');
        let decimal = if decimal.is_empty() { "0" } else { decimal };
        return Some(Resolved::Ambiguous(format!(
            "{text} is octal to some readers of YAML; write {decimal}, or \"{text}\" where it is text"
        )));
    }
    // Beyond 128 bits it is still a number, if one that fits no field.
    Some(text.parse().map_or_else(|_| Resolved::Float(text.parse().unwrap_or(f64::INFINITY)), Resolved::Integer))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let mantissa_is_number = match mantissa.split_once('.') {
        Some(("", fraction)) => is_digits(fraction),
        Some((whole, fraction)) => is_digits(whole) && (fraction.is_empty() || is_digits(fraction)),
        None => is_digits(mantissa),
    };
    mantissa_is_number && exponent.is_none_or(is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Resolved<'_>) {
        assert_eq!(resolve_plain(text), expected, "{text}");
    }

    #[test]
    fn follows_the_core_schema() {
        check("", Resolved::Null);
        check("~", Resolved::Null);
        check("true", Resolved::Bool(true));
        check("tRUE", Resolved::Text("tRUE"));
        check("12", Resolved::Integer(12));
        check("-12", Resolved::Integer(-12));
        check("0x1F", Resolved::Integer(31));
        check("0o17", Resolved::Integer(15));
        check("1e-4", Resolved::Float(1e-4));
        check(".5", Resolved::Float(0.5));
        check("1.", Resolved::Float(1.0));
        check("None", Resolved::Text("None"));
        check("1.2.3", Resolved::Text("1.2.3"));
        check("e5", Resolved::Text("e5"));
        check("zh-web", Resolved::Text("zh-web"));
        check("18446744073709551615", Resolved::Integer(18_446_744_073_709_551_615));
    }

    #[test]
    fn refuses_what_yaml_1_1_reads_otherwise() {
        for text in ["yes", "No", "ON", "off", "010", "1_000"] {
            assert!(matches!(resolve_plain(text), Resolved::Ambiguous(_)), "{text}");
        }
    }
}
