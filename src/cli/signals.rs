//! Signals that end the process, and the one that has it look at its files.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

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

/// Notifies `reload` at each SIGHUP from now on, which does not end the process any more.
pub(super) fn reload_on_hangup(reload: Arc<Notify>) {
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => {
            actix_rt::spawn(async move {
                while hangup.recv().await.is_some() {
                    tracing::info!("told to look at the certificate files");
                    reload.notify_one();
                }
            });
        }
        Err(error) => tracing::error!(%error, "SIGHUP cannot be caught, and would end the process"),
    }
}
