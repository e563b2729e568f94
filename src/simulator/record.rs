//! What happened, one by one and with times: the answer of `GET /_sim/record`.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use serde::Serialize;

use super::faults::{Filter, Who};

/// Some megabytes, and minutes of a busy test.
const MAX_EVENTS: usize = 10_000;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Milliseconds since the simulator's start.
    pub at_ms: u64,
    /// For what is cumulated (audio, frames) the time of the last; `at_ms` for anything else.
    pub until_ms: u64,
    /// The avatar id, where there is one yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_id: Option<String>,
    /// The API key, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// The connection's id, where there is a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened. In JSON its name is the field `event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A token call was answered with a token.
    TokenGiven,
    /// A token call was refused.
    TokenRefused {
        /// The HTTP status.
        status: u16,
    },
    /// An upgrade was granted.
    UpgradeGranted,
    /// An upgrade was refused.
    UpgradeRefused {
        /// The HTTP status.
        status: u16,
    },
    /// The session was confirmed.
    Confirmed,
    /// Audio of one request came; one event for all of it.
    Audio {
        /// The request.
        req_id: String,
        /// ClientAudioInput messages.
        chunks: u64,
        /// Their audio, in bytes.
        bytes: u64,
        /// FNV-1a of their audio, one after another, in hexadecimal: what has the same length may yet have a gap
        /// and a piece twice.
        digest: Digest,
    },
    /// Frames of one request were sent; one event for all of them.
    Frames {
        /// The request.
        req_id: String,
        /// ServerResponseAnimation messages.
        frames: u64,
        /// Those with `end=true`.
        ends: u64,
    },
    /// A ServerError was sent.
    ErrorSent {
        /// Its code.
        code: i32,
        /// Its text.
        message: String,
        /// The request that it names, or "".
        req_id: String,
    },
    /// A close frame was sent, other than as an answer.
    CloseSent {
        /// Its code.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The client's close frame came, as an answer or first.
    CloseReceived {
        /// Its code, if it had one.
        code: Option<u16>,
    },
    /// The simulator ended the connection without a close frame.
    Dropped {
        /// With a reset.
        reset: bool,
    },
    /// The client ended the connection without a close frame.
    Left,
    /// A fault of the plan struck.
    FaultStruck {
        /// Its number.
        id: u64,
    },
}

/// FNV-1a, 64 bits: of everything that was fed, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Adds what comes next.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

/// An event that more of the same is added to.
enum Share<'a> {
    Audio { audio: &'a [u8] },
    Frame { end: bool },
}

struct Kept {
    event: Event,
    /// In `open`, for what is cumulated.
    key: Option<u64>,
}

