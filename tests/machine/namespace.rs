//! A test in a network, and with mounts, of its own: nothing that it changes is seen by anybody else.

use std::{env, fs, process::Command};

/// Set inside; the value is of no matter.
const MARK: &str = "GREENROOM_TEST_NAMESPACE";

/// Runs the test `name` again inside namespaces of its own and gives false there is nothing more to do; or gives true,
/// inside.
///
/// Without root a user namespace gives the rights. Where that is forbidden too the test fails and says so: leaving it
/// out would say that it holds.
#[track_caller]
pub(crate) fn enter(name: &str) -> bool {
    if env::var_os(MARK).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    let namespaces: &[&str] =
        if is_root { &["--net", "--mount"] } else { &["--net", "--mount", "--map-root-user"] };
    let status = Command::new("unshare")
        .args(namespaces)
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--include-ignored"])
        .env(MARK, "inside")
        .status()
        .expect("unshare (Debian has it in util-linux)");
    assert!(status.success(), "{name}, inside its namespaces: {status}");
    false
}

/// Runs a command of the system to its end.
#[track_caller]
pub(crate) fn run(command: &str, arguments: &[&str]) {
    let status = Command::new(command).args(arguments).status().expect(command);
    assert!(status.success(), "{command} {arguments:?}: {status}");
}
