//! Requests for audio: that they were accepted, and what became of them. Not their audio.
//!
//! A request is written when it is promised and when it has its outcome. One that a dead process left open has
//! failed: its audio was in that process's memory.

use serde::{Deserialize, Serialize};

use super::{Records, UnixMillis, envelope};
use crate::{
    errors::ErrorCode,
    recovery::SessionId,
    store::{Batch, Expect, Key, Prefix, StoreError},
};

/// Requests that are kept of a session, the latest: as many as its memory keeps.
pub const REQUESTS_PER_SESSION: usize = 128;

const VERSION: u32 = 1;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum OutcomeRecord {
    /// The service sent the last frame.
    Completed,
    /// A client or an operator ended it.
    Interrupted,
    /// It could not be answered.
    Failed {
        /// Why.
        code: ErrorCode,
    },
}

/// A request's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// How.
    #[serde(flatten)]
    pub outcome: OutcomeRecord,
    /// Why, where that needs words; secrets removed.
    pub reason: Option<String>,
    /// From the first accepted audio to the end, in milliseconds. A span, since the times are cut to milliseconds.
    pub total_ms: u64,
    /// From the first accepted audio to the first frame, in milliseconds.
    pub first_frame_ms: Option<u64>,
    /// Bytes of audio that were accepted.
    pub audio_bytes: u64,
    /// Frames that came for it.
    pub frames: u64,
    /// Connections that ended while it was answered on them.
    pub breaks: u32,
}

/// A request for audio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Its id, which begins with the time: of a session, ids sort as the requests began.
    pub req_id: String,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// The process that accepted it, where it was open when this was written.
    pub process: Option<String>,
    /// Its end, where it had one when this was written.
    pub end: Option<EndRecord>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    #[serde(flatten)]
    request: RequestRecord,
}

impl Records {
    /// Adds a request to `batch`, whatever was there.
    ///
    /// # Errors
    ///
    /// None that can be met in practice: a request is always JSON.
    pub fn stage_request(
        &self,
        batch: Batch,
        session: &SessionId,
        request: &RequestRecord,
    ) -> Result<Batch, StoreError> {
        let key = Key::request(session, &request.req_id);
        let value = envelope::encode(&key, &Stored { v: VERSION, request: request.clone() })?;
        Ok(batch.put(key, value))
    }

    /// Writes that a request was accepted, unless its outcome is written already. It outlives the process, and not
    /// the loss of power, with which its audio is lost anyway.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn accept_request(
        &self,
        session: &SessionId,
        request: &RequestRecord,
    ) -> Result<(), StoreError> {
        let key = Key::request(session, &request.req_id);
        let batch = self.stage_request(Batch::new().only_if(key, Expect::Absent), session, request)?;
        match self.store.commit(batch.logged()).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A request; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Those of the store, and of a record that cannot be read.
    pub async fn request(
        &self,
        session: &SessionId,
        req_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let key = Key::request(session, req_id);
        // What a caller names may be longer than any id of ours, and no key is.
        if key.as_str().len() > Key::MAX_BYTES {
            return Ok(None);
        }
        let Some(entry) = self.store.get(&key).await? else { return Ok(None) };
        envelope::decode::<Stored>(&key, &entry.value, VERSION).map(|stored| Some(stored.request))
    }

    /// Deletes all of a session's requests but the latest `keep`, and gives how many.
    ///
    /// # Errors
    ///
    /// Those of the store; some may be deleted then.
    pub async fn trim_requests(&self, session: &SessionId, keep: usize) -> Result<usize, StoreError> {
        self.trim(Prefix::requests(session), keep).await
    }
}
