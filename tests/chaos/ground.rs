//! What stands under Greenroom and can be taken away: its process, its network, its disk, its clock.

use std::{
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    http::Client,
    namespace::run,
    process::{Program, eventually, greenroom},
    schedule::Scope,
};

pub(crate) const ADMIN_KEY: &str = "key-of-the-operators";
/// Those of the API, then the one of the drop-in clients.
pub(crate) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
pub(crate) const DATA: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:8081";
const SERVICE: &str = "127.0.0.1:9000";
/// Where Greenroom's connections leave from; the first is the one that a hole swallows.
const SOURCES: [&str; 2] = ["127.0.0.3", "127.0.0.4"];
/// Room for the store of a thousand sessions with the histories and outcomes of an hour, some 200 KB each, twice over.
const DISK_MIB: usize = 512;
/// How long after a slow time what was lost in it is sent again at the latest: with seconds of queue, retransmission
/// timers are as long, and double.
const RETRANSMITTED: Duration = Duration::from_secs(8);
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

pub(crate) fn tenant_key(tenant: &str) -> String {
    format!("key-of-{tenant}-backends")
}

pub(crate) fn upstream_key(tenant: &str) -> String {
    format!("upstream-key-of-{tenant}")
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The ground, in a network and with mounts of its own.
pub(crate) struct Ground {
    _simulator: Program,
    pub(crate) service: Client,
    pub(crate) admin: Client,
    greenroom: Option<Program>,
    /// What processes of before have written.
    pub(crate) past_logs: String,
    /// Starts that did not come to serve.
    pub(crate) failed_starts: usize,
    directory: TempDir,
    faults: Vec<(usize, Value)>,
    scope: Scope,
    slow: Vec<Slow>,
}

/// A time in which the link was slow.
struct Slow {
    from: Instant,
    to: Option<Instant>,
}

impl Ground {
    pub(crate) fn new(slots: usize, scope: Scope) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        fs::create_dir(&disk).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "none", disk.to_str().unwrap()]);
        // A rule before the one for local addresses is where a hole can be.
        run("ip", &["rule", "add", "pref", "100", "lookup", "local"]);
        run("ip", &["rule", "del", "pref", "0"]);
        fs::write(directory.path().join("greenroom.toml"), toml(&disk, slots)).unwrap();
        fs::write(directory.path().join("clock"), "+0").unwrap();
        let arguments = ["simulate", "--listen", SERVICE, "--frame-bytes", "256"];
        let mut simulator = Program::start(greenroom().args(arguments));
        simulator.wait_for("the simulator", |program| {
            program.out.text().contains("console  http://").then_some(())
        });
        let mut ground = Self {
            _simulator: simulator,
            service: Client::new(address(SERVICE)).forgetful(),
            admin: Client::new(address(ADMIN)).forgetful().with_key(ADMIN_KEY),
            greenroom: None,
            past_logs: String::new(),
            failed_starts: 0,
            directory,
            faults: Vec::new(),
            scope,
            slow: Vec::new(),
        };
        ground.start();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts Greenroom, again and again until it serves, as whatever supervises it in production does.
    pub(crate) fn start(&mut self) {
        if self.greenroom.is_some() {
            return;
        }
        let probe = Client::new(address(ADMIN));
        let program = eventually("greenroom serves", || {
            let mut command = greenroom();
            command.arg("serve").arg("--config").arg(self.path("greenroom.toml"));
            if self.scope == Scope::All {
                assert!(Path::new(FAKETIME).exists(), "{FAKETIME} is missing; Debian has it in libfaketime");
                command
                    .env("LD_PRELOAD", FAKETIME)
                    .env("FAKETIME_TIMESTAMP_FILE", self.path("clock"))
                    .env("FAKETIME_CACHE_DURATION", "1")
                    .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            }
            let mut program = Program::start(&mut command);
            // With a full disk it serves and is not ready, or ends; then somebody makes room.
            let serves = eventually("it serves, or ends", || {
                let serves = probe.try_call("GET", "/healthz", None).is_ok_and(|answer| answer.status == 200);
                (serves || !program.is_alive()).then_some(serves)
            });
            if !serves {
                self.failed_starts += 1;
                self.past_logs.push_str(&program.written());
                self.fill_disk(false);
            }
            serves.then_some(program)
        });
        self.greenroom = Some(program);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(program) = self.greenroom.take() {
            self.past_logs.push_str(&program.written());
        }
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        if let Some(program) = &self.greenroom {
            program.signal(if frozen { "STOP" } else { "CONT" });
        }
    }

    /// Whether the process is stopped by a signal.
    pub(crate) fn is_frozen(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    pub(crate) fn id(&self) -> u32 {
        self.greenroom.as_ref().map(Program::id).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.past_logs.clone() + &self.greenroom.as_ref().map(Program::written).unwrap_or_default()
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// A line of the process's status, such as `VmRSS` (KiB) or `Threads`.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// With `few`, no further file can be opened.
    pub(crate) fn limit_descriptors(&self, few: bool) {
        if self.greenroom.is_none() {
            return;
        }
        let limit = if few { self.descriptors() } else { 16_384 };
        run("prlimit", &["--pid", &self.id().to_string(), &format!("--nofile={limit}:")]);
    }

    pub(crate) fn fill_disk(&self, full: bool) {
        let path = self.path("disk/filler");
        if !full {
            // It may not be there, where two steps overlapped.
            let _ = fs::remove_file(path);
            return;
        }
        let mut filler = File::create(path).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    pub(crate) fn set_clock(&self, seconds: i64) {
        fs::write(self.path("clock"), format!("{seconds:+}")).unwrap();
    }

    /// Lets the link carry a few megabits a second. Made quick again it loses nothing of what waits: a queue that is
    /// taken away would lose some megabytes of every connection at once.
    pub(crate) fn slow_link(&mut self, slow: bool) {
        let was_slow = self.slow.last().is_some_and(|span| span.to.is_none());
        if slow == was_slow {
            return;
        }
        let rate: &[&str] = if slow { &["8mbit", "latency", "3s"] } else { &["10gbit", "limit", "16mb"] };
        run(
            "tc",
            &[&["qdisc", "replace", "dev", "lo", "root", "tbf", "burst", "256kb", "rate"][..], rate].concat(),
        );
        match self.slow.last_mut() {
            Some(span) if was_slow => span.to = Some(Instant::now()),
            Some(_) | None => self.slow.push(Slow { from: Instant::now(), to: None }),
        }
    }

    /// When packets may have been lost, and the last of their retransmissions may not have come yet; in milliseconds
    /// since `zero`.
    pub(crate) fn lossy(&self, zero: Instant) -> Vec<RangeInclusive<u64>> {
        let millis = |at: Instant| at.duration_since(zero).as_millis() as u64;
        let spans = self.slow.iter();
        spans
            .map(|span| millis(span.from)..=span.to.map_or(u64::MAX, |to| millis(to + RETRANSMITTED)))
            .collect()
    }

    /// Loses all that goes between the first source and the service, and ends the service's side of it: what is left is
    /// a connection that only Greenroom believes in.
    pub(crate) fn hole(&self, there: bool) {
        let (source, service) = (SOURCES[0], "127.0.0.1");
        for (pref, from, to) in [("1", source, service), ("2", service, source)] {
            let _ = Command::new("ip").args(["rule", "del", "pref", pref]).output().unwrap();
            if there {
                run("ip", &["rule", "add", "pref", pref, "from", from, "to", to, "blackhole"]);
            }
        }
        if there {
            let killed =
                Command::new("ss").args(["-K", "dst", source, "sport", "=", "9000"]).output().unwrap();
            assert!(killed.status.success(), "{}", String::from_utf8_lossy(&killed.stderr));
        }
    }

    /// Adds faults to the service's plan until [`Ground::forget`] with the same number.
    pub(crate) fn plan(&mut self, number: usize, faults: Value) {
        self.service.post("/_sim/faults", &faults).is(201);
        self.faults.push((number, faults));
    }

    pub(crate) fn forget(&mut self, number: usize) {
        self.faults.retain(|(of, _)| *of != number);
        self.service.call("DELETE", "/_sim/faults", None).is(204);
        for (_, faults) in &self.faults {
            self.service.post("/_sim/faults", faults).is(201);
        }
    }

    pub(crate) fn strike(&self, who: &Value, share: f64, effect: &Value) {
        self.service.post("/_sim/strike", &json!({"match": who, "share": share, "do": effect})).is(200);
    }

    pub(crate) fn stats(&self) -> Value {
        self.service.get("/_sim/stats").is(200).json()
    }

    /// Everything back as it was.
    pub(crate) fn calm(&mut self) {
        self.hole(false);
        self.slow_link(false);
        self.fill_disk(false);
        self.set_clock(0);
        self.faults.clear();
        self.service.call("DELETE", "/_sim/faults", None).is(204);
        self.service.post("/_sim/down", &json!({"down": false})).is(200);
        self.freeze(false);
        self.start();
        self.limit_descriptors(false);
        // Those that are silent, stalled or slow.
        self.service.post("/_sim/drop", &json!({})).is(200);
        eventually("greenroom is ready", || {
            let answer = self.admin.try_call("GET", "/readyz", None).ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// The sum of a metric's samples whose line has all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.admin.without_key().get("/metrics").is(200).body, name, labels)
    }
}

/// As [`Ground::metric`], in a text.
pub(crate) fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// How long each wait inside Greenroom is, so that a run of two minutes sees many of them end.
fn toml(disk: &Path, slots: usize) -> String {
    let tenants = TENANTS.map(|tenant| {
        format!(
            "[[tenants]]\nid = \"{tenant}\"\napp_id = \"app-of-{tenant}\"\nkeys = [\"{}\"]\n\
             upstream_api_key = \"{}\"\nmax_sessions = {}\n",
            tenant_key(tenant),
            upstream_key(tenant),
            slots * 4 + 100,
        )
    });
    format!(
        "[server]\nlisten = \"{DATA}\"\n[admin]\nlisten = \"{ADMIN}\"\nkey = \"{ADMIN_KEY}\"\n\
         [upstream]\nconsole_url = \"http://{SERVICE}\"\ningress_url = \"ws://{SERVICE}/v2/driveningress\"\n\
         bind_addresses = {SOURCES:?}\nping_s = 1\nhalf_open_s = 4\n\
         deadlines = {{ token_ms = 3000, connect_ms = 3000, handshake_ms = 3000 }}\n\
         breaker = {{ window_s = 5, min_attempts = 20, open_s = 1, open_max_s = 4 }}\n\
         [store]\nurl = \"redb:{}\"\n[recovery]\nbackoff = {{ initial_ms = 50, max_ms = 2000 }}\n\
         budget = {{ restarts = 10000, window_s = 60, stable_after_s = 2 }}\npark_probe_s = 5\n\
         [sessions]\nretention_s = 20\n[outbox]\nmax_age_s = 10\n{}",
        disk.join("greenroom.redb").display(),
        tenants.concat()
    )
}
