//! The worker of an endpoint: makes the attempts that are due, some at once.

use std::{
    future::Future,
    rc::Rc,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    client::{Ended, Post, Request},
    endpoint::{Delivery, Endpoint, Next},
    message::Message,
    signing::sign,
    view::{TestResult, rfc3339},
};
use crate::telemetry::DeliveryOutcome;

/// What an attempt was for.
enum Errand {
    Message(Delivery),
    Test { message_id: String, began: Instant, answer: oneshot::Sender<TestResult> },
}

/// Serves an endpoint until it is removed or the process ends, and what was under way then has ended.
pub(super) async fn run<P: Post>(endpoint: Arc<Endpoint>, post: Rc<P>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        let due = match endpoint.next(Instant::now()) {
            Next::Deliver(delivery) => {
                let attempt = attempt(&endpoint, &*post, &delivery.message);
                under_way.push(with(Errand::Message(delivery), attempt));
                continue;
            }
            Next::Test(answer) => {
                let now = rfc3339(SystemTime::now());
                let message = Message::test(&endpoint.id, rand::random(), now);
                let attempt = attempt(&endpoint, &*post, &message);
                let errand = Errand::Test { message_id: message.id, began: Instant::now(), answer };
                under_way.push(with(errand, attempt));
                continue;
            }
            Next::Wait(due) => due,
            Next::End if under_way.is_empty() => return,
            Next::End => None,
        };
        tokio::select! {
            Some((errand, ended)) = under_way.next(), if !under_way.is_empty() => settle(&endpoint, errand, &ended),
            () = endpoint.wake.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

async fn with(errand: Errand, attempt: impl Future<Output = Ended>) -> (Errand, Ended) {
    (errand, attempt.await)
}

fn attempt<P: Post>(
    endpoint: &Endpoint,
    post: &P,
    message: &Message,
) -> impl Future<Output = Ended> + use<P> {
    let spec = endpoint.spec.load();
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let timestamp = i64::try_from(timestamp).unwrap_or(i64::MAX);
    let signature = sign(&spec.webhook.secrets, &message.id, timestamp, &message.body);
    let posting = signature.map(|signature| {
        post.post(Request {
            url: spec.webhook.url.clone(),
            id: message.id.clone(),
            timestamp,
            signature,
            body: message.body.clone(),
        })
    });
    async move {
        match posting {
            Some(posting) => posting.await,
            None => Ended {
                outcome: DeliveryOutcome::Forbidden,
                status: None,
                retry_after: None,
                detail: "was not sent: a secret cannot be used".to_owned(),
            },
        }
    }
}

fn settle(endpoint: &Endpoint, errand: Errand, ended: &Ended) {
    match errand {
        Errand::Message(delivery) => endpoint.ended(delivery, ended, Instant::now(), rand::random()),
        Errand::Test { message_id, began, answer } => {
            endpoint.tested(ended, Instant::now());
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            // Who asked may have left.
            let _ = answer.send(TestResult {
                message_id,
                outcome: ended.outcome.as_str(),
                status: ended.status,
                detail: ended.detail.clone(),
                took_ms,
            });
        }
    }
}
