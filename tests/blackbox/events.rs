//! The history of a session and the stream of events, over HTTP.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::{
    http::Client,
    process::eventually,
    world::{Greenroom, Settings, Simulator, World, create_avatar, serve},
};

/// One event as a reader of a stream gets it.
#[derive(Debug)]
struct Told {
    kind: String,
    id: Option<String>,
    data: Value,
}

/// A stream that is read line by line.
struct Listening(Box<dyn BufRead>);

impl Listening {
    /// Opens a stream, and waits until it says that it is open.
    #[track_caller]
    fn at(client: &Client, query: &str, last: Option<&str>) -> Self {
        let headers: Vec<_> = last.map(|last| ("Last-Event-ID", last)).into_iter().collect();
        let (head, body) = client.open(&format!("/v1/events{query}"), &headers);
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"), "{head:?}");
        assert_eq!(head.header("cache-control"), Some("no-store"), "{head:?}");
        let mut listening = Self(Box::new(BufReader::new(body)));
        listening.lines_until(|line| line.starts_with(": here")).expect("it is open");
        listening
    }

    /// Lines up to the one that is wanted; `None` at the end of the stream.
    fn lines_until(&mut self, is_wanted: impl Fn(&str) -> bool) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            let is_last = is_wanted(&line);
            lines.push(line);
            if is_last {
                return Some(lines);
            }
        }
    }

    fn next(&mut self) -> Option<Told> {
        loop {
            let lines = self.lines_until(str::is_empty)?;
            let field = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            if let Some(data) = field("data: ") {
                let data = serde_json::from_str(&data).unwrap();
                return Some(Told { kind: field("event: ").unwrap(), id: field("id: "), data });
            }
        }
    }

    #[track_caller]
    fn take(&mut self, count: usize) -> Vec<Told> {
        (0..count).map(|_| self.next().expect("the stream goes on")).collect()
    }
}

fn history(client: &Client, id: &str, query: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/sessions/{id}/history{query}")).is(200).json();
    page["events"].as_array().unwrap().clone()
}

/// What an event is, in a few words.
fn brief(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
    match event["kind"].as_str().unwrap() {
        "state" => format!("{} > {} {}", text("from"), text("to"), text("code")),
        "error" => format!("error {}", event["error"]["code"].as_str().unwrap()),
        "attempt" => format!("attempt {} {}", event["attempt"], text("outcome")),
        "request" => format!("request {} {}", text("outcome"), event["frames"].as_u64().unwrap() > 0),
        "operator" => format!("{} by {} {}", text("action"), text("who"), event["status"]),
        kind => format!("{kind} {}", text("action")),
    }
}

fn briefs(events: &[Value]) -> Vec<String> {
    events.iter().rev().map(brief).collect()
}

/// A session that ran, broke, spoke, and was parked and unparked by an operator.
fn lived(greenroom: &Greenroom, simulator: &Simulator) -> String {
    simulator.fault(
        &json!({"match": {"avatar_id": "a"}, "at": {"after_chunks": 1}, "do": {"drop": {"reset": true}}, "times": 1}),
    );
    let id = create_avatar(&greenroom.acme, "a");
    greenroom.until_state(&id, "running");
    let request =
        greenroom.acme.send(&format!("/v1/sessions/{id}/requests?wait=true"), &[0; 3200]).is(200).json();
    assert_eq!(request["outcome"], "completed", "{request}");
    greenroom.admin.send(&format!("/v1/sessions/{id}/park"), b"").is(200);
    greenroom.admin.send(&format!("/v1/sessions/{id}/unpark"), b"").is(200);
    greenroom.until_state(&id, "running");
    id
}

const LIFE: [&str; 15] = [
    "- > starting -",
    "attempt 1 running",
    "starting > running -",
    "error connectionClosed",
    "running > backing_off connectionClosed",
    "backing_off > starting -",
    "attempt 2 running",
    "starting > running -",
    "request completed true",
    "running > parked -",
    "session.park by admin 200",
    "parked > starting -",
    "session.unpark by admin 200",
    "attempt 1 running",
    "starting > running -",
];

