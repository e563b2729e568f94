//! Request ids, and what is logged of a request.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    http::Answer,
    process::eventually,
    world::{Settings, World, create_avatar},
};

const HEADER: &str = "x-request-id";

#[track_caller]
fn id_of(answer: &Answer) -> String {
    answer.header(HEADER).unwrap_or_else(|| panic!("no request id: {answer:?}")).to_owned()
}

fn is_made(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn chatty(format: &str) -> Settings {
    Settings {
        telemetry: format!("log_level = \"debug\"\nlog_format = \"{format}\"\n"),
        ..Settings::default()
    }
}

/// The line of the access log of the request with this id.
#[track_caller]
fn logged(world: &World, id: &str) -> Value {
    eventually(&format!("{id} is logged"), || {
        let log = world.greenroom.program.err.text();
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"] == "request answered" && line["span"]["request_id"] == id)
    })
}

#[test]
fn every_answer_has_an_id_of_its_own_and_a_sane_one_of_the_client_s_stays() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let mut made = BTreeSet::new();
    for client in [&greenroom.acme, &greenroom.admin] {
        for path in ["/v1/sessions", "/v1/sessions/ses_absent", "/no/such/path", "/healthz", "/metrics"] {
            for client in [client.clone(), client.without_key()] {
                let id = id_of(&client.get(path));
                assert!(is_made(&id), "{id}");
                assert!(made.insert(id), "an id came twice");
            }
        }
        let sent = |value: &str| {
            let headers = [("X-Request-Id", value)];
            id_of(&client.try_call_with("GET", "/v1/sessions", &headers, None).unwrap())
        };
        let longest = "r".repeat(128);
        for sane in ["mine", "3f0a7c1e-89ab-4cde-8f01-23456789abcd", "Root=1-67891233-abcdef", &longest] {
            assert_eq!(sent(sane), *sane);
        }
        for insane in ["two words", "a\"b", "{}", "%0a", &"r".repeat(129), ""] {
            let id = sent(insane);
            assert!(is_made(&id), "{insane}: {id}");
        }
        let twice = [("X-Request-Id", "one"), ("X-Request-Id", "two")];
        assert!(is_made(&id_of(&client.try_call_with("GET", "/", &twice, None).unwrap())));
    }
}

#[test]
fn a_problem_names_the_id_that_the_log_has() {
    let world = World::start(&chatty("json"));
    let headers = [("X-Request-Id", "find-me-7")];
    let client = &world.greenroom.acme;
    let answer = client.try_call_with("GET", "/v1/sessions/ses_absent", &headers, None).unwrap();
    assert_eq!(answer.is_problem(404, "notFound")["request_id"], "find-me-7");
    let line = logged(&world, "find-me-7");
    assert_eq!(line["status"], 404, "{line}");
    assert_eq!(
        (&line["span"]["method"], &line["span"]["path"]),
        (&json!("GET"), &json!("/v1/sessions/ses_absent")),
        "{line}"
    );
}

#[test]
fn a_query_is_not_logged() {
    for format in ["json", "text"] {
        let world = World::start(&chatty(format));
        let headers = [("X-Request-Id", "with-a-query")];
        let path = "/v1/sessions?sessionKey=hush-hush&appId=app-hush";
        world
            .greenroom
            .acme
            .try_call_with("GET", path, &headers, None)
            .unwrap()
            .is_problem(422, "invalidQuery");
        let log = eventually("the request is logged", || {
            let log = world.greenroom.program.err.text();
            let found =
                log.lines().any(|line| line.contains("with-a-query") && line.contains("request answered"));
            found.then_some(log)
        });
        assert!(!log.contains("hush"), "{log}");
    }
}

#[test]
fn what_the_manager_logs_of_a_request_has_its_id() {
    let world = World::start(&Settings {
        telemetry: "log_level = \"info\"\nlog_format = \"json\"\n".to_owned(),
        ..Settings::default()
    });
    let acme = &world.greenroom.acme;
    let headers = [("X-Request-Id", "makes-a-session")];
    acme.try_call_with("POST", "/v1/sessions", &headers, Some(b"{\"avatar_id\": \"a\"}")).unwrap().is(201);
    create_avatar(acme, "b");
    let ids = eventually("both sessions are logged", || {
        let log = world.greenroom.program.err.text();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ids: Vec<String> = lines
            .filter(|line| line["message"] == "session starts")
            .map(|line| line["span"]["request_id"].as_str().unwrap_or_default().to_owned())
            .collect();
        (ids.len() == 2).then_some(ids)
    });
    assert_eq!(ids[0], "makes-a-session");
    assert!(is_made(&ids[1]), "{ids:?}");
}
