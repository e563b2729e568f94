//! `greenroom ctl` against a Greenroom, and against servers that behave as a Greenroom should not.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    process::{DEADLINE, Program, eventually, greenroom},
    world::{ACME_KEY, ADMIN_KEY, Greenroom, World, create, create_avatar, file},
};

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn is(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    /// The output, an object a line.
    #[track_caller]
    fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn run_with(address: SocketAddr, key: &str, arguments: &[&str]) -> Ran {
    let mut command = greenroom();
    command.env("GREENROOM_URL", format!("http://{address}")).arg("ctl").args(arguments).stdin(Stdio::null());
    if !key.is_empty() {
        command.env("GREENROOM_KEY", key);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    Ran {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

fn run(greenroom: &Greenroom, arguments: &[&str]) -> Ran {
    run_with(greenroom.admin.address(), ADMIN_KEY, arguments)
}

#[test]
fn an_operator_parks_unparks_restarts_and_ends_sessions() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let ids: Vec<String> =
        (0..3).map(|number| create_avatar(&greenroom.acme, &format!("avatar-{number}"))).collect();
    let other = create_avatar(&greenroom.globex, "theirs");
    for id in ids.iter().chain([&other]) {
        greenroom.until_state(id, "running");
    }

    let listed = run(greenroom, &["sessions", "ls", "--tenant", "acme"]).is(0).objects();
    assert_eq!(listed.iter().map(|session| session["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);

    let parked = run(greenroom, &["sessions", "park", &ids[0]]).is(0).objects();
    assert_eq!((parked.len(), &parked[0]["state"]), (1, &json!("parked")));
    let parked = run(greenroom, &["sessions", "ls", "--state", "parked"]).is(0).objects();
    assert_eq!((parked.len(), &parked[0]["id"]), (1, &json!(ids[0])));
    run(greenroom, &["sessions", "unpark", &ids[0]]).is(0);
    greenroom.until_state(&ids[0], "running");

    let before = greenroom.until_state(&ids[1], "running");
    run(greenroom, &["sessions", "restart", &ids[1]]).is(0);
    greenroom.until(&ids[1], "on another connection", |session| {
        session["state"] == "running" && session["connection_id"] != before["connection_id"]
    });

    // More than one asks, and there is nobody to ask.
    let unconfirmed = run(greenroom, &["sessions", "end", "--tenant", "acme"]).is(3);
    assert!(
        unconfirmed.err.contains("end 3 sessions") && unconfirmed.err.contains("--yes"),
        "{}",
        unconfirmed.err
    );
    let unconfirmed = run(greenroom, &["sessions", "end", &ids[0], &ids[1]]).is(3);
    assert!(unconfirmed.err.contains("end 2 sessions"), "{}", unconfirmed.err);
    greenroom.until_state(&ids[0], "running");
    let ended = run(greenroom, &["sessions", "end", "--tenant", "acme", "--yes"]).is(0).objects();
    assert_eq!(ended.len(), 3);
    for id in &ids {
        greenroom.until_state(id, "stopped");
    }
    // What is stopped is passed over, and the other tenant's session was never meant.
    let again = run(greenroom, &["sessions", "end", "--tenant", "acme", "--yes"]).is(0);
    assert!(again.out.is_empty() && again.err.contains("no session matches"), "{}", again.err);
    assert_eq!(greenroom.until_state(&other, "running")["restarts"], 0);
}

#[test]
fn a_problem_is_told_with_its_code_and_what_to_do() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let missing = run(greenroom, &["sessions", "get", "ses_nobody"]).is(1);
    assert!(missing.out.is_empty() && missing.err.contains("404 notFound"), "{}", missing.err);
    let id = create_avatar(&greenroom.acme, "avatar");
    run(greenroom, &["sessions", "end", &id]).is(0);
    let stopped = run(greenroom, &["sessions", "restart", &id]).is(1);
    assert!(stopped.err.contains("409 sessionStopped"), "{}", stopped.err);
    let wrong = run(greenroom, &["sessions", "ls", "--state", "asleep"]).is(1);
    assert!(wrong.err.contains("invalidQuery") && wrong.err.contains("dormant"), "{}", wrong.err);
    for key in ["", "not-the-key"] {
        let refused = run_with(greenroom.admin.address(), key, &["sessions", "ls"]).is(77);
        assert!(refused.err.contains("GREENROOM_KEY"), "{}", refused.err);
        assert!(key.is_empty() || !refused.err.contains(key), "{}", refused.err);
    }
    // Two fail, one of them is there: all are tried.
    let live = create_avatar(&greenroom.acme, "avatar");
    let partly = run(greenroom, &["sessions", "park", "ses_nobody", &live, "--yes"]).is(1);
    assert_eq!(partly.objects()[0]["state"], "parked");
    assert!(partly.err.contains("ses_nobody: refused (404"), "{}", partly.err);
}

#[test]
fn a_listing_goes_through_every_page_and_says_where_it_stops() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    for number in 0..53 {
        create(&greenroom.acme, &json!({"avatar_id": "avatar", "labels": {"n": number.to_string()}}));
    }
    let first = run(greenroom, &["sessions", "ls"]).is(0);
    assert_eq!(first.objects().len(), 50);
    assert!(first.err.contains("--all"), "{}", first.err);
    for arguments in [&["--all"][..], &["--tenant", "acme"]] {
        let all = run(greenroom, &[&["sessions", "ls"], arguments].concat()).is(0);
        assert_eq!((all.objects().len(), all.err.as_str()), (53, ""), "{arguments:?}");
    }
    let few = run(greenroom, &["sessions", "ls", "--tenant", "acme", "-n", "7"]).is(0);
    assert_eq!(few.objects().len(), 7);
    let one = run(greenroom, &["sessions", "ls", "--label", "n:52"]).is(0);
    assert_eq!(one.objects().len(), 1);
    // A reader that has seen enough is no failure.
    let mut child = greenroom_ctl(greenroom.admin.address(), &["sessions", "ls", "--all"]).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn greenroom_ctl(address: SocketAddr, arguments: &[&str]) -> std::process::Command {
    let mut command = greenroom();
    command
        .env("GREENROOM_URL", format!("http://{address}"))
        .env("GREENROOM_KEY", ADMIN_KEY)
        .arg("ctl")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn tables_keep_to_the_width_and_have_no_colour_in_a_pipe() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let id = create_avatar(&greenroom.acme, "missing-avatar");
    greenroom.until_state(&id, "failed");
    for arguments in [
        &["sessions", "ls", "--table"][..],
        &["sessions", "get", &id, "--table"],
        &["codes", "--table"],
        &["upstreams", "--table"],
    ] {
        for columns in ["80", "160"] {
            let mut command = greenroom_ctl(greenroom.admin.address(), arguments);
            let output = command.env("COLUMNS", columns).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0), "{arguments:?}");
            assert!(!text.contains('\u{1b}') && text.lines().count() > 1, "{text}");
            let most: usize = columns.parse().unwrap();
            assert!(text.lines().all(|line| line.chars().count() <= most), "{columns}\n{text}");
        }
    }
    let card = run(greenroom, &["sessions", "get", &id, "--table"]).is(0).out;
    for part in ["avatarNotFound", "HTTP status", "404", "Avatar not found", "runbook"] {
        assert!(card.contains(part), "{part}\n{card}");
    }
    let code = run(greenroom, &["codes", "avatarnotfound"]).is(0).objects();
    assert_eq!((&code[0]["code"], &code[0]["count"]), (&json!("avatarNotFound"), &json!(1)));
    let seen = run(greenroom, &["codes", "--seen"]).is(0).objects();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn breakers_and_drains_ask_and_work() {
    let mut world = World::usual();
    let greenroom = &world.greenroom;
    run(greenroom, &["upstreams", "open", "primary"]).is(3);
    let open = run(greenroom, &["upstreams", "open", "primary", "--yes"]).is(0).objects();
    assert_eq!(open[0]["breaker"], "open");
    assert_eq!(run(greenroom, &["upstreams", "close", "primary"]).is(0).objects()[0]["breaker"], "closed");
    run(greenroom, &["tenants", "park", "nobody"]).is(1);
    let id = create_avatar(&greenroom.acme, "avatar");
    greenroom.until_state(&id, "running");
    run(greenroom, &["tenants", "park", "acme"]).is(0);
    greenroom.until_state(&id, "parked");
    let looked = run(greenroom, &["top", "-n", "1"]).is(0).objects();
    assert_eq!((&looked[0]["states"]["parked"], &looked[0]["troubled"][0]["id"]), (&json!(1), &json!(id)));
    run(greenroom, &["drain"]).is(3);
    assert!(world.greenroom.program.is_alive());
    run(&world.greenroom, &["drain", "--yes"]).is(0);
    assert_eq!(world.greenroom.program.wait().code(), Some(0));
    run(&world.greenroom, &["sessions", "ls"]).is(69);
}

#[test]
fn a_tenants_key_shows_its_own_sessions_and_no_others() {
    let world = World::usual();
    let greenroom = &world.greenroom;
    let own = create_avatar(&greenroom.acme, "avatar");
    create_avatar(&greenroom.globex, "avatar");
    let data = greenroom.acme.address();
    let listed = run_with(data, ACME_KEY, &["sessions", "ls"]).is(0).objects();
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(own)));
    let top = run_with(data, ACME_KEY, &["top", "-n", "1"]).is(0).objects();
    assert_eq!(top[0]["codes"], Value::Null);
}

#[test]
fn usage_is_refused_before_anything_is_sent() {
    let (_directory, empty) = file("");
    let (_other, good) = file("key-in-a-file\n");
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nowhere.local_addr().unwrap();
    let (empty, good) = (empty.to_str().unwrap(), good.to_str().unwrap());
    for (code, arguments) in [
        (2, &["sessions", "park"][..]),
        (2, &["sessions", "park", "ses_1", "--tenant", "acme"]),
        (2, &["sessions", "ls", "-n", "0"]),
        (2, &["sessions", "ls", "--json", "--table"]),
        (2, &["tenants", "create", "acme"]),
        (2, &["--key-file", empty, "sessions", "ls"]),
        (66, &["--key-file", "/nonexistent/key", "sessions", "ls"]),
        (66, &["--ca", "/nonexistent/ca", "sessions", "ls"]),
        (66, &["--ca", good, "sessions", "ls"]),
        (2, &["--url", "http://:secret@127.0.0.1:1", "sessions", "ls"]),
        (3, &["drain"]),
    ] {
        run_with(address, "", arguments).is(code);
    }
    nowhere.set_nonblocking(true).unwrap();
    assert!(nowhere.accept().is_err(), "something was sent");
    drop(nowhere);
    run_with(address, "", &["sessions", "ls"]).is(69);
    for shell in ["bash", "zsh", "fish"] {
        let script = run_with(address, "", &["completions", shell]).is(0).out;
        assert!(script.contains("unpark"), "{script}");
    }
}

/// A server by hand: each connection is read up to the end of its head and answered with the next of `answers`.
/// Gives the heads.
fn serve(answers: Vec<String>) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let head = read_head(&stream);
            // The test may have ended.
            let _ = sender.send(head);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, heads)
}

