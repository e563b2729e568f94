//! What a broken connection means, row by row.

use super::*;

const CLOSED: ErrorCode = ErrorCode::ConnectionClosed;

fn with(continuity: Continuity) -> Ledger {
    // 1000 bytes of audio are a second.
    Ledger::new(LedgerConfig { continuity, bytes_per_second: Some(1000), ..LedgerConfig::default() })
}

/// How far a request had come when its connection broke.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    Waited,
    Sent,
    Frame,
    Playing,
    Paused,
    PlayedToItsEnd,
    Ended,
}

/// A second of audio in four pieces, the last of which is not sent yet, and a break half a second after what was
/// heard.
fn broken(continuity: Continuity, heard: Heard) -> (Vec<String>, Option<String>) {
    let mut ledger = with(continuity);
    for (bytes, end) in [(300, false), (301, false), (299, false), (100, true)] {
        accept(&mut ledger, "a", bytes, end, second(0));
    }
    let pieces = match heard {
        Heard::Waited => 0,
        Heard::PlayedToItsEnd => 4,
        Heard::Sent | Heard::Frame | Heard::Playing | Heard::Paused | Heard::Ended => 3,
    };
    for _ in 0..pieces {
        sent(&mut ledger);
    }
    let played = Duration::from_micros(151_900);
    match heard {
        Heard::Waited | Heard::Sent => {}
        Heard::Frame => {
            ledger.frame("a", false, second(1));
        }
        Heard::Playing => {
            ledger.playback("a", Playback::Playing(played), second(1));
        }
        Heard::Paused => {
            ledger.playback("a", Playback::Paused(played), second(1));
        }
        Heard::PlayedToItsEnd => {
            ledger.playback("a", Playback::Playing(Duration::from_millis(500)), second(1));
        }
        Heard::Ended => {
            ledger.playback("a", Playback::Ended, second(1));
        }
    }
    ledger.connection_lost(CLOSED, second(1) + Duration::from_millis(500));
    let failed = settled(&mut ledger).first().map(|(_, outcome)| {
        assert_eq!(*outcome, Outcome::Failed(CLOSED));
        ledger.record("a").unwrap().reason.clone().unwrap()
    });
    (pumped(&mut ledger), failed)
}

#[test]
fn each_continuity_sends_again_what_it_says_and_fails_the_rest_by_name() {
    use Continuity::{Off, Resume, Unanswered};
    use Heard::{Ended, Frame, Paused, PlayedToItsEnd, Playing, Sent, Waited};
    let first = ["a:300", "a:301", "a:299", "a:100."].map(String::from).to_vec();
    let whole = ["again:300", "again:301", "again:299", "again:100."].map(String::from).to_vec();
    // Played: 151 bytes, of which 150 are whole samples, and what half a second of playing adds.
    let from_650 = ["again:250", "again:100."].map(String::from).to_vec();
    let from_150 =
        ["again:150", "again:301", "again:299", "again:100.", "Pause again"].map(String::from).to_vec();
    for (continuity, heard, expected) in [
        (Off, Waited, Ok(&first)),
        (Off, Sent, Err("was sent on ended: connectionClosed")),
        (Off, Frame, Err("was sent on ended: connectionClosed")),
        (Off, Playing, Err("was sent on ended: connectionClosed")),
        (Unanswered, Waited, Ok(&first)),
        (Unanswered, Sent, Ok(&whole)),
        (Unanswered, Frame, Err("after the answer had begun")),
        (Unanswered, Playing, Err("after the answer had begun")),
        (Unanswered, Paused, Err("after the answer had begun")),
        (Unanswered, Ended, Err("played to its end")),
        (Resume, Waited, Ok(&first)),
        (Resume, Sent, Ok(&whole)),
        (Resume, Frame, Err("after the answer had begun")),
        (Resume, Playing, Ok(&from_650)),
        (Resume, Paused, Ok(&from_150)),
        (Resume, PlayedToItsEnd, Err("played to its end")),
        (Resume, Ended, Err("played to its end")),
    ] {
        let (again, failed) = broken(continuity, heard);
        match expected {
            Ok(pieces) => assert_eq!((&again, failed), (pieces, None), "{continuity:?}, {heard:?}"),
            Err(reason) => {
                let why = failed.unwrap_or_else(|| panic!("{continuity:?}, {heard:?}: {again:?}"));
                assert!(why.contains(reason), "{continuity:?}, {heard:?}: {why}");
                assert!(again.is_empty(), "{continuity:?}, {heard:?}: {again:?}");
            }
        }
    }
}

