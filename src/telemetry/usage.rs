//! What the connections of one tenant cost, also where its metrics are counted with others'.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// A tenant's connections to the avatar service, and the time that they were open since the process started.
#[derive(Debug, Default)]
pub struct TenantUsage {
    connections: AtomicUsize,
    connected_micros: AtomicU64,
}

impl TenantUsage {
    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How long connections were open, those that are open counted to their latest report of some seconds ago.
    pub fn connected(&self) -> Duration {
        Duration::from_micros(self.connected_micros.load(Ordering::Relaxed))
    }

    pub(super) fn opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn add_connected(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.connected_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
