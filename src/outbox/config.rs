//! The ledger's settings and bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Pieces of audio that may be held. Each costs some hundred bytes beside its audio, which no bound on audio
/// counts; this many 10 ms chunks fill the default `session_bytes` anyway.
pub(super) const MAX_PIECES: usize = 32_768;

/// Bytes in a second of the slowest encoding that speech is sent in (Opus at 6 kbit/s): where a format does not
/// tell its length, it is at most this long.
const SLOWEST_ENCODING: u32 = 750;

/// Connections that may break while a request is answered on them; a request that broke this many may be the
/// reason, and is not sent again.
pub(super) const MAX_BREAKS: u32 = 2;

/// What happens to requests that are open when a connection breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Continuity {
    /// They fail by name.
    Off,
    /// Those to which nothing was answered yet are sent again; the others fail by name.
    #[default]
    Unanswered,
    /// As `Unanswered`; and PCM whose played position is known is sent again from there.
    Resume,
}

impl Continuity {
    /// The spelling in JSON and TOML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Unanswered => "unanswered",
            Self::Resume => "resume",
        }
    }
}

/// The ledger's settings and bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// What a broken connection means for the requests on it.
    pub continuity: Continuity,
    /// Bytes of audio that are held: those that wait to be sent, and copies for a replay. Only the former push
    /// back; copies are dropped to make room for them.
    pub session_bytes: usize,
    /// How long audio may wait to be sent, from when its request began to wait: speech that is older is stale, and
    /// nobody wants to see it.
    pub max_age: Duration,
    /// How long an answer may take beyond the length of the request's audio, from its last chunk.
    pub grace: Duration,
    /// How long a deadline stands still for one pause. The service ends a pause that is held too long; this is
    /// for one that it does not end.
    pub max_pause: Duration,
    /// Bytes of audio in a second, by which a request's length is known and by which it can be cut: 16 bit PCM.
    /// `None` where the format does not tell.
    pub bytes_per_second: Option<u32>,
    /// Open requests at a time: clients have one or two; more is a mistake that must not grow memory.
    pub max_open: usize,
    /// Ended requests that are still known, so that what comes late for one is seen to be late: some minutes of talk.
    /// Whoever asks for an older one is answered from the store.
    pub keep_ended: usize,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            continuity: Continuity::default(),
            session_bytes: 8 << 20,
            max_age: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            max_pause: Duration::from_secs(3600),
            bytes_per_second: Some(32_000),
            max_open: 64,
            keep_ended: 16,
        }
    }
}

impl LedgerConfig {
    /// How long `bytes` of audio last, at most.
    pub(super) fn length(&self, bytes: u64) -> Duration {
        let rate = u64::from(self.bytes_per_second.unwrap_or(SLOWEST_ENCODING).max(1));
        // Less than a second, so that neither the product nor the result is too large for its type.
        let nanos = (bytes % rate) * 1_000_000_000 / rate;
        Duration::new(bytes / rate, u32::try_from(nanos).unwrap_or_default())
    }
}
