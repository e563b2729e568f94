//! Upstreams that answer what no avatar service would.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    http::Client,
    process::eventually,
    world::{Greenroom, Settings, create, tenant},
};

/// What the process may grow by, however much is sent to it.
const GROWTH_KIB: u64 = 50 * 1024;
/// Attempts of each session before the memory is looked at.
const ATTEMPTS: u64 = 4;

/// How a connection is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Nonsense,
    EndlessHeaders,
    EndlessBody,
    EndlessRefusal,
    Never,
    Close,
    TlsGarbage,
    WrongAccept,
    EndlessMessage,
    EndlessFragments,
    EndlessPings,
}

use Answer as A;

/// The answers to a token call with the code that each gives.
const TOKEN: [(&str, Answer, &str); 7] = [
    ("t-nonsense", A::Nonsense, "protocolError"),
    ("t-headers", A::EndlessHeaders, "connectionFailed"),
    ("t-body", A::EndlessBody, "protocolError"),
    ("t-refusal", A::EndlessRefusal, "upstreamError"),
    ("t-never", A::Never, "connectionFailed"),
    ("t-close", A::Close, "connectionFailed"),
    ("t-tls", A::TlsGarbage, "connectionFailed"),
];

/// The answers to an upgrade with the code that each gives.
const UPGRADE: [(&str, Answer, &str); 11] = [
    ("u-nonsense", A::Nonsense, "connectionFailed"),
    ("u-headers", A::EndlessHeaders, "connectionFailed"),
    ("u-body", A::EndlessBody, "connectionFailed"),
    ("u-refusal", A::EndlessRefusal, "upstreamError"),
    ("u-never", A::Never, "connectionFailed"),
    ("u-close", A::Close, "connectionFailed"),
    ("u-tls", A::TlsGarbage, "connectionFailed"),
    ("u-accept", A::WrongAccept, "connectionFailed"),
    ("u-message", A::EndlessMessage, "protocolError"),
    ("u-fragments", A::EndlessFragments, "protocolError"),
    ("u-pings", A::EndlessPings, "connectionFailed"),
];

/// Starts the upstream. Its threads end with the connections that they serve.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            thread::spawn(move || {
                // An error is the client's leaving, which is what most answers wait for.
                let _ = serve(stream);
            });
        }
    });
    address
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = field(&head, "content-length: ").and_then(|text| text.parse().ok()).unwrap_or(0);
        reader.read_exact(&mut vec![0; length])?;
        let key = field(&head, "x-api-key: ").unwrap_or_default();
        let fault = TOKEN.iter().chain(&UPGRADE).find(|(name, ..)| {
            key.ends_with(name)
                || head.lines().next().is_some_and(|line| line.contains(&format!("id={name} ")))
        });
        match fault {
            Some((_, fault, _)) => return answer(*fault, stream, &head),
            None => {
                let body = json!({"session_token": "a-token"}).to_string();
                write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            }
        }
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned))
}

