//! Random interleavings, against a model that knows every byte.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BOUND: usize = 1000;

#[derive(Clone, Debug)]
enum Step {
    Accept { id: u8, bytes: usize, end: bool, room: usize },
    Send(usize),
    Frame { id: u8, end: bool },
    Played { id: u8, ms: u64, paused: bool },
    Interrupt(u8),
    Pause(u8),
    Resume(u8),
    FailOne(u8),
    Refused(u8),
    Break,
    EndAll,
    Drop(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0u8..6;
    let room = prop_oneof![3 => Just(usize::MAX), 1 => 0usize..500];
    let accept = (id.clone(), 0usize..400, prop::bool::weighted(0.3), room);
    prop_oneof![
        8 => accept.prop_map(|(id, bytes, end, room)| Step::Accept { id, bytes, end, room }),
        6 => (1usize..6).prop_map(Step::Send),
        2 => (id.clone(), any::<bool>()).prop_map(|(id, end)| Step::Frame { id, end }),
        2 => (id.clone(), 0u64..2000, any::<bool>()).prop_map(|(id, ms, paused)| Step::Played { id, ms, paused }),
        1 => id.clone().prop_map(Step::Interrupt),
        1 => id.clone().prop_map(Step::Pause),
        1 => id.clone().prop_map(Step::Resume),
        1 => id.clone().prop_map(Step::FailOne),
        1 => id.prop_map(Step::Refused),
        2 => Just(Step::Break),
        1 => Just(Step::EndAll),
        1 => (0usize..500).prop_map(Step::Drop),
        2 => (0u64..12_000).prop_map(Step::Wait),
    ]
}

/// What the model knows of a request.
#[derive(Clone, Debug, Default)]
struct Known {
    audio: Vec<u8>,
    ended: bool,
    /// By which id the service knows it, the first byte that it was sent by that, and the next.
    attempt: Option<(String, usize, usize)>,
    /// The furthest byte that was sent on any connection.
    reached: usize,
    /// The first byte of the latest attempt.
    began: usize,
    breaks: u32,
    answered: bool,
    end_sent: bool,
}

struct Model {
    ledger: Ledger,
    continuity: Continuity,
    known: BTreeMap<String, Known>,
    outcomes: BTreeMap<String, usize>,
    next_byte: u8,
    fresh: usize,
    now: Moment,
}

impl Model {
    fn accept(&mut self, id: &str, bytes: usize, end: bool, room: usize) -> Result<(), TestCaseError> {
        let audio: Vec<u8> = (0..bytes)
            .map(|_| {
                self.next_byte = self.next_byte.wrapping_add(1);
                self.next_byte
            })
            .collect();
        let before = (self.ledger.queued_bytes(), self.ledger.copies_bytes());
        match self.ledger.accept(id, audio.clone().into(), end, room, self.now) {
            Ok(()) => {
                // An ended request that was forgotten by its bound: the id begins anew.
                if self.outcomes.remove(id).is_some() {
                    self.known.remove(id);
                }
                let known = self.known.entry(id.to_owned()).or_default();
                prop_assert!(!known.ended, "{id} goes on after its end");
                known.audio.extend(audio);
                known.ended = end;
            }
            Err(_) => {
                prop_assert_eq!(before, (self.ledger.queued_bytes(), self.ledger.copies_bytes()));
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), TestCaseError> {
        let fresh = &mut self.fresh;
        let outgoing = self.ledger.next_to_send(|| {
            *fresh += 1;
            format!("fresh-{fresh}")
        });
        let Some(Outgoing::Audio { req_id, audio, end }) = outgoing else { return Ok(()) };
        let client_id = self.ledger.client_id(&req_id).map(str::to_owned);
        let Some(client_id) = client_id else {
            return Err(TestCaseError::fail(format!("{req_id} is nobody's")));
        };
        prop_assert!(!self.outcomes.contains_key(&client_id), "{client_id} is sent after its outcome");
        let known = self.known.get_mut(&client_id).unwrap();
        let (upstream_id, began, next) = match known.attempt.take() {
            Some(attempt) => attempt,
            None => {
                // The first byte: the beginning, or for a resumed one a whole sample of what was sent before.
                let from = locate(&known.audio, &audio, known.began, known.reached);
                let resumes = self.continuity == Continuity::Resume && known.answered;
                prop_assert!(from == known.began || resumes, "{client_id} begins at {from}");
                prop_assert_eq!(from % 2, 0);
                prop_assert_eq!(req_id == client_id, known.breaks == 0, "a fresh id when it is sent again");
                (known.answered, known.end_sent, known.began) = (false, false, from);
                (req_id.clone(), from, from)
            }
        };
        prop_assert_eq!(&upstream_id, &req_id, "one id on one connection");
        prop_assert!(!known.end_sent, "audio after the end");
        let upto = next + audio.len();
        prop_assert_eq!(
            known.audio.get(next..upto),
            Some(&audio[..]),
            "{}: a gap or a repetition",
            client_id
        );
        prop_assert_eq!(end, known.ended && upto == known.audio.len() && end);
        known.end_sent = end;
        known.reached = known.reached.max(upto);
        known.attempt = Some((upstream_id, began, upto));
        Ok(())
    }

    fn upstream_id(&self, id: &str) -> String {
        self.known.get(id).and_then(|known| known.attempt.clone()).map_or_else(|| id.to_owned(), |it| it.0)
    }

    fn lose_connection(&mut self) {
        for known in self.known.values_mut() {
            known.breaks += u32::from(known.attempt.take().is_some());
        }
        self.ledger.connection_lost(ErrorCode::ConnectionClosed, self.now);
    }

    fn end_turn(&mut self) {
        for known in self.known.values_mut() {
            known.attempt = None;
        }
        self.ledger.fail_all(ErrorCode::CreditsExhausted, self.now);
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = self.now;
        match *step {
            Step::Accept { id, bytes, end, room } => self.accept(&id.to_string(), bytes, end, room)?,
            Step::Send(times) => {
                for _ in 0..times {
                    self.send()?;
                }
            }
            Step::Frame { id, end } => {
                let is_open = self.is_open(&id.to_string());
                let upstream_id = self.upstream_id(&id.to_string());
                let fate = self.ledger.frame(&upstream_id, end, now);
                prop_assert_eq!(fate == FrameFate::Deliver, is_open);
                self.answer(id);
            }
            Step::Played { id, ms, paused } => {
                let played = Duration::from_millis(ms);
                let playback = if paused { Playback::Paused(played) } else { Playback::Playing(played) };
                self.ledger.playback(&self.upstream_id(&id.to_string()), playback, now);
                self.answer(id);
            }
            Step::Interrupt(id) => drop(self.ledger.interrupt(&id.to_string(), now)),
            Step::Pause(id) => drop(self.ledger.pause(&id.to_string(), now)),
            Step::Resume(id) => drop(self.ledger.resume(&id.to_string(), now)),
            Step::FailOne(id) => {
                self.ledger.fail(&id.to_string(), ErrorCode::ServerError, "test", now);
            }
            Step::Refused(id) => {
                let upstream_id = self.upstream_id(&id.to_string());
                self.ledger.fail_upstream(&upstream_id, ErrorCode::ServerError, "test", now);
            }
            Step::Break => self.lose_connection(),
            Step::EndAll => self.end_turn(),
            Step::Drop(want) => {
                let before = self.ledger.copies_bytes();
                let freed = self.ledger.drop_copies(want);
                prop_assert!(freed >= want.min(before));
                prop_assert_eq!(self.ledger.copies_bytes(), before - freed);
            }
            Step::Wait(ms) => {
                self.now = now + Duration::from_millis(ms);
                self.ledger.tick(None, self.now);
            }
        }
        Ok(())
    }

    fn is_open(&self, id: &str) -> bool {
        self.known.get(id).is_some_and(|known| known.attempt.is_some()) && !self.outcomes.contains_key(id)
    }

    fn answer(&mut self, id: u8) {
        if let Some(known) = self.known.get_mut(&id.to_string()) {
            known.answered |= known.attempt.is_some();
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        while let Some(record) = self.ledger.next_settled() {
            let known = &self.known[&record.req_id];
            prop_assert_eq!(record.audio_bytes as usize, known.audio.len());
            prop_assert!(record.breaks <= 2, "{} broke {}", record.req_id, record.breaks);
            prop_assert_eq!(record.breaks, known.breaks);
            if record.outcome == Some(Outcome::Completed) {
                prop_assert!(known.answered);
            }
            *self.outcomes.entry(record.req_id).or_default() += 1;
        }
        prop_assert!(self.outcomes.values().all(|&count| count == 1), "{:?}", self.outcomes);
        prop_assert!(self.ledger.kept_bytes() <= BOUND);
        prop_assert_eq!(self.ledger.open_count(), self.known.len() - self.outcomes.len());
        prop_assert!(self.ledger.next_timeout().is_none_or(|at| at > self.now));
        Ok(())
    }
}

/// Where in `all` this audio begins, at `began` or later, and not beyond what was sent.
fn locate(all: &[u8], audio: &[u8], began: usize, reached: usize) -> usize {
    (began..=reached).find(|&from| all[from..].starts_with(audio)).unwrap_or(usize::MAX - 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_request_has_one_outcome_and_each_attempt_its_bytes_without_gap_or_repetition(
        steps in prop::collection::vec(step(), 1..150),
        continuity in prop_oneof![Just(Continuity::Off), Just(Continuity::Unanswered), Just(Continuity::Resume)],
    ) {
        let config = LedgerConfig {
            continuity, session_bytes: BOUND, max_open: 3, keep_ended: 4, bytes_per_second: Some(100),
            ..LedgerConfig::default()
        };
        let mut model = Model {
            ledger: Ledger::new(config), continuity, known: BTreeMap::new(), outcomes: BTreeMap::new(),
            next_byte: 0, fresh: 0, now: second(0),
        };
        for step in &steps {
            model.step(step)?;
            model.check()?;
        }
        if continuity == Continuity::Off {
            prop_assert_eq!((model.fresh, model.ledger.copies_bytes()), (0, 0));
        }
        // The longest pause, and the longest answer.
        model.now = model.now + Duration::from_secs(2 * 3600);
        model.ledger.tick(None, model.now);
        model.check()?;
        prop_assert_eq!(model.ledger.open_count(), 0, "a deadline ends every request");
        prop_assert_eq!((model.ledger.kept_bytes(), model.ledger.next_timeout()), (0, None));
        prop_assert_eq!(model.ledger.next_to_send(String::new).is_some_and(|outgoing| matches!(outgoing, Outgoing::Audio { .. })), false);
    }
}
