//! Requests that are wrong: each is answered by a problem that says so.

use serde_json::{Value, json};

use super::{
    http::{Answer, Client, exchange},
    world::{World, create_avatar},
};

/// Both listeners, with what a body of `POST /v1/sessions` needs there besides.
fn planes(world: &World) -> [(&Client, Value); 2] {
    let greenroom = &world.greenroom;
    [(&greenroom.acme, json!({})), (&greenroom.admin, json!({"tenant": "acme"}))]
}

fn merged(base: &Value, more: &Value) -> Value {
    let mut object = base.as_object().unwrap().clone();
    object.extend(more.as_object().unwrap().clone());
    Value::Object(object)
}

#[test]
fn a_body_that_is_no_json_object_is_told_so() {
    let world = World::usual();
    for (client, _) in planes(&world) {
        for malformed in ["{", "{\"avatar_id\": \"a\"} x", "nonsense", "{\"avatar_id\": \"\\uD800\"}"] {
            let answer = client.send("/v1/sessions", malformed.as_bytes());
            let problem = answer.is_problem(400, "malformedJson");
            assert!(problem["detail"].as_str().unwrap().contains("line 1"), "{problem}");
        }
        client.send("/v1/sessions", b"{\"avatar_id\": \"\xff\xfe\"}").is_problem(400, "malformedJson");
        client.send("/v1/sessions", "[".repeat(20_000).as_bytes()).is_problem(400, "malformedJson");
        for other in ["[]", "7", "null", "\"avatar\""] {
            client.send("/v1/sessions", other.as_bytes()).is_problem(422, "invalidBody");
        }
    }
}

#[test]
fn a_field_that_is_unknown_missing_or_of_the_wrong_type_is_named() {
    let world = World::usual();
    for (client, base) in planes(&world) {
        let cases = [
            (json!({"avatar_id": "a", "avatr": 1}), "avatr"),
            (json!({"avatar_id": 7}), "avatar_id"),
            (json!({"avatar_id": "a", "sample_rate": "many"}), "sample_rate"),
            (json!({"avatar_id": "a", "sample_rate": -1}), "sample_rate"),
            (json!({"avatar_id": "a", "sample_rate": 16000.5}), "sample_rate"),
            (json!({"avatar_id": "a", "bitrate": null}), "bitrate"),
            (json!({"avatar_id": "a", "audio_format": "mp3"}), "audio_format"),
            (json!({"avatar_id": "a", "labels": {"a": 1}}), "labels"),
            (json!({"avatar_id": "a", "labels": ["a"]}), "labels"),
            (json!({"avatar_id": "a", "egress": {"type": "webrtc"}}), "egress"),
            (json!({"avatar_id": "a", "egress": {"type": "livekit", "rom": "r"}}), "rom"),
            (json!({}), "avatar_id"),
        ];
        for (body, names) in cases {
            let problem = client.post("/v1/sessions", &merged(&base, &body)).is_problem(422, "invalidBody");
            assert!(problem["detail"].as_str().unwrap().contains(names), "{body}: {problem}");
        }
    }
    let admin = &world.greenroom.admin;
    for tenant in [json!({}), json!({"tenant": 7}), json!({"tenant": null})] {
        let body = merged(&tenant, &json!({"avatar_id": "a"}));
        let problem = admin.post("/v1/sessions", &body).is_problem(422, "invalidBody");
        assert!(problem["detail"].as_str().unwrap().contains("tenant"), "{problem}");
    }
    admin
        .post("/v1/sessions", &json!({"avatar_id": "a", "tenant": "nobody"}))
        .is_problem(422, "unknownTenant");
}

