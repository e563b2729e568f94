//! Webhooks: what happens is posted, signed, to whoever is concerned.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{Arc, Mutex},
};

use actix_http::Method;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::world::{ACME, ADMIN_KEY, GLOBEX, World, until};

const OLD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A request that came.
#[derive(Clone, Debug)]
struct Received {
    path: String,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Log {
    received: Mutex<Vec<Received>>,
    /// What each path answers with, 204 by default.
    answers: Mutex<BTreeMap<String, u16>>,
}

/// A receiver on this machine.
struct Receiver {
    log: Arc<Log>,
    port: u16,
    handle: ServerHandle,
}

async fn receive(request: HttpRequest, body: Bytes, log: web::Data<Arc<Log>>) -> HttpResponse {
    let text = |value: &actix_http::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let path = request.path().to_owned();
    let answer = log.answers.lock().unwrap().get(&path).copied().unwrap_or(204);
    log.received.lock().unwrap().push(Received { path, headers, body });
    let status = actix_http::StatusCode::from_u16(answer).unwrap();
    HttpResponse::build(status).insert_header(("Location", "/elsewhere")).finish()
}

impl Receiver {
    fn start() -> Self {
        let log = Arc::<Log>::default();
        let shared = Arc::clone(&log);
        let make = move || {
            App::new().app_data(web::Data::new(Arc::clone(&shared))).default_service(web::to(receive))
        };
        let server = HttpServer::new(make).workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let port = server.addrs()[0].port();
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Self { log, port, handle }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn answer(&self, path: &str, status: u16) {
        self.log.answers.lock().unwrap().insert(path.to_owned(), status);
    }

    fn received(&self, path: &str) -> Vec<Received> {
        let received = self.log.received.lock().unwrap();
        received.iter().filter(|one| one.path == path).cloned().collect()
    }

    /// Waits until so many came to the path, and gives them.
    async fn wait(&self, path: &str, count: usize) -> Vec<Received> {
        until(&format!("{count} webhooks at {path}"), async || {
            let received = self.received(path);
            if received.len() >= count { Ok(received) } else { Err(format!("{} came", received.len())) }
        })
        .await
    }

    async fn stop(self) {
        self.handle.stop(false).await;
    }
}

/// Settings that let a receiver on this machine be asked.
const LOCAL: &str = "webhook_delivery.allow_private = true\nwebhook_delivery.allow_http = true\n";

fn operators(url: &str) -> String {
    format!("webhooks = [{{ url = \"{url}\", secrets = [\"{OLD_SECRET}\"] }}]\n")
}

fn of_acme(url: &str) -> String {
    format!(
        "GREENROOM_TENANTS__0__WEBHOOKS=[{{ url = \"{url}\", secrets = [\"{NEW_SECRET}\", \"{OLD_SECRET}\"] }}]\n"
    )
}

fn types(received: &[Received]) -> Vec<String> {
    received.iter().map(|one| one.json()["type"].as_str().unwrap().to_owned()).collect()
}

/// Has the package of the specification's authors look at a message.
fn verify(received: &Received, secret: &str) -> Result<Value, String> {
    const CODE: &str = "import base64, json, sys\nfrom standardwebhooks.webhooks import Webhook\n\
        given = json.load(sys.stdin)\n\
        print(json.dumps(Webhook(given['secret']).verify(base64.b64decode(given['body']), given['headers'])))";
    let venv = Command::new("bash")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/venv"))
        .args(["standardwebhooks", "1.0.1"])
        .output()
        .unwrap();
    assert!(venv.status.success(), "{}", String::from_utf8_lossy(&venv.stderr));
    let python = String::from_utf8(venv.stdout).unwrap();
    let body = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &received.body);
    let given = json!({"secret": secret, "headers": received.headers, "body": body});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), given.to_string()).unwrap();
    let output = Command::new(python.trim())
        .args(["-c", CODE])
        .stdin(std::fs::File::open(file.path()).unwrap())
        .output()
        .unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[actix_rt::test]
