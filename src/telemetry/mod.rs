//! Metrics and logs.

mod families;
mod labels;
mod logs;
mod metrics;
mod tenant;
mod usage;
mod webhooks;

pub use labels::{BreakerLabel, Direction, Invariant, RequestOutcome, TraceOutcome};
pub use logs::{LogFormat, LogsError, init_logs};
pub use metrics::{Counted, Metrics, TlsMetrics, Traffic, UpstreamMetrics};
pub use tenant::{OpenConnection, TenantMetrics};
pub use usage::TenantUsage;
pub use webhooks::{DeliveryOutcome, DropReason, WebhookMetrics};
