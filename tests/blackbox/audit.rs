//! The audit log.

use serde_json::{Value, json};

use super::{
    http::Client,
    process::eventually,
    world::{ACME_KEY, Settings, World, id_of},
};

const TOKEN: &str = "hush-hush-egress-token";

fn records(admin: &Client, query: &str) -> (Vec<Value>, Option<String>) {
    let page = admin.get(&format!("/v1/audit{query}")).is(200).json();
    (page["records"].as_array().unwrap().clone(), page["next_cursor"].as_str().map(str::to_owned))
}

/// Does as an operator does, and gives the session.
fn work(world: &World) -> String {
    let greenroom = &world.greenroom;
    let admin = &greenroom.admin;
    let call = |id: &str, method: &str, path: &str, body: &Value| {
        let body = body.to_string();
        admin.try_call_with(method, path, &[("X-Request-Id", id)], Some(body.as_bytes())).unwrap()
    };
    let spec = json!({"avatar_id": "a", "tenant": "acme", "egress": {
        "type": "agora", "channel_name": "c", "token": TOKEN, "uid": 1, "publisher_id": "p"
    }});
    let id = id_of(&call("r-create", "POST", "/v1/sessions", &spec).is(201));
    greenroom.until_state(&id, "running");
    call("r-park", "POST", &format!("/v1/sessions/{id}/park"), &json!({})).is(200);
    call("r-unpark", "POST", &format!("/v1/sessions/{id}/unpark"), &json!({})).is(200);
    greenroom.until_state(&id, "running");
    call("r-absent", "POST", "/v1/sessions/ses_absent/restart", &json!({})).is(404);
    call("r-spec", "POST", "/v1/sessions", &json!({"avatar_id": "", "tenant": "acme", "x": TOKEN})).is(422);
    call("r-open", "POST", "/v1/upstreams/primary/open", &json!({})).is(200);
    call("r-close", "POST", "/v1/upstreams/primary/close", &json!({})).is(200);
    call("r-tenant", "POST", "/v1/tenants/acme/park", &json!({})).is(202);
    admin.call("DELETE", &format!("/v1/sessions/{id}"), None).is(200);
    id
}

#[test]
fn every_action_is_there_with_who_what_before_and_after() {
    let mut world = World::start(&Settings {
        telemetry: "log_level = \"info\"\nlog_format = \"json\"\n".to_owned(),
        ..Settings::default()
    });
    let id = work(&world);
    let admin = &world.greenroom.admin;
    // Audio, reading, tenants' own doings and refused keys are none.
    let own = super::world::create_avatar(&world.greenroom.acme, "own");
    world.greenroom.acme.call("DELETE", &format!("/v1/sessions/{own}"), None).is(200);
    admin.send(&format!("/v1/sessions/{own}/requests"), b"pcm!").is(409);
    admin.get("/v1/sessions").is(200);
    admin.with_key(ACME_KEY).send("/v1/tenants/acme/park", b"").is(401);

    let (found, next) = records(admin, "");
    assert_eq!(next, None);
    let seen: Vec<(u64, &str, &str, u64)> = found
        .iter()
        .rev()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap();
            assert_eq!(record["who"], "admin", "{record}");
            (
                record["seq"].as_u64().unwrap(),
                text("action"),
                text("request_id"),
                record["status"].as_u64().unwrap(),
            )
        })
        .collect();
    let last = seen.last().unwrap().2;
    assert_eq!(
        seen,
        [
            (1, "session.create", "r-create", 201),
            (2, "session.park", "r-park", 200),
            (3, "session.unpark", "r-unpark", 200),
            (4, "session.restart", "r-absent", 404),
            (5, "session.create", "r-spec", 422),
            (6, "upstream.open", "r-open", 200),
            (7, "upstream.close", "r-close", 200),
            (8, "tenant.park", "r-tenant", 202),
            (9, "session.delete", last, 200),
        ]
    );
    let record = |seq: u64| found.iter().find(|record| record["seq"] == seq).unwrap();
    assert_eq!(record(1)["target"], json!({"kind": "session", "id": id}));
    assert_eq!((&record(1)["before"], &record(1)["after"]["tenant"]), (&Value::Null, &json!("acme")));
    let states = |seq: u64| (record(seq)["before"]["state"].clone(), record(seq)["after"]["state"].clone());
    assert_eq!(states(2), (json!("running"), json!("parked")));
    assert_eq!(states(3).0, "parked");
    assert_eq!((&record(4)["code"], &record(4)["before"]), (&json!("notFound"), &Value::Null));
    assert_eq!((&record(5)["code"], &record(5)["target"]["id"]), (&json!("invalidBody"), &Value::Null));
    assert_eq!(record(6)["after"]["breaker"], "open", "{}", record(6));
    assert_eq!(record(7)["before"]["breaker"], "open");
    assert_eq!(record(8)["after"]["sessions"]["parked"], 1, "{}", record(8));
    assert_eq!(record(9)["after"]["state"], "stopped");

    // Each is a line of the log, and no secret is in either.
    let log = eventually("the log has every record", || {
        let log = world.greenroom.program.err.text();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        (lines.filter(|line| line["message"] == "audit").count() == 9).then_some(log)
    });
    let line = log.lines().find(|line| line.contains("session.park")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["who"], &line["target_id"]), (&json!("admin"), &json!(id)), "{line}");
    assert_eq!(line["span"]["request_id"], "r-park", "{line}");
    assert!(!log.contains(TOKEN), "{log}");
    assert!(!json!(found).to_string().contains(TOKEN), "{found:?}");
    world.greenroom.program.signal("TERM");
    assert_eq!(world.greenroom.program.wait().code(), Some(0));
}

#[test]
fn pages_give_each_record_once_from_the_newest_and_only_to_operators() {
    let world = World::usual();
    let (acme, admin) = (&world.greenroom.acme, &world.greenroom.admin);
    for _ in 0..7 {
        admin.send("/v1/tenants/acme/unpark", b"").is(202);
    }
    for limit in [1, 3, 7, 500] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let (page, next) = records(admin, &format!("?limit={limit}{cursor}"));
            assert!(page.len() <= limit, "{page:?}");
            seen.extend(page.iter().map(|record| record["seq"].as_u64().unwrap()));
            let Some(next) = next else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1], "limit {limit}");
    }
    for query in ["?limit=0", "?limit=501", "?cursor=c2VzXw", "?cursor=nonsense!", "?who=me"] {
        admin.get(&format!("/v1/audit{query}")).is_problem(422, "invalidQuery");
    }
    acme.get("/v1/audit").is_problem(404, "notFound");
    acme.at(admin.address()).get("/v1/audit").is_problem(401, "unauthorized");
}

#[test]
fn a_caller_who_leaves_before_the_answer_leaves_a_record() {
    let world = World::usual();
    let admin = &world.greenroom.admin;
    let head = admin.head("POST", "/v1/sessions", &["Content-Length: 100", "X-Request-Id: left-early"]);
    let mut stream = std::net::TcpStream::connect(admin.address()).unwrap();
    std::io::Write::write_all(&mut stream, (head + "{\"avatar_id\":").as_bytes()).unwrap();
    drop(stream);
    let record = eventually("it is recorded", || {
        records(admin, "").0.into_iter().find(|record| record["request_id"] == "left-early")
    });
    assert_eq!(record["action"], "session.create", "{record}");
    // The end of the body may be seen as its being broken, which is an answer that nobody hears.
    assert!(record["status"].is_null() || record["code"] == "brokenBody", "{record}");
    assert_eq!(record["after"], Value::Null, "{record}");
}
