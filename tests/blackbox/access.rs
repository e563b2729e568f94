//! Who may do what.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    http::Answer,
    world::{ADMIN_KEY, Settings, World, create_avatar},
};

#[track_caller]
fn is_unauthorized(answer: &Answer) {
    answer.is_problem(401, "unauthorized");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{answer:?}");
}

#[test]
fn only_the_key_of_its_plane_opens_a_listener() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let id = create_avatar(&greenroom.acme, "mine");
    let data = [
        greenroom.acme.without_key(),
        greenroom.acme.with_key("key-of-nobody-at-all"),
        greenroom.acme.with_key(""),
        greenroom.acme.with_key(&"k".repeat(5000)),
        greenroom.acme.with_key(ADMIN_KEY),
    ];
    let admin = greenroom.admin.address();
    let operators = [
        greenroom.admin.without_key(),
        greenroom.admin.with_key("key-of-nobody-at-all"),
        greenroom.acme.at(admin),
        greenroom.globex.at(admin),
    ];
    for client in data.iter().chain(&operators) {
        is_unauthorized(&client.get("/v1/sessions"));
        is_unauthorized(&client.get(&format!("/v1/sessions/{id}")));
        is_unauthorized(&client.get("/v1/sessions/ses_absent"));
        is_unauthorized(&client.post("/v1/sessions", &json!({"avatar_id": "a"})));
        is_unauthorized(&client.call("DELETE", &format!("/v1/sessions/{id}"), None));
        is_unauthorized(&client.send(&format!("/v1/sessions/{id}/requests"), b"pcm!"));
        is_unauthorized(&client.send(&format!("/v1/sessions/{id}/interrupt"), b""));
    }
    for client in &operators {
        for path in ["/v1/codes", "/v1/upstreams"] {
            is_unauthorized(&client.get(path));
        }
        for path in [
            format!("/v1/sessions/{id}/restart"),
            format!("/v1/sessions/{id}/park"),
            format!("/v1/sessions/{id}/unpark"),
            "/v1/tenants/acme/park".to_owned(),
            "/v1/upstreams/primary/open".to_owned(),
            "/v1/drain".to_owned(),
        ] {
            is_unauthorized(&client.send(&path, b""));
        }
    }
    greenroom.until_state(&id, "running");
}

#[test]
fn another_tenants_session_looks_exactly_as_one_that_is_absent() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let id = create_avatar(&greenroom.acme, "mine");
    greenroom.until_state(&id, "running");
    let asks = [
        ("GET", "", None),
        ("DELETE", "", None),
        ("PATCH", "", Some(&b"{\"labels\": {\"a\": \"b\"}}"[..])),
        ("POST", "/requests", Some(&b"pcm!"[..])),
        ("POST", "/requests?wait=true", Some(b"odd")),
        ("GET", "/requests/some", None),
        ("POST", "/interrupt", Some(b"{}")),
        ("POST", "/interrupt", Some(b"{")),
        ("POST", "/pause", Some(b"{}")),
        ("POST", "/resume", Some(b"{")),
    ];
    for (method, path, body) in asks {
        let foreign = greenroom.globex.call(method, &format!("/v1/sessions/{id}{path}"), body);
        let absent = greenroom.globex.call(method, &format!("/v1/sessions/ses_absent{path}"), body);
        foreign.is_problem(404, "notFound");
        assert_eq!(foreign.body_without_id(), absent.body_without_id(), "{method} {path}");
        // In no order: headers of different names have none.
        let names =
            |answer: &Answer| answer.headers.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
        assert_eq!(names(&foreign), names(&absent), "{method} {path}");
    }
    let listed = greenroom.globex.get("/v1/sessions?tenant=acme").is(200).json();
    assert_eq!(listed, json!({"sessions": [], "next_cursor": null}));
    let session = greenroom.until_state(&id, "running");
    assert_eq!(session["restarts"], 0, "{session}");
    assert_eq!(world.simulator.stats()["audio_bytes"], 0);
}

#[test]
fn without_an_admin_key_this_machine_may_look_and_nobody_may_touch() {
    let settings = Settings { admin: "listen = \"127.0.0.1:0\"\n".to_owned(), ..Settings::default() };
    let world = World::start(&settings);
    let greenroom = &world.greenroom;
    let id = create_avatar(&greenroom.acme, "mine");
    for client in [greenroom.admin.without_key(), greenroom.admin.with_key("any-key-at-all")] {
        for path in ["/v1/sessions", "/v1/codes", "/v1/upstreams", &format!("/v1/sessions/{id}")] {
            client.get(path).is(200);
        }
        for (method, path) in [
            ("POST", "/v1/sessions".to_owned()),
            ("DELETE", format!("/v1/sessions/{id}")),
            ("POST", format!("/v1/sessions/{id}/park")),
            ("POST", format!("/v1/sessions/{id}/requests")),
            ("POST", "/v1/tenants/acme/park".to_owned()),
            ("POST", "/v1/drain".to_owned()),
        ] {
            let problem = client.call(method, &path, (method == "POST").then_some(b"{}"));
            let problem = problem.is_problem(403, "adminKeyNotSet");
            assert!(problem["detail"].as_str().unwrap().contains("set admin.key"), "{problem}");
        }
    }
    greenroom.until_state(&id, "running");
}

#[test]
fn metrics_and_health_need_no_key_and_the_codes_are_twenty() {
    let world = World::usual();
    let nobody = world.greenroom.admin.without_key();
    assert_eq!(nobody.get("/healthz").is(200).json(), json!({"status": "ok"}));
    assert_eq!(nobody.get("/readyz").is(200).json(), json!({"status": "ready"}));
    let metrics = nobody.get("/metrics").is(200);
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{metrics:?}");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(nobody.call("HEAD", path, None).is(200).body, "", "{path}");
    }
    let codes = world.greenroom.admin.get("/v1/codes").is(200).json();
    let codes = codes["codes"].as_array().unwrap();
    assert_eq!(codes.len(), 20);
    for code in codes {
        let name = code["code"].as_str().unwrap();
        assert!(metrics.body.contains(&format!("code=\"{name}\"")), "{name}");
        assert_eq!(code["count"], 0, "{code}");
        for member in ["meaning", "action", "docs_url"] {
            assert!(code[member].as_str().is_some_and(|text| !text.is_empty()), "{code}");
        }
    }
}
