//! What is refused, and what is dropped, to stay within bounds.

use super::*;

#[test]
fn every_bound_refuses_and_says_so() {
    let mut ledger = ledger();
    ledger.accept("a", audio(900), false, usize::MAX, second(0)).unwrap();
    assert_eq!(
        ledger.accept("a", audio(101), true, usize::MAX, second(0)),
        Err(Refusal::Full { queued: 900, bound: 1000 })
    );
    ledger.accept("b", audio(0), true, usize::MAX, second(0)).unwrap();
    assert_eq!(ledger.accept("b", audio(1), true, usize::MAX, second(0)), Err(Refusal::AfterEnd));
    ledger.accept("c", audio(0), false, usize::MAX, second(0)).unwrap();
    assert_eq!(
        ledger.accept("d", audio(0), false, usize::MAX, second(0)),
        Err(Refusal::TooManyOpen { open: 3 })
    );
    ledger.interrupt("c", second(0));
    assert_eq!(
        ledger.accept("c", audio(0), true, usize::MAX, second(0)),
        Err(Refusal::Ended(Outcome::Interrupted))
    );
}

#[test]
fn one_piece_above_the_bound_passes_an_empty_outbox() {
    let mut ledger = ledger();
    ledger.accept("a", audio(5000), true, usize::MAX, second(0)).unwrap();
    assert_eq!(sent(&mut ledger).unwrap().1, 5000);
}

#[test]
fn empty_pieces_do_not_grow_memory_without_a_bound() {
    let mut ledger = ledger();
    let mut accepted = 0;
    let refusal = loop {
        match ledger.accept("a", Bytes::new(), false, usize::MAX, second(0)) {
            Ok(()) => accepted += 1,
            Err(refusal) => break refusal,
        }
        assert!(accepted < 1_000_000, "there must be a bound");
    };
    assert_eq!(refusal, Refusal::TooManyPieces { queued: accepted });
    sent(&mut ledger);
    assert_eq!(ledger.accept("a", Bytes::new(), true, usize::MAX, second(0)), Ok(()));
}

#[test]
fn copies_make_room_and_push_nobody_back() {
    let mut ledger = ledger();
    for id in ["a", "b"] {
        accept(&mut ledger, id, 400, true, second(0));
        pumped(&mut ledger);
    }
    assert_eq!((ledger.queued_bytes(), ledger.copies_bytes()), (0, 800));
    accept(&mut ledger, "c", 300, true, second(0));
    assert_eq!(
        (ledger.queued_bytes(), ledger.copies_bytes()),
        (300, 400),
        "the oldest request's are dropped"
    );
    ledger.connection_lost(ErrorCode::ConnectionClosed, second(1));
    assert_eq!(settled(&mut ledger), [("a".into(), Outcome::Failed(ErrorCode::ConnectionClosed))]);
    assert!(ledger.record("a").unwrap().reason.as_ref().unwrap().contains("for want of room"));
    assert_eq!(pumped(&mut ledger), ["again:400.", "c:300."]);
}

#[test]
fn a_clip_longer_than_the_bound_passes_while_it_is_sent() {
    let mut ledger = Ledger::new(LedgerConfig::default());
    // 90 s at 48 kHz, in pieces of 32 KiB.
    let (piece, count) = (32 << 10, 264);
    for number in 1..=count {
        accept(&mut ledger, "clip", piece, number == count, second(0));
        assert_eq!(sent(&mut ledger).unwrap().1, piece);
        assert!(ledger.kept_bytes() <= 8 << 20);
    }
    assert_eq!(ledger.record("clip").unwrap().audio_bytes, 8_650_752);
    ledger.connection_lost(ErrorCode::ConnectionClosed, second(1));
    assert_eq!(settled(&mut ledger).len(), 1, "what was dropped cannot be sent again");
}

