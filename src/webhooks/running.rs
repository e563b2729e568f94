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
        if endpoints.is_empty() {
            tokio::select! {
                () = follower.end() => break,
                () = webhooks.0.changed.notified() => {}
            }
            // What was told to nobody is not told to whoever is there now.
            follower.skip();
            mapper.forget();
            continue;
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use futures_util::{FutureExt as _, future::LocalBoxFuture};

    use super::*;
    use crate::{
        config,
        errors::ErrorCode,
        events::{StateChange, What},
        recovery::{Moment, SessionId, StateName, TenantId},
        webhooks::client::{Ended, Request},
    };

    /// Takes everything.
    #[derive(Default)]
    struct Taker(RefCell<Vec<String>>);

    impl Post for Taker {
        fn post(&self, request: Request) -> LocalBoxFuture<'static, Ended> {
            self.0.borrow_mut().push(String::from_utf8_lossy(&request.body).into_owned());
            async { Ended::answered(204, None) }.boxed_local()
        }
    }

    fn configured(text: &str) -> Config {
        config::parse(text, "test.toml", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn fail(bus: &Bus, session: &str) {
        let what = What::State(StateChange {
            from: Some(StateName::Running),
            to: StateName::Failed,
            code: Some(ErrorCode::AvatarNotFound),
            parked_by: None,
            next_attempt_at: None,
            recovered_after: None,
            budget_exhausted: false,
        });
        let now = Moment::at(Duration::from_secs(1));
        bus.publish(now, Some(TenantId::from("acme")), Some(SessionId::from(session)), what);
    }

    #[actix_rt::test]
    async fn the_first_endpoint_hears_what_happens_from_when_it_is_there() {
        let (bus, taker, metrics) = (Bus::default(), Rc::new(Taker::default()), Metrics::new(1));
        let webhooks = Webhooks::new(&configured(""), metrics.webhooks().clone());
        let post = Rc::clone(&taker);
        let delivering = actix_rt::spawn(deliver(webhooks.clone(), bus.follow(Since::Now), post));
        tokio::task::yield_now().await;
        fail(&bus, "ses_before");
        let endpoint = "[[webhooks]]\nurl = \"https://late.example/\"\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n";
        webhooks.configure(&configured(endpoint)).await;
        tokio::task::yield_now().await;
        fail(&bus, "ses_after");
        bus.close();
        timeout(Duration::from_secs(20), delivering).await.expect("it ends").unwrap();
        let taken = taker.0.borrow();
        let of = |session: &str| taken.iter().filter(|body| body.contains(session)).count();
        assert_eq!((of("ses_before"), of("ses_after")), (0, 1), "{taken:?}");
    }

    #[actix_rt::test]
    async fn without_an_endpoint_it_ends_with_the_bus() {
        let (bus, metrics) = (Bus::default(), Metrics::new(1));
        let webhooks = Webhooks::new(&configured(""), metrics.webhooks().clone());
        let delivering =
            actix_rt::spawn(deliver(webhooks, bus.follow(Since::Now), Rc::new(Taker::default())));
        tokio::task::yield_now().await;
        fail(&bus, "ses_1");
        bus.close();
        timeout(Duration::from_secs(20), delivering).await.expect("it ends").unwrap();
    }
}
