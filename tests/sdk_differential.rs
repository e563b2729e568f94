//! The classification table against the classifier of an SDK of the service, over a grid of failures.
//!
//! The two are meant to differ: [`DIVERGENCES`] lists where, how often and why. Anything else is a finding.
//! Needs python3 and, the first time, a package index: `tests/sdk/venv` installs the SDK.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use greenroom::errors::{Egress, ErrorCode, Evidence, Observed, Phase, classify};
use serde::Deserialize;

/// One line of the grid.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    phase: Phase,
    http_status: Option<u16>,
    server_code: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    close_code: Option<u16>,
    close_reason: Option<String>,
    sdk: ErrorCode,
}

impl Input {
    /// The SDK knows no egress, so neither does the evidence.
    fn evidence(&self) -> Evidence {
        Evidence {
            http_status: self.http_status,
            server_code: self.server_code.clone(),
            server_title: self.title.clone(),
            server_detail: self.detail.clone(),
            close_code: self.close_code,
            close_reason: self.close_reason.clone(),
            ..Evidence::new(self.phase, Observed::Answer, Egress::Unknown)
        }
        .presumed()
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        self.server_code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    fn says(&self, needles: &[&str]) -> bool {
        let texts = [&self.server_code, &self.title, &self.detail];
        let text = texts.into_iter().flatten().map(|text| text.to_lowercase()).collect::<String>();
        needles.iter().any(|needle| text.contains(needle))
    }

    fn is_past_upgrade(&self) -> bool {
        !matches!(self.phase, Phase::SessionToken | Phase::WebsocketConnect)
    }
}

/// Something that the SDK does otherwise, and how an input looks to which that applies.
struct Reason {
    why: &'static str,
    applies: fn(&Input) -> bool,
}

const API_KEY: Reason = Reason {
    why: "a token call's 401 means the API key whatever the body says; the SDK reads the body first and calls \
          the rest expired",
    applies: |i| i.phase == Phase::SessionToken && i.http_status == Some(401),
};
const CLOSES: Reason = Reason {
    why: "the SDK makes every close a connectionClosed and reads neither its code nor its reason",
    applies: |i| i.close_code.is_some(),
};
const OWN_NUMBERS: Reason = Reason {
    why: "of the service's own numbers the SDK knows 4001 and 4002 only",
    applies: |i| i.has_code(&["4003", "4010", "4400", "4499", "4503", "4999"]),
};
const GRPC_FIRST: Reason = Reason {
    why: "the SDK looks at gRPC codes before any text or status and in every phase; the service relays texts \
          inside them, and an HTTP answer's status says more",
    applies: |i| i.has_code(&["3", "14", "16", "INVALID_ARGUMENT", "UNAVAILABLE", "UNAUTHENTICATED"]),
};
const NAMES: Reason = Reason {
    why: "the SDK knows names of gRPC codes in capitals only",
    applies: |i| i.has_code(&["invalid_argument"]),
};
const UNAUTHORIZED: Reason = Reason {
    why: "the SDK takes \"unauthorized\" for egress credentials in every answer and before other texts; here only \
          after the upgrade, and after them",
    applies: |i| i.says(&["unauthorized"]),
};
const EGRESS_WORDS: Reason = Reason {
    why: "the SDK does not know that a room or channel can refuse credentials in words of its own",
    applies: |i| i.says(&["livekit", "agora", "egress", "room"]),
};
const IDLE: Reason = Reason {
    why: "the SDK finds idleness in HTTP answers too, where no session was idle",
    applies: |i| {
        i.http_status.is_some() && i.says(&["silence timeout", "no audio input"]) && !i.is_past_upgrade()
    },
};
const CONCURRENCY: Reason =
    Reason { why: "the SDK has no concurrencyLimit", applies: |i| i.says(&["concurren"]) };
const DRIVEN: Reason = Reason {
    why: "UNAVAILABLE is the animation server where the text says so; the SDK always blames the egress",
    applies: |i| i.has_code(&["14", "UNAVAILABLE"]) && i.says(&["inference", "driven", "animate"]),
};
const STATUSES: Reason = Reason {
    why: "the SDK has no rule of its own for 403, 408, 429, 502, 503 and 504, nor for a 400 after the upgrade",
    applies: |i| match i.http_status {
        Some(403 | 408 | 429 | 502..=504) => true,
        Some(400) => i.is_past_upgrade(),
        _ => false,
    },
};
const NOT_ASKED: Reason = Reason {
    why: "the SDK decides on what is no refusal (no status, 2xx, 3xx) before its classifier is asked",
    applies: |i| matches!(i.http_status, None | Some(200..=399)),
};
const SEND: Reason = Reason {
    why: "sending happens on a running session: what the service says then counts as in websocket_runtime",
    applies: |i| i.phase == Phase::WebsocketSend,
};

/// Where this project's table and the SDK differ.
struct Divergence {
    /// Our row.
    row: u8,
    /// How many inputs of the grid differ in this row.
    count: usize,
    /// Why: one of these applies to each of the inputs, and each applies to some.
    reasons: &'static [Reason],
}

const fn differs(row: u8, count: usize, reasons: &'static [Reason]) -> Divergence {
    Divergence { row, count, reasons }
}

const DIVERGENCES: &[Divergence] = &[
    differs(1, 816, &[API_KEY]),
    differs(2, 15, &[CLOSES]),
    differs(3, 15, &[CLOSES]),
    differs(4, 3123, &[CLOSES, OWN_NUMBERS]),
    differs(5, 2698, &[CLOSES, OWN_NUMBERS]),
    differs(6, 2985, &[CLOSES, OWN_NUMBERS]),
    differs(7, 918, &[CLOSES, GRPC_FIRST]),
    differs(8, 888, &[GRPC_FIRST]),
    differs(9, 2220, &[CONCURRENCY]),
    differs(10, 1494, &[GRPC_FIRST]),
    differs(11, 786, &[CLOSES, GRPC_FIRST]),
    differs(12, 1974, &[GRPC_FIRST, EGRESS_WORDS]),
    differs(13, 828, &[GRPC_FIRST]),
    differs(14, 1020, &[CLOSES, GRPC_FIRST]),
    differs(15, 414, &[GRPC_FIRST]),
    differs(16, 828, &[GRPC_FIRST]),
    differs(17, 414, &[GRPC_FIRST]),
    differs(18, 414, &[GRPC_FIRST]),
    differs(19, 957, &[GRPC_FIRST, UNAUTHORIZED]),
    differs(20, 690, &[GRPC_FIRST]),
    differs(21, 966, &[GRPC_FIRST, UNAUTHORIZED]),
    differs(22, 1932, &[GRPC_FIRST, UNAUTHORIZED]),
    differs(23, 426, &[NAMES]),
    differs(24, 168, &[GRPC_FIRST]),
    differs(25, 84, &[DRIVEN]),
    differs(26, 1176, &[CLOSES, OWN_NUMBERS]),
    differs(27, 1, &[NOT_ASKED]),
    differs(28, 84, &[GRPC_FIRST, UNAUTHORIZED, IDLE]),
    differs(29, 252, &[STATUSES]),
    differs(30, 168, &[GRPC_FIRST, UNAUTHORIZED, IDLE]),
    differs(31, 120, &[GRPC_FIRST, UNAUTHORIZED, IDLE, STATUSES]),
    differs(32, 504, &[STATUSES]),
    differs(33, 252, &[GRPC_FIRST, UNAUTHORIZED, IDLE]),
    differs(34, 756, &[STATUSES]),
    differs(35, 168, &[GRPC_FIRST, UNAUTHORIZED, IDLE]),
    differs(36, 218, &[NOT_ASKED]),
    differs(37, 3, &[NOT_ASKED]),
    differs(38, 33, &[SEND]),
    differs(39, 340, &[NOT_ASKED]),
];

/// Runs a program to its end and gives what it printed.
fn printed(command: &mut Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed; it needs python3 and a package index: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn grid() -> Vec<Input> {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let python = printed(Command::new(sdk.join("venv")).args(["avatarkit", "0.1.7"]));
    let lines = printed(Command::new(python.trim()).arg(sdk.join("avatarkit_grid.py")));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_table_differs_from_the_sdk_only_where_it_is_meant_to() {
    let grid = grid();
    let mut found = BTreeMap::<u8, Vec<&Input>>::new();
    for input in &grid {
        let ours = classify(&input.evidence());
        if ours.code != input.sdk {
            found.entry(ours.rule).or_default().push(input);
        }
    }
    println!("{} inputs, {} divergences", grid.len(), found.values().map(Vec::len).sum::<usize>());
    let counted: Vec<_> = found.iter().map(|(row, inputs)| (*row, inputs.len())).collect();
    let listed: Vec<_> = DIVERGENCES.iter().map(|divergence| (divergence.row, divergence.count)).collect();
    assert_eq!(counted, listed, "found (row, count) is not what is listed");
    let mut problems = Vec::new();
    for Divergence { row, count, reasons } in DIVERGENCES {
        println!("row {row}: {count}");
        for reason in *reasons {
            let explains = found[row].iter().filter(|input| (reason.applies)(input)).count();
            println!("    {explains}: {}", reason.why);
            if explains == 0 {
                problems.push(format!("row {row}: nothing differs because {}", reason.why));
            }
        }
        let unexplained =
            found[row].iter().find(|input| !reasons.iter().any(|reason| (reason.applies)(input)));
        problems.extend(unexplained.map(|input| format!("row {row}: no reason listed for {input:?}")));
    }
    assert!(problems.is_empty(), "{problems:#?}");
}
