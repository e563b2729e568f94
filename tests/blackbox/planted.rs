//! Secrets in every place that takes one, in a process that logs all that it can, lives, errs, is killed and comes
//! back: none of them is in a log, a metric, an answer or the store's file, in any form that a program gives them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{
    http::{Client, exchange},
    process::eventually,
    world::{Greenroom, Settings, Simulator, create, tenant},
};

/// What a secret of this name is: with characters that are written otherwise in a URL and in base64.
fn secret(name: &str) -> String {
    format!("Pl4nt3d+/={name}=/+s3cr3t")
}

const NAMES: [&str; 10] = [
    "admin",
    "acme",
    "globex",
    "upstream-acme",
    "upstream-globex",
    "lk-key",
    "lk-secret",
    "agora",
    "nobody",
    "typo",
];

/// A LiveKit token by its form.
fn livekit_token() -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let claims = json!({"exp": 32_503_680_000_u64, "sub": "Pl4nt3d-livekit"}).to_string();
    format!("{}.{}.{}", part(r#"{"alg":"none"}"#), part(&claims), part("Pl4nt3d-signature"))
}

/// The key of the store, 32 bytes.
fn store_key() -> String {
    (0..32_u8).map(|byte| format!("{:02x}", byte.wrapping_mul(37) ^ 0x5a)).collect()
}

/// The text in base64 wherever it may begin in what is encoded: the part that does not hang on what is beside it.
fn in_base64(text: &str) -> impl Iterator<Item = String> {
    (0..3).map(|before| {
        let whole = BASE64_STANDARD.encode([&vec![b'x'; before][..], text.as_bytes()].concat());
        let end = whole.trim_end_matches('=').len();
        whole[4..end - 2].to_owned()
    })
}

/// Every form in which a secret could be written.
fn forms(text: &str) -> Vec<String> {
    let percent: String = text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap();
        }
        out
    });
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let listed = text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let mut forms =
        vec![text.to_owned(), percent.to_lowercase(), percent, hex, listed, text.replace('/', "\\/")];
    for encoded in in_base64(text) {
        forms.push(encoded.replace('+', "-").replace('/', "_"));
        forms.push(encoded);
    }
    forms
}

/// The secrets by what they are.
type Planted = BTreeMap<String, String>;

fn planted() -> Planted {
    let mut planted: Planted = NAMES.map(|name| (name.to_owned(), secret(name))).into();
    planted.insert("livekit".to_owned(), livekit_token());
    planted.insert("livekit, signed part".to_owned(), livekit_token().rsplit('.').next().unwrap().to_owned());
    planted.insert("store".to_owned(), store_key());
    planted
}

/// The secrets that are in `bytes`, each with what is around it.
fn found(planted: &Planted, bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let near = |at: usize| {
        let (from, to) = (text.floor_char_boundary(at.saturating_sub(150)), text.ceil_char_boundary(at + 60));
        text[from..to].to_owned()
    };
    let mut found: Vec<String> = planted
        .iter()
        .flat_map(|(name, secret)| forms(secret).into_iter().map(move |form| (name, form)))
        .filter_map(|(name, form)| text.find(&form).map(|at| format!("{name}: {}", near(at))))
        .collect();
    // The service's session tokens, which are drawn by the simulator.
    let token = |rest: &str| rest.len() >= 12 && rest.bytes().take(12).all(|byte| byte.is_ascii_hexdigit());
    let tokens = text.match_indices("sim_").filter(|(at, mark)| token(&text[at + mark.len()..]));
    found.extend(tokens.map(|(at, _)| format!("a session token: {}", near(at))));
    found
}

