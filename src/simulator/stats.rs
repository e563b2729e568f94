//! What the simulator has seen: the answer of `GET /_sim/stats`.

use std::collections::BTreeMap;

use serde::Serialize;

/// Everything, at one moment. Every list and map in it is bounded.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Since the start, in seconds.
    pub uptime_s: f64,
    /// WebSocket connections.
    pub connections: Connections,
    /// Per (app id, avatar id); with one avatar id a session, the proof of "never two connections at once".
    /// At most 20,000; those that never overlapped leave first.
    pub sessions: Vec<SessionStats>,
    /// The greatest `peak` of all sessions, also of those that have left the list.
    pub max_session_peak: u64,
    /// Calls of the token endpoint.
    pub token_calls: Attempts,
    /// Upgrade requests.
    pub upgrades: Attempts,
    /// Upgrade requests by avatar id; at most 20,000 ids, the rest under `_other`.
    pub attempts_by_avatar: BTreeMap<String, u64>,
    /// Tokens given out.
    pub tokens_given: u64,
    /// Token calls refused, by HTTP status.
    pub tokens_refused: BTreeMap<u16, u64>,
    /// Upgrades refused, by HTTP status.
    pub upgrades_refused: BTreeMap<u16, u64>,
    /// ClientAudioInput payload in all, in bytes.
    pub audio_bytes: u64,
    /// ServerResponseAnimation messages in all, the final ones of interrupted requests included.
    pub frames_sent: u64,
    /// Requests by how they stand: `open`, or how they ended.
    pub requests_by_state: BTreeMap<RequestState, u64>,
    /// The last 10,000 requests, by id.
    pub requests: BTreeMap<String, RequestStats>,
    /// What clients did that the protocol does not allow.
    pub violations: Violations,
    /// Connected seconds per API key, live connections included; at most 10,000 keys, the rest under `_other`.
    pub connected_seconds: BTreeMap<String, f64>,
    /// Faults that have struck.
    pub faults_struck: u64,
}

impl Stats {
    /// The record of one session key.
    pub fn session(&self, app_id: &str, avatar_id: &str) -> Option<&SessionStats> {
        self.sessions.iter().find(|session| session.app_id == app_id && session.avatar_id == avatar_id)
    }

    /// Requests that stand so.
    pub fn requests_in(&self, state: RequestState) -> u64 {
        self.requests_by_state.get(&state).copied().unwrap_or_default()
    }
}

/// WebSocket connections. One counts from its upgrade until either side ended it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Upgraded in all.
    pub total: u64,
    /// Now.
    pub live: u64,
    /// The most at one time.
    pub peak: u64,
    /// Confirmed in all.
    pub confirmed: u64,
    /// Upgraded, not confirmed, not ended: now.
    pub unconfirmed: u64,
    /// The most of these at one time.
    pub peak_unconfirmed: u64,
}

/// One session key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionStats {
    /// From the upgrade.
    pub app_id: String,
    /// From the upgrade.
    pub avatar_id: String,
    /// Connections in all.
    pub connections: u64,
    /// Connections now.
    pub live: u64,
    /// The greatest number of connections at one time.
    pub peak: u64,
}

/// How often something was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attempts {
    /// In all.
    pub total: u64,
    /// The most within any second (a sliding one, not one of the clock's).
    pub max_per_second: u64,
    /// Counts of the last 600 seconds (of the simulator's clock), the current one last.
    pub per_second: Vec<u64>,
}

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Audio came, and not all frames are out.
    Open,
    /// The last frame is out.
    Completed,
    /// ClientInterrupt ended it.
    Interrupted,
    /// A scripted ServerError named it.
    Failed,
    /// Its connection ended first.
    Lost,
}

/// One request, as one connection saw it. An id that comes again (on another connection) begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestStats {
    /// The connection's id.
    pub connection_id: String,
    /// The connection's avatar id.
    pub avatar_id: String,
    /// ClientAudioInput messages.
    pub chunks: u64,
    /// Their audio, in bytes.
    pub audio_bytes: u64,
    /// Frames sent.
    pub frames: u64,
    /// How it stands.
    pub state: RequestState,
}

/// What clients did that the protocol does not allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Violations {
    /// In all.
    pub total: u64,
    /// The last 20, oldest first.
    pub last: Vec<String>,
}
