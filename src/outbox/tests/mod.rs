//! The ledger's promises: here those of a connection that holds.

mod bounds;
mod broken;
mod holds;
mod properties;

use std::time::Duration;

use bytes::Bytes;

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

/// Takes what is next to send as `id`, its bytes, and whether it ends.
fn sent(ledger: &mut Ledger) -> Option<(String, usize, bool)> {
    match ledger.next_to_send(|| "again".into())? {
        Outgoing::Audio { req_id, audio, end } => Some((req_id, audio.len(), end)),
        Outgoing::Control { .. } => panic!("audio was to be next"),
    }
}

/// Sends everything that waits, each as one word.
fn pumped(ledger: &mut Ledger) -> Vec<String> {
    let next = || {
        Some(match ledger.next_to_send(|| "again".into())? {
            Outgoing::Audio { req_id, audio, end } => {
                format!("{req_id}:{}{}", audio.len(), if end { "." } else { "" })
            }
            Outgoing::Control { req_id, control } => format!("{control:?} {req_id}"),
        })
    };
    std::iter::from_fn(next).collect()
}

fn accept(ledger: &mut Ledger, req_id: &str, bytes: usize, end: bool, now: Moment) {
    ledger.accept(req_id, audio(bytes), end, usize::MAX, now).unwrap();
}

fn settled(ledger: &mut Ledger) -> Vec<(String, Outcome)> {
    std::iter::from_fn(|| ledger.next_settled()).map(|r| (r.req_id, r.outcome.unwrap())).collect()
}

#[test]
fn a_request_completes_with_the_frame_that_ends_it_and_later_frames_are_late() {
    let mut ledger = ledger();
    ledger.accept("a", audio(10), true, usize::MAX, second(1)).unwrap();
    let expected = Outgoing::Audio { req_id: "a".into(), audio: audio(10), end: true };
    assert_eq!(ledger.next_to_send(|| "again".into()), Some(expected));
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
fn waiting_audio_is_stale_after_its_age_and_fails_with_the_trouble_of_the_session() {
    let mut ledger = ledger();
    ledger.accept("a", audio(10), true, usize::MAX, second(5)).unwrap();
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
    ledger.accept("a", audio(500), false, usize::MAX, second(0)).unwrap();
    ledger.accept("a", audio(500), true, usize::MAX, second(4)).unwrap();
    pumped(&mut ledger);
    assert_eq!(ledger.next_timeout(), Some(second(4 + 10 + 30)));
    ledger.tick(None, second(44));
    assert_eq!(settled(&mut ledger), [("a".into(), Outcome::Failed(ErrorCode::UpstreamError))]);

    ledger.accept("never ended", audio(100), false, usize::MAX, second(50)).unwrap();
    pumped(&mut ledger);
    ledger.tick(None, second(81));
    assert_eq!(settled(&mut ledger), [("never ended".into(), Outcome::Failed(ErrorCode::InvalidRequest))]);
}

#[test]
fn an_interrupt_tells_the_service_only_what_it_knows_of() {
    let mut ledger = ledger();
    ledger.accept("sent", audio(10), true, usize::MAX, second(0)).unwrap();
    sent(&mut ledger);
    ledger.accept("waits", audio(10), true, usize::MAX, second(0)).unwrap();
    assert_eq!(ledger.interrupt("sent", second(1)), InterruptFate::Told);
    assert_eq!(ledger.interrupt("waits", second(1)), InterruptFate::Dropped);
    assert_eq!(ledger.interrupt("waits", second(1)), InterruptFate::AlreadyEnded(Outcome::Interrupted));
    assert_eq!(ledger.interrupt("stranger", second(1)), InterruptFate::Unknown);
    assert_eq!(pumped(&mut ledger), ["Interrupt sent"]);
}

#[test]
fn a_frame_for_a_request_of_which_nothing_was_sent_is_late_and_completes_nothing() {
    let mut ledger = ledger();
    ledger.accept("a", audio(10), true, usize::MAX, second(0)).unwrap();
    assert_eq!(ledger.frame("a", true, second(1)), FrameFate::Late);
    assert_eq!((ledger.open_count(), ledger.record("a").unwrap().frames), (1, 0));
    assert_eq!(sent(&mut ledger).unwrap().1, 10);
    assert_eq!(ledger.frame("a", true, second(1)), FrameFate::Deliver);
}

#[test]
fn frames_of_an_interrupted_request_go_on_to_the_first_that_ends_it() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 10, true, second(0));
    pumped(&mut ledger);
    ledger.interrupt("a", second(1));
    let fates = [false, false, true, true, false].map(|end| ledger.frame("a", end, second(1)));
    assert_eq!(fates[..3], [FrameFate::AfterInterrupt; 3]);
    assert_eq!(fates[3..], [FrameFate::Late; 2]);
    assert_eq!(ledger.record("a").unwrap().frames, 0);
}

