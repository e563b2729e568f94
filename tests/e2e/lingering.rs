//! Sessions that wait for their clients: for a while, and not for ever.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use greenroom::{
    errors::ErrorCode,
    events::Bus,
    manager::{
        IngressRefused, Limits, Roster, Running, Setup, TenantRuntime, TenantTerms, Unreachable, start,
    },
    outbox::{Continuity, LedgerConfig},
    recovery::{FleetConfig, RecoveryConfig, TenantId},
    session::{
        AskRequest, Attach, AttachMode, Departure, Farewell, Operate, Operation, OutboxBudget, SessionEntry,
        ToClient, client_line,
    },
    simulator::{self, Effect, Filter, Simulator, SimulatorConfig},
    store::{Memory, Pepper, Records, Vault},
    telemetry::Metrics,
    tenants::{ManagedBy, PoolFormat, PoolSpec, Tenant},
    upstream::UpstreamConfig,
};

use crate::{
    client::Client,
    world::{ACME, DEADLINE, until},
};

const ROOM: usize = 64 << 20;

/// A manager without listeners, so that its limits are the test's.
struct Stage {
    simulator: Simulator,
    running: Running,
}

impl Stage {
    async fn start(linger: Duration, configure_within: Duration) -> Self {
        Self::with_pool(linger, configure_within, Vec::new()).await
    }

    async fn with_pool(linger: Duration, configure_within: Duration, pool: Vec<PoolSpec>) -> Self {
        let simulator = simulator::start(SimulatorConfig::default()).await.unwrap();
        let metrics = Arc::new(Metrics::new(10));
        let id = TenantId::from(ACME);
        let tenant = Tenant {
            id: id.clone(),
            managed_by: ManagedBy::File,
            created_at: None,
            app_id: "app-acme".into(),
            upstream_api_key: "upstream-acme".into(),
            max_sessions: 10,
            max_starts_per_minute: None,
            requests_per_second: None,
            outbox_bytes: ROOM,
            continuity: Continuity::default(),
            policy: BTreeMap::new(),
            idle_timeout: None,
            max_connected_minutes_per_day: None,
            pool,
        };
        let terms = TenantTerms { tenant: Arc::new(tenant), recovery: Arc::new(RecoveryConfig::default()) };
        let runtime = TenantRuntime::new(terms, metrics.tenant(&id));
        let store = Memory::new();
        let pepper = Pepper::load(&store, &Vault::default()).await.unwrap();
        let mut roster = Roster::new(Arc::new(pepper));
        roster.add(Arc::new(runtime), &[], true);
        let parse = |url: String| url.parse().unwrap();
        let running = start(Setup {
            upstream: Arc::new(UpstreamConfig::new(
                parse(simulator.console_url()),
                parse(simulator.ingress_url()),
            )),
            fleet: FleetConfig::default(),
            roster,
            ledger: LedgerConfig::default(),
            outbox: Arc::new(OutboxBudget::new(ROOM)),
            limits: Limits {
                max_sessions: 10,
                retention: Duration::from_secs(60),
                threads: 1,
                linger,
                configure_within,
            },
            metrics,
            events: Bus::default(),
            records: Records::new(Arc::new(store), Arc::new(Vault::default())),
        })
        .unwrap();
        Self { simulator, running }
    }

    async fn operate(&self, entry: &SessionEntry, operation: Operation) {
        self.running.handle.ask(entry, || Operate(operation)).await.unwrap();
    }

    fn connections(&self) -> u64 {
        self.simulator.stats().connections.total
    }

    async fn end(self) {
        assert!(self.running.drain(DEADLINE).await, "not every session ended in time");
        assert_eq!(self.simulator.stats().connections.live, 0);
        self.running.end().await;
        self.simulator.stop().await;
    }
}

async fn state(entry: &SessionEntry, expected: &str) {
    until(expected, async || match entry.snapshot.load().state_name().as_str() {
        state if state == expected => Ok(()),
        state => Err(state.to_owned()),
    })
    .await;
}

