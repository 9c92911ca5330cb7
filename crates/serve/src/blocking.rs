//! Work that takes too long for a thread by which others are served.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Threads for such work, of which so many work at once. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Blocking {
    places: Arc<Semaphore>,
}

impl Blocking {
    pub(crate) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)) }
    }

    /// What comes of some work; nothing where it panics. The work holds its place to its end: whoever asked for it and has gone meanwhile
    /// cannot ask for more than there are places.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let work = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_leaves_gives_no_place_to_others_while_the_work_goes_on() {
        let blocking = Blocking::new(1);
        let (end, ended) = mpsc::channel::<()>();
        let left = blocking.run(move || ended.recv().is_ok());
        assert!(tokio::time::timeout(Duration::from_millis(20), left).await.is_err());
        let next = tokio::time::timeout(Duration::from_millis(50), blocking.run(|| ()));
        assert!(next.await.is_err(), "two work at once");
        end.send(()).unwrap();
        assert_eq!(blocking.run(|| 7).await, Some(7));
        assert_eq!(blocking.run(|| panic!("for the test")).await, None::<()>);
        assert_eq!(blocking.run(|| 8).await, Some(8));
    }
}
