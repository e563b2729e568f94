//! The console page in a real Chromium, before a real Greenroom and the simulator.
//!
//! The steps are written for the browser's driver, in the `.mjs` files beside this one; each is one test here.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot run its subject has failed"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// One Chromium with its thousands of sessions at a time: the figures are of one page, not of a crowd.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// The driver's packages; installed where they are missing.
fn modules() -> String {
    let installed = Command::new(folder().join("modules")).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    String::from_utf8(installed.stdout).unwrap().trim().to_owned()
}

/// Runs one file of steps; what it measured is printed.
#[track_caller]
fn holds(steps: &str) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (tool, package) in [("node", "nodejs"), ("chromium", "chromium")] {
        if let Err(error) = Command::new(tool).arg("--version").output() {
            panic!("{tool} does not start ({error}): install it (Debian: apt-get install {package})");
        }
    }
    let output = Command::new("node")
        .arg(folder().join(steps))
        .env("GREENROOM_BINARY", env!("CARGO_BIN_EXE_greenroom"))
        .env("GREENROOM_NODE_MODULES", modules())
        .env("GREENROOM_SCREENSHOTS", Path::new(env!("CARGO_TARGET_TMPDIR")).join("console"))
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{steps}:\n{said}\n{errors}");
    // Steps that end early must not pass for steps that held.
    assert!(said.trim_end().ends_with("every step held"), "{steps}:\n{said}\n{errors}");
}

#[test]
fn two_thousand_sessions_are_shown_at_once_and_a_parked_one_within_a_second_and_unparked_by_a_click() {
    holds("fleet.mjs");
}

#[test]
fn ten_thousand_sessions_stay_smooth() {
    holds("many.mjs");
}

#[test]
fn the_page_outlives_a_restart_of_the_server_and_says_so_meanwhile() {
    holds("restart.mjs");
}

#[test]
fn sessions_are_acted_on_one_by_one_by_choice_and_by_tenant_with_mouse_and_keyboard_and_never_unasked() {
    holds("actions.mjs");
}

#[test]
fn nothing_of_a_strangers_runs_and_the_key_stays_in_memory() {
    holds("strangers.mjs");
}

#[test]
fn the_stream_of_events_is_read_however_it_is_cut_and_resumed_where_it_broke() {
    holds("stream.mjs");
}

#[test]
fn without_an_admin_key_the_page_says_so_and_hides_nothing() {
    holds("read_only.mjs");
}

#[test]
fn the_page_is_whole_and_accessible_in_both_themes_on_a_desk_and_on_a_phone() {
    holds("looks.mjs");
}

#[test]
fn a_timeline_tells_a_sessions_life_and_goes_on_while_one_looks() {
    holds("timeline.mjs");
}
