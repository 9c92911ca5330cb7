//! The parts of SentencePiece's `sentencepiece_model.proto` that decide ids, as protobuf messages.

/// A model: its pieces and how text is brought into their form.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    pub(crate) trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    pub(crate) normalizer_spec: Option<NormalizerSpec>,
    #[prost(message, optional, tag = "5")]
    pub(crate) denormalizer_spec: Option<NormalizerSpec>,
}

/// A piece; its id is its position.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PieceProto {
    #[prost(string, optional, tag = "1")]
    pub(crate) piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub(crate) score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) kind: Option<i32>,
}

/// How the model was trained, and a few things that encoding reads.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    pub(crate) model_type: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) vocab_size: Option<i32>,
    #[prost(float, optional, tag = "10")]
    pub(crate) character_coverage: Option<f32>,
    #[prost(int32, optional, tag = "20")]
    pub(crate) max_sentencepiece_length: Option<i32>,
    #[prost(bool, optional, tag = "21")]
    pub(crate) split_by_unicode_script: Option<bool>,
    #[prost(bool, optional, tag = "22")]
    pub(crate) split_by_whitespace: Option<bool>,
    #[prost(bool, optional, tag = "23")]
    pub(crate) split_by_number: Option<bool>,
    #[prost(bool, optional, tag = "24")]
    pub(crate) treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "25")]
    pub(crate) split_digits: Option<bool>,
    #[prost(bool, optional, tag = "26")]
    pub(crate) allow_whitespace_only_pieces: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    pub(crate) byte_fallback: Option<bool>,
    #[prost(int32, optional, tag = "40")]
    pub(crate) unk_id: Option<i32>,
    #[prost(int32, optional, tag = "41")]
    pub(crate) bos_id: Option<i32>,
    #[prost(int32, optional, tag = "42")]
    pub(crate) eos_id: Option<i32>,
    #[prost(int32, optional, tag = "43")]
    pub(crate) pad_id: Option<i32>,
    #[prost(string, optional, tag = "44")]
    pub(crate) unk_surface: Option<String>,
    #[prost(string, optional, tag = "45")]
    pub(crate) unk_piece: Option<String>,
    #[prost(string, optional, tag = "46")]
    pub(crate) bos_piece: Option<String>,
    #[prost(string, optional, tag = "47")]
    pub(crate) eos_piece: Option<String>,
}

/// How text is normalised.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NormalizerSpec {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(crate) escape_whitespaces: Option<bool>,
}

/// Kinds of model, as numbered in the format.
pub(crate) mod model_type {
    pub(crate) const UNIGRAM: i32 = 1;
    pub(crate) const BPE: i32 = 2;
    pub(crate) const WORD: i32 = 3;
    pub(crate) const CHAR: i32 = 4;
}

/// Kinds of piece, as numbered in the format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub(crate) enum Kind {
    /// Found in text.
    Normal = 1,
    /// Stands for what the vocabulary cannot spell.
    Unknown = 2,
    /// Never found in text: `<s>`, `</s>`.
    Control = 3,
    /// Found in text before anything else, and never merged.
    UserDefined = 4,
    /// Found, then taken apart again.
    Unused = 5,
    /// One byte of a character that the vocabulary lacks.
    Byte = 6,
}

impl Kind {
    pub(crate) fn of(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// Whether text can match it.
    pub(crate) fn in_text(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined | Self::Unused)
    }
}
