//! Every path of the documents, with every kind of key.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    http::{Answer, Client},
    openapi::document,
    world::{ACME_KEY, ADMIN_KEY, GLOBEX_KEY, Settings, WEBHOOK, WEBHOOK_ID, World, create_avatar},
};

/// One operation of a document, aimed at something of acme's.
struct Call {
    method: String,
    path: String,
    /// The same, aimed at what is not there; `None` where the path has no parameter.
    absent: Option<String>,
    body: Option<Vec<u8>>,
    is_public: bool,
    is_a_session_s: bool,
}

/// What stands for a path's parameter.
fn parameter(before: &str, name: &str, session: &str, request: &str) -> String {
    match (before, name) {
        ("sessions" | "s", "id") => session,
        ("requests", "req_id") => request,
        ("tenants", "id") => "acme",
        // Keys of the file have such names, and are not changed over HTTP.
        ("keys", "name") => "some",
        ("upstreams", "name") => "primary",
        ("webhooks", "id") => WEBHOOK_ID,
        _ => panic!("/{before}/{{{name}}}: say in tests/blackbox/matrix.rs what stands for it"),
    }
    .to_owned()
}

impl Call {
    fn new(method: &str, path: &str, operation: &Value, session: &str, request: &str) -> Self {
        let segments: Vec<&str> = path.split('/').collect();
        let fill = |absent: bool| {
            let mut filled = vec![segments[0].to_owned()];
            for pair in segments.windows(2) {
                let name = pair[1].strip_prefix('{').and_then(|name| name.strip_suffix('}'));
                filled.push(match name {
                    Some(_) if absent => "absent".to_owned(),
                    Some(name) => parameter(pair[0], name, session, request),
                    None => pair[1].to_owned(),
                });
            }
            filled.join("/")
        };
        let content = &operation["requestBody"]["content"];
        let body = if content["application/octet-stream"].is_object() {
            Some(b"pcm!".to_vec())
        } else if path == "/v1/sessions" && method == "POST" {
            Some(json!({"avatar_id": "made", "tenant": "acme"}).to_string().into_bytes())
        } else if path == "/v1/tenants" && method == "POST" {
            let made = json!({"id": "made", "app_id": "app-of-made", "upstream_api_key": "upstream-of-made"});
            Some(made.to_string().into_bytes())
        } else if path.ends_with("/keys") {
            Some(json!({"name": "second"}).to_string().into_bytes())
        } else if path.ends_with("/interrupt") {
            Some(json!({"req_id": request}).to_string().into_bytes())
        } else {
            (method != "GET" && method != "DELETE").then(|| b"{}".to_vec())
        };
        Self {
            method: method.to_owned(),
            path: fill(false),
            absent: path.contains('{').then(|| fill(true)),
            body,
            is_public: operation["security"] == json!([{}]),
            is_a_session_s: path.starts_with("/v1/sessions/{id}"),
        }
    }

    fn by(&self, client: &Client) -> Answer {
        client.call(&self.method, &self.path, self.body.as_deref())
    }

    fn of_absent_by(&self, client: &Client) -> Option<Answer> {
        self.absent.as_ref().map(|path| client.call(&self.method, path, self.body.as_deref()))
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Every operation that a listener's document has, each with a session of its own that runs.
fn calls(world: &World, client: &Client) -> Vec<Call> {
    let greenroom = &world.greenroom;
    let document = document(client);
    let mut calls = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation["tags"][0] == "drop-in" {
                // Keys of its own, and no problems: see the test below.
                continue;
            }
            let session = create_avatar(&greenroom.acme, "mine");
            greenroom.until_state(&session, "running");
            let send = format!("/v1/sessions/{session}/requests?wait=true");
            let sent = greenroom.acme.send(&send, b"pcm!").is(200).json();
            let request = sent["req_id"].as_str().unwrap();
            calls.push(Call::new(&method.to_uppercase(), path, operation, &session, request));
        }
    }
    // What ends the process comes last.
    calls.sort_by_key(|call| call.path == "/v1/drain");
    calls
}

