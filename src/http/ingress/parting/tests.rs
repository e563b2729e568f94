//! What a client is told at the end.

use std::sync::Arc;

use super::*;
use crate::errors::{Egress, Evidence, Observed};

fn error(evidence: Evidence) -> SessionError {
    SessionError::classified(evidence, "for people")
}

fn evidence(phase: Phase) -> Evidence {
    Evidence::new(phase, Observed::Answer, Egress::None)
}

fn refused(status: u16, detail: &str, raw_body: Option<&str>) -> SessionError {
    let evidence = Evidence {
        http_status: Some(status),
        server_detail: Some(detail.to_owned()),
        ..evidence(Phase::WebsocketConnect)
    };
    SessionError { raw_body: raw_body.map(str::to_owned), ..error(evidence) }
}

fn of(error: SessionError) -> (Refusal, Parting) {
    let farewell = Farewell::Error(Arc::new(error));
    (Refusal::of(&farewell, "a-1"), Parting::of(&farewell, "a-1"))
}

#[test]
fn a_refusal_of_the_service_is_given_through_as_it_came() {
    let body = r#"{"message":"session denied: credits exhausted","more":[1]}"#;
    let (refusal, parting) = of(refused(402, "session denied: credits exhausted", Some(body)));
    assert_eq!((refusal.status, refusal.body), (402, format!("{body}\n")));
    assert_eq!(refusal.retry_after, None);
    assert_eq!((parting.close, parting.error.unwrap().code), (4001, 4001));

    let mut later = refused(503, "maintenance", Some("maintenance"));
    later.retry_after = Some(Duration::from_secs(77));
    let (refusal, parting) = of(later);
    assert_eq!((refusal.status, refusal.body.as_str()), (503, "maintenance\n"));
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(77)));
    assert_eq!((parting.close, parting.reason.as_str()), (4503, "maintenance"));
}

#[test]
fn half_a_body_is_not_given_through_but_its_status_and_message_are() {
    let (refusal, _) = of(refused(418, "a teapot", Some(&"x".repeat(MAX_RAW_BODY_BYTES))));
    assert_eq!((refusal.status, refusal.body.as_str()), (418, "{\"message\":\"a teapot\"}\n"));
}

#[test]
fn what_the_service_said_elsewhere_is_told_by_the_table_with_its_words_where_they_fit() {
    let token = Evidence {
        http_status: Some(402),
        server_detail: Some("session denied: pay first".into()),
        ..evidence(Phase::SessionToken)
    };
    let (refusal, parting) = of(error(token));
    assert_eq!(
        (refusal.status, refusal.body.as_str()),
        (402, "{\"message\":\"session denied: pay first\"}\n")
    );
    assert_eq!((parting.close, parting.reason.as_str()), (4000, "session denied: pay first"));
    // A 404 that names nothing would be an avatar's if it were told with another text.
    let (refusal, _) = of(error(Evidence { http_status: Some(403), ..evidence(Phase::SessionToken) }));
    assert_eq!((refusal.status, refusal.body.as_str()), (404, "{\"message\":\"app id unrecognized\"}\n"));
}

#[test]
fn an_error_and_close_of_the_service_are_given_through_as_they_came() {
    let told =
        |code: Option<&str>, detail: Option<&str>, close: Option<u16>, reason: Option<&str>| Evidence {
            server_code: code.map(str::to_owned),
            server_detail: detail.map(str::to_owned),
            close_code: close,
            close_reason: reason.map(str::to_owned),
            observed: if code.is_some() { Observed::ServerError } else { Observed::SocketEnded },
            ..evidence(Phase::WebsocketRuntime)
        };
    let (_, parting) = of(error(told(Some("14"), Some("livekit silence timeout"), Some(1000), Some("idle"))));
    let words = Words { code: 14, text: "livekit silence timeout".into() };
    assert_eq!(parting, Parting { error: Some(words), ..Parting::silent(1000, "idle") });

    let (_, parting) = of(error(told(None, None, Some(4001), Some("no credits left"))));
    assert_eq!(parting, Parting::silent(4001, "no credits left"));

    let refused = error(told(Some("0"), Some("unsupported sample rate: 7"), Some(1008), None));
    let (_, parting) = of(SessionError { connection_id: Some("conn_1".into()), ..refused });
    assert_eq!(parting.connection_id.as_deref(), Some("conn_1"));

    // Without a close, or with one that was never sent, the table's stands for it.
    for close in [None, Some(1006)] {
        let (_, parting) = of(error(told(Some("3"), Some("bad chunk"), close, None)));
        assert_eq!(parting.error, Some(Words { code: 3, text: "bad chunk".into() }));
        assert_eq!(parting.close, 4000);
    }
    let (refusal, parting) = of(error(told(None, None, Some(1006), None)));
    assert_eq!((parting.error, parting.close), (None, 1011));
    assert_eq!(refusal.status, 503);
}

#[test]
fn every_other_farewell_has_its_words_and_none_names_what_older_clients_misread() {
    for (farewell, status, close, has_error) in [
        (Farewell::Suspended(ErrorCode::CreditsExhausted), 402, 4001, true),
        (Farewell::KeyRefused, 503, 4503, true),
        (Farewell::ParkedByOperator, 503, 4500, true),
        (Farewell::Deleted, 409, 1000, false),
        (Farewell::Draining, 503, 1012, false),
        (Farewell::TakenOver, 409, 4000, true),
        (Farewell::Overrun, 503, 1013, false),
    ] {
        let (refusal, parting) = (Refusal::of(&farewell, "a"), Parting::of(&farewell, "a"));
        assert_eq!((refusal.status, parting.close), (status, close), "{farewell:?}");
        assert_eq!(parting.error.is_some(), has_error, "{farewell:?}");
        assert_eq!(refusal.retry_after.is_some(), status == 503, "{farewell:?}");
        let texts = format!("{} {}", refusal.body, parting.reason).to_lowercase();
        assert!(!texts.contains("unauthorized"), "{texts}");
    }
}

#[test]
fn a_reason_fits_its_frame_and_is_cut_between_characters() {
    let parting = Parting::silent(1000, &"\u{20ac}".repeat(60));
    assert_eq!(parting.reason().len(), 123);
    assert!(parting.reason().chars().all(|character| character == '\u{20ac}'));
}
