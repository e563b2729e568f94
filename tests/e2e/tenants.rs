//! Tenants that are made, changed and deleted over HTTP, while others are served.

use std::{path::Path, sync::Arc};

use actix_http::Method;
use greenroom::{
    simulator::Happening,
    store::{Batch, Bounds, Embedded, Expect, Key, Records, StoreKey, Vault, records::TenantRecord},
};
use secrecy::SecretBox;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{ACME, Answer, World, until};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A world whose store is a file, and sealed.
async fn durable(directory: &TempDir) -> World {
    World::start(&on(directory.path())).await
}

fn on(directory: &Path) -> String {
    let path = directory.join("greenroom.redb");
    format!("store.url = \"redb:{}\"\nstore.encryption_key = \"{KEY}\"\n", path.display())
}

fn initech() -> Value {
    json!({"id": "initech", "app_id": "app-initech", "upstream_api_key": "upstream-initech"})
}

/// Makes the tenant, and gives its first key.
async fn make(world: &World, body: &Value) -> String {
    let made = world.admin(Method::POST, "/v1/tenants", body).await.expect(201);
    made["key"].as_str().unwrap().to_owned()
}

/// Calls the data plane with a key of its own.
async fn with_key(world: &World, key: &str, method: Method, path: &str, body: &Value) -> Answer {
    let url = format!("http://{}{path}", world.process.data_address());
    world.call(world.request(method, &url, key).send_json(body)).await
}

async fn sessions_with(world: &World, key: &str) -> u16 {
    with_key(world, key, Method::GET, "/v1/sessions", &Value::Null).await.status
}

async fn start_session(world: &World, key: &str, avatar: &str) -> String {
    let made =
        with_key(world, key, Method::POST, "/v1/sessions", &json!({"avatar_id": avatar})).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    world.wait_state(&id, "running").await;
    id
}

#[actix_rt::test]
async fn a_tenant_that_is_made_over_http_serves_at_once_and_in_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory).await;
    let mut body = initech();
    body["max_sessions"] = json!(2);
    body["policy"] = json!({"idleTimeout": "restart"});
    let made = world.admin(Method::POST, "/v1/tenants", &body).await;
    assert_eq!(made.headers["location"], "/v1/tenants/initech");
    assert_eq!(made.headers["cache-control"], "no-store");
    let tenant = made.expect(201);
    let key = tenant["key"].as_str().unwrap().to_owned();
    assert_eq!(
        (&tenant["managed_by"], &tenant["max_sessions"], &tenant["policy"]),
        (&json!("api"), &json!(2), &json!({"idleTimeout": "restart"}))
    );
    let id = start_session(&world, &key, "talker").await;
    let shown = world.admin(Method::GET, "/v1/tenants/initech", &Value::Null).await.expect(200);
    assert_eq!((&shown["upstream_connections"], &shown["sessions"]["running"]), (&json!(1), &json!(1)));
    assert_eq!((&shown["key"], &shown["keys"][0]["name"]), (&Value::Null, &json!("first")));
    assert!(!shown.to_string().contains("upstream-initech") && !shown.to_string().contains(&key), "{shown}");

    let world = world.restarted().await;
    world.wait_state(&id, "running").await;
    assert_eq!(sessions_with(&world, &key).await, 200);
    start_session(&world, &key, "second").await;
    let third = with_key(&world, &key, Method::POST, "/v1/sessions", &json!({"avatar_id": "third"})).await;
    assert_eq!(third.expect(429)["code"], "tenantQuotaReached");
    world.end().await;
    let file = std::fs::read(directory.path().join("greenroom.redb")).unwrap();
    for secret in [&key, "upstream-initech"] {
        assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
}

#[actix_rt::test]
async fn keys_are_rotated_without_a_moment_in_which_none_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory).await;
    let first = make(&world, &initech()).await;
    let path = "/v1/tenants/initech/keys";
    let made = world.admin(Method::POST, path, &json!({"name": "second"})).await.expect(201);
    let second = made["key"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!((sessions_with(&world, &first).await, sessions_with(&world, &second).await), (200, 200));
    let again = world.admin(Method::POST, path, &json!({"name": "second"})).await.expect(409);
    assert_eq!(again["code"], "keyExists");
    let gone = world.admin(Method::DELETE, "/v1/tenants/initech/keys/first", &Value::Null).await;
    assert_eq!(gone.status, 204);
    assert_eq!((sessions_with(&world, &first).await, sessions_with(&world, &second).await), (401, 200));
    let world = world.restarted().await;
    assert_eq!((sessions_with(&world, &first).await, sessions_with(&world, &second).await), (401, 200));
    let keys = world.admin(Method::GET, path, &Value::Null).await.expect(200);
    assert_eq!((keys["keys"].as_array().unwrap().len(), &keys["keys"][0]["key"]), (1, &Value::Null));
    world.end().await;
}