#[test]
fn what_is_sent_again_comes_before_what_was_accepted_later() {
    let mut ledger = with(Continuity::Unanswered);
    accept(&mut ledger, "a", 1, false, second(0));
    accept(&mut ledger, "b", 2, false, second(0));
    pumped(&mut ledger);
    for (id, bytes) in [("c", 3), ("a", 4), ("b", 5)] {
        accept(&mut ledger, id, bytes, true, second(0));
    }
    ledger.connection_lost(CLOSED, second(1));
    let mut fresh = 0;
    let mut order = Vec::new();
    while let Some(outgoing) = ledger.next_to_send(|| {
        fresh += 1;
        format!("fresh{fresh}")
    }) {
        let Outgoing::Audio { req_id, audio, .. } = outgoing else { panic!("no control is due") };
        order.push((req_id, audio.len()));
    }
    let expected = [("fresh1", 1), ("fresh2", 2), ("c", 3), ("fresh1", 4), ("fresh2", 5)];
    assert_eq!(order, expected.map(|(id, bytes)| (id.to_owned(), bytes)));
    assert_eq!(
        ["fresh1", "fresh2", "c", "a"].map(|id| ledger.client_id(id)),
        [Some("a"), Some("b"), Some("c"), None]
    );
}

#[test]
fn an_answer_under_the_fresh_id_is_the_clients_and_one_under_the_old_id_is_late() {
    let mut ledger = with(Continuity::Unanswered);
    accept(&mut ledger, "a", 10, true, second(0));
    pumped(&mut ledger);
    ledger.connection_lost(CLOSED, second(1));
    assert_eq!(ledger.frame("a", true, second(1)), FrameFate::Late, "nothing is sent yet");
    pumped(&mut ledger);
    assert_eq!(
        ledger.frame("a", true, second(1)),
        FrameFate::Late,
        "nothing by that id is on this connection"
    );
    assert_eq!(ledger.frame("again", true, second(2)), FrameFate::Deliver);
    let record = ledger.next_settled().unwrap();
    assert_eq!((record.req_id.as_str(), record.outcome, record.breaks), ("a", Some(Outcome::Completed), 1));
}

#[test]
fn a_request_that_broke_two_connections_is_not_sent_a_third_time() {
    let mut ledger = with(Continuity::Unanswered);
    accept(&mut ledger, "a", 10, true, second(0));
    for broke in 1..=2 {
        assert!(!pumped(&mut ledger).is_empty());
        accept(&mut ledger, &format!("waits {broke}"), 1, true, second(0));
        ledger.connection_lost(CLOSED, second(broke));
    }
    assert_eq!(settled(&mut ledger), [("a".into(), Outcome::Failed(CLOSED))]);
    let record = ledger.record("a").unwrap();
    assert_eq!(record.breaks, 2);
    assert!(record.reason.as_ref().unwrap().contains("the request may be the reason"));
    assert_eq!(
        pumped(&mut ledger),
        ["again:1.", "waits 2:1."],
        "one that only waited is not counted against"
    );
}

#[test]
fn what_waits_for_a_connection_is_stale_by_its_age_from_the_break_and_by_its_own_deadline() {
    let mut ledger = with(Continuity::Unanswered);
    accept(&mut ledger, "long", 20_000, true, second(0));
    accept(&mut ledger, "short", 1000, true, second(0));
    pumped(&mut ledger);
    ledger.connection_lost(CLOSED, second(10));
    // The age of 30 s from the break for one; a second and the grace from its last chunk for the other.
    assert_eq!(ledger.next_timeout(), Some(second(31)));
    ledger.tick(Some(ErrorCode::UpstreamError), second(31));
    assert_eq!(settled(&mut ledger), [("short".into(), Outcome::Failed(ErrorCode::UpstreamError))]);
    assert!(ledger.record("short").unwrap().reason.as_ref().unwrap().contains("waited 21 s"));
    assert_eq!(ledger.next_timeout(), Some(second(40)));
    ledger.tick(Some(ErrorCode::UpstreamError), second(40));
    assert_eq!(settled(&mut ledger).len(), 1);
    assert_eq!(pumped(&mut ledger), [""; 0], "nobody is there to be told");
}

