//! Where a job is to run, which decides what its URIs may be.

use crate::uri::{Scheme, Uri};

/// Where a job is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On this machine: `palimpsest run`.
    #[default]
    Machine,
    /// On a cluster, whose pods share no file of one machine: what its API server would say.
    Cluster,
}

impl Place {
    /// Why `uri` is none in this place.
    pub(super) fn refuse(self, uri: &str) -> Option<String> {
        match self {
            Self::Machine => Uri::parse(uri).err().map(|error| error.to_string()),
            Self::Cluster => refuse_on_a_cluster(uri),
        }
    }

    /// Where a URI that is written to may lie.
    pub(super) fn writable(self) -> &'static str {
        match self {
            Self::Machine => "file://, pvc://, s3://, gs:// or az://",
            Self::Cluster => "pvc://, s3://, gs:// or az://",
        }
    }
}

/// In the words of the rule on the API server.
fn refuse_on_a_cluster(uri: &str) -> Option<String> {
    let parsed = Uri::parse(uri);
    if parsed.as_ref().is_ok_and(|uri| uri.scheme() != Scheme::File) {
        return None;
    }
    let message = match uri.split_once("://") {
        None if uri.is_empty() => "it is empty; write where it is, such as \"pvc://CLAIM/PATH\"".to_owned(),
        None => format!("\"{uri}\" has no scheme; write where it is, such as \"pvc://CLAIM/PATH\""),
        Some(("file", _)) => format!(
            "\"{uri}\" is a path of one machine, which pods do not share; put it on a volume and write \"pvc://CLAIM/PATH\", or use s3://, gs://, az:// or hf://"
        ),
        Some((scheme, _)) if Scheme::ALL.iter().all(|known| known.as_str() != scheme) => {
            format!("the scheme of \"{uri}\" is unknown; use one of pvc://, s3://, gs://, az://, hf://")
        }
        // What is wrong with the path is wrong everywhere.
        Some(_) => return parsed.err().map(|error| error.to_string()),
    };
    Some(message)
}
