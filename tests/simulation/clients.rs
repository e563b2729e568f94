//! The clients: they send audio, and are told what became of it.

use std::time::Duration;

use bytes::Bytes;
use greenroom::{
    errors::{ErrorCode, Phase},
    outbox::{Continuity, FrameFate, InterruptFate, Outgoing, Playback, Record},
    recovery::{
        Generation,
        lifecycle::{Admission, EndRequests, Input, State},
    },
};

use crate::{
    seat::{Attempt, Fate, Request, ledger_config},
    service,
    world::{Event, World},
};

/// Between two requests of a session.
pub(crate) const PAUSE: Duration = Duration::from_secs(600);

/// Chunks are slices of this, so that a chunk that went missing or came twice has another address.
static VOICE: [u8; 64 << 10] = [0; 64 << 10];

impl World {
    pub(crate) fn speak(&mut self, seat: usize) {
        let it = &self.seats[seat];
        if matches!(it.machine.state(), State::Stopped { .. }) || !it.attendance.may_revive() {
            return;
        }
        let pause = self.rng.after_mean(PAUSE);
        self.after(pause, Event::Speak(seat));
        self.next_request += 1;
        let req_id = format!("req-{}", self.next_request);
        let left = 1 + self.rng.below(5) as u32;
        // A client that forgets to end its request, and one that changes its mind.
        let end = !self.rng.chance(0.02);
        if self.rng.chance(0.03) {
            let span = self.rng.between(10, 3000);
            self.after(span, Event::Interrupt(seat, req_id.clone()));
        }
        self.chunk(seat, req_id, left, end);
    }

    pub(crate) fn chunk(&mut self, seat: usize, req_id: String, left: u32, end: bool) {
        let last = left == 1;
        let (from, length) = (self.rng.below(32 << 10) as usize, 3200 + self.rng.below(28_000) as usize);
        let audio = Bytes::from_static(&VOICE[from..from + length]);
        match self.seats[seat].machine.admission() {
            Admission::Flows | Admission::Waits => {}
            Admission::Wakes => self.give(seat, Input::Audio),
            Admission::Refused => {
                self.tally.refused += 1;
                return;
            }
        }
        let it = &mut self.seats[seat];
        let ends = last && end;
        match it.ledger.accept(&req_id, audio.clone(), ends, usize::MAX, self.now) {
            Ok(()) => {
                let request = it.requests.entry(req_id.clone()).or_insert_with(|| {
                    self.tally.accepted += 1;
                    Request {
                        accepted: Vec::new(),
                        attempt: None,
                        from: 0,
                        breaks: 0,
                        waits_since: self.now,
                        last_chunk_at: self.now,
                        bytes: 0,
                    }
                });
                request.bytes += audio.len();
                request.last_chunk_at = self.now;
                request.accepted.push((audio, ends));
            }
            Err(_) => {
                self.tally.refused += 1;
                return;
            }
        }
        if !last {
            let span = self.rng.between(50, 400);
            self.after(span, Event::Chunk { seat, req_id, left: left - 1, end });
        }
        self.settle_down(seat);
    }

    /// Sends what waits, if there is a connection to send it on.
    pub(crate) fn pump(&mut self, seat: usize) {
        let State::Running { generation, .. } = *self.seats[seat].machine.state() else { return };
        loop {
            self.fresh_id += 1;
            let fresh = format!("fresh-{}", self.fresh_id);
            // A word about what was interrupted is nothing to the model service.
            let (upstream_id, audio, end) = match self.seats[seat].ledger.next_to_send(|| fresh) {
                None => break,
                Some(Outgoing::Control { .. }) => continue,
                Some(Outgoing::Audio { req_id, audio, end }) => (req_id, audio, end),
            };
            match &mut self.seats[seat].link {
                Some(link) if link.generation == generation && link.established && link.closing.is_none() => {
                    link.heard_at = self.now;
                }
                Some(_) | None => self.breach_at(seat, "sends audio without a connection"),
            }
            let req_id = self.seats[seat].ledger.client_id(&upstream_id).unwrap_or_default().to_owned();
            let Some(request) = self.seats[seat].requests.get_mut(&req_id) else {
                self.breach_at(seat, &format!("audio of {upstream_id} is sent after its outcome"));
            };
            let from = request.from;
            let attempt = request.attempt.take().unwrap_or_else(|| Attempt {
                upstream_id: upstream_id.clone(),
                base: from,
                next: from,
                answered: false,
                plays_since: None,
            });
            let fits = request.piece_at(attempt.next).is_some_and(|(expected, ends)| {
                expected.as_ptr() == audio.as_ptr() && expected.len() == audio.len() && ends == end
            });
            if !fits || attempt.upstream_id != upstream_id || (upstream_id == req_id) != (request.breaks == 0)
            {
                self.breach_at(seat, &format!("{req_id}: {upstream_id} is sent out of order: {attempt:?}"));
            }
            let next = attempt.next + audio.len();
            let length = next - attempt.base;
            request.attempt = Some(Attempt { next, ..attempt });
            self.tally.pieces += 1;
            if end {
                self.plan_answer(seat, generation, upstream_id, length);
            }
        }
    }

