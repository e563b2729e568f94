//! A body of audio on its way to a session: cut into pieces, handed over one by one, and answered.

use std::{sync::Arc, time::Duration};

use actix::{MailboxError, prelude::Request};
use actix_rt::task::JoinHandle;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    App, Problem,
    audio::{self, Intake},
    body, idempotency, outcome,
    sending::{self, Keyed},
};
use crate::{
    manager::{ANSWER_DEADLINE, Unreachable},
    outbox::Refusal,
    session::{
        Accepted, AudioRefused, Finished, Interrupt, SendAudio, SessionActor, SessionEntry, Watch, Which,
        send_audio,
    },
    store::StoreError,
};

/// How long audio waits for room in a full outbox while the client's body is not read: longer, and clients'
/// keep-alives end the connection.
const ROOM_DEADLINE: Duration = Duration::from_secs(15);
/// How often room is looked for meanwhile.
const ROOM_PAUSE: Duration = Duration::from_millis(25);

/// Bytes of audio in one message to the service: half the least `upstream.max_message_bytes`, and a second of
/// speech at the usual rate.
const PIECE_BYTES: usize = 32 << 10;

/// A body on its way to a session.
pub(super) struct Upload<'a> {
    pub(super) app: &'a web::Data<App>,
    pub(super) entry: &'a SessionEntry,
    /// The request, new until its first piece is taken.
    pub(super) request: Which,
    pub(super) sent: usize,
    pub(super) ahead: Option<Ahead>,
    pub(super) finished: Option<oneshot::Receiver<Finished>>,
    pub(super) watch: Option<Watch>,
    pub(super) unfinished: Unfinished,
    pub(super) keyed: Option<Box<Keyed>>,
    pub(super) promised: Promised,
}

/// Whether it is written that the request was accepted.
pub(super) enum Promised {
    /// Something else says so, or nothing is promised.
    No,
    /// With the first piece that is accepted.
    Wanted,
    /// It is being written.
    Written(JoinHandle<Result<(), StoreError>>),
}

/// A piece on its way to a session of another thread. Its answer is read as the next piece is there: by then it has come,
/// and this thread is not woken once more for every piece.
pub(super) struct Ahead {
    audio: Bytes,
    answer: Request<SessionActor, SendAudio>,
}

/// What became of a piece: with the outcome to come, where it is watched from this piece on.
type Taken = Result<Option<oneshot::Receiver<Finished>>, AudioRefused>;

/// A request that is interrupted where its upload ends early: by a mistake in the body, or because the client is
/// gone, when this is dropped with the handler.
pub(super) struct Unfinished {
    pub(super) entry: Arc<SessionEntry>,
    /// `None` once there is nothing to interrupt.
    pub(super) req_id: Option<String>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(req_id) = self.req_id.take()
            && let Some(address) = self.entry.address.load_full()
        {
            // One message for each upload that broke off, past the mailbox's bound, since nobody is left to wait.
            address.do_send(Interrupt(Some(req_id)));
        }
    }
}