#[test]
fn a_history_tells_a_sessions_life_newest_first_and_page_by_page() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let id = lived(greenroom, &world.simulator);
    let whole = eventually("the last event", || {
        let events = history(&greenroom.acme, &id, "");
        (brief(&events[0]) == "starting > running -").then_some(events)
    });
    // The answer to an operator and what its command leads to are told by two threads.
    let sorted = |mut briefs: Vec<String>| {
        briefs.sort();
        briefs
    };
    let expected = LIFE.iter().map(ToString::to_string).collect();
    assert_eq!(sorted(briefs(&whole)), sorted(expected), "{:#?}", briefs(&whole));
    assert_eq!(briefs(&whole)[..9], LIFE[..9]);
    for pair in whole.windows(2) {
        assert!(
            pair[0]["id"].as_u64() > pair[1]["id"].as_u64()
                && pair[0]["at"].as_str() >= pair[1]["at"].as_str()
        );
    }
    assert!(whole.iter().all(|event| event["tenant"] == "acme" && event["session"] == id.as_str()));

    // What is known of each.
    let of = |what: &str| whole.iter().rev().find(|event| brief(event) == what).unwrap();
    let error = &of("error connectionClosed")["error"];
    let session = greenroom.until_state(&id, "running");
    assert_eq!(*error, session["last_error"]);
    assert_eq!(error["action"], "restart");
    let back = whole.iter().rev().filter(|event| brief(event) == "starting > running -").nth(1).unwrap();
    assert!(back["recovered_after_ms"].is_u64(), "{back}");
    assert!(of("running > backing_off connectionClosed")["next_attempt_at"].is_string());
    let attempt = of("attempt 1 running");
    for step in ["gate_ms", "token_ms", "connect_ms", "handshake_ms"] {
        assert!(attempt[step].is_u64(), "{step}: {attempt}");
    }
    assert!(attempt["connection_id"].is_string(), "{attempt}");
    let request = of("request completed true");
    assert_eq!((&request["audio_ms"], &request["breaks"]), (&json!(100), &json!(1)), "{request}");
    assert!(request["duration_ms"].as_u64() >= request["first_frame_ms"].as_u64(), "{request}");

    // By pages of any size it is the same.
    for limit in [1, 4, 15] {
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let after = cursor.map(|cursor: String| format!("&cursor={cursor}")).unwrap_or_default();
            let path = format!("/v1/sessions/{id}/history?limit={limit}{after}");
            let page = greenroom.admin.get(&path).is(200).json();
            let events = page["events"].as_array().unwrap();
            assert!(!events.is_empty() && events.len() <= limit, "{page}");
            paged.extend(events.clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(paged, whole, "{limit}");
    }
    for wrong in ["limit=0", "limit=501", "cursor=x", "newest=1"] {
        greenroom.acme.get(&format!("/v1/sessions/{id}/history?{wrong}")).is_problem(422, "invalidQuery");
    }
}

#[test]
fn a_history_survives_the_process_and_goes_with_its_session() {
    let simulator = Simulator::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        store: format!("url = \"redb:{}\"\n", folder.path().join("greenroom.redb").display()),
        tables: format!("{}[sessions]\nretention_s = 1\n", Settings::default().tables),
        ..Settings::default()
    };
    let toml = settings.toml(&simulator.console_url(), &simulator.ingress_url());
    let greenroom = Greenroom::start(&toml);
    let id = lived(&greenroom, &simulator);
    let before = eventually("the last event", || {
        let events = history(&greenroom.acme, &id, "");
        (events.len() == 15).then_some(events)
    });
    let path = greenroom.config_file();
    let (acme, admin) = (greenroom.acme.clone(), greenroom.admin.clone());
    let Greenroom { mut program, directory: _directory, .. } = greenroom;
    program.signal("TERM");
    program.wait();

    let (mut program, data, admin_at) = serve(&path);
    let (acme, admin) = (acme.at(data), admin.at(admin_at));
    let running = eventually("it runs again", || {
        let session = acme.get(&format!("/v1/sessions/{id}")).is(200).json();
        (session["state"] == "running").then_some(session)
    });
    assert_eq!(running["id"], id.as_str());
    let after = eventually("its new start is told", || {
        let events = history(&acme, &id, "");
        (events.len() >= before.len() + 2).then_some(events)
    });
    // Later processes have later numbers, and what was told stays as it was.
    assert_eq!(after[after.len() - before.len()..], before[..]);
    assert_eq!(briefs(&after).last().map(String::as_str), Some("starting > running -"));

    admin.call("DELETE", &format!("/v1/sessions/{id}"), None).is(200);
    eventually("it is forgotten", || (acme.get(&format!("/v1/sessions/{id}")).status == 404).then_some(()));
    acme.get(&format!("/v1/sessions/{id}/history")).is_problem(404, "notFound");
    program.signal("TERM");
    program.wait();
}

