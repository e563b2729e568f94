//! What is counted of webhooks.

use metrics::{Counter, Gauge};

use super::families::{Registry, WEBHOOK_DELIVERIES, WEBHOOK_DISABLED, WEBHOOK_DROPPED, WEBHOOK_QUEUE};

/// How an attempt to deliver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver answered 2xx.
    Delivered,
    /// The receiver answered something else.
    Refused,
    /// The receiver answered 410: it wants nothing more.
    Gone,
    /// There was no answer in time.
    Timeout,
    /// No connection, no TLS, no name, or an answer that is no HTTP.
    Unreachable,
    /// Its name leads to no public address, and private ones are not allowed.
    Forbidden,
}

impl DeliveryOutcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Delivered, Self::Refused, Self::Gone, Self::Timeout, Self::Unreachable, Self::Forbidden];

    /// The spelling in labels and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
        }
    }
}

/// Why a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It was tried as often as it is tried.
    Attempts,
    /// As many wait as may, and it was the oldest.
    Full,
    /// Its endpoint is disabled.
    Disabled,
    /// Its endpoint is not configured any more.
    Removed,
    /// The process ended.
    Shutdown,
    /// Events came faster than they were read.
    Gap,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Attempts, Self::Full, Self::Disabled, Self::Removed, Self::Shutdown, Self::Gap];

    /// The spelling in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Full => "full",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
            Self::Gap => "gap",
        }
    }
}

/// The metrics of webhooks, of all endpoints together: their number is the tenants', and their addresses are no labels.
#[derive(Clone)]
pub struct WebhookMetrics {
    deliveries: [Counter; DeliveryOutcome::ALL.len()],
    dropped: [Counter; DropReason::ALL.len()],
    queue: Gauge,
    disabled: Gauge,
}

impl WebhookMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            deliveries: DeliveryOutcome::ALL
                .map(|outcome| registry.counter(&WEBHOOK_DELIVERIES, &[("outcome", outcome.as_str())])),
            dropped: DropReason::ALL
                .map(|reason| registry.counter(&WEBHOOK_DROPPED, &[("reason", reason.as_str())])),
            queue: registry.gauge(&WEBHOOK_QUEUE, &[]),
            disabled: registry.gauge(&WEBHOOK_DISABLED, &[]),
        }
    }

    /// An attempt ended.
    pub fn attempt(&self, outcome: DeliveryOutcome) {
        self.deliveries[outcome as usize].increment(1);
    }

    /// Messages are given up.
    pub fn dropped(&self, reason: DropReason, messages: u64) {
        self.dropped[reason as usize].increment(messages);
    }

    /// Messages that are neither delivered nor given up. Add and subtract: endpoints share it.
    pub const fn queue(&self) -> &Gauge {
        &self.queue
    }

    /// Endpoints that are disabled. Add and subtract.
    pub const fn disabled(&self) -> &Gauge {
        &self.disabled
    }
}
