//! TLS on the listeners.

use std::{
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use greenroom::wire::{self, Data, proto};
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tempfile::TempDir;

use super::{
    certificates::{Authority, Files, Pair, TlsClient, request},
    http::{Answer, Client},
    process::{DEADLINE, Program, eventually, greenroom},
    world::{ACME_KEY, ADMIN_KEY, Greenroom, Settings, Simulator, create_avatar, file, serve},
};

/// Nothing listens there, and nothing of these tests asks.
const NO_UPSTREAM: (&str, &str) = ("http://127.0.0.1:9", "ws://127.0.0.1:9");

fn toml(settings: &Settings) -> String {
    settings.toml(NO_UPSTREAM.0, NO_UPSTREAM.1)
}

/// A process with TLS on both listeners.
struct Served {
    program: Program,
    data: SocketAddr,
    admin: SocketAddr,
    authority: Authority,
    files: Files,
    directory: TempDir,
}

/// The settings with the lines of `[server.tls]` and of `[admin.tls]`.
fn settings(server: &str, admin: &str) -> Settings {
    let mut settings = Settings::default();
    let section = |name: &str, lines: &str| {
        if lines.is_empty() { String::new() } else { format!("[{name}.tls]\n{lines}") }
    };
    settings.server.push_str(&section("server", server));
    settings.admin.push_str(&section("admin", admin));
    settings
}

impl Served {
    /// With TLS on the data plane; the admin plane is plain.
    fn start() -> Self {
        Self::start_with(NO_UPSTREAM.0, NO_UPSTREAM.1)
    }

    /// The same, with a service.
    fn start_with(console_url: &str, ingress_url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("the right one");
        let files = Files::write(directory.path(), "server", &authority.server());
        let path = directory.path().join("greenroom.toml");
        std::fs::write(&path, settings(&files.toml(), "").toml(console_url, ingress_url)).unwrap();
        let (program, data, admin) = serve(&path);
        Self { program, data, admin, authority, files, directory }
    }

    fn client(&self) -> TlsClient {
        TlsClient::new(self.data, &self.authority, None)
    }

    fn metric(&self, line: &str) -> Option<f64> {
        let page = Client::new(self.admin).get("/metrics").is(200).body;
        page.lines().find_map(|have| have.strip_prefix(line)?.trim().parse().ok())
    }

    fn reloads(&self, result: &str) -> f64 {
        let line = format!("greenroom_tls_reloads_total{{listener=\"server\",result=\"{result}\"}}");
        self.metric(&line).unwrap()
    }

    #[track_caller]
    fn until_shown(&self, pair: &Pair) {
        eventually("the new certificate is shown", || {
            (self.client().shown().unwrap() == pair.der()).then_some(())
        });
    }
}

#[test]
fn a_client_that_trusts_the_authority_is_served_and_another_is_not() {
    let served = Served::start();
    let client = served.client();
    assert_eq!(client.get("/v1/sessions", Some(ACME_KEY)).unwrap().status, 200);
    client.get("/v1/sessions", None).unwrap().is_problem(401, "unauthorized");
    for version in [&TLS12, &TLS13] {
        let client = TlsClient::with(served.data, &served.authority, None, &[version], &["h2", "http/1.1"]);
        let stream = client.connect().unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(client.get("/v1/sessions", Some(ACME_KEY)).unwrap().status, 200);
    }
    let wrong = TlsClient::new(served.data, &Authority::new("another"), None).connect().unwrap_err();
    assert!(wrong.to_string().contains("UnknownIssuer"), "{wrong}");
    // Without HTTP/1.1 there is nothing to speak, and without TLS nothing to say.
    let h2 = TlsClient::with(served.data, &served.authority, None, rustls::ALL_VERSIONS, &["h2"]);
    assert!(h2.connect().is_err());
    let plain = Client::new(served.data).try_call("GET", "/v1/sessions", None);
    assert!(plain.is_err(), "{plain:?}");
    let ends = served.metric("greenroom_tls_certificate_expiry_seconds{listener=\"server\"}").unwrap();
    assert!(ends > 4e9, "rcgen's certificates end in the year 4096, not at {ends}");
}

#[test]
fn whoever_says_nothing_is_not_waited_for() {
    let served = Served::start();
    let mut silent = TcpStream::connect(served.data).unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let began = Instant::now();
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0, "the connection is ended");
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert_eq!(served.client().get("/v1/sessions", Some(ACME_KEY)).unwrap().status, 200);
}

