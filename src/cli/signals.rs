//! Signals that end the process.

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGTERM or SIGINT from now on, also at one that comes before it is awaited: whoever is
/// told that the process serves may end it at once. Where signals cannot be had, it never ends, and the process
/// ends as the system ends it.
pub(super) fn terminate() -> impl Future<Output = ()> {
    let caught = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut term), Ok(mut interrupt)) = caught else {
            tracing::error!("signals cannot be caught; the process will not drain when it is told to end");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