#[actix_rt::test]
async fn a_client_that_comes_back_in_time_finds_its_session_as_it_was() {
    let stage = Stage::start(Duration::from_secs(60), DEADLINE).await;
    let manager = &stage.running.handle;
    let (client, told) = Client::settled(manager, ACME, "talker").await;
    let entry = Arc::clone(&client.entry);
    client.leave(Departure::Vanished).await;
    let mut back = Client::join(manager, entry.id.as_str(), AttachMode::Join).await.unwrap();
    back.ready().await;
    assert_eq!(back.confirmed(16_000).await.connection_id, told);
    assert_eq!(back.speak("req-1", &told, 4).await, 4);
    assert_eq!(stage.connections(), 1);
    // One that says good-bye is not waited for.
    back.leave(Departure::Closed).await;
    state(&entry, "stopped").await;
    let (seat, _line) = client_line(1);
    let late = manager.ask(&entry, || Attach { seat: seat.clone(), mode: AttachMode::Takeover }).await;
    assert!(matches!(late, Err(Unreachable::Ended)), "{late:?}");
    stage.end().await;
}

#[actix_rt::test]
async fn a_client_that_stays_away_ends_its_session_after_the_linger() {
    let stage = Stage::start(Duration::from_millis(300), DEADLINE).await;
    let (client, _) = Client::settled(&stage.running.handle, ACME, "talker").await;
    let entry = Arc::clone(&client.entry);
    drop(client);
    state(&entry, "stopped").await;
    until("its connection's end", async || match stage.simulator.stats().connections.live {
        0 => Ok(()),
        live => Err(format!("{live} live")),
    })
    .await;
    stage.end().await;
}

#[actix_rt::test]
async fn a_session_waits_for_a_client_that_was_put_out_for_being_slow() {
    let stage = Stage::start(Duration::from_secs(60), DEADLINE).await;
    let manager = &stage.running.handle;
    let mut slow = Client::arrive_over(manager, ACME, "talker", 2048).await.unwrap();
    slow.ready().await;
    let told = slow.confirmed(16_000).await.connection_id;
    slow.audio("req-1", 100, true).await.unwrap();
    let entry = Arc::clone(&slow.entry);
    until("the answer's end, which nobody takes", async || {
        let record = manager.ask(&entry, || AskRequest("req-1".into())).await.unwrap();
        if record.is_some_and(|record| record.outcome.is_some()) { Ok(()) } else { Err("open".to_owned()) }
    })
    .await;
    let said = slow.next_but_messages().await;
    assert!(matches!(said, ToClient::Ended(Farewell::Overrun)), "{said:?}");
    // Its connection is closed in due form, which is not its own wish.
    slow.leave(Departure::Closed).await;
    let mut back = Client::join(manager, entry.id.as_str(), AttachMode::Join).await.unwrap();
    back.ready().await;
    assert_eq!(back.confirmed(16_000).await.connection_id, told);
    back.leave(Departure::Closed).await;
    stage.end().await;
}

#[actix_rt::test]
async fn nobody_revives_a_session_whose_client_was_told_its_end() {
    let stage = Stage::start(Duration::from_secs(2), DEADLINE).await;
    let (mut client, _) = Client::settled(&stage.running.handle, ACME, "talker").await;
    stage.operate(&client.entry, Operation::Park).await;
    assert!(matches!(client.ended().await, Farewell::ParkedByOperator));
    for operation in [Operation::Unpark, Operation::Restart] {
        stage.operate(&client.entry, operation).await;
        assert_eq!(client.entry.snapshot.load().state_name().as_str(), "parked", "{operation:?}");
    }
    // Who joins now is told the same, and keeps nothing alive.
    let mut late = Client::join(&stage.running.handle, client.session(), AttachMode::Join).await.unwrap();
    assert!(matches!(late.ended().await, Farewell::ParkedByOperator));
    state(&client.entry, "stopped").await;
    assert_eq!(stage.connections(), 1);
    stage.end().await;
}

