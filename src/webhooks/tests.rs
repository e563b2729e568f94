//! What the delivery promises, in virtual time and without a socket.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};

use super::{
    EndpointState, Webhooks,
    client::Ended,
    endpoint::{Delivery, Endpoint, MAX_WAITING, Next, Spec},
    message::{Mapper, Message},
    running::tell,
    schedule::WAITS,
};
use crate::{
    config::{self, Config, WebhookEvent},
    errors::ErrorCode,
    events::{Bus, Follower, Since, StateChange, What},
    recovery::{Moment, SessionId, StateName, TenantId},
    telemetry::{DeliveryOutcome, Metrics},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: Duration = Duration::from_secs(1);
const DAYS: Duration = Duration::from_secs(4 * 24 * 3600);

/// How a receiver answers.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    Pause(u16, u64),
    Hangs,
}

/// An attempt that was made: its host, its message's id, and when.
type Attempt = (String, String, Duration);

/// Plays the workers and the receivers.
struct World {
    bus: Bus,
    follower: Follower,
    mapper: Mapper,
    metrics: Metrics,
    webhooks: Webhooks,
    answers: BTreeMap<&'static str, Answer>,
    attempts: Vec<Attempt>,
    under_way: BTreeMap<(Instant, usize), (Arc<Endpoint>, Delivery, Ended)>,
    began: Instant,
    now: Instant,
}

fn config(endpoints: &[&str]) -> Config {
    let endpoint = |host: &&str| {
        format!("[[webhooks]]\nurl = \"https://{host}/hook?token=hunter2\"\nsecrets = [\"{SECRET}\"]\n")
    };
    let text: String = endpoints.iter().map(endpoint).collect();
    config::parse(&text, "test.toml", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"))
}

impl World {
    fn start(endpoints: &[&str]) -> Self {
        Self::with(&config(endpoints), Bus::default())
    }

    fn with(config: &Config, bus: Bus) -> Self {
        let metrics = Metrics::new(1);
        let webhooks = Webhooks::new(config, metrics.webhooks().clone());
        let (follower, now) = (bus.follow(Since::Now), Instant::now());
        Self {
            bus,
            follower,
            mapper: Mapper::default(),
            metrics,
            webhooks,
            answers: BTreeMap::new(),
            attempts: Vec::new(),
            under_way: BTreeMap::new(),
            began: now,
            now,
        }
    }

    fn answer(&mut self, host: &'static str, answer: Answer) {
        self.answers.insert(host, answer);
    }

    /// A session fails.
    fn fail(&mut self, session: &str) {
        let what = What::State(StateChange {
            from: Some(StateName::Running),
            to: StateName::Failed,
            code: Some(ErrorCode::AvatarNotFound),
            parked_by: None,
            next_attempt_at: None,
            recovered_after: None,
            budget_exhausted: false,
        });
        let (tenant, session) = (TenantId::from("acme"), SessionId::from(session));
        self.bus.publish(Moment::at(SECOND), Some(tenant), Some(session), what);
    }

    fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.webhooks.0.endpoints.load().values().map(Arc::clone).collect()
    }

    /// Does all that is due within `span`.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            for heard in self.follower.ready() {
                tell(&self.webhooks, &mut self.mapper, &heard, self.now);
            }
            let mut next = None::<Instant>;
            for endpoint in self.endpoints() {
                next = [next, self.work(&endpoint)].into_iter().flatten().min();
            }
            next = [next, self.under_way.keys().next().map(|(at, _)| *at)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            while let Some(first) = self.under_way.first_entry()
                && first.key().0 <= self.now
            {
                let (endpoint, delivery, ended) = first.remove();
                endpoint.ended(delivery, &ended, self.now, 0.5);
            }
        }
        self.now = until;
    }

    /// Does all that is due now.
    fn settle(&mut self) {
        self.pass(Duration::ZERO);
    }

    /// Begins what the endpoint has to do; gives when there is more.
    fn work(&mut self, endpoint: &Arc<Endpoint>) -> Option<Instant> {
        loop {
            match endpoint.next(self.now) {
                Next::Deliver(delivery) => {
                    let host = host(endpoint);
                    let (ended, took) = self.ask(&host);
                    self.attempts.push((host, delivery.message.id.clone(), self.now - self.began));
                    let key = (self.now + took, self.attempts.len());
                    self.under_way.insert(key, (Arc::clone(endpoint), delivery, ended));
                }
                Next::Test(_) => panic!("nobody asked for a test"),
                Next::Wait(due) => return due,
                Next::End => return None,
            }
        }
    }

    fn ask(&self, host: &str) -> (Ended, Duration) {
        match self.answers.get(host).copied().unwrap_or(Answer::Status(204)) {
            Answer::Status(status) => (Ended::answered(status, None), Duration::ZERO),
            Answer::Pause(status, seconds) => {
                (Ended::answered(status, Some(Duration::from_secs(seconds))), Duration::ZERO)
            }
            Answer::Hangs => {
                let ended = Ended { outcome: DeliveryOutcome::Timeout, ..Ended::answered(500, None) };
                (ended, Duration::from_secs(15))
            }
        }
    }

    fn attempts(&self, host: &str) -> Vec<Attempt> {
        self.attempts.iter().filter(|(to, ..)| to == host).cloned().collect()
    }

    fn counted(&self, series: &str) -> u64 {
        let text = self.metrics.render();
        let line =
            text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{series}"));
        line.trim().parse::<f64>().unwrap() as u64
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.counted(&format!("greenroom_webhook_dropped_total{{reason=\"{reason}\"}}"))
    }

    fn queue(&self) -> u64 {
        self.counted("greenroom_webhook_queue")
    }

    fn shown(&self) -> Value {
        serde_json::to_value(self.webhooks.list()).unwrap()
    }
}