#[test]
fn an_interrupted_request_is_unended_until_its_last_frame_or_its_connections_end() {
    let mut ledger = ledger();
    for req_id in ["cut", "ended"] {
        accept(&mut ledger, req_id, 10, true, second(0));
        pumped(&mut ledger);
        ledger.interrupt(req_id, second(1));
    }
    ledger.frame("ended", true, second(1));
    accept(&mut ledger, "completed", 10, true, second(1));
    accept(&mut ledger, "open", 10, true, second(1));
    pumped(&mut ledger);
    ledger.frame("completed", true, second(1));
    accept(&mut ledger, "unsent", 10, true, second(1));
    ledger.interrupt("unsent", second(1));
    assert_eq!(ledger.unended(), ["cut"]);
    ledger.connection_lost(ErrorCode::ConnectionClosed, second(2));
    assert!(ledger.unended().is_empty());
}

#[test]
fn frames_of_a_failed_request_are_late() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 10, true, second(0));
    pumped(&mut ledger);
    let failed = ledger.fail_upstream("a", ErrorCode::UpstreamError, "refused", second(1));
    assert_eq!(failed.as_deref(), Some("a"));
    assert_eq!(ledger.frame("a", true, second(1)), FrameFate::Late);
    assert_eq!(ledger.fail_upstream("a", ErrorCode::UpstreamError, "refused", second(1)), None);
    assert_eq!(pumped(&mut ledger), [""; 0], "the service has refused it itself");
    assert_eq!(ledger.client_id("a"), Some("a"), "its id is known for what else the service says of it");
}

#[test]
fn the_service_is_told_of_what_fails_by_a_client_or_a_deadline() {
    let mut ledger = ledger();
    for id in ["a", "b"] {
        accept(&mut ledger, id, 10, false, second(0));
        pumped(&mut ledger);
    }
    assert!(ledger.fail("a", ErrorCode::InvalidRequest, "its client sends no more", second(1)));
    assert!(!ledger.fail("a", ErrorCode::InvalidRequest, "again", second(1)));
    assert_eq!(pumped(&mut ledger), ["Interrupt a"]);
    ledger.tick(None, second(60));
    assert_eq!(pumped(&mut ledger), ["Interrupt b"]);
}

#[test]
fn pieces_of_several_requests_leave_in_the_order_in_which_they_came() {
    let mut ledger = ledger();
    for (id, bytes) in [("b", 1), ("a", 2), ("b", 3), ("c", 4), ("a", 5)] {
        accept(&mut ledger, id, bytes, false, second(0));
    }
    assert_eq!(pumped(&mut ledger), ["b:1", "a:2", "b:3", "c:4", "a:5"]);
}

#[test]
fn the_request_that_began_last_is_the_latest() {
    let mut ledger = ledger();
    for id in ["b", "a", "b"] {
        accept(&mut ledger, id, 1, false, second(0));
    }
    assert_eq!(ledger.latest_open().unwrap().req_id, "a");
}
