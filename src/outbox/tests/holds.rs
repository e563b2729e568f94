//! Pauses: what stands still, and what the service is told.

use super::*;

fn ledger() -> Ledger {
    // 100 bytes of audio are a second.
    Ledger::new(LedgerConfig { bytes_per_second: Some(100), ..LedgerConfig::default() })
}

#[test]
fn a_deadline_stands_still_while_its_request_is_paused() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 1000, true, second(0));
    pumped(&mut ledger);
    assert_eq!(ledger.pause("a", second(5)), HoldFate::Told);
    ledger.tick(None, second(1000));
    assert_eq!(ledger.open_count(), 1);
    assert_eq!(ledger.resume("a", second(1005)), HoldFate::Told);
    assert_eq!(ledger.next_timeout(), Some(second(1000 + 10 + 30)));
    assert_eq!(pumped(&mut ledger), ["Pause a", "Resume a"]);
}

#[test]
fn a_pause_that_nobody_ends_is_over_after_its_longest_time() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 1000, true, second(0));
    pumped(&mut ledger);
    ledger.pause("a", second(5));
    assert_eq!(ledger.next_timeout(), Some(second(3600 + 10 + 30)));
    ledger.tick(None, second(3640));
    assert_eq!(settled(&mut ledger), [("a".into(), Outcome::Failed(ErrorCode::UpstreamError))]);
}

#[test]
fn a_chunk_in_a_pause_is_counted_from_when_it_came() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 1000, false, second(0));
    pumped(&mut ledger);
    ledger.pause("a", second(5));
    accept(&mut ledger, "a", 0, true, second(20));
    ledger.resume("a", second(25));
    assert_eq!(ledger.next_timeout(), Some(second(25 + 10 + 30)));
}

#[test]
fn what_waits_is_not_stale_while_it_is_paused() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 1000, true, second(0));
    assert_eq!(ledger.pause("a", second(10)), HoldFate::Noted);
    ledger.tick(None, second(100));
    assert_eq!(ledger.open_count(), 1);
    assert_eq!(ledger.resume("a", second(110)), HoldFate::Noted);
    assert_eq!(ledger.next_timeout(), Some(second(130)));
    assert_eq!(pumped(&mut ledger), ["a:1000."], "the service never knew of the pause");
}

#[test]
fn a_paused_request_is_paused_at_the_service_after_its_audio() {
    let mut ledger = ledger();
    for (bytes, end) in [(10, false), (20, false)] {
        accept(&mut ledger, "a", bytes, end, second(0));
    }
    ledger.pause("a", second(0));
    accept(&mut ledger, "b", 1, true, second(0));
    assert_eq!(pumped(&mut ledger), ["a:10", "a:20", "Pause a", "b:1."]);
    accept(&mut ledger, "a", 30, true, second(1));
    assert_eq!(pumped(&mut ledger), ["a:30."], "once");
}

#[test]
fn a_paused_request_that_is_sent_again_is_paused_again() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 10, false, second(0));
    pumped(&mut ledger);
    ledger.pause("a", second(1));
    assert_eq!(pumped(&mut ledger), ["Pause a"]);
    accept(&mut ledger, "a", 20, true, second(1));
    ledger.connection_lost(ErrorCode::ConnectionClosed, second(2));
    assert_eq!(pumped(&mut ledger), ["again:10", "again:20.", "Pause again"]);
    // A word that crossed ours is not the end of the pause.
    ledger.playback("again", Playback::Playing(Duration::ZERO), second(3));
    assert!(ledger.next_timeout().unwrap() > second(3600));
    ledger.playback("again", Playback::Paused(Duration::ZERO), second(3));
    assert_eq!(ledger.resume("a", second(4)), HoldFate::Told);
    assert_eq!(pumped(&mut ledger), ["Resume again"]);
}

#[test]
fn the_service_may_pause_and_play_on_by_itself() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 1000, true, second(0));
    pumped(&mut ledger);
    ledger.playback("a", Playback::Paused(Duration::from_secs(1)), second(5));
    assert!(ledger.next_timeout().unwrap() > second(3600));
    ledger.playback("a", Playback::Playing(Duration::from_secs(1)), second(25));
    assert_eq!(ledger.next_timeout(), Some(second(20 + 10 + 30)));
    assert!(ledger.playback("a", Playback::Interrupted, second(26)), "a pause that it found too long");
    assert!(!ledger.playback("a", Playback::Interrupted, second(26)));
    assert_eq!(settled(&mut ledger), [("a".into(), Outcome::Interrupted)]);
    assert_eq!(pumped(&mut ledger), [""; 0], "it knows");
    assert_eq!(ledger.frame("a", true, second(27)), FrameFate::AfterInterrupt);
}

#[test]
fn pauses_of_what_has_ended_or_never_was_say_so() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 10, true, second(0));
    ledger.interrupt("a", second(0));
    for (id, fate) in [("a", HoldFate::AlreadyEnded(Outcome::Interrupted)), ("b", HoldFate::Unknown)] {
        assert_eq!([ledger.pause(id, second(1)), ledger.resume(id, second(1))], [fate; 2]);
    }
}