#[actix_rt::test]
async fn a_key_that_has_expired_opens_nothing_and_cannot_be_made() {
    let world = World::start("").await;
    make(&world, &initech()).await;
    let path = "/v1/tenants/initech/keys";
    let late = json!({"name": "late", "expires_at": "2001-01-01T00:00:00Z"});
    assert_eq!(world.admin(Method::POST, path, &late).await.expect(422)["code"], "invalidBody");
    let end =
        humantime::format_rfc3339(std::time::SystemTime::now() + std::time::Duration::from_millis(2500));
    let short = json!({"name": "short", "expires_at": end.to_string()});
    let made = world.admin(Method::POST, path, &short).await.expect(201);
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(sessions_with(&world, &key).await, 200);
    until("the key ends", async || match sessions_with(&world, &key).await {
        401 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    world.end().await;
}

#[actix_rt::test]
async fn a_deleted_tenant_leaves_no_connection_no_key_and_no_session_behind() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory).await;
    let key = make(&world, &initech()).await;
    let id = start_session(&world, &key, "gone").await;
    let other = world.running(ACME, "stays").await;
    assert_eq!(world.live(), 2);
    let deleted = world.admin(Method::DELETE, "/v1/tenants/initech", &Value::Null).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert_eq!(world.live(), 1, "its connections are closed when the answer comes");
    let record = world.simulator.record();
    let closed = record.iter().filter(|event| event.what == Happening::CloseReceived { code: Some(1000) });
    assert_eq!(closed.count(), 1, "{record:?}");
    assert_eq!(sessions_with(&world, &key).await, 401);
    world.admin(Method::GET, &format!("/v1/sessions/{id}"), &Value::Null).await.expect(404);
    world.admin(Method::GET, "/v1/tenants/initech", &Value::Null).await.expect(404);
    world.admin(Method::DELETE, "/v1/tenants/initech", &Value::Null).await.expect(404);

    let world = world.restarted().await;
    world.wait_state(&other, "running").await;
    world.admin(Method::GET, &format!("/v1/sessions/{id}"), &Value::Null).await.expect(404);
    assert_eq!(sessions_with(&world, &key).await, 401);
    // Another may have its name, and nothing of it.
    let fresh = make(&world, &initech()).await;
    assert_ne!(fresh, key);
    let listed = with_key(&world, &fresh, Method::GET, "/v1/sessions", &Value::Null).await.expect(200);
    assert_eq!(listed["sessions"], json!([]));
    world.end().await;
}

#[actix_rt::test]
async fn a_tenant_of_the_file_is_changed_in_the_file_only() {
    let world = World::start("").await;
    let acme = format!("/v1/tenants/{ACME}");
    let keys = format!("{acme}/keys");
    for (method, path, body) in [
        (Method::PATCH, &acme, json!({"max_sessions": 1})),
        (Method::DELETE, &acme, Value::Null),
        (Method::POST, &keys, json!({"name": "more"})),
        (Method::DELETE, &format!("{keys}/keys[0]"), Value::Null),
    ] {
        let problem = world.admin(method.clone(), path, &body).await.expect(409);
        assert_eq!(problem["code"], "managedByFile", "{method} {path}");
        assert!(problem["detail"].as_str().unwrap().contains("/v1/config/reload"), "{problem}");
    }
    let taken = json!({"id": ACME, "app_id": "a", "upstream_api_key": "u"});
    assert_eq!(world.admin(Method::POST, "/v1/tenants", &taken).await.expect(409)["code"], "tenantExists");
    world.end().await;
}

#[actix_rt::test]
async fn what_is_wrong_with_a_tenant_is_told_field_by_field() {
    let world = World::start("").await;
    let body = json!({"id": "Bad Id", "app_id": "two words", "max_sessions": 0, "outbox_bytes": 5});
    let problem = world.admin(Method::POST, "/v1/tenants", &body).await.expect(422);
    let told = problem["errors"].as_array().unwrap();
    for field in ["id:", "app_id:", "upstream_api_key:", "max_sessions:", "outbox_bytes:"] {
        assert!(told.iter().any(|text| text.as_str().unwrap().starts_with(field)), "{field} {problem}");
    }
    let unknown = world.admin(Method::POST, "/v1/tenants", &json!({"id": "x", "max_session": 1})).await;
    assert!(unknown.expect(422)["detail"].as_str().unwrap().contains("max_session"));
    world.end().await;
}

#[actix_rt::test]
async fn a_request_that_is_sent_twice_makes_one_tenant_and_shows_the_same_key() {
    let world = World::start("").await;
    let send = async || {
        let url = format!("http://{}/v1/tenants", world.process.admin_address());
        let request = world.request(Method::POST, &url, crate::world::ADMIN_KEY);
        world.call(request.insert_header(("Idempotency-Key", "once")).send_json(&initech())).await.expect(201)
    };
    let (first, second) = (send().await, send().await);
    assert_eq!(first["key"], second["key"]);
    assert_eq!(sessions_with(&world, first["key"].as_str().unwrap()).await, 200);
    world.end().await;
}

