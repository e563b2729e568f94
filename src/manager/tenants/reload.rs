//! The configuration file, read again while the process serves.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Mutex;

use super::{
    book::{Book, TenantBook},
    opening::in_both,
    terms::{TenantDefaults, is_same},
};
use crate::{
    config::{Config, ConfigErrors, ConfigFile, Mistake},
    events::TenantAction,
    manager::{Undone, Unreachable},
    recovery::TenantId,
    session::{Operation, TenantRuntime},
    store::StoreError,
    webhooks::Webhooks,
};

/// What a reload has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Tenants that are served from now on.
    #[schema(value_type = Vec<String>)]
    pub added: Vec<TenantId>,
    /// Tenants that are others than before, by what the file says of them or by the defaults.
    #[schema(value_type = Vec<String>)]
    pub changed: Vec<TenantId>,
    /// Tenants that are served no more.
    #[schema(value_type = Vec<String>)]
    pub removed: Vec<TenantId>,
    /// Keys that are others than those that the process was started with, and hold after a restart only.
    pub needs_restart: Vec<String>,
}

/// Why a reload has done nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadRefused {
    /// The process was not started from a file.
    #[error("this process was not started from a configuration file")]
    NoFile,
    /// The file cannot be read, or has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The store cannot say what the sessions of a tenant are that is back.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manager did not answer.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

impl ReloadRefused {
    /// Each reason, on a line of its own.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Config(ConfigErrors::Mistakes(mistakes)) => {
                mistakes.iter().map(ToString::to_string).collect()
            }
            Self::Config(ConfigErrors::Unreadable { .. })
            | Self::NoFile
            | Self::Store(_)
            | Self::Unreachable(_) => vec![self.to_string()],
        }
    }
}

struct Started {
    file: ConfigFile,
    /// What the process was started with, but for what has been applied since.
    config: Config,
}

/// Reads the configuration file again.
#[derive(Clone)]
pub struct Reloader {
    book: TenantBook,
    webhooks: Webhooks,
    /// `None` where there is no file. Held over a whole reload.
    started: Arc<Mutex<Option<Started>>>,
}

impl Reloader {
    /// Reloads into `book` and `webhooks`, where the process was started with `config` from `file`.
    pub fn new(book: TenantBook, webhooks: Webhooks, config: &Config, file: Option<ConfigFile>) -> Self {
        let started = file.map(|file| Started { file, config: config.clone() });
        Self { book, webhooks, started: Arc::new(Mutex::new(started)) }
    }

    /// Reads the file again and makes what it says of tenants, their defaults and webhooks hold: all of it, or nothing.
    ///
    /// # Errors
    ///
    /// Nothing has changed.
    pub async fn reload(&self) -> Result<Reloaded, ReloadRefused> {
        let started = self.started.lock().await;
        let Some(Started { file, config }) = &*started else { return Err(ReloadRefused::NoFile) };
        let (now, again) = file.read_again()?;
        let mut reloaded = self.book.replace_file(&now).await?;
        self.webhooks.configure(&now).await;
        reloaded.needs_restart = file.need_restart(config, &again, &now);
        tracing::info!(
            added = reloaded.added.len(),
            changed = reloaded.changed.len(),
            removed = reloaded.removed.len(),
            needs_restart = reloaded.needs_restart.join(" "),
            "configuration file read again"
        );
        Ok(reloaded)
    }
}

impl TenantBook {
    /// Makes the tenants and the defaults of `config` hold in place of those of the file as it was.
    async fn replace_file(&self, config: &Config) -> Result<Reloaded, ReloadRefused> {
        let mut book = self.0.book.lock().await;
        let mistakes = taken(config, &book);
        if !mistakes.is_empty() {
            return Err(ConfigErrors::Mistakes(mistakes).into());
        }
        let before = book.terms();
        let was = std::mem::replace(&mut book.file, config.tenants.clone());
        let defaults = std::mem::replace(&mut book.defaults, TenantDefaults::of(config));
        let now = book.terms();
        let keys_before: BTreeMap<_, _> = was.iter().map(|tenant| (&tenant.id, tenant)).collect();
        let has_other_keys = |id: &TenantId| {
            let (before, now) = (keys_before.get(id), config.tenants.iter().find(|tenant| tenant.id == *id));
            before.zip(now).is_some_and(|(before, now)| !before.has_the_keys_of(now))
        };
        let mut reloaded = Reloaded::default();
        for (id, terms) in &now {
            match before.get(id) {
                None => reloaded.added.push(id.clone()),
                Some(before) if !is_same(before, terms) || has_other_keys(id) => {
                    reloaded.changed.push(id.clone());
                }
                Some(_) => {}
            }
        }
        reloaded.removed = before.keys().filter(|id| !now.contains_key(*id)).cloned().collect();
        let gone: Vec<_> = reloaded.removed.iter().filter_map(|id| book.runtimes.remove(id)).collect();
        for id in &reloaded.added {
            if let Some(terms) = now.get(id) {
                let runtime = TenantRuntime::new(terms.clone(), self.0.metrics.tenant(id));
                book.runtimes.insert(id.clone(), Arc::new(runtime));
            }
        }
        if let Err(unreachable) = self.apply(&book).await {
            undo(&mut book, was, defaults, &reloaded, gone);
            return Err(unreachable.into());
        }
        self.0.policy.store(Arc::new(config.recovery.policy.clone()));
        for runtime in gone {
            self.dismiss(&runtime, Operation::Drain).await;
        }
        let told = [
            (&reloaded.added, TenantAction::Created),
            (&reloaded.changed, TenantAction::Changed),
            (&reloaded.removed, TenantAction::Deleted),
        ];
        for (ids, action) in told {
            ids.iter().for_each(|id| self.tell(id, action));
        }
        self.bring_back(&reloaded.added).await;
        Ok(reloaded)
    }

    /// The sessions of a tenant that is back go on.
    async fn bring_back(&self, tenants: &[TenantId]) {
        if tenants.is_empty() {
            return;
        }
        match self.0.manager.restore_of(tenants).await {
            Ok(restored) => tracing::info!(
                started = restored.started,
                held = restored.held,
                stopped = restored.stopped,
                "sessions of tenants that are back"
            ),
            Err(Undone::Unkept(error)) => {
                tracing::error!(%error, "sessions of tenants that are back start with the next process");
            }
            Err(Undone::Unreachable(error)) => {
                tracing::error!(%error, "sessions of tenants that are back start with the next process");
            }
        }
    }
}

fn undo(
    book: &mut Book,
    file: Vec<crate::config::Tenant>,
    defaults: TenantDefaults,
    reloaded: &Reloaded,
    gone: Vec<Arc<TenantRuntime>>,
) {
    book.file = file;
    book.defaults = defaults;
    for id in &reloaded.added {
        book.runtimes.remove(id);
    }
    book.runtimes.extend(gone.into_iter().map(|runtime| (runtime.id.clone(), runtime)));
}

/// The tenants of the file whose id is that of one that was made over HTTP.
fn taken(config: &Config, book: &Book) -> Vec<Mistake> {
    let taken = in_both(config, &book.api);
    let of_file = config.tenants.iter().enumerate().filter(|(_, tenant)| taken.contains(&tenant.id));
    of_file
        .map(|(index, tenant)| Mistake {
            place: tenant.place.clone(),
            key: format!("tenants[{index}].id"),
            text: format!(
                "\"{}\" is the id of a tenant that was made over HTTP; use another, or delete that one first",
                tenant.id
            ),
        })
        .collect()
}