#[test]
fn operators_need_a_certificate_where_an_authority_is_named_and_their_key_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, operators) = (Authority::new("the right one"), Authority::new("operators"));
    let files = Files::write(directory.path(), "admin", &authority.server());
    let ca = directory.path().join("operators.crt");
    std::fs::write(&ca, operators.pem()).unwrap();
    let path = directory.path().join("greenroom.toml");
    std::fs::write(&path, toml(&settings("", &format!("{}client_ca = {ca:?}\n", files.toml())))).unwrap();
    let (_program, data, admin) = serve(&path);

    let operator = TlsClient::new(admin, &authority, Some(&operators.server()));
    assert_eq!(operator.get("/v1/sessions", Some(ADMIN_KEY)).unwrap().status, 200);
    assert_eq!(operator.get("/readyz", None).unwrap().status, 200);
    operator.get("/v1/sessions", None).unwrap().is_problem(401, "unauthorized");
    let foreign = authority.server();
    for own in [None, Some(&foreign)] {
        for versions in [&[&TLS12][..], &[&TLS13]] {
            let stranger = TlsClient::with(admin, &authority, own, versions, &["http/1.1"]);
            let refused = stranger.get("/readyz", Some(ADMIN_KEY));
            assert!(refused.is_err(), "{refused:?}");
        }
    }
    // The data plane is as it was.
    Client::new(data).with_key(ACME_KEY).get("/v1/sessions").is(200);
}

#[test]
fn a_new_certificate_is_shown_without_a_restart_and_without_a_failed_request() {
    let served = Served::start();
    let old = served.client().shown().unwrap();
    let mut kept = served.client().connect().unwrap();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop, answered) = (served.client(), Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/v1/sessions", Some(ACME_KEY)).unwrap().status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 1..=2 {
        let renewed = served.authority.server();
        renewed.write(&served.files.cert, &served.files.key);
        served.until_shown(&renewed);
        assert_ne!(old, renewed.der(), "round {round}");
    }
    let before = answered.load(Ordering::Relaxed);
    eventually("requests go on", || (answered.load(Ordering::Relaxed) > before + 20).then_some(()));
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().expect("no request failed");
    }
    // A connection from before goes on with what it has.
    kept.write_all(request(served.data, "/v1/sessions", Some(ACME_KEY), "close").as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = kept.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!((served.reloads("ok"), served.reloads("error")), (2.0, 0.0));
}

#[test]
fn files_that_are_no_good_leave_the_old_certificate_and_are_told_once() {
    let mut served = Served::start();
    let old = served.client().shown().unwrap();
    let foreign = Authority::new("another").server();
    let good = served.authority.server();
    // Another's key, a file that is cut off, and none at all.
    let cut = Pair { cert: good.cert[..good.cert.len() / 2].to_owned(), key: good.key.clone() };
    let mismatched = Pair { cert: good.cert.clone(), key: foreign.key };
    for (count, bad) in [(1.0, Some(mismatched)), (2.0, Some(cut)), (3.0, None)] {
        match bad {
            Some(pair) => pair.write(&served.files.cert, &served.files.key),
            None => std::fs::remove_file(&served.files.cert).unwrap(),
        }
        eventually("it is counted", || (served.reloads("error") == count).then_some(()));
        assert_eq!(served.client().shown().unwrap(), old);
    }
    let log = served.program.err.text();
    for part in
        ["is not the key of the certificate", "is no PEM", "cannot be read", "the old one is served on"]
    {
        assert!(log.contains(part), "{part}: {log}");
    }
    good.write(&served.files.cert, &served.files.key);
    served.until_shown(&good);
    assert_eq!((served.reloads("ok"), served.reloads("error")), (1.0, 3.0));

    // SIGHUP is answered at once, also where nothing has changed, and ends nothing.
    served.program.signal("HUP");
    eventually("it is looked at", || (served.reloads("ok") == 2.0).then_some(()));
    assert!(served.program.is_alive());
    assert_eq!(served.client().get("/v1/sessions", Some(ACME_KEY)).unwrap().status, 200);
    served.program.signal("TERM");
    assert_eq!(served.program.wait().code(), Some(0), "{}", served.program.written());
    drop(served.directory);
}