#[test]
fn all_that_is_wrong_with_a_spec_is_told_at_once() {
    let world = World::usual();
    for (client, base) in planes(&world) {
        let body = json!({
            "avatar_id": "", "sample_rate": 0, "labels": {"": "v", "long": "x".repeat(257)}
        });
        let problem = client.post("/v1/sessions", &merged(&base, &body)).is_problem(422, "invalidBody");
        let errors: Vec<&str> =
            problem["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
        assert_eq!(errors.len(), 4, "{errors:?}");
        for (error, names) in errors.iter().zip(["avatar_id", "sample_rate", "label name", "\"long\""]) {
            assert!(error.contains(names), "{errors:?}");
        }
        let many: Value = (0..33).map(|number| (format!("l{number}"), json!("v"))).collect::<Value>();
        for (body, names) in [
            (json!({"avatar_id": "ä".repeat(257)}), "257"),
            (json!({"avatar_id": "a", "labels": many}), "33"),
            (json!({"avatar_id": "a", "labels": {"n".repeat(64): "v"}}), "label name"),
        ] {
            let problem = client.post("/v1/sessions", &merged(&base, &body)).is_problem(422, "invalidBody");
            assert!(problem["errors"][0].as_str().unwrap().contains(names), "{problem}");
        }
        // The bounds themselves are allowed.
        let labels = json!({"n".repeat(63): "v".repeat(256)});
        let body = json!({"avatar_id": "ä".repeat(256), "labels": labels});
        client.post("/v1/sessions", &merged(&base, &body)).is(201);
    }
    assert_eq!(world.greenroom.admin.get("/v1/sessions").json()["sessions"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_not_there_is_404_and_a_wrong_method_405_with_those_that_are_allowed() {
    let world = World::usual();
    let id = create_avatar(&world.greenroom.acme, "here");
    for (client, _) in planes(&world) {
        for (method, path) in [
            ("GET", "/v1/sessions/ses_absent"),
            ("DELETE", "/v1/sessions/ses_absent"),
            ("POST", "/v1/sessions/ses_absent/requests"),
            ("GET", "/v1/sessions/ses_absent/requests/r"),
            ("POST", "/v1/sessions/ses_absent/interrupt"),
            ("GET", &format!("/v1/sessions/{id}/requests/absent")),
            ("POST", &format!("/v1/sessions/{id}/interrupt")),
            ("POST", "/v1/sessions/ses_absent/pause"),
            ("POST", "/v1/sessions/ses_absent/resume"),
            ("GET", "/v1/sessions/%ff%fe"),
            ("GET", "/v1/sessions/%00"),
            ("GET", "/v1/sessions/.."),
            ("GET", "/v1/session"),
            ("GET", "/v1/sessions/"),
            ("GET", "/favicon.ico"),
        ] {
            let body = (method == "POST").then_some(&b""[..]);
            client.call(method, path, body).is_problem(404, "notFound");
        }
        let continued = format!("/v1/sessions/{id}/requests?req_id=absent");
        client.send(&continued, b"pcm!").is_problem(404, "notFound");
        for (method, path, allowed) in [
            ("PUT", "/v1/sessions".to_owned(), "GET, HEAD, POST"),
            ("DELETE", "/v1/sessions".to_owned(), "GET, HEAD, POST"),
            ("POST", format!("/v1/sessions/{id}"), "GET, HEAD, PATCH, DELETE"),
            ("GET", format!("/v1/sessions/{id}/requests"), "POST"),
            ("POST", format!("/v1/sessions/{id}/requests/r"), "GET, HEAD"),
            ("GET", format!("/v1/sessions/{id}/interrupt"), "POST"),
            ("GET", format!("/v1/sessions/{id}/pause"), "POST"),
            ("GET", format!("/v1/sessions/{id}/resume"), "POST"),
        ] {
            let body = (method != "GET" && method != "DELETE").then_some(&b"{}"[..]);
            refuses_method(&client.call(method, &path, body), allowed);
        }
    }
    let admin = &world.greenroom.admin;
    for path in ["/v1/tenants/nobody/park", "/v1/upstreams/nowhere/open"] {
        admin.send(path, b"").is_problem(404, "notFound");
    }
    refuses_method(&admin.send("/metrics", b""), "GET, HEAD");
    refuses_method(&admin.send("/", b""), "GET, HEAD");
    world.greenroom.acme.send("/", b"").is_problem(404, "notFound");
    refuses_method(&admin.get("/v1/drain"), "POST");
    // Operators' paths are not on the data plane.
    for path in ["/", "/metrics", "/readyz", "/v1/codes", "/v1/upstreams", "/v1/tenants", "/v1/audit"] {
        world.greenroom.acme.get(path).is_problem(404, "notFound");
    }
    world.greenroom.acme.send(&format!("/v1/sessions/{id}/park"), b"").is_problem(404, "notFound");
}

#[track_caller]
fn refuses_method(answer: &Answer, allowed: &str) {
    answer.is_problem(405, "methodNotAllowed");
    assert_eq!(answer.header("allow"), Some(allowed), "{answer:?}");
}

#[test]
fn a_query_that_makes_no_sense_is_named() {
    let world = World::usual();
    let id = create_avatar(&world.greenroom.acme, "here");
    for (client, _) in planes(&world) {
        for (query, names) in [
            ("state=asleep", "asleep"),
            ("state=", "state"),
            ("code=", "code"),
            ("code=ConnectionClosed", "ConnectionClosed"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=-1", "limit"),
            ("limit=x", "limit"),
            ("limit=", "limit"),
            ("cursor=", "cursor"),
            ("cursor=%00", "cursor"),
            ("cursor=_____", "cursor"),
            ("cursor=nonsense!", "cursor"),
            ("cursor=bm8tc2Vzc2lvbg", "cursor"),
            ("stat=running", "stat"),
        ] {
            let answer = client.get(&format!("/v1/sessions?{query}"));
            let problem = answer.is_problem(422, "invalidQuery");
            assert!(problem["detail"].as_str().unwrap().contains(names), "{query}: {problem}");
        }
        for query in ["end=maybe", "wait=1", "frames=true", "ned=true"] {
            let path = format!("/v1/sessions/{id}/requests?{query}");
            client.send(&path, b"pcm!").is_problem(422, "invalidQuery");
        }
    }
}

#[test]
fn garbage_instead_of_http_harms_nobody_else() {
    let mut world = World::usual();
    let id = create_avatar(&world.greenroom.acme, "here");
    let endless_head = format!("GET / HTTP/1.1\r\nX-Long: {}", "x".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X-Many: y\r\n".repeat(2000));
    let garbage: [&[u8]; 9] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 client hello",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        endless_head.as_bytes(),
        many_headers.as_bytes(),
    ];
    for address in [world.greenroom.acme.address(), world.greenroom.admin.address()] {
        for bytes in garbage {
            let answer = exchange(address, bytes);
            let status = Answer::parse(&answer).map(|answer| answer.status);
            assert!(status.is_none_or(|status| (400..500).contains(&status)), "{status:?}");
        }
    }
    world.greenroom.until_state(&id, "running");
    assert!(world.greenroom.program.is_alive());
}
