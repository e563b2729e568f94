//! Ports and descriptors run out: what is said, what is counted, and that the service is not blamed.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{
    http::Client,
    namespace,
    process::{Program, eventually, greenroom},
    world::{Greenroom, Settings, Simulator},
};

const SESSIONS: usize = 30;
/// Fewer than sessions, more than half as many: two addresses have enough.
const PORTS: (u16, u16) = (40_000, 40_023);

/// More attempts than the breaker needs to open, were they the service's fault.
const SHORTAGES: f64 = 30.0;

fn toml(simulator: &Simulator, upstream: &str) -> String {
    let settings = Settings { upstream: upstream.to_owned(), ..Settings::default() };
    settings.toml(&simulator.console_url(), &simulator.ingress_url())
}

fn create_all(greenroom: &Greenroom) {
    for number in 0..SESSIONS {
        greenroom.acme.post("/v1/sessions", &json!({"avatar_id": format!("avatar-{number}")})).is(201);
    }
}

fn running(greenroom: &Greenroom) -> usize {
    greenroom.metric("greenroom_sessions", &["state=\"running\""]) as usize
}

/// Waits until attempts have failed for want of `resource` often enough, and checks what is said of it.
fn fails_for_want_of(greenroom: &Greenroom, resource: &str, phase: &str, words: &[&str]) {
    let label = format!("resource=\"{resource}\"");
    eventually("attempts fail", || {
        (greenroom.metric("greenroom_host_shortages_total", &[&label]) >= SHORTAGES).then_some(())
    });
    let session = eventually("a session says why", || {
        let list = greenroom.admin.get("/v1/sessions?limit=100").is(200).json();
        let sessions = list["sessions"].as_array()?.clone();
        sessions.into_iter().find(|session| session["last_error"]["phase"] == phase)
    });
    let error = &session["last_error"];
    assert_eq!(error["code"], "connectionFailed", "{error}");
    for word in words {
        assert!(error["message"].as_str().is_some_and(|text| text.contains(word)), "{word}: {error}");
    }
    assert_eq!(greenroom.metric("greenroom_breaker_state", &[]), 0.0, "the service is not at fault");
    assert_eq!(greenroom.metric("greenroom_session_failures_total", &[]), 0.0);
    assert_eq!(greenroom.metric("greenroom_invariant_breaches_total", &[]), 0.0);
}

#[test]
fn where_one_address_has_no_ports_left_the_error_says_so_and_with_two_it_goes_on() {
    if !namespace::enter(
        "shortages::where_one_address_has_no_ports_left_the_error_says_so_and_with_two_it_goes_on",
    ) {
        return;
    }
    let simulator = everywhere();
    let start = |addresses: &str| {
        let upstream = format!("bind_addresses = [{addresses}]\n");
        let settings = Settings { upstream, ..Settings::default() };
        // The console at another address than the ingress: a port is used up towards one of them only.
        let ingress_url = format!("ws://127.0.0.9:{}/v2/driveningress", simulator.address.port());
        Greenroom::start(&settings.toml(&simulator.console_url(), &ingress_url))
    };
    let one = start("\"127.0.0.2\"");
    let two = start("\"127.0.0.2\", \"127.0.0.3\"");
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("{} {}", PORTS.0, PORTS.1)).unwrap();

    create_all(&one);
    let words = ["127.0.0.2", "upstream.bind_addresses", "net.ipv4.ip_local_port_range"];
    fails_for_want_of(&one, "ports", "websocket_connect", &words);
    let ports = usize::from(PORTS.1 - PORTS.0) + 1;
    assert!((1..=ports).contains(&running(&one)), "{}", running(&one));
    drop(one);
    simulator.is_left_in_order();

    create_all(&two);
    eventually("all run from two addresses", || (running(&two) == SESSIONS).then_some(()));
    let sources = upstream_sources(&two);
    assert!(
        sources.iter().any(|it| it == "127.0.0.2") && sources.iter().any(|it| it == "127.0.0.3"),
        "{sources:?}"
    );
    let live = simulator.stats()["connections"]["live"].clone();
    assert_eq!(live, Value::from(SESSIONS));
    drop(two);
    simulator.is_left_in_order();
}

/// A simulator that is reached by each address of this network.
fn everywhere() -> Simulator {
    let arguments = ["simulate", "--listen", "0.0.0.0:9000", "--pace", "fast"];
    let mut program = Program::start(greenroom().args(arguments));
    program
        .wait_for("the simulator", |program| program.out.text().contains("console  http://").then_some(()));
    let address = "127.0.0.1:9000".parse().unwrap();
    Simulator { program, address, control: Client::new(address) }
}

/// The local addresses of the process's connections, as the kernel has them.
fn upstream_sources(greenroom: &Greenroom) -> Vec<String> {
    let output = Command::new("ss").args(["-Htnp", "state", "established"]).output().unwrap();
    let pid = format!("pid={},", greenroom.program.id());
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(&pid))
        .filter_map(|line| Some(line.split_whitespace().nth(2)?.rsplit_once(':')?.0.to_owned()))
        .collect()
}

#[test]
fn where_no_descriptor_is_left_the_error_says_so_and_the_breaker_stays_closed() {
    let simulator = Simulator::start();
    let greenroom = Greenroom::start(&toml(&simulator, ""));
    create_all(&greenroom);
    eventually("all run", || (running(&greenroom) == SESSIONS).then_some(()));
    // What it has open stays open, so its listeners still answer those who are connected.
    let open = fs::read_dir(format!("/proc/{}/fd", greenroom.program.id())).unwrap().count();
    limit_descriptors(&greenroom.program, &open.to_string());
    simulator.control.post("/_sim/drop", &json!({})).is(200);
    // Descriptors come free as connections are lost: others in this process take them.
    limit_descriptors(&greenroom.program, &(open - SESSIONS).to_string());

    let words = ["no file descriptor", "LimitNOFILE"];
    fails_for_want_of(&greenroom, "descriptors", "session_token", &words);

    limit_descriptors(&greenroom.program, "4096");
    eventually("all run again", || (running(&greenroom) == SESSIONS).then_some(()));
    drop(greenroom);
    simulator.is_left_in_order();
}

fn limit_descriptors(program: &Program, limit: &str) {
    let pid = program.id().to_string();
    // The soft limit only: the hard one could not be raised again without root.
    namespace::run("prlimit", &["--pid", &pid, &format!("--nofile={limit}:")]);
}