impl Upload<'_> {
    pub(super) async fn pass_on(
        &mut self,
        payload: web::Payload,
        length: Option<usize>,
        end: bool,
    ) -> Result<(), Problem> {
        let continues = matches!(self.request, Which::Open(_));
        let mut intake = Intake::new(&self.entry.spec.load(), continues, length);
        let mut received = 0_usize;
        let mut pieces = body::Pieces::new(payload);
        while let Some(piece) = pieces.next().await? {
            received += piece.len();
            if received > self.app.max_body_bytes {
                return Err(Problem::too_large(self.app.max_body_bytes));
            }
            if let Some(keyed) = &mut self.keyed {
                keyed.digest(&piece);
            }
            let mut audio = intake.feed(piece)?;
            let is_last = Some(received) == length;
            if is_last {
                // What is wrong at the end is told before the end is, and after what went before.
                self.settle().await?;
                audio = audio::join(&audio, intake.finish()?);
            }
            while audio.len() > PIECE_BYTES {
                self.send(audio.split_to(PIECE_BYTES), false).await?;
            }
            if !audio.is_empty() {
                self.send(audio, end && is_last).await?;
                if end && is_last {
                    return Ok(());
                }
            }
        }
        self.settle().await?;
        let rest = intake.finish()?;
        if self.sent == 0 && rest.is_empty() && !continues {
            return Err(Problem::unprocessable("emptyAudio", "the body holds no audio"));
        }
        if end || !rest.is_empty() {
            self.send(rest, end).await?;
        }
        Ok(())
    }

    /// Sends one piece; while the outbox is full, the client's body is not read on.
    async fn send(&mut self, audio: Bytes, end: bool) -> Result<(), Problem> {
        self.settle().await?;
        // Of the first piece more is asked than whether it was taken, and of the last it must be known.
        if self.sent == 0 || end {
            return self.send_until_taken(audio, end, None).await;
        }
        if let Some(taken) = send_audio(self.entry, &self.request, &audio, end, None) {
            return self.send_until_taken(audio, end, Some(taken)).await;
        }
        match self.entry.address.load_full() {
            Some(address) => {
                self.note_taken(Some(self.sent));
                let answer = address.send(self.message(&audio, end, None));
                self.ahead = Some(Ahead { audio, answer });
                Ok(())
            }
            None => self.send_until_taken(audio, end, None).await,
        }
    }

    /// Returns when the piece that went ahead is taken.
    async fn settle(&mut self) -> Result<(), Problem> {
        let Some(Ahead { audio, answer }) = self.ahead.take() else { return Ok(()) };
        match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
            Ok(Ok(answer)) => self.send_until_taken(audio, false, Some(taken(answer))).await,
            // The session crashed, or ended: who asks it now is told which.
            Ok(Err(MailboxError::Closed)) => self.send_until_taken(audio, false, None).await,
            Ok(Err(MailboxError::Timeout)) | Err(_) => Err(Unreachable::Late.into()),
        }
    }

    /// Sends one piece, which may have been answered already.
    async fn send_until_taken(
        &mut self,
        audio: Bytes,
        end: bool,
        mut answered: Option<Taken>,
    ) -> Result<(), Problem> {
        let bytes = audio.len();
        let deadline = tokio::time::Instant::now() + ROOM_DEADLINE;
        loop {
            // The outcome can only be watched from the first piece on, or early frames would be missed.
            let watch = if self.sent == 0 { self.watch } else { None };
            // It may be taken though its answer is not waited for.
            self.note_taken(Some(self.sent));
            let taken = match answered.take() {
                Some(taken) => taken,
                None => self.hand_over(&audio, end, watch).await?,
            };
            match taken {
                Ok(finished) => {
                    self.note(bytes, finished);
                    return Ok(());
                }
                Err(AudioRefused::Ledger(
                    Refusal::Full { .. } | Refusal::NoRoom { .. } | Refusal::TooManyPieces { .. },
                )) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
                Err(refused) => {
                    self.note_taken(Some(self.sent).filter(|sent| *sent > 0));
                    return Err(refused.into());
                }
            }
        }
    }

    /// Notes a piece that was taken.
    fn note(&mut self, bytes: usize, finished: Option<oneshot::Receiver<Finished>>) {
        if matches!(self.promised, Promised::Wanted) {
            let written = sending::note_accepted(self.app, self.entry, self.request.req_id());
            self.promised = Promised::Written(written);
        }
        if let Which::New(req_id) = &self.request {
            self.request = Which::Open(req_id.clone());
        }
        if self.unfinished.req_id.is_none() {
            self.unfinished.req_id = Some(self.request.req_id().to_owned());
        }
        self.finished = finished.or_else(|| self.finished.take());
        self.sent += bytes;
        self.note_taken(Some(self.sent));
    }

    /// Gives a piece to the session: at once where that is on this thread and needs nothing of its actor.
    async fn hand_over(&self, audio: &Bytes, end: bool, watch: Option<Watch>) -> Result<Taken, Problem> {
        if let Some(taken) = send_audio(self.entry, &self.request, audio, end, watch) {
            return Ok(taken);
        }
        let answer = self.app.manager.ask(self.entry, || self.message(audio, end, watch)).await?;
        Ok(taken(answer))
    }

    fn message(&self, audio: &Bytes, end: bool, watch: Option<Watch>) -> SendAudio {
        SendAudio { request: self.request.clone(), audio: audio.clone(), end, watch }
    }

    fn note_taken(&mut self, bytes: Option<usize>) {
        if let Some(keyed) = &mut self.keyed {
            keyed.note_taken(bytes);
        }
    }

    pub(super) async fn answer(
        mut self,
        passed_on: Result<(), Problem>,
        wait: bool,
        request: &HttpRequest,
    ) -> Result<HttpResponse, Problem> {
        let passed_on = match passed_on {
            Ok(()) => self.keep().await.map_err(|error| Problem::unkept(self.request.req_id(), error)),
            Err(problem) => {
                if let Some(keyed) = self.keyed.take() {
                    keyed.give_up().await;
                }
                Err(problem)
            }
        };
        match (passed_on, self.finished.take()) {
            (Ok(()), finished) => {
                self.unfinished.req_id = None;
                match finished {
                    Some(finished) if wait => self.answer_when_finished(finished, request).await,
                    Some(_) | None => {
                        let answer = sending::accepted(self.request.req_id(), self.sent as u64);
                        Ok(idempotency::response(&answer, false))
                    }
                }
            }
            // Whoever waits for the outcome gets it, also when it came before the end of the body.
            (Err(problem), Some(finished)) if wait && problem.is_request_ended() => {
                self.answer_when_finished(finished, request).await
            }
            (Err(problem), _) if self.sent > 0 => Err(problem.about_request(self.request.req_id())),
            (Err(problem), _) => Err(problem),
        }
    }

    /// Returns when it is written that the audio was taken.
    async fn keep(&mut self) -> Result<(), StoreError> {
        if let Promised::Written(written) = std::mem::replace(&mut self.promised, Promised::No) {
            // It is aborted by the end of the process only.
            written.await.unwrap_or(Err(StoreError::Closed))?;
        }
        match self.keyed.take() {
            Some(keyed) => keyed.answer().await,
            None => Ok(()),
        }
    }

    async fn answer_when_finished(
        &self,
        finished: oneshot::Receiver<Finished>,
        request: &HttpRequest,
    ) -> Result<HttpResponse, Problem> {
        outcome::when_finished(self.entry, finished, request).await
    }
}

fn taken(answer: Result<Accepted, AudioRefused>) -> Taken {
    answer.map(|Accepted { finished, .. }| finished)
}