/// That two answers differ in nothing but the request's id.
#[track_caller]
fn are_alike(one: &Answer, other: &Answer, name: &str) {
    let names = |answer: &Answer| {
        let fixed = |name: &str| name != "date" && name != "x-request-id";
        // In no order: headers of different names have none.
        answer.headers.iter().filter(|(name, _)| fixed(name)).cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!((one.status, one.body_without_id()), (other.status, other.body_without_id()), "{name}");
    assert_eq!(names(one), names(other), "{name}");
}

#[track_caller]
fn is_refused(call: &Call, client: &Client, who: &str) {
    let answer = call.by(client);
    if call.is_public {
        assert_eq!(answer.status, 200, "{who}: {}: {answer:?}", call.name());
        return;
    }
    answer.is_problem(401, "unauthorized");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{who}: {}", call.name());
    // Without the right key nobody learns what is there.
    if let Some(absent) = call.of_absent_by(client) {
        are_alike(&answer, &absent, &format!("{who}: {}", call.name()));
    }
}

#[track_caller]
fn is_served(call: &Call, client: &Client) {
    let answer = call.by(client);
    if call.path.ends_with("/pause") || call.path.ends_with("/resume") {
        // A session without egress, whose frames its owner plays.
        answer.is_problem(409, "pauseUnsupported");
        return;
    }
    let changes_a_tenant = call.path.starts_with("/v1/tenants/acme/keys") || call.path == "/v1/tenants/acme";
    if changes_a_tenant && call.method != "GET" {
        answer.is_problem(409, "managedByFile");
        return;
    }
    assert!((200..300).contains(&answer.status), "{}: {answer:?}", call.name());
}

#[test]
fn on_the_data_plane_every_path_knows_its_tenant_and_nobody_else() {
    let world = World::usual();
    let (acme, globex) = (&world.greenroom.acme, &world.greenroom.globex);
    let calls = calls(&world, acme);
    assert!(calls.len() >= 10, "{}", calls.len());
    for call in &calls {
        for (key, who) in [("key-of-nobody-at-all", "wrong"), (ADMIN_KEY, "admin"), ("", "empty")] {
            is_refused(call, &acme.with_key(key), who);
        }
        is_refused(call, &acme.without_key(), "none");
        if call.is_a_session_s {
            let foreign = call.by(globex);
            foreign.is_problem(404, "notFound");
            are_alike(&foreign, &call.of_absent_by(globex).unwrap(), &call.name());
        }
    }
    // Nothing of that has touched a session.
    for session in
        world.greenroom.admin.get("/v1/sessions?limit=500").is(200).json()["sessions"].as_array().unwrap()
    {
        assert_eq!((&session["state"], &session["restarts"]), (&json!("running"), &json!(0)), "{session}");
    }
    for call in &calls {
        if let Some(absent) = call.of_absent_by(acme) {
            absent.is_problem(404, "notFound");
        }
        is_served_here(call, acme);
    }
}

/// As [`is_served`]; a tenant does not say in the body who it is.
#[track_caller]
fn is_served_here(call: &Call, client: &Client) {
    if call.path == "/v1/sessions" && call.method == "POST" {
        call.by(client).is_problem(422, "invalidBody");
        client.post("/v1/sessions", &json!({"avatar_id": "made"})).is(201);
        return;
    }
    is_served(call, client);
}

#[test]
fn on_the_admin_plane_every_path_knows_the_admin_key_and_no_other() {
    let world = World::start(&Settings {
        tables: format!("{}{WEBHOOK}", Settings::default().tables),
        ..Settings::default()
    });
    let admin = &world.greenroom.admin;
    let calls = calls(&world, admin);
    assert!(calls.len() >= 20, "{}", calls.len());
    for call in &calls {
        for (key, who) in [("key-of-nobody-at-all", "wrong"), (ACME_KEY, "acme"), (GLOBEX_KEY, "globex")] {
            is_refused(call, &admin.with_key(key), who);
        }
        is_refused(call, &admin.without_key(), "none");
    }
    for session in admin.get("/v1/sessions?limit=500").is(200).json()["sessions"].as_array().unwrap() {
        assert_eq!((&session["state"], &session["restarts"]), (&json!("running"), &json!(0)), "{session}");
    }
    for call in &calls {
        if let Some(absent) = call.of_absent_by(admin) {
            absent.is_problem(404, "notFound");
        }
        is_served(call, admin);
        if call.path.contains("/tenants/acme/park") || call.path.contains("/upstreams/") {
            // What is parked or closed to all would refuse the next.
            admin.send("/v1/upstreams/primary/close", b"").is(200);
            admin.send("/v1/tenants/acme/unpark", b"").is(202);
            for session in admin.get("/v1/sessions?limit=500").is(200).json()["sessions"].as_array().unwrap()
            {
                if session["state"] != "stopped" {
                    world.greenroom.until_state(session["id"].as_str().unwrap(), "running");
                }
            }
        }
    }
}

/// A request for a session token with `X-Api-Key`.
fn token(client: &Client, path: &str, key: Option<&str>) -> Answer {
    let tomorrow =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600;
    let headers: Vec<(&str, &str)> = key.map(|key| ("X-Api-Key", key)).into_iter().collect();
    let body = json!({"expireAt": tomorrow}).to_string();
    client.without_key().try_call_with("POST", path, &headers, Some(body.as_bytes())).unwrap()
}

/// An upgrade with a token, as it is answered.
fn upgrade(client: &Client, path: &str, app: &str, key: Option<&str>) -> u16 {
    let key = key.map(|key| format!("&sessionKey={key}")).unwrap_or_default();
    let path = format!("{path}?id=mine&appId={app}{key}");
    let head = client.without_key().head(
        "GET",
        &path,
        &["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
    );
    let head = head.replace("Connection: close", "Connection: Upgrade");
    let mut stream = std::net::TcpStream::connect(client.address()).unwrap();
    stream.set_read_timeout(Some(super::process::DEADLINE)).unwrap();
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut line = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut line).unwrap();
    String::from_utf8_lossy(&line).split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_drop_in_paths_know_a_tenants_key_and_its_tokens_and_no_other() {
    let world = World::usual();
    let acme = &world.greenroom.acme;
    let document = document(acme);
    let operations = || {
        document["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
            let dropped = |operation: &&Value| operation["tags"][0] == "drop-in";
            operations.as_object().unwrap().values().filter(dropped).map(move |operation| (path, operation))
        })
    };
    let fresh = |key| {
        let answer = token(acme, "/v1/auth/session-token", Some(key)).is(200).json();
        answer["session_token"].as_str().unwrap().to_owned()
    };
    let (mut token_paths, mut upgrade_paths) = (0, 0);
    for (path, operation) in operations() {
        if !operation["requestBody"].is_null() {
            token_paths += 1;
            for key in [None, Some("key-of-nobody-at-all"), Some(ADMIN_KEY), Some("")] {
                let refused = token(acme, path, key).is(401).json();
                assert_eq!(refused["errors"][0]["status"], 401, "{path}: {key:?}: {refused}");
            }
            for key in [ACME_KEY, GLOBEX_KEY] {
                token(acme, path, Some(key)).is(200);
            }
            // The admin plane has no such path, whatever the key.
            token(&world.greenroom.admin, path, Some(ACME_KEY)).is_problem(404, "notFound");
            continue;
        }
        upgrade_paths += 1;
        let session = create_avatar(acme, "mine");
        world.greenroom.until_state(&session, "running");
        let (own, absent) = (path.replace("{id}", &session), path.replace("{id}", "absent"));
        for key in [None, Some("token-of-nobody-at-all"), Some(ACME_KEY), Some(ADMIN_KEY)] {
            assert_eq!(upgrade(acme, &own, "app-of-acme", key), 400, "{path}: {key:?}");
            assert_eq!(upgrade(acme, &absent, "app-of-acme", key), 400, "{path}: {key:?}");
        }
        let foreign = fresh(GLOBEX_KEY);
        assert_eq!(upgrade(acme, &own, "app-of-acme", Some(&foreign)), 400, "{path}");
        if path.contains("{id}") {
            for there in [&own, &absent] {
                let foreign = fresh(GLOBEX_KEY);
                assert_eq!(upgrade(acme, there, "app-of-globex", Some(&foreign)), 404, "{path}");
            }
        }
        assert_eq!(upgrade(acme, &own, "app-of-acme", Some(&fresh(ACME_KEY))), 101, "{path}");
    }
    assert_eq!((token_paths, upgrade_paths), (3, 3));
}
