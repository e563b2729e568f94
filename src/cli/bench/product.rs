//! Greenroom, as `greenroom serve` in a process of its own, and its API as a caller uses it.

use std::{
    io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use awc::http::header;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Args,
    children::{self, Child, Usage},
    rival::Entrance,
    service::Service,
    upload::{Answer, Uploads},
};
use crate::{cli::figures::Figures, simulator::monotonic_now};

/// Starting takes milliseconds; a machine that is busy takes longer.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// From one look for something to the next.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// What opening may take beyond what the gate makes it take.
const OPEN_MARGIN: Duration = Duration::from_secs(60);
/// An answer of the API, that of a waited-for request excepted, is there within milliseconds or it failed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// As much as the frames of a burst's request in base64 need.
const MAX_ANSWER: usize = 64 << 20;
/// Opens nothing but this process on this machine.
const KEY: &str = "bench-key";
const ADMIN_KEY: &str = "bench-admin-key";

/// Greenroom, as a child.
pub(super) struct Greenroom {
    child: Child,
    api: String,
    admin: String,
    http: awc::Client,
    /// The sessions that were opened, by id.
    pub(super) sessions: Vec<String>,
    open_deadline: Duration,
    /// Calls that create sessions, at a time: as many as the other clients open at a time.
    creating: usize,
}

impl Greenroom {
    pub(super) async fn start(args: &Args, service: &Service) -> io::Result<Self> {
        let place = children::place()?;
        let config = children::write(&place, "greenroom.toml", &configuration(args, service, place.path()))?;
        let mut command = Command::new(children::own_program()?);
        command.arg("serve").arg("--config").arg(config);
        Self::served(args, Child::spawn("greenroom", command, place)?).await
    }

    /// What stands in for it where the least is measured that could be in its place.
    pub(super) async fn start_least(args: &Args, service: &Service) -> io::Result<Self> {
        let mut command = Command::new(children::own_program()?);
        command.args(["bench-least", "--console", &service.console, "--ingress", &service.ingress]);
        command.args(["--in-flight", &args.in_flight.to_string()]);
        Self::served(args, Child::spawn("the least program", command, children::place()?)?).await
    }

    async fn served(args: &Args, child: Child) -> io::Result<Self> {
        let began = Instant::now();
        let (api, admin) = loop {
            if let Some(found) = addresses(&child.log()) {
                break found;
            }
            if began.elapsed() > START_DEADLINE {
                return Err(child.failure("did not start"));
            }
            // Looks for a line of a file, which nothing tells of.
            sleep(LOOK_PERIOD).await;
        };
        let http = awc::Client::builder()
            .connector(awc::Connector::new().limit(0).timeout(ANSWER_DEADLINE))
            .timeout(ANSWER_DEADLINE)
            .bearer_auth(KEY)
            .finish();
        let through_gate = f64::from(args.sessions()) / f64::from(args.gate_per_second());
        let open_deadline = Duration::from_secs_f64(through_gate) + OPEN_MARGIN;
        let creating = args.in_flight as usize;
        Ok(Self { child, api, admin, http, sessions: Vec::new(), open_deadline, creating })
    }

    /// The way to its drop-in console and ingress.
    pub(super) fn entrance(&self) -> Entrance {
        let ingress = format!("{}/v2/driveningress", self.api.replacen("http", "ws", 1));
        Entrance { console: self.api.clone(), ingress, key: KEY.to_owned(), ca: None }
    }

    pub(super) fn usage(&self) -> io::Result<Usage> {
        self.child.usage()
    }

    /// The URL of a path of the tenants' API.
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    /// Creates sessions and waits until all run.
    pub(super) async fn open(&mut self, sessions: u32) -> io::Result<()> {
        let begin = self.sessions.len();
        let numbers = begin..begin + sessions as usize;
        let created: Vec<io::Result<String>> = stream::iter(numbers)
            .map(|number| self.create(number))
            .buffer_unordered(self.creating)
            .collect()
            .await;
        for id in created {
            self.sessions.push(id?);
        }
        let wanted = self.sessions.len() as f64;
        let began = Instant::now();
        loop {
            let running = self.metrics().await?.by("greenroom_sessions", "state").get("running").copied();
            if running.unwrap_or_default() >= wanted {
                return Ok(());
            }
            if began.elapsed() > self.open_deadline {
                let running = running.unwrap_or_default();
                return Err(self.child.failure(&format!("has {running} of {wanted} sessions running")));
            }
            sleep(LOOK_PERIOD).await;
        }
    }

