//! One endpoint: what is told to it, what waits for it, and how it is doing. No clock and no socket.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    client::Ended,
    message::Message,
    schedule,
    view::{EndpointView, LastFailure, TestResult, view},
};
use crate::{
    config::Webhook,
    recovery::TenantId,
    telemetry::{DeliveryOutcome, DropReason, WebhookMetrics},
};

/// Messages that wait for one endpoint: a tenant whose every session is parked and comes back, twice over, in about
/// 2 MB.
pub(super) const MAX_WAITING: usize = 2048;
/// Attempts at once: a receiver that takes its whole deadline still takes several messages in it.
const AT_ONCE: usize = 4;
/// Tests that wait: an operator makes one at a time.
const MAX_TESTS: usize = 4;

/// Whose endpoint it is, and what the configuration says of it.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Its tenant; `None` is operators.
    pub(super) owner: Option<TenantId>,
    pub(super) webhook: Webhook,
}

impl Spec {
    /// Whether it is told of `message`.
    pub(super) fn wants(&self, message: &Message) -> bool {
        let Some(event) = message.event else { return false };
        let may = self
            .owner
            .as_ref()
            .is_none_or(|owner| event.is_for_tenants() && message.tenant.as_ref() == Some(owner));
        let is_asked = self.webhook.events.as_ref().is_none_or(|events| events.contains(&event));
        let is_of = self
            .webhook
            .tenants
            .as_ref()
            .is_none_or(|tenants| message.tenant.as_ref().is_some_and(|tenant| tenants.contains(tenant)));
        may && is_asked && is_of
    }
}

/// A message on its way to one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    /// Attempts that were made.
    pub(super) attempts: u32,
    /// When it came, among those of this endpoint.
    number: u64,
}

/// How an endpoint is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The last attempt was taken, or there was none.
    Active,
    /// The last attempt was not taken.
    Failing,
    /// It answered 410 and gets nothing.
    Disabled,
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The process ends: what has not been tried yet is tried once.
    Ending,
    /// It is not configured any more.
    Removed,
}

/// What the worker has to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Try this one.
    Deliver(Delivery),
    /// Send a test, and tell what came of it.
    Test(oneshot::Sender<TestResult>),
    /// Wait until something changes, or until then.
    Wait(Option<Instant>),
    /// Nothing more, when what is under way has ended.
    End,
}

pub(super) struct Inner {
    /// By when they are due, and then by when they came.
    waiting: BTreeMap<(Instant, u64), Delivery>,
    pub(super) under_way: usize,
    last_number: u64,
    /// Nothing is sent before: the receiver asked for a pause.
    held_until: Option<Instant>,
    pub(super) standing: Standing,
    /// Whether it was logged that messages are given up; until one is taken again.
    told_full: bool,
    stage: Stage,
    tests: Vec<oneshot::Sender<TestResult>>,
    has_worker: bool,
    pub(super) last_success: Option<SystemTime>,
    pub(super) last_failure: Option<LastFailure>,
}

impl Inner {
    pub(super) fn queue(&self) -> usize {
        self.waiting.len()
    }
}

/// One endpoint.
pub(super) struct Endpoint {
    pub(super) id: String,
    pub(super) spec: ArcSwap<Spec>,
    inner: Mutex<Inner>,
    pub(super) wake: Notify,
    metrics: WebhookMetrics,
}

