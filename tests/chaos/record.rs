//! What the service has seen: its record, read as it grows, since it keeps the last 10,000 events only.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use greenroom::simulator::Digest;
use serde_json::Value;

use super::{
    actors::{Clip, Quiet, audio},
    ground::Ground,
};

/// The service forgets more than this at once.
const ALL_KEPT: usize = 10_000;

/// An attempt that was under way when a session was parked may be seen this much later.
const UNDER_WAY: Duration = Duration::from_millis(1500);

/// Events of an avatar that are kept to be shown.
const STORY: usize = 80;

/// A service that does not read looks every 20 ms whether its client has left, and may be held up itself.
const NOTICES_MS: u64 = 100;

#[derive(Default)]
pub(crate) struct Record {
    since: u64,
    seen: BTreeSet<String>,
    /// Upgrades by avatar, in milliseconds of the service's clock.
    attempts: BTreeMap<String, Vec<u64>>,
    /// The latest of each piece of audio: avatar, request, bytes, digest.
    audio: BTreeMap<(String, String), (String, u64, String)>,
    /// When each connection began and ended: avatar, milliseconds.
    connections: BTreeMap<String, (String, u64, Option<u64>)>,
    /// The latest events by avatar, for whoever reads of a failure.
    story: BTreeMap<String, VecDeque<String>>,
    pub(crate) confirmed: u64,
    /// Whether events were lost because too many came at once.
    pub(crate) has_gaps: bool,
}

impl Record {
    pub(crate) fn read(&mut self, ground: &Ground) {
        let events = ground.service.get(&format!("/_sim/record?since={}", self.since)).is(200).json();
        let events = events.as_array().unwrap();
        self.has_gaps |= events.len() >= ALL_KEPT;
        let before = self.since;
        for event in events {
            self.since = self.since.max(event["until_ms"].as_u64().unwrap());
        }
        let mut seen = BTreeSet::new();
        for event in events {
            let text = event.to_string();
            let is_new = event["at_ms"].as_u64() > Some(before) || !self.seen.contains(&text);
            if event["at_ms"].as_u64() == Some(self.since) {
                seen.insert(text);
            }
            if is_new
                && event["event"] != "frames"
                && let Some(avatar) = event["avatar_id"].as_str()
            {
                let story = self.story.entry(avatar.to_owned()).or_default();
                if story.len() == STORY {
                    story.pop_front();
                }
                story.push_back(event.to_string());
            }
            self.take(event, is_new);
        }
        self.seen = seen;
    }

