//! `greenroom bench`, as a user runs it.
#![allow(clippy::unwrap_used, reason = "a helper of tests")]

use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .arg("bench")
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}\n{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn a_stream_next_to_others_loses_nothing_and_tells_a_ratio() {
    let report = bench(&["stream", "-n", "4", "--seconds", "2", "--against", "bare,least"]);
    // One request of 2 s for each of 4 sessions, 25 frames a second.
    for client in ["greenroom", "bare", "least"] {
        assert_eq!(report["medians"][client]["frames_sent_by_the_simulator"], 200.0, "{report}");
    }
    for run in report["rounds"][0].as_array().unwrap() {
        assert_eq!((run["frames_lost"].as_u64(), &run["trouble"]), (Some(0), &Value::Array(vec![])), "{run}");
        assert_eq!(run["latencies_ms"]["answer_after_last_frame"]["count"], 4, "{run}");
    }
    for client in ["bare", "least"] {
        assert!(report["ratios"][client]["schedule p50 ms"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn clients_of_the_drop_in_ingress_lose_no_frame() {
    let report = bench(&["relay", "-n", "4", "--seconds", "2"]);
    assert_eq!(report["medians"]["greenroom"]["frames_sent_by_the_simulator"], 200.0, "{report}");
    let run = &report["rounds"][0][0];
    assert_eq!((run["frames_lost"].as_u64(), &run["trouble"]), (Some(0), &Value::Array(vec![])), "{run}");
    assert_eq!(run["latencies_ms"]["frame"]["count"], 200, "{run}");
    // The client and what it is relayed by are two processes, and both cost something.
    for process in ["cpu_percent_of_a_core", "client_cpu_percent_of_a_core"] {
        assert!(run["figures"][process].as_f64().unwrap() > 0.0, "{process}: {run}");
    }
}

#[test]
fn everything_that_was_dropped_comes_back_within_the_gates_rate() {
    let report = bench(&["drop", "-n", "20", "--gate", "10"]);
    let figures = &report["rounds"][0][0]["figures"];
    let figure = |name: &str| figures[name].as_f64().unwrap();
    assert_eq!((figure("attempts"), figure("connections_of_a_session_at_most")), (20.0, 1.0), "{figures}");
    // Arrivals are later than the gate's grants by what the token call takes, which may differ by a place or two.
    assert!(figure("attempts_in_the_worst_second") <= 13.0, "{figures}");
    // Twenty turns of a tenth of a second each: sooner would be no gate.
    assert!(figure("last_back_s") > 1.5, "{figures}");
}
