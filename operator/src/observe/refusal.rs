//! Why an API server does not make a pod: something that may change, or the template itself.

use super::Block;

/// What follows from a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It may be let pass later: a quota, a policy, a webhook.
    Blocked(Block),
    /// No API server would ever take it: the user has to mend the template.
    Invalid(String),
    /// The object is there already.
    Exists,
    /// The namespace is being deleted, and nothing more is made there.
    NamespaceGoes,
    /// Not the object's fault: the API server is busy, or cannot be reached.
    Transient,
}

/// What an answer of the API server to a pod's creation means.
pub(crate) fn of_refusal(code: u16, reason: &str, message: &str) -> Refusal {
    match code {
        409 if reason == "AlreadyExists" => Refusal::Exists,
        403 if message.contains("because it is being terminated") => Refusal::NamespaceGoes,
        // That of one which was just made is not known for a moment.
        403 if ["exceeded quota", "failed quota", "status unknown for quota"]
            .iter()
            .any(|words| message.contains(words)) =>
        {
            Refusal::Blocked(Block::new("QuotaExceeded", message))
        }
        403 if [" usage per ", " limit to request ratio per "].iter().any(|words| message.contains(words)) => {
            Refusal::Blocked(Block::new("LimitRangeExceeded", message))
        }
        // A service account that is not there yet, a policy, a webhook.
        400 | 403 | 404 => Refusal::Blocked(Block::new("AdmissionRefused", message)),
        422 => Refusal::Invalid(message.to_owned()),
        _ => Refusal::Transient,
    }
}
