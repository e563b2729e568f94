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
    use super::*;
    use crate::{
        recovery::{SessionId, TenantId},
        store::{
            Prefix, Range, Store,
            disk::{Disk, Health},
            records::{Asked, AskedAudio, Begun, BegunAudio, RequestRecord, UnixMillis},
        },
    };

    #[tokio::test]
    async fn a_key_that_nobody_knows_to_be_begun_is_begun_by_whoever_sends_it_again_and_by_one_only() {
        let (disk, records) = Disk::with_records();
        let tenant = TenantId::from("acme");
        let now = UnixMillis(0);
        let asked = Asked { tenant: &tenant, route: "POST /", key: "k", body: b"{}", process: "p", now };
        disk.becomes(Health::Unsure);
        assert!(matches!(records.begin(asked).await, Err(StoreError::Unsure { .. })));
        assert!(matches!(records.begin(asked).await, Err(StoreError::Unsure { .. })), "the disk still fails");
        disk.becomes(Health::Well);
        let other = Asked { body: b"[]", ..asked };
        assert_eq!(records.begin(other).await, Ok(Begun::OtherBody));
        assert!(matches!(records.begin(asked).await, Ok(Begun::New(_))));
        assert_eq!(records.begin(asked).await, Ok(Begun::InFlight));
    }

    #[tokio::test]
    async fn of_audio_that_nobody_knows_to_be_begun_no_request_is_left_behind() {
        let (disk, records) = Disk::with_records();
        let (tenant, session) = (TenantId::from("acme"), SessionId::from("ses_a"));
        let request = |req_id: &str| RequestRecord {
            req_id: req_id.to_owned(),
            accepted_at: UnixMillis(0),
            process: Some("p".to_owned()),
            end: None,
        };
        let (first, second) = (request("r1"), request("r2"));
        let asked = AskedAudio {
            tenant: &tenant,
            route: "POST /",
            key: "k",
            process: "p",
            now: UnixMillis(0),
            session: &session,
            req_id: &first.req_id,
            begins: Some(&first),
        };
        let again = AskedAudio { req_id: &second.req_id, begins: Some(&second), ..asked };
        disk.becomes(Health::Unsure);
        assert!(matches!(records.begin_audio(asked).await, Err(StoreError::Unsure { .. })));
        disk.becomes(Health::Well);
        assert!(matches!(records.begin_audio(again).await, Ok(BegunAudio::New(_))));
        assert_eq!(records.begin_audio(again).await, Ok(BegunAudio::InFlight));
        let left = disk.list(&Range::first(Prefix::new(""))).await.unwrap().entries;
        let of_requests =
            |req_id| left.iter().filter(|entry| entry.key == Key::request(&session, req_id)).count();
        assert_eq!((of_requests("r1"), of_requests("r2")), (0, 1));
    }
}
