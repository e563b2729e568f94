//! The same script twice, directly and through Greenroom: what the client saw, message by message.
//!
//! Greenroom recovers from nothing here, so that each end is told. Where the two differ is listed, with the reason.

use std::{collections::BTreeMap, io::Write as _, thread};

use greenroom::simulator::{Close, Effect, Fault, Pace, Point, Simulator};
use serde_json::{Value, json};

use crate::{
    player::{AVATARKIT, SPATIALREAL, Sdk, simulator},
    relay::{Greenroom, everything_fails},
};

/// What Greenroom does otherwise: why, and the change to what was seen directly.
type Difference = (&'static str, fn(&mut Vec<Value>));

/// One script.
struct Script {
    name: &'static str,
    scenario: &'static str,
    flags: &'static [&'static str],
    pace: Pace,
    fault: Option<Fault>,
    /// Whether Greenroom recovers as its default policy says.
    recovers: bool,
    differs: Option<Difference>,
}

fn script(name: &'static str, scenario: &'static str, flags: &'static [&'static str]) -> Script {
    Script { name, scenario, flags, pace: Pace::Fast, fault: None, recovers: false, differs: None }
}

fn faulty(name: &'static str, scenario: &'static str, at: Point, effect: Effect) -> Script {
    Script { fault: Some(Fault::new(at, effect)), ..script(name, scenario, &["--seconds", "0.3"]) }
}

fn closes(name: &'static str, code: u16, reason: &str) -> Script {
    faulty(name, "ended", Point::AfterChunks(3), Effect::close(code, reason))
}

fn refuses(name: &'static str, status: u16) -> Script {
    faulty(name, "start", Point::Upgrade, Effect::http(status))
}

/// The second of two equal ends of a request in egress mode reaches nobody.
fn one_end(log: &mut Vec<Value>) {
    let is_end = |entry: &Value| entry[0] == "frame" && entry[5] == true;
    let mut ended = Vec::new();
    log.retain(|entry| {
        let again = is_end(entry) && ended.contains(&entry[2]);
        if is_end(entry) {
            ended.push(entry[2].clone());
        }
        !again
    });
}

fn scripts() -> Vec<Script> {
    let real_time = |script| Script { pace: Pace::Realtime, ..script };
    let error = |code, message: &str, req_id, then_close: Option<(u16, &str)>| Effect::ServerError {
        code,
        message: message.into(),
        req_id,
        then_close: then_close.map(|(code, reason)| Close { code, reason: reason.into(), after_ms: 20 }),
    };
    vec![
        script("a clip", "clip", &[]),
        script("a clip with query authentication", "clip", &["--query-auth"]),
        real_time(script("two clips at a time", "two_clips", &["--seconds", "0.4"])),
        real_time(script("an interrupt", "interrupt", &["--seconds", "60"])),
        Script {
            differs: Some(("an end that is said twice is told once", one_end)),
            ..real_time(script("pause and resume", "pause", &["--agora", "--seconds", "0.4"]))
        },
        closes("closed with 4001", 4001, "no credits left"),
        closes("closed with 4002", 4002, "maximum session duration"),
        closes("closed with 4003", 4003, "too many"),
        closes("closed with 4010", 4010, "token expired"),
        closes("closed with 4503", 4503, "dependency"),
        closes("closed with 1000", 1000, "bye"),
        closes("closed with 4444", 4444, ""),
        faulty(
            "an error, then a close",
            "ended",
            Point::AfterChunks(3),
            error(14, "animate: unavailable", false, Some((4503, "dependency"))),
        ),
        Script {
            recovers: true,
            flags: &["--seconds", "0.3", "--deadline", "1"],
            ..faulty(
                "an error of a request",
                "clip",
                Point::AfterChunks(3),
                error(13, "inference", true, None),
            )
        },
        refuses("400", 400),
        refuses("401", 401),
        refuses("402", 402),
        refuses("403", 403),
        refuses("404", 404),
        refuses("418", 418),
        refuses("429", 429),
        refuses("500", 500),
        refuses("503", 503),
        script("a missing avatar", "start", &["--avatar-id", "missing-one"]),
        script("a rate that PCM does not have", "start", &["--sample-rate", "11025"]),
        script("LiveKit without a token", "start", &["--livekit-token", ""]),
        script("LiveKit with a bad token", "start", &["--livekit-token", "no-jwt"]),
        faulty("4003 at the handshake", "start", Point::Handshake, Effect::close(4003, "too many")),
        faulty(
            "4010 at the handshake",
            "start",
            Point::Handshake,
            error(4010, "session token expired", false, Some((4010, "session token expired"))),
        ),
    ]
}

