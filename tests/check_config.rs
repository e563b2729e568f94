//! `greenroom check-config`, run as an operator runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its subject has failed")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// Runs the command on `file` with nothing in the environment but `variables`.
fn check(file: &Path, variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .arg("check-config")
        .arg(file)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn three_mistakes_are_named_at_once_with_their_lines_and_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken.toml");
    fs::write(
        &file,
        "[server]\nlisten = \"127.0.0.1:80800\"\n\n[upstream.gate]\nper_secnd = 10\n\n[[tenants]]\n\
         id = \"acme\"\napp_id = \"app\"\nupstream_api_key = { env = \"ABSENT\" }\n\
         keys = [\"hunter2-hunter2\"]\n",
    )
    .unwrap();
    let output = check(&file, &[("GREENROOM_ADMIN__KEY", "hunter3-hunter3")]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert_eq!(out, "");
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 3, "{err}");
    let file = file.display();
    assert!(
        lines[0].starts_with(&format!("{file}:2:10: server.listen: \"127.0.0.1:80800\" is not")),
        "{err}"
    );
    assert!(lines[1].starts_with(&format!("{file}:5:1: upstream.gate.per_secnd: unknown key")), "{err}");
    assert!(lines[1].ends_with("\"per_second\""), "{err}");
    assert!(lines[2].starts_with(&format!("{file}:10:20: tenants[0].upstream_api_key:")), "{err}");
    assert!(lines[2].contains("ABSENT is not set"), "{err}");
    assert!(!err.contains("hunter"), "{err}");
}

#[test]
fn a_mistake_in_an_override_names_its_variable() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty.toml");
    fs::write(&file, "").unwrap();
    let output = check(&file, &[("GREENROOM_SERVER__LISTENS", "127.0.0.1:1")]);
    assert_eq!(output.status.code(), Some(2));
    let err = text(&output.stderr);
    assert!(err.contains("GREENROOM_SERVER__LISTENS") && err.contains("GREENROOM_SERVER__LISTEN\n"), "{err}");
}

#[test]
fn the_shipped_file_is_good_once_its_secrets_are_there() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/greenroom.toml");
    let secrets = [
        ("GREENROOM_ADMIN_KEY", "hunter2-admin"),
        ("ACME_UPSTREAM_KEY", "hunter2-upstream"),
        ("ACME_GREENROOM_KEY", "hunter2-acme"),
    ];
    let output = check(&file, &secrets);
    assert_eq!(text(&output.stdout), format!("{}: ok (1 tenant)\n", file.display()));
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));

    let output = check(&file, &[]);
    let err = text(&output.stderr);
    for (variable, _) in secrets {
        assert!(err.contains(&format!("{variable} is not set")), "{err}");
    }
}

#[test]
fn a_file_that_is_not_there_has_an_exit_code_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let output = check(&directory.path().join("absent.toml"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("absent.toml: cannot be read"), "{}", text(&output.stderr));
}

#[test]
fn the_help_tells_the_exit_codes() {
    let output = check(Path::new("--help"), &[]);
    assert!(text(&output.stdout).contains("Exit codes: 0 the file is good; 1 it cannot be read; 2"));
}

#[test]
fn a_source_address_that_is_not_this_machines_is_a_mistake_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sources.toml");
    // 192.0.2.0/24 is the documentation's: no machine has it.
    let list = "[upstream]\nbind_addresses = [\n  \"127.0.0.1\",\n  \"192.0.2.7\",\n  \"127.0.0.1\",\n  \"one\",\n]\n";
    fs::write(&file, list).unwrap();
    let output = check(&file, &[("GREENROOM_ADMIN__KEY", "hunter3-hunter3")]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    let lines: Vec<&str> = err.lines().filter(|line| line.contains("upstream.bind_addresses")).collect();
    let file = file.display();
    for (line, (place, what)) in lines.iter().zip([
        ("4:3: upstream.bind_addresses[1]", "not an address of this machine"),
        ("5:3: upstream.bind_addresses[2]", "twice"),
        ("6:3: upstream.bind_addresses[3]", "no IP address"),
    ]) {
        assert!(line.starts_with(&format!("{file}:{place}")) && line.contains(what), "{err}");
    }
    assert_eq!(lines.len(), 3, "{err}");
}
