//! Text to nodes: one document, unique keys, anchors resolved.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{Entry, Node, NodeKind, Origin, Scalar};
use crate::load::LoadError;

/// Deeper than any job, and shallow enough for recursion.
const MAXIMUM_DEPTH: usize = 100;
/// Aliases may not make a file larger than this.
const MAXIMUM_NODES: usize = 1_000_000;

/// The only document of `text`. `origin` is given to every node where the text is not a file.
pub(crate) fn parse(text: &str, origin: Option<Origin>) -> Result<Node, LoadError> {
    let mut builder = Builder { origin, open: Vec::new(), anchors: HashMap::new(), documents: Vec::new(), nodes: 0 };
    for event in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let (event, span) = event.map_err(|error| {
            let origin = origin.unwrap_or(Origin::Line(error.marker().line()));
            LoadError::new(
                "",
                origin,
                format!(
                    "the YAML is malformed {origin}: {}; check the indentation, brackets and quotes there",
                    error.info()
                ),
            )
        })?;
        builder.take(event, span)?;
    }
    // A file may end with a separator.
    let mut documents = builder.documents;
    while documents.len() > 1 && documents.last().is_some_and(Node::is_null) {
        documents.pop();
    }
    match documents.get(1) {
        Some(second) => {
            let message = format!(
                "the file holds {} documents, the second one {}; give each job a file of its own",
                documents.len(),
                second.origin
            );
            Err(LoadError::new("", second.origin, message))
        }
        None => Ok(documents.pop().unwrap_or(Node { kind: null(), origin: origin.unwrap_or(Origin::Line(1)) })),
    }
}

fn null() -> NodeKind {
    NodeKind::Scalar(Scalar { text: String::new(), plain: true })
}

/// A list or mapping that is being read.
struct Open {
    node: Node,
    anchor: usize,
    /// The key of a mapping that waits for its value.
    key: Option<(String, Origin)>,
}

struct Builder {
    origin: Option<Origin>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    documents: Vec<Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), LoadError> {
        let origin = self.origin.unwrap_or(Origin::Line(span.start.line()));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = is_tagged_text(tag.as_deref(), origin)?;
                let plain = style == ScalarStyle::Plain && !is_text;
                let kind = NodeKind::Scalar(Scalar { text: text.into_owned(), plain });
                self.close(Node { kind, origin }, anchor, 1)
            }
            Event::SequenceStart(anchor, tag) => {
                is_tagged_text(tag.as_deref(), origin)?;
                self.enter(NodeKind::Sequence(Vec::new()), origin, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                is_tagged_text(tag.as_deref(), origin)?;
                self.enter(NodeKind::Mapping(Vec::new()), origin, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.close(open.node, open.anchor, 1),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some((node, size)) => self.close(node, 0, size),
                None => Err(LoadError::new("", origin, format!("the alias {origin} refers to itself; write it out"))),
            },
            _ => Ok(()),
        }
    }

    fn enter(&mut self, kind: NodeKind, origin: Origin, anchor: usize) -> Result<(), LoadError> {
        if self.open.len() >= MAXIMUM_DEPTH {
            let message =
                format!("the YAML is nested more than {MAXIMUM_DEPTH} deep {origin}; a job is never that deep");
            return Err(LoadError::new("", origin, message));
        }
        self.open.push(Open { node: Node { kind, origin }, anchor, key: None });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn close(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), LoadError> {
        self.nodes += size;
        if self.nodes > MAXIMUM_NODES {
            let origin = node.origin;
            let message =
                format!("the aliases {origin} make the file larger than {MAXIMUM_NODES} values; write it out");
            return Err(LoadError::new("", origin, message));
        }
        if anchor != 0 {
            let size = count(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let place = self.place();
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.key.take()) {
            (NodeKind::Sequence(items), _) => items.push(node),
            (NodeKind::Mapping(entries), Some((key, origin))) => entries.push(Entry { key, origin, value: node }),
            (NodeKind::Mapping(entries), None) => {
                let key = key_of(node, &place)?;
                refuse_duplicate(entries, &key, &place)?;
                open.key = Some(key);
            }
            (NodeKind::Scalar(_), _) => {}
        }
        Ok(())
    }

    /// The path of the node that is being read, for a sentence.
    fn place(&self) -> String {
        let mut place = String::new();
        for open in &self.open {
            match (&open.node.kind, &open.key) {
                (NodeKind::Sequence(items), _) => place.push_str(&format!("[{}]", items.len())),
                (_, Some((key, _))) if place.is_empty() => place.push_str(key),
                (_, Some((key, _))) => place.push_str(&format!(".{key}")),
                (_, None) => {}
            }
        }
        place
    }
}

fn key_of(node: Node, place: &str) -> Result<(String, Origin), LoadError> {
    let origin = node.origin;
    match node.kind {
        NodeKind::Scalar(scalar) if scalar.plain && scalar.text == "<<" => {
            let message = format!("the merge key << {origin} is not part of YAML 1.2; write the fields out");
            Err(LoadError::new(place, origin, message))
        }
        NodeKind::Scalar(scalar) => Ok((scalar.text, origin)),
        _ => Err(LoadError::new(
            place,
            origin,
            format!("a list or mapping is used as a field's name {origin}; write text"),
        )),
    }
}

fn refuse_duplicate(entries: &[Entry], key: &(String, Origin), place: &str) -> Result<(), LoadError> {
    let (name, origin) = key;
    let Some(first) = entries.iter().find(|entry| entry.key == *name) else { return Ok(()) };
    let path = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
    let message = match (first.origin, *origin) {
        (Origin::Line(one), Origin::Line(two)) if one != two => {
            format!("is given twice, at lines {one} and {two}; keep one")
        }
        _ => format!("is given twice {origin}; keep one"),
    };
    Err(LoadError::new(&path, *origin, message))
}

/// Whether a tag says that a scalar is text whatever it looks like; no other tag means anything here.
fn is_tagged_text(tag: Option<&Tag>, origin: Origin) -> Result<bool, LoadError> {
    let Some(tag) = tag else { return Ok(false) };
    match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
        (true, "str") => Ok(true),
        (true, "int" | "float" | "bool" | "null" | "seq" | "map") => Ok(false),
        _ if tag.handle == "!" && tag.suffix.is_empty() => Ok(true),
        _ => Err(LoadError::new("", origin, format!("the tag {tag} {origin} means nothing in a job; remove it"))),
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        NodeKind::Scalar(_) => 1,
        NodeKind::Sequence(items) => 1 + items.iter().map(count).sum::<usize>(),
        NodeKind::Mapping(entries) => 1 + entries.iter().map(|entry| count(&entry.value)).sum::<usize>(),
    }
}