    fn plan_answer(&mut self, seat: usize, generation: Generation, req_id: String, bytes: usize) {
        if self.mischief && self.rng.chance(0.01) {
            return;
        }
        if self.mischief && self.rng.chance(0.01) {
            let span = self.rng.between(50, 500);
            self.after(span, Event::RequestFails { seat, generation, req_id });
            return;
        }
        let first = self.rng.between(150, 600);
        if self.seats[seat].ledger.continuity() == Continuity::Resume {
            // It publishes the avatar itself: no frame comes before the end.
            self.after(first, Event::Plays { seat, generation, req_id: req_id.clone() });
            let rest = Duration::from_secs_f64(bytes as f64 / 32_000.0);
            self.after(first + rest, Event::Frame { seat, generation, req_id, end: true });
            return;
        }
        let rest = Duration::from_secs_f64(bytes as f64 / 64_000.0);
        self.after(first, Event::Frame { seat, generation, req_id: req_id.clone(), end: false });
        self.after(first + rest, Event::Frame { seat, generation, req_id: req_id.clone(), end: true });
        if self.mischief && self.rng.chance(0.02) {
            // The service tells the end twice.
            self.after(first + rest * 2, Event::Frame { seat, generation, req_id, end: true });
        }
    }

    /// Whether what came on this connection is not late.
    fn is_current(&self, seat: usize, generation: Generation) -> bool {
        matches!(self.seats[seat].machine.state(), State::Running { generation: current, .. } if *current == generation)
    }

    pub(crate) fn frame(&mut self, seat: usize, generation: Generation, req_id: &str, end: bool) {
        if !self.is_current(seat, generation) {
            self.tally.late_frames += 1;
            return;
        }
        let fate = self.seats[seat].ledger.frame(req_id, end, self.now);
        let known = self.with_attempt(seat, req_id, |attempt| attempt.answered = true);
        if known != (fate == FrameFate::Deliver) {
            self.breach_at(seat, &format!("a frame of {req_id} is {fate:?}, and open is {known}"));
        }
        self.settle_down(seat);
    }

    /// The service begins to play what it was sent.
    pub(crate) fn plays(&mut self, seat: usize, generation: Generation, req_id: &str) {
        if self.is_current(seat, generation) {
            let now = self.now;
            self.with_attempt(seat, req_id, |attempt| attempt.plays_since = Some(now));
            self.seats[seat].ledger.playback(req_id, Playback::Playing(Duration::ZERO), now);
        }
    }

    /// Changes what the model knows of the request that the service knows by this id; `false` where none is.
    fn with_attempt(&mut self, seat: usize, upstream_id: &str, change: impl FnOnce(&mut Attempt)) -> bool {
        let attempts = self.seats[seat].requests.values_mut().filter_map(|request| request.attempt.as_mut());
        let found = attempts.into_iter().find(|attempt| attempt.upstream_id == upstream_id);
        found.map(change).is_some()
    }

    pub(crate) fn request_fails(&mut self, seat: usize, generation: Generation, req_id: &str) {
        if !self.is_current(seat, generation) {
            return;
        }
        let error = service::error(ErrorCode::UpstreamError, Phase::WebsocketRuntime, "one request fails");
        if self.recovery.policy.spares_the_connection(error.code) {
            let known = self.with_attempt(seat, req_id, |_| {});
            let ledger = &mut self.seats[seat].ledger;
            if ledger.fail_upstream(req_id, error.code, &error.message, self.now).is_some() != known {
                self.breach_at(seat, &format!("{req_id} is open for one and ended for the other"));
            }
        }
        self.settle_down(seat);
    }

