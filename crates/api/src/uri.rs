//! URIs: a known scheme and what follows it. Whether there is something at its end is the store's to say.

use std::fmt;

/// Where bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// A path of this machine; not on a cluster.
    File,
    /// A PersistentVolumeClaim and a path in it.
    Pvc,
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// A repository of the Hugging Face Hub; read only.
    Hf,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::File, Self::Pvc, Self::S3, Self::Gs, Self::Az, Self::Hf];

    /// As it is written before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Pvc => "pvc",
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::Hf => "hf",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `SCHEME://REST`, well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    scheme: Scheme,
    rest: String,
}

/// Why a text is no URI of ours: one sentence with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UriError(String);

impl Uri {
    /// Reads `text`; an unknown scheme and a bare path are refused.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let refuse = |message: String| Err(UriError(message));
        if text.trim().is_empty() {
            return refuse("it is empty; write where it is, such as \"file://corpus\"".to_owned());
        }
        let Some((name, rest)) = text.split_once("://") else {
            return refuse(format!("\"{text}\" has no scheme; write \"file://{text}\" if it is a file or folder"));
        };
        let Some(scheme) = Scheme::ALL.into_iter().find(|scheme| scheme.as_str() == name) else {
            let schemes = Scheme::ALL.map(|scheme| format!("{scheme}://")).join(", ");
            return refuse(format!("the scheme of \"{text}\" is unknown; use one of {schemes}"));
        };
        let first = rest.split('/').next().unwrap_or_default();
        match scheme {
            Scheme::File if rest.is_empty() => {
                return refuse(format!(
                    "\"{text}\" names no file; write a path behind it, \"file://.\" for this folder"
                ));
            }
            Scheme::File if first.starts_with('~') => {
                return refuse(format!(
                    "the ~ of \"{text}\" is not expanded; write the folder out, as in \"file:///home/me\""
                ));
            }
            Scheme::File => {}
            _ if first.is_empty() => {
                let what = match scheme {
                    Scheme::Pvc => "claim; write \"pvc://CLAIM/PATH\"",
                    Scheme::Hf => "repository; write \"hf://OWNER/NAME@REVISION\"",
                    _ => "bucket; write \"SCHEME://BUCKET/PATH\"",
                };
                return refuse(format!("\"{text}\" names no {}", what.replace("SCHEME", scheme.as_str())));
            }
            _ if rest.split('/').any(|part| part == "..") => {
                return refuse(format!("\"{text}\" leads out by \"..\"; write the path that is meant"));
            }
            _ => {}
        }
        Ok(Self { scheme, rest: rest.to_owned() })
    }

    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What follows `://`.
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// What follows `://` up to the first slash, and what follows that: a claim or bucket, and the path in it.
    pub fn split(&self) -> (&str, &str) {
        self.rest.split_once('/').unwrap_or((&self.rest, ""))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.rest)
    }
}
