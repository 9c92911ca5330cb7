//! Which documents are held out: by the hash of the text, so that every job holds out the same.

use palimpsest_api::Dataset;

/// The salt of the hash, fixed for ever: another would hold out other documents, which jobs before may have trained on.
const SALT: &str = "palimpsest.dev 2026 held-out documents";

/// Documents whose text hashes below this are held out; at most 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldOutThreshold(u128);

impl HoldOutThreshold {
    /// That of a dataset: its fraction of all hashes.
    pub(crate) fn of(dataset: &Dataset) -> Self {
        Self::from_fraction(dataset.hold_out.as_ref().map_or(0.0, |hold_out| hold_out.fraction.value()))
    }

    fn from_fraction(fraction: f64) -> Self {
        // Scaling by a power of two is exact, and an integer is below x iff it is below ceil(x).
        Self((fraction.clamp(0.0, 1.0) * 2f64.powi(64)).ceil() as u128)
    }

    /// Whether a document of this text is held out: hash / 2^64 < fraction.
    pub(crate) fn holds_out(self, text: &str) -> bool {
        self.0 > 0 && u128::from(hash(text)) < self.0
    }

    /// What identifies it.
    pub(crate) fn key(self) -> String {
        format!("{:x}", self.0)
    }
}

/// 64 bits of the text's salted BLAKE3 hash.
fn hash(text: &str) -> u64 {
    let digest = blake3::derive_key(SALT, text.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_is_held_out_whatever_else_is() {
        let texts: Vec<String> = (0..20_000).map(|index| format!("text {index}")).collect();
        let held = |fraction: f64| -> Vec<bool> {
            let threshold = HoldOutThreshold::from_fraction(fraction);
            texts.iter().map(|text| threshold.holds_out(text)).collect()
        };
        let (five, ten) = (held(0.05), held(0.1));
        assert!(
            five.iter().zip(&ten).all(|(five, ten)| !five || *ten),
            "a larger fraction holds out the same and more"
        );
        let count = ten.iter().filter(|held| **held).count();
        assert!(count.abs_diff(2000) < 150, "{count}");
        assert!(held(0.0).iter().all(|held| !held));
        assert!(held(1.0).iter().all(|held| *held));
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash("a palimpsest"), PINNED);
    }

    const PINNED: u64 = 12009202057116966370;
}
