//! A real Prometheus beside a real Greenroom while three things go wrong: one tenant's credits run out, another asks
//! for an avatar that does not exist, and the service is away. A minute of the rules is a second here.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    http::Client,
    prometheus::Prometheus,
    shown::{queries, runbook_queries},
    world::{ACME_KEY, GLOBEX_KEY, Settings, World, create_avatar, tenant},
};

const INITECH_KEY: &str = "key-of-initech-backends";
const SESSIONS_EACH: usize = 8;
/// The longest hold that is waited for is half a minute; beyond this something hangs.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// How long the service is away, in milliseconds: ten of the rules' minutes.
const OUTAGE_MS: u32 = 10_000;
/// Between a backend's requests: many enough that the few that wait out the outage are not one in 20.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(40);
/// 50 ms of silence.
const AUDIO: [u8; 1600] = [0; 1600];

/// Panels that have nothing to show here, and why.
const WITHOUT_DATA: [(&str, &str); 4] = [
    ("greenroom_clients", "no metric yet: it comes with the drop-in ingress"),
    ("greenroom_store_commit_seconds", "a store in memory commits nothing"),
    ("greenroom_tls_certificate_expiry_seconds", "no TLS here"),
    ("greenroom_tls_reloads_total", "no TLS here"),
];

fn settings() -> Settings {
    let usual = Settings::default();
    let three = [("acme", ACME_KEY), ("globex", GLOBEX_KEY), ("initech", INITECH_KEY)];
    Settings {
        // The usual waits, scaled; and a breaker for as few sessions as there are.
        upstream: "breaker = { window_s = 1, min_attempts = 5, open_s = 1, open_max_s = 1 }\n".to_owned(),
        tables: "[recovery]\nbackoff = { initial_ms = 20, max_ms = 500 }\npark_probe_s = 10\n".to_owned(),
        tenants: three.map(|(id, key)| tenant(id, key, &format!("upstream-key-of-{id}"))).concat(),
        ..usual
    }
}

/// Backends that speak all the time, one a tenant, until this is dropped.
struct Speakers {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Speakers {
    fn start(backends: Vec<(Client, Vec<String>)>) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let threads = backends
            .into_iter()
            .map(|(client, ids)| {
                let end = Arc::clone(&end);
                std::thread::spawn(move || {
                    for id in ids.iter().cycle() {
                        if end.load(Ordering::Relaxed) {
                            break;
                        }
                        // Refused while the session is parked; the outage makes it wait.
                        let _ = client.try_call(
                            "POST",
                            &format!("/v1/sessions/{id}/requests?wait=true"),
                            Some(&AUDIO),
                        );
                        std::thread::sleep(BETWEEN_REQUESTS);
                    }
                })
            })
            .collect();
        Self { end, threads }
    }
}

impl Drop for Speakers {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Waits until `alert` was seen pending, then firing; tells what else was there where it was not.
#[track_caller]
fn fires(prometheus: &Prometheus, alert: &str) {
    let deadline = Instant::now() + DEADLINE;
    for state in ["pending", "firing"] {
        let wanted = format!("{alert} {state}");
        loop {
            let active = prometheus.alerts();
            if active.contains(&wanted) || prometheus.ever(state).contains(alert) {
                break;
            }
            assert!(Instant::now() < deadline, "no {wanted}; there is {active:#?}");
            std::thread::sleep(POLL);
        }
    }
}

#[track_caller]
fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(POLL);
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// With every variable at "All", and Grafana's own as they would be at this pace.
fn filled_in(expr: &str) -> String {
    let mut expr = expr.to_owned();
    for (variable, value) in [
        ("$__rate_interval", "2s"),
        ("$__range", "10m"),
        ("$job", "greenroom"),
        ("$instance", ".*"),
        ("$tenant", ".*"),
        ("$code", ".*"),
        ("$upstream", ".*"),
    ] {
        expr = expr.replace(variable, value);
    }
    assert!(!expr.contains('$'), "{expr}");
    expr
}

#[test]
fn three_incidents_fire_their_alerts_and_no_others_and_every_panel_shows_something() {
    let world = World::start(&settings());
    let greenroom = &world.greenroom;
    let initech = greenroom.acme.with_key(INITECH_KEY);
    let backends: Vec<(Client, Vec<String>)> = [&greenroom.acme, &greenroom.globex, &initech]
        .into_iter()
        .map(|owner| {
            let ids = (0..SESSIONS_EACH).map(|number| create_avatar(owner, &format!("avatar-{number}")));
            (owner.clone(), ids.collect())
        })
        .collect();
    for id in backends.iter().flat_map(|(_, ids)| ids) {
        greenroom.until_state(id, "running");
    }
    let mut prometheus = Prometheus::start(greenroom.admin.address());
    let speakers = Speakers::start(backends);
    within("Prometheus has rules and scrapes", || {
        !prometheus.query("job:greenroom_requests_failed:ratio5m > -1 and on () sum(up) == 1").is_empty()
    });
    within("all is well", || prometheus.alerts().is_empty());
    prometheus.begin();

    let empty = json!({"api_key": "upstream-key-of-acme", "seconds": -1_000_000});
    world.simulator.control.post("/_sim/credits", &empty).is(200);
    create_avatar(&greenroom.globex, "missing-one");
    fires(&prometheus, "GreenroomCreditsExhausted{tenant=acme,code=creditsExhausted}");
    fires(&prometheus, "GreenroomAvatarNotFound{tenant=globex,code=avatarNotFound}");

    world.simulator.control.post("/_sim/down", &json!({"down": true, "for_ms": OUTAGE_MS})).is(200);
    // New connections are refused; those that stand are lost too.
    world.simulator.control.post("/_sim/drop", &json!({})).is(200);
    fires(&prometheus, "GreenroomBreakerOpen{upstream=primary}");
    fires(&prometheus, "GreenroomSessionsBurnFast{}");
    within("the breaker's alert ends with the outage", || {
        !prometheus.alerts().contains("GreenroomBreakerOpen{upstream=primary} firing")
    });
    within("all sessions but those without credits run again", || {
        greenroom.metric("greenroom_sessions", &["state=\"running\""]) == (2 * SESSIONS_EACH) as f64
    });
    fires(&prometheus, "GreenroomTenantSuspended{tenant=acme}");

    assert_eq!(
        prometheus.ever("firing"),
        set(&[
            "GreenroomAvatarNotFound{tenant=globex,code=avatarNotFound}",
            "GreenroomBreakerOpen{upstream=primary}",
            "GreenroomCreditsExhausted{tenant=acme,code=creditsExhausted}",
            "GreenroomSessionsBurnFast{}",
            "GreenroomTenantSuspended{tenant=acme}",
        ])
    );
    let silent: Vec<String> = queries(true)
        .into_iter()
        .filter(|query| !WITHOUT_DATA.iter().any(|(metric, _)| query.expr.contains(metric)))
        .filter(|query| !prometheus.had_data(&filled_in(&query.expr)))
        .map(|query| format!("{}: {}", query.place, query.expr))
        .collect();
    assert!(silent.is_empty(), "without data:\n{}", silent.join("\n"));
    for query in runbook_queries() {
        prometheus.query(&query.expr);
    }
    drop(speakers);
}
