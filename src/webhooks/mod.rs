//! Webhooks: whoever is concerned is told of what happens by a signed HTTP request, as Standard Webhooks 1.0 has it.
//!
//! One task follows the events and turns them into messages (`message`); each endpoint has a queue and a worker of
//! its own (`endpoint`, `worker`), so that a slow receiver keeps nobody else waiting. A message that is not taken is
//! tried again for three days (`schedule`), then given up and counted. Messages wait in memory: the end of the
//! process loses those that wait for another try, and counts them. They may come in another order than they happened,
//! and twice; their id tells.

mod address;
mod client;
mod endpoint;
mod message;
mod running;
mod schedule;
mod signing;
mod view;
mod worker;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, Notify, oneshot};

use crate::{
    config::{Config, Webhook, WebhookDelivery},
    recovery::TenantId,
    telemetry::WebhookMetrics,
};
use endpoint::{Endpoint, Spec};

pub use running::{Running, start};
pub use view::{EndpointState, EndpointView, LastFailure, TestResult};

/// What a test may take beyond the deadline of its attempt: it waits for no queue.
const TEST_MARGIN: Duration = Duration::from_secs(2);

/// Why a test was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestRefused {
    /// There is no such endpoint.
    Unknown,
    /// As many tests of it are under way as may be, or the process ends.
    Busy,
}

struct Shared {
    /// By id. Read for each message, changed by a reload.
    endpoints: ArcSwap<BTreeMap<String, Arc<Endpoint>>>,
    delivery: Arc<ArcSwap<WebhookDelivery>>,
    metrics: WebhookMetrics,
    /// Held over a change of the endpoints.
    changing: Mutex<()>,
    changed: Notify,
}

/// The endpoints. Cheap to clone, and for every thread.
#[derive(Clone)]
pub struct Webhooks(Arc<Shared>);

impl Webhooks {
    fn new(config: &Config, metrics: WebhookMetrics) -> Self {
        let endpoints = specs(config)
            .into_iter()
            .map(|(id, spec)| (id.clone(), Arc::new(Endpoint::new(id, spec, metrics.clone()))))
            .collect();
        Self(Arc::new(Shared {
            endpoints: ArcSwap::from_pointee(endpoints),
            delivery: Arc::new(ArcSwap::from_pointee(config.webhook_delivery.clone())),
            metrics,
            changing: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Makes the endpoints of `config` hold. One whose address stays keeps its queue and its state; what waits for
    /// one that is gone is given up.
    pub async fn configure(&self, config: &Config) {
        let _turn = self.0.changing.lock().await;
        self.0.delivery.store(Arc::new(config.webhook_delivery.clone()));
        let before = self.0.endpoints.load_full();
        let mut now = BTreeMap::new();
        for (id, spec) in specs(config) {
            let endpoint = match before.get(&id) {
                Some(endpoint) => {
                    endpoint.change(spec);
                    Arc::clone(endpoint)
                }
                None => Arc::new(Endpoint::new(id.clone(), spec, self.0.metrics.clone())),
            };
            now.insert(id, endpoint);
        }
        for (id, endpoint) in &*before {
            if !now.contains_key(id) {
                endpoint.remove();
            }
        }
        self.0.endpoints.store(Arc::new(now));
        self.0.changed.notify_one();
    }

    /// Every endpoint, as operators see it.
    pub fn list(&self) -> Vec<EndpointView> {
        self.0.endpoints.load().values().map(|endpoint| endpoint.view()).collect()
    }

    /// One endpoint, as operators see it.
    pub fn get(&self, id: &str) -> Option<EndpointView> {
        self.0.endpoints.load().get(id).map(|endpoint| endpoint.view())
    }

    /// Enables an endpoint that is disabled, and gives it as it is then; `None` where there is none.
    pub fn enable(&self, id: &str) -> Option<EndpointView> {
        let endpoint = self.0.endpoints.load().get(id).map(Arc::clone)?;
        endpoint.enable();
        Some(endpoint.view())
    }

    /// Sends a test message to an endpoint, once and at once, and tells what came of it.
    ///
    /// # Errors
    ///
    /// It was not sent.
    pub async fn test(&self, id: &str) -> Result<TestResult, TestRefused> {
        let endpoint = self.0.endpoints.load().get(id).map(Arc::clone).ok_or(TestRefused::Unknown)?;
        let (answer, answered) = oneshot::channel();
        if !endpoint.ask_test(answer) {
            return Err(TestRefused::Busy);
        }
        let patience = self.0.delivery.load().timeout + TEST_MARGIN;
        match tokio::time::timeout(patience, answered).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) | Err(_) => Err(TestRefused::Busy),
        }
    }
}

/// The endpoints of a configuration by their ids.
fn specs(config: &Config) -> Vec<(String, Spec)> {
    let of = |owner: Option<&TenantId>, webhook: &Webhook| {
        (endpoint_id(owner, webhook), Spec { owner: owner.cloned(), webhook: webhook.clone() })
    };
    let operators = config.webhooks.iter().map(|webhook| of(None, webhook));
    let tenants = config
        .tenants
        .iter()
        .flat_map(|tenant| tenant.webhooks.iter().map(|webhook| of(Some(&tenant.id), webhook)));
    operators.chain(tenants).collect()
}

/// The same for the same owner and address, after a restart too; tells nothing of the address.
fn endpoint_id(owner: Option<&TenantId>, webhook: &Webhook) -> String {
    let owner = owner.map_or("", TenantId::as_str);
    let digest = Sha256::digest(format!("{owner} {}", webhook.url));
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("whk_{hex}")
}