#[test]
fn room_that_sessions_share_is_made_by_dropping_copies_or_refused() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 100, true, second(0));
    pumped(&mut ledger);
    let mut accept = |id: &str, bytes, room| ledger.accept(id, audio(bytes), true, room, second(0));
    assert_eq!(accept("b", 151, 50), Err(Refusal::NoRoom { bytes: 151, room: 150 }));
    assert_eq!(accept("b", 50, 50), Ok(()), "no copy has to go");
    assert_eq!(accept("c", 60, 50), Ok(()));
    assert_eq!((ledger.queued_bytes(), ledger.copies_bytes()), (110, 0));
}

#[test]
fn a_refusal_drops_nothing() {
    let mut ledger = ledger();
    accept(&mut ledger, "a", 900, true, second(0));
    pumped(&mut ledger);
    accept(&mut ledger, "b", 90, true, second(0));
    let refusals = [
        ledger.accept("a", audio(500), true, usize::MAX, second(0)),
        ledger.accept("b", audio(500), true, usize::MAX, second(0)),
        ledger.accept("c", audio(911), true, usize::MAX, second(0)),
    ];
    assert!(refusals.iter().all(Result::is_err), "{refusals:?}");
    assert_eq!((ledger.queued_bytes(), ledger.copies_bytes()), (90, 900));
}

#[test]
fn dropping_copies_says_what_it_frees_and_ends_when_none_are_left() {
    let mut ledger = ledger();
    for id in ["a", "b"] {
        accept(&mut ledger, id, 100, false, second(0));
    }
    accept(&mut ledger, "a", 0, true, second(0));
    pumped(&mut ledger);
    accept(&mut ledger, "c", 100, true, second(0));
    assert_eq!(ledger.drop_copies(0), 0);
    assert_eq!(ledger.drop_copies(1), 100, "a request's copies go together");
    assert_eq!(ledger.drop_copies(usize::MAX), 100);
    assert_eq!((ledger.drop_copies(1), ledger.queued_bytes()), (0, 100));
}

#[test]
fn nothing_is_kept_where_nothing_is_sent_again() {
    let mut ledger = Ledger::new(LedgerConfig { continuity: Continuity::Off, ..LedgerConfig::default() });
    accept(&mut ledger, "a", 10, false, second(0));
    pumped(&mut ledger);
    assert_eq!(ledger.kept_bytes(), 0);
}

#[test]
fn an_outcome_frees_all_that_its_request_holds() {
    let mut ledger = ledger();
    for (bytes, end) in [(10, false), (20, true)] {
        accept(&mut ledger, "a", bytes, end, second(0));
        sent(&mut ledger);
    }
    accept(&mut ledger, "b", 5, false, second(0));
    ledger.frame("a", true, second(1));
    assert_eq!((ledger.queued_bytes(), ledger.copies_bytes()), (5, 0));
    ledger.interrupt("b", second(1));
    assert_eq!((ledger.kept_bytes(), ledger.next_timeout()), (0, None));
}

#[test]
fn ended_ids_are_forgotten_by_their_bound() {
    let mut ledger = ledger();
    for number in 0..10 {
        let id = number.to_string();
        accept(&mut ledger, &id, 10, true, second(0));
        pumped(&mut ledger);
        ledger.frame(&id, true, second(0));
    }
    assert_eq!(ledger.client_id("5"), None);
    assert_eq!(ledger.client_id("6"), Some("6"));
    assert_eq!((ledger.record("5"), ledger.record("6").is_some()), (None, true));
}

#[test]
fn pauses_that_nobody_takes_do_not_grow_memory_and_the_last_word_counts() {
    let mut ledger = ledger();
    for id in ["a", "b"] {
        accept(&mut ledger, id, 10, true, second(0));
    }
    pumped(&mut ledger);
    ledger.pause("b", second(0));
    for _ in 0..1000 {
        ledger.resume("a", second(0));
        ledger.pause("a", second(0));
    }
    ledger.interrupt("b", second(0));
    let words = pumped(&mut ledger);
    assert!(words.len() < 70, "{}", words.len());
    assert_eq!(words.first().unwrap(), "Pause b");
    assert_eq!(words[words.len() - 2..], ["Pause a", "Interrupt b"]);
}
