//! The ledger's promises: by table, and for random interleavings.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{errors::ErrorCode, recovery::Moment};

fn second(n: u64) -> Moment {
    Moment::at(Duration::from_secs(n))
}

fn ledger() -> Ledger {
    Ledger::new(LedgerConfig { session_bytes: 1000, max_open: 3, keep_ended: 4, ..LedgerConfig::default() })
}

fn audio(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

fn settled(ledger: &mut Ledger) -> Vec<(String, Outcome)> {
    std::iter::from_fn(|| ledger.next_settled()).map(|r| (r.req_id, r.outcome.unwrap())).collect()
}

#[test]
fn a_request_completes_with_the_frame_that_ends_it_and_later_frames_are_late() {
    let mut ledger = ledger();
    ledger.accept("a", audio(10), true, second(1)).unwrap();
    assert_eq!(ledger.next_to_send().unwrap(), Outgoing { req_id: "a".into(), audio: audio(10), end: true });
    assert_eq!(ledger.frame("a", false, second(2)), FrameFate::Deliver);
    assert_eq!(ledger.frame("a", true, second(3)), FrameFate::Deliver);
    assert_eq!(ledger.frame("a", true, second(3)), FrameFate::Late);
    let record = ledger.next_settled().unwrap();
    assert_eq!((record.outcome, record.frames, record.audio_bytes), (Some(Outcome::Completed), 2, 10));
    assert_eq!(record.first_frame_after(), Some(Duration::from_secs(1)));
    assert_eq!(record.total(), Some(Duration::from_secs(2)));
    assert_eq!(ledger.next_settled(), None);
}

#[test]
fn a_break_fails_what_was_sent_by_name_and_keeps_what_waits() {
    let mut ledger = ledger();
    ledger.accept("sent", audio(10), true, second(0)).unwrap();
    ledger.next_to_send();
    ledger.accept("waits", audio(10), true, second(0)).unwrap();
    ledger.fail_sent(ErrorCode::ConnectionClosed, second(1));
    assert_eq!(settled(&mut ledger), [("sent".into(), Outcome::Failed(ErrorCode::ConnectionClosed))]);
    assert_eq!(ledger.next_to_send().unwrap().req_id, "waits");
}

#[test]
fn audio_that_is_partly_sent_takes_its_rest_out_of_the_queue_when_it_fails() {
    let mut ledger = ledger();
    ledger.accept("a", audio(10), false, second(0)).unwrap();
    ledger.next_to_send();
    ledger.accept("a", audio(20), true, second(0)).unwrap();
    assert_eq!(ledger.queued_bytes(), 20);
    ledger.fail_sent(ErrorCode::UpstreamError, second(1));
    assert_eq!((ledger.queued_bytes(), ledger.next_to_send()), (0, None));
}

#[test]
fn waiting_audio_is_stale_after_its_age_and_fails_with_the_trouble_of_the_session() {
    let mut ledger = ledger();
    ledger.accept("a", audio(10), true, second(5)).unwrap();
    assert_eq!(ledger.next_timeout(), Some(second(35)));
    ledger.tick(Some(ErrorCode::UpstreamError), second(34));
    assert_eq!(ledger.open_count(), 1);
    ledger.tick(Some(ErrorCode::UpstreamError), second(35));
    assert_eq!(settled(&mut ledger), [("a".into(), Outcome::Failed(ErrorCode::UpstreamError))]);
}

#[test]
fn an_answer_has_the_length_of_the_audio_and_the_grace_from_the_last_chunk() {
    let config = LedgerConfig { bytes_per_second: Some(100), ..LedgerConfig::default() };
    let mut ledger = Ledger::new(config);
    ledger.accept("a", audio(500), false, second(0)).unwrap();
    ledger.accept("a", audio(500), true, second(4)).unwrap();
    while ledger.next_to_send().is_some() {}
    assert_eq!(ledger.next_timeout(), Some(second(4 + 10 + 30)));
    ledger.tick(None, second(44));
    assert_eq!(settled(&mut ledger), [("a".into(), Outcome::Failed(ErrorCode::UpstreamError))]);

    ledger.accept("never ended", audio(100), false, second(50)).unwrap();
    ledger.next_to_send();
    ledger.tick(None, second(81));
    assert_eq!(settled(&mut ledger), [("never ended".into(), Outcome::Failed(ErrorCode::InvalidRequest))]);
}

#[test]
fn an_interrupt_tells_the_service_only_what_it_knows_of() {
    let mut ledger = ledger();
    ledger.accept("sent", audio(10), true, second(0)).unwrap();
    ledger.next_to_send();
    ledger.accept("waits", audio(10), true, second(0)).unwrap();
    assert_eq!(ledger.interrupt("sent", second(1)), InterruptFate::TellUpstream);
    assert_eq!(ledger.interrupt("waits", second(1)), InterruptFate::Dropped);
    assert_eq!(ledger.interrupt("waits", second(1)), InterruptFate::AlreadyEnded(Outcome::Interrupted));
    assert_eq!(ledger.interrupt("stranger", second(1)), InterruptFate::Unknown);
    assert_eq!(ledger.next_to_send(), None);
}

#[test]
fn every_bound_refuses_and_says_so() {
    let mut ledger = ledger();
    ledger.accept("a", audio(900), false, second(0)).unwrap();
    assert_eq!(
        ledger.accept("a", audio(101), true, second(0)),
        Err(Refusal::Full { queued: 900, bound: 1000 })
    );
    ledger.accept("b", audio(0), true, second(0)).unwrap();
    assert_eq!(ledger.accept("b", audio(1), true, second(0)), Err(Refusal::AfterEnd));
    ledger.accept("c", audio(0), false, second(0)).unwrap();
    assert_eq!(ledger.accept("d", audio(0), false, second(0)), Err(Refusal::TooManyOpen { open: 3 }));
    ledger.interrupt("c", second(0));
    assert_eq!(ledger.accept("c", audio(0), true, second(0)), Err(Refusal::Ended(Outcome::Interrupted)));
}

#[test]
fn one_piece_above_the_bound_passes_an_empty_outbox() {
    let mut ledger = ledger();
    ledger.accept("a", audio(5000), true, second(0)).unwrap();
    assert_eq!(ledger.next_to_send().unwrap().audio.len(), 5000);
}

#[test]
fn empty_pieces_do_not_grow_memory_without_a_bound() {
    let mut ledger = ledger();
    let mut accepted = 0;
    let refusal = loop {
        match ledger.accept("a", Bytes::new(), false, second(0)) {
            Ok(()) => accepted += 1,
            Err(refusal) => break refusal,
        }
        assert!(accepted < 1_000_000, "there must be a bound");
    };
    assert_eq!(refusal, Refusal::TooManyPieces { queued: accepted });
    ledger.next_to_send();
    assert_eq!(ledger.accept("a", Bytes::new(), true, second(0)), Ok(()));
}

#[test]
fn a_frame_for_a_request_of_which_nothing_was_sent_is_late_and_completes_nothing() {
    let mut ledger = ledger();
    ledger.accept("a", audio(10), true, second(0)).unwrap();
    assert_eq!(ledger.frame("a", true, second(1)), FrameFate::Late);
    assert_eq!((ledger.open_count(), ledger.record("a").unwrap().frames), (1, 0));
    assert_eq!(ledger.next_to_send().unwrap().audio.len(), 10);
    assert_eq!(ledger.frame("a", true, second(1)), FrameFate::Deliver);
}

#[derive(Clone, Debug)]
enum Step {
    Accept { id: u8, bytes: usize, end: bool },
    Send,
    Frame { id: u8, end: bool },
    Interrupt(u8),
    FailOne(u8),
    Break,
    EndAll,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0u8..6;
    prop_oneof![
        4 => (id.clone(), 0usize..400, any::<bool>()).prop_map(|(id, bytes, end)| Step::Accept { id, bytes, end }),
        4 => Just(Step::Send),
        3 => (id.clone(), any::<bool>()).prop_map(|(id, end)| Step::Frame { id, end }),
        1 => id.clone().prop_map(Step::Interrupt),
        1 => id.prop_map(Step::FailOne),
        1 => Just(Step::Break),
        1 => Just(Step::EndAll),
        1 => (0u64..40).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn every_accepted_request_has_exactly_one_outcome_and_its_bytes_leave_in_order(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut ledger = ledger();
        let mut now = second(0);
        let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
        let mut accepted: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut sent: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Accept { id, bytes, end } => {
                    let id = id.to_string();
                    if ledger.accept(&id, audio(bytes), end, now).is_ok() {
                        if ledger.record(&id).unwrap().audio_bytes as usize == bytes
                            && outcomes.contains_key(&id)
                        {
                            // Forgotten by the bound on ended ones, so the id begins anew.
                            outcomes.remove(&id);
                            accepted.remove(&id);
                            sent.remove(&id);
                        }
                        accepted.entry(id).or_default().push(bytes);
                    }
                }
                Step::Send => {
                    if let Some(piece) = ledger.next_to_send() {
                        prop_assert!(!outcomes.contains_key(&piece.req_id), "sent after its outcome");
                        sent.entry(piece.req_id).or_default().push(piece.audio.len());
                    }
                }
                Step::Frame { id, end } => { ledger.frame(&id.to_string(), end, now); }
                Step::Interrupt(id) => { ledger.interrupt(&id.to_string(), now); }
                Step::FailOne(id) => { ledger.fail(&id.to_string(), ErrorCode::ServerError, "test", now); }
                Step::Break => ledger.fail_sent(ErrorCode::ConnectionClosed, now),
                Step::EndAll => ledger.fail_all(ErrorCode::CreditsExhausted, now),
                Step::Wait(seconds) => { now = now + Duration::from_secs(seconds); ledger.tick(None, now); }
            }
            for (id, _) in settled(&mut ledger) {
                *outcomes.entry(id).or_default() += 1;
            }
            prop_assert!(outcomes.values().all(|&count| count == 1), "{outcomes:?}");
            prop_assert!(ledger.queued_bytes() <= 1000 || accepted.values().flatten().any(|&b| b > 1000));
            prop_assert!(ledger.next_timeout().is_none_or(|at| at > now.minus(Duration::from_secs(1))));
            for (id, pieces) in &sent {
                prop_assert!(accepted[id].starts_with(pieces), "{id}: {pieces:?}");
            }
        }
        ledger.tick(None, now + Duration::from_secs(3600));
        prop_assert_eq!(ledger.open_count(), 0, "a deadline ends every request");
    }
}
