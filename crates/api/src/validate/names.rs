//! Names: of jobs, which become names of pods, and of what a job holds, which become parts of paths.

use super::Violations;

/// Pods add `-INDEX-INCARNATION` to a job's name.
const LONGEST_JOB_NAME: usize = 48;
const LONGEST_NAME: usize = 63;

/// RFC 1035, at most 48 characters.
pub(super) fn check_job_name(name: &str, violations: &mut Violations) {
    let field = "metadata.name";
    let is_label = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.ends_with('-');
    if !is_label {
        let message = format!(
            "\"{name}\" is not an RFC 1035 label; use lower-case letters, digits and \"-\", beginning with a letter and ending with no \"-\""
        );
        violations.add(field, message);
    } else if name.len() > LONGEST_JOB_NAME {
        violations.add(field, format!("\"{name}\" has {} characters; use at most {LONGEST_JOB_NAME}", name.len()));
    }
}

/// Letters, digits, `-`, `_` and `.`, at most 63, beginning with a letter or digit.
pub(super) fn check(field: &str, name: &str, violations: &mut Violations) {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.len() <= LONGEST_NAME;
    violations.add_if(
        !is_name,
        field,
        format!("\"{name}\" is no name; use at most {LONGEST_NAME} letters, digits, \"-\", \"_\" and \".\", beginning with a letter or digit"),
    );
}
