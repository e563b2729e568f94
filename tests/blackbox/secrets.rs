//! Secrets stay where they are configured, whatever the service says back.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    http::{Client, exchange},
    process::eventually,
    world::{Settings, World, create, tenant},
};

/// Every secret of these tests begins and ends with these, so that a part of one is found too.
const HEAD: &str = "Xq7Zr9mK";
const TAIL: &str = "pW3vTn8dL";

fn secret(name: &str) -> String {
    format!("{HEAD}+/={name}={TAIL}")
}

/// The first part of the egress token: `{"alg":"none"}`.
const JWT_HEAD: &str = "eyJhbGciOiJub25lIn0";

/// A LiveKit token that has not expired, by the form that the simulator looks at.
fn egress_token() -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.encode(json!({"exp": 32_503_680_000_u64}).to_string());
    format!("{JWT_HEAD}.{claims}.{HEAD}lktoken{TAIL}")
}

fn percent_encoded(secret: &str) -> String {
    secret.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

/// A tenant whose token calls are answered in a way of its own, each quoting the tenant's API key.
fn token_faults() -> Vec<(&'static str, Value)> {
    let key = secret("refused");
    // The key lies across the end of what is kept of a body.
    let far = |padding: usize| format!("{} {key} {}", "x".repeat(padding), "y".repeat(200));
    let errors = json!({"errors": [{
        "id": key, "status": 503, "code": key, "title": format!("key {key}"), "detail": format!("no {key}")
    }]});
    vec![
        ("errors", json!({"http": {"status": 503, "body": errors}})),
        ("errors-in-200", json!({"http": {"status": 200, "body": errors}})),
        ("plain", json!({"http": {"status": 403, "body": format!("forbidden: {key}")}})),
        ("message", json!({"http": {"status": 401, "body": {"message": format!("unauthorized {key}")}}})),
        ("encoded", json!({"http": {"status": 500, "body": format!("?key={}", percent_encoded(&key))}})),
        ("far", json!({"http": {"status": 500, "body": far(2035)}})),
        ("farther", json!({"http": {"status": 500, "body": {"message": far(2030)}}})),
        ("cut", json!({"http": {"status": 502, "body": far(65_500)}})),
    ]
}

/// What the service does to the connections of one avatar, quoting the API key and the egress tokens.
fn live_faults() -> Vec<(&'static str, Value, Value)> {
    let (key, token) = (secret("echoed"), egress_token());
    let both = format!("egress {token} of key {key}");
    let said = |code: i32, req_id: bool, close: Value| json!({"server_error": {"code": code, "message": both, "req_id": req_id, "then_close": close}});
    let chunk = json!({"after_chunks": 1});
    vec![
        ("upgrade", json!("upgrade"), json!({"http": {"status": 402, "body": {"message": both}}})),
        ("upgrade-text", json!("upgrade"), json!({"http": {"status": 503, "body": both}})),
        ("handshake", json!("handshake"), said(3, false, json!({"code": 1008, "reason": token}))),
        ("handshake-close", json!("handshake"), json!({"close": {"code": 1011, "reason": token}})),
        ("request", chunk.clone(), said(14, true, Value::Null)),
        ("runtime", chunk.clone(), said(14, false, json!({"code": 4503, "reason": key}))),
        ("unfollowed", chunk.clone(), said(9999, false, Value::Null)),
        ("close", chunk, json!({"close": {"code": 1011, "reason": key}})),
    ]
}

fn settings(telemetry: &str, auth: &str) -> Settings {
    let tenants: Vec<String> = token_faults()
        .iter()
        .map(|(name, _)| tenant(name, &secret(&format!("tenant-{name}")), &secret("refused")))
        .chain([tenant("echo", &secret("tenant-echo"), &secret("echoed"))])
        .collect();
    Settings {
        admin: format!("listen = \"127.0.0.1:0\"\nkey = \"{}\"\n", secret("admin")),
        upstream: format!("auth = \"{auth}\"\nbreaker = {{ min_attempts = 100000 }}\n"),
        tenants: tenants.concat(),
        telemetry: format!("log_level = \"debug\"\n{telemetry}"),
        // A request that was sent again would run into the same fault on a second connection.
        tables: format!("[defaults]\ncontinuity = \"off\"\n{}", Settings::default().tables),
        ..Settings::default()
    }
}

/// A session whose egress has every kind of secret.
fn spec(avatar_id: &str) -> Value {
    json!({"avatar_id": avatar_id, "egress": {
        "type": "livekit", "url": "wss://room", "room_name": "r", "api_token": egress_token(),
        "api_key": secret("lk-key"), "api_secret": secret("lk-secret")
    }})
}

/// Asks in every way that gets an answer about a session, and in ways that go wrong with a secret in them.
fn ask_about(client: &Client, id: &str) {
    client.get(&format!("/v1/sessions/{id}")).is(200);
    client.get("/v1/sessions").is(200);
    client.send(&format!("/v1/sessions/{id}/interrupt"), b"");
    let path = format!("/v1/sessions?cursor={0}&api_key={0}", percent_encoded(&secret("tenant-echo")));
    assert_eq!(client.try_call("GET", &path, None).unwrap().status, 422);
    for body in [
        json!({"avatar_id": "a", "api_token": egress_token()}).to_string(),
        json!({"avatar_id": "a", "egress": {"type": "livekit", "api_token": [egress_token()]}}).to_string(),
        json!({"avatar_id": "a", "egress": {"type": "agora", "token": {"t": secret("agora")}}}).to_string(),
        format!("{{\"avatar_id\": \"a\", \"egress\": {{\"api_token\": \"{}", egress_token()),
    ] {
        let status = client.send("/v1/sessions", body.as_bytes()).status;
        assert!(status == 422 || status == 400, "{status}");
    }
}

/// Comes as a drop-in client whose token nobody gave out, and with a key that is none.
fn ask_ingress(client: &Client) {
    let token = secret("session");
    let upgrade =
        ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
    let query = format!("/v2/driveningress/websocket?id=a&appId=b&sessionKey={}", percent_encoded(&token));
    let (of_token, of_key) = (format!("X-Session-Key: grt_{token}"), format!("X-Api-Key: {token}"));
    let in_header = [&upgrade[..], &[of_token.as_str()]].concat();
    for (method, path, headers, status) in [
        ("GET", query.as_str(), &upgrade[..], 400),
        ("GET", "/s/x/v2/driveningress/websocket?id=a", &in_header, 400),
        ("POST", "/v1/auth/session-token", &[of_key.as_str(), "Content-Length: 0"], 401),
    ] {
        let head = client.head(method, path, headers).replace("Connection: close", "Connection: Upgrade");
        let answer = String::from_utf8(exchange(client.address(), head.as_bytes())).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        knows_no_secret("an answer of the ingress", &answer);
    }
}

#[track_caller]
fn knows_no_secret(what: &str, text: &str) {
    for (number, line) in text.lines().enumerate() {
        for part in [HEAD, TAIL, JWT_HEAD] {
            assert!(!line.contains(part), "{what}, line {}: {line}", number + 1);
        }
    }
}

/// Runs into every error, and gives each session with its name and its last error.
fn run_into_all(world: &World) -> Vec<(String, String, Value)> {
    let greenroom = &world.greenroom;
    let admin = greenroom.admin.with_key(&secret("admin"));
    let data = |name: &str| greenroom.acme.with_key(&secret(&format!("tenant-{name}")));
    let mut seen = Vec::new();
    for (name, fault) in token_faults() {
        world.simulator.fault(&json!({"match": {"api_key": secret("refused")}, "at": "token", "do": fault}));
        let id = create(&data(name), &json!({"avatar_id": format!("token-{name}")}));
        let error = eventually(name, || {
            Some(admin.get(&format!("/v1/sessions/{id}")).json()["last_error"].clone())
                .filter(|error| !error.is_null())
        });
        ask_about(&data(name), &id);
        data(name).call("DELETE", &format!("/v1/sessions/{id}"), None).is(200);
        world.simulator.control.call("DELETE", "/_sim/faults", None).is(204);
        seen.push((name.to_owned(), id, error));
    }
    let echo = data("echo");
    for (name, at, fault) in live_faults() {
        let avatar_id = format!("live-{name}");
        world.simulator.fault(&json!({"match": {"avatar_id": avatar_id}, "at": at, "do": fault}));
        let runs = at.is_object();
        let id = create(&echo, &spec(&avatar_id));
        if runs {
            let running = |session: &Value| session["state"] == "running";
            eventually("running", || running(&admin.get(&format!("/v1/sessions/{id}")).json()).then_some(()));
            let sent = echo.send(&format!("/v1/sessions/{id}/requests?wait=true"), b"pcm!").is(200).json();
            // An error that no close follows leaves the service a second to answer all the same.
            assert!(sent["outcome"] == "failed" || name == "unfollowed", "{name}: {sent}");
            let req_id = sent["req_id"].as_str().unwrap();
            echo.get(&format!("/v1/sessions/{id}/requests/{req_id}")).is(200);
        }
        let error = eventually(name, || {
            let session = admin.get(&format!("/v1/sessions/{id}")).json();
            Some(session["last_error"].clone()).filter(|error| runs && name == "request" || !error.is_null())
        });
        ask_about(&echo, &id);
        // A tenant that is suspended would not come as far with the next.
        echo.call("DELETE", &format!("/v1/sessions/{id}"), None).is(200);
        admin.send("/v1/tenants/echo/unpark", b"").is(202);
        seen.push((name.to_owned(), id, error));
    }
    ask_about(&admin, &seen[0].1);
    ask_ingress(&echo);
    greenroom.acme.without_key().get("/v1/sessions").is(401);
    greenroom.acme.with_key(&format!("{}x", secret("tenant-echo"))).get("/v1/sessions").is(401);
    for path in ["/v1/codes", "/v1/upstreams", "/metrics"] {
        admin.get(path).is(200);
    }
    seen
}

/// The whole life of a process that meets every error; gives its log and the errors.
fn life(telemetry: &str, auth: &str) -> (String, Vec<(String, String, Value)>) {
    let mut world = World::start(&settings(telemetry, auth));
    let seen = run_into_all(&world);
    let greenroom = &mut world.greenroom;
    greenroom.program.signal("TERM");
    assert_eq!(greenroom.program.wait().code(), Some(0));
    let (written, heard) = (greenroom.program.written(), greenroom.heard());
    knows_no_secret("the output", &written);
    knows_no_secret("an answer", &heard);
    for (name, id, error) in &seen {
        // The service's words did arrive; of those that are cut, the padding did.
        let told = if name == "request" { heard.clone() } else { error.to_string() };
        assert!(told.contains("[redacted]") || told.contains("xxxx"), "{name}: {error}");
        assert!(written.contains(id), "{name}");
    }
    (written, seen)
}

#[test]
fn no_secret_that_the_service_quotes_is_in_a_text_log_or_an_answer() {
    let (written, seen) = life("log_format = \"text\"\n", "header");
    assert!(written.matches("session error").count() >= seen.len(), "{written}");
}

#[test]
fn no_secret_that_the_service_quotes_is_in_a_json_log_whose_errors_say_where_they_happened() {
    let (written, seen) = life("log_format = \"json\"\n", "query");
    let lines: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let errors: Vec<&Value> = lines.iter().filter(|line| line["message"] == "session error").collect();
    for error in &errors {
        for member in ["session", "tenant", "code", "phase"] {
            assert!(error[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {error}");
        }
        assert!(error["connection_id"].is_string() && error["close_code"].is_u64(), "{error}");
    }
    for (name, id, last) in seen.iter().filter(|(_, _, last)| !last.is_null()) {
        let line = errors.iter().find(|line| line["session"] == **id).unwrap_or_else(|| panic!("{name}"));
        for member in ["code", "phase"] {
            assert_eq!(line[member], last[member], "{name}: {line}");
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        assert_eq!(text(&line["connection_id"]), text(&last["connection_id"]), "{name}: {line}");
        assert_eq!(line["close_code"], last["close_code"].as_u64().unwrap_or_default(), "{name}: {line}");
    }
    let closed = errors.iter().find(|line| line["close_code"] == 1011).expect("an error with a close code");
    assert_eq!(closed["tenant"], "echo");
}

#[test]
fn a_secret_is_found_as_json_escapes_it_and_where_the_service_cut_it() {
    let world = World::start(&settings("", "header"));
    let echo = world.greenroom.acme.with_key(&secret("tenant-echo"));
    let key = secret("echoed");
    let escaped = format!("{{\"message\": \"bad key {}\"}}", key.replace('/', "\\/"));
    for (name, fault) in [
        ("escaped", json!({"http": {"status": 500, "body": escaped}})),
        // A close reason has 123 bytes: what a service puts in there of a long token is its beginning.
        ("cut", json!({"close": {"code": 1011, "reason": format!("invalid key {}", &key[..20])}})),
    ] {
        let at = if name == "cut" { "handshake" } else { "upgrade" };
        world.simulator.fault(&json!({"match": {"avatar_id": name}, "at": at, "do": fault}));
        let id = create(&echo, &json!({"avatar_id": name}));
        let session = eventually(name, || {
            let session = echo.get(&format!("/v1/sessions/{id}")).json();
            (!session["last_error"].is_null()).then_some(session)
        });
        knows_no_secret(name, &session.to_string());
    }
}