#[actix_rt::test]
async fn a_client_that_never_configures_is_told_so() {
    let stage = Stage::start(Duration::ZERO, Duration::from_millis(300)).await;
    let mut client = Client::arrive(&stage.running.handle, ACME, "dawdler").await;
    client.ready().await;
    let Farewell::Error(error) = client.ended().await else { panic!("it is no error") };
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    assert!(error.message.contains("ClientConfigureSession"), "{error:?}");
    state(&client.entry, "stopped").await;
    stage.end().await;
}

/// The sessions that are there, by state and origin.
fn sessions(stage: &Stage) -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = stage
        .running
        .handle
        .registry()
        .all()
        .iter()
        .map(|entry| (entry.origin.load().as_str(), entry.snapshot.load().state_name().as_str()))
        .collect();
    all.sort_unstable();
    all
}

async fn sessions_are(stage: &Stage, expected: &[(&str, &str)]) {
    until("the sessions", async || {
        let found = sessions(stage);
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[actix_rt::test]
async fn a_client_takes_a_session_of_the_pool_which_is_filled_again() {
    let pool = vec![PoolSpec {
        avatar_id: "warm".into(),
        size: 2,
        sample_rate: 16_000,
        bitrate: 0,
        audio_format: PoolFormat::default(),
    }];
    let stage = Stage::with_pool(Duration::ZERO, DEADLINE, pool).await;
    let manager = &stage.running.handle;
    sessions_are(&stage, &[("api", "running"), ("api", "running")]).await;
    let made = stage.connections();
    assert_eq!(made, 2);

    let mut client = Client::arrive(manager, ACME, "warm").await;
    client.ready().await;
    let told = client.confirmed(16_000).await.connection_id;
    assert_eq!(client.entry.spec.load().labels.get("pool").map(String::as_str), Some("warm"));
    assert_eq!(client.speak("req-1", &told, 4).await, 4);
    sessions_are(&stage, &[("api", "running"), ("api", "running"), ("ingress", "running")]).await;
    assert_eq!(stage.connections(), made + 1, "its own was there, and one was made in its place");

    // Another format costs a reconnect, and another avatar a session of its own.
    let mut other_rate = Client::arrive(manager, ACME, "warm").await;
    other_rate.ready().await;
    other_rate.confirmed(24_000).await;
    assert_eq!(other_rate.entry.spec.load().sample_rate, 24_000);
    let (cold, _) = Client::settled(manager, ACME, "cold").await;
    assert!(cold.entry.spec.load().labels.is_empty());

    // It ends with its client, as any session of a client.
    let entry = Arc::clone(&client.entry);
    client.leave(Departure::Closed).await;
    state(&entry, "stopped").await;
    // A session of the pool that the service lets sleep is replaced.
    let idle = Effect::close(1008, "no audio input for 30 s");
    stage.simulator.strike(&Filter::avatar("warm"), 1.0, &idle);
    until("a pool that is awake", async || {
        let warm = |(origin, state): &&(&str, &str)| *origin == "api" && *state == "running";
        let found = sessions(&stage);
        let ended = found.iter().filter(|(origin, state)| *origin == "api" && *state == "stopped").count();
        if found.iter().filter(warm).count() == 2 && ended == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    stage.end().await;
}

#[actix_rt::test]
async fn a_pool_stays_within_the_quota_and_gives_its_place_to_a_client_of_it() {
    let pool = vec![PoolSpec {
        avatar_id: "warm".into(),
        size: 100,
        sample_rate: 16_000,
        bitrate: 0,
        audio_format: PoolFormat::default(),
    }];
    let stage = Stage::with_pool(Duration::ZERO, DEADLINE, pool).await;
    sessions_are(&stage, &[("api", "running"); 10]).await;
    let refused = Client::try_arrive(&stage.running.handle, ACME, "cold").await.err();
    assert!(matches!(refused, Some(IngressRefused::Create(_))), "{refused:?}");
    let (client, _) = Client::settled(&stage.running.handle, ACME, "warm").await;
    assert_eq!(stage.connections(), 10);
    client.leave(Departure::Closed).await;
    stage.end().await;
}
