//! How far a server is on its way out.

use tokio::sync::watch;

/// How far a server is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It takes requests.
    Serving,
    /// It says that it is not ready, and still takes requests, for a time.
    Leaving,
    /// It takes none any more and ends those under way.
    Draining,
    /// What is still under way is cut off.
    Closing,
}

/// Waits until a server is as far as that.
pub(crate) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // Where nobody changes it any more, the server is gone.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}
