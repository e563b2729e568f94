//! Requests that a client may send twice, and that are carried out once.
//!
//! A request with an `Idempotency-Key` is *begun*: its key is written, with the digest of its body and the process
//! that has it in hand. Its answer is staged into the same batch as what it made, so that both are there or
//! neither. So a key that a dead process left without an answer has done nothing, and is begun anew.

mod orphans;
mod sending;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Records, UnixMillis, envelope};
use crate::{
    recovery::TenantId,
    store::{Batch, Expect, Key, Prefix, Protected, Range, Revision, StoreError, Vault, key::hex},
};

pub(super) use orphans::Orphans;
pub use sending::{AskedAudio, BegunAudio};

/// How long a key is known, in hours.
pub const IDEMPOTENCY_HOURS: u64 = 24;

const FIELD: &str = "answer";
const VERSION: u32 = 1;
/// Keys that one batch of a sweep deletes: each with its expiry and a condition.
const SWEEP: usize = Batch::MAX_CHANGES / 2;

/// A request that a client may send twice.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whose request.
    pub tenant: &'a TenantId,
    /// Method and path.
    pub route: &'a str,
    /// What the client gave as `Idempotency-Key`.
    pub key: &'a str,
    /// The body as it came.
    pub body: &'a [u8],
    /// A name of this process that no other had: random, drawn at its start.
    pub process: &'a str,
    /// The time.
    pub now: UnixMillis,
}

/// The right to carry a request out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    key: Key,
    revision: Revision,
    body: String,
    expires_at: UnixMillis,
    /// The request for audio that the key is bound to.
    req_id: Option<String>,
}

/// An answer that is given again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The status.
    pub status: u16,
    /// The headers that belong to it, such as `ETag` and `Location`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Carry it out.
    New(Ticket),
    /// It is in hand already: 409.
    InFlight,
    /// It was answered: the same again.
    Answered(StoredAnswer),
    /// The key was used for another body: 422.
    OtherBody,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    body: String,
    expires_at: UnixMillis,
    progress: Progress,
    /// The request for audio that the key is bound to; the body's digest is empty until its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    req_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Progress {
    /// In hand of this process.
    InFlight(String),
    /// Answered.
    Answered(Protected),
}

pub(super) fn reseal(vault: &Vault, key: &Key, value: &[u8]) -> Result<Option<Bytes>, StoreError> {
    let mut stored: Stored = envelope::decode(key, value, VERSION)?;
    let outdated = match &mut stored.progress {
        Progress::InFlight(_) => false,
        Progress::Answered(answer) => envelope::reseal(vault, key, FIELD, answer)?,
    };
    if outdated { envelope::encode(key, &stored).map(Some) } else { Ok(None) }
}

impl Records {
    /// Begins a request, or says what became of the one with the same key.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn begin(&self, asked: Asked<'_>) -> Result<Begun, StoreError> {
        let key = Key::idempotency(asked.tenant, asked.route, asked.key);
        let body = hex(digest(&SHA256, asked.body).as_ref());
        let expect = match self.store.get(&key).await? {
            None => Expect::Absent,
            Some(entry) => {
                let stored: Stored = envelope::decode(&key, &entry.value, VERSION)?;
                match stored.progress {
                    _ if stored.expires_at <= asked.now => {}
                    _ if stored.body != body => return Ok(Begun::OtherBody),
                    Progress::InFlight(process) if process == asked.process && !self.orphans.has(&key) => {
                        return Ok(Begun::InFlight);
                    }
                    Progress::InFlight(_) => {}
                    Progress::Answered(answer) => {
                        let text = self.vault.open(&key, FIELD, &answer)?;
                        let answer = serde_json::from_str(&text);
                        let answer = answer.map_err(|error| envelope::damaged(&key, &error))?;
                        return Ok(Begun::Answered(answer));
                    }
                }
                Expect::At(entry.revision)
            }
        };
        let expires_at = UnixMillis(asked.now.0 + IDEMPOTENCY_HOURS * 3_600_000);
        let progress = Progress::InFlight(asked.process.to_owned());
        let stored = Stored { v: VERSION, body: body.clone(), expires_at, progress, req_id: None };
        let value = envelope::encode(&key, &stored)?;
        let batch = Batch::new()
            .only_if(key.clone(), expect)
            .put(key.clone(), value)
            // The hour after, so that a sweep finds everything of its hour expired.
            .put(Key::expiry(expires_at.hour() + 1, &key), Bytes::new());
        Ok(match self.commit_begun(&key, batch).await? {
            Some(revision) => Begun::New(Ticket { key, revision, body, expires_at, req_id: None }),
            None => Begun::InFlight,
        })
    }

    /// Commits the batch that begins `key`; `None` where whoever was quicker has it in hand.
    async fn commit_begun(&self, key: &Key, batch: Batch) -> Result<Option<Revision>, StoreError> {
        let committed = self.store.commit(batch).await;
        self.orphans.note(key, &committed);
        match committed {
            Ok(revision) => Ok(Some(revision)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds the answer to a request to the batch that has what the request made. `holds_secrets` where the answer
    /// repeats any.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoEncryptionKey`] where it holds secrets and nothing seals them.
    pub fn stage_answer(
        &self,
        batch: Batch,
        ticket: &Ticket,
        answer: &StoredAnswer,
        holds_secrets: bool,
    ) -> Result<Batch, StoreError> {
        let Ticket { key, revision, body, expires_at, req_id } = ticket.clone();
        let text = serde_json::to_string(answer).map(Zeroizing::new);
        let text = text.map_err(|error| envelope::damaged(&key, &error))?;
        let answer = self.vault.seal(&key, FIELD, &text, holds_secrets)?;
        let stored = Stored { v: VERSION, body, expires_at, progress: Progress::Answered(answer), req_id };
        let value = envelope::encode(&key, &stored)?;
        Ok(batch.only_if(key.clone(), Expect::At(revision)).put(key, value))
    }

    /// Gives a request up that made nothing, so that it can be sent again.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn abandon(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let expiry = Key::expiry(ticket.expires_at.hour() + 1, &ticket.key);
        let batch = Batch::new()
            .only_if(ticket.key.clone(), Expect::At(ticket.revision))
            .delete(ticket.key.clone())
            .delete(expiry);
        match self.store.commit(batch).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Adds to `batch` what makes the ticket's request unsent, whatever became of it.
    pub fn stage_withdrawal(&self, batch: Batch, ticket: &Ticket) -> Batch {
        let expiry = Key::expiry(ticket.expires_at.hour() + 1, &ticket.key);
        batch.delete(ticket.key.clone()).delete(expiry)
    }

    /// Deletes keys that expired, and gives how many at most; to be called again while it gives any.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn sweep(&self, now: UnixMillis) -> Result<usize, StoreError> {
        let range = Range { prefix: Prefix::expiries(), after: None, limit: SWEEP };
        let (mut batch, mut swept) = (Batch::new(), 0);
        for entry in self.store.list(&range).await?.entries {
            let Some((hour, key)) = entry.key.expires() else { continue };
            if hour > now.hour() {
                break;
            }
            batch = batch.delete(entry.key);
            swept += 1;
            if let Some(found) = self.store.get(&key).await? {
                let stored: Stored = envelope::decode(&key, &found.value, VERSION)?;
                // A key that was begun anew has a later expiry of its own.
                if stored.expires_at <= now {
                    batch = batch.only_if(key.clone(), Expect::At(found.revision)).delete(key);
                }
            }
        }
        if batch.is_empty() {
            return Ok(0);
        }
        match self.store.commit(batch).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(swept),
            Err(error) => Err(error),
        }
    }
}