fn read_head(stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let lines = BufReader::new(stream.take(65536)).lines().map(Result::unwrap);
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n").to_ascii_lowercase()
}

/// A stream of events that is cut off: the last chunk is missing.
fn events(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n",
        text.len()
    )
}

fn event(id: u64, to: &str) -> String {
    let data = json!({"id": id, "at": "2026-01-01T10:00:00Z", "tenant": "acme", "session": "ses_1", "kind": "state",
                      "from": "starting", "to": to, "code": null, "next_attempt_at": null});
    format!("event: state\nid: {id}\ndata: {data}\n\n")
}

#[test]
fn events_go_on_behind_the_last_whole_one_after_a_broken_connection() {
    let torn = format!(": hello\n\n{}{}", event(7, "running"), event(8, "backing_off").trim_end());
    let gap = "event: gap\ndata: {\"missed\": 3, \"from\": 8, \"to\": 10}\n\n";
    let (address, heads) = serve(vec![events(&torn), events(&format!("{gap}{}", event(11, "parked")))]);
    let ran = run_with(address, ADMIN_KEY, &["events", "--tenant", "acme", "-n", "2"]).is(0);
    let told: Vec<_> =
        ran.objects().iter().map(|event| (event["kind"].clone(), event["id"].clone())).collect();
    assert_eq!(
        told,
        [(json!("state"), json!(7)), (json!("gap"), Value::Null), (json!("state"), json!(11))],
        "{}",
        ran.err
    );
    let first = heads.recv().unwrap();
    assert!(first.starts_with("get /v1/events?tenant=acme ") && !first.contains("last-event-id"), "{first}");
    assert!(first.contains(&format!("authorization: bearer {ADMIN_KEY}")), "{first}");
    let second = heads.recv().unwrap();
    assert!(second.contains("last-event-id: 7"), "an event that was not whole counts as unread\n{second}");
    assert!(
        ran.err.contains("the connection broke") && ran.err.contains("3 events were missed"),
        "{}",
        ran.err
    );
}