/// What `check-config` and `serve` say of a file.
fn judged(path: &Path) -> [(Option<i32>, String); 2] {
    let text = |Output { status, stdout, stderr }: Output| {
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    };
    let check = greenroom().arg("check-config").arg(path).output().unwrap();
    let serve = greenroom().args(["serve", "--config"]).arg(path).output().unwrap();
    [text(check), text(serve)]
}

#[test]
fn files_that_cannot_serve_are_refused_at_the_start_with_the_key_and_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("the right one");
    let (good, other) = (authority.server(), authority.server());
    let date = |year| rcgen::date_time_ymd(year, 1, 1);
    let ended = authority.issue(|params| {
        params.not_before = date(2020);
        params.not_after = date(2021);
    });
    let future = authority.issue(|params| params.not_before = date(4000));
    let encrypted = good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let pair = |cert: &str, key: &str| Pair { cert: cert.to_owned(), key: key.to_owned() };
    for (name, pair, names) in [
        ("mismatched", pair(&good.cert, &other.key), "server.tls.key: the file "),
        ("ended", ended, "ended at 2021-01-01T00:00:00Z; renew it"),
        ("future", future, "only begins at 4000-01-01T00:00:00Z"),
        ("empty", pair("", &good.key), "holds no certificate"),
        ("swapped", pair(&good.key, &good.cert), "holds no certificate"),
        ("encrypted", pair(&good.cert, &encrypted), "holds no private key"),
    ] {
        let files = Files::write(directory.path(), name, &pair);
        let (_kept, path) = file(&toml(&settings(&files.toml(), "")));
        for ((code, said), expected) in judged(&path).into_iter().zip([2, 78]) {
            assert_eq!(code, Some(expected), "{name}: {said}");
            assert!(said.contains(names) && said.contains(&format!("{name}.")), "{name}: {said}");
            assert_eq!(said.lines().count(), 1, "{name}: {said}");
            assert!(!said.contains("PRIVATE KEY"), "{name}: {said}");
        }
    }
}

#[test]
fn the_section_needs_both_files_and_only_operators_have_an_authority() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("the right one");
    let files = Files::write(directory.path(), "good", &authority.server());
    let half = format!("cert = {:?}\n", files.cert);
    let absent = format!("{}client_ca = \"absent.crt\"\n", files.toml());
    let no_authority = format!("{}client_ca = {:?}\n", files.toml(), files.key);
    for (server, admin, names) in [
        (half.as_str(), "", "server.tls.key: is missing"),
        (&format!("key = {:?}\n", files.key), "", "server.tls.cert: is missing"),
        ("cert = 7\nkey = \"k\"\n", "", "server.tls.cert: is a whole number, but must be a path"),
        (&format!("{}client_ca = \"x\"\n", files.toml()), "", "server.tls.client_ca: unknown key"),
        ("", &absent, "admin.tls.client_ca: the file "),
        ("", &no_authority, "admin.tls.client_ca: the file "),
        ("", "client_ca = \"x\"\n", "admin.tls.cert: is missing"),
    ] {
        let (_kept, path) = file(&toml(&settings(server, admin)));
        let [(code, said), _] = judged(&path);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(names), "{names}: {said}");
    }
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("the right one");
    let now = std::time::SystemTime::now();
    let days = |count: u64| now + std::time::Duration::from_secs(count * 24 * 3600 + 3600);
    for (left, is_warned) in [(3, true), (13, true), (15, false)] {
        let pair = authority.issue(|params| params.not_after = days(left).into());
        Files::write(directory.path(), "soon", &pair);
        // Relative paths begin at the directory of the file.
        let path = directory.path().join("greenroom.toml");
        std::fs::write(&path, toml(&settings("cert = \"soon.crt\"\nkey = \"soon.key\"\n", ""))).unwrap();
        let output = greenroom().arg("check-config").arg(&path).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        let note = format!(
            "note: server.tls.cert: the certificate in {}/soon.crt ends in {left} days",
            directory.path().display()
        );
        assert_eq!(said.contains(&note), is_warned, "{said}");
    }
}

/// A server's frame of less than 126 bytes.
fn frame(stream: &mut impl Read) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x82, "one whole binary message");
    assert!(head[1] < 126, "{}", head[1]);
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).unwrap();
    payload
}

