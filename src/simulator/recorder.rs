//! Keeps the counts behind [`Stats`]. Pure: `now` is the time since the simulator's start.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use super::stats::{Attempts, Connections, RequestState, RequestStats, SessionStats, Stats, Violations};

/// Twice the sessions of the largest test.
const MAX_SESSIONS: usize = 20_000;
const MAX_AVATARS: usize = 20_000;
const MAX_API_KEYS: usize = 10_000;
const MAX_REQUESTS: usize = 10_000;
const MAX_VIOLATION_TEXTS: usize = 20;
const RING_SECONDS: usize = 600;
/// Where what does not fit is counted.
const OTHER: &str = "_other";

/// Counts attempts by second, and the most within a sliding second.
#[derive(Debug, Default)]
pub(super) struct Rate {
    total: u64,
    max_per_second: u64,
    /// Attempts of the last second; as many as can be made in one.
    recent: VecDeque<Duration>,
    ring: VecDeque<u64>,
    /// The second of the ring's last entry.
    second: u64,
}

impl Rate {
    pub(super) fn count(&mut self, now: Duration) {
        self.turn(now);
        self.total += 1;
        if let Some(current) = self.ring.back_mut() {
            *current += 1;
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| now.saturating_sub(*first) >= Duration::from_secs(1)) {
            self.recent.pop_front();
        }
        self.max_per_second = self.max_per_second.max(self.recent.len() as u64);
    }

    /// Moves the ring to the second of `now`.
    fn turn(&mut self, now: Duration) {
        let second = now.as_secs();
        let steps = if self.ring.is_empty() { 1 } else { second.saturating_sub(self.second) };
        for _ in 0..steps.min(RING_SECONDS as u64) {
            self.ring.push_back(0);
        }
        while self.ring.len() > RING_SECONDS {
            self.ring.pop_front();
        }
        self.second = self.second.max(second);
    }

    fn report(&mut self, now: Duration) -> Attempts {
        self.turn(now);
        Attempts {
            total: self.total,
            max_per_second: self.max_per_second,
            per_second: self.ring.iter().copied().collect(),
        }
    }
}

/// Adds to a map that takes at most `max` keys.
fn add<V: Default + std::ops::AddAssign>(map: &mut BTreeMap<String, V>, max: usize, key: &str, value: V) {
    let key = if map.len() < max || map.contains_key(key) { key } else { OTHER };
    match map.get_mut(key) {
        Some(sum) => *sum += value,
        None => {
            map.insert(key.into(), value);
        }
    }
}

#[derive(Debug, Default)]
struct Session {
    connections: u64,
    live: u64,
    peak: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) token_calls: Rate,
    pub(super) upgrades: Rate,
    pub(super) tokens_given: u64,
    pub(super) faults_struck: u64,
    connections: Connections,
    sessions: HashMap<(String, String), Session>,
    max_session_peak: u64,
    by_avatar: BTreeMap<String, u64>,
    tokens_refused: BTreeMap<u16, u64>,
    upgrades_refused: BTreeMap<u16, u64>,
    audio_bytes: u64,
    frames_sent: u64,
    by_state: BTreeMap<RequestState, u64>,
    requests: HashMap<String, RequestStats>,
    request_order: VecDeque<String>,
    violations: u64,
    violation_texts: VecDeque<String>,
    connected_seconds: BTreeMap<String, f64>,
}

impl Recorder {
    pub(super) fn upgrade_called(&mut self, avatar_id: &str, now: Duration) {
        self.upgrades.count(now);
        add(&mut self.by_avatar, MAX_AVATARS, avatar_id, 1);
    }

    pub(super) fn token_refused(&mut self, status: u16) {
        *self.tokens_refused.entry(status).or_default() += 1;
    }

    pub(super) fn upgrade_refused(&mut self, status: u16) {
        *self.upgrades_refused.entry(status).or_default() += 1;
    }

    /// Whether a session key has a live connection.
    pub(super) fn is_live(&self, app_id: &str, avatar_id: &str) -> bool {
        self.sessions.get(&(app_id.into(), avatar_id.into())).is_some_and(|session| session.live > 0)
    }