fn answer(how: Answer, mut stream: TcpStream, head: &str) -> std::io::Result<()> {
    let ok = "HTTP/1.1 200 OK\r\n";
    match how {
        A::Nonsense => stream.write_all(format!("{ok}Content-Length: 8\r\n\r\nnonsense").as_bytes()),
        A::EndlessHeaders => {
            stream.write_all(ok.as_bytes())?;
            forever(stream, &b"X-Endless: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(1000))
        }
        A::EndlessBody => {
            stream.write_all(format!("{ok}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            forever(stream, format!("10000\r\n{}\r\n", "x".repeat(0x10000)).as_bytes())
        }
        A::EndlessRefusal => {
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")?;
            forever(stream, &[b'x'; 0x10000])
        }
        A::Never => stream.read_to_end(&mut Vec::new()).map(|_| ()),
        A::Close => Ok(()),
        A::TlsGarbage => {
            stream.write_all(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03")?;
            forever(stream, &[0x16; 0x10000])
        }
        A::WrongAccept => {
            upgrade(&mut stream, b"another key")?;
            stream.read_to_end(&mut Vec::new()).map(|_| ())
        }
        A::EndlessMessage => {
            upgrade(&mut stream, websocket_key(head))?;
            stream.write_all(&[0x82, 127, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])?;
            forever(stream, &[0; 0x10000])
        }
        A::EndlessFragments => {
            upgrade(&mut stream, websocket_key(head))?;
            stream.write_all(&[0x02, 1, 0])?;
            forever(stream, &[&[0x00, 126, 0xff, 0xff][..], &[0; 0xffff]].concat())
        }
        A::EndlessPings => {
            upgrade(&mut stream, websocket_key(head))?;
            forever(stream, &[&[0x89, 125][..], &[7; 125]].concat().repeat(500))
        }
    }
}

fn websocket_key(head: &str) -> &[u8] {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
    });
    key.unwrap_or_default().as_bytes()
}

fn upgrade(stream: &mut TcpStream, key: &[u8]) -> std::io::Result<()> {
    let accept = actix_http::ws::hash_key(key);
    let accept = std::str::from_utf8(&accept).unwrap();
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Repeats `bytes` until the client has had enough.
fn forever(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(bytes)?;
    }
}

fn start(address: SocketAddr) -> Greenroom {
    let names = TOKEN.iter().map(|(name, ..)| *name).chain(["fine"]);
    let settings = Settings {
        upstream: "max_message_bytes = 4194304\ndeadlines = { token_ms = 1000, connect_ms = 1000, handshake_ms = 1000 }\n\
                   breaker = { min_attempts = 100000 }\n"
            .to_owned(),
        tables: "[recovery]\nbackoff = { initial_ms = 10, max_ms = 50 }\n".to_owned(),
        tenants: names.map(|name| tenant(name, &key(name), &format!("key-{name}"))).collect(),
        ..Settings::default()
    };
    Greenroom::start(&settings.toml(&format!("http://{address}"), &format!("ws://{address}")))
}

fn key(tenant: &str) -> String {
    format!("tenant-key-{tenant}")
}

fn session(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/sessions/{id}")).is(200).json()
}

#[test]
fn no_answer_of_an_upstream_takes_the_memory_or_the_life_of_the_process() {
    let mut greenroom = start(upstream());
    greenroom.admin.get("/metrics").is(200);
    let before = greenroom.program.peak_kib();
    let mut sessions = Vec::new();
    for (name, how, code) in TOKEN {
        let id = create(&greenroom.acme.with_key(&key(name)), &json!({"avatar_id": "any"}));
        sessions.push((id, how, code, "session_token"));
    }
    for (name, how, code) in UPGRADE {
        let id = create(&greenroom.acme.with_key(&key("fine")), &json!({"avatar_id": name}));
        let after_upgrade = matches!(how, A::EndlessMessage | A::EndlessFragments | A::EndlessPings);
        sessions.push((
            id,
            how,
            code,
            if after_upgrade { "websocket_handshake" } else { "websocket_connect" },
        ));
    }
    let began = Instant::now();
    for (id, how, code, phase) in &sessions {
        let seen = eventually(&format!("{how:?}: {code}"), || {
            let session = session(&greenroom.admin, id);
            let restarts = session["restarts"].as_u64().unwrap();
            (restarts >= ATTEMPTS || session["state"] == "failed").then_some(session)
        });
        let error = &seen["last_error"];
        assert_eq!((&error["code"], &error["phase"]), (&json!(code), &json!(phase)), "{how:?}: {seen}");
        // The default policy: three protocol errors in a row, and a person must look.
        let expected: &[&str] =
            if *code == "protocolError" { &["failed"] } else { &["backing_off", "starting"] };
        assert!(expected.contains(&seen["state"].as_str().unwrap()), "{how:?}: {seen}");
        assert_eq!(seen["connection_id"], Value::Null, "{how:?}: {seen}");
    }
    let grown = greenroom.program.peak_kib() - before;
    assert!(grown < GROWTH_KIB, "{grown} KiB more after {:?}", began.elapsed());
    assert!(greenroom.program.is_alive());
    greenroom.admin.without_key().get("/readyz").is(200);
    greenroom.program.signal("TERM");
    assert_eq!(greenroom.program.wait().code(), Some(0), "{}", greenroom.program.written());
}
