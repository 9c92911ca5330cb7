//! Why a job fails, in one word that programs can rely on.

use std::fmt;

/// Why a job fails. The word is the reason of the condition Failed, and never changes its meaning; the message beside it is for
/// people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FailureReason {
    /// The job asks for what cannot be.
    InvalidJob,
    /// A URI's scheme or a precision that this build does not serve.
    Unsupported,
    /// A file or folder that is none of those below is absent.
    NotFound,
    /// The claim of a `pvc://` URI is not mounted in the worker.
    NotMounted,
    /// A dataset's file or folder is absent, or holds no file of its format.
    DatasetNotFound,
    /// A record of a dataset cannot be used, or too little of it can.
    DatasetInvalid,
    /// The model, or the checkpoint to begin from, is absent.
    ModelNotFound,
    /// The model's files cannot be used.
    ModelInvalid,
    /// The tokenizer is absent.
    TokenizerNotFound,
    /// The tokenizer cannot be used, learned or extended.
    TokenizerInvalid,
    /// The output is there already, and not this job's.
    OutputExists,
    /// The checkpoints are of a job that differs.
    CheckpointConflict,
    /// Another job's workers write checkpoints there.
    CheckpointInUse,
    /// There are checkpoints and none is whole.
    CheckpointDamaged,
    /// The data or the tokenizer is not what the checkpoints were trained on.
    DataChanged,
    /// The loss was a spike, and `spikes.action` is Fail.
    LossSpike,
    /// The disk or a quota is used up.
    DiskFull,
    /// The worker may not read or write there.
    Forbidden,
    /// A newer attempt has begun: this one ends.
    Superseded,
    /// The rank was told to stop at once.
    Aborted,
    /// The worker's machine or pod is taken away.
    Leaving,
    /// The rank was killed (signal 9), most often because memory ran out.
    RankKilled,
    /// The rank ended without a word.
    RankCrashed,
    /// libtorch or the device failed.
    DeviceFailed,
    /// A disk or network failed.
    StorageFailed,
    /// Something else within the worker.
    WorkerFailed,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::InvalidJob,
        Self::Unsupported,
        Self::NotFound,
        Self::NotMounted,
        Self::DatasetNotFound,
        Self::DatasetInvalid,
        Self::ModelNotFound,
        Self::ModelInvalid,
        Self::TokenizerNotFound,
        Self::TokenizerInvalid,
        Self::OutputExists,
        Self::CheckpointConflict,
        Self::CheckpointInUse,
        Self::CheckpointDamaged,
        Self::DataChanged,
        Self::LossSpike,
        Self::DiskFull,
        Self::Forbidden,
        Self::Superseded,
        Self::Aborted,
        Self::Leaving,
        Self::RankKilled,
        Self::RankCrashed,
        Self::DeviceFailed,
        Self::StorageFailed,
        Self::WorkerFailed,
    ];
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handbook_lists_each_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/worker.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, section) = text.split_once("## Reasons").unwrap();
        let rows = section.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0));
        let listed: Vec<&str> = rows.collect();
        assert_eq!(listed, FailureReason::ALL.map(|reason| reason.to_string()));
    }
}
