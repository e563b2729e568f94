//! The table against our own classifier.

use super::*;

/// What a client that classifies as we do makes of a refused upgrade.
fn read_upgrade(row: &Row) -> ErrorCode {
    let evidence = Evidence {
        http_status: Some(row.status),
        server_detail: Some(row.message.replace("{avatar}", "a")),
        ..Evidence::new(Phase::WebsocketConnect, Observed::Answer, Egress::Unknown)
    };
    classify(&evidence).code
}

fn read_closing(row: &Row, phase: Phase, egress: Egress) -> ErrorCode {
    let Parting { error, connection_id: _, close, reason } = row.parting("a", None);
    let observed = if error.is_some() { Observed::ServerError } else { Observed::SocketEnded };
    let evidence = Evidence {
        server_code: error.as_ref().map(|words| words.code.to_string()),
        server_detail: error.map(|words| words.text),
        close_code: Some(close),
        close_reason: Some(reason),
        ..Evidence::new(phase, observed, egress)
    };
    classify(&evidence).code
}

#[test]
fn every_code_has_its_row_in_its_place() {
    for code in ErrorCode::ALL {
        assert_eq!(Row::of(code).code, code);
    }
}

#[test]
fn every_row_reads_back_as_its_code_where_the_protocol_can_say_it() {
    for row in &ROWS {
        assert_eq!(read_upgrade(row), row.upgrade_code(), "{}: upgrade", row.code);
        for phase in [Phase::WebsocketHandshake, Phase::WebsocketRuntime] {
            for egress in [Egress::None, Egress::Livekit, Egress::Agora, Egress::Unknown] {
                let read = read_closing(row, phase, egress);
                assert_eq!(read, row.closing_code(), "{}: {phase} {egress:?}", row.code);
            }
        }
    }
}

#[test]
fn an_exception_is_one() {
    for row in &ROWS {
        for (code, why) in [row.upgrade_reads_as, row.closing_reads_as].into_iter().flatten() {
            assert_ne!(code, row.code, "an exception that is none: {why}");
        }
    }
    let excepted = |of: fn(&Row) -> bool| ROWS.iter().filter(|row| of(row)).count();
    assert_eq!(excepted(|row| row.upgrade_reads_as.is_some()), 4);
    assert_eq!(excepted(|row| row.closing_reads_as.is_some()), 2);
}

#[test]
fn no_word_of_ours_is_the_one_that_older_clients_take_for_egress() {
    for row in &ROWS {
        for text in [Some(row.message), row.error.map(|(_, text)| text)].into_iter().flatten() {
            assert!(is_well_worded(text), "{text}");
        }
    }
}

#[test]
fn a_code_that_asks_for_a_person_or_a_payment_is_closed_so_that_nobody_reconnects_at_once() {
    use crate::errors::Action;
    for row in &ROWS {
        let at_fault = (4000..4500).contains(&row.close);
        match row.code.default_action() {
            Action::Park | Action::Fail => assert!(at_fault, "{}", row.code),
            Action::Restart | Action::Sleep => assert!(!at_fault, "{}", row.code),
            // The service has one code for tokens.
            Action::Renew => assert_eq!(row.close, 4010, "{}", row.code),
        }
    }
}

#[test]
fn the_services_own_words_are_taken_where_they_mean_the_same() {
    let row = Row::of(ErrorCode::CreditsExhausted);
    assert_eq!(
        row.upgrade_message("a", Some("credits exhausted for acct 7")),
        "credits exhausted for acct 7"
    );
    assert_eq!(row.upgrade_message("a", Some("app id mismatch")), "session denied: credits exhausted");
    assert_eq!(row.upgrade_message("a", Some(" ")), "session denied: credits exhausted");
    let row = Row::of(ErrorCode::AvatarNotFound);
    assert_eq!(row.upgrade_message("a-1", None), "Avatar not found: a-1");
    let said = "avatar not found (unauthorized)";
    assert_eq!(row.upgrade_message("a-1", Some(said)), "Avatar not found: a-1");
    let parting = row.parting("a-1", Some("avatar not found in eu: a-1"));
    assert_eq!(parting.error.map(|words| words.text).as_deref(), Some("avatar not found in eu: a-1"));
    assert_eq!(parting.reason, "avatar not found in eu: a-1");
    assert_eq!(row.parting("a-1", Some(said)).reason, "Avatar not found: a-1");
}

#[test]
fn the_documentation_shows_the_table() {
    let docs = include_str!("../../../../docs/ingress.md");
    assert!(docs.contains(&markdown()), "docs/ingress.md must have\n{}", markdown());
}
