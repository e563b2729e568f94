//! What a session does, as its traces tell it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    collector::{Collector, Span},
    process::eventually,
    world::{Settings, World, create_avatar},
};

/// 200 ms of silence at 16 kHz.
const AUDIO: [u8; 6400] = [0; 6400];

/// A world whose traces go to the collector, with further keys of `[telemetry.otlp]`.
pub(crate) fn traced(collector: &Collector, keys: &str) -> World {
    let telemetry =
        format!("log_level = \"info\"\n[telemetry.otlp]\nendpoint = \"{}\"\n{keys}", collector.endpoint());
    World::start(&Settings { telemetry, ..Settings::default() })
}

pub(crate) fn speak(world: &World, id: &str) -> Value {
    let path = format!("/v1/sessions/{id}/requests?wait=true");
    world.greenroom.acme.send(&path, &AUDIO).json()
}

/// Ends Greenroom, then the collector, and gives what that received.
pub(crate) fn received(world: World, collector: Collector) -> Vec<Span> {
    let World { mut greenroom, simulator } = world;
    greenroom.program.signal("TERM");
    let status = greenroom.program.wait();
    assert!(status.success(), "{status}: {}", greenroom.program.written());
    simulator.is_left_in_order();
    collector.received()
}

/// The traces: roots with what is below them, in the order of their begin.
fn traces(spans: &[Span]) -> Vec<(Span, Vec<Span>)> {
    let mut by_trace: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for span in spans {
        by_trace.entry(&span.trace).or_default().push(span.clone());
    }
    let mut traces: Vec<_> = by_trace
        .into_values()
        .map(|mut spans| {
            spans.sort_by_key(|span| (span.start, span.end));
            let (roots, below): (Vec<_>, Vec<_>) = spans.into_iter().partition(|span| span.parent.is_empty());
            let [root] = roots.as_slice() else { panic!("one root: {roots:#?}") };
            (root.clone(), below)
        })
        .collect();
    traces.sort_by_key(|(root, _)| root.start);
    traces
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// What must be true of each trace, whatever it is of.
fn check(root: &Span, below: &[Span]) {
    for span in below {
        assert_eq!(span.parent, root.id, "{span:#?}");
        assert!(
            root.start <= span.start && span.start <= span.end && span.end <= root.end,
            "{root:#?} {span:#?}"
        );
    }
    for pair in below.windows(2) {
        assert_eq!(pair[0].end, pair[1].start, "a step begins where the one before ends: {pair:#?}");
    }
    for span in below.iter().chain([root]) {
        assert_eq!(span.attribute("greenroom.tenant.id"), "acme");
        assert_eq!(span.is_error(), !span.attribute("error.type").is_empty(), "{span:#?}");
        assert_eq!(span.is_error(), !span.message.is_empty(), "{span:#?}");
        assert_eq!(span.resource["service.name"], "greenroom");
        assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(span.resource["service.instance.id"].len(), 36);
        assert_eq!(span.scope, format!("greenroom {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_session_that_starts_speaks_breaks_and_recovers_tells_it_in_traces() {
    let collector = Collector::there();
    let world = traced(&collector, "");
    let before = now();
    let id = create_avatar(&world.greenroom.acme, "traced");
    world.greenroom.until_state(&id, "running");
    let spoken = speak(&world, &id);
    let first = world.greenroom.admin.get(&format!("/v1/sessions/{id}")).is(200).json();
    // The connection breaks, and the attempt after it is refused at the upgrade.
    world.simulator.fault(&json!({"at": "upgrade", "do": {"http": {"status": 503}}, "times": 1}));
    let dropped = world.simulator.control.post("/_sim/drop", &json!({"share": 1.0, "reset": true})).is(200);
    assert_eq!(dropped.json()["dropped"], 1);
    let again = world.greenroom.until(&id, "running again", |session| {
        session["state"] == "running" && session["connection_id"] != first["connection_id"]
    });
    let told = speak(&world, &id);
    assert_eq!((&spoken["outcome"], &told["outcome"]), (&json!("completed"), &json!("completed")));
    let spans = received(world, collector);
    let after = now();

    let traces = traces(&spans);
    traces.iter().for_each(|(root, below)| check(root, below));
    assert!(traces.iter().all(|(root, _)| root.attribute("session.id") == id));
    assert!(
        spans.iter().all(|span| before <= span.start && span.end <= after),
        "{before} {after} {spans:#?}"
    );
    let told_names: Vec<_> = traces.iter().map(|(root, _)| root.name.as_str()).collect();
    let expected =
        ["session.attempt", "audio.request", "session.attempt", "session.attempt", "audio.request"];
    assert_eq!(told_names, expected);
    let steps = ["gate.wait", "token.request", "websocket.connect", "session.handshake"];
    let connection = |session: &Value| session["connection_id"].as_str().unwrap().to_owned();

    let (start, start_steps) = &traces[0];
    assert_eq!(names(start_steps), steps);
    assert_eq!(start.attribute("greenroom.connection.id"), connection(&first));
    assert_eq!(start.attribute("greenroom.outcome"), "running");
    assert_eq!((start.attribute("greenroom.attempt"), start.is_error()), ("1", false));
    let kinds: Vec<_> = start_steps.iter().map(|span| span.kind.as_str()).collect();
    assert_eq!(kinds, ["SPAN_KIND_INTERNAL", "SPAN_KIND_CLIENT", "SPAN_KIND_CLIENT", "SPAN_KIND_CLIENT"]);
    assert!(start_steps[1..].iter().all(|span| span.attribute("server.address") == "127.0.0.1"));

    let (request, below) = &traces[1];
    assert!(below.is_empty());
    assert_eq!(request.attribute("greenroom.request.id"), spoken["req_id"].as_str().unwrap());
    assert_eq!(request.attribute("greenroom.outcome"), "completed");
    assert_eq!(request.attribute("greenroom.connection.id"), connection(&first));
    assert_eq!(request.links, [(start.trace.clone(), start.id.clone())]);
    let [(name, at)] = request.events.as_slice() else { panic!("{request:#?}") };
    assert!(name == "first_frame" && request.start <= *at && *at <= request.end, "{request:#?}");
    let total = spoken["total_ms"].as_u64().unwrap();
    assert!(request.millis().abs_diff(total) <= 5, "{} ms, and the answer says {total}", request.millis());

    let (failed, failed_steps) = &traces[2];
    assert_eq!(names(failed_steps), steps[..3]);
    assert_eq!(failed.attribute("error.type"), "upstreamError");
    assert_eq!(failed.attribute("greenroom.outcome"), "upstreamError");
    let errors: Vec<_> = failed_steps.iter().map(Span::is_error).collect();
    assert_eq!(errors, [false, false, true]);

    let (restart, restart_steps) = &traces[3];
    assert_eq!(names(restart_steps), steps);
    assert_eq!(restart.attribute("greenroom.connection.id"), connection(&again));
    assert!(restart.attribute("greenroom.attempt") > failed.attribute("greenroom.attempt"), "{restart:#?}");
    assert_eq!(traces[4].0.links, [(restart.trace.clone(), restart.id.clone())]);
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

#[test]
fn a_request_that_fails_and_a_token_that_is_refused_are_errors_whatever_the_ratio() {
    let collector = Collector::there();
    let world = traced(&collector, "sample_ratio = 0.0\n");
    let error = json!({"server_error": {"code": 13, "message": "animation failed", "req_id": true}});
    world.simulator.fault(&json!({"at": {"after_chunks": 1}, "do": error, "times": 1}));
    let id = create_avatar(&world.greenroom.acme, "unsampled");
    world.greenroom.until_state(&id, "running");
    let failed = speak(&world, &id);
    assert_eq!(failed["outcome"], "failed", "{failed}");
    assert_eq!(speak(&world, &id)["outcome"], "completed");
    world.simulator.fault(&json!({"at": "token", "do": {"http": {"status": 402}}, "times": 1}));
    let refused = create_avatar(&world.greenroom.acme, "refused");
    world.greenroom.until_state(&refused, "parked");
    eventually("all are counted", || {
        let counted = |outcome: &str| world.greenroom.metric("greenroom_traces_total", &[outcome]);
        (counted("exported") >= 2.0 && counted("sampled_out") >= 2.0).then_some(())
    });
    let spans = received(world, collector);

    let traces = traces(&spans);
    traces.iter().for_each(|(root, below)| check(root, below));
    let told: BTreeSet<_> = traces
        .iter()
        .map(|(root, _)| (root.name.as_str(), root.attribute("session.id"), root.attribute("error.type")))
        .collect();
    let code = failed["code"].as_str().unwrap();
    let expected = BTreeSet::from([
        ("audio.request", id.as_str(), code),
        ("session.attempt", refused.as_str(), "billingRequired"),
    ]);
    assert_eq!(told, expected);
    let (attempt, steps) = traces.iter().find(|(root, _)| root.name == "session.attempt").unwrap();
    assert_eq!(names(steps), ["gate.wait", "token.request"]);
    assert!(steps[1].is_error() && steps[1].message == attempt.message, "{steps:#?}");
}
