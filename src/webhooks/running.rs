//! The thread that follows the events and delivers.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix_rt::Arbiter;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    Webhooks,
    client::{HttpPost, Post},
    message::Mapper,
    worker,
};
use crate::{
    config::Config,
    events::{Bus, Follower, Heard, Since},
    telemetry::{DropReason, Metrics},
};

/// How long the end of the process waits for messages that were not tried yet: a receiver that is well takes them in
/// a fraction of it, and one that is not would take nothing in a minute either.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long what happens waits for what happens beside it: whoever waits for the next event costs the session that tells it
/// a system call, and a receiver far away does not see so little.
const GATHER: Duration = Duration::from_millis(20);
/// What the end may take beyond it.
const END_MARGIN: Duration = Duration::from_secs(2);

/// Webhooks that are being delivered.
pub struct Running {
    /// The endpoints.
    pub webhooks: Webhooks,
    arbiter: Arbiter,
    ended: oneshot::Receiver<()>,
}

/// Follows `bus` from now on, and delivers to the endpoints of `config`, on a thread of their own: what receivers'
/// TLS costs keeps no session waiting.
pub fn start(bus: &Bus, config: &Config, metrics: &Metrics) -> Running {
    let webhooks = Webhooks::new(config, metrics.webhooks().clone());
    let follower = bus.follow(Since::Now);
    let arbiter = Arbiter::new();
    let (end, ended) = oneshot::channel();
    let on_thread = webhooks.clone();
    arbiter.spawn_fn(move || {
        let post = Rc::new(HttpPost::new(Arc::clone(&on_thread.0.delivery)));
        actix_rt::spawn(async move {
            deliver(on_thread, follower, post).await;
            let _ = end.send(());
        });
    });
    Running { webhooks, arbiter, ended }
}

impl Running {
    /// Waits for the end, which the end of the bus brings, some seconds at most.
    pub async fn stop(self) {
        if timeout(LAST_WORDS + END_MARGIN, self.ended).await.is_err() {
            tracing::error!("webhooks did not end in time");
        }
        self.arbiter.stop();
        if self.arbiter.join().is_err() {
            tracing::error!("the thread of webhooks ended by a panic");
        }
    }
}

/// Delivers what happens until the bus has ended, then what was not tried yet.
async fn deliver<P: Post + 'static>(webhooks: Webhooks, mut follower: Follower, post: Rc<P>) {
    let mut mapper = Mapper::default();
    let mut workers = JoinSet::new();
    loop {
        let endpoints = webhooks.0.endpoints.load_full();
        for endpoint in endpoints.values().filter(|endpoint| endpoint.needs_worker()) {
            workers.spawn_local(worker::run(Arc::clone(endpoint), Rc::clone(&post)));
        }
        let heard = tokio::select! {
            heard = follower.next() => heard,
            () = webhooks.0.changed.notified() => continue,
            // Of an endpoint that was removed.
            Some(_) = workers.join_next() => continue,
        };
        let Some(heard) = heard else { break };
        for heard in heard {
            tell(&webhooks, &mut mapper, &heard, Instant::now());
        }
        sleep(GATHER).await;
    }
    let endpoints = webhooks.0.endpoints.load_full();
    for endpoint in endpoints.values() {
        endpoint.end();
    }
    let all = async { while workers.join_next().await.is_some() {} };
    let _ = timeout(LAST_WORDS, all).await;
    let given_up: usize = endpoints.values().map(|endpoint| endpoint.give_up()).sum();
    if given_up > 0 {
        tracing::warn!(given_up, "webhooks were not delivered before the end of the process");
    }
}

/// Queues what was heard at every endpoint that is told of it.
pub(super) fn tell(webhooks: &Webhooks, mapper: &mut Mapper, heard: &Heard, now: Instant) {
    match heard {
        Heard::Event(event) => {
            let messages = mapper.messages(event);
            if messages.is_empty() {
                return;
            }
            let endpoints = webhooks.0.endpoints.load();
            for message in messages.into_iter().map(Arc::new) {
                for endpoint in endpoints.values() {
                    endpoint.tell(&message, now);
                }
            }
        }
        Heard::Gap(gap) => {
            mapper.forget();
            let missed = gap.missed.unwrap_or(1);
            webhooks.0.metrics.dropped(DropReason::Gap, missed);
            tracing::error!(missed, "events came faster than webhooks were made of them; some are not told");
        }
    }
}
