//! How the process ends, and how it refuses to begin.

use std::{
    io::Write as _,
    net::TcpStream,
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    process::{Program, eventually, greenroom},
    tap::Tap,
    world::{ACME_KEY, ADMIN_KEY, Greenroom, Settings, Simulator, World, create_avatar, file, tenant},
};

/// `server.shutdown_s` of these tests, and what the listeners and threads may take after it.
const SHUTDOWN: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_secs(5);

/// A process whose connections go through a tap, with three sessions that speak.
fn speaking() -> (Greenroom, Tap, Simulator, Vec<String>) {
    let simulator = Simulator::start();
    let tap = Tap::before(simulator.address);
    let ingress_url = format!("ws://{}/v2/driveningress", tap.address);
    let greenroom = Greenroom::start(&Settings::default().toml(&simulator.console_url(), &ingress_url));
    let ids: Vec<String> = ["a", "b", "c"].map(|avatar| create_avatar(&greenroom.acme, avatar)).to_vec();
    for id in &ids {
        greenroom.until_state(id, "running");
        greenroom.acme.send(&format!("/v1/sessions/{id}/requests?end=false"), b"open").is(202);
    }
    (greenroom, tap, simulator, ids)
}

#[track_caller]
fn ends_in_order(greenroom: &mut Greenroom, tap: &Tap, simulator: &Simulator, end: impl FnOnce(&Greenroom)) {
    let asked = Instant::now();
    end(greenroom);
    let status = greenroom.program.wait();
    assert!(asked.elapsed() < SHUTDOWN + MARGIN, "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0), "{}", greenroom.program.written());
    simulator.is_left_in_order();
    assert_eq!(simulator.stats()["connections"]["total"], 3);
    assert_eq!(tap.closes(), [Some(1000); 3]);
}

#[test]
fn sigterm_closes_every_connection_with_1000_and_exits_with_0() {
    let (mut greenroom, tap, simulator, _) = speaking();
    ends_in_order(&mut greenroom, &tap, &simulator, |greenroom| greenroom.program.signal("TERM"));
}

#[test]
fn sigint_closes_every_connection_with_1000_and_exits_with_0() {
    let (mut greenroom, tap, simulator, _) = speaking();
    ends_in_order(&mut greenroom, &tap, &simulator, |greenroom| greenroom.program.signal("INT"));
}

#[test]
fn a_drain_over_http_ends_the_process_and_tells_a_client_that_waits() {
    let (mut greenroom, tap, simulator, ids) = speaking();
    let acme = greenroom.acme.clone();
    let path = format!("/v1/sessions/{}/requests?wait=true&end=true", ids[0]);
    // The service says nothing more, so that the request has no outcome but the drain's.
    simulator.fault(&json!({"match": {"avatar_id": "a"}, "at": {"after_chunks": 2}, "do": {"silence": {}}}));
    let waiting = thread::spawn(move || acme.send(&path, &[0; 3200]));
    eventually("the client waits", || (simulator.stats()["faults_struck"].as_u64() == Some(1)).then_some(()));
    ends_in_order(&mut greenroom, &tap, &simulator, |greenroom| {
        greenroom.admin.send("/v1/drain", b"").is(202);
    });
    let told = waiting.join().unwrap().is(200).json();
    assert_eq!(told["outcome"], "interrupted", "{told}");
}

#[test]
fn while_it_drains_it_is_not_ready_and_takes_no_session() {
    let mut world = World::usual();
    let greenroom = &mut world.greenroom;
    let id = create_avatar(&greenroom.acme, "deaf");
    greenroom.until_state(&id, "running");
    // The close handshake is not answered, so that the drain takes the second that it waits for it.
    world.simulator.fault(&json!({"at": {"after_chunks": 1}, "do": {"silence": {}}}));
    greenroom.acme.send(&format!("/v1/sessions/{id}/requests"), b"pcm!").is(202);
    eventually("the service is silent", || {
        (world.simulator.stats()["faults_struck"].as_u64() == Some(1)).then_some(())
    });
    let nobody = greenroom.admin.without_key();
    greenroom.admin.send("/v1/drain", b"").is(202);
    let answer = nobody.get("/readyz").is(503);
    assert_eq!(answer.json(), json!({"status": "draining"}));
    nobody.get("/healthz").is(200);
    let refused = greenroom.acme.post("/v1/sessions", &json!({"avatar_id": "late"}));
    refused.is_problem(503, "draining");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(greenroom.program.wait().code(), Some(0));
}

#[test]
fn a_process_without_sessions_ends_at_once_also_beside_idle_clients() {
    let mut world = World::usual();
    let idle = TcpStream::connect(world.greenroom.acme.address()).unwrap();
    world.greenroom.acme.get("/v1/sessions").is(200);
    let asked = Instant::now();
    world.greenroom.program.signal("TERM");
    assert_eq!(world.greenroom.program.wait().code(), Some(0));
    assert!(asked.elapsed() < MARGIN, "{:?}", asked.elapsed());
    drop(idle);
}

#[test]
fn a_client_that_stalls_in_its_body_does_not_hold_the_end() {
    let mut world = World::usual();
    let greenroom = &mut world.greenroom;
    let id = create_avatar(&greenroom.acme, "stalled");
    greenroom.until_state(&id, "running");
    let path = format!("/v1/sessions/{id}/requests");
    let head = greenroom.acme.head("POST", &path, &["Content-Length: 1000"]) + "half of a sentence";
    let mut stalled = TcpStream::connect(greenroom.acme.address()).unwrap();
    stalled.write_all(head.as_bytes()).unwrap();
    eventually("the piece arrives at the service", || {
        (world.simulator.stats()["audio_bytes"].as_u64().unwrap() > 0).then_some(())
    });
    let asked = Instant::now();
    greenroom.program.signal("TERM");
    assert_eq!(greenroom.program.wait().code(), Some(0));
    assert!(asked.elapsed() < SHUTDOWN + MARGIN, "{:?}", asked.elapsed());
    world.simulator.is_left_in_order();
}

#[track_caller]
fn refused_start(toml: &str) -> (ExitStatus, String) {
    let (_directory, path) = file(toml);
    let mut program = Program::start(greenroom().arg("serve").arg("--config").arg(path));
    let status = program.wait();
    (status, program.written())
}

#[test]
fn an_address_in_use_is_named_with_its_key() {
    let world = World::usual();
    let (data, admin) = (world.greenroom.acme.address(), world.greenroom.admin.address());
    for (key, address) in [("server.listen", data), ("admin.listen", admin)] {
        let mut settings = Settings::default();
        let section = if key == "server.listen" { &mut settings.server } else { &mut settings.admin };
        *section = section.replace("127.0.0.1:0", &address.to_string());
        let (status, written) = refused_start(&settings.toml("http://127.0.0.1:1", "ws://127.0.0.1:1"));
        assert_eq!(status.code(), Some(70), "{written}");
        assert_eq!(written.lines().count(), 1, "{written}");
        assert!(written.contains(key) && written.contains(&address.to_string()), "{written}");
    }
    world.greenroom.acme.get("/v1/sessions").is(200);
}

#[test]
fn a_wrong_configuration_exits_with_78_and_all_mistakes_with_their_lines_and_no_secret() {
    let secrets = ["admin-secret", "tenant-secret-1", "tenant-secret-1", "upstream-secret"];
    let toml = format!(
        "[server]\nlisten = \"nowhere\"\n[admin]\nkey = \"{}\"\nkeys = [\"{}\"]\n[upstream.gate]\n\
         per_second = 0\n[store]\nurl = \"redb://user:{}@host\"\n{}{}",
        secrets[0],
        secrets[1],
        secrets[3],
        tenant("a", secrets[1], secrets[3]),
        tenant("a", secrets[2], secrets[3]),
    );
    let (status, written) = refused_start(&toml);
    assert_eq!(status.code(), Some(78), "{written}");
    let lines: Vec<&str> = written.lines().collect();
    for (line, (number, key)) in lines.iter().zip([
        (2, "server.listen"),
        (5, "admin.keys"),
        (7, "upstream.gate.per_second"),
        (9, "store.url"),
        (16, "tenants[1].id"),
        (18, "tenants[1].keys"),
    ]) {
        assert!(line.contains(&format!("greenroom.toml:{number}:")) && line.contains(key), "{written}");
    }
    assert_eq!(lines.len(), 6, "{written}");
    for secret in secrets {
        assert!(!written.contains(secret), "{written}");
    }
}

#[test]
fn a_file_that_is_absent_or_no_toml_exits_with_78() {
    let mut program = Program::start(greenroom().args(["serve", "--config", "absent.toml"]));
    assert_eq!(program.wait().code(), Some(78));
    assert!(program.written().contains("absent.toml"), "{}", program.written());
    let (status, written) = refused_start(&format!("[admin]\nkey = \"{ADMIN_KEY}\n[server\n"));
    assert_eq!(status.code(), Some(78), "{written}");
    assert!(written.contains("greenroom.toml:2:") && !written.contains(ADMIN_KEY), "{written}");
    let (status, written) = refused_start(&format!("[[tenants]]\nkeys = [\"{ACME_KEY}\"] x\n"));
    assert_eq!(status.code(), Some(78), "{written}");
    assert!(written.contains("greenroom.toml:2:") && !written.contains(ACME_KEY), "{written}");
}

#[test]
fn a_store_that_cannot_be_used_is_named_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greenroom.redb");
    std::fs::write(&path, "no store").unwrap();
    let store = format!("url = \"redb:{}\"\n", path.display());
    let settings = Settings { store, ..Settings::default() };
    let (status, written) = refused_start(&settings.toml("http://127.0.0.1:1", "ws://127.0.0.1:1"));
    assert_eq!(status.code(), Some(74), "{written}");
    assert_eq!(written.lines().count(), 1, "{written}");
    let names = ["greenroom: store.url:", path.to_str().unwrap(), "is not a store of Greenroom"];
    assert!(names.iter().all(|name| written.contains(name)), "{written}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "no store");
}
