//! The process is killed at random moments under load, again and again: what it answered is there when the next one
//! has started, nothing is half there, and no connection is left that nobody knows.

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use greenroom::simulator::{Pace, Simulator, SimulatorConfig, spawn_thread};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    http::Client,
    process::eventually,
    world::{ACME_KEY, Greenroom, Settings},
};

/// Rounds where `GREENROOM_KILL_ROUNDS` does not say; 50 and more are for whoever changes how sessions are kept.
const ROUNDS: usize = 10;
/// Callers at the same time, each with sessions of its own.
const CALLERS: usize = 24;
/// Sessions of a caller that are not stopped, at most.
const LIVE: usize = 6;
/// How long a round's load goes on at most.
const LOAD: Duration = Duration::from_millis(900);
const APP: &str = "app-of-acme";
const AUDIO: &[u8] = &[0; 6400];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Should {
    Run,
    Park,
    Stop,
}

impl Should {
    const fn state(self) -> &'static str {
        match self {
            Self::Run => "running",
            Self::Park => "parked",
            Self::Stop => "stopped",
        }
    }
}

/// What a caller knows of one session of its own, by its avatar.
#[derive(Debug)]
struct Known {
    /// Its id; `None` where its creation was not answered.
    id: Option<String>,
    /// What was answered last.
    should: Should,
    /// What was asked for and not answered.
    asked: Option<Should>,
}

#[derive(Debug, Default)]
struct Caller {
    number: usize,
    made: usize,
    /// Where audio is taken.
    data: Option<SocketAddr>,
    /// Whether it only speaks where it can: nothing is synced then but by the time, and most is in the log at the end.
    only_speaks: bool,
    known: BTreeMap<String, Known>,
    /// The requests for audio that this process has accepted.
    accepted: Vec<Accepted>,
}

/// A request for audio that was answered.
#[derive(Debug)]
struct Accepted {
    path: String,
    /// What was answered to whoever waited for it.
    outcome: Option<Value>,
}

impl Caller {
    /// One call; gives whether it was answered.
    fn call(&mut self, client: &Client, random: &mut StdRng) -> bool {
        let unanswered =
            self.known.iter().find(|(_, known)| known.id.is_none()).map(|(avatar, _)| avatar.clone());
        if let Some(avatar) = unanswered {
            return self.create(client, &avatar);
        }
        let runs = |known: &&Known| known.should == Should::Run;
        if let Some(known) = self.known.values().find(runs).filter(|_| self.only_speaks) {
            let path = format!("/v1/sessions/{}/requests", known.id.as_ref().unwrap());
            return self.speak(client, &path, random.random_bool(0.5));
        }
        let count = self.known.values().filter(|known| known.should != Should::Stop).count();
        if count == 0 || count < LIVE && random.random_bool(0.4) {
            self.made += 1;
            let avatar = format!("avatar-{}-{}", self.number, self.made);
            return self.create(client, &avatar);
        }
        let mut live = self.known.values_mut().filter(|known| known.should != Should::Stop);
        let known = live.nth(random.random_range(0..count)).unwrap();
        let path = format!("/v1/sessions/{}", known.id.as_ref().unwrap());
        if known.should == Should::Run && random.random_bool(0.4) {
            let waits = random.random_bool(0.5);
            return self.speak(client, &format!("{path}/requests"), waits);
        }
        let (method, path, should) = match random.random_range(0..10) {
            0..4 => ("POST", format!("{path}/park"), Should::Park),
            4..8 => ("POST", format!("{path}/unpark"), Should::Run),
            8 => ("POST", format!("{path}/restart"), Should::Run),
            _ => ("DELETE", path, Should::Stop),
        };
        known.asked = Some(should);
        let Ok(answer) = client.try_call(method, &path, None) else { return false };
        answer.is(200);
        (known.should, known.asked) = (should, None);
        true
    }

