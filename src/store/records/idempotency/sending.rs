//! Requests for audio that a client may send twice, and that are spoken once.
//!
//! Their body is a stream: its digest is known at its end only, when some of it has been spoken. So the key is bound
//! to the request's id before any audio is taken, and is that request for good, whatever becomes of it: one that
//! broke off or whose process died is not begun anew. Only what was refused before anything of it was taken may be
//! sent again.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{FIELD, IDEMPOTENCY_HOURS, Progress, Stored, StoredAnswer, Ticket, VERSION};
use crate::{
    recovery::{SessionId, TenantId},
    store::{
        Batch, Expect, Key, Records, StoreError,
        records::{RequestRecord, UnixMillis, envelope},
    },
};

/// Audio that a client may send twice.
#[derive(Clone, Copy, Debug)]
pub struct AskedAudio<'a> {
    /// Whose request.
    pub tenant: &'a TenantId,
    /// Method and path.
    pub route: &'a str,
    /// What the client gave as `Idempotency-Key`.
    pub key: &'a str,
    /// A name of this process that no other had.
    pub process: &'a str,
    /// The time.
    pub now: UnixMillis,
    /// The session that it is for.
    pub session: &'a SessionId,
    /// The request that it begins or continues.
    pub req_id: &'a str,
    /// The record of the request, where it begins one.
    pub begins: Option<&'a RequestRecord>,
}

/// What is to be done about audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BegunAudio {
    /// Take it.
    New(Ticket),
    /// It is being taken already: 409.
    InFlight,
    /// The key is that of a request that was taken, wholly or not.
    Before {
        /// The request.
        req_id: String,
        /// The digest of its body; `None` where that did not come to its end.
        body: Option<String>,
        /// What was answered, where anything was.
        answer: Option<StoredAnswer>,
    },
}

impl Records {
    /// Begins to take audio, or says what became of the one with the same key.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn begin_audio(&self, asked: AskedAudio<'_>) -> Result<BegunAudio, StoreError> {
        let key = Key::idempotency(asked.tenant, asked.route, asked.key);
        let mut orphan = None;
        let expect = match self.store.get(&key).await? {
            None => Expect::Absent,
            Some(entry) => {
                let stored: Stored = envelope::decode(&key, &entry.value, VERSION)?;
                if stored.expires_at > asked.now {
                    if !self.is_orphan(&key, &stored, asked.process) {
                        return self.before(&key, stored, asked.process);
                    }
                    orphan = stored.req_id;
                }
                Expect::At(entry.revision)
            }
        };
        let expires_at = UnixMillis(asked.now.0 + IDEMPOTENCY_HOURS * 3_600_000);
        let stored = Stored {
            v: VERSION,
            body: String::new(),
            expires_at,
            progress: Progress::InFlight(asked.process.to_owned()),
            req_id: Some(asked.req_id.to_owned()),
        };
        let value = envelope::encode(&key, &stored)?;
        let mut batch = Batch::new()
            .only_if(key.clone(), expect)
            .put(key.clone(), value)
            .put(Key::expiry(expires_at.hour() + 1, &key), Bytes::new());
        if let Some(request) = asked.begins {
            // Of the one that was not begun nothing was taken.
            batch =
                orphan.iter().fold(batch, |batch, req_id| batch.delete(Key::request(asked.session, req_id)));
            batch = self.stage_request(batch, asked.session, request)?;
        }
        let Stored { body, req_id, .. } = stored;
        Ok(match self.commit_begun(&key, batch).await? {
            Some(revision) => BegunAudio::New(Ticket { key, revision, body, expires_at, req_id }),
            None => BegunAudio::InFlight,
        })
    }

    /// Whether the key is begun by this process, and nobody has it in hand.
    fn is_orphan(&self, key: &Key, stored: &Stored, process: &str) -> bool {
        matches!(&stored.progress, Progress::InFlight(by) if by == process) && self.orphans.has(key)
    }

    fn before(&self, key: &Key, stored: Stored, process: &str) -> Result<BegunAudio, StoreError> {
        let Stored { body, progress, req_id, .. } = stored;
        let answer = match progress {
            Progress::InFlight(by) if by == process => return Ok(BegunAudio::InFlight),
            Progress::InFlight(_) => None,
            Progress::Answered(answer) => {
                let text = self.vault.open(key, FIELD, &answer)?;
                Some(serde_json::from_str(&text).map_err(|error| envelope::damaged(key, &error))?)
            }
        };
        let body = Some(body).filter(|body| !body.is_empty());
        Ok(BegunAudio::Before { req_id: req_id.unwrap_or_default(), body, answer })
    }

    /// Writes the answer to audio that was taken; `digest` is that of its body, `None` where that broke off.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn answer_audio(
        &self,
        ticket: &Ticket,
        digest: Option<String>,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        let Ticket { key, revision, expires_at, req_id, body: _ } = ticket.clone();
        let text = serde_json::to_string(answer).map(Zeroizing::new);
        let text = text.map_err(|error| envelope::damaged(&key, &error))?;
        let progress = Progress::Answered(self.vault.seal(&key, FIELD, &text, false)?);
        let stored = Stored { v: VERSION, body: digest.unwrap_or_default(), expires_at, progress, req_id };
        let value = envelope::encode(&key, &stored)?;
        let batch = Batch::new().only_if(key.clone(), Expect::At(revision)).put(key, value);
        self.store.commit(batch).await.map(drop)
    }

    /// Gives up audio of which nothing was taken, so that it can be sent again; `begun` is the request that it would
    /// have begun.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn abandon_audio(
        &self,
        ticket: &Ticket,
        begun: Option<(&SessionId, &str)>,
    ) -> Result<(), StoreError> {
        let batch = Batch::new().only_if(ticket.key.clone(), Expect::At(ticket.revision));
        let mut batch = self.stage_withdrawal(batch, ticket);
        if let Some((session, req_id)) = begun {
            batch = batch.delete(Key::request(session, req_id));
        }
        match self.store.commit(batch).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