#[test]
fn the_drop_in_ingress_speaks_over_tls_as_without() {
    let simulator = Simulator::start();
    let served = Served::start_with(&simulator.console_url(), &simulator.ingress_url());
    let host = served.data;
    let mut stream = served.client().connect().unwrap();
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    let body = format!("{{\"expireAt\": {soon}}}");
    let length = body.len();
    write!(
        stream,
        "POST /v1/auth/session-token HTTP/1.1\r\nHost: {host}\r\nX-Api-Key: {ACME_KEY}\r\n\
         Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
    }
    let token = Answer::parse(&answer).unwrap().is(200).json();

    let mut stream = served.client().connect().unwrap();
    let path = format!(
        "/v2/driveningress/websocket?id=a&appId=app-of-acme&sessionKey={}",
        token["session_token"].as_str().unwrap()
    );
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let configure = proto::ClientConfigureSession { sample_rate: 16_000, ..Default::default() };
    let message = wire::encode(Data::ClientConfigureSession(configure));
    // Masked, as a client's are, with a mask that changes nothing.
    let mut sent = vec![0x82, 0x80 | u8::try_from(message.len()).unwrap(), 0, 0, 0, 0];
    sent.extend_from_slice(&message);
    stream.write_all(&sent).unwrap();
    let heard = wire::decode(frame(&mut stream).into()).unwrap();
    assert!(matches!(heard, Some(Data::ServerConfirmSession(_))), "{heard:?}");
}

#[test]
fn the_way_to_the_service_is_over_tls_where_its_authority_is_trusted_and_says_so_where_not() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("of the proxy on the way");
    let files = Files::write(directory.path(), "service", &authority.server());
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, authority.pem()).unwrap();
    let (cert, key) = (files.cert.to_str().unwrap(), files.key.to_str().unwrap());
    let mut simulator = Simulator::start_with(&[
        "simulate",
        "--listen",
        "127.0.0.1:0",
        "--pace",
        "fast",
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-cert",
        cert,
        "--tls-key",
        key,
    ]);
    let (console_url, ingress_url) = simulator.program.wait_for("its addresses behind TLS", |program| {
        let out = program.out.text();
        let (console, ingress) =
            out.lines().find_map(|line| line.strip_prefix("tls      "))?.split_once(", ")?;
        Some((console.to_owned(), ingress.to_owned()))
    });
    assert!(
        console_url.starts_with("https://") && ingress_url.starts_with("wss://"),
        "{console_url} {ingress_url}"
    );

    let trusting = Settings { upstream: format!("ca = {ca:?}\n"), ..Settings::default() };
    let greenroom = Greenroom::start(&trusting.toml(&console_url, &ingress_url));
    let id = create_avatar(&greenroom.acme, "a");
    let first = greenroom.until_state(&id, "running");
    let send = format!("/v1/sessions/{id}/requests?wait=true");
    assert_eq!(greenroom.acme.send(&send, &[0; 64_000]).is(200).json()["outcome"], "completed");
    simulator.control.post("/_sim/drop", &json!({})).is(200);
    greenroom.until(&id, "on a new connection", |session| {
        session["state"] == "running" && session["connection_id"] != first["connection_id"]
    });
    assert_eq!(greenroom.acme.send(&send, &[0; 64_000]).is(200).json()["outcome"], "completed");

    let usual = Greenroom::start(&Settings::default().toml(&console_url, &ingress_url));
    let refused = create_avatar(&usual.acme, "a");
    let session = usual.until(&refused, "an error", |session| !session["last_error"].is_null());
    let message = session["last_error"]["message"].as_str().unwrap();
    assert_eq!(session["last_error"]["code"], "connectionFailed", "{session}");
    assert!(message.contains("certificate") && message.contains("UnknownIssuer"), "{message}");

    for (text, told) in [("", "holds no certificate"), ("x", "holds no certificate")] {
        std::fs::write(&ca, text).unwrap();
        let (_kept, path) = file(&trusting.toml(&console_url, &ingress_url));
        for (code, out) in judged(&path) {
            assert_ne!(code, Some(0), "{out}");
            assert!(out.contains("upstream.ca") && out.contains(told), "{out}");
        }
    }
}
