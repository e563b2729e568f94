//! `PATCH` of a session, `ETag` and `If-Match`.

use std::thread;

use serde_json::{Value, json};

use super::{
    http::{Answer, Client},
    process::eventually,
    world::{Greenroom, Settings, Simulator, World, create, create_avatar},
};

#[track_caller]
fn patch(client: &Client, id: &str, body: &Value, if_match: Option<&str>) -> Answer {
    let headers: Vec<(&str, &str)> = if_match.map(|tag| ("If-Match", tag)).into_iter().collect();
    let body = body.to_string();
    let path = format!("/v1/sessions/{id}");
    client.try_call_with("PATCH", &path, &headers, Some(body.as_bytes())).unwrap()
}

#[track_caller]
fn delete(client: &Client, id: &str, if_match: &str) -> Answer {
    client.try_call_with("DELETE", &format!("/v1/sessions/{id}"), &[("If-Match", if_match)], None).unwrap()
}

#[track_caller]
fn etag(answer: &Answer) -> String {
    let tag = answer.header("etag").unwrap_or_else(|| panic!("no ETag: {answer:?}"));
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "{tag}");
    tag.to_owned()
}

#[track_caller]
fn shown(client: &Client, id: &str) -> Answer {
    client.get(&format!("/v1/sessions/{id}")).is(200)
}

/// The confirmed connections that the service had for an avatar.
fn confirmed(simulator: &Simulator, avatar: &str) -> usize {
    let record = simulator.control.get(&format!("/_sim/record?avatar_id={avatar}")).is(200).json();
    record.as_array().unwrap().iter().filter(|event| event["event"] == "confirmed").count()
}

#[test]
fn a_changed_avatar_or_format_is_on_a_new_connection_and_labels_are_not() {
    let usual = Settings::default();
    let tables = format!("{}[defaults]\ncontinuity = \"off\"\n", usual.tables);
    let world = World::start(&Settings { tables, ..usual });
    let (greenroom, acme) = (&world.greenroom, &world.greenroom.acme);
    let made = acme.post("/v1/sessions", &json!({"avatar_id": "first", "labels": {"team": "red"}})).is(201);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let before = greenroom.until_state(&id, "running");
    let first = etag(&made);
    assert_eq!(etag(&shown(acme, &id)), first, "its state is no part of it");

    let labels = patch(acme, &id, &json!({"labels": {"tier": "1"}, "continuity": "resume"}), None).is(200);
    let second = etag(&labels);
    assert_ne!(second, first);
    let session = labels.json();
    assert_eq!(session["labels"], json!({"team": "red", "tier": "1"}));
    assert_eq!(session["continuity"], "resume");
    assert_eq!(session["connection_id"], before["connection_id"], "no restart");

    let nothing = patch(acme, &id, &json!({"avatar_id": "first", "labels": {"tier": "1"}}), None).is(200);
    assert_eq!(
        (etag(&nothing), nothing.json()["connection_id"].clone()),
        (second.clone(), before["connection_id"].clone())
    );

    let body =
        json!({"avatar_id": "second", "sample_rate": 24000, "labels": {"team": null}, "continuity": null});
    let changed = patch(&greenroom.admin, &id, &body, Some(&second)).is(200);
    assert_eq!(changed.json()["labels"], json!({"tier": "1"}));
    assert_eq!(changed.json()["continuity"], "off", "what is configured");
    let after = greenroom.until(&id, "runs anew", |session| {
        session["state"] == "running" && session["connection_id"] != before["connection_id"]
    });
    assert_eq!((&after["avatar_id"], &after["sample_rate"]), (&json!("second"), &json!(24000)));
    assert_eq!(etag(&shown(acme, &id)), etag(&changed));
    assert_eq!((confirmed(&world.simulator, "first"), confirmed(&world.simulator, "second")), (1, 1));
    // 0.5 s of audio at the new rate.
    let audio = vec![0; 24_000];
    let sent = acme.send(&format!("/v1/sessions/{id}/requests?wait=true"), &audio).is(200).json();
    assert_eq!((&sent["outcome"], &sent["audio_ms"]), (&json!("completed"), &json!(500)));
    acme.call("DELETE", &format!("/v1/sessions/{id}"), None).is(200);
    patch(acme, &id, &json!({"labels": {"a": "b"}}), None).is_problem(409, "sessionStopped");
    world.simulator.is_left_in_order();
}

