//! A job file's text, and overrides from the command line, to a [`TrainingJob`].

use crate::training_job::{API_VERSION, TrainingJob};
use crate::yaml::{self, Entry, Node, NodeKind, Origin, Resolved};

/// Why a job file cannot be read: one sentence with the field, its line and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// The path of the field, such as `spec.stages[0].budget`; empty where the whole file is meant.
    pub field: String,
    /// The line, counted from 1; none for an override.
    pub line: Option<usize>,
    /// The sentence, beginning with the field.
    pub message: String,
}

impl LoadError {
    pub(crate) fn new(field: &str, origin: Origin, message: String) -> Self {
        let message = if field.is_empty() { message } else { format!("{field}: {message}") };
        Self { field: field.to_owned(), line: origin.line(), message }
    }
}

/// The job that `text` (YAML or JSON) describes, after `overrides` of the form `PATH=VALUE` (`--set`).
///
/// A path may leave out the leading `spec.`; a value is YAML; `null` takes a field away. Rules between fields are
/// [`validate`](crate::validate)'s.
pub fn load(text: &str, overrides: &[String]) -> Result<TrainingJob, LoadError> {
    let mut root = yaml::parse(text, None)?;
    if root.is_null() {
        let message = "the file is empty; write a TrainingJob with apiVersion, kind, metadata and spec".to_owned();
        return Err(LoadError::new("", root.origin, message));
    }
    refuse_other_kinds(&root)?;
    for assignment in overrides {
        apply(&mut root, assignment)?;
    }
    yaml::from_node(&root)
}

/// Another kind of object is refused as such, and not by the first field that it has and we don't.
fn refuse_other_kinds(root: &Node) -> Result<(), LoadError> {
    if !matches!(root.kind, NodeKind::Mapping(_)) {
        let message = format!(
            "the file holds {} where a TrainingJob belongs; write its apiVersion, kind, metadata and spec",
            root.describe()
        );
        return Err(LoadError::new("", root.origin, message));
    }
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", "TrainingJob")] {
        let Some(node) = root.get(field) else { continue };
        let is_expected = matches!(&node.kind, NodeKind::Scalar(scalar) if scalar.text == expected);
        if !is_expected && !node.is_null() {
            let message = format!("{} {} is not known here; write {expected}", node.describe(), node.origin);
            return Err(LoadError::new(field, node.origin, message));
        }
    }
    Ok(())
}

/// A step of an override's path.
#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
}

fn apply(root: &mut Node, assignment: &str) -> Result<(), LoadError> {
    let refuse = |message: String| LoadError::new(&format!("--set {assignment}"), Origin::Override, message);
    let (path, value) = assignment
        .split_once('=')
        .ok_or_else(|| refuse("there is no value; write PATH=VALUE, such as spec.seed=7".to_owned()))?;
    let mut steps = steps(path)
        .ok_or_else(|| refuse(format!("\"{path}\" is not a path; write one such as spec.stages[0].budget.tokens")))?;
    let is_whole =
        matches!(&steps[0], Step::Field(name) if ["apiVersion", "kind", "metadata", "spec"].contains(&name.as_str()));
    if !is_whole {
        steps.insert(0, Step::Field("spec".to_owned()));
    }
    let value = yaml::parse(value, Some(Origin::Override)).map_err(|error| refuse(error.message))?;

    let mut node = root;
    let mut walked = String::new();
    for step in &steps {
        node = match step {
            Step::Field(name) => field(node, name).map_err(|what| {
                refuse(format!("{walked} is {what} and has no field \"{name}\"; write an index or a field that it has"))
            })?,
            Step::Index(index) => item(node, *index).map_err(|what| {
                refuse(format!(
                    "{walked} is {what}, so there is no [{index}]; count from 0, and write what is absent in the file"
                ))
            })?,
        };
        match step {
            Step::Field(name) if walked.is_empty() => walked.push_str(name),
            Step::Field(name) => walked.push_str(&format!(".{name}")),
            Step::Index(index) => walked.push_str(&format!("[{index}]")),
        }
    }
    *node = value;
    Ok(())
}

/// `spec.stages[0].budget` in steps; a name with dots is written `["a.b"]`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (name, after) = quoted.split_once("\"]")?;
            steps.push(Step::Field(name.to_owned()));
            rest = after;
        } else if let Some(bracket) = rest.strip_prefix('[') {
            let (index, after) = bracket.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            rest = after;
        } else {
            let name = if steps.is_empty() { rest } else { rest.strip_prefix('.')? };
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Field(name[..end].to_owned()));
            rest = &name[end..];
        }
    }
    matches!(steps.first(), Some(Step::Field(_))).then_some(steps)
}

/// The field of a mapping, made where it is absent: an unknown one is refused when the job is read.
fn field<'a>(node: &'a mut Node, name: &str) -> Result<&'a mut Node, String> {
    if node.is_null() {
        *node = Node::empty_mapping(Origin::Override);
    }
    let what = node.describe();
    let NodeKind::Mapping(entries) = &mut node.kind else { return Err(what) };
    let position = entries.iter().position(|entry| entry.key == name).unwrap_or_else(|| {
        let value = Node::empty_mapping(Origin::Override);
        entries.push(Entry { key: name.to_owned(), origin: Origin::Override, value });
        entries.len() - 1
    });
    Ok(&mut entries[position].value)
}

fn item(node: &mut Node, index: usize) -> Result<&mut Node, String> {
    let what = match &node.kind {
        NodeKind::Sequence(items) => format!("a list of {}", items.len()),
        NodeKind::Scalar(scalar) if scalar.resolve() == Resolved::Null => "absent".to_owned(),
        NodeKind::Mapping(entries) if entries.is_empty() => "absent".to_owned(),
        _ => node.describe(),
    };
    match &mut node.kind {
        NodeKind::Sequence(items) => items.get_mut(index).ok_or(what),
        _ => Err(what),
    }
}
