//! The rules between a job's fields, which a schema alone cannot say.

mod data;
mod job;
mod model;
mod names;
mod place;
mod queue;
mod schema;
mod stage;
mod unsupported;

use std::fmt;

pub use place::Place;
pub use queue::{MAXIMUM_TIME_LABEL, QUEUE_LABEL};
pub use unsupported::unsupported;

use crate::training_job::TrainingJob;
use crate::uri::{Scheme, Uri};

/// A rule that a job breaks: one sentence with the field and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `spec.stages[0].budget`.
    pub field: String,
    /// What is wrong with it, and the remedy.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that is wrong with `job` where it is to run; nothing where it is right.
pub fn validate(job: &TrainingJob, place: Place) -> Vec<Violation> {
    let mut violations = Violations { place, ..Violations::default() };
    job::check_metadata(job, &mut violations);
    queue::check(job, &mut violations);
    model::check(&job.spec, &mut violations);
    data::check(&job.spec.data, &mut violations);
    stage::check(&job.spec, &mut violations);
    job::check(&job.spec, &mut violations);
    schema::check(&job.spec, &mut violations);
    violations.list
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Violations {
    list: Vec<Violation>,
    place: Place,
}

impl Violations {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.list.push(Violation { field: field.into(), message: message.into() });
    }

    fn add_if(&mut self, is_broken: bool, field: impl Into<String>, message: impl Into<String>) {
        if is_broken {
            self.add(field, message);
        }
    }

    /// Exactly one of the named fields of `parent` has to be there.
    fn exactly_one(&mut self, parent: &str, fields: &[(&str, bool)]) {
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let given: Vec<&str> = fields.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name).collect();
        match given.as_slice() {
            [_] => {}
            [] => self.add(parent, format!("has none of {}; write exactly one", list(&names, "and"))),
            several => self.add(parent, format!("has {}; keep exactly one", list(several, "and"))),
        }
    }

    fn uri(&mut self, field: impl Into<String>, uri: &str) {
        if let Some(message) = self.place.refuse(uri) {
            self.add(field, message);
        }
    }

    /// A URI that is written to.
    fn writable_uri(&mut self, field: impl Into<String>, uri: &str) {
        let is_hub = Uri::parse(uri).is_ok_and(|uri| uri.scheme() == Scheme::Hf);
        if is_hub {
            self.add(field, format!("\"{uri}\" cannot be written to; use {}", self.place.writable()));
        } else {
            self.uri(field, uri);
        }
    }

    /// The entries of a list have names of their own.
    fn unique<'n>(&mut self, parent: &str, field: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen: Vec<&str> = Vec::new();
        for (index, name) in names.enumerate() {
            match seen.iter().position(|other| *other == name) {
                Some(first) => {
                    let message = format!("\"{name}\" is taken by {parent}[{first}]; choose another name");
                    self.add(format!("{parent}[{index}].{field}"), message);
                }
                None => names::check(&format!("{parent}[{index}].{field}"), name, self),
            }
            seen.push(name);
        }
    }

    /// `name` is one of the datasets.
    fn known_dataset(&mut self, field: impl Into<String>, name: &str, datasets: &[crate::Dataset]) {
        // Where there are none, that alone is said.
        if datasets.is_empty() || datasets.iter().any(|dataset| dataset.name == name) {
            return;
        }
        let known: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        let known = list(&known, "or");
        self.add(
            field,
            format!("there is no dataset \"{name}\" in spec.data.datasets; add it there, or write {known}"),
        );
    }
}

/// `a, b and c`.
fn list(names: &[&str], conjunction: &str) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} {conjunction} {last}", most.join(", ")),
    }
}