fn json_answer(status: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_tail_begins_with_the_past_and_goes_on_behind_it() {
    let past = |id: u64, to: &str| {
        json!({"id": id, "at": "2026-01-01T10:00:00Z", "tenant": "acme", "session": "ses_1",
        "kind": "state", "from": "starting", "to": to, "code": null, "next_attempt_at": null})
    };
    let history = json!({"events": [past(5, "running"), past(3, "starting")], "next_cursor": null});
    let (address, heads) = serve(vec![
        json_answer("200 OK", &json!({"id": "ses_1"})),
        json_answer("200 OK", &history),
        events(&event(6, "parked")),
    ]);
    let mut tail = Program::start(&mut greenroom_ctl(address, &["sessions", "tail", "ses_1", "--table"]));
    let lines = tail.wait_for("three events", |program| {
        let out = program.out.text();
        let lines: Vec<String> =
            out.lines().filter(|line| line.contains(" to ")).map(str::to_owned).collect();
        (lines.len() == 3).then_some(lines)
    });
    let order: Vec<_> = lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(order, ["starting", "running", "parked"]);
    let heads: Vec<String> = heads.iter().take(3).collect();
    assert!(heads[1].starts_with("get /v1/sessions/ses_1/history?limit=20 "), "{}", heads[1]);
    assert!(heads[2].starts_with("get /v1/events?session=ses_1 "), "{}", heads[2]);
    assert!(heads[2].contains("last-event-id: 5"), "{}", heads[2]);
}

#[test]
fn what_is_no_greenroom_is_said_to_be_none_and_an_id_is_no_path() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for answer in [
        redirect.to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>".to_owned(),
        json_answer("200 OK", &json!({"other": []})),
        json_answer("404 Not Found", &json!({"message": "no"})),
    ] {
        let (address, _heads) = serve(vec![answer]);
        run_with(address, "", &["sessions", "ls"]).is(76);
    }
    let busy = json_answer("503 Service Unavailable", &json!({"code": "draining", "detail": "x"}));
    let (address, _heads) = serve(vec![busy.replacen("\r\n", "\r\nretry-after: 4\r\n", 1)]);
    let later = run_with(address, "", &["sessions", "ls"]).is(75);
    assert!(later.err.contains("try again in 4 s"), "{}", later.err);
    let (address, heads) = serve(vec![json_answer("200 OK", &json!({"id": "x"}))]);
    run_with(address, "", &["sessions", "get", "../drain?x#y"]).is(0);
    assert!(heads.recv().unwrap().starts_with("get /v1/sessions/..%2fdrain%3fx%23y "), "an id became a path");
}

