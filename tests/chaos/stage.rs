//! Carries a schedule out.

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    actors::Shared,
    ground::{Ground, TENANTS, upstream_key},
    schedule::{Act, Order, Step},
};

/// Only the sessions of the API and the drop-in clients; not what a check asks for.
fn everybody() -> Value {
    json!({})
}

/// How often whoever watches is called.
const WATCH: Duration = Duration::from_millis(250);

/// Begins and ends each step in its time, and calls `watch` between them.
pub(crate) fn play(
    ground: &mut Ground,
    shared: &Arc<Shared>,
    operator: &mpsc::Sender<(Order, usize)>,
    steps: &[Step],
    span: Duration,
    mut watch: impl FnMut(&Ground),
) {
    let mut moments: Vec<(Duration, usize, bool)> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        moments.push((step.at, number, true));
        moments.push((step.at + step.lasts, number, false));
    }
    moments.sort_by_key(|(at, number, begins)| (*at, *number, !begins));
    let began = Instant::now();
    let mut moments = moments.into_iter().peekable();
    while began.elapsed() < span {
        while let Some((_, number, begins)) = moments.next_if(|(at, ..)| *at <= began.elapsed()) {
            if begins {
                begin(ground, shared, operator, number, &steps[number]);
            } else {
                end(ground, shared, number, &steps[number]);
            }
        }
        watch(ground);
        let next = moments.peek().map_or(span, |(at, ..)| *at);
        thread::sleep(next.saturating_sub(began.elapsed()).min(WATCH));
    }
}

fn begin(
    ground: &mut Ground,
    shared: &Arc<Shared>,
    operator: &mpsc::Sender<(Order, usize)>,
    number: usize,
    step: &Step,
) {
    let strike = |share, effect: Value| ground.strike(&everybody(), share, &effect);
    match step.act {
        Act::Drop { share, reset } => strike(share, json!({"drop": {"reset": reset}})),
        Act::Close { share, code } => strike(share, json!({"close": {"code": code, "reason": "chaos"}})),
        Act::Silence { share } => strike(share, json!({"silence": {}})),
        Act::Stall { share } => strike(share, json!({"stall": {"ms": step.lasts.as_millis() as u64}})),
        Act::Trickle { share } => strike(share, json!({"trickle": {"bytes_per_s": 2000}})),
        Act::Garbage { share, what } => strike(share, json!({"nonsense": what})),
        Act::Down => {
            ground.service.post("/_sim/down", &json!({"down": true})).is(200);
        }
        Act::TokensFail => ground.plan(number, json!([{"at": "token", "do": {"http": {"status": 500}}}])),
        Act::KeyRefused { tenant } => {
            let who = json!({"api_key": upstream_key(TENANTS[tenant])});
            ground.plan(number, json!([{"match": who, "at": "token", "do": {"http": {"status": 401}}}]));
        }
        Act::CreditsOut { tenant } => {
            let who = json!({"api_key": upstream_key(TENANTS[tenant])});
            ground.plan(number, json!([{"match": who, "at": "upgrade", "do": {"http": {"status": 402}}}]));
            ground.strike(&who, 0.5, &json!({"close": {"code": 4001, "reason": "credits exhausted"}}));
        }
        Act::SlowLink => ground.slow_link(true),
        Act::Hole => ground.hole(true),
        Act::Operator { what, slot } => operator.send((what, slot)).unwrap(),
        Act::Kill => {
            shared.epoch.fetch_add(1, Ordering::SeqCst);
            ground.kill();
        }
        Act::Freeze => ground.freeze(true),
        Act::DiskFull => ground.fill_disk(true),
        Act::NoDescriptors => ground.limit_descriptors(true),
        Act::ClockStep { seconds } => ground.set_clock(seconds),
    }
}

fn end(ground: &mut Ground, shared: &Arc<Shared>, number: usize, step: &Step) {
    match step.act {
        Act::Drop { .. }
        | Act::Close { .. }
        | Act::Silence { .. }
        | Act::Stall { .. }
        | Act::Trickle { .. }
        | Act::Garbage { .. }
        | Act::Operator { .. } => {}
        Act::Down => {
            ground.service.post("/_sim/down", &json!({"down": false})).is(200);
        }
        Act::TokensFail => ground.forget(number),
        Act::KeyRefused { tenant } | Act::CreditsOut { tenant } => {
            ground.forget(number);
            // An operator who may find that nobody answers; the probe finds it out too.
            let (admin, path) = (ground.admin.forgetful(), format!("/v1/tenants/{}/unpark", TENANTS[tenant]));
            shared.unpark_all(TENANTS[tenant], None);
            let (shared, begun) = (Arc::clone(shared), Instant::now());
            thread::spawn(move || {
                let _ = admin.try_call("POST", &path, None);
                shared.unpark_all(TENANTS[tenant], Some(begun));
            });
        }
        Act::SlowLink => ground.slow_link(false),
        Act::Hole => ground.hole(false),
        Act::Kill => ground.start(),
        Act::Freeze => ground.freeze(false),
        Act::DiskFull => ground.fill_disk(false),
        Act::NoDescriptors => ground.limit_descriptors(false),
        Act::ClockStep { .. } => ground.set_clock(0),
    }
}
