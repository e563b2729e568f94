//! The processes that are measured: starting, talking to, and reading what they use.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child as Process, ChildStdin, Command, Stdio},
    time::Duration,
};

use tokio::sync::mpsc;

/// Lines that a child may be ahead of their reader.
const LINES: usize = 64;
/// Bytes of a child's log that are shown when it fails.
const LOG_TAIL: usize = 2000;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU time, of all threads, in user and kernel mode.
    pub(super) cpu: Duration,
    /// Resident memory, in KiB.
    pub(super) rss_kib: u64,
}

impl Usage {
    /// Reads what the process with this id has used; `self` is this one.
    pub(super) fn of(pid: &str) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let bad = || io::Error::other(format!("/proc/{pid} is not as expected"));
        // The name in the second field may hold anything; the third begins behind the last parenthesis.
        let (_, fields) = stat.rsplit_once(") ").ok_or_else(bad)?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).ok_or_else(bad);
        // utime and stime are fields 14 and 15 of proc_pid_stat(5), and `fields` begins with field 3.
        let ticks = ticks(11)? + ticks(12)?;
        let rss_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
            .ok_or_else(bad)?;
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Self { cpu: Duration::from_secs_f64(ticks as f64 / per_second as f64), rss_kib })
    }

    /// What this process, the driver, has used.
    pub(super) fn own() -> io::Result<Self> {
        Self::of("self")
    }

    /// CPU seconds since `before`.
    pub(super) fn cpu_since(&self, before: &Self) -> f64 {
        self.cpu.saturating_sub(before.cpu).as_secs_f64()
    }
}

/// A process of ours. It ends with its owner.
pub(super) struct Child {
    name: &'static str,
    process: Process,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
    _place: tempfile::TempDir,
}

impl Child {
    /// Starts `command` with its messages in a file of its own. Settings of this process that would reach
    /// Greenroom's configuration are left out.
    pub(super) fn spawn(
        name: &'static str,
        mut command: Command,
        place: tempfile::TempDir,
    ) -> io::Result<Self> {
        let log = place.path().join("stderr");
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("GREENROOM_") {
                command.env_remove(key);
            }
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .map_err(|error| io::Error::other(format!("{name} could not be started: {error}")))?;
        let (tell, lines) = mpsc::channel(LINES);
        if let Some(stdout) = process.stdout.take() {
            // A thread, since a pipe cannot be awaited without more; it ends with the child.
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if tell.blocking_send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let stdin = process.stdin.take();
        Ok(Self { name, process, stdin, lines, log, _place: place })
    }

    /// The next line that it says.
    pub(super) async fn line(&mut self, deadline: Duration) -> io::Result<String> {
        match tokio::time::timeout(deadline, self.lines.recv()).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(self.failure("ended early")),
            Err(_) => Err(self.failure(&format!("said nothing within {} s", deadline.as_secs()))),
        }
    }

    /// Says a line to it.
    pub(super) fn tell(&mut self, line: &str) -> io::Result<()> {
        let told = self.stdin.as_mut().map_or(Ok(()), |stdin| writeln!(stdin, "{line}"));
        told.map_err(|_| self.failure("takes no commands"))
    }

    /// What it has written to its log.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// An error that says what the child did and the end of its log.
    pub(super) fn failure(&self, what: &str) -> io::Error {
        let log = self.log();
        let tail = log.char_indices().rev().nth(LOG_TAIL).map_or(0, |(at, _)| at);
        io::Error::other(format!("{} {what}\n{}", self.name, log[tail..].trim()))
    }

    pub(super) fn usage(&self) -> io::Result<Usage> {
        Usage::of(&self.process.id().to_string()).map_err(|_| self.failure("is gone"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// This program.
pub(super) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// A place for a child's files, which goes with it.
pub(super) fn place() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("greenroom-bench-").tempdir()
}

/// Writes `text` to a file in `place`.
pub(super) fn write(place: &tempfile::TempDir, name: &str, text: &str) -> io::Result<PathBuf> {
    let path: PathBuf = Path::new(place.path()).join(name);
    fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_uses_is_read() {
        let before = Usage::own().unwrap();
        let began = std::time::Instant::now();
        // Other processes may have the cores for most of the time.
        let after = loop {
            let now = Usage::own().unwrap();
            if now.cpu_since(&before) >= 0.05 {
                break now;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "no work is seen: {now:?} {before:?}");
        };
        assert!(after.rss_kib > 500, "{after:?}");
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        // The system counts in ticks of a hundredth.
        let most = began.elapsed().as_secs_f64() * cores + 0.02;
        assert!(after.cpu_since(&before) <= most, "{after:?} {before:?} {most}");
    }
}