#[test]
fn a_stream_tells_each_reader_its_own_and_goes_on_where_it_broke() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let mut acme = Listening::at(&greenroom.acme, "", None);
    let mut globex = Listening::at(&greenroom.globex, "", None);
    let mut foreign = Listening::at(&greenroom.globex, "?tenant=acme", None);
    let mut admin = Listening::at(&greenroom.admin, "", None);
    let mut errors = Listening::at(&greenroom.admin, "?kind=error,tenant&tenant=acme", None);
    let id = lived(greenroom, &world.simulator);
    let mut parked = Listening::at(&greenroom.admin, &format!("?state=parked&session={id}"), None);

    let told = acme.take(15);
    assert_eq!(brief(&told[0].data), "- > starting -");
    for one in &told {
        assert_eq!(one.id.as_deref().unwrap().parse().ok(), one.data["id"].as_u64(), "{one:?}");
        assert_eq!(one.kind, one.data["kind"].as_str().unwrap());
    }
    let kept = eventually("all is in the history", || {
        let events = history(&greenroom.acme, &id, "");
        (events.len() == 15).then_some(events)
    });
    let streamed: Vec<Value> = told.iter().rev().map(|one| one.data.clone()).collect();
    assert_eq!(streamed, kept, "the stream and the history are the same");
    assert_eq!(admin.take(15).len(), 15);
    assert_eq!(brief(&errors.take(1)[0].data), "error connectionClosed");

    let theirs = create_avatar(&greenroom.globex, "theirs");
    let first = &globex.take(1)[0];
    assert_eq!(first.data["session"], theirs.as_str(), "nothing of acme's came before");
    greenroom.admin.send(&format!("/v1/sessions/{id}/park"), b"").is(200);
    assert_eq!(brief(&parked.take(1)[0].data), "running > parked -");

    // Behind an event that is known everything after it; behind one of nobody's it is told that there is a gap.
    let mut resumed = Listening::at(&greenroom.acme, "", told[11].id.as_deref());
    let again = resumed.take(3);
    let rest: Vec<_> = told[12..].iter().map(|one| one.data.clone()).collect();
    assert_eq!(again.iter().map(|one| one.data.clone()).collect::<Vec<_>>(), rest);
    let mut late = Listening::at(&greenroom.acme, "", Some("7"));
    let gap = &late.take(1)[0];
    assert_eq!((gap.kind.as_str(), &gap.id), ("gap", &None));
    assert_eq!((&gap.data["missed"], &gap.data["from"]), (&Value::Null, &json!(7)), "{gap:?}");
    assert_eq!(late.take(1)[0].data, told[0].data);

    // A tenant that asks for another's hears nothing, also not by and by.
    drop((acme, globex));
    greenroom.admin.send("/v1/drain", b"").is(202);
    assert!(foreign.next().is_none(), "nothing came, and the stream has ended with the process");
    assert!(std::iter::from_fn(|| admin.next()).any(|one| brief(&one.data).contains("> stopped")));
}

#[test]
fn a_stream_refuses_what_it_cannot_mean() {
    let world = World::usual();
    let (acme, globex) = (&world.greenroom.acme, &world.greenroom.globex);
    let id = create_avatar(acme, "a");
    for (wrong, known) in [
        ("kind=states", "upstream"),
        ("kind=state,", "upstream"),
        ("state=asleep", "dormant"),
        ("code=x", "code"),
        ("since=1", "since"),
    ] {
        let problem = acme.get(&format!("/v1/events?{wrong}")).is_problem(422, "invalidQuery");
        assert!(problem["detail"].as_str().unwrap().contains(known), "{problem}");
    }
    globex.get(&format!("/v1/events?session={id}")).is_problem(404, "notFound");
    acme.get("/v1/events?session=ses_absent").is_problem(404, "notFound");
    let ask = |last| acme.try_call_with("GET", "/v1/events", &[("Last-Event-ID", last)], None).unwrap();
    ask("abc").is_problem(422, "invalidQuery");
    assert_eq!(
        acme.call("HEAD", "/v1/events", None).is(200).header("content-type"),
        Some("text/event-stream")
    );
}

