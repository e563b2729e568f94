//! Idempotency keys that may have been written as begun though nobody has them in hand: the disk failed, or was late,
//! while they were.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::store::{Key, StoreError};

/// The most that are remembered, some 200 bytes each: a failed disk refuses calls at once, so that it leaves few. Of
/// one beyond, whoever sends it again is told that it is in use, until the process ends or it expires.
const MAX: usize = 10_000;

/// The keys. Clones share them.
#[derive(Clone, Debug, Default)]
pub(in crate::store::records) struct Orphans(Arc<Mutex<BTreeSet<Key>>>);

impl Orphans {
    fn keys(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        // A set is whole after each statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how the beginning of `key` went.
    pub(super) fn note<T>(&self, key: &Key, begun: &Result<T, StoreError>) {
        let mut keys = self.keys();
        match begun {
            Ok(_) => {
                keys.remove(key);
            }
            Err(error) if error.may_be_written() && keys.len() < MAX => {
                keys.insert(key.clone());
            }
            Err(_) => {}
        }
    }

    /// Whether nobody has this key in hand, as far as it was begun by this process.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys().contains(key)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{
        recovery::{SessionId, TenantId},
        store::{
            Answer, Batch, Entry, Memory, Page, Prefix, Range, Revision, Store, Vault, Watch,
            records::{Asked, AskedAudio, Begun, BegunAudio, Records, RequestRecord, UnixMillis},
        },
    };

    /// A store that writes and, at command, does not know that it did.
    #[derive(Debug, Default)]
    struct Forgetful {
        memory: Memory,
        is_unsure: AtomicBool,
    }

    impl Store for Forgetful {
        fn get(&self, key: &Key) -> Answer<Option<Entry>> {
            self.memory.get(key)
        }

        fn list(&self, range: &Range) -> Answer<Page> {
            self.memory.list(range)
        }

        fn commit(&self, batch: Batch) -> Answer<Revision> {
            let written = self.memory.commit(batch);
            let is_unsure = self.is_unsure.load(Ordering::Relaxed);
            Box::pin(async move {
                let revision = written.await?;
                let reason = "the disk failed".to_owned();
                if is_unsure { Err(StoreError::Unsure { reason }) } else { Ok(revision) }
            })
        }

        fn watch(&self, prefix: &Prefix) -> Watch {
            self.memory.watch(prefix)
        }

        fn trouble(&self) -> Option<String> {
            None
        }

        fn close(&self) -> Answer<()> {
            self.memory.close()
        }
    }

    fn desk() -> (Arc<Forgetful>, Records) {
        let store = Arc::new(Forgetful::default());
        (Arc::clone(&store), Records::new(store, Arc::new(Vault::default())))
    }

    #[tokio::test]
    async fn a_key_that_nobody_knows_to_be_begun_is_begun_by_whoever_sends_it_again_and_by_one_only() {
        let (store, records) = desk();
        let tenant = TenantId::from("acme");
        let now = UnixMillis(0);
        let asked = Asked { tenant: &tenant, route: "POST /", key: "k", body: b"{}", process: "p", now };
        store.is_unsure.store(true, Ordering::Relaxed);
        assert!(matches!(records.begin(asked).await, Err(StoreError::Unsure { .. })));
        assert!(matches!(records.begin(asked).await, Err(StoreError::Unsure { .. })), "the disk still fails");
        store.is_unsure.store(false, Ordering::Relaxed);
        let other = Asked { body: b"[]", ..asked };
        assert_eq!(records.begin(other).await, Ok(Begun::OtherBody));
        assert!(matches!(records.begin(asked).await, Ok(Begun::New(_))));
        assert_eq!(records.begin(asked).await, Ok(Begun::InFlight));
    }

    #[tokio::test]
    async fn of_audio_that_nobody_knows_to_be_begun_no_request_is_left_behind() {
        let (store, records) = desk();
        let (tenant, session) = (TenantId::from("acme"), SessionId::from("ses_a"));
        let request = |req_id: &str| RequestRecord {
            req_id: req_id.to_owned(),
            accepted_at: UnixMillis(0),
            process: Some("p".to_owned()),
            end: None,
        };
        let (first, second) = (request("r1"), request("r2"));
        fn asked<'a>(
            tenant: &'a TenantId,
            session: &'a SessionId,
            begins: &'a RequestRecord,
        ) -> AskedAudio<'a> {
            AskedAudio {
                tenant,
                route: "POST /",
                key: "k",
                process: "p",
                now: UnixMillis(0),
                session,
                req_id: &begins.req_id,
                begins: Some(begins),
            }
        }
        let asked = |begins| asked(&tenant, &session, begins);
        store.is_unsure.store(true, Ordering::Relaxed);
        assert!(matches!(records.begin_audio(asked(&first)).await, Err(StoreError::Unsure { .. })));
        store.is_unsure.store(false, Ordering::Relaxed);
        assert!(matches!(records.begin_audio(asked(&second)).await, Ok(BegunAudio::New(_))));
        assert_eq!(records.begin_audio(asked(&second)).await, Ok(BegunAudio::InFlight));
        let left = store.list(&Range::first(Prefix::new(""))).await.unwrap().entries;
        let of_requests =
            |req_id| left.iter().filter(|entry| entry.key == Key::request(&session, req_id)).count();
        assert_eq!((of_requests("r1"), of_requests("r2")), (0, 1));
    }
}
