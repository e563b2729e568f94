//! The tenants at the start of a process: those of the file, and those that an earlier process has made.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::{
    Roster, TenantDefaults,
    book::{Book, Shared, TenantBook},
};
use crate::{
    config::Config,
    manager::ManagerHandle,
    recovery::TenantId,
    session::TenantRuntime,
    store::{Batch, Expect, Pepper, Range, Records, StoreError, records::TenantRecord},
    telemetry::Metrics,
};

/// Sessions that are removed by one commit.
const AT_A_TIME: usize = 100;

/// Why there are no tenants to serve.
#[derive(Debug, thiserror::Error)]
pub enum TenantsUnusable {
    /// What an earlier process has made cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two say what a tenant is.
    #[error(
        "the configuration file has tenants that were made over HTTP too: {}; give those in the file other ids, or \
         take them out of the file and delete them over HTTP",
        .0.iter().map(TenantId::as_str).collect::<Vec<_>>().join(", ")
    )]
    InBoth(Vec<TenantId>),
}

/// The tenants, before there is a manager.
pub struct Opened {
    book: Book,
    pepper: Arc<Pepper>,
    records: Records,
    metrics: Arc<Metrics>,
}

impl Opened {
    /// Reads the tenants of `config` and of the store, and finishes what was left of those that were deleted.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or it has a tenant that the file has too.
    pub async fn read(
        config: &Config,
        records: &Records,
        pepper: Pepper,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TenantsUnusable> {
        let mut api = BTreeMap::new();
        for record in stored(records).await? {
            if record.is_leaving {
                finish(records, &record.id).await?;
            } else {
                api.insert(record.id.clone(), record);
            }
        }
        let in_both = in_both(config, &api);
        if !in_both.is_empty() {
            return Err(TenantsUnusable::InBoth(in_both));
        }
        let mut book = Book {
            defaults: TenantDefaults::of(config),
            file: config.tenants.clone(),
            api,
            runtimes: BTreeMap::new(),
        };
        book.runtimes = book
            .terms()
            .into_iter()
            .map(|(id, terms)| {
                let runtime = TenantRuntime::new(terms, metrics.tenant(&id));
                (id, Arc::new(runtime))
            })
            .collect();
        super::minutes::resume(&records.minutes().await?, book.runtimes.values().cloned());
        Ok(Self { book, pepper: Arc::new(pepper), records: records.clone(), metrics: Arc::clone(metrics) })
    }

    /// Who is there.
    pub fn roster(&self) -> Roster {
        self.book.roster(&self.pepper)
    }

    /// The book, once there is a manager that changes can be applied to.
    pub fn with(self, manager: ManagerHandle) -> TenantBook {
        let Self { book, pepper, records, metrics } = self;
        let policy = ArcSwap::from_pointee(book.defaults.recovery.policy.clone());
        TenantBook(Arc::new(Shared { manager, records, pepper, metrics, policy, book: Mutex::new(book) }))
    }
}

/// The ids that the file and the store both have.
pub(super) fn in_both(config: &Config, api: &BTreeMap<TenantId, TenantRecord>) -> Vec<TenantId> {
    config.tenants.iter().map(|tenant| &tenant.id).filter(|id| api.contains_key(*id)).cloned().collect()
}

async fn stored(records: &Records) -> Result<Vec<TenantRecord>, StoreError> {
    let (mut tenants, mut after) = (Vec::new(), None);
    loop {
        let page = records.tenants(after, Range::MAX_LIMIT).await?;
        for error in &page.unreadable {
            tracing::error!(%error, "a tenant is kept, but cannot be read; its keys open nothing");
        }
        // What is remembered of a tenant of the file is no tenant of its own.
        let own = page.records.into_iter().map(|kept| kept.record).filter(|record| !record.is_from_file);
        tenants.extend(own);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(tenants),
        }
    }
}

/// Removes the sessions of a deleted tenant, then what says that it is being deleted.
async fn finish(records: &Records, tenant: &TenantId) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = records.sessions(None, after, AT_A_TIME).await?;
        let own = page.records.iter().filter(|kept| kept.record.tenant == *tenant);
        let batch = own.fold(Batch::new(), |batch, kept| records.stage_session_drop(batch, &kept.record.id));
        if !batch.is_empty() {
            records.commit(batch).await?;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    if let Some(kept) = records.tenant(tenant).await? {
        let expect = Expect::At(kept.revision);
        records.commit(records.stage_tenant_removal(Batch::new(), tenant, expect)).await?;
    }
    tracing::info!(%tenant, "what was left of a deleted tenant is removed");
    Ok(())
}