impl Endpoint {
    pub(super) fn new(id: String, spec: Spec, metrics: WebhookMetrics) -> Self {
        let inner = Inner {
            waiting: BTreeMap::new(),
            under_way: 0,
            last_number: 0,
            held_until: None,
            standing: Standing::Active,
            told_full: false,
            stage: Stage::Open,
            tests: Vec::new(),
            has_worker: false,
            last_success: None,
            last_failure: None,
        };
        let (inner, wake) = (Mutex::new(inner), Notify::new());
        Self { id, spec: ArcSwap::from_pointee(spec), inner, wake, metrics }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics half-way through a change, so a poisoned lock holds a whole value.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it needs a worker; from then on it has one.
    pub(super) fn needs_worker(&self) -> bool {
        !std::mem::replace(&mut self.inner().has_worker, true)
    }

    /// Another configuration of the same address.
    pub(super) fn change(&self, spec: Spec) {
        self.spec.store(Arc::new(spec));
        self.wake.notify_one();
    }

    /// Queues a message, if it is told of it.
    pub(super) fn tell(&self, message: &Arc<Message>, now: Instant) {
        if !self.spec.load().wants(message) {
            return;
        }
        let mut inner = self.inner();
        match (inner.stage, inner.standing) {
            (Stage::Removed, _) => return self.metrics.dropped(DropReason::Removed, 1),
            (Stage::Ending, _) => return self.metrics.dropped(DropReason::Shutdown, 1),
            (Stage::Open, Standing::Disabled) => return self.metrics.dropped(DropReason::Disabled, 1),
            (Stage::Open, Standing::Active | Standing::Failing) => {}
        }
        inner.last_number += 1;
        let number = inner.last_number;
        let delivery = Delivery { message: Arc::clone(message), attempts: 0, number };
        self.enqueue(&mut inner, now, delivery);
        drop(inner);
        self.wake.notify_one();
    }

    /// Where as many wait as may, the oldest is given up: what it tells is the likeliest to be over.
    fn enqueue(&self, inner: &mut Inner, due: Instant, delivery: Delivery) {
        inner.waiting.insert((due, delivery.number), delivery);
        self.metrics.queue().increment(1.0);
        if inner.waiting.len() <= MAX_WAITING {
            return;
        }
        let oldest = inner.waiting.keys().min_by_key(|(_, number)| *number).copied();
        if let Some(oldest) = oldest {
            inner.waiting.remove(&oldest);
            self.metrics.queue().decrement(1.0);
            self.metrics.dropped(DropReason::Full, 1);
        }
        if !std::mem::replace(&mut inner.told_full, true) {
            self.warn("as many webhooks wait for the endpoint as may; the oldest are given up");
        }
    }

    fn warn(&self, what: &str) {
        let spec = self.spec.load();
        tracing::warn!(
            endpoint = self.id,
            tenant = spec.owner.as_ref().map(TenantId::as_str),
            to = spec.webhook.origin(),
            "{what}"
        );
    }

    /// What the worker is to do.
    pub(super) fn next(&self, now: Instant) -> Next {
        let mut inner = self.inner();
        if inner.stage == Stage::Removed {
            return Next::End;
        }
        if let Some(test) = inner.tests.pop() {
            return Next::Test(test);
        }
        // One at a time finds out whether it is back.
        let at_once = if inner.standing == Standing::Failing { 1 } else { AT_ONCE };
        if inner.under_way >= at_once {
            return Next::Wait(None);
        }
        let is_held = inner.held_until.filter(|until| *until > now);
        let is_ending = inner.stage == Stage::Ending;
        let mut waiting = inner.waiting.iter();
        let first = waiting.find(|(_, delivery)| !is_ending || delivery.attempts == 0).map(|(key, _)| *key);
        let due = first.map(|(due, _)| is_held.map_or(due, |until| until.max(due)));
        match (first, due) {
            (Some(first), Some(due)) if due <= now => match inner.waiting.remove(&first) {
                Some(delivery) => {
                    inner.under_way += 1;
                    Next::Deliver(delivery)
                }
                None => Next::Wait(None),
            },
            _ if is_ending => Next::End,
            (_, due) => Next::Wait(due),
        }
    }

    /// An attempt ended. `random` is from 0 to 1.
    pub(super) fn ended(&self, mut delivery: Delivery, ended: &Ended, now: Instant, random: f64) {
        delivery.attempts += 1;
        self.metrics.attempt(ended.outcome);
        let mut inner = self.inner();
        inner.under_way -= 1;
        self.metrics.queue().decrement(1.0);
        self.note(&mut inner, ended, now);
        if ended.outcome == DeliveryOutcome::Delivered {
            return;
        }
        let wait = schedule::wait_after(delivery.attempts, random);
        match (inner.stage, inner.standing, wait) {
            (_, Standing::Disabled, _) => self.metrics.dropped(DropReason::Disabled, 1),
            (Stage::Removed, ..) => self.metrics.dropped(DropReason::Removed, 1),
            (Stage::Ending, ..) => self.metrics.dropped(DropReason::Shutdown, 1),
            (Stage::Open, _, Some(wait)) => self.enqueue(&mut inner, now + wait, delivery),
            (Stage::Open, _, None) => {
                self.metrics.dropped(DropReason::Attempts, 1);
                tracing::warn!(
                    endpoint = self.id,
                    message = delivery.message.id,
                    attempts = delivery.attempts,
                    "webhook given up"
                );
            }
        }
    }

    /// A test ended.
    pub(super) fn tested(&self, ended: &Ended, now: Instant) {
        self.metrics.attempt(ended.outcome);
        let mut inner = self.inner();
        // It is a person who asks: a disabled endpoint is enabled by name only, and 410 to a test is told and no more.
        match (inner.standing, ended.outcome) {
            (Standing::Disabled, _) | (_, DeliveryOutcome::Gone) => {}
            _ => self.note(&mut inner, ended, now),
        }
    }

    fn note(&self, inner: &mut Inner, ended: &Ended, now: Instant) {
        if ended.outcome == DeliveryOutcome::Delivered {
            inner.last_success = Some(SystemTime::now());
            if inner.standing == Standing::Failing {
                inner.standing = Standing::Active;
                tracing::info!(endpoint = self.id, "the endpoint takes webhooks again");
            }
            inner.told_full = false;
            // Whatever waits for its next try has somebody to take it now: but each keeps its own time.
            return;
        }
        inner.last_failure = Some(LastFailure::new(SystemTime::now(), ended));
        inner.held_until = ended.retry_after.map(|wait| now + schedule::hold(wait)).or(inner.held_until);
        if ended.outcome == DeliveryOutcome::Gone {
            self.disable(inner);
        } else if inner.standing == Standing::Active {
            inner.standing = Standing::Failing;
            self.warn(&format!("the endpoint does not take webhooks: {}", ended.detail));
        }
    }

    fn disable(&self, inner: &mut Inner) {
        if inner.standing == Standing::Disabled {
            return;
        }
        inner.standing = Standing::Disabled;
        self.metrics.disabled().increment(1.0);
        let given_up = self.empty(inner, DropReason::Disabled);
        self.warn(&format!(
            "the endpoint answered 410 and is disabled, {given_up} webhooks are given up; POST \
             /v1/webhooks/{}/enable enables it",
            self.id
        ));
    }

    fn empty(&self, inner: &mut Inner, reason: DropReason) -> usize {
        let given_up = std::mem::take(&mut inner.waiting).len();
        self.metrics.queue().decrement(given_up as f64);
        self.metrics.dropped(reason, given_up as u64);
        given_up
    }

    /// Enables it, where it is disabled.
    pub(super) fn enable(&self) {
        let mut inner = self.inner();
        if inner.standing == Standing::Disabled {
            inner.standing = Standing::Active;
            inner.held_until = None;
            self.metrics.disabled().decrement(1.0);
            tracing::info!(endpoint = self.id, "the endpoint is enabled again");
        }
    }

    /// Has the worker send a test. Answers whether it will.
    pub(super) fn ask_test(&self, answer: oneshot::Sender<TestResult>) -> bool {
        let mut inner = self.inner();
        if inner.stage != Stage::Open || inner.tests.len() >= MAX_TESTS {
            return false;
        }
        inner.tests.push(answer);
        drop(inner);
        self.wake.notify_one();
        true
    }

    /// It is not configured any more.
    pub(super) fn remove(&self) {
        let mut inner = self.inner();
        inner.stage = Stage::Removed;
        if inner.standing == Standing::Disabled {
            inner.standing = Standing::Active;
            self.metrics.disabled().decrement(1.0);
        }
        let given_up = self.empty(&mut inner, DropReason::Removed);
        inner.tests.clear();
        drop(inner);
        self.wake.notify_one();
        tracing::info!(endpoint = self.id, given_up, "webhook endpoint removed");
    }

    /// The process ends: what has not been tried yet is tried once.
    pub(super) fn end(&self) {
        let mut inner = self.inner();
        if inner.stage == Stage::Open {
            inner.stage = Stage::Ending;
        }
        inner.tests.clear();
        drop(inner);
        self.wake.notify_one();
    }

    /// Gives up what is left, and tells how much that was: what is under way too, since nobody waits for it.
    pub(super) fn give_up(&self) -> usize {
        let mut inner = self.inner();
        let under_way = std::mem::take(&mut inner.under_way);
        self.metrics.queue().decrement(under_way as f64);
        self.metrics.dropped(DropReason::Shutdown, under_way as u64);
        self.empty(&mut inner, DropReason::Shutdown) + under_way
    }

    pub(super) fn view(&self) -> EndpointView {
        view(self, &self.inner())
    }
}
