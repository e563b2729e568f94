//! The OpenAPI documents and the reference page, and the listeners held to what they say.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use super::{
    http::Client,
    world::{ACME_KEY, ADMIN_KEY, Settings, WEBHOOK, WEBHOOK_ID, World, create_avatar},
};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The Python of an environment that has `package`; made at the first use.
fn python(package: &str, version: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/venv");
    let output = Command::new("bash").arg(script).args([package, version]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn document(client: &Client) -> Value {
    client.without_key().get("/openapi.json").is(200).json()
}

#[test]
fn the_documents_are_valid_and_so_is_every_example_in_them() {
    let world = World::usual();
    let python = python("openapi-spec-validator", "0.9.0");
    for client in [&world.greenroom.acme, &world.greenroom.admin] {
        let document = document(client);
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
        let mut check = Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/check.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        check.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
        let Output { status, stdout, stderr } = check.wait_with_output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let examples: usize = String::from_utf8(stdout).unwrap().trim().parse().unwrap();
        assert!(examples > 30, "{examples}");
    }
}

#[test]
fn a_documented_path_answers_its_methods_and_refuses_all_others() {
    let world = World::usual();
    for client in [&world.greenroom.acme, &world.greenroom.admin] {
        let document = document(client);
        for (path, operations) in document["paths"].as_object().unwrap() {
            let path = path.replace(['{', '}'], "");
            let mut documented: BTreeSet<String> =
                operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
            if documented.contains("GET") {
                documented.insert("HEAD".to_owned());
            }
            for method in METHODS.iter().filter(|method| !documented.contains(**method)) {
                let answer = client.without_key().call(
                    method,
                    &path,
                    Some(b"{}").filter(|_| *method != "GET" && *method != "DELETE").map(|body| &body[..]),
                );
                answer.is_problem(405, "methodNotAllowed");
                let allowed: BTreeSet<String> =
                    answer.header("allow").unwrap().split(", ").map(str::to_owned).collect();
                assert_eq!(allowed, documented, "{method} {path}");
            }
        }
    }
}

#[test]
fn the_reference_page_has_every_operation_and_loads_nothing_from_elsewhere() {
    let world = World::usual();
    for client in [&world.greenroom.acme, &world.greenroom.admin] {
        let nobody = client.without_key();
        let page = nobody.get("/docs").is(200);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
        for (path, operations) in document(client)["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let heading =
                    format!("<b class=\"{method}\">{}</b> <code>{path}</code>", method.to_uppercase());
                assert!(page.body.contains(&heading), "{heading}");
            }
        }
        for absent in ["<script", "http://", "https://", " style=", " on"] {
            let found = page.body.lines().find(|line| {
                line.split('<')
                    .skip(1)
                    .any(|tag| format!("<{}", tag.split('>').next().unwrap()).contains(absent))
            });
            assert_eq!(found, None, "{absent}");
        }
        // Every link inside the page has its target.
        for target in page.body.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(page.body.contains(&format!("id=\"{target}\"")), "{target}");
        }
        let style = nobody.get("/docs.css").is(200);
        assert!(style.header("content-type").unwrap().starts_with("text/css"), "{style:?}");
        assert!(!style.body.contains("url(") && !style.body.contains("@import"), "{style:?}");
    }
}

/// Test cases for each operation, beside those that the schemas' bounds give.
const CASES: &str = "15";

#[test]
fn schemathesis_finds_nothing_that_is_not_explained() {
    let python = python("schemathesis", "4.32.5");
    let settings = Settings {
        // Many sessions come of it, and audio that waits for one of them is given up soon.
        tables: format!("[sessions]\nmax = 100000\n[outbox]\nmax_age_s = 1\n{WEBHOOK}"),
        tenants: Settings::default().tenants.replacen(
            "[[tenants]]\n",
            "[[tenants]]\nmax_sessions = 100000\n",
            1,
        ),
        ..Settings::default()
    };
    let world = World::start(&settings);
    let acme = &world.greenroom.acme;
    let ids: Vec<String> = (0..4).map(|number| create_avatar(acme, &format!("a{number}"))).collect();
    world.greenroom.until_state(&ids[0], "running");
    let sent = acme.send(&format!("/v1/sessions/{}/requests?wait=true", ids[0]), b"pcm!").is(200).json();
    let known =
        json!({"sessions": ids, "requests": [sent["req_id"]], "tenants": ["acme"], "webhooks": [WEBHOOK_ID]});
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let program = Path::new(&python).with_file_name("schemathesis");
    let at = |client: &Client, key: &str| {
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new(&program)
            .arg("run")
            .arg(format!("http://{}/openapi.json", client.address()))
            .args(["--header", &format!("Authorization: Bearer {key}")])
            .args(["--seed", "1", "--max-examples", CASES, "--max-failures", "20", "--no-color"])
            .args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "40"])
            // In its place runs explained_positive_data_acceptance of the hooks.
            .args(["--exclude-checks", "positive_data_acceptance"])
            // It would end the process.
            .args(["--exclude-path", "/v1/drain"])
            // A stream without end, which it would wait for.
            .args(["--exclude-path", "/v1/events"])
            // A WebSocket, which it does not speak; the tests of the ingress do.
            .args(["--exclude-path-regex", "driveningress"])
            .args(["--header", &format!("X-Api-Key: {key}")])
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .env("PYTHONPATH", &hooks)
            .env("GREENROOM_KNOWN", known.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        (directory, child)
    };
    for (_directory, child) in [at(acme, ACME_KEY), at(&world.greenroom.admin, ADMIN_KEY)] {
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{said}");
        let generated =
            said.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse::<u64>().ok());
        assert!(generated.is_some_and(|count| count > 200), "{said}");
    }
    let breaches: f64 = world.greenroom.metric("greenroom_invariant_breaches_total", &[]);
    assert_eq!(breaches, 0.0);
    world.greenroom.admin.without_key().get("/readyz").is(200);
}

#[test]
fn a_whole_number_may_be_written_as_a_float() {
    let world = World::usual();
    let acme = &world.greenroom.acme;
    let made = acme.send("/v1/sessions", b"{\"avatar_id\": \"a\", \"sample_rate\": 16000.0}").is(201).json();
    assert_eq!(made["sample_rate"], 16_000);
    for refused in ["16000.5", "1e300", "-1.0"] {
        let body = format!("{{\"avatar_id\": \"a\", \"sample_rate\": {refused}}}");
        acme.send("/v1/sessions", body.as_bytes()).is_problem(422, "invalidBody");
    }
}
