//! The subcommands, as they are typed.

use std::process::{Command, Output};

use super::{
    process::{Program, eventually, greenroom},
    world::Simulator,
};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = greenroom().args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn every_subcommand_explains_itself() {
    let (code, overview, err) = run(&["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for command in ["serve", "demo", "simulate", "classify", "check-config", "ctl", "doctor"] {
        assert!(overview.contains(command), "{overview}");
        for help in [&[command, "--help"][..], &["help", command]] {
            let (code, out, err) = run(help);
            assert_eq!((code, err.as_str()), (Some(0), ""), "{command}");
            assert!(out.contains(&format!("Usage: greenroom {command}")), "{out}");
        }
    }
    let version = format!("greenroom {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"]), (Some(0), version, String::new()));
}

#[test]
fn what_is_no_command_exits_with_2_and_names_it() {
    for (arguments, names) in [
        (&["serv"][..], "serv"),
        (&["serve", "--confg", "x"], "--confg"),
        (&["serve"], "--config"),
        (&["simulate", "--listen", "nowhere"], "nowhere"),
        (&["demo", "--sessions", "0"], "--sessions"),
        (&[], "Usage"),
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(names), "{err}");
    }
}

#[test]
fn the_simulator_says_where_it_is_and_ends_when_it_is_told() {
    for signal in ["TERM", "INT"] {
        let mut simulator = Simulator::start();
        let address = simulator.address;
        assert_ne!(address.port(), 0);
        let says = format!(
            "console  http://{address}\ningress  ws://{address}/v2/driveningress\ncontrol  http://{address}/_sim/\n"
        );
        simulator
            .program
            .wait_for("the three addresses", |program| (program.out.text() == says).then_some(()));
        simulator.control.get("/_sim/stats").is(200);
        simulator.program.signal(signal);
        assert_eq!(simulator.program.wait().code(), Some(0), "{}", simulator.program.written());
    }
}

#[test]
fn a_simulator_on_a_used_port_names_the_address() {
    let simulator = Simulator::start();
    let address = simulator.address.to_string();
    let (code, _, err) = run(&["simulate", "--listen", &address]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&address) && err.lines().count() == 1, "{err}");
}

/// Runs a line as somebody pastes it into a shell.
fn pasted(line: &str) -> (Option<i32>, String) {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_demo_keeps_its_promises_and_its_lines_work_as_pasted() {
    let mut demo = Program::start(greenroom().args(["demo", "--seconds", "8", "--sessions", "4"]));
    let lines: Vec<String> = demo.wait_for("the lines to paste", |program| {
        let out = program.out.text();
        let lines: Vec<String> =
            out.lines().map(str::trim).filter(|line| line.starts_with("curl ")).map(str::to_owned).collect();
        (lines.len() == 3 && out.ends_with('\n')).then_some(lines)
    });
    let running = eventually("sessions are listed", || {
        let (code, out) = pasted(&lines[0]);
        assert_eq!(code, Some(0), "{}: {out}", lines[0]);
        let list: serde_json::Value = serde_json::from_str(&out).unwrap();
        list["sessions"].as_array().unwrap().first().cloned()
    });
    assert_eq!((&running["state"], &running["tenant"]), (&"running".into(), &"acme".into()), "{running}");

    let (code, out) = pasted(&lines[1]);
    let restarted: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0), "{out}");
    assert!(restarted["id"].is_string() && restarted["state"] != "stopped", "{restarted}");

    let counted = eventually("an error is counted", || {
        let (code, out) = pasted(&lines[2]);
        (code == Some(0)).then_some(out)
    });
    assert!(counted.starts_with("greenroom_session_errors_total{"), "{counted}");

    let status = demo.wait();
    let out = demo.out.text();
    assert_eq!(status.code(), Some(0), "{}", demo.written());
    assert!(out.contains("verdict   every invariant held") && !out.contains("BREACH"), "{out}");
    assert_eq!(demo.err.text(), "");
}

#[test]
fn the_demo_ends_in_order_at_ctrl_c() {
    let mut demo = Program::start(greenroom().args(["demo", "--sessions", "2"]));
    demo.wait_for("its first line of figures", |program| program.out.text().contains(" s  ").then_some(()));
    demo.signal("INT");
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.written());
}