    fn take(&mut self, event: &Value, is_new: bool) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str().unwrap() {
            "upgrade_granted" | "upgrade_refused" if is_new => {
                let at = event["at_ms"].as_u64().unwrap();
                self.attempts.entry(text("avatar_id")).or_default().push(at);
                if event["event"] == "upgrade_granted" {
                    self.connections.insert(text("connection_id"), (text("avatar_id"), at, None));
                }
            }
            "left" | "dropped" | "close_sent" | "close_received" => {
                // What says first that it is over: a close frame's answer may come long after the next connection.
                if let Some((_, _, end)) = self.connections.get_mut(&text("connection_id")) {
                    *end = end.or(event["at_ms"].as_u64());
                }
            }
            "confirmed" if is_new => self.confirmed += 1,
            "audio" => {
                let key = (text("connection_id"), text("req_id"));
                let bytes = event["bytes"].as_u64().unwrap();
                self.audio.insert(key, (text("avatar_id"), bytes, text("digest")));
            }
            _ => {}
        }
    }

    /// Connections that began while another one of the same session was open, as the service sees it. Where packets are
    /// lost it may hear of the end of one after the beginning of the next, since only what is of one connection keeps
    /// its order; so what began in a `lossy` time is not counted.
    pub(crate) fn two_at_once(&self, lossy: &[RangeInclusive<u64>]) -> Vec<String> {
        let mut of: BTreeMap<&str, Vec<(u64, u64, &str)>> = BTreeMap::new();
        for (connection, (avatar, begin, end)) in &self.connections {
            of.entry(avatar).or_default().push((*begin, end.unwrap_or(u64::MAX), connection));
        }
        let mut found = Vec::new();
        for (avatar, mut connections) in of {
            connections.sort_unstable();
            for pair in connections.windows(2) {
                let ((_, end, earlier), (begin, _, later)) = (pair[0], pair[1]);
                if end > begin + NOTICES_MS && !lossy.iter().any(|span| span.contains(&begin)) {
                    // The verdict last: of a long output the end is what is kept.
                    let end =
                        if end == u64::MAX { "the end of the run".to_owned() } else { format!("{end} ms") };
                    found.push(format!(
                        "{}\n{avatar}: {earlier} until {end}, {later} from {begin} ms",
                        self.story(avatar)
                    ));
                }
            }
        }
        found
    }

    /// What happened to an avatar.
    pub(crate) fn story(&self, avatar: &str) -> String {
        let events = self.story.get(avatar).into_iter().flatten();
        events.map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Attempts that were made while nothing may be tried. `zero` is when the service's clock was 0.
    pub(crate) fn attempts_in(&self, quiet: &[Quiet], zero: Instant) -> Vec<String> {
        let mut found = Vec::new();
        for Quiet { avatar, from, to } in quiet {
            let from = (*from + UNDER_WAY).duration_since(zero).as_millis() as u64;
            let to = to.map_or(u64::MAX, |to| to.duration_since(zero).as_millis() as u64);
            let attempts = self.attempts.get(avatar).into_iter().flatten();
            found.extend(attempts.filter(|at| (from..to).contains(at)).map(|at| {
                format!("{avatar} knocked at {at} ms, and was parked or deleted from {from} to {to} ms")
            }));
        }
        found
    }

    /// Whatever the service heard and nobody said so: each piece must be a clip of its session from the begin on, and
    /// a clip that was completed must have been heard whole. Gives what is wrong, and how many pieces were looked at.
    pub(crate) fn audio_that_nobody_said(&self, clips: &[Clip]) -> (Vec<String>, usize) {
        let mut of: BTreeMap<&str, Vec<&Clip>> = BTreeMap::new();
        let mut by_id: BTreeMap<&str, &Clip> = BTreeMap::new();
        for clip in clips {
            by_id.extend(clip.req_id.as_deref().map(|id| (id, clip)));
            of.entry(&clip.avatar).or_default().push(clip);
        }
        let mut heard_whole = BTreeSet::new();
        let mut wrong = Vec::new();
        for ((connection, req_id), (avatar, bytes, digest)) in &self.audio {
            let length = usize::try_from(*bytes).unwrap();
            let said = |clip: &Clip| {
                let could = length <= clip.bytes && clip.avatar == *avatar;
                could && hex(&audio(clip.seed, clip.bytes)[..length]) == *digest
            };
            let by_its_id = by_id.get(req_id.as_str()).filter(|clip| said(clip));
            // What is sent again has a fresh id.
            let others = of.get(avatar.as_str()).into_iter().flatten();
            let found = by_its_id.or_else(|| others.into_iter().find(|clip| said(clip)));
            match found {
                Some(clip) if clip.bytes as u64 == *bytes => {
                    heard_whole.insert((clip.avatar.clone(), clip.seed));
                }
                Some(_) => {}
                None => {
                    wrong.push(format!("{avatar}, {connection}, {req_id}: {bytes} bytes that nobody said so"))
                }
            }
        }
        let completed = clips.iter().filter(|clip| clip.completed && !self.has_gaps);
        wrong.extend(completed.filter(|clip| !heard_whole.contains(&(clip.avatar.clone(), clip.seed))).map(
            |clip| {
                format!(
                    "{} was told that {:?} is completed, and it was never heard whole",
                    clip.avatar, clip.req_id
                )
            },
        ));
        (wrong, self.audio.len())
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.feed(bytes);
    serde_json::to_value(digest).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn a_second_connection_is_seen_unless_the_end_of_the_first_may_have_been_lost() {
    let mut record = Record::default();
    let mut event = |at: u64, what: &str, connection: &str| {
        let event =
            serde_json::json!({"at_ms": at, "event": what, "connection_id": connection, "avatar_id": "a"});
        record.take(&event, true);
    };
    event(1000, "upgrade_granted", "one");
    event(2000, "close_sent", "one");
    event(2050, "upgrade_granted", "two");
    event(2300, "close_received", "one");
    event(3000, "upgrade_granted", "three");
    event(3500, "left", "two");
    let found = record.two_at_once(&[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("two until 3500 ms, three from 3000 ms"), "{found:?}");
    assert_eq!(record.two_at_once(&[2000..=2999, 3001..=4000]).len(), 1);
    assert_eq!(record.two_at_once(&[2500..=3000]), Vec::<String>::new());
}
