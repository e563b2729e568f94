//! Rotel, a collector of OpenTelemetry's from PyPI, which writes down what it receives; and what it wrote, read.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use super::process::{Program, eventually};

const ROTEL: [&str; 2] = ["rotel", "0.0.1a15"];

/// A Python that has this package.
pub(crate) fn python_with(package: [&str; 2]) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/venv");
    let venv = Command::new("bash").arg(script).args(package).output().unwrap();
    assert!(venv.status.success(), "{}", String::from_utf8_lossy(&venv.stderr));
    String::from_utf8(venv.stdout).unwrap().trim().into()
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A span as the collector wrote it down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    pub(crate) trace: String,
    /// Empty in a root.
    pub(crate) parent: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) status: String,
    pub(crate) message: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Names and times of its events.
    pub(crate) events: Vec<(String, u64)>,
    /// Traces and spans that it links to.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) scope: String,
}

impl Span {
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    pub(crate) fn is_error(&self) -> bool {
        self.status == "STATUS_CODE_ERROR"
    }

    pub(crate) fn millis(&self) -> u64 {
        (self.end - self.start) / 1_000_000
    }
}

/// The collector, at a port that stays its own while it is away.
pub(crate) struct Collector {
    program: Option<Program>,
    executable: PathBuf,
    ports: [u16; 2],
    /// What it received before it was last stopped.
    received: Vec<Span>,
}

impl Collector {
    /// It is away at first.
    pub(crate) fn away() -> Self {
        let python = python_with(ROTEL);
        let place = "import pathlib, rotel; print(pathlib.Path(rotel.__file__).with_name('rotel-agent'))";
        let printed = Command::new(python).args(["-c", place]).output().unwrap();
        let executable = String::from_utf8(printed.stdout).unwrap().trim().into();
        Self { program: None, executable, ports: free_ports(), received: Vec::new() }
    }

    pub(crate) fn there() -> Self {
        let mut collector = Self::away();
        collector.come();
        collector
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    pub(crate) fn come(&mut self) {
        let [grpc, http] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(&self.executable);
        command.env_clear().args(["start", "--exporter", "blackhole"]);
        command.args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"]);
        command.args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http]);
        let program = self.program.insert(Program::start(&mut command));
        let port = self.ports[0];
        eventually("the collector listens", || {
            assert!(program.is_alive(), "{}", program.written());
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
    }

    /// Ends it in order, so that it writes down all that it took.
    pub(crate) fn leave(&mut self) {
        let mut program = self.program.take().expect("a collector that is there");
        program.signal("TERM");
        let status = program.wait();
        assert!(status.success(), "{status}: {}", program.written());
        self.received.extend(read(&program.out.text()));
    }

    /// All that it ever received, after it was ended.
    pub(crate) fn received(mut self) -> Vec<Span> {
        if self.program.is_some() {
            self.leave();
        }
        std::mem::take(&mut self.received)
    }
}

/// The spans in the collector's output, which has each field on a line and what belongs to it below.
fn read(text: &str) -> Vec<Span> {
    #[derive(Clone, Copy)]
    enum In {
        Resource,
        Span,
        Events,
        Links,
    }
    let mut spans: Vec<Span> = Vec::new();
    let (mut resource, mut scope) = (BTreeMap::new(), String::new());
    let mut place = In::Resource;
    for line in text.lines() {
        let line = line.trim();
        match line {
            "Resource attributes:" => (resource, place) = (BTreeMap::new(), In::Resource),
            "Attributes:" => place = In::Span,
            "Events:" => place = In::Events,
            "Links:" => place = In::Links,
            _ => {}
        }
        if line.starts_with("Span #") {
            spans.push(Span { resource: resource.clone(), scope: scope.clone(), ..Span::default() });
        }
        if let Some(name) = line.strip_prefix("InstrumentationScope ") {
            name.clone_into(&mut scope);
        }
        let Some((key, value)) = line.split_once(':') else { continue };
        let (key, value) = (key.trim(), value.trim().to_owned());
        if let (Some(key), In::Resource) = (key.strip_prefix("-> "), place) {
            resource.insert(key.to_owned(), plain(&value));
            continue;
        }
        let Some(span) = spans.last_mut() else { continue };
        match (key, place) {
            ("-> Name", In::Events) => span.events.push((value, 0)),
            ("-> Timestamp", In::Events) => span.events.last_mut().unwrap().1 = value.parse().unwrap(),
            ("-> Trace ID", In::Links) => span.links.push((value, String::new())),
            ("-> ID", In::Links) => span.links.last_mut().unwrap().1 = value,
            ("Trace ID", _) => span.trace = value,
            ("Parent ID", _) => span.parent = value,
            ("ID", _) => span.id = value,
            ("Name", _) => span.name = value,
            ("Kind", _) => span.kind = value,
            ("Start time", _) => span.start = value.parse().unwrap(),
            ("End time", _) => span.end = value.parse().unwrap(),
            ("Status code", _) => span.status = value,
            ("Status message", _) => span.message = value,
            (key, In::Span) => {
                if let Some(key) = key.strip_prefix("-> ") {
                    span.attributes.insert(key.to_owned(), plain(&value));
                }
            }
            (_, In::Resource | In::Events | In::Links) => {}
        }
    }
    spans
}

/// `Str(a)` and `Int(1)` without their types.
fn plain(value: &str) -> String {
    let inside = value.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(value).to_owned()
}
