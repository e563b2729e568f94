//! What goes with an export, and over what: headers, refusals, TLS. The receiver is gRPC's and OpenTelemetry's own.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::{
    certificates::Authority,
    collector::python_with,
    process::{Program, eventually},
    sessions::speak,
    world::{Settings, World, create_avatar},
};

/// It brings the generated service, and gRPC.
const PACKAGE: [&str; 2] = ["opentelemetry-exporter-otlp-proto-grpc", "1.45.2"];
const CREDENTIAL: &str = "hunter2-of-the-collector";

/// The receiver, and its port.
fn receiver(arguments: &[&str]) -> (Program, u16) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/receiver.py");
    let mut command = Command::new(python_with(PACKAGE));
    let mut receiver = Program::start(command.env_clear().arg(script).args(arguments));
    let port = receiver.wait_for("its port", |program| program.out.text().lines().next()?.parse().ok());
    (receiver, port)
}

/// The exports that it was told of.
fn exports(receiver: &Program) -> Vec<Value> {
    receiver.out.text().lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn traced(otlp: &str) -> World {
    // Everything that a library would say is in the log.
    let telemetry = format!("log_level = \"trace\"\n[telemetry.otlp]\ntimeout_ms = 1000\n{otlp}");
    World::start(&Settings { telemetry, ..Settings::default() })
}

fn with_credential(endpoint: &str) -> String {
    let headers = format!("headers = [{{ name = \"authorization\", value = \"Bearer {CREDENTIAL}\" }}]");
    format!("endpoint = \"{endpoint}\"\n{headers}\n")
}

/// One session that runs and speaks once.
fn lives(world: &World) {
    let id = create_avatar(&world.greenroom.acme, "told");
    world.greenroom.until_state(&id, "running");
    assert_eq!(speak(world, &id)["outcome"], "completed");
}

/// Ends Greenroom; gives all that it wrote.
fn ended(world: World) -> String {
    let mut greenroom = world.greenroom;
    greenroom.program.signal("TERM");
    assert!(greenroom.program.wait().success());
    greenroom.program.written()
}

#[test]
fn the_configured_headers_go_with_each_export_and_into_no_log() {
    let (receiver, port) = receiver(&[]);
    let world = traced(&with_credential(&format!("http://127.0.0.1:{port}")));
    lives(&world);
    eventually("an export", || (!exports(&receiver).is_empty()).then_some(()));
    let log = ended(world);
    for export in exports(&receiver) {
        assert_eq!(export["headers"]["authorization"], format!("Bearer {CREDENTIAL}"), "{export}");
    }
    assert!(log.contains("TRACE") && !log.contains(CREDENTIAL), "the credential is in the log");
}

#[test]
fn a_receiver_that_refuses_is_told_of_once_by_its_status_and_nothing_that_it_says() {
    let (receiver, port) = receiver(&["--refuse"]);
    let world = traced(&with_credential(&format!("http://127.0.0.1:{port}")));
    lives(&world);
    eventually("both are dropped", || {
        (world.greenroom.metric("greenroom_traces_total", &["dropped"]) == 2.0).then_some(())
    });
    // Not to be repeated: what is refused for its credential is refused again.
    let names = |export: &Value| export["names"].as_array().unwrap().len();
    assert_eq!(exports(&receiver).iter().map(names).sum::<usize>(), 6, "{:?}", exports(&receiver));
    let log = ended(world);
    let told: Vec<_> = log.lines().filter(|line| line.contains("traces cannot be exported")).collect();
    assert!(told.len() == 1 && told[0].contains("Unauthenticated"), "{told:#?}");
    assert!(!log.contains(CREDENTIAL), "the credential is in the log");
}

#[test]
fn a_receiver_with_tls_must_have_a_certificate_of_an_authority_that_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let [own, other] = ["ours", "others"].map(Authority::new);
    let file = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pair = own.server();
    let [cert, key] = [file("cert.pem", &pair.cert), file("key.pem", &pair.key)];
    let (receiver, port) = receiver(&["--cert", &cert, "--key", &key]);
    for (authority, outcome, is_trusted) in [(&other, "dropped", false), (&own, "exported", true)] {
        let ca = file("ca.pem", &authority.pem());
        let world = traced(&format!("endpoint = \"https://127.0.0.1:{port}\"\nca = \"{ca}\"\n"));
        lives(&world);
        eventually(outcome, || {
            (world.greenroom.metric("greenroom_traces_total", &[outcome]) == 2.0).then_some(())
        });
        assert_eq!(!exports(&receiver).is_empty(), is_trusted);
        ended(world);
    }
}
