//! Changes of the tenants: one at a time, written first, then applied.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{
    Apply, Dismiss, Roster, TenantDefaults,
    change::{KeyMade, KeyName, TenantPatch, TenantRefused},
    terms::keys_of_file,
};
use crate::{
    config,
    events::{TenantAction, What},
    manager::{ManagerHandle, Unreachable},
    recovery::{Policy, TenantId},
    session::{Operation, TenantRuntime, TenantTerms},
    store::{
        Batch, Expect, Pepper, Records, StoreError,
        records::{ClientKeyRecord, Kept, StoredAnswer, TenantRecord, Ticket, UnixMillis},
    },
    telemetry::Metrics,
};

/// What every key begins with, so that a leaked one is recognised for what it is.
const KEY_PREFIX: &str = "grk_";
/// Random bytes of a key.
const KEY_BYTES: usize = 32;
/// Keys of a tenant at most: some backends with two each, while they are being changed.
const MAX_KEYS: usize = 64;
/// Tenants at most: each change makes the roster anew, which takes microseconds for each.
const MAX_TENANTS: usize = 10_000;
/// How long the connections of a tenant that leaves may take to be closed; one takes a second at most. What is left
/// then is closed all the same, and the next process finishes the rest.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);
/// How often a change is tried that somebody else was quicker than; the store seals records anew beside us.
const TRIES: usize = 3;

/// The answer to whoever made something, kept with it, and the right to give it.
pub struct TenantPromise<T> {
    /// The right to give it.
    pub ticket: Ticket,
    /// Makes it.
    pub answer: Box<dyn FnOnce(&T) -> StoredAnswer + Send>,
}

/// A tenant that was just made.
pub struct TenantMade {
    /// The tenant.
    pub runtime: Arc<TenantRuntime>,
    /// Its first key.
    pub key: KeyMade,
}

/// What is known of the tenants.
pub(super) struct Book {
    pub(super) defaults: TenantDefaults,
    pub(super) file: Vec<config::Tenant>,
    pub(super) api: BTreeMap<TenantId, TenantRecord>,
    pub(super) runtimes: BTreeMap<TenantId, Arc<TenantRuntime>>,
}

impl Book {
    /// The terms of every tenant.
    pub(super) fn terms(&self) -> BTreeMap<TenantId, TenantTerms> {
        let file = self.file.iter().map(|tenant| self.defaults.of_file(tenant));
        let api = self.api.values().map(|record| self.defaults.of_record(record));
        file.chain(api).map(|terms| (terms.tenant.id.clone(), terms)).collect()
    }

    pub(super) fn roster(&self, pepper: &Arc<Pepper>) -> Roster {
        let mut roster = Roster::new(Arc::clone(pepper));
        for tenant in &self.file {
            if let Some(runtime) = self.runtimes.get(&tenant.id) {
                roster.add(Arc::clone(runtime), &keys_of_file(tenant, pepper), true);
            }
        }
        for record in self.api.values() {
            if let Some(runtime) = self.runtimes.get(&record.id) {
                roster.add(Arc::clone(runtime), &record.keys, false);
            }
        }
        roster
    }

    fn is_of_file(&self, id: &TenantId) -> bool {
        self.file.iter().any(|tenant| tenant.id == *id)
    }
}

pub(super) struct Shared {
    pub(super) manager: ManagerHandle,
    pub(super) records: Records,
    pub(super) pepper: Arc<Pepper>,
    pub(super) metrics: Arc<Metrics>,
    /// The action for each code, for a tenant that has none of its own.
    pub(super) policy: ArcSwap<Policy>,
    /// Held over a whole change: changes are rare, and each builds on the one before.
    pub(super) book: Mutex<Book>,
}

/// The one writer of tenants.
#[derive(Clone)]
pub struct TenantBook(pub(super) Arc<Shared>);

impl TenantBook {
    /// The action for each code, for a tenant that has none of its own.
    pub fn policy(&self) -> Arc<Policy> {
        self.0.policy.load_full()
    }

