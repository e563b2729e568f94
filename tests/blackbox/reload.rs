//! The configuration file is changed under a running process.

use std::fs;

use serde_json::json;

use super::{
    process::eventually,
    world::{ACME_KEY, World, create_avatar, tenant},
};

fn edit(world: &World, change: impl FnOnce(String) -> String) {
    let path = world.greenroom.config_file();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
}

#[test]
fn a_hangup_serves_a_new_tenant_and_a_mistaken_file_changes_nothing() {
    let world = World::usual();
    let id = create_avatar(&world.greenroom.acme, "stays");
    world.greenroom.until_state(&id, "running");
    let initech = world.greenroom.acme.with_key("key-of-initech-backends");
    initech.get("/v1/sessions").is(401);

    edit(&world, |text| text + &tenant("initech", "key-of-initech-backends", "upstream-key-of-initech"));
    world.greenroom.program.signal("HUP");
    eventually("the new tenant is served", || {
        let answer = initech.try_call("GET", "/v1/sessions", None).ok()?;
        (answer.status == 200).then_some(())
    });

    edit(&world, |text| {
        text.replace(ACME_KEY, "key-of-acme-backends-2").replace("app-of-initech", "two words")
    });
    let problem = world.greenroom.admin.post("/v1/config/reload", &json!({})).is(422).json();
    assert_eq!(problem["code"], "configRefused");
    let told = problem["errors"][0].as_str().unwrap();
    assert!(told.contains("greenroom.toml:") && told.contains("tenants[2].app_id"), "{told}");
    world.greenroom.program.signal("HUP");
    eventually("the refusal is logged", || {
        world.greenroom.program.err.text().contains("configuration refused").then_some(())
    });
    world.greenroom.acme.get("/v1/sessions").is(200);
    assert_eq!(world.greenroom.until_state(&id, "running")["restarts"], 0);
}
