//! `greenroom doctor` against the simulator with a fault in each phase, and against what is no service at all.

use std::{net::TcpListener, process::Output};

use serde_json::{Value, json};

use super::{
    process::{Program, greenroom},
    world::{ACME_KEY, Settings, Simulator, file, tenant},
};

const UPSTREAM_KEY: &str = "upstream-key-of-acme";

fn settings() -> Settings {
    Settings { tenants: tenant("acme", ACME_KEY, UPSTREAM_KEY), ..Settings::default() }
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn is(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn steps(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The steps of the tenant that came out so.
    fn with_outcome(&self, outcome: &str) -> Vec<String> {
        let steps = self.steps();
        let those = steps.iter().filter(|step| step["outcome"] == outcome && step["tenant"] == "acme");
        those.map(|step| step["step"].as_str().unwrap().to_owned()).collect()
    }
}

fn doctor(toml: &str, arguments: &[&str]) -> Ran {
    let (_directory, path) = file(toml);
    let Output { status, stdout, stderr } =
        greenroom().arg("doctor").arg("--config").arg(path).args(arguments).output().unwrap();
    Ran {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

fn toml_of(simulator: &Simulator) -> String {
    settings().toml(&simulator.console_url(), &simulator.ingress_url())
}

/// What the simulator wrote down of how connections ended.
fn endings(simulator: &Simulator) -> Vec<Value> {
    let record = simulator.control.get("/_sim/record").is(200).json();
    let events = record.as_array().unwrap().clone();
    let is_ending = |event: &Value| {
        ["close_received", "client_gone", "connection_lost", "lost"]
            .iter()
            .any(|kind| event["event"] == *kind)
    };
    events.into_iter().filter(is_ending).collect()
}

#[test]
fn a_way_that_is_open_is_said_to_be_and_left_in_order() {
    let simulator = Simulator::start();
    let ran = doctor(&toml_of(&simulator), &["--avatar", "avatar", "--json"]).is(0);
    let steps = ran.steps();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "console name",
            "console tcp",
            "ingress name",
            "ingress tcp",
            "token",
            "upgrade",
            "handshake",
            "clip",
            "verdict"
        ]
    );
    assert!(
        steps[..8].iter().all(|step| step["outcome"] == "passed" && step["ms"].is_number()),
        "{}",
        ran.out
    );
    assert!(steps[7]["found"].as_str().unwrap().starts_with("1000 ms of audio, 25 frames"), "{}", steps[7]);
    assert_eq!((&steps[8]["exit"], &steps[8]["complete"]), (&json!(0), &json!(true)));
    simulator.is_left_in_order();
    let endings = endings(&simulator);
    assert_eq!(endings.len(), 1, "{endings:?}");
    assert_eq!(endings[0]["code"], 1000, "{endings:?}");
    let people = doctor(&toml_of(&simulator), &["--avatar", "avatar"]).is(0);
    assert!(
        people.out.contains("verdict: everything works") && !people.out.contains('\u{1b}'),
        "{}",
        people.out
    );
    for ran in [ran, people] {
        assert!(!ran.out.contains(UPSTREAM_KEY) && !ran.err.contains(UPSTREAM_KEY), "{}", ran.out);
    }
}

/// For each of the 20 codes of `config/faults.toml`: its number there, the step at which it shows, the exit code.
const CODES: [(&str, &str, &str, i32); 20] = [
    ("01", "sessionTokenExpired", "upgrade", 14),
    ("02", "sessionTokenInvalid", "handshake", 12),
    ("03", "appIDUnrecognized", "upgrade", 12),
    ("04", "appIDMismatch", "upgrade", 12),
    ("05", "avatarNotFound", "upgrade", 12),
    ("06", "billingRequired", "upgrade", 11),
    ("07", "creditsExhausted", "clip", 11),
    ("08", "sessionDurationExceeded", "clip", 11),
    ("09", "unsupportedSampleRate", "handshake", 14),
    ("10", "invalidEgressConfig", "handshake", 14),
    ("11", "egressUnavailable", "handshake", 10),
    ("12", "idleTimeout", "clip", 10),
    ("13", "upstreamError", "clip", 10),
    ("14", "invalidRequest", "clip", 14),
    ("15", "connectionFailed", "upgrade", 13),
    ("16", "connectionClosed", "clip", 13),
    ("17", "protocolError", "handshake", 14),
    ("18", "serverError", "upgrade", 10),
    ("19", "unknown", "token", 14),
    ("20", "concurrencyLimit", "handshake", 11),
];

#[test]
fn each_of_the_20_codes_is_named_with_who_must_act() {
    let faults = concat!(env!("CARGO_MANIFEST_DIR"), "/config/faults.toml");
    let simulator =
        Simulator::start_with(&["simulate", "--listen", "127.0.0.1:0", "--pace", "fast", "--faults", faults]);
    for (number, code, step, exit) in CODES {
        let avatar = format!("code-{number}");
        // Number 19 goes by the API key, since the token call knows no avatar.
        let key = if number == "19" { &avatar } else { UPSTREAM_KEY };
        let tenants = tenant("acme", ACME_KEY, key);
        let toml =
            Settings { tenants, ..settings() }.toml(&simulator.console_url(), &simulator.ingress_url());
        let ran = doctor(&toml, &["--avatar", &avatar, "--json"]).is(exit);
        assert_eq!(ran.with_outcome("failed"), [step], "{code}\n{}", ran.out);
        let steps = ran.steps();
        let failed = steps.iter().find(|step| step["outcome"] == "failed").unwrap();
        assert_eq!(failed["error"]["code"], code, "{failed}");
        for member in ["who", "meaning", "action", "advice", "runbook"] {
            assert!(failed[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {failed}");
        }
        assert!(failed["runbook"].as_str().unwrap().ends_with(code), "{failed}");
        assert_eq!(
            ran.with_outcome("passed").len() + 1 + ran.with_outcome("skipped").len(),
            4,
            "every step has its line\n{}",
            ran.out
        );
    }
    let stats = simulator.stats();
    assert_eq!(stats["connections"]["live"], 0, "{stats}");
}

#[test]
fn without_an_avatar_the_token_is_all_that_is_tried() {
    let simulator = Simulator::start();
    let ran = doctor(&toml_of(&simulator), &["--json"]).is(3);
    assert_eq!(ran.with_outcome("passed"), ["token"]);
    assert_eq!(ran.with_outcome("skipped"), ["upgrade", "handshake", "clip"]);
    assert!(ran.out.contains("--avatar"), "{}", ran.out);
    assert_eq!(endings(&simulator), Vec::<Value>::new());
    // The pool's avatar is one that is there.
    let pooled = format!("{}pool = [{{ avatar_id = \"pooled\", size = 1 }}]\n", toml_of(&simulator));
    let ran = doctor(&pooled, &["--json"]).is(0);
    assert_eq!(ran.with_outcome("passed"), ["token", "upgrade", "handshake", "clip"]);
}

#[test]
fn an_api_key_that_is_refused_is_the_tenants_configuration() {
    let simulator = Simulator::start();
    simulator.fault(&json!({"match": {"api_key": UPSTREAM_KEY}, "at": "token",
                            "do": {"http": {"status": 401, "body": {"message": format!("bad key {UPSTREAM_KEY}")}}}}));
    let two = settings().tenants + &tenant("globex", "key-of-globex", "upstream-key-of-globex");
    let toml =
        Settings { tenants: two, ..settings() }.toml(&simulator.console_url(), &simulator.ingress_url());
    let ran = doctor(&toml, &["--avatar", "avatar"]).is(12);
    assert!(ran.out.contains("upstream_api_key") && !ran.out.contains(UPSTREAM_KEY), "{}", ran.out);
    // The other tenant is tried all the same, and alone where it is asked for.
    assert!(ran.out.contains("25 frames"), "{}", ran.out);
    doctor(&toml, &["--avatar", "avatar", "--tenant", "globex"]).is(0);
    doctor(&toml, &["--tenant", "nobody"]).is(2);
}

#[test]
fn what_is_wrong_with_the_way_is_found_step_by_step() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let simulator = Simulator::start();
    // No resolver takes a label of more than 63 letters, so that nobody else is asked.
    let nameless = format!("http://{}.test", "a".repeat(64));
    for (console, step) in [
        (nameless, "console name"),
        (format!("http://{closed}"), "console tcp"),
        (format!("https://{}", simulator.address), "console tls"),
    ] {
        let ran =
            doctor(&settings().toml(&console, &simulator.ingress_url()), &["--avatar", "a", "--json"]).is(13);
        let steps = ran.steps();
        let failed: Vec<_> = steps.iter().filter(|step| step["outcome"] == "failed").collect();
        assert_eq!(failed.len(), 1, "{}", ran.out);
        assert_eq!(
            (&failed[0]["step"], &failed[0]["error"]["code"]),
            (&json!(step), &json!("connectionFailed"))
        );
        assert_eq!(failed[0]["who"], "network");
        assert_eq!(ran.with_outcome("skipped").len(), 4, "{}", ran.out);
    }
    // With the ingress out of reach the token can still be had.
    let toml = settings().toml(&simulator.console_url(), &format!("ws://{closed}/v2/driveningress"));
    let ran = doctor(&toml, &["--avatar", "a", "--json"]).is(13);
    assert_eq!((ran.with_outcome("passed").len(), ran.with_outcome("skipped").len()), (1, 3), "{}", ran.out);
}

#[test]
fn an_interrupted_doctor_closes_what_it_opened() {
    let simulator = Simulator::start();
    simulator
        .fault(&json!({"match": {"avatar_id": "slow"}, "at": {"after_chunks": 2}, "do": {"trickle": {"bytes_per_s": 10}}}));
    let (_directory, path) = file(&toml_of(&simulator));
    let mut doctor =
        Program::start(greenroom().arg("doctor").arg("--config").arg(path).args(["--avatar", "slow"]));
    doctor.wait_for("the handshake", |program| program.out.text().contains("handshake").then_some(()));
    doctor.signal("INT");
    assert_eq!(doctor.wait().code(), Some(3), "{}", doctor.written());
    assert!(doctor.out.text().contains("interrupted"), "{}", doctor.written());
    simulator.is_left_in_order();
    let endings = endings(&simulator);
    assert_eq!((endings.len(), &endings[0]["code"]), (1, &json!(1000)), "{endings:?}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_apart_from_a_wrong_one() {
    let missing = greenroom().args(["doctor", "--config", "/nonexistent/greenroom.toml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    doctor("[server]\nlisten = 7\n", &[]).is(2);
}
