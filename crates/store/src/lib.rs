//! One URI in, bytes out; claims and manifests.
//!
//! Whatever is written appears whole or not at all: beside its place first, then synced, then renamed. Two writers
//! settle who comes first by creating a file exclusively.

mod attempts;
mod claim;
mod digest;
mod error;
mod lease;
mod list;
mod location;
mod publish;
mod run_folder;
mod write;

pub use attempts::{Fence, newest_attempt};
pub use claim::{Claim, create_exclusively};
pub use digest::{sha256_bytes, sha256_file};
pub use error::{Error, Result};
pub use lease::{Lease, LeaseTimes};
pub use list::{Entry, list};
pub use location::{Location, Mounts};
pub use publish::{publish_folder, remove_abandoned, staging_folder, staging_folder_of_attempt};
pub use run_folder::RunFolder;
pub use write::{sync_folder, write_atomically, write_atomically_with};