async fn a_tenant_without_credits_is_told_with_a_signature_and_told_again_when_it_has_some() {
    let receiver = Receiver::start();
    let settings = format!("{LOCAL}{}{}", operators(&receiver.url("/ops")), of_acme(&receiver.url("/acme")));
    let world = World::start(&settings).await;
    let id = world.running(ACME, "avatar").await;
    let other = world.running(GLOBEX, "other").await;
    world.strike("avatar", &json!({"close": {"code": 4001, "reason": "credits exhausted"}}));
    world.wait_state(&id, "parked").await;
    let told = receiver.wait("/acme", 1).await;
    let parked = told[0].json();
    assert_eq!(parked["type"], "session.parked");
    assert_eq!(
        (&parked["data"]["session"], &parked["data"]["tenant"], &parked["data"]["code"]),
        (&json!(id), &json!("acme"), &json!("creditsExhausted"))
    );
    assert_eq!(parked["timestamp"], parked["data"]["at"]);

    // Both secrets verify, by an implementation that is not ours; another one does not, nor does another body.
    for secret in [NEW_SECRET, OLD_SECRET] {
        assert_eq!(verify(&told[0], secret), Ok(parked.clone()));
    }
    assert!(verify(&told[0], "whsec_plJ3nmyCDGBKInavdOK15jsl").is_err());
    let forged = Received { body: Bytes::from_static(b"{}"), ..told[0].clone() };
    assert!(verify(&forged, NEW_SECRET).is_err());

    world.operate(&id, "unpark").await;
    world.wait_state(&id, "running").await;
    assert_eq!(types(&receiver.wait("/acme", 2).await), ["session.parked", "session.unparked"]);
    // An outage of one session's own: it runs again by itself.
    world.strike("avatar", &json!({"close": {"code": 1011, "reason": "going away"}}));
    world.strike("other", &json!({"close": {"code": 1011, "reason": "going away"}}));
    let told = receiver.wait("/acme", 3).await;
    assert_eq!(types(&told)[2], "session.recovered");
    assert!(told[2].json()["data"]["recovered_after_ms"].is_u64());
    world.wait_restarted(&other, 1).await;

    // Operators are told of everybody, and of what a tenant does not see.
    let mut of_operators = types(&receiver.wait("/ops", 6).await);
    of_operators.sort();
    let expected = [
        "session.parked",
        "session.recovered",
        "session.recovered",
        "session.unparked",
        "tenant.released",
        "tenant.suspended",
    ];
    assert_eq!(of_operators, expected);
    assert_eq!(receiver.received("/acme").len(), 3, "nothing of another tenant");
    assert_eq!(world.metric("greenroom_webhook_deliveries_total", &[("outcome", "delivered")]), 9.0);
    world.end().await;
    receiver.stop().await;
}

#[actix_rt::test]
async fn a_quota_that_refuses_is_told_once_however_often_it_does() {
    let receiver = Receiver::start();
    let settings = format!(
        "{LOCAL}{}GREENROOM_TENANTS__0__MAX_STARTS_PER_MINUTE=2\nGREENROOM_TENANTS__1__MAX_SESSIONS=1\n",
        operators(&receiver.url("/ops"))
    );
    let world = World::start(&settings).await;
    for (tenant, may) in [(ACME, 2), (GLOBEX, 1)] {
        for number in 0..may + 5 {
            let body = json!({"avatar_id": format!("a{number}"), "tenant": tenant});
            let status = if number < may { 201 } else { 429 };
            world.admin(Method::POST, "/v1/sessions", &body).await.expect(status);
        }
    }
    // Behind all of it, so that what came twice would be there.
    let listed = world.admin(Method::GET, "/v1/sessions?tenant=globex", &Value::Null).await.expect(200);
    world.operate(listed["sessions"][0]["id"].as_str().unwrap(), "park").await;
    receiver.wait("/ops", 3).await;
    let told = receiver.received("/ops");
    let mut quotas: Vec<(String, Value, Value)> = told
        .iter()
        .map(Received::json)
        .map(|told| {
            (
                told["type"].as_str().unwrap().to_owned(),
                told["data"]["tenant"].clone(),
                told["data"]["quota"].clone(),
            )
        })
        .collect();
    quotas.sort_by_key(|(kind, tenant, _)| (kind.clone(), tenant.to_string()));
    let expected = [
        ("session.parked", "globex", Value::Null),
        ("tenant.quota_reached", "acme", json!("max_starts_per_minute")),
        ("tenant.quota_reached", "globex", json!("max_sessions")),
    ]
    .map(|(kind, tenant, quota)| (kind.to_owned(), json!(tenant), quota));
    assert_eq!(quotas, expected);
    world.end().await;
    receiver.stop().await;
}

