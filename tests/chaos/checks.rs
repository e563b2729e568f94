//! What must hold once calm has returned.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    actors::{Shared, Should, Slot, audio},
    ground::{Ground, TENANTS, sum, tenant_key},
    http::Client,
    record::Record,
};

/// Longer than the longest backoff, breaker and probe of these settings together.
const RECOVERS: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(100);
/// What a process may have open besides two sockets for each session.
const OTHER_DESCRIPTORS: usize = 120;
/// Codes after which a session is rightly failed: what nobody understands, three times in a row.
const PUZZLING: [&str; 2] = ["protocolError", "unknown"];
/// Sessions that the exact count is made with, one after another.
const COUNTED: usize = 40;
/// 0.2 s.
const SHORT_CLIP: usize = 6400;

/// All sessions that are not stopped, by id.
fn listed(admin: &Client) -> BTreeMap<String, Value> {
    let (mut sessions, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = admin.get(&format!("/v1/sessions?limit=500{cursor}")).is(200).json();
        for session in page["sessions"].as_array().unwrap() {
            sessions.insert(session["id"].as_str().unwrap().to_owned(), session.clone());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return sessions,
        }
    }
}

/// Restarts what has failed, as an operator does afterwards; gives how many had. Suspensions end by the probe.
fn tidy_up(ground: &Ground) -> usize {
    let mut failed = 0;
    for (id, session) in listed(&ground.admin) {
        if session["state"] == "failed" {
            let code = session["last_error"]["code"].as_str().unwrap();
            assert!(PUZZLING.contains(&code), "{session}");
            ground.admin.call("POST", &format!("/v1/sessions/{id}/restart"), None).is(200);
            failed += 1;
        }
    }
    failed
}

/// Whether every session is what it should be, and no other is there; else what is not.
fn differs(ground: &Ground, shared: &Shared) -> Result<Vec<Slot>, String> {
    let mut sessions = listed(&ground.admin);
    let stats = ground.stats();
    let live: BTreeMap<&str, u64> = stats["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| (session["avatar_id"].as_str().unwrap(), session["live"].as_u64().unwrap()))
        .collect();
    let mut slots = shared.slots.lock().unwrap().clone();
    for slot in &mut slots {
        let id = slot.id.as_ref().ok_or_else(|| format!("{} was never created", slot.avatar))?;
        let session = sessions.remove(id).ok_or_else(|| format!("{id} was answered, and is lost"))?;
        let state = session["state"].as_str().unwrap();
        let fits = |should: Should| should.state() == state;
        if !fits(slot.should) && !slot.asked.is_some_and(fits) {
            return Err(format!("should be {:?}, asked {:?}: {session}", slot.should, slot.asked));
        }
        slot.should = if state == "parked" { Should::Park } else { Should::Run };
        let connections = live.get(slot.avatar.as_str()).copied().unwrap_or_default();
        if connections != u64::from(slot.should == Should::Run) {
            return Err(format!("has {connections} connections at the service: {session}"));
        }
    }
    for (id, answered) in shared.deleted.lock().unwrap().iter() {
        match sessions.remove(id) {
            Some(session) if *answered && session["state"] != "stopped" => {
                return Err(format!("was deleted: {session}"));
            }
            // Where nobody heard an answer it may live on.
            Some(_) | None => {}
        }
    }
    let strange =
        sessions.values().find(|session| session["state"] != "stopped" && session["origin"] == "api");
    strange.map_or(Ok(slots), |session| Err(format!("nobody asked for {session}")))
}

/// Waits until all is as it should be; gives the sessions that run.
pub(crate) fn recovers(ground: &Ground, shared: &Shared) -> Vec<Slot> {
    let began = Instant::now();
    let failed = tidy_up(ground);
    loop {
        let found = differs(ground, shared).and_then(|slots| {
            let live = ground.stats()["connections"]["live"].as_u64().unwrap();
            let running = ground.metric("greenroom_sessions", &["state=\"running\""]) as u64;
            let connected = ground.metric("greenroom_upstream_connections", &[]) as u64;
            // Of a deletion that nobody heard an answer to, the session may run on: it is known all the same.
            if live == running && live == connected {
                Ok(slots)
            } else {
                Err(format!("{live} connections at the service, {connected} counted, {running} sessions run"))
            }
        });
        match found {
            Ok(slots) => {
                println!("all as it should be after {:.1?}; {failed} had failed", began.elapsed());
                return slots.into_iter().filter(|slot| slot.should == Should::Run).collect();
            }
            Err(what) => assert!(began.elapsed() < RECOVERS, "not within {RECOVERS:?}: {what}"),
        }
        thread::sleep(POLL);
    }
}

/// What must hold at the end of the whole run.
pub(crate) fn invariants(ground: &Ground, shared: &Arc<Shared>, record: &Record, zero: Instant) {
    let stats = ground.stats();
    let twice = record.two_at_once(&ground.lossy(zero));
    assert!(twice.is_empty(), "{}\ntwo connections of one session", twice.join("\n\n"));
    assert_eq!(stats["violations"]["total"], 0, "{}", stats["violations"]);
    assert_eq!(ground.metric("greenroom_invariant_breaches_total", &[]), 0.0);
    assert_eq!(ground.metric("greenroom_outbox_bytes", &[]), 0.0);
    let log = ground.log();
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:?}");
    told_as_counted(ground, shared);
    let sessions = ground.metric("greenroom_sessions", &["state=\"running\""]) as usize;
    let (open, resident) = (ground.descriptors(), ground.status("VmRSS"));
    println!("{open} descriptors, {resident} KiB resident, {sessions} sessions run");
    assert!(open <= 2 * sessions + OTHER_DESCRIPTORS, "{open} descriptors for {sessions} sessions");
    // 128 MiB and 256 KiB a session: several times what it takes, and far less than a leak.
    assert!(resident <= 128 * 1024 + 256 * sessions as u64, "{resident} KiB");
}

