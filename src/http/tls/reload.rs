//! New certificates without a restart.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::Notify;

use super::ListenerTls;
use crate::config::{LoadedTls, TlsMistake};

/// How often the files are looked at. They are a few kilobytes each, and whoever renews a certificate looks
/// whether it came.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Why the files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It is time.
    ByTime,
    /// Somebody wants to know what becomes of them now.
    ByOperator,
}

/// What is known of one listener's files.
struct Watched {
    tls: Arc<ListenerTls>,
    /// The files that are served, or that were found bad and told.
    settled: Option<u64>,
    /// Bad files that were seen once. A renewal writes one file after the other, so that for a moment the key is
    /// not the certificate's: what is bad is told only when it stays.
    doubted: Option<u64>,
}

/// What a look at the files gives.
struct Look {
    fingerprint: u64,
    loaded: Result<LoadedTls, TlsMistake>,
}

fn look(tls: &ListenerTls) -> Look {
    match tls.files.read() {
        Ok(files) => {
            Look { fingerprint: files.fingerprint(), loaded: tls.files.load(&files, SystemTime::now()) }
        }
        // Files that cannot be read are all the same: there is nothing to tell them apart by.
        Err(mistake) => Look { fingerprint: 0, loaded: Err(mistake) },
    }
}

impl Watched {
    fn take(&mut self, Look { fingerprint, loaded }: Look, asked: Asked) {
        let (section, metrics) = (self.tls.section, &self.tls.metrics);
        if self.settled == Some(fingerprint) && asked == Asked::ByTime {
            self.doubted = None;
            return;
        }
        match loaded {
            Ok(LoadedTls { server, expires }) => {
                self.tls.current.store(server);
                metrics.loaded(expires);
                metrics.reloaded();
                let expires = humantime::format_rfc3339_seconds(expires).to_string();
                tracing::info!(listener = section, expires, "certificate loaded");
            }
            Err(_) if asked == Asked::ByTime && self.doubted != Some(fingerprint) => {
                self.doubted = Some(fingerprint);
                return;
            }
            Err(mistake) => {
                metrics.reload_failed();
                tracing::error!(
                    listener = section, %mistake,
                    "the new certificate cannot be used, and the old one is served on"
                );
            }
        }
        self.settled = Some(fingerprint);
        self.doubted = None;
    }
}

/// Looks at the files of `listeners` every few seconds and whenever `asked` is notified. Ends never.
pub async fn watch(listeners: Vec<Arc<ListenerTls>>, asked: Arc<Notify>) {
    let mut watched: Vec<Watched> = listeners
        .into_iter()
        .map(|tls| Watched { settled: Some(tls.first_loaded), tls, doubted: None })
        .collect();
    loop {
        let why = tokio::select! {
            () = tokio::time::sleep(CHECK_EVERY) => Asked::ByTime,
            () = asked.notified() => Asked::ByOperator,
        };
        for one in &mut watched {
            let tls = Arc::clone(&one.tls);
            // Files may be on a slow network; nothing else waits for them.
            if let Ok(look) = tokio::task::spawn_blocking(move || look(&tls)).await {
                one.take(look, why);
            }
        }
    }
}