/// What was seen, with ids replaced by the order in which they came: the error of the start, then everything.
fn normalized(seen: &Value) -> Vec<Value> {
    let mut log =
        vec![json!(["stage", seen["stage"], seen["capabilities"]]), json!(["raised", seen["error"]])];
    log.extend(seen["log"].as_array().unwrap().iter().cloned());
    let mut names = BTreeMap::new();
    for id in [&seen["connection_id"], &seen["req_id"]].into_iter().filter_map(Value::as_str) {
        names.insert(id.to_owned(), format!("id-{}", names.len()));
    }
    // An error names its request where the client does not get so far.
    let named = seen["errors"].as_array().into_iter().flatten().filter_map(|error| error["req_id"].as_str());
    for id in named {
        names.entry(id.to_owned()).or_insert_with(|| "id-1".to_owned());
    }
    for id in seen["req_ids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        names.insert(id.to_owned(), format!("id-{}", names.len()));
    }
    let mut text = serde_json::to_string(&log).unwrap();
    for (id, name) in &names {
        text = text.replace(id, name);
    }
    serde_json::from_str(&text).unwrap()
}

/// Errors before a confirmation name a connection that the client was never told.
fn without_unknown_connections(mut log: Vec<Value>) -> Vec<Value> {
    for entry in &mut log {
        if let Some(error) = entry.get_mut(1).and_then(Value::as_object_mut)
            && error.get("connection_id").and_then(Value::as_str).is_some_and(|id| id.starts_with("conn_"))
        {
            error.insert("connection_id".into(), json!("a connection"));
        }
    }
    log
}

/// How far an interrupted clip had come is a matter of time: the order of what was told is not.
fn without_times(log: Vec<Value>) -> Vec<Value> {
    let is_middle = |entry: &Value| entry[0] == "frame" && entry[5] == false;
    log.into_iter().filter(|entry| !is_middle(entry)).collect()
}

fn compare(sdk: &Sdk, script: &Script) -> Result<(), String> {
    let simulator: Simulator = simulator(script.pace);
    if let Some(fault) = &script.fault {
        simulator.add_fault(fault.clone()).unwrap();
    }
    let direct = sdk.play(&simulator, script.scenario, script.flags);
    let settings = if script.recovers { String::new() } else { everything_fails() };
    let greenroom = Greenroom::before(&simulator, &settings);
    let through = greenroom.play(sdk, script.scenario, script.flags);
    let tidy = |seen: &Value| {
        let log = without_unknown_connections(normalized(seen));
        // How much was answered when it ended is a matter of time.
        if script.scenario == "clip" && script.fault.is_none() { log } else { without_times(log) }
    };
    let (mut expected, found) = (tidy(&direct), tidy(&through));
    if script.scenario == "two_clips" {
        return if direct["frames"]
            .as_object()
            .unwrap()
            .values()
            .eq(through["frames"].as_object().unwrap().values())
        {
            Ok(())
        } else {
            Err(format!("{direct}\n{through}"))
        };
    }
    if let Some((_, change)) = &script.differs {
        assert_ne!(expected, found, "{}: listed as different, and is not", script.name);
        change(&mut expected);
    }
    if expected == found {
        Ok(())
    } else {
        Err(format!("directly\n  {expected:?}\nthrough Greenroom\n  {found:?}"))
    }
}

#[test]
fn a_client_sees_through_greenroom_what_it_sees_directly() {
    let found: Vec<String> = thread::scope(|scope| {
        let clients = [&SPATIALREAL, &AVATARKIT].map(|sdk| {
            scope.spawn(move || {
                let all = scripts();
                let told = all.iter().filter(|script| {
                    // The older client has neither playback states nor pauses.
                    sdk.name == SPATIALREAL.name || script.scenario != "pause"
                });
                told.filter_map(|script| {
                    let differs = compare(sdk, script).err()?;
                    Some(format!("{} {}: {differs}", sdk.name, script.name))
                })
                .collect::<Vec<_>>()
            })
        });
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    for script in scripts() {
        if let Some((why, _)) = script.differs {
            let _ = writeln!(std::io::stdout(), "{}: {why}", script.name);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}