    pub(crate) fn interrupt(&mut self, seat: usize, req_id: &str) {
        let open = self.seats[seat].requests.get(req_id).map(|request| request.attempt.is_some());
        let fate = self.seats[seat].ledger.interrupt(req_id, self.now);
        let fits = match open {
            Some(true) => fate == InterruptFate::Told,
            Some(false) => fate == InterruptFate::Dropped,
            None => matches!(fate, InterruptFate::AlreadyEnded(_) | InterruptFate::Unknown),
        };
        if !fits {
            self.breach_at(seat, &format!("an interrupt of {req_id}, sent {open:?}, is {fate:?}"));
        }
        self.settle_down(seat);
    }

    pub(crate) fn tick_ledger(&mut self, seat: usize) {
        self.seats[seat].ledger_tick_at = None;
        let cause = self.seats[seat].machine.last_error().map(|(error, _)| error.code);
        self.seats[seat].ledger.tick(cause, self.now);
        self.settle_down(seat);
    }

    pub(crate) fn end_requests(&mut self, seat: usize, which: EndRequests) {
        let ledger = &mut self.seats[seat].ledger;
        match which {
            EndRequests::Sent(code) => self.lose_connection(seat, code),
            EndRequests::All(code) => ledger.fail_all(code, self.now),
            EndRequests::Interrupted => ledger.interrupt_all(self.now),
        }
    }

    fn lose_connection(&mut self, seat: usize, code: ErrorCode) {
        let now = self.now;
        let it = &mut self.seats[seat];
        it.ledger.connection_lost(code, now);
        let continuity = it.ledger.continuity();
        for (req_id, request) in &mut it.requests {
            let fate = request.fate(continuity, now);
            let Some(attempt) = request.attempt.take() else { continue };
            request.breaks += 1;
            request.waits_since = now;
            let record = it.ledger.record(req_id).cloned();
            let lacked_room =
                record.as_ref().and_then(|it| it.reason.as_ref()).is_some_and(|it| it.contains("room"));
            match (fate, record) {
                (Fate::Again(from), Some(Record { outcome: None, .. })) => {
                    self.tally.resent += 1;
                    self.tally.resumed += u64::from(from > attempt.base);
                    request.from = from;
                }
                (Fate::Again(_), _) if lacked_room => {}
                (Fate::Fails, Some(Record { outcome: Some(_), .. })) => {}
                (fate, record) => {
                    let what = format!("{req_id} with {attempt:?} was to meet {fate:?} and met {record:?}");
                    self.breach_at(seat, &what);
                }
            }
        }
    }

    /// Tells the clients the outcomes.
    pub(crate) fn collect_outcomes(&mut self, seat: usize) {
        while let Some(record) = self.seats[seat].ledger.next_settled() {
            let Some(request) = self.seats[seat].requests.remove(&record.req_id) else {
                self.breach_at(seat, &format!("{} has a second outcome: {record:?}", record.req_id));
            };
            let Some(outcome) = record.outcome else {
                self.breach_at(seat, &format!("{} has ended without an outcome", record.req_id));
            };
            let deadline = request.deadline(&ledger_config());
            if self.now > deadline {
                self.breach_at(seat, &format!("{} ended after its deadline {deadline:?}", record.req_id));
            }
            if record.audio_bytes as usize != request.bytes {
                self.breach_at(seat, &format!("{} has lost count of its bytes", record.req_id));
            }
            self.tally.outcome(outcome);
        }
    }

    /// Idle and longest durations are the service's own.
    pub(crate) fn idle(&mut self, seat: usize, generation: Generation) {
        let Some(link) = self.seats[seat].link.filter(|link| link.generation == generation) else { return };
        let ends = link.heard_at + IDLE;
        if self.now >= ends {
            let fault = service::Fault::Told(ErrorCode::IdleTimeout, Some(4008));
            self.link_breaks(seat, generation, fault);
        } else {
            self.after(ends.since(self.now), Event::Idle(seat, generation));
        }
    }

    /// What will end a connection that was just confirmed.
    pub(crate) fn plan_its_end(&mut self, seat: usize, generation: Generation) {
        if !self.mischief {
            return;
        }
        self.after(IDLE, Event::Idle(seat, generation));
        let (span, fault) = if self.now < self.seats[seat].flaky_until {
            let drop = service::Fault::Told(ErrorCode::ConnectionClosed, Some(1001));
            (self.rng.between(200, 3000), drop)
        } else {
            (self.rng.after_mean(LIFE), service::fault(&mut self.rng))
        };
        self.after(span, Event::Breaks(seat, generation, fault));
    }
}

/// The service ends a session that was sent no audio for this long.
const IDLE: Duration = Duration::from_secs(1800);

/// How long a connection lives in the mean.
const LIFE: Duration = Duration::from_secs(3600);