#[track_caller]
fn has_none(planted: &Planted, what: &str, bytes: &[u8]) {
    assert!(bytes.len() > 100, "there is nothing to look at in {what}");
    let found = found(planted, bytes);
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

fn settings(store: &Path, seals: &str) -> Settings {
    Settings {
        admin: format!("listen = \"127.0.0.1:0\"\nkey = \"{}\"\n", secret("admin")),
        store: format!("url = \"redb:{}\"\n{seals}", store.display()),
        tenants: ["acme", "globex"]
            .map(|name| tenant(name, &secret(name), &secret(&format!("upstream-{name}"))))
            .concat(),
        telemetry: "log_level = \"trace\"\n".to_owned(),
        ..Settings::default()
    }
}

fn egress_specs() -> [Value; 2] {
    [
        json!({"avatar_id": "livekit", "egress": {
            "type": "livekit", "url": "wss://room", "room_name": "r", "publisher_id": "p",
            "api_token": livekit_token(), "api_key": secret("lk-key"), "api_secret": secret("lk-secret")
        }}),
        json!({"avatar_id": "agora", "egress": {
            "type": "agora", "channel_name": "c", "token": secret("agora"), "uid": 7, "publisher_id": "p"
        }}),
    ]
}

/// A drop-in client's token, which is given to it and to nobody else, and an upgrade with it.
fn drop_in(greenroom: &Greenroom) -> String {
    let acme = &greenroom.acme;
    let key = format!("X-Api-Key: {}", secret("acme"));
    let head = acme.without_key().head(
        "POST",
        "/v1/auth/session-token",
        &[&key, "Content-Type: application/json", "Content-Length: 24"],
    );
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
    let body = format!("{{\"expireAt\": {soon}}}");
    let answer =
        String::from_utf8(exchange(acme.address(), &[head.as_bytes(), body.as_bytes()].concat())).unwrap();
    let at = answer.find("grt_").unwrap_or_else(|| panic!("no token: {answer}"));
    let token: String = answer[at..].chars().take_while(|c| !matches!(c, '"' | '\r' | '\n')).collect();
    // Its answer comes after the service's; the client leaves then.
    let head = acme.without_key().head(
        "GET",
        &format!("/v2/driveningress/websocket?id=drop-in&appId=app-of-acme&sessionKey={token}"),
        &["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
    );
    let head = head.replace("Connection: close", "Connection: Upgrade");
    let bad_frame = [0x81, 0x80, 0, 0, 0, 0];
    let answer = exchange(acme.address(), &[head.as_bytes(), &bad_frame].concat());
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    token
}

fn speak(client: &Client, id: &str) {
    let sent = client.send(&format!("/v1/sessions/{id}/requests?wait=true"), &[0; 3200]).is(200).json();
    client.get(&format!("/v1/sessions/{id}/requests/{}", sent["req_id"].as_str().unwrap())).is(200);
}

/// Refused in every way that has a secret in it.
fn be_refused(greenroom: &Greenroom, id: &str) {
    let nobody = greenroom.acme.with_key(&secret("nobody"));
    for path in ["/v1/sessions".to_owned(), format!("/v1/sessions/{id}"), format!("/s/{id}/v2/x")] {
        assert!(matches!(nobody.get(&path).status, 401 | 404));
    }
    greenroom.admin.with_key(&secret("nobody")).get("/v1/sessions").is(401);
    let acme = greenroom.acme.with_key(&secret("acme"));
    for body in [
        json!({"avatar_id": "a", "api_token": livekit_token()}),
        json!({"avatar_id": "a", "egress": {"type": "agora", "tokn": secret("typo")}}),
        json!({"avatar_id": "a", "egress": {"type": secret("typo")}}),
        json!({"avatar_id": "a", "sample_rate": secret("typo")}),
    ] {
        assert_eq!(acme.post("/v1/sessions", &body).status, 422, "{body}");
    }
}

#[test]
fn no_secret_that_was_planted_is_anywhere_after_a_life_of_success_failure_and_crash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greenroom.redb");
    let simulator = Simulator::start();
    let seals = format!("encryption_key = \"{}\"\n", store_key());
    let toml = settings(&path, &seals).toml(&simulator.console_url(), &simulator.ingress_url());
    let mut planted = planted();

    let mut greenroom = Greenroom::start(&toml);
    let (acme, globex) =
        (greenroom.acme.with_key(&secret("acme")), greenroom.globex.with_key(&secret("globex")));
    let mut ids = Vec::new();
    for (number, spec) in egress_specs().iter().enumerate() {
        let id = create(&acme.with_idempotency_key(&format!("key-{number}")), spec);
        let again = create(&acme.with_idempotency_key(&format!("key-{number}")), spec);
        assert_eq!(id, again);
        ids.push(id);
    }
    ids.push(create(&globex, &json!({"avatar_id": "plain"})));
    for id in &ids {
        let owner = if *id == ids[2] { &globex } else { &acme };
        eventually("it runs", || {
            (owner.get(&format!("/v1/sessions/{id}")).json()["state"] == "running").then_some(())
        });
        speak(owner, id);
    }
    let token = drop_in(&greenroom);
    planted.insert("drop-in token".to_owned(), token["grt_".len()..].to_owned());
    let quoting = format!("no credit left for {}", secret("upstream-globex"));
    simulator.fault(&json!({"match": {"avatar_id": "plain"}, "at": "upgrade",
        "do": {"http": {"status": 402, "body": {"message": quoting}}}}));
    let admin = greenroom.admin.with_key(&secret("admin"));
    admin.send(&format!("/v1/sessions/{}/restart", ids[2]), b"").is(200);
    eventually("it is parked", || {
        (admin.get(&format!("/v1/sessions/{}", ids[2])).json()["state"] == "parked").then_some(())
    });
    be_refused(&greenroom, &ids[0]);
    for path in ["/metrics", "/readyz", "/v1/codes", "/v1/upstreams", "/v1/sessions"] {
        admin.get(path).is(200);
    }
    greenroom.program.signal("KILL");
    greenroom.program.wait();
    let first = (greenroom.program.written(), greenroom.heard());
    drop(greenroom);

    let mut greenroom = Greenroom::start(&toml);
    let admin = greenroom.admin.with_key(&secret("admin"));
    for id in &ids[..2] {
        eventually("it runs again", || {
            (admin.get(&format!("/v1/sessions/{id}")).json()["state"] == "running").then_some(())
        });
    }
    admin.get("/metrics").is(200);
    greenroom.program.signal("TERM");
    assert_eq!(greenroom.program.wait().code(), Some(0));
    for (what, text) in [
        ("the first log", &first.0),
        ("the first answers", &first.1),
        ("the second log", &greenroom.program.written()),
        ("the second answers", &greenroom.heard()),
    ] {
        has_none(&planted, what, text.as_bytes());
    }
    assert!(first.0.contains("TRACE"), "nothing was logged at the level of most words");
    let kept = fs::read(&path).unwrap();
    has_none(&planted, "the store's file", &kept);
    assert!(String::from_utf8_lossy(&kept).contains(&ids[0]), "the sessions are not in this file");
}

#[test]
fn a_secret_without_a_key_is_refused_and_in_clear_it_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let simulator = Simulator::start();
    let start = |name: &str, seals: &str| {
        let path = directory.path().join(name);
        let toml = settings(&path, seals).toml(&simulator.console_url(), &simulator.ingress_url());
        (Greenroom::start(&toml), path)
    };
    let (greenroom, path) = start("refusing.redb", "");
    let acme = greenroom.acme.with_key(&secret("acme"));
    for spec in egress_specs() {
        acme.post("/v1/sessions", &spec).is_problem(422, "noEncryptionKey");
    }
    drop(greenroom);
    has_none(&planted(), "the file of one that refuses", &fs::read(path).unwrap());

    // What looks for secrets finds them where they are.
    let (mut greenroom, path) = start("clear.redb", "plaintext_secrets = true\n");
    let acme = greenroom.acme.with_key(&secret("acme"));
    for spec in egress_specs() {
        create(&acme, &spec);
    }
    greenroom.program.signal("TERM");
    greenroom.program.wait();
    let found = found(&planted(), &fs::read(path).unwrap());
    for name in ["livekit", "agora", "lk-key", "lk-secret"] {
        assert!(found.iter().any(|found| found.starts_with(&format!("{name}: "))), "{name} is not seen");
    }
    for form in forms(&secret("agora")) {
        assert!(!super::planted::found(&planted(), form.as_bytes()).is_empty(), "{form}");
    }
}