    /// Makes a tenant with its first key. Both are durable when this answers.
    ///
    /// # Errors
    ///
    /// There is no tenant then.
    pub async fn create(
        &self,
        id: &str,
        patch: &TenantPatch,
        key: KeyName,
        promise: Option<TenantPromise<TenantMade>>,
    ) -> Result<(TenantMade, Option<StoredAnswer>), TenantRefused> {
        let now = SystemTime::now();
        let mut record = patch.record(id, now)?;
        let key = self.fresh_key(&mut record, key, now)?;
        let mut book = self.0.book.lock().await;
        if book.runtimes.contains_key(id) {
            return Err(TenantRefused::Exists);
        }
        if book.runtimes.len() >= MAX_TENANTS {
            return Err(TenantRefused::TooMany { max: MAX_TENANTS });
        }
        let terms = book.defaults.of_record(&record);
        let runtime = Arc::new(TenantRuntime::new(terms, self.0.metrics.tenant(&record.id)));
        let made = TenantMade { runtime: Arc::clone(&runtime), key };
        let records = &self.0.records;
        let batch = records.stage_tenant(Batch::new(), &record, Expect::Absent)?;
        let (batch, answer) = stage(records, batch, promise, &made)?;
        match records.commit(batch).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => return Err(TenantRefused::Exists),
            Err(error) => {
                self.settle(&mut book, &record.id, &error).await;
                return Err(error.into());
            }
        }
        book.runtimes.insert(record.id.clone(), runtime);
        book.api.insert(record.id.clone(), record);
        self.apply(&book).await?;
        self.tell(&TenantId::from(id), TenantAction::Created);
        Ok((made, answer))
    }

    /// Changes a tenant; durable when this answers, and holding for whatever begins from then on.
    ///
    /// # Errors
    ///
    /// It is as it was, unless the store is not sure.
    pub async fn change(&self, id: &str, patch: &TenantPatch) -> Result<(), TenantRefused> {
        let mistakes = patch.mistakes();
        if !mistakes.is_empty() {
            return Err(TenantRefused::Invalid(mistakes));
        }
        let edit = |record: &mut TenantRecord| {
            patch.apply(record);
            Ok(())
        };
        self.edit::<()>(id, edit, None).await.map(drop)
    }

    /// Makes one more key of a tenant, durable when this answers.
    ///
    /// # Errors
    ///
    /// There is no such key then, unless the store is not sure.
    pub async fn add_key(
        &self,
        id: &str,
        name: KeyName,
        promise: Option<TenantPromise<KeyMade>>,
    ) -> Result<(KeyMade, Option<StoredAnswer>), TenantRefused> {
        let now = SystemTime::now();
        let secret = random_key();
        let made = KeyMade { name: name.clone(), key: secret.clone() };
        let edit = |record: &mut TenantRecord| self.keep_key(record, &name, &secret, now);
        let answer = self.edit(id, edit, promise.map(|promise| (promise, &made))).await?;
        Ok((made, answer))
    }

    /// Ends a key: whoever presents it from now on is nobody.
    ///
    /// # Errors
    ///
    /// The key is still one, unless the store is not sure.
    pub async fn remove_key(&self, id: &str, name: &str) -> Result<(), TenantRefused> {
        let edit = |record: &mut TenantRecord| {
            let before = record.keys.len();
            record.keys.retain(|key| key.name != name);
            if record.keys.len() == before { Err(TenantRefused::UnknownKey) } else { Ok(()) }
        };
        self.edit::<()>(id, edit, None).await.map(drop)
    }

    /// Deletes a tenant: its keys end, its connections are closed, its sessions are forgotten. Decided for good when
    /// this answers.
    ///
    /// # Errors
    ///
    /// It is as it was, unless the store is not sure.
    pub async fn delete(&self, id: &str) -> Result<(), TenantRefused> {
        let mut book = self.0.book.lock().await;
        let id = TenantId::from(id);
        let leave = |record: &mut TenantRecord| {
            record.is_leaving = true;
            record.keys.clear();
            Ok(())
        };
        self.write::<()>(&mut book, &id, leave, None).await?;
        book.api.remove(&id);
        let Some(runtime) = book.runtimes.remove(&id) else { return Ok(()) };
        self.apply(&book).await?;
        self.dismiss(&runtime, Operation::Delete).await;
        self.tell(&id, TenantAction::Deleted);
        self.0.manager.flush().await;
        if let Err(error) = self.forget(&id).await {
            tracing::warn!(tenant = %id, %error, "what is left of a deleted tenant is removed at the next start");
        }
        Ok(())
    }

    /// Waits until a tenant that the roster has no more is gone.
    pub(super) async fn dismiss(&self, runtime: &Arc<TenantRuntime>, operation: Operation) {
        let dismiss = Dismiss { runtime: Arc::clone(runtime), operation };
        if self.0.manager.ask_manager_within(LEAVE_WITHIN, dismiss).await.is_err() {
            tracing::warn!(tenant = %runtime.id, "connections of a tenant that leaves are not closed in time");
        }
    }

    async fn forget(&self, id: &TenantId) -> Result<(), StoreError> {
        let Some(Kept { revision, .. }) = self.0.records.tenant(id).await? else { return Ok(()) };
        let batch = self.0.records.stage_tenant_removal(Batch::new(), id, Expect::At(revision));
        self.0.records.commit(batch).await.map(drop)
    }

    /// Writes a changed record and makes it hold.
    async fn edit<T>(
        &self,
        id: &str,
        edit: impl Fn(&mut TenantRecord) -> Result<(), TenantRefused>,
        promise: Option<(TenantPromise<T>, &T)>,
    ) -> Result<Option<StoredAnswer>, TenantRefused> {
        let mut book = self.0.book.lock().await;
        let answer = self.write(&mut book, &TenantId::from(id), edit, promise).await?;
        self.apply(&book).await?;
        self.tell(&TenantId::from(id), TenantAction::Changed);
        Ok(answer)
    }

    async fn write<T>(
        &self,
        book: &mut Book,
        id: &TenantId,
        edit: impl Fn(&mut TenantRecord) -> Result<(), TenantRefused>,
        mut promise: Option<(TenantPromise<T>, &T)>,
    ) -> Result<Option<StoredAnswer>, TenantRefused> {
        if book.is_of_file(id) {
            return Err(TenantRefused::ManagedByFile);
        }
        if !book.api.contains_key(id) {
            return Err(TenantRefused::Unknown);
        }
        let records = &self.0.records;
        let mut answer = None;
        let mut tries = 0;
        loop {
            let kept = records.tenant(id).await?.ok_or(TenantRefused::Unknown)?;
            let mut record = kept.record;
            edit(&mut record)?;
            let batch = records.stage_tenant(Batch::new(), &record, Expect::At(kept.revision))?;
            let batch = match promise.take() {
                Some((TenantPromise { ticket, answer: make }, made)) => {
                    let made = make(made);
                    let kept = answer.insert((ticket, made));
                    records.stage_answer(batch, &kept.0, &kept.1, true)?
                }
                None => match &answer {
                    Some((ticket, made)) => records.stage_answer(batch, ticket, made, true)?,
                    None => batch,
                },
            };
            match records.commit(batch).await {
                Ok(_) => {
                    book.api.insert(id.clone(), record);
                    return Ok(answer.map(|(_, answer)| answer));
                }
                Err(StoreError::Conflict { .. }) if tries < TRIES => tries += 1,
                Err(error) => {
                    self.settle(book, id, &error).await;
                    return Err(error.into());
                }
            }
        }
    }

    /// After a commit of which nobody knows whether it was one, what is in the store is what holds: it must not
    /// begin to hold at the next start.
    async fn settle(&self, book: &mut Book, id: &TenantId, error: &StoreError) {
        if !error.may_be_written() {
            return;
        }
        match self.0.records.tenant(id).await {
            Ok(Some(Kept { record, .. })) => {
                let terms = book.defaults.of_record(&record);
                let make = || Arc::new(TenantRuntime::new(terms, self.0.metrics.tenant(id)));
                book.runtimes.entry(id.clone()).or_insert_with(make);
                book.api.insert(id.clone(), record);
                // The caller is told the store's error already.
                let _unreachable = self.apply(book).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(tenant = %id, %error, "a tenant cannot be read after a failed commit")
            }
        }
    }

    pub(super) fn tell(&self, id: &TenantId, action: TenantAction) {
        let manager = &self.0.manager;
        let what = What::Tenant { action, code: None, quota: None };
        manager.journal().chronicle().tell(manager.clock().now(), Some(id.clone()), what);
    }

    /// Makes what the book says hold.
    pub(super) async fn apply(&self, book: &Book) -> Result<(), Unreachable> {
        let terms = book.terms();
        let changed = terms
            .into_iter()
            .filter_map(|(id, terms)| Some((Arc::clone(book.runtimes.get(&id)?), terms)))
            .collect();
        self.0.manager.ask_manager(Apply { roster: book.roster(&self.0.pepper), changed }).await
    }

    fn fresh_key(
        &self,
        record: &mut TenantRecord,
        name: KeyName,
        now: SystemTime,
    ) -> Result<KeyMade, TenantRefused> {
        let key = random_key();
        self.keep_key(record, &name, &key, now)?;
        Ok(KeyMade { name, key })
    }

    fn keep_key(
        &self,
        record: &mut TenantRecord,
        name: &KeyName,
        key: &SecretString,
        now: SystemTime,
    ) -> Result<(), TenantRefused> {
        let mistakes = name.mistakes(now);
        if !mistakes.is_empty() {
            return Err(TenantRefused::Invalid(mistakes));
        }
        if record.keys.iter().any(|known| known.name == name.name) {
            return Err(TenantRefused::KeyExists);
        }
        if record.keys.len() >= MAX_KEYS {
            return Err(TenantRefused::TooManyKeys { max: MAX_KEYS });
        }
        record.keys.push(ClientKeyRecord {
            name: name.name.clone(),
            hash: self.0.pepper.hash(key.expose_secret()),
            created_at: UnixMillis::from(now),
            expires_at: name.expires_at.map(UnixMillis::from),
        });
        Ok(())
    }
}

fn stage<T>(
    records: &Records,
    batch: Batch,
    promise: Option<TenantPromise<T>>,
    made: &T,
) -> Result<(Batch, Option<StoredAnswer>), StoreError> {
    let Some(TenantPromise { ticket, answer }) = promise else { return Ok((batch, None)) };
    let answer = answer(made);
    // It has the key in it.
    let batch = records.stage_answer(batch, &ticket, &answer, true)?;
    Ok((batch, Some(answer)))
}

fn random_key() -> SecretString {
    let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
    rand::rng().fill(bytes.as_mut());
    SecretString::from(format!("{KEY_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes.as_ref())))
}
