//! The configuration file is read again while sessions run.

use actix_http::Method;
use serde_json::{Value, json};

use crate::world::{ACME, GLOBEX, World, tenant_key};

async fn reload(world: &World) -> Value {
    world.admin(Method::POST, "/v1/config/reload", &Value::Null).await.expect(200)
}

fn edit(path: &std::path::Path, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

async fn listing(world: &World, tenant: &str) -> u16 {
    world.call(world.data_request(Method::GET, tenant, "/v1/sessions").send()).await.status
}

/// The file without the section of this tenant.
fn without(text: &str, tenant: &str) -> String {
    let sections: Vec<&str> = text.split("[[tenants]]").collect();
    let own = format!("id = \"{tenant}\"");
    let kept: Vec<&str> = sections.into_iter().filter(|section| !section.contains(&own)).collect();
    kept.join("[[tenants]]")
}

#[actix_rt::test]
async fn tenants_come_change_and_go_in_one_step_and_the_others_notice_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (world, path) = World::from_file("", directory.path()).await;
    let stays = world.running(ACME, "stays").await;
    let goes = world.running(GLOBEX, "goes").await;
    assert_eq!(reload(&world).await, json!({"added": [], "changed": [], "removed": [], "needs_restart": []}));

    edit(&path, |text| {
        let text = without(&text, GLOBEX).replace("max_sessions = 1000", "max_sessions = 1");
        let key = tenant_key("initech");
        format!(
            "{text}\n[[tenants]]\nid = \"initech\"\napp_id = \"app-i\"\nupstream_api_key = \"upstream-i\"\n\
             keys = [\"{key}\"]\n"
        )
    });
    let told = reload(&world).await;
    assert_eq!(
        told,
        json!({"added": ["initech"], "changed": [ACME], "removed": [GLOBEX], "needs_restart": []})
    );
    assert_eq!((listing(&world, GLOBEX).await, listing(&world, "initech").await), (401, 200));
    assert_eq!(world.live(), 1, "what the removed tenant had is closed");
    world.admin(Method::GET, &format!("/v1/sessions/{goes}"), &Value::Null).await.expect(404);
    assert_eq!(world.session(&stays).await["restarts"], 0);
    let body = json!({"avatar_id": "one-more"});
    let refused = world.call(world.data_request(Method::POST, ACME, "/v1/sessions").send_json(&body)).await;
    assert_eq!(refused.expect(429)["code"], "tenantQuotaReached");

    // A mistaken removal loses no session.
    edit(&path, |text| {
        format!(
            "{text}\n[[tenants]]\nid = \"{GLOBEX}\"\napp_id = \"app-{GLOBEX}\"\n\
             upstream_api_key = \"upstream-{GLOBEX}\"\nkeys = [\"{}\"]\n",
            tenant_key(GLOBEX)
        )
    });
    assert_eq!(reload(&world).await["added"], json!([GLOBEX]));
    world.wait_state(&goes, "running").await;
    assert_eq!(listing(&world, GLOBEX).await, 200);
    world.end().await;
}

#[actix_rt::test]
async fn a_file_with_mistakes_is_refused_as_a_whole_with_each_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let (world, path) = World::from_file("", directory.path()).await;
    let made = json!({"id": "initech", "app_id": "a", "upstream_api_key": "u"});
    world.admin(Method::POST, "/v1/tenants", &made).await.expect(201);
    let good = std::fs::read_to_string(&path).unwrap();
    edit(&path, |text| {
        without(&text, GLOBEX).replace("max_sessions = 1000", "max_sessions = 0") + "idd = 1\n"
    });
    let problem = world.admin(Method::POST, "/v1/config/reload", &Value::Null).await.expect(422);
    assert_eq!(problem["code"], "configRefused");
    let told: Vec<&str> = problem["errors"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("max_sessions") && told[1].contains("idd"), "{told:?}");
    assert_eq!(listing(&world, GLOBEX).await, 200);

    // The id of a tenant that was made over HTTP is taken.
    std::fs::write(&path, good.replace(&format!("id = \"{GLOBEX}\""), "id = \"initech\"")).unwrap();
    let problem = world.admin(Method::POST, "/v1/config/reload", &Value::Null).await.expect(422);
    let told = problem["errors"][0].as_str().unwrap();
    let line = good.lines().position(|line| line.contains(&format!("id = \"{GLOBEX}\""))).unwrap() + 1;
    assert!(told.contains(&format!(":{line}:")) && told.contains("made over HTTP"), "{told}");
    assert_eq!(listing(&world, GLOBEX).await, 200);
    world.end().await;
}

#[actix_rt::test]
async fn defaults_hold_at_once_and_what_needs_a_restart_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (world, path) =
        World::from_file("recovery.policy.avatarNotFound = \"fail\"\n", directory.path()).await;
    let failed = world.create(ACME, "missing-one", &json!({})).await;
    world.wait_state(&failed, "failed").await;
    edit(&path, |text| {
        text.replace("avatarNotFound = \"fail\"", "avatarNotFound = \"park\"")
            .replace("server.shutdown_s = 5", "server.shutdown_s = 6\nserver.max_body_bytes = 67108864")
            .replace("park_probe_s = 0", "park_probe_s = 1")
    });
    let told = reload(&world).await;
    assert_eq!(told["changed"], json!([ACME, GLOBEX]));
    assert_eq!(
        told["needs_restart"],
        json!(["recovery.park_probe_s", "server.max_body_bytes", "server.shutdown_s"])
    );
    let parked = world.create(ACME, "missing-two", &json!({})).await;
    world.wait_state(&parked, "parked").await;
    // Also for a session that is there.
    world.operate(&failed, "restart").await;
    world.wait_state(&failed, "parked").await;
    let codes = world.admin(Method::GET, "/v1/codes", &Value::Null).await.expect(200);
    let row = codes["codes"].as_array().unwrap().iter().find(|row| row["code"] == "avatarNotFound").unwrap();
    assert_eq!(row["action"], "park");
    // It is named until there was one.
    assert_eq!(reload(&world).await["needs_restart"].as_array().unwrap().len(), 3);
    world.end().await;
}

#[actix_rt::test]
async fn a_process_without_a_file_says_so() {
    let world = World::start("").await;
    let problem = world.admin(Method::POST, "/v1/config/reload", &Value::Null).await.expect(409);
    assert_eq!(problem["code"], "noConfigFile");
    world.end().await;
}