#[test]
fn of_two_changes_of_the_same_revision_one_is_carried_out_and_the_other_shown_what_is_there() {
    let world = World::usual();
    let acme = &world.greenroom.acme;
    let id = create_avatar(acme, "contended");
    for round in 0..30 {
        let tag = etag(&shown(acme, &id));
        let answers = thread::scope(|scope| {
            let (id, tag) = (&id, &tag);
            let change = |by: &'static str| {
                let body = json!({"labels": {"round": round.to_string(), "by": by}});
                scope.spawn(move || (by, patch(acme, id, &body, Some(tag))))
            };
            [change("one"), change("other")].map(|thread| thread.join().unwrap())
        });
        let (winners, losers): (Vec<_>, Vec<_>) =
            answers.iter().partition(|(_, answer)| answer.status == 200);
        let ([(winner, taken)], [(loser, refused)]) = (&winners[..], &losers[..]) else {
            panic!("{round}: {answers:?}")
        };
        let problem = refused.is_problem(412, "preconditionFailed");
        assert_eq!(problem["current"]["labels"]["by"], **winner, "{problem}");
        assert_eq!(etag(refused), etag(taken));
        assert_ne!(etag(taken), tag);
        // Whoever has looked may go on.
        patch(acme, &id, &json!({"labels": {"by": loser}}), Some(&etag(refused))).is(200);
    }
    let tag = etag(&shown(acme, &id));
    for stale in ["\"0\"", "\"nonsense\"", &format!("W/{tag}"), tag.trim_matches('"'), ""] {
        patch(acme, &id, &json!({"labels": {"by": "stale"}}), Some(stale))
            .is_problem(412, "preconditionFailed");
        delete(acme, &id, stale).is_problem(412, "preconditionFailed");
    }
    assert_eq!(etag(&shown(acme, &id)), tag);
    for fits in ["*", &tag, &format!("\"0\", {tag}")] {
        patch(acme, &id, &json!({}), Some(fits)).is(200);
    }
    world.greenroom.until_state(&id, "running");
    for _ in 0..2 {
        delete(acme, &id, &tag).is(200);
    }
    delete(acme, &id, "\"0\"").is_problem(412, "preconditionFailed");
}

#[test]
fn a_failed_session_starts_again_when_it_is_mended_and_a_held_one_keeps_the_change() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let (acme, admin) = (&greenroom.acme, &greenroom.admin);
    let id = create_avatar(acme, "missing-1");
    greenroom.until_state(&id, "failed");
    for idle in [json!({"labels": {"seen": "yes"}}), json!({}), json!({"continuity": "off"})] {
        assert_eq!(patch(acme, &id, &idle, None).is(200).json()["state"], "failed", "{idle}");
    }
    let mended = patch(acme, &id, &json!({"avatar_id": "mended"}), None).is(200).json();
    assert!(["starting", "running"].contains(&mended["state"].as_str().unwrap()), "{mended}");
    greenroom.until_state(&id, "running");
    // The service knows the rate from the configuration, and says so.
    patch(acme, &id, &json!({"sample_rate": 12345}), None).is(200);
    let failed = greenroom.until_state(&id, "failed");
    assert_eq!(failed["last_error"]["code"], "unsupportedSampleRate");
    patch(acme, &id, &json!({"sample_rate": null}), None).is(200);
    assert_eq!(greenroom.until_state(&id, "running")["sample_rate"], 16_000);

    admin.send(&format!("/v1/sessions/{id}/park"), b"").is(200);
    let parked = patch(acme, &id, &json!({"avatar_id": "later"}), None).is(200).json();
    assert_eq!((&parked["state"], &parked["avatar_id"]), (&json!("parked"), &json!("later")));
    assert_eq!(confirmed(&world.simulator, "later"), 0);
    admin.send(&format!("/v1/sessions/{id}/unpark"), b"").is(200);
    greenroom.until_state(&id, "running");
    assert_eq!(confirmed(&world.simulator, "later"), 1);
}

#[test]
fn what_cannot_be_changed_is_named_and_nothing_is_changed() {
    let world = World::usual();
    let acme = &world.greenroom.acme;
    let id = create_avatar(acme, "fixed");
    world.greenroom.until_state(&id, "running");
    let before = shown(acme, &id);
    for (body, says) in [
        (json!({"avatr_id": "b"}), "`avatar_id`"),
        (json!({"labels": {"a": "b"}, "sampel_rate": 1}), "`sample_rate`"),
        (json!({"tenant": "globex"}), "tenant: cannot be changed"),
        (json!({"state": "running"}), "state: cannot be changed"),
        (json!({"egress": {"room_name": "r"}}), "type"),
        (json!({"egress": {"type": "livekit", "api_tokn": "t"}}), "`api_token`"),
        (json!({"avatar_id": null}), "avatar_id"),
        (json!({"sample_rate": 0}), "sample_rate"),
        (json!({"labels": {"": "b"}}), "label"),
    ] {
        // A mistake is told though the revision is another.
        for if_match in [None, Some("\"77\"")] {
            let problem = patch(acme, &id, &body, if_match).is_problem(422, "invalidBody");
            assert!(problem["detail"].as_str().unwrap().contains(says), "{body}: {problem}");
        }
    }
    for body in [&b"[]"[..], b"3", b"\"a\""] {
        acme.call("PATCH", &format!("/v1/sessions/{id}"), Some(body)).is_problem(422, "invalidBody");
    }
    acme.call("PATCH", &format!("/v1/sessions/{id}"), Some(b"{")).is_problem(400, "malformedJson");
    patch(&world.greenroom.globex, &id, &json!({"labels": {}}), None).is_problem(404, "notFound");
    let after = shown(acme, &id);
    assert_eq!((after.json(), etag(&after)), (before.json(), etag(&before)));
}

