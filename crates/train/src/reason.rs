//! Which of the words that programs rely on an error is told by.

use palimpsest_api::FailureReason;

use crate::error::Error;

impl Error {
    /// Why the job fails, in one word.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::User(_) => FailureReason::InvalidJob,
            Self::Refused { reason, .. } => *reason,
            Self::MissingMoment { .. } => FailureReason::CheckpointDamaged,
            Self::Prepare(error) => of_preparation(error),
            Self::Corpus(error) => of_data(error),
            Self::Model(error) => of_model(error),
            Self::Vocab(error) => of_tokenizer(error),
            Self::Store(error) => of_store(error),
            Self::Torch(_) | Self::Tensor(_) => FailureReason::DeviceFailed,
            Self::Thread(_) => FailureReason::WorkerFailed,
            Self::Aborted => FailureReason::Aborted,
        }
    }
}

fn of_preparation(error: &palimpsest_prepare::Error) -> FailureReason {
    use palimpsest_prepare::Error as E;
    match error {
        E::Corpus(error) => of_data(error),
        E::Tokenizer { source, .. } => of_tokenizer(source),
        // Those that name a URI are of datasets that a vocabulary is learned from.
        E::Store(palimpsest_store::Error::NotFound { uri: Some(_), .. }) => FailureReason::DatasetNotFound,
        E::Store(error) => of_store(error),
        E::NoModel(_) => FailureReason::ModelNotFound,
        E::OutputExists(_) => FailureReason::OutputExists,
        _ => FailureReason::InvalidJob,
    }
}

fn of_data(error: &palimpsest_corpus::Error) -> FailureReason {
    use palimpsest_corpus::Error as E;
    match error {
        E::NoFiles { .. } | E::Store(palimpsest_store::Error::NotFound { .. }) => FailureReason::DatasetNotFound,
        E::Record { .. }
        | E::EmptyDataset { .. }
        | E::AllHeldOut { .. }
        | E::NoneHeldOut { .. }
        | E::TooManyDocuments { .. } => FailureReason::DatasetInvalid,
        E::NoEndOfSequence | E::Encoder(_) => FailureReason::TokenizerInvalid,
        E::Store(error) => of_store(error),
        E::Io { source, .. } => of_io(source),
        E::Damaged { .. } => FailureReason::DataChanged,
        E::Cancelled => FailureReason::Aborted,
        _ => FailureReason::InvalidJob,
    }
}

fn of_model(error: &palimpsest_model::Error) -> FailureReason {
    use palimpsest_model::Error as E;
    match error {
        E::Io { source, .. } => of_io(source),
        E::Torch(_) | E::Tch(_) => FailureReason::DeviceFailed,
        _ => FailureReason::ModelInvalid,
    }
}

fn of_tokenizer(error: &palimpsest_vocab::Error) -> FailureReason {
    use palimpsest_vocab::Error as E;
    match error {
        E::NoTokenizer { .. } => FailureReason::TokenizerNotFound,
        E::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => FailureReason::TokenizerNotFound,
        E::Read { source, .. } => of_io(source),
        E::Write(error) => of_store(error),
        E::Stopped => FailureReason::Aborted,
        _ => FailureReason::TokenizerInvalid,
    }
}

fn of_store(error: &palimpsest_store::Error) -> FailureReason {
    use palimpsest_store::Error as E;
    match error {
        E::Uri(_) => FailureReason::InvalidJob,
        E::Unavailable { .. } => FailureReason::Unsupported,
        E::NotMounted { .. } => FailureReason::NotMounted,
        E::NotFound { .. } => FailureReason::NotFound,
        E::DiskFull { .. } => FailureReason::DiskFull,
        E::Exists { .. } => FailureReason::OutputExists,
        E::InUse { .. } => FailureReason::CheckpointInUse,
        E::Interrupted => FailureReason::Aborted,
        E::Superseded { .. } => FailureReason::Superseded,
        E::Forbidden { .. } => FailureReason::Forbidden,
        E::Io { .. } => FailureReason::StorageFailed,
    }
}

fn of_io(error: &std::io::Error) -> FailureReason {
    of_store(&palimpsest_store::Error::io("use", std::path::Path::new(""), std::io::Error::from(error.kind())))
}