#[test]
fn an_interrupt_of_what_is_to_be_sent_again_ends_it_silently() {
    let mut ledger = with(Continuity::Unanswered);
    accept(&mut ledger, "a", 10, true, second(0));
    pumped(&mut ledger);
    ledger.connection_lost(CLOSED, second(1));
    assert_eq!(ledger.interrupt("a", second(1)), InterruptFate::Dropped);
    assert_eq!(pumped(&mut ledger), [""; 0]);
    assert_eq!(ledger.kept_bytes(), 0);
}

#[test]
fn what_was_to_be_told_on_a_broken_connection_is_not_told_on_the_next() {
    let mut ledger = with(Continuity::Unanswered);
    accept(&mut ledger, "a", 10, true, second(0));
    pumped(&mut ledger);
    assert_eq!(ledger.interrupt("a", second(1)), InterruptFate::Told);
    ledger.connection_lost(CLOSED, second(1));
    assert_eq!(pumped(&mut ledger), [""; 0]);
    assert_eq!(ledger.frame("a", true, second(1)), FrameFate::Late);
}

#[test]
fn the_rest_of_a_request_is_counted_from_where_it_was_resumed() {
    let mut ledger = with(Continuity::Resume);
    accept(&mut ledger, "a", 4000, true, second(0));
    pumped(&mut ledger);
    ledger.playback("a", Playback::Playing(Duration::ZERO), second(1));
    ledger.connection_lost(CLOSED, second(2));
    assert_eq!(pumped(&mut ledger), ["again:3000."]);
    ledger.playback("again", Playback::Playing(Duration::from_millis(200)), second(3));
    assert_eq!(ledger.copies_bytes(), 3000);
    ledger.connection_lost(CLOSED, second(4));
    assert_eq!(settled(&mut ledger), [("a".into(), Outcome::Failed(CLOSED))], "it broke two connections");
}

#[test]
fn a_player_that_starves_is_not_beyond_what_was_sent() {
    let mut ledger = with(Continuity::Resume);
    accept(&mut ledger, "a", 301, false, second(0));
    pumped(&mut ledger);
    ledger.playback("a", Playback::Playing(Duration::ZERO), second(0));
    accept(&mut ledger, "a", 299, true, second(5));
    ledger.connection_lost(CLOSED, second(5));
    assert_eq!(pumped(&mut ledger), ["again:1", "again:299."], "it begins with a whole sample");
}

#[test]
fn a_request_whose_speaker_still_speaks_goes_on_with_what_comes() {
    let mut ledger = with(Continuity::Resume);
    accept(&mut ledger, "a", 300, false, second(0));
    pumped(&mut ledger);
    ledger.playback("a", Playback::Playing(Duration::ZERO), second(0));
    ledger.connection_lost(CLOSED, second(5));
    assert_eq!((ledger.kept_bytes(), ledger.open_count()), (0, 1));
    accept(&mut ledger, "a", 10, true, second(6));
    assert_eq!(pumped(&mut ledger), ["again:10."]);
    assert_eq!(ledger.frame("again", true, second(7)), FrameFate::Deliver);
}

#[test]
fn audio_that_cannot_be_cut_is_not_resumed() {
    let config =
        LedgerConfig { continuity: Continuity::Resume, bytes_per_second: None, ..LedgerConfig::default() };
    let mut ledger = Ledger::new(config);
    accept(&mut ledger, "ogg", 4000, true, second(0));
    pumped(&mut ledger);
    ledger.playback("ogg", Playback::Playing(Duration::ZERO), second(1));
    ledger.connection_lost(CLOSED, second(2));
    assert_eq!(settled(&mut ledger), [("ogg".into(), Outcome::Failed(CLOSED))]);
}
