//! YAML 1.2 as a tree that knows the line of everything, so that every refusal can name it.

mod deserialize;
mod parse;
mod scalar;
mod write;

use std::fmt;

pub(crate) use deserialize::{from_node, nearest};
pub(crate) use parse::parse;
pub(crate) use scalar::{Resolved, Scalar};
pub(crate) use write::write;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) origin: Origin,
}

/// What a [`Node`] is.
#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A field of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: Origin,
    pub(crate) value: Node,
}

/// Where something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the file, counted from 1.
    Line(usize),
    /// On the command line.
    Override,
}

impl Node {
    /// An empty mapping.
    pub(crate) fn empty_mapping(origin: Origin) -> Self {
        Self { kind: NodeKind::Mapping(Vec::new()), origin }
    }

    /// Whether it is written as nothing, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar(scalar) if matches!(scalar.resolve(), Resolved::Null))
    }

    /// The field `key` of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            NodeKind::Mapping(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// What it is, for a sentence.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            NodeKind::Sequence(_) => "a list".to_owned(),
            NodeKind::Mapping(_) => "a mapping".to_owned(),
            NodeKind::Scalar(scalar) => scalar.describe(),
        }
    }
}

impl Origin {
    /// The line, where it has one.
    pub(crate) fn line(self) -> Option<usize> {
        match self {
            Self::Line(line) => Some(line),
            Self::Override => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "at line {line}"),
            Self::Override => f.write_str("in --set"),
        }
    }
}

/// The place of a node in the tree, such as `spec.stages[0].mixture`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) if name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') => {
                write!(f, "{parent}.{name}")
            }
            Self::Field(parent, name) => write!(f, "{parent}[{name:?}]"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}
