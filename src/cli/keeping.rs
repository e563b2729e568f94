//! The store of the process: opened before anything is served, looked after while it serves, closed at its end.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::task::JoinHandle;

use crate::{
    config::{Store as Section, StorePlace},
    store::{
        Bounds, Embedded, Memory, OpenError, Pepper, Records, Store, StoreError, StoreKey, Vault,
        records::UnixMillis,
    },
    telemetry::Metrics,
};

/// How often keys that expired are deleted: they live for a day, so that an hour more is little.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How long after a failure of the store its upkeep is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Why there is no store to serve from. What it holds was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum StoreUnusable {
    /// It cannot be opened.
    #[error("store.url: {0}")]
    Open(#[from] OpenError),
    /// What it holds cannot be read.
    #[error("the store cannot be read: {0}")]
    Read(#[from] StoreError),
}

/// Opens the store that the configuration names, and sees that its key opens what is in it. The pepper
/// is that of the hashes of clients' keys.
///
/// # Errors
///
/// The file cannot be opened, or the key is not the one that it is sealed with.
pub(super) async fn open(
    section: &Section,
    metrics: &Arc<Metrics>,
) -> Result<(Records, Pepper), StoreUnusable> {
    let store: Arc<dyn Store> = match &section.place {
        StorePlace::Memory => Arc::new(Memory::new()),
        StorePlace::Redb(path) => {
            let bounds = Bounds {
                queue: section.commit.queue,
                group: section.commit.group,
                deadline: section.commit.deadline,
            };
            let metrics = Arc::clone(metrics);
            let observer = Arc::new(move |report: crate::store::CommitReport| {
                metrics.store_commit(report.took);
            });
            Arc::new(Embedded::open(path, bounds, observer)?)
        }
    };
    let key = |key: &Option<_>| key.as_ref().map(|bytes: &crate::config::EncryptionKey| StoreKey::new(bytes));
    // What is in memory only is not at rest.
    let allows_plaintext = section.plaintext_secrets || section.place == StorePlace::Memory;
    let vault =
        Vault::new(key(&section.encryption_key), key(&section.encryption_key_previous), allows_plaintext);
    // A key that does not open this record opens none: that is told now, and not session by session.
    let pepper = Pepper::load(&*store, &vault).await?;
    Ok((Records::new(store, Arc::new(vault)), pepper))
}

/// Seals anew what an earlier key has sealed, and says so where there is one, then deletes what expires, for as long as the process serves.
pub(super) fn look_after(records: Records, is_key_changed: bool) -> JoinHandle<()> {
    actix_rt::spawn(async move {
        loop {
            match records.reseal().await {
                Ok(0) if !is_key_changed => break,
                Ok(resealed) => {
                    tracing::info!(resealed, "everything in the store is sealed with store.encryption_key");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "the store could not be sealed anew, it is tried again");
                    tokio::time::sleep(TRY_AGAIN).await;
                    // A record that cannot be read stays so until somebody acts, and must not hold the sweep up.
                    if !error.is_transient() {
                        break;
                    }
                }
            }
        }
        loop {
            let pause = match sweep(&records).await {
                Ok(()) => SWEEP_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "expired idempotency keys could not be deleted, it is tried again");
                    TRY_AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    })
}

async fn sweep(records: &Records) -> Result<(), StoreError> {
    while records.sweep(UnixMillis::from(SystemTime::now())).await? > 0 {}
    Ok(())
}
