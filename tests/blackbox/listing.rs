//! Lists of sessions.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    http::Client,
    world::{World, create, create_avatar},
};

#[track_caller]
fn page(client: &Client, query: &str) -> (Vec<String>, Option<String>) {
    let list: Value = client.get(&format!("/v1/sessions{query}")).is(200).json();
    let sessions = list["sessions"].as_array().unwrap();
    let ids = sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect();
    (ids, list["next_cursor"].as_str().map(str::to_owned))
}

#[track_caller]
fn listed(client: &Client, query: &str) -> BTreeSet<String> {
    let (ids, next) = page(client, query);
    assert_eq!(next, None);
    ids.into_iter().collect()
}

fn set(ids: &[&String]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).clone()).collect()
}

/// Follows the cursors from page to page.
fn walk(client: &Client, query: &str, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let (ids, next) = page(client, &format!("?limit={limit}{query}{cursor}"));
        assert!(ids.len() <= limit, "{ids:?}");
        all.extend(ids);
        match next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[test]
fn paging_gives_each_of_seven_sessions_once() {
    let world = World::usual();
    let (acme, admin) = (&world.greenroom.acme, &world.greenroom.admin);
    let ids: Vec<String> = (0..7).map(|number| create_avatar(acme, &format!("a{number}"))).collect();
    let other = create_avatar(&world.greenroom.globex, "other");
    for limit in [1, 2, 3, 6, 7, 8, 500] {
        let walked = walk(acme, "", limit);
        assert_eq!(walked.len(), 7, "limit {limit}: {walked:?}");
        assert_eq!(walked.iter().cloned().collect::<BTreeSet<_>>(), ids.iter().cloned().collect());
    }
    let everybody = walk(admin, "", 2);
    assert_eq!(everybody.len(), 8);
    assert!(everybody.contains(&other));
    assert_eq!(walk(admin, "&tenant=acme", 2).len(), 7);
    assert_eq!(walk(admin, "&tenant=nobody", 2), Vec::<String>::new());

    // A cursor goes on behind a session that has gone meanwhile, and into what came meanwhile.
    let (first, next) = page(acme, "?limit=3");
    acme.call("DELETE", &format!("/v1/sessions/{}", first[2]), None).is(200);
    let late = create_avatar(acme, "late");
    let (rest, _) = page(acme, &format!("?limit=500&cursor={}", next.unwrap()));
    assert_eq!(rest.len(), 5, "{rest:?}");
    assert!(rest.contains(&late) && !rest.contains(&first[2]), "{rest:?}");
}

#[test]
fn filters_give_what_they_say_and_hold_together() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let (acme, admin) = (&greenroom.acme, &greenroom.admin);
    let plain = create_avatar(acme, "lobby");
    let red = create(acme, &json!({"avatar_id": "lobby", "labels": {"team": "red", "size": "a:b&c"}}));
    let blue = create(acme, &json!({"avatar_id": "stage/1", "labels": {"team": "blue"}}));
    let missing = create_avatar(acme, "missing-1");
    let theirs = create_avatar(&greenroom.globex, "lobby");
    greenroom.until_state(&missing, "failed");
    for id in [&plain, &red, &blue, &theirs] {
        greenroom.until_state(id, "running");
    }
    admin.send(&format!("/v1/sessions/{blue}/park"), b"").is(200);
    greenroom.until_state(&blue, "parked");

    for (query, expected) in [
        ("?state=running", set(&[&plain, &red])),
        ("?state=parked", set(&[&blue])),
        ("?state=failed", set(&[&missing])),
        ("?state=stopped", set(&[])),
        ("?code=avatarNotFound", set(&[&missing])),
        ("?code=connectionClosed", set(&[])),
        ("?avatar_id=lobby", set(&[&plain, &red])),
        ("?avatar_id=stage%2F1", set(&[&blue])),
        ("?avatar_id=lob", set(&[])),
        ("?label=team", set(&[&red, &blue])),
        ("?label=team:red", set(&[&red])),
        ("?label=team:", set(&[])),
        ("?label=size:a:b%26c", set(&[&red])),
        ("?state=running&label=team", set(&[&red])),
        ("?state=failed&code=avatarNotFound&avatar_id=missing-1", set(&[&missing])),
        ("?state=failed&label=team", set(&[])),
        ("?tenant=acme", set(&[&plain, &red, &blue, &missing])),
        ("?tenant=globex", set(&[])),
    ] {
        assert_eq!(listed(acme, query), expected, "{query}");
    }
    assert_eq!(listed(admin, "?avatar_id=lobby"), set(&[&plain, &red, &theirs]));
    assert_eq!(listed(admin, "?avatar_id=lobby&tenant=globex"), set(&[&theirs]));
    assert_eq!(walk(acme, "&avatar_id=lobby", 1).len(), 2);

    acme.call("DELETE", &format!("/v1/sessions/{plain}"), None).is(200);
    greenroom.until_state(&plain, "stopped");
    assert_eq!(listed(acme, "?state=stopped"), set(&[&plain]));
    assert_eq!(listed(acme, "?state=running"), set(&[&red]));
}
