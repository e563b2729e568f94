//! The simulator, in a process of its own.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use clap::ValueEnum as _;
use serde::Deserialize;
use serde_json::json;

use super::{
    Args,
    children::{self, Child, Usage},
    rival::Entrance,
    secured::Certificate,
};
use crate::simulator::Pace;

/// Starting takes milliseconds; a machine that is busy takes longer.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// From one reading of the simulator's record to the next. It keeps 10,000 events, and a client that
/// reconnects 5,000 sessions without a gate makes 20,000 within a second.
const RECORD_PERIOD: Duration = Duration::from_millis(200);
/// As much as all statistics of 20,000 sessions need.
const MAX_ANSWER: usize = 64 << 20;
/// The control API answers within milliseconds, or the simulator is starved.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// The simulator, as a child.
pub(super) struct Service {
    child: Child,
    /// Where it listens in clear.
    control: String,
    pub(super) console: String,
    pub(super) ingress: String,
    /// The authority of its certificate, where it is reached over TLS.
    pub(super) ca: Option<PathBuf>,
    http: awc::Client,
}

/// What is read of its statistics.
#[derive(Debug, Deserialize)]
pub(super) struct Stats {
    pub(super) uptime_s: f64,
    pub(super) frames_sent: u64,
    pub(super) violations: Violations,
    pub(super) max_session_peak: u64,
}

/// Breaches of the protocol.
#[derive(Debug, Deserialize)]
pub(super) struct Violations {
    pub(super) total: u64,
}

/// What is read of an event of its record.
#[derive(Debug, Deserialize)]
struct Event {
    at_ms: u64,
    avatar_id: Option<String>,
    event: String,
}

/// How the sessions came back, as the simulator saw it. Times are its own, in ms.
#[derive(Debug, Default)]
pub(super) struct Return {
    dropped: BTreeMap<String, u64>,
    confirmed: BTreeMap<String, u64>,
    upgrades: Vec<u64>,
}

impl Return {
    fn note(&mut self, event: Event) {
        match (event.event.as_str(), event.avatar_id) {
            ("dropped", Some(avatar)) => {
                self.dropped.entry(avatar).or_insert(event.at_ms);
            }
            ("confirmed", Some(avatar)) => {
                self.confirmed.entry(avatar).or_insert(event.at_ms);
            }
            ("upgrade_granted" | "upgrade_refused", _) => self.upgrades.push(event.at_ms),
            _ => {}
        }
    }

    /// Sessions that are back.
    pub(super) fn back(&self) -> usize {
        self.confirmed.len()
    }

    /// For each session the time from its loss until it was confirmed again.
    pub(super) fn recoveries(&self) -> impl Iterator<Item = Duration> {
        self.confirmed.iter().filter_map(|(avatar, confirmed)| {
            let dropped = self.dropped.get(avatar)?;
            Some(Duration::from_millis(confirmed.saturating_sub(*dropped)))
        })
    }

    /// Seconds from the first loss to the first session that was confirmed again.
    pub(super) fn first_back_s(&self) -> f64 {
        let (lost, back) = (self.dropped.values().min(), self.confirmed.values().min());
        lost.zip(back).map_or(0.0, |(lost, back)| back.saturating_sub(*lost) as f64 / 1000.0)
    }

    /// Seconds from the first session that was confirmed to the last.
    pub(super) fn first_to_last_s(&self) -> f64 {
        let (first, last) = (self.confirmed.values().min(), self.confirmed.values().max());
        first.zip(last).map_or(0.0, |(first, last)| (last - first) as f64 / 1000.0)
    }

    /// Upgrades in all.
    pub(super) fn attempts(&self) -> usize {
        self.upgrades.len()
    }

    /// The most upgrades within one second, wherever it begins.
    pub(super) fn worst_second(&self) -> usize {
        let mut times = self.upgrades.clone();
        times.sort_unstable();
        let mut first = 0;
        let mut worst = 0;
        for (last, at) in times.iter().enumerate() {
            while times[first] + 1000 <= *at {
                first += 1;
            }
            worst = worst.max(last + 1 - first);
        }
        worst
    }
}

