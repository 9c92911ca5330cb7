//! FNV-1a of 64 bits, for names that the same thing gets again whoever makes it: it is the same in every release.

/// The hash of a text.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
