//! SIGHUP: the configuration file is read again.

use tokio::signal::unix::{SignalKind, signal};

use crate::manager::Reloader;

/// Reads the configuration file again at each SIGHUP from now on, which does not end the process any more.
pub(super) fn on_hangup(reloader: Reloader) {
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => {
            actix_rt::spawn(async move {
                while hangup.recv().await.is_some() {
                    if let Err(refused) = reloader.reload().await {
                        for reason in refused.reasons() {
                            tracing::error!(reason, "configuration refused, nothing has changed");
                        }
                    }
                }
            });
        }
        Err(error) => tracing::error!(%error, "SIGHUP cannot be caught, and would end the process"),
    }
}