/// The last events.
#[derive(Default)]
pub(super) struct Record {
    events: VecDeque<Kept>,
    /// Events that have left at the front.
    gone: u64,
    /// Cumulated events by the hash of what they are about, to their number: no text is made for a frame.
    open: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Record {
    pub(super) fn add(&mut self, now: Duration, who: &Who, connection_id: Option<&str>, what: Happening) {
        self.push(now, who, connection_id, what, None);
    }

    pub(super) fn audio(
        &mut self,
        now: Duration,
        who: &Who,
        connection_id: &str,
        req_id: &str,
        audio: &[u8],
    ) {
        self.cumulate(now, who, connection_id, req_id, &Share::Audio { audio });
    }

    pub(super) fn frame(&mut self, now: Duration, who: &Who, connection_id: &str, req_id: &str, end: bool) {
        self.cumulate(now, who, connection_id, req_id, &Share::Frame { end });
    }

    fn cumulate(&mut self, now: Duration, who: &Who, connection_id: &str, req_id: &str, share: &Share<'_>) {
        let key = self.hasher.hash_one((connection_id, req_id, matches!(share, Share::Audio { .. })));
        if !self.open.contains_key(&key) {
            let req_id = req_id.to_owned();
            let what = match share {
                Share::Audio { .. } => {
                    Happening::Audio { req_id, chunks: 0, bytes: 0, digest: Digest::default() }
                }
                Share::Frame { .. } => Happening::Frames { req_id, frames: 0, ends: 0 },
            };
            self.push(now, who, Some(connection_id), what, Some(key));
        }
        let at = self.open.get(&key).and_then(|number| usize::try_from(number - self.gone).ok());
        let Some(Kept { event, .. }) = at.and_then(|at| self.events.get_mut(at)) else { return };
        event.until_ms = millis(now);
        if let (Happening::Audio { chunks, bytes, digest, .. }, Share::Audio { audio }) =
            (&mut event.what, share)
        {
            *chunks += 1;
            *bytes += audio.len() as u64;
            digest.feed(audio);
        } else if let (Happening::Frames { frames, ends, .. }, Share::Frame { end }) =
            (&mut event.what, share)
        {
            *frames += 1;
            *ends += u64::from(*end);
        }
    }

    fn push(
        &mut self,
        now: Duration,
        who: &Who,
        connection_id: Option<&str>,
        what: Happening,
        key: Option<u64>,
    ) {
        if self.events.len() >= MAX_EVENTS
            && let Some(oldest) = self.events.pop_front()
        {
            self.gone += 1;
            if let Some(key) = oldest.key {
                self.open.remove(&key);
            }
        }
        if let Some(key) = key {
            self.open.insert(key, self.gone + self.events.len() as u64);
        }
        let at_ms = millis(now);
        let event = Event {
            at_ms,
            until_ms: at_ms,
            avatar_id: who.avatar_id.clone(),
            api_key: who.api_key.clone(),
            connection_id: connection_id.map(str::to_owned),
            what,
        };
        self.events.push_back(Kept { event, key });
    }

    /// The events of those who match that were still going on at `since_ms`, in the order of their beginning.
    pub(super) fn list(&self, filter: &Filter, since_ms: u64) -> Vec<Event> {
        let wanted = |event: &&Event| {
            let who = Who { avatar_id: event.avatar_id.clone(), ..Who::default() };
            event.until_ms >= since_ms && filter.matches(&who)
        };
        self.events.iter().map(|kept| &kept.event).filter(wanted).cloned().collect()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Who {
        Who { avatar_id: Some("a".into()), ..Who::default() }
    }

    #[test]
    fn audio_of_a_request_is_one_event_with_a_first_and_a_last_time() {
        let mut record = Record::default();
        for (ms, audio) in [(10, "foo"), (30, "bar")] {
            record.audio(Duration::from_millis(ms), &who(), "c", "r", audio.as_bytes());
        }
        record.frame(Duration::from_millis(40), &who(), "c", "r", true);
        record.audio(Duration::from_millis(50), &who(), "other", "r", b"x");
        let events = record.list(&Filter::default(), 0);
        assert_eq!(events.len(), 3);
        assert_eq!((events[0].at_ms, events[0].until_ms), (10, 30));
        // The published digest of "foobar".
        let digest = Digest(0x85944171f73967e8);
        assert_eq!(events[0].what, Happening::Audio { req_id: "r".into(), chunks: 2, bytes: 6, digest });
        assert_eq!(events[1].what, Happening::Frames { req_id: "r".into(), frames: 1, ends: 1 });
        assert_eq!(record.list(&Filter::default(), 30).len(), 3, "what went on at that time counts");
        assert_eq!(record.list(&Filter::default(), 31).len(), 2);
        assert_eq!(record.list(&Filter::avatar("b"), 0), []);
    }

    #[test]
    fn the_record_is_bounded_and_a_request_that_has_left_it_begins_anew() {
        let mut record = Record::default();
        record.audio(Duration::ZERO, &who(), "c", "r", b"x");
        for _ in 0..MAX_EVENTS {
            record.add(Duration::ZERO, &who(), None, Happening::TokenGiven);
        }
        record.audio(Duration::ZERO, &who(), "c", "r", b"x");
        let events = record.list(&Filter::default(), 0);
        assert_eq!((events.len(), record.open.len()), (MAX_EVENTS, 1));
        let last = events.last().map(|event| &event.what);
        assert!(matches!(last, Some(Happening::Audio { chunks: 1, bytes: 1, .. })), "{last:?}");
    }
}
