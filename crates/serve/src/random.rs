//! Numbers that differ from call to call, for seeds and the names of requests. They are no secrets.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that no other call gives, nor another process, but by chance.
pub(crate) fn fresh_number() -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut hasher = KEYS.build_hasher();
    hasher.write_u64(CALLS.fetch_add(1, Ordering::Relaxed));
    hasher.finish()
}

/// Such a number as 32 hexadecimal digits.
pub(crate) fn fresh_name() -> String {
    format!("{:016x}{:016x}", fresh_number(), fresh_number())
}