impl Service {
    pub(super) async fn start(pace: Pace, args: &Args) -> io::Result<Self> {
        let pace = pace.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = Command::new(children::own_program()?);
        command.args(["simulate", "--listen", "127.0.0.1:0", "--stamp-frames", "--pace", &pace]);
        command.args(["--workers", &args.simulator_workers.to_string()]);
        let folder = children::place()?;
        let certificate = if args.tls { Some(Certificate::make(folder.path())?) } else { None };
        if let Some(certificate) = &certificate {
            command.args(["--tls-listen", "127.0.0.1:0", "--tls-cert"]).arg(&certificate.cert);
            command.arg("--tls-key").arg(&certificate.key);
        }
        let mut child = Child::spawn("the simulator", command, folder)?;
        let mut place = async |name: &str| {
            let line = child.line(START_DEADLINE).await?;
            let value = line.strip_prefix(name).map(|value| value.trim().to_owned());
            value.ok_or_else(|| child.failure(&format!("said {line:?} where {name} was due")))
        };
        let console = place("console").await?;
        let ingress = place("ingress").await?;
        let control = console.clone();
        let (console, ingress) = match &certificate {
            None => (console, ingress),
            Some(_) => {
                place("control").await?;
                let both = place("tls").await?;
                let (console, ingress) =
                    both.split_once(", ").ok_or_else(|| io::Error::other("no TLS addresses"))?;
                (console.to_owned(), ingress.to_owned())
            }
        };
        let http = awc::Client::builder().timeout(ANSWER_DEADLINE).finish();
        Ok(Self { child, control, console, ingress, ca: certificate.map(|made| made.ca), http })
    }

    /// The way to it; it takes any key.
    pub(super) fn entrance(&self) -> Entrance {
        let (console, ingress) = (self.console.clone(), self.ingress.clone());
        Entrance { console, ingress, key: "bench-upstream".to_owned(), ca: self.ca.clone() }
    }

    pub(super) fn usage(&self) -> io::Result<Usage> {
        self.child.usage()
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> io::Result<bytes::Bytes> {
        let url = format!("{}/_sim/{path}", self.control);
        let request = if method == "GET" { self.http.get(url) } else { self.http.post(url) };
        let sending = match body {
            Some(body) => request.send_json(&body),
            None => request.send(),
        };
        let mut answer =
            sending.await.map_err(|error| self.child.failure(&format!("did not answer: {error}")))?;
        answer.body().limit(MAX_ANSWER).await.map_err(io::Error::other)
    }

    pub(super) async fn stats(&self) -> io::Result<Stats> {
        Ok(serde_json::from_slice(&self.call("GET", "stats", None).await?)?)
    }

    /// Ends all connections without a close frame; those who come back are told by [`Self::watch`].
    pub(super) async fn drop_all(&self) -> io::Result<()> {
        self.call("POST", "drop", Some(json!({}))).await?;
        Ok(())
    }

    /// Refuses new connections for a time, and ends those that there are.
    pub(super) async fn outage(&self, time: Duration) -> io::Result<()> {
        let for_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.call("POST", "down", Some(json!({"down": true, "for_ms": for_ms}))).await?;
        // On the control connection that asked, which stays open.
        self.drop_all().await
    }

    /// Milliseconds on the simulator's clock.
    pub(super) async fn now_ms(&self) -> io::Result<u64> {
        Ok((self.stats().await?.uptime_s * 1000.0) as u64)
    }

    /// Reads the record from `since_ms` on, until `sessions` are confirmed again or the time is over.
    pub(super) async fn watch(
        &self,
        since_ms: u64,
        sessions: usize,
        longest: Duration,
    ) -> io::Result<Return> {
        let mut seen = Return::default();
        // The record is in the order of time: what was read of the last millisecond is left out the next time.
        let (mut from, mut read_of_it) = (since_ms, 0);
        let began = Instant::now();
        let mut ticks = tokio::time::interval(RECORD_PERIOD);
        while seen.back() < sessions && began.elapsed() < longest {
            ticks.tick().await;
            let path = format!("record?since={from}");
            let events: Vec<Event> = serde_json::from_slice(&self.call("GET", &path, None).await?)?;
            let mut skip = read_of_it;
            for event in events {
                if event.at_ms == from && skip > 0 {
                    skip -= 1;
                    continue;
                }
                if event.at_ms > from {
                    (from, read_of_it) = (event.at_ms, 0);
                }
                read_of_it += 1;
                seen.note(event);
            }
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_second_is_found_wherever_it_begins() {
        let mut seen = Return::default();
        for at_ms in [0, 600, 900, 1500, 1599, 1600, 4000] {
            seen.note(Event { at_ms, avatar_id: None, event: "upgrade_granted".to_owned() });
        }
        assert_eq!((seen.attempts(), seen.worst_second()), (7, 4));
        assert_eq!(Return::default().worst_second(), 0);
    }

    #[test]
    fn a_recovery_is_from_the_first_loss_to_the_first_confirm_after_it() {
        let mut seen = Return::default();
        for (at_ms, avatar, event) in [
            (10, "a", "dropped"),
            (30, "b", "dropped"),
            (110, "a", "confirmed"),
            (250, "b", "confirmed"),
            (300, "a", "confirmed"),
        ] {
            seen.note(Event { at_ms, avatar_id: Some(avatar.to_owned()), event: event.to_owned() });
        }
        let recoveries: Vec<u128> = seen.recoveries().map(|time| time.as_millis()).collect();
        assert_eq!(recoveries, [100, 220]);
        assert_eq!((seen.first_back_s(), seen.first_to_last_s()), (0.1, 0.14));
    }
}