fn kept(simulator: &Simulator, directory: &std::path::Path, more: &str) -> String {
    let store = format!("url = \"redb:{}\"\n{more}", directory.join("greenroom.redb").display());
    let settings = Settings { store, ..Settings::default() };
    settings.toml(&simulator.console_url(), &simulator.ingress_url())
}

#[test]
fn a_change_that_was_answered_survives_kill_9_with_its_revision() {
    let simulator = Simulator::start();
    let directory = tempfile::tempdir().unwrap();
    let key = "encryption_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n";
    let toml = kept(&simulator, directory.path(), key);
    let greenroom = Greenroom::start(&toml);
    let fails = create_avatar(&greenroom.acme, "missing-2");
    let egress = json!({"type": "agora", "channel_name": "c", "token": "old", "uid": 7, "publisher_id": "p"});
    let speaks = create(&greenroom.acme, &json!({"avatar_id": "before", "egress": egress}));
    let parked = create_avatar(&greenroom.acme, "held");
    greenroom.until_state(&fails, "failed");
    greenroom.admin.send(&format!("/v1/sessions/{parked}/park"), b"").is(200);
    let body = json!({"avatar_id": "after", "egress": {"token": "new"}, "labels": {"a": "b"}});
    let changed = [&fails, &speaks, &parked].map(|id| {
        let body =
            if id == &speaks { body.clone() } else { json!({"avatar_id": "after", "continuity": "off"}) };
        // Twice, so that the revision is not the one that a new session has.
        patch(&greenroom.acme, id, &json!({"labels": {"c": "d"}}), None).is(200);
        patch(&greenroom.acme, id, &body, None).is(200)
    });
    drop(greenroom);
    eventually("the service has noticed", || (simulator.stats()["connections"]["live"] == 0).then_some(()));

    let greenroom = Greenroom::start(&toml);
    for (id, before) in [&fails, &speaks, &parked].into_iter().zip(&changed) {
        let after = shown(&greenroom.acme, id);
        assert_eq!(etag(&after), etag(before), "{id}");
        for field in ["avatar_id", "labels", "continuity", "sample_rate"] {
            assert_eq!(after.json()[field], before.json()[field], "{id}: {field}");
        }
        patch(&greenroom.acme, id, &json!({"labels": {"e": "f"}}), Some("\"0\""))
            .is_problem(412, "preconditionFailed");
        patch(&greenroom.acme, id, &json!({"labels": {"e": "f"}}), Some(&etag(before))).is(200);
    }
    // Also that it should run.
    for id in [&fails, &speaks] {
        greenroom.until_state(id, "running");
    }
    assert_eq!(shown(&greenroom.acme, &parked).json()["state"], "parked");
    // The egress is a whole one still: of the old one, only the token was changed.
    patch(&greenroom.acme, &speaks, &json!({"egress": {"channel_name": "other"}}), None).is(200);
    greenroom.until_state(&speaks, "running");
}

#[test]
fn a_change_that_could_not_be_kept_is_refused_and_not_made() {
    let simulator = Simulator::start();
    let directory = tempfile::tempdir().unwrap();
    let greenroom = Greenroom::start(&kept(&simulator, directory.path(), ""));
    let id = create_avatar(&greenroom.acme, "plain");
    let before = greenroom.until_state(&id, "running");
    let tag = etag(&shown(&greenroom.acme, &id));
    let egress =
        json!({"egress": {"type": "livekit", "url": "wss://r", "room_name": "r", "api_token": "hush-hush"}});
    let problem = patch(&greenroom.acme, &id, &egress, None).is_problem(422, "noEncryptionKey");
    assert!(problem["detail"].as_str().unwrap().contains("store.encryption_key"), "{problem}");
    let after = shown(&greenroom.acme, &id);
    assert_eq!((after.json(), etag(&after)), (before, tag));
    assert!(!greenroom.heard().contains("hush-hush") && !greenroom.program.err.text().contains("hush-hush"));
}
