//! Who comes first: a file that only one of several writers can create.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::write::{folder_of, write_beside};
use crate::{Error, Result, sync_folder};

/// The outcome of [`create_exclusively`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The file is ours.
    Won,
    /// Somebody was first; this is what they wrote.
    Lost(Vec<u8>),
}

/// Creates `path` with `bytes`, unless it exists. Of several writers exactly one wins, and no reader ever sees a part.
pub fn create_exclusively(path: &Path, bytes: &[u8]) -> Result<Claim> {
    let temporary = write_beside(path, |file| file.write_all(bytes))?;
    match temporary.persist_noclobber(path) {
        Ok(_) => sync_folder(&folder_of(path)).map(|()| Claim::Won),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            fs::read(path).map(Claim::Lost).map_err(|source| Error::io("read", path, source))
        }
        Err(error) => Err(Error::io("claim", path, error.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_many_wins_and_the_others_learn_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints/attempt-3");
        let claims: Vec<Claim> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16u8)
                .map(|writer| {
                    let path = &path;
                    scope.spawn(move || create_exclusively(path, &[writer; 1000]).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(claims.iter().filter(|claim| **claim == Claim::Won).count(), 1);
        let winner = claims.iter().position(|claim| *claim == Claim::Won).unwrap();
        assert_eq!(fs::read(&path).unwrap(), vec![winner as u8; 1000]);
        assert!(
            claims.iter().all(|claim| matches!(claim, Claim::Won) || *claim == Claim::Lost(vec![winner as u8; 1000]))
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
