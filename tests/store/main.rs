//! The store from outside: what both kinds promise, what becomes of files that are none, and of processes that are
//! killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod contract;
mod figures;
mod kill;
mod killed;
mod logged;
mod opening;
mod queue;

use std::{path::Path, sync::Arc, time::Duration};

use greenroom::store::{Bounds, Embedded, Key, Observer, OpenError, Page, Prefix, Range, Store};

fn no_observer() -> Observer {
    Arc::new(|_| {})
}

fn open(path: &Path) -> Result<Embedded, OpenError> {
    // Longer than any machine under load needs.
    let bounds = Bounds { deadline: Duration::from_secs(60), ..Bounds::default() };
    Embedded::open(path, bounds, no_observer())
}

/// Every record under a prefix.
async fn everything(store: &dyn Store, prefix: &str) -> Page {
    let mut range = Range::first(Prefix::new(prefix));
    let mut all = Page::default();
    loop {
        let page = store.list(&range).await.unwrap();
        all.entries.extend(page.entries);
        all.revision = page.revision;
        match page.next {
            Some(next) => range.after = Some(next),
            None => return all,
        }
    }
}

fn key(text: &str) -> Key {
    Key::new(text)
}
