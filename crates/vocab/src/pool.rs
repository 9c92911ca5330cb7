//! Buffers that threads borrow while they encode.

use std::sync::Mutex;

/// A pool of buffers; a clone of its owner starts with an empty one.
#[derive(Debug, Default)]
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    /// Runs `work` with a buffer of its own.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let borrowed = self.0.lock().ok().and_then(|mut pool| pool.pop());
        let mut buffer = borrowed.unwrap_or_default();
        let result = work(&mut buffer);
        if let Ok(mut pool) = self.0.lock() {
            pool.push(buffer);
        }
        result
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Mutex::new(Vec::new()))
    }
}