    /// A request for audio, which may be refused: a session that starts or is full takes none.
    fn speak(&mut self, client: &Client, path: &str, waits: bool) -> bool {
        let client = client.with_key(ACME_KEY).at(self.data.unwrap());
        let Ok(answer) = client.try_call("POST", &format!("{path}?wait={waits}"), Some(AUDIO)) else {
            return false;
        };
        if matches!(answer.status, 200 | 202) {
            let request = answer.json();
            let path = format!("{path}/{}", request["req_id"].as_str().unwrap());
            let outcome = (answer.status == 200).then(|| request["outcome"].clone());
            self.accepted.push(Accepted { path, outcome });
        }
        true
    }

    /// That the requests which were accepted are known, with the outcomes that were answered; gives how many.
    fn find_requests(&mut self, admin: &Client) -> usize {
        let accepted = std::mem::take(&mut self.accepted);
        for Accepted { path, outcome } in &accepted {
            let found = admin.get(path).is(200).json();
            assert!(
                outcome.as_ref().is_none_or(|outcome| found["outcome"] == *outcome),
                "{outcome:?}: {found}"
            );
        }
        accepted.len()
    }

    fn create(&mut self, client: &Client, avatar: &str) -> bool {
        let known = Known { id: None, should: Should::Run, asked: None };
        self.known.entry(avatar.to_owned()).or_insert(known);
        let body = json!({"avatar_id": avatar, "tenant": "acme"}).to_string();
        let client = client.with_idempotency_key(avatar);
        let Ok(answer) = client.try_call("POST", "/v1/sessions", Some(body.as_bytes())) else { return false };
        let session = answer.is(201).json();
        let known = self.known.get_mut(avatar).unwrap();
        known.id = Some(session["id"].as_str().unwrap().to_owned());
        true
    }

    /// Compares what there is to what was answered. What was not answered is there as a whole, or not at all.
    fn compare(&mut self, listed: &BTreeMap<String, Value>) {
        for (avatar, known) in &mut self.known {
            let session = listed.get(avatar);
            let Some(id) = &known.id else {
                assert!(session.is_none_or(|session| session["state"] != "stopped"), "{avatar}: {session:?}");
                continue;
            };
            let session = session.unwrap_or_else(|| panic!("{avatar} was answered as {id}, and is lost"));
            assert_eq!(session["id"], id.as_str(), "{avatar} has become another session");
            let is = match session["state"].as_str().unwrap() {
                "parked" => Should::Park,
                "stopped" => Should::Stop,
                "starting" | "running" | "backing_off" => Should::Run,
                other => panic!("{avatar} is {other}: {session}"),
            };
            assert!(
                is == known.should || Some(is) == known.asked,
                "{avatar} is {is:?}, answered was {:?}, asked {:?}: {session}",
                known.should,
                known.asked
            );
            (known.should, known.asked) = (is, None);
        }
    }
}