    pub(super) fn connected(&mut self, app_id: &str, avatar_id: &str) {
        let connections = &mut self.connections;
        connections.total += 1;
        connections.live += 1;
        connections.peak = connections.peak.max(connections.live);
        connections.unconfirmed += 1;
        connections.peak_unconfirmed = connections.peak_unconfirmed.max(connections.unconfirmed);
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.retain(|_, session| session.live > 0 || session.peak > 1);
        }
        let session = self.sessions.entry((app_id.into(), avatar_id.into())).or_default();
        session.connections += 1;
        session.live += 1;
        session.peak = session.peak.max(session.live);
        self.max_session_peak = self.max_session_peak.max(session.peak);
    }

    pub(super) const fn confirmed(&mut self) {
        self.connections.confirmed += 1;
        self.connections.unconfirmed = self.connections.unconfirmed.saturating_sub(1);
    }

    pub(super) fn ended(
        &mut self,
        app_id: &str,
        avatar_id: &str,
        api_key: &str,
        was_confirmed: bool,
        lasted: Duration,
    ) {
        self.connections.live = self.connections.live.saturating_sub(1);
        if !was_confirmed {
            self.connections.unconfirmed = self.connections.unconfirmed.saturating_sub(1);
        }
        if let Some(session) = self.sessions.get_mut(&(app_id.into(), avatar_id.into())) {
            session.live = session.live.saturating_sub(1);
        }
        add(&mut self.connected_seconds, MAX_API_KEYS, api_key, lasted.as_secs_f64());
    }

    /// A chunk of audio came; `first` begins the request.
    pub(super) fn audio(&mut self, req_id: &str, first: bool, bytes: usize, of: (&str, &str)) {
        self.audio_bytes += bytes as u64;
        if first {
            self.begin_request(req_id, of);
        }
        if let Some(request) = self.requests.get_mut(req_id) {
            request.chunks += 1;
            request.audio_bytes += bytes as u64;
        }
    }

    fn begin_request(&mut self, req_id: &str, (connection_id, avatar_id): (&str, &str)) {
        *self.by_state.entry(RequestState::Open).or_default() += 1;
        let request = RequestStats {
            connection_id: connection_id.into(),
            avatar_id: avatar_id.into(),
            chunks: 0,
            audio_bytes: 0,
            frames: 0,
            state: RequestState::Open,
        };
        if self.requests.insert(req_id.into(), request).is_none() {
            self.request_order.push_back(req_id.into());
        }
        if self.request_order.len() > MAX_REQUESTS
            && let Some(oldest) = self.request_order.pop_front()
        {
            self.requests.remove(&oldest);
        }
    }

    pub(super) fn frame(&mut self, req_id: &str) {
        self.frames_sent += 1;
        if let Some(request) = self.requests.get_mut(req_id) {
            request.frames += 1;
        }
    }

    pub(super) fn request_ended(&mut self, req_id: &str, connection_id: &str, state: RequestState) {
        let open = self.by_state.entry(RequestState::Open).or_default();
        *open = open.saturating_sub(1);
        *self.by_state.entry(state).or_default() += 1;
        if let Some(request) = self.requests.get_mut(req_id)
            && request.connection_id == connection_id
        {
            request.state = state;
        }
    }

    pub(super) fn violation(&mut self, text: String) {
        self.violations += 1;
        if self.violation_texts.len() >= MAX_VIOLATION_TEXTS {
            self.violation_texts.pop_front();
        }
        self.violation_texts.push_back(text);
    }

    /// The whole. `live` are the live connections' API keys and how long each has lasted.
    pub(super) fn report<'a>(
        &mut self,
        now: Duration,
        live: impl Iterator<Item = (&'a str, Duration)>,
    ) -> Stats {
        let mut connected_seconds = self.connected_seconds.clone();
        for (api_key, lasted) in live {
            add(&mut connected_seconds, MAX_API_KEYS, api_key, lasted.as_secs_f64());
        }
        let session = |((app_id, avatar_id), session): (&(String, String), &Session)| SessionStats {
            app_id: app_id.clone(),
            avatar_id: avatar_id.clone(),
            connections: session.connections,
            live: session.live,
            peak: session.peak,
        };
        let mut sessions: Vec<_> = self.sessions.iter().map(session).collect();
        sessions.sort_by(|a, b| (&a.app_id, &a.avatar_id).cmp(&(&b.app_id, &b.avatar_id)));
        Stats {
            uptime_s: now.as_secs_f64(),
            connections: self.connections.clone(),
            sessions,
            max_session_peak: self.max_session_peak,
            token_calls: self.token_calls.report(now),
            upgrades: self.upgrades.report(now),
            attempts_by_avatar: self.by_avatar.clone(),
            tokens_given: self.tokens_given,
            tokens_refused: self.tokens_refused.clone(),
            upgrades_refused: self.upgrades_refused.clone(),
            audio_bytes: self.audio_bytes,
            frames_sent: self.frames_sent,
            requests_by_state: self.by_state.clone(),
            requests: self.requests.iter().map(|(id, request)| (id.clone(), request.clone())).collect(),
            violations: Violations {
                total: self.violations,
                last: self.violation_texts.iter().cloned().collect(),
            },
            connected_seconds,
            faults_struck: self.faults_struck,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(recorder: &mut Recorder) -> Stats {
        recorder.report(Duration::ZERO, std::iter::empty())
    }

    #[test]
    fn the_greatest_rate_is_that_of_a_sliding_second() {
        let mut rate = Rate::default();
        for ms in [0, 600, 900, 1100, 1500, 1700, 5000] {
            rate.count(Duration::from_millis(ms));
        }
        let report = rate.report(Duration::from_secs(6));
        assert_eq!((report.total, report.max_per_second), (7, 4), "600 and 1500 lie within a second");
        assert_eq!(report.per_second, [3, 3, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn the_ring_keeps_ten_minutes() {
        let mut rate = Rate::default();
        rate.count(Duration::ZERO);
        rate.count(Duration::from_secs(10_000));
        let report = rate.report(Duration::from_secs(10_001));
        assert_eq!(report.per_second.len(), RING_SECONDS);
        assert_eq!(report.per_second.iter().sum::<u64>(), 1);
    }

    #[test]
    fn the_peak_of_a_session_is_of_connections_at_the_same_time() {
        let mut recorder = Recorder::default();
        for _ in 0..3 {
            recorder.connected("a", "x");
            recorder.ended("a", "x", "k", false, Duration::from_secs(2));
        }
        recorder.connected("a", "y");
        recorder.connected("a", "y");
        let stats = recorder.report(Duration::ZERO, [("k", Duration::from_secs(1))].into_iter());
        assert_eq!(stats.session("a", "x").map(|session| (session.connections, session.peak)), Some((3, 1)));
        assert_eq!(stats.session("a", "y").map(|session| (session.live, session.peak)), Some((2, 2)));
        assert_eq!((stats.max_session_peak, stats.connections.live), (2, 2));
        assert_eq!(stats.connected_seconds["k"], 7.0);
    }

    #[test]
    fn lists_stay_within_their_bounds() {
        let mut recorder = Recorder::default();
        for number in 0..MAX_REQUESTS + 5 {
            recorder.audio(&format!("r{number}"), true, 10, ("c", "v"));
            recorder.violation(format!("v{number}"));
        }
        for number in 0..MAX_AVATARS + 5 {
            recorder.upgrade_called(&format!("v{number}"), Duration::ZERO);
        }
        let stats = report(&mut recorder);
        assert_eq!(stats.requests.len(), MAX_REQUESTS);
        assert!(!stats.requests.contains_key("r0") && stats.requests.contains_key("r10004"));
        assert_eq!(stats.violations.last.len(), MAX_VIOLATION_TEXTS);
        assert_eq!(stats.violations.total, 10_005);
        assert_eq!(stats.attempts_by_avatar[OTHER], 5);
    }

    #[test]
    fn a_request_ends_in_one_state() {
        let mut recorder = Recorder::default();
        recorder.audio("r", true, 10, ("c", "v"));
        recorder.audio("r", false, 10, ("c", "v"));
        recorder.frame("r");
        recorder.request_ended("r", "c", RequestState::Completed);
        let stats = report(&mut recorder);
        let request = &stats.requests["r"];
        assert_eq!((request.chunks, request.audio_bytes, request.frames), (2, 20, 1));
        assert_eq!(request.state, RequestState::Completed);
        assert_eq!(
            (stats.requests_in(RequestState::Open), stats.requests_in(RequestState::Completed)),
            (0, 1)
        );
    }
}