    /// Creates session `number` and gives its id.
    pub(super) async fn create(&self, number: usize) -> io::Result<String> {
        let body = json!({"avatar_id": format!("bench-{number:06}")});
        let mut answer = self
            .http
            .post(self.url("/v1/sessions"))
            .send_json(&body)
            .await
            .map_err(|error| self.broken(&error))?;
        let bytes = answer.body().await.map_err(|error| self.broken(&error))?;
        let session: Value = serde_json::from_slice(&bytes)?;
        match session["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => {
                Err(self.child.failure(&format!("created no session: {}", String::from_utf8_lossy(&bytes))))
            }
        }
    }

    /// For requests in real time.
    pub(super) fn uploads(&self) -> io::Result<Uploads> {
        Uploads::new(&self.api, KEY)
    }

    /// Posts a body that is there, and reads the whole answer.
    pub(super) async fn post(&self, path: &str, accept: &str, body: Bytes) -> io::Result<Answer> {
        let request = self.http.post(self.url(path)).insert_header((header::ACCEPT, accept));
        let mut answer = request.send_body(body).await.map_err(|error| self.broken(&error))?;
        let here = monotonic_now();
        let body = answer.body().limit(MAX_ANSWER).await.map_err(|error| self.broken(&error))?;
        Ok(Answer { status: answer.status().as_u16(), body, here })
    }

    /// Calls and reads the whole answer.
    pub(super) async fn get(&self, path: &str) -> io::Result<Bytes> {
        let mut answer = self.http.get(self.url(path)).send().await.map_err(|error| self.broken(&error))?;
        let body = answer.body().limit(MAX_ANSWER).await.map_err(|error| self.broken(&error))?;
        if answer.status().is_success() {
            Ok(body)
        } else {
            Err(self.child.failure(&format!("answered GET {path} with {}", answer.status())))
        }
    }

    /// Ends a session.
    pub(super) async fn delete(&self, id: &str) -> io::Result<()> {
        let url = self.url(&format!("/v1/sessions/{id}"));
        let mut answer = self.http.delete(url).send().await.map_err(|error| self.broken(&error))?;
        let _body = answer.body().await.map_err(|error| self.broken(&error))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(self.child.failure(&format!("answered DELETE with {}", answer.status())))
        }
    }

    /// The text of the metrics.
    pub(super) async fn metrics_text(&self) -> io::Result<Bytes> {
        let url = format!("{}/metrics", self.admin);
        let mut answer = self.http.get(url).send().await.map_err(|error| self.broken(&error))?;
        answer.body().limit(MAX_ANSWER).await.map_err(|error| self.broken(&error))
    }

    /// The metrics.
    pub(super) async fn metrics(&self) -> io::Result<Figures> {
        Ok(Figures::read(&String::from_utf8_lossy(&self.metrics_text().await?)))
    }

    /// Token calls that did not give a token.
    pub(super) async fn failed_attempts(&self) -> io::Result<f64> {
        let calls = self.metrics().await?.by("greenroom_token_request_seconds_count", "outcome");
        Ok(calls.iter().filter(|(outcome, _)| *outcome != "ok").fold(0.0, |sum, (_, count)| sum + count))
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> io::Error {
        self.child.failure(&format!("did not answer: {error}"))
    }
}

/// The addresses in the line that Greenroom writes once it serves.
fn addresses(log: &str) -> Option<(String, String)> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let (data, admin) = (line["data"].as_str()?, line["admin"].as_str()?);
        Some((format!("http://{data}"), format!("http://{admin}")))
    })
}

/// What a deployment has, but for the sessions' log lines: a log of warnings is a common choice, and how fast a
/// disk takes lines is not what is measured.
fn configuration(args: &Args, service: &Service, place: &Path) -> String {
    let in_flight = args.in_flight;
    let store = match args.memory {
        true => "memory:".to_owned(),
        false => format!("redb:{}", place.join("greenroom.redb").display()),
    };
    let ca = service.ca.as_ref().map(|path| format!("ca = {path:?}\n")).unwrap_or_default();
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\nkey = \"{ADMIN_KEY}\"\n\
         [upstream]\nconsole_url = \"{}\"\ningress_url = \"{}\"\n{ca}\
         [upstream.gate]\nmax_in_flight = {in_flight}\nper_second = {}\n\
         [sessions]\nmax = 20000\n[store]\nurl = \"{store}\"\n\
         [telemetry]\nlog_format = \"json\"\nlog_level = \"error,greenroom::cli=info\"\n\
         [[tenants]]\nid = \"bench\"\napp_id = \"bench\"\nupstream_api_key = \"bench-upstream\"\n\
         keys = [\"{KEY}\"]\nmax_sessions = 20000\n",
        service.console,
        service.ingress,
        args.gate_per_second(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_in_the_line_that_says_them() {
        let log = "no json\n{\"message\":\"else\"}\n{\"message\":\"greenroom serves\",\"data\":\"127.0.0.1:1\",\"admin\":\"127.0.0.1:2\"}\n";
        let found = addresses(log);
        assert_eq!(found, Some(("http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned())));
        assert_eq!(addresses("{}"), None);
    }
}