/// All sessions by their avatars.
fn listed(admin: &Client) -> BTreeMap<String, Value> {
    let (mut sessions, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = admin.get(&format!("/v1/sessions?limit=500{cursor}")).is(200).json();
        for session in page["sessions"].as_array().unwrap() {
            let avatar = session["avatar_id"].as_str().unwrap().to_owned();
            let twice = sessions.insert(avatar, session.clone());
            assert!(twice.is_none(), "two sessions were made of one request: {twice:?} and {session}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return sessions,
        }
    }
}

/// Waits until every session is what it should be, with a connection where it runs and nowhere else.
fn reaches_what_it_should(simulator: &Simulator, greenroom: &Greenroom, callers: &mut [Caller]) {
    for caller in &mut *callers {
        caller.compare(&listed(&greenroom.admin));
    }
    let mut seen = String::new();
    let reached = |seen: &mut String| {
        let (sessions, stats) = (listed(&greenroom.admin), simulator.stats());
        let runs = sessions.values().filter(|session| session["state"] == "running").count() as u64;
        let metric = greenroom.metric("greenroom_upstream_connections", &[]);
        *seen = format!("{runs} run, {} connections are live, {metric} are counted", stats.connections.live);
        let all_are = callers.iter().flat_map(|caller| &caller.known).all(|(avatar, known)| {
            let Some(session) = sessions.get(avatar) else { return known.id.is_none() };
            let should = if known.id.is_none() { Should::Run } else { known.should };
            let live = stats.session(APP, avatar).map_or(0, |session| session.live);
            if session["state"] != should.state() || live != u64::from(should == Should::Run) {
                *seen = format!("{avatar} should be {should:?}, has {live} connections: {session}");
                return false;
            }
            true
        });
        all_are && runs == stats.connections.live && metric == runs as f64
    };
    // Looked for again and again: that two sides agree is an event of neither.
    let deadline = Instant::now() + super::process::DEADLINE;
    while !reached(&mut seen) {
        assert!(Instant::now() < deadline, "{seen}\n{}", greenroom.program.err.text());
        thread::sleep(Duration::from_millis(20));
    }
    let stats = simulator.stats();
    assert!(stats.max_session_peak <= 1, "a session had two connections: {:?}", stats.sessions);
    assert_eq!(stats.violations.total, 0, "{:?}", stats.violations.last);
}

#[test]
fn a_process_that_is_killed_under_load_loses_nothing_that_it_answered() {
    let rounds = env::var("GREENROOM_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let seed = env::var("GREENROOM_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("GREENROOM_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let simulator = spawn_thread(SimulatorConfig { pace: Pace::Fast, ..SimulatorConfig::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = format!("url = \"redb:{}\"\n", directory.path().join("greenroom.redb").display());
    let tenants = super::world::tenant("acme", ACME_KEY, "upstream-key") + "max_sessions = 100000\n";
    let settings = Settings { store, tenants, ..Settings::default() };
    let toml = settings.toml(&simulator.console_url(), &simulator.ingress_url());
    let mut callers: Vec<Caller> =
        (0..CALLERS).map(|number| Caller { number, ..Caller::default() }).collect();
    let (answered, mut under_load, mut found) = (AtomicUsize::new(0), Duration::ZERO, 0);
    let mut start = |callers: &mut [Caller]| {
        let greenroom = Greenroom::start(&toml);
        found += callers.iter_mut().map(|caller| caller.find_requests(&greenroom.admin)).sum::<usize>();
        reaches_what_it_should(&simulator, &greenroom, callers);
        greenroom
    };
    let started = Instant::now();
    for _ in 0..rounds {
        let greenroom = start(&mut callers);
        let only_speaks = random.random();
        for caller in &mut callers {
            (caller.data, caller.only_speaks) = (Some(greenroom.acme.address()), only_speaks);
        }
        let kill_after = LOAD.mul_f64(random.random());
        let began = Instant::now();
        thread::scope(|scope| {
            for caller in &mut callers {
                let (client, mut random) = (greenroom.admin.clone(), StdRng::from_rng(&mut random));
                let answered = &answered;
                scope.spawn(move || {
                    while caller.call(&client, &mut random) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // Nothing is waited for: the process is killed at a random moment, whatever it is about to do.
            thread::sleep(kill_after);
            drop(greenroom);
        });
        under_load += began.elapsed();
        eventually("the service has noticed", || (simulator.stats().connections.live == 0).then_some(()));
    }
    drop(start(&mut callers));
    let answered = answered.into_inner();
    let sessions: usize = callers.iter().map(|caller| caller.known.len()).sum();
    println!(
        "{answered} answered ({found} requests for audio) in {under_load:?} of load, {sessions} sessions, {rounds} rounds, {:?}",
        started.elapsed()
    );
    assert!(answered > 5 * rounds, "only {answered} calls were answered");
    assert!(found > rounds, "only {found} requests for audio were accepted");
}
