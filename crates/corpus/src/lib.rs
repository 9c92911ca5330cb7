//! Documents to hold-out to streams to bins to buckets to packed sequences. No torch.
//!
//! ```text
//! files ── read ──► documents ── hold out ──► held-out documents (evaluation)
//!                       │
//!                       └─ tokenise ──► a stream per dataset: a seeded order, then another ..
//!                                          │ a stage takes its share, cut in K bins
//!                                          ▼
//!                                       bucket k = bin k of every dataset ── pack, shuffle ──► sequences (Arrow)
//! ```
//!
//! [`prepare`] does it all and leaves a [`Plan`]; a [`StageReader`] reads its sequences, a [`HeldOut`] what is evaluated on.

mod arrow_file;
mod certificate;
mod compile;
mod digest;
mod encoder;
mod error;
mod held_out;
mod hold_out;
mod inspect;
mod pack;
mod packed;
mod plan;
mod prepare;
mod progress;
mod reader;
mod source;
mod staging;
mod stream;
mod texts;
mod tokenized;
mod words;

pub use certificate::{Amount, Certificate, DatasetCertificate, PackingTotals, StageCertificate};
pub use encoder::{EncodedDocument, EncoderError, TextEncoder};
pub use error::{Error, Place, RecordProblem, Result, Unit};
pub use held_out::HeldOut;
pub use inspect::{InspectedPiece, InspectedSequence, Inspector};
pub use packed::IGNORED;
pub use plan::{BinPlan, BucketPlan, DatasetPlan, HeldOutPlan, Plan, StagePlan};
pub use prepare::{PrepareRequest, prepare};
pub use progress::{Phase, Progress};
pub use reader::{PieceOrigin, Sequence, StageReader};
pub use texts::{Texts, all_texts, dataset_of, documents, left_out_files, left_out_warning, texts};
pub use words::count_words;
