//! Counts connections, and the time that they stand, which is what the service bills.

use std::sync::Arc;

use super::Clock;
use crate::telemetry::TenantMetrics;

/// A connection that stands: counted while this value lives, however it ends.
pub(super) struct Connected {
    metrics: Arc<TenantMetrics>,
    clock: Clock,
}

impl Connected {
    pub(super) fn count(metrics: &Arc<TenantMetrics>, clock: Clock) -> Self {
        metrics.connection_opened(clock.now().since_start());
        Self { metrics: Arc::clone(metrics), clock }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.metrics.connection_closed(self.clock.now().since_start());
    }
}