fn host(endpoint: &Endpoint) -> String {
    endpoint.spec.load().webhook.url.host_str().unwrap_or_default().to_owned()
}

#[test]
fn a_message_that_is_not_taken_is_tried_on_schedule_under_the_same_id_and_given_up_after_three_days() {
    {
        let mut world = World::start(&["down.example"]);
        world.answer("down.example", Answer::Status(500));
        world.fail("ses_a");
        world.pass(DAYS);
        let attempts = world.attempts("down.example");
        assert_eq!(attempts.len(), 1 + WAITS.len());
        for (pair, wait) in attempts.windows(2).zip(WAITS) {
            let waited = pair[1].2 - pair[0].2;
            let slack = Duration::from_millis(10);
            assert!(waited >= wait && waited <= wait.mul_f64(1.2) + slack, "{waited:?}, not {wait:?}");
        }
        let ids: BTreeSet<&str> = attempts.iter().map(|(_, id, _)| id.as_str()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!((world.dropped("attempts"), world.queue()), (1, 0));
        assert_eq!(world.counted("greenroom_webhook_deliveries_total{outcome=\"refused\"}"), 10);
    }
}

#[test]
fn a_message_that_is_taken_is_sent_once_whatever_2xx_it_is_taken_with() {
    {
        for status in [200, 201, 202, 204, 299] {
            let mut world = World::start(&["up.example"]);
            world.answer("up.example", Answer::Status(status));
            world.fail("ses_a");
            world.pass(DAYS);
            assert_eq!(world.attempts("up.example").len(), 1, "{status}");
            assert_eq!(world.shown()[0]["state"], "active", "{status}");
            assert_ne!(world.shown()[0]["last_success"], Value::Null, "{status}");
        }
    }
}

#[test]
fn no_other_answer_is_taken_for_a_yes() {
    {
        for status in [199, 300, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503] {
            let mut world = World::start(&["odd.example"]);
            world.answer("odd.example", Answer::Status(status));
            world.fail("ses_a");
            world.settle();
            assert_eq!(world.shown()[0]["state"], "failing", "{status}");
            world.answer("odd.example", Answer::Status(204));
            world.pass(Duration::from_secs(10));
            assert_eq!(world.attempts("odd.example").len(), 2, "{status}");
            assert_eq!((world.shown()[0]["state"].as_str(), world.queue()), (Some("active"), 0), "{status}");
        }
    }
}

#[test]
fn an_endpoint_that_is_gone_gets_nothing_more_until_it_is_enabled() {
    {
        let mut world = World::start(&["gone.example"]);
        world.answer("gone.example", Answer::Status(500));
        world.fail("ses_a");
        world.settle();
        world.answer("gone.example", Answer::Status(410));
        world.pass(Duration::from_secs(10));
        let tried = world.attempts("gone.example").len();
        assert_eq!(tried, 2);
        assert_eq!(world.shown()[0]["state"], "disabled");
        assert_eq!(world.counted("greenroom_webhook_endpoints_disabled"), 1);
        world.fail("ses_b");
        world.pass(DAYS);
        assert_eq!(world.attempts("gone.example").len(), tried);
        assert_eq!((world.dropped("disabled"), world.queue()), (2, 0));

        // A test is sent all the same, and does not enable it.
        world.answer("gone.example", Answer::Status(204));
        let id = world.shown()[0]["id"].as_str().unwrap().to_owned();
        let endpoint = Arc::clone(&world.endpoints()[0]);
        assert!(endpoint.ask_test(oneshot::channel().0));
        assert!(matches!(endpoint.next(world.now), Next::Test(_)));
        endpoint.tested(&Ended::answered(204, None), world.now);
        assert_eq!(world.shown()[0]["state"], "disabled");

        let enabled = serde_json::to_value(world.webhooks.enable(&id).unwrap()).unwrap();
        assert_eq!(enabled["state"], json!(EndpointState::Active));
        assert_eq!(world.counted("greenroom_webhook_endpoints_disabled"), 0);
        world.fail("ses_c");
        world.settle();
        let attempts = world.attempts("gone.example");
        assert_eq!(attempts.len(), tried + 1);
        assert!(attempts.last().unwrap().1.contains("session_failed"), "{attempts:?}");
    }
}

#[test]
fn a_pause_that_the_receiver_asks_for_holds_all_of_its_messages_for_an_hour_at_most() {
    {
        for (asked, expected) in [(600, 600), (1_000_000, 3600)] {
            let mut world = World::start(&["busy.example"]);
            world.answer("busy.example", Answer::Pause(429, asked));
            world.fail("ses_a");
            world.settle();
            world.answer("busy.example", Answer::Status(204));
            world.fail("ses_b");
            world.pass(Duration::from_secs(expected - 1));
            assert_eq!(world.attempts("busy.example").len(), 1, "{asked}");
            world.pass(Duration::from_secs(2));
            assert_eq!(world.attempts("busy.example").len(), 3, "{asked}");
            assert_eq!(world.queue(), 0, "{asked}");
        }
    }
}

#[test]
fn a_slow_receiver_keeps_no_other_waiting() {
    {
        let mut world = World::start(&["slow.example", "fast.example"]);
        world.answer("slow.example", Answer::Hangs);
        for number in 0..100 {
            world.fail(&format!("ses_{number}"));
        }
        world.settle();
        let fast = world.attempts("fast.example");
        assert_eq!(fast.len(), 100);
        assert!(fast.iter().all(|(.., at)| *at < Duration::from_secs(1)), "{fast:?}");
        assert_eq!(world.attempts("slow.example").len(), 4, "as many at once as may");
    }
}

#[test]
fn an_endpoint_that_fails_is_asked_one_thing_at_a_time() {
    {
        let mut world = World::start(&["slow.example"]);
        world.answer("slow.example", Answer::Hangs);
        for number in 0..20 {
            world.fail(&format!("ses_{number}"));
        }
        world.pass(Duration::from_secs(44));
        // Four at first; then one in 15 s.
        assert_eq!(world.attempts("slow.example").len(), 6);
    }
}

#[test]
fn what_waits_is_bounded_and_the_oldest_is_given_up_and_counted() {
    {
        let mut world = World::start(&["down.example"]);
        world.answer("down.example", Answer::Status(500));
        let beyond = 100;
        for number in 0..MAX_WAITING + beyond {
            world.fail(&format!("ses_{number}"));
            if number % 100 == 0 {
                world.settle();
            }
        }
        world.settle();
        assert_eq!(world.queue(), MAX_WAITING as u64);
        assert_eq!(world.dropped("full"), beyond as u64);
        assert_eq!(world.shown()[0]["queue"], MAX_WAITING);
        world.answer("down.example", Answer::Status(204));
        let before = world.attempts("down.example").len();
        world.pass(Duration::from_secs(600));
        let taken: BTreeSet<String> =
            world.attempts("down.example").split_off(before).into_iter().map(|(_, id, _)| id).collect();
        assert_eq!((taken.len(), world.queue()), (MAX_WAITING, 0));
        let oldest = world.attempts("down.example")[0].1.clone();
        assert!(!taken.contains(&oldest), "{oldest}");
    }
}

#[test]
fn events_that_were_missed_are_counted() {
    {
        let mut world = World::with(&config(&["up.example"]), Bus::with_capacity(4));
        for number in 0..10 {
            world.fail(&format!("ses_{number}"));
        }
        world.settle();
        assert_eq!((world.dropped("gap"), world.attempts("up.example").len()), (6, 4));
    }
}

#[test]
fn at_the_end_what_was_not_tried_is_tried_once_and_the_rest_is_counted() {
    let mut world = World::start(&["up.example", "down.example", "slow.example"]);
    world.answer("down.example", Answer::Status(500));
    world.answer("slow.example", Answer::Hangs);
    world.fail("ses_a");
    world.settle();
    // The tries of the first are due again when the second comes.
    world.pass(Duration::from_secs(4));
    world.fail("ses_b");
    for heard in world.follower.ready() {
        tell(&world.webhooks, &mut world.mapper, &heard, world.now);
    }
    world.now += 10 * SECOND;
    for endpoint in world.endpoints() {
        endpoint.end();
    }
    world.settle();
    assert_eq!((world.attempts("up.example").len(), world.attempts("down.example").len()), (2, 2));
    assert_eq!(world.attempts("slow.example").len(), 2);
    let given_up: usize = world.endpoints().iter().map(|endpoint| endpoint.give_up()).sum();
    assert_eq!((given_up, world.dropped("shutdown"), world.queue()), (3, 4, 0));
}

#[test]
fn a_reload_adds_and_removes_and_leaves_alone_what_stays() {
    {
        let mut world = World::start(&["stays.example", "goes.example"]);
        world.answer("stays.example", Answer::Status(500));
        world.answer("goes.example", Answer::Status(500));
        world.fail("ses_a");
        world.settle();
        let reloaded = config(&["stays.example", "comes.example"]);
        let changed = world.webhooks.configure(&reloaded);
        futures_util::FutureExt::now_or_never(changed).unwrap();
        world.answer("stays.example", Answer::Status(204));
        world.fail("ses_b");
        world.pass(Duration::from_secs(10));
        assert_eq!(world.attempts("comes.example").len(), 1);
        assert_eq!(world.attempts("stays.example").len(), 3, "what waited and what is new");
        assert_eq!(world.attempts("goes.example").len(), 1);
        assert_eq!((world.dropped("removed"), world.queue(), world.webhooks.list().len()), (1, 0, 2));
    }
}

#[test]
fn a_test_is_sent_past_the_queue_and_as_many_as_may_wait() {
    let mut world = World::start(&["busy.example"]);
    world.answer("busy.example", Answer::Pause(503, 600));
    world.fail("ses_a");
    world.settle();
    let endpoint = Arc::clone(&world.endpoints()[0]);
    let asked = (0..10).filter(|_| endpoint.ask_test(oneshot::channel().0)).count();
    assert_eq!(asked, 4);
    for _ in 0..asked {
        assert!(matches!(endpoint.next(world.now), Next::Test(_)));
        endpoint.tested(&Ended::answered(204, None), world.now);
    }
    assert!(matches!(endpoint.next(world.now), Next::Wait(Some(_))));
    assert_eq!(world.shown()[0]["state"], "active");
}

#[test]
fn nothing_that_is_shown_has_a_secret_or_more_of_an_address_than_its_host() {
    {
        let mut world = World::start(&["down.example"]);
        world.answer("down.example", Answer::Status(500));
        world.fail("ses_a");
        world.settle();
        let config = config(&["down.example"]);
        let shown = format!("{}{}{config:?}", world.shown(), world.metrics.render());
        for secret in ["MfKQ9r8GKYqrTwjU", "hunter2", "/hook"] {
            assert!(!shown.contains(secret), "{secret} is in {shown}");
        }
        assert_eq!(world.shown()[0]["to"], "https://down.example");
    }
}

#[test]
fn each_owner_is_told_what_it_may_know_and_asks_for() {
    let text = format!(
        "{acme}[[tenants.webhooks]]\nurl = \"https://all.acme.example\"\nsecrets = [\"{SECRET}\"]\n\
         [[tenants.webhooks]]\nurl = \"https://failed.acme.example\"\nsecrets = [\"{SECRET}\"]\nevents = [\"session.failed\"]\n\
         [[webhooks]]\nurl = \"https://all.ops.example\"\nsecrets = [\"{SECRET}\"]\n\
         [[webhooks]]\nurl = \"https://globex.ops.example\"\nsecrets = [\"{SECRET}\"]\ntenants = [\"globex\"]\n",
        acme = "[[tenants]]\nid = \"acme\"\napp_id = \"app\"\nupstream_api_key = \"upstream\"\nkeys = [\"key-of-acme\"]\n"
    );
    let config =
        config::parse(&text, "test.toml", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"));
    let specs: Vec<Spec> = super::specs(&config).into_iter().map(|(_, spec)| spec).collect();
    let wanted = |event, tenant: Option<&str>| -> Vec<String> {
        let tenant = tenant.map(TenantId::from);
        let message = Message { id: String::new(), event: Some(event), tenant, body: bytes::Bytes::new() };
        let wants = specs.iter().filter(|spec| spec.wants(&message));
        wants.map(|spec| spec.webhook.url.host_str().unwrap_or_default().to_owned()).collect()
    };
    for event in WebhookEvent::ALL {
        let of_acme = wanted(event, Some("acme"));
        let mut expected = vec!["all.ops.example"];
        if event.is_for_tenants() {
            expected.push("all.acme.example");
        }
        if event == WebhookEvent::SessionFailed {
            expected.push("failed.acme.example");
        }
        assert_eq!(of_acme, expected, "{event:?}");
        assert_eq!(wanted(event, Some("globex")), ["all.ops.example", "globex.ops.example"], "{event:?}");
        assert_eq!(wanted(event, None), ["all.ops.example"], "{event:?}");
    }
    let test = Message::test("whk", 1, String::new());
    assert!(specs.iter().all(|spec| !spec.wants(&test)));
}