#[actix_rt::test]
async fn a_redirect_is_not_followed_and_an_endpoint_that_is_gone_is_disabled_until_an_operator_enables_it() {
    let receiver = Receiver::start();
    receiver.answer("/ops", 307);
    let world = World::start(&format!("{LOCAL}{}", operators(&receiver.url("/ops")))).await;
    let listed = world.admin(Method::GET, "/v1/webhooks", &Value::Null).await.expect(200);
    let id = listed["webhooks"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["webhooks"][0]["state"], "active");
    let test = format!("/v1/webhooks/{id}/test");
    let tested = world.admin(Method::POST, &test, &Value::Null).await.expect(200);
    assert_eq!((&tested["outcome"], &tested["status"]), (&json!("refused"), &json!(307)));
    assert_eq!(receiver.received("/elsewhere").len(), 0);

    receiver.answer("/ops", 410);
    let session = world.running(ACME, "avatar").await;
    world.operate(&session, "park").await;
    let state = |expected: &'static str| {
        let world = &world;
        async move {
            until(expected, async || {
                let listed = world.admin(Method::GET, "/v1/webhooks", &Value::Null).await.expect(200);
                let endpoint = listed["webhooks"][0].clone();
                if endpoint["state"] == expected { Ok(endpoint) } else { Err(endpoint.to_string()) }
            })
            .await
        }
    };
    let disabled = state("disabled").await;
    assert_eq!((&disabled["queue"], &disabled["last_failure"]["status"]), (&json!(0), &json!(410)));
    assert_eq!(world.metric("greenroom_webhook_endpoints_disabled", &[]), 1.0);
    let before = receiver.received("/ops").len();
    world.operate(&session, "unpark").await;
    world.wait_state(&session, "running").await;
    until("what is told meanwhile is counted", async || {
        let dropped = world.metric("greenroom_webhook_dropped_total", &[("reason", "disabled")]);
        if dropped == 2.0 { Ok(()) } else { Err(dropped.to_string()) }
    })
    .await;
    assert_eq!(receiver.received("/ops").len(), before);

    receiver.answer("/ops", 200);
    let enable = format!("/v1/webhooks/{id}/enable");
    let enabled = world.admin(Method::POST, &enable, &Value::Null).await.expect(200);
    assert_eq!(enabled["state"], "active");
    world.operate(&session, "park").await;
    assert_eq!(types(&receiver.wait("/ops", before + 1).await)[before], "session.parked");
    for unknown in ["/v1/webhooks/whk_none/test", "/v1/webhooks/whk_none/enable"] {
        world.admin(Method::POST, unknown, &Value::Null).await.expect(404);
    }
    world.end().await;
    receiver.stop().await;
}

#[actix_rt::test]
async fn an_address_that_is_not_public_is_not_asked() {
    let receiver = Receiver::start();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433"] {
        let url = format!("http://{host}:{}/ops", receiver.port);
        let settings = format!("webhook_delivery.allow_http = true\n{}", operators(&url));
        let world = World::start(&settings).await;
        let listed = world.admin(Method::GET, "/v1/webhooks", &Value::Null).await.expect(200);
        let test = format!("/v1/webhooks/{}/test", listed["webhooks"][0]["id"].as_str().unwrap());
        let tested = world.admin(Method::POST, &test, &Value::Null).await.expect(200);
        assert_eq!(tested["outcome"], "forbidden", "{host}: {tested}");
        assert!(tested["detail"].as_str().unwrap().contains("allow_private"), "{host}: {tested}");
        world.end().await;
    }
    assert_eq!(receiver.received("/ops").len(), 0);
    receiver.stop().await;
}

#[actix_rt::test]
async fn what_waits_at_the_end_is_still_sent_and_endpoints_change_with_a_reload() {
    let receiver = Receiver::start();
    let directory = tempfile::tempdir().unwrap();
    let (world, path) = World::from_file(LOCAL, directory.path()).await;
    let session = world.running(ACME, "avatar").await;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{}{text}", operators(&receiver.url("/ops")))).unwrap();
    let reloaded = world.admin(Method::POST, "/v1/config/reload", &Value::Null).await.expect(200);
    assert_eq!(reloaded["needs_restart"], json!([]), "{reloaded}");
    world.operate(&session, "park").await;
    receiver.wait("/ops", 1).await;

    // Without a change the same endpoint goes on.
    world.admin(Method::POST, "/v1/config/reload", &Value::Null).await.expect(200);
    let listed = world.admin(Method::GET, "/v1/webhooks", &Value::Null).await.expect(200);
    assert_ne!(listed["webhooks"][0]["last_success"], Value::Null);
    for secret in [OLD_SECRET, NEW_SECRET, ADMIN_KEY] {
        assert!(!listed.to_string().contains(secret), "{listed}");
    }
    world.operate(&session, "unpark").await;
    world.wait_state(&session, "running").await;
    world.end().await;
    assert_eq!(types(&receiver.received("/ops")), ["session.parked", "session.unparked"]);

    receiver.stop().await;
}
