//! The tenants of this process: who they are, what they may, and how that changes while it serves.
//!
//! ```text
//! roster   who is there, by id and by key: one value, read without a lock and replaced as a whole
//! terms    what a tenant is, from the file or from its record, with the defaults
//! book     changes: one at a time, written first, then applied
//! change   what an operator may say of a tenant
//! opening  the tenants at the start of a process
//! apply    the manager's part: the new roster and terms, and whoever is released by them
//! minutes  the bound on the time that connections last in a day
//! reload   the configuration file, read again
//! leaving  the end of a tenant: its connections are closed, its sessions forgotten
//! ```

mod apply;
mod book;
mod change;
mod leaving;
mod minutes;
mod opening;
mod reload;
mod roster;
mod terms;

pub(super) use apply::Apply;
pub use book::{TenantBook, TenantMade, TenantPromise};
pub use change::{KeyMade, KeyName, Own, TenantPatch, TenantRefused};
pub(super) use leaving::{Dismiss, Leaving};
pub(super) use minutes::{MinutesNoted, keep as keep_minutes};
pub use opening::{Opened, TenantsUnusable};
pub use reload::{ReloadRefused, Reloaded, Reloader};
pub use roster::{KeyInfo, Roster};
pub use terms::TenantDefaults;