/// Each request of the last process has the outcome that its caller was told, and was counted once.
fn told_as_counted(ground: &Ground, shared: &Shared) {
    let epoch = shared.epoch.load(Ordering::SeqCst);
    let told = shared.told.lock().unwrap();
    let of =
        |tenant, outcome: &str| told.get(&(epoch, tenant, outcome.to_owned())).copied().unwrap_or_default();
    println!("requests: {:?}", *told);
    for tenant in &TENANTS[..2] {
        let unanswered = of(tenant, "none");
        for outcome in ["completed", "interrupted", "failed"] {
            let labels = [format!("tenant=\"{tenant}\""), format!("outcome=\"{outcome}\"")];
            let counted = ground.metric("greenroom_requests_total", &[&labels[0], &labels[1]]) as u64;
            let heard = of(tenant, outcome);
            assert!(
                (heard..=heard + unanswered).contains(&counted),
                "{tenant}: {heard} were told {outcome}, {unanswered} nothing, and {counted} are counted"
            );
        }
    }
}

/// In calm, what is counted is exactly what the service has seen.
pub(crate) fn counts_exactly(ground: &Ground, running: &[Slot]) {
    let read = || {
        let text = ground.admin.without_key().get("/metrics").is(200).body;
        let stats = ground.stats();
        let of = |name: &str, labels: &[&str]| sum(&text, name, labels) as u64;
        (
            [
                of("greenroom_requests_total", &["outcome=\"completed\""]),
                of("greenroom_frames_total", &["direction=\"down\""]),
                of("greenroom_handshake_seconds_count", &["outcome=\"ok\""]),
                of("greenroom_session_errors_total", &[]),
            ],
            [
                stats["requests_by_state"]["completed"].as_u64().unwrap_or_default(),
                stats["frames_sent"].as_u64().unwrap(),
                stats["connections"]["confirmed"].as_u64().unwrap(),
            ],
        )
    };
    let (counted, seen) = read();
    let running = &running[..running.len().min(COUNTED)];
    let (spoken, restarted) = running.split_at(running.len() - running.len() / 4);
    for slot in spoken {
        let client = Client::new(super::ground::DATA.parse().unwrap()).with_key(&tenant_key(slot.tenant));
        let path = format!("/v1/sessions/{}/requests?wait=true", slot.id.as_ref().unwrap());
        let answer = client.send(&path, &audio(1, SHORT_CLIP)).is(200).json();
        assert_eq!(answer["outcome"], json!("completed"), "{answer}");
    }
    for slot in restarted {
        let path = format!("/v1/sessions/{}/restart", slot.id.as_ref().unwrap());
        ground.admin.call("POST", &path, None).is(200);
    }
    let (requests, restarts) = (spoken.len() as u64, restarted.len() as u64);
    let frames = requests * (SHORT_CLIP / 1280) as u64;
    let began = Instant::now();
    loop {
        let (counted_now, seen_now) = read();
        let more = |now: u64, before: u64| now - before;
        let by_us: Vec<u64> =
            counted_now.iter().zip(counted).map(|(now, before)| more(*now, before)).collect();
        let by_it: Vec<u64> = seen_now.iter().zip(seen).map(|(now, before)| more(*now, before)).collect();
        let wanted = [requests, frames, restarts, 0];
        if by_us == wanted && by_it == [requests, frames, restarts] {
            return;
        }
        assert!(
            began.elapsed() < RECOVERS,
            "counted {by_us:?}, wanted {wanted:?}; the service saw {by_it:?}"
        );
        thread::sleep(POLL);
    }
}
