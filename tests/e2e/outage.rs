//! The whole service is away, and comes back.

use std::time::{Duration, Instant};

use greenroom::simulator::Filter;
use serde_json::json;

use crate::world::{ACME, GLOBEX, World, until};

const SESSIONS: u64 = 50;
const OUTAGE: Duration = Duration::from_secs(2);

#[actix_rt::test]
async fn an_outage_fails_nobody_costs_few_attempts_and_ends_with_everybody_running() {
    // The fifty good attempts of the start are in the window too: a run of failures opens it all the same.
    let world = World::start(
        "upstream.breaker.min_attempts = 5\nupstream.breaker.open_s = 1\n\
         upstream.breaker.open_max_s = 2\nupstream.breaker.probes = 2\nrecovery.budget.restarts = 1\n",
    )
    .await;
    let mut ids = Vec::new();
    for number in 0..SESSIONS {
        let tenant = if number % 2 == 0 { ACME } else { GLOBEX };
        ids.push(world.create(tenant, &format!("outage-{number}"), &json!({})).await);
    }
    for id in &ids {
        world.wait_state(id, "running").await;
    }
    let breaker = || world.metric("greenroom_breaker_state", &[("upstream", "primary")]);
    assert_eq!(breaker(), 0.0);

    let down = Instant::now();
    world.simulator.set_down(true).await;
    assert_eq!(world.simulator.drop_connections(&Filter::default()) as u64, SESSIONS);
    until("the breaker to open", async || match breaker() {
        2.0 => Ok(()),
        state => Err(format!("its state is {state}")),
    })
    .await;
    // The outage is a time by its nature; what is waited for is its end.
    tokio::time::sleep(OUTAGE.saturating_sub(down.elapsed())).await;
    let in_vain = world.errors("connectionFailed");
    let states = |state| world.metric("greenroom_sessions", &[("state", state)]);
    assert_eq!((states("failed"), states("running")), (0.0, 0.0));
    assert_eq!(world.metric("greenroom_session_errors_total", &[("phase", "session_token")]), in_vain);
    // Those that find it out, those under way meanwhile, and the probes: not fifty, again and again.
    assert!((5.0..=25.0).contains(&in_vain), "{in_vain} attempts while the service was away");

    world.simulator.set_down(false).await;
    for id in &ids {
        world.wait_state(id, "running").await;
    }
    println!(
        "{SESSIONS} sessions: {in_vain} attempts in an outage of {} s, all running {:.2} s after its begin",
        OUTAGE.as_secs(),
        down.elapsed().as_secs_f64()
    );
    until("the breaker to close", async || match breaker() {
        0.0 => Ok(()),
        state => Err(format!("its state is {state}")),
    })
    .await;
    assert_eq!(states("running"), SESSIONS as f64);
    assert_eq!(world.errors("connectionClosed"), SESSIONS as f64);
    // The loss itself used the one restart of the budget; the outage used none.
    assert_eq!(world.metric("greenroom_restart_budget_exhausted_total", &[]), 0.0);
    assert_eq!(world.metric("greenroom_session_recovery_seconds_count", &[]), SESSIONS as f64);
    world.end().await;
}