#[actix_rt::test]
async fn without_a_key_for_the_store_no_upstream_key_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("store.url = \"redb:{}\"\n", directory.path().join("greenroom.redb").display());
    let world = World::start(&url).await;
    let problem = world.admin(Method::POST, "/v1/tenants", &initech()).await.expect(422);
    assert_eq!(problem["code"], "noEncryptionKey");
    world.admin(Method::GET, "/v1/tenants/initech", &Value::Null).await.expect(404);
    world.end().await;
}

#[actix_rt::test]
async fn a_new_upstream_key_releases_what_the_old_one_had_parked() {
    let world = World::start("").await;
    world.faults(
        &json!([{"match": {"api_key": "upstream-initech"}, "at": "token", "do": {"http": {"status": 401}}}]),
    );
    let key = make(&world, &initech()).await;
    let made = with_key(&world, &key, Method::POST, "/v1/sessions", &json!({"avatar_id": "blocked"})).await;
    let id = made.expect(201)["id"].as_str().unwrap().to_owned();
    world.wait_state(&id, "parked").await;
    let path = "/v1/tenants/initech";
    until("the tenant is suspended", async || {
        let tenant = world.admin(Method::GET, path, &Value::Null).await.expect(200);
        if tenant["suspended"]["code"] == "sessionTokenInvalid" { Ok(()) } else { Err(tenant.to_string()) }
    })
    .await;
    // What has nothing to do with the account releases nobody.
    world.admin(Method::PATCH, path, &json!({"max_sessions": 7})).await.expect(200);
    assert_eq!(world.session(&id).await["state"], "parked");
    let changed = json!({"upstream_api_key": "upstream-initech-2"});
    world.admin(Method::PATCH, path, &changed).await.expect(200);
    world.wait_state(&id, "running").await;
    let tenant = world.admin(Method::GET, path, &Value::Null).await.expect(200);
    assert_eq!((&tenant["suspended"], &tenant["max_sessions"]), (&Value::Null, &json!(7)));
    world.end().await;
}

/// Changes the store of a process that has ended. A thread of its own: this one has a runtime, in which nothing can be
/// waited for here.
fn in_store<F: Future<Output = ()>>(directory: &TempDir, change: impl FnOnce(Records) -> F + Send) {
    let path = directory.path().join("greenroom.redb");
    std::thread::scope(|scope| {
        let changed = scope.spawn(move || {
            let store = Embedded::open(&path, Bounds::default(), Arc::new(|_report| {})).unwrap();
            let key: Vec<u8> = (0..32).collect();
            let key = SecretBox::new(Box::new(<[u8; 32]>::try_from(key).unwrap()));
            let vault = Vault::new(Some(StoreKey::new(&key)), None, false);
            let records = Records::new(Arc::new(store), Arc::new(vault));
            actix_rt::System::new().block_on(async move {
                change(records.clone()).await;
                records.store().close().await.unwrap();
            });
        });
        changed.join().unwrap();
    });
}

#[actix_rt::test]
async fn a_deletion_that_a_crash_cut_short_is_finished_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory).await;
    let key = make(&world, &initech()).await;
    let id = start_session(&world, &key, "gone").await;
    let stays = world.running(ACME, "stays").await;
    let attempts = world.attempts("gone");
    let world = world
        .restarted_after(|_config| {
            in_store(&directory, async |records| {
                let kept = records.tenant(&"initech".into()).await.unwrap().unwrap();
                let leaving = TenantRecord { is_leaving: true, ..kept.record };
                let batch = records.stage_tenant(Batch::new(), &leaving, Expect::At(kept.revision)).unwrap();
                records.commit(batch).await.unwrap();
            });
        })
        .await;
    world.wait_state(&stays, "running").await;
    assert_eq!((sessions_with(&world, &key).await, world.attempts("gone")), (401, attempts));
    let world = world
        .restarted_after(|_config| {
            let session = id.as_str().into();
            in_store(&directory, async move |records| {
                assert!(records.tenant(&"initech".into()).await.unwrap().is_none());
                assert!(records.store().get(&Key::session(&session)).await.unwrap().is_none());
            });
        })
        .await;
    make(&world, &initech()).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_process_whose_file_has_a_tenant_that_was_made_over_http_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory).await;
    make(&world, &initech()).await;
    let config = on(directory.path());
    world.end().await;
    let text = format!(
        "{config}server.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n[[tenants]]\nid = \"initech\"\n\
         app_id = \"a\"\nupstream_api_key = \"u\"\nkeys = [\"key-of-initech\"]\n"
    );
    let config = greenroom::config::parse(&text, "e2e", &std::collections::BTreeMap::new()).unwrap();
    let Err(refused) = greenroom::cli::process::Process::start(&config).await else {
        panic!("it has started")
    };
    let told = refused.to_string();
    assert!(told.contains("initech") && told.contains("made over HTTP"), "{told}");
}