#[test]
fn a_server_that_says_nothing_more_is_given_up() {
    // The second page never comes, and the same cursor for ever is no listing.
    let page = json_answer("200 OK", &json!({"sessions": [{"id": "ses_1"}], "next_cursor": "a"}));
    let (address, _heads) = serve(vec![page.clone(), page.clone(), page]);
    let stuck = run_with(address, "", &["sessions", "ls", "--all"]).is(76);
    assert!(stuck.err.contains("again and again"), "{}", stuck.err);
}

#[test]
fn a_tenant_is_made_without_its_key_among_the_arguments() {
    let answer = json!({"id": "acme", "managed_by": "api", "keys": [{"name": "first", "key": "shown-once"}]});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        while !heard.ends_with(b"}") {
            let count = stream.read(&mut piece).unwrap();
            heard.extend_from_slice(&piece[..count]);
        }
        stream.write_all(json_answer("201 Created", &answer).as_bytes()).unwrap();
        String::from_utf8(heard).unwrap()
    });
    let (_directory, key) = file("upstream-key\n");
    let (_other, body) = file("{\"continuity\": \"off\", \"max_sessions\": 1}");
    let ran = run_with(
        address,
        ADMIN_KEY,
        &[
            "tenants",
            "create",
            "acme",
            "--app-id",
            "app",
            "--upstream-key-file",
            key.to_str().unwrap(),
            "--file",
            body.to_str().unwrap(),
            "--max-sessions",
            "5",
            "--table",
        ],
    )
    .is(0);
    assert!(ran.out.contains("shown-once"), "{}", ran.out);
    let heard = served.join().unwrap();
    assert!(heard.starts_with("POST /v1/tenants "), "{heard}");
    let sent: Value = serde_json::from_str(heard.split_once("\r\n\r\n").unwrap().1).unwrap();
    let expected = json!({"id": "acme", "app_id": "app", "upstream_api_key": "upstream-key", "continuity": "off",
                          "max_sessions": 5});
    assert_eq!(sent, expected);
}