#[test]
fn a_tenant_has_so_many_streams_and_each_that_ends_makes_room() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let streams = || greenroom.metric("greenroom_event_streams", &[]);
    let mut open: Vec<Listening> = (0..32).map(|_| Listening::at(&greenroom.acme, "", None)).collect();
    assert_eq!(streams(), 32.0);
    let problem = greenroom.acme.get("/v1/events").is_problem(429, "tooManyStreams");
    assert!(problem["detail"].as_str().unwrap().contains("close one first"), "{problem}");
    let _other = Listening::at(&greenroom.globex, "", None);
    open.truncate(31);
    // The server notices a closed connection when it has something to say on it.
    create_avatar(&greenroom.acme, "a");
    eventually("there is room", || (streams() <= 32.0).then_some(()));
    let _again = Listening::at(&greenroom.acme, "", None);
}

#[test]
fn a_stream_ends_when_its_key_does() {
    let world = World::usual();
    let admin = &world.greenroom.admin;
    let made = json!({"id": "made", "app_id": "app-of-made", "upstream_api_key": "upstream-of-made"});
    let first = admin.post("/v1/tenants", &made).is(201).json();
    let key = first["key"].as_str().unwrap();
    let mut listening = Listening::at(&world.greenroom.acme.with_key(key), "?kind=client", None);
    let name = first["keys"][0]["name"].as_str().unwrap();
    admin.call("DELETE", &format!("/v1/tenants/made/keys/{name}"), None).is(204);
    // At the next sign of life.
    assert!(listening.next().is_none());
}

#[test]
fn changes_of_tenants_and_of_the_breaker_are_told_to_operators_alone() {
    let world = World::usual();
    let admin = &world.greenroom.admin;
    let mut told = Listening::at(admin, "?kind=tenant,upstream,operator", None);
    let mut acme = Listening::at(&world.greenroom.acme, "?kind=tenant,upstream,operator", None);
    let made = json!({"id": "made", "app_id": "app-of-made", "upstream_api_key": "upstream-of-made"});
    admin.post("/v1/tenants", &made).is(201);
    admin.call("PATCH", "/v1/tenants/made", Some(br#"{"max_sessions": 3}"#)).is(200);
    admin.send("/v1/upstreams/primary/open", b"").is(200);
    admin.send("/v1/upstreams/primary/close", b"").is(200);
    admin.call("DELETE", "/v1/tenants/made", None).is(204);
    let mut seen: Vec<String> = told
        .take(10)
        .iter()
        .map(|one| match one.kind.as_str() {
            "upstream" => {
                format!("{} {}", one.data["name"].as_str().unwrap(), one.data["breaker"].as_str().unwrap())
            }
            _ => format!("{} {}", one.data["tenant"].as_str().unwrap_or("-"), brief(&one.data)),
        })
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "- upstream.close by admin 200",
            "- upstream.open by admin 200",
            "made tenant changed",
            "made tenant created",
            "made tenant deleted",
            "made tenant.change by admin 200",
            "made tenant.create by admin 201",
            "made tenant.delete by admin 204",
            "primary closed",
            "primary open",
        ]
    );
    // A billing error suspends its tenant, which that is told.
    world.simulator.fault(&json!({"match": {"avatar_id": "poor"}, "at": "upgrade",
        "do": {"http": {"status": 402, "body": "session denied: credits exhausted"}}}));
    create_avatar(&world.greenroom.acme, "poor");
    let first = &acme.take(1)[0];
    assert_eq!((first.kind.as_str(), &first.data["action"]), ("tenant", &json!("suspended")), "{first:?}");
    assert_eq!(first.data["code"], "creditsExhausted", "nothing of other tenants came before");
}

/// A reader that never reads does not hold the process, and others hear all.
#[test]
fn a_reader_that_does_not_read_costs_the_others_nothing() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let _deaf = greenroom.acme.open("/v1/events", &[]);
    let mut listening = Listening::at(&greenroom.acme, "?state=running", None);
    for number in 0..20 {
        create_avatar(&greenroom.acme, &format!("a{number}"));
    }
    assert_eq!(listening.take(20).len(), 20);
}
