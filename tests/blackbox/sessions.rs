//! A session's life over HTTP, and what its state refuses.

use serde_json::{Value, json};

use super::world::{Settings, World, create_avatar, id_of};

#[test]
fn a_created_session_is_where_its_location_says_on_both_planes() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    for (owner, spec) in [
        (&greenroom.acme, json!({"avatar_id": "a"})),
        (&greenroom.admin, json!({"avatar_id": "b", "tenant": "acme"})),
    ] {
        let created = owner.post("/v1/sessions", &spec).is(201);
        let id = id_of(&created);
        assert_eq!(created.header("location"), Some(format!("/v1/sessions/{id}").as_str()));
        // On a machine that is busy enough it runs before the answer is written.
        let state = created.json()["state"].clone();
        assert!(state == "starting" || state == "running", "{created:?}");
        assert_eq!(created.json()["last_error"], Value::Null, "{created:?}");
        let running = greenroom.until_state(&id, "running");
        assert!(running["connection_id"].as_str().is_some_and(|id| !id.is_empty()), "{running}");
        assert_eq!(greenroom.acme.get(created.header("location").unwrap()).is(200).json(), running);
    }
}

#[test]
fn a_deleted_session_is_stopped_for_good_and_says_so() {
    let world = World::usual();
    let (acme, admin) = (&world.greenroom.acme, &world.greenroom.admin);
    let id = create_avatar(acme, "short");
    world.greenroom.until_state(&id, "running");
    let path = format!("/v1/sessions/{id}");
    for _ in 0..2 {
        acme.call("DELETE", &path, None).is(200);
    }
    world.greenroom.until_state(&id, "stopped");
    for suffix in ["/requests", "/interrupt", "/pause", "/resume"] {
        let body: &[u8] = if suffix == "/requests" { b"pcm!" } else { b"{}" };
        acme.send(&format!("{path}{suffix}"), body).is_problem(409, "sessionStopped");
    }
    for suffix in ["/restart", "/park", "/unpark"] {
        admin.send(&format!("{path}{suffix}"), b"").is_problem(409, "sessionStopped");
    }
    assert_eq!(acme.get(&path).is(200).json()["state"], "stopped");
    world.simulator.is_left_in_order();
}

#[test]
fn audio_for_a_session_that_is_held_is_409_with_the_code_and_its_runbook() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let missing = create_avatar(&greenroom.acme, "missing-1");
    greenroom.until_state(&missing, "failed");
    world.simulator.fault(&json!({
        "match": {"avatar_id": "broke"}, "at": "upgrade", "do": {"http": {"status": 402}}
    }));
    let broke = create_avatar(&greenroom.globex, "broke");
    greenroom.until_state(&broke, "parked");
    // Its tenant is suspended, so the next one is parked without an attempt.
    let suspended = greenroom.globex.post("/v1/sessions", &json!({"avatar_id": "fine"})).is(201);
    greenroom.until_state(&id_of(&suspended), "parked");
    assert_eq!(world.simulator.stats()["attempts_by_avatar"]["fine"], Value::Null);

    for (owner, id, state, code) in [
        (&greenroom.acme, &missing, "failed", "avatarNotFound"),
        (&greenroom.globex, &broke, "parked", "creditsExhausted"),
        (&greenroom.globex, &id_of(&suspended), "parked", "creditsExhausted"),
    ] {
        for query in ["", "?wait=true", "?end=false"] {
            let path = format!("/v1/sessions/{id}/requests{query}");
            let problem = owner.send(&path, b"pcm!").is_problem(409, code);
            assert_eq!(problem["state"], state, "{problem}");
            assert!(problem["type"].as_str().unwrap().ends_with(code), "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(problem["type"].as_str().unwrap()));
        }
    }
    let parked = create_avatar(&greenroom.acme, "fine");
    greenroom.until_state(&parked, "running");
    greenroom.admin.send(&format!("/v1/sessions/{parked}/park"), b"").is(200);
    let path = format!("/v1/sessions/{parked}/requests");
    greenroom.acme.send(&path, b"pcm!").is_problem(409, "sessionParked");
    greenroom.admin.send(&format!("/v1/sessions/{parked}/unpark"), b"").is(200);
    greenroom.until_state(&parked, "running");
    greenroom.acme.send(&format!("{path}?wait=true"), b"pcm!").is(200);
}

#[test]
fn quotas_refuse_the_next_session_and_say_which_bound_it_was() {
    let mut settings = Settings::default();
    settings.tables.push_str("[sessions]\nmax = 3\n");
    settings.tenants = settings.tenants.replacen("[[tenants]]\n", "[[tenants]]\nmax_sessions = 2\n", 1);
    let world = World::start(&settings);
    let (acme, globex) = (&world.greenroom.acme, &world.greenroom.globex);
    let spec = json!({"avatar_id": "a"});
    let first = create_avatar(acme, "a");
    create_avatar(acme, "b");
    let full = acme.post("/v1/sessions", &spec).is_problem(429, "tenantQuotaReached");
    assert!(full["detail"].as_str().unwrap().contains("max_sessions"), "{full}");
    create_avatar(globex, "c");
    let full = globex.post("/v1/sessions", &spec);
    full.is_problem(503, "processFull");
    assert!(full.header("retry-after").is_some() && full.body.contains("sessions.max"), "{full:?}");
    acme.call("DELETE", &format!("/v1/sessions/{first}"), None).is(200);
    super::process::eventually("there is room again", || {
        let answer = globex.post("/v1/sessions", &spec);
        assert!(matches!(answer.status, 201 | 503), "{answer:?}");
        (answer.status == 201).then_some(())
    });
}