/// The same command as somebody at a terminal starts it: a shell's background job, as these tests may be, ignores
/// interrupts, and so does what it starts.
fn interruptible(command: &std::process::Command) -> std::process::Command {
    let mut made = std::process::Command::new("env");
    made.arg("--default-signal=INT").arg(command.get_program()).args(command.get_args());
    made.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    made.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    made
}

#[test]
fn an_interrupted_follower_ends() {
    let (address, heads) = serve(vec![events(": hello\n\n")]);
    let mut follower = Program::start(&mut interruptible(&greenroom_ctl(address, &["events"])));
    heads.recv_timeout(DEADLINE).unwrap();
    follower.wait_for("the break is told", |program| {
        program.err.text().contains("the connection broke").then_some(())
    });
    follower.signal("INT");
    eventually("it ends", || (!follower.is_alive()).then_some(()));
}

/// A server over TLS by hand, which answers each connection with `answer`, and the certificate that it shows.
fn serve_tls(answer: String) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut connection = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
            let mut secured = rustls::Stream::new(&mut connection, &mut stream);
            let mut heard = Vec::new();
            let mut piece = [0; 4096];
            // A client that does not trust the certificate goes away.
            while let Ok(count @ 1..) = secured.read(&mut piece) {
                heard.extend_from_slice(&piece[..count]);
                if heard.ends_with(b"\r\n\r\n") {
                    let _ = secured.write_all(answer.as_bytes());
                    break;
                }
            }
        }
    });
    (address, made.cert.pem())
}

#[test]
fn https_is_spoken_with_those_alone_whose_authority_is_trusted() {
    let (address, pem) = serve_tls(json_answer("200 OK", &json!({"sessions": [], "next_cursor": null})));
    let (_directory, ca) = file(&pem);
    let url = format!("https://{address}");
    let run = |arguments: &[&str]| run_with(address, ADMIN_KEY, &[&["--url", &url], arguments].concat());
    let refused = run(&["sessions", "ls"]).is(69);
    assert!(refused.err.contains("--ca"), "{}", refused.err);
    run(&["--ca", ca.to_str().unwrap(), "sessions", "ls"]).is(0);
    let (_, other) = serve_tls(String::new());
    let (_directory, other) = file(&other);
    run(&["--ca", other.to_str().unwrap(), "sessions", "ls"]).is(69);
}
