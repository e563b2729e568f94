//! What spans an event comes to.

use std::sync::Arc;

use super::*;
use crate::events::{Bus, ClientAction, StateChange};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// 2026-01-02T03:04:05Z.
const NOW: Moment = Moment::at(Duration::from_secs(1_767_323_045));

fn peers() -> Peers {
    let peer = |host: &str, port| Peer { host: host.to_owned(), port };
    Peers { console: peer("console.example", 443), ingress: peer("ingress.example", 8443) }
}

fn mapper(ratio: f64) -> Mapper {
    Mapper::new([7; 16], Sampler::new(ratio), peers())
}

fn event(at: Moment, what: What) -> Arc<Event> {
    Bus::with_capacity(1).publish(at, Some("acme".into()), Some("ses_1".into()), what)
}

/// An attempt that came to `running` after 1 + 20 + 300 + 4000 ms.
fn attempt() -> Attempt {
    Attempt {
        attempt: 3,
        generation: 7,
        gate: ms(1),
        token: Some(ms(20)),
        connect: Some(ms(300)),
        handshake: Some(ms(4000)),
        outcome: None,
        connection_id: Some("conn-1".to_owned()),
    }
}

fn request() -> RequestEnd {
    RequestEnd {
        req_id: "req-1".to_owned(),
        outcome: "completed",
        code: None,
        breaks: 0,
        audio: Some(ms(2000)),
        frames: 50,
        first_frame: Some(ms(150)),
        duration: ms(2300),
    }
}

#[track_caller]
fn trace(mapped: Mapped) -> Trace {
    match mapped {
        Mapped::Trace(trace) => trace,
        Mapped::SampledOut | Mapped::Nothing => panic!("{mapped:?}"),
    }
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let mut values = span.attributes.iter().filter(|attribute| attribute.key.as_str() == name);
    let value = values.next().map(|attribute| attribute.value.to_string());
    assert!(values.next().is_none(), "{name} is there twice");
    value
}

/// Where a span begins and ends, in milliseconds before `end`.
fn before(span: &SpanData, end: Moment) -> (u128, u128) {
    let back = |at: SystemTime| calendar(end).duration_since(at).unwrap().as_millis();
    (back(span.start_time), back(span.end_time))
}

fn is_error(span: &SpanData) -> bool {
    matches!(span.status, Status::Error { .. })
}

#[test]
fn an_attempt_is_a_root_with_a_child_for_each_step_that_was_begun() {
    const BAD: Option<ErrorCode> = Some(ErrorCode::ConnectionFailed);
    type Row = (&'static str, u128, u128, bool);
    let cases: [(&str, Attempt, Vec<Row>); 6] = [
        (
            "all steps, well",
            attempt(),
            vec![
                (names::ATTEMPT, 4321, 0, false),
                (names::GATE, 4321, 4320, false),
                (names::TOKEN, 4320, 4300, false),
                (names::CONNECT, 4300, 4000, false),
                (names::HANDSHAKE, 4000, 0, false),
            ],
        ),
        (
            "the handshake failed",
            Attempt { outcome: BAD, connection_id: None, ..attempt() },
            vec![
                (names::ATTEMPT, 4321, 0, true),
                (names::GATE, 4321, 4320, false),
                (names::TOKEN, 4320, 4300, false),
                (names::CONNECT, 4300, 4000, false),
                (names::HANDSHAKE, 4000, 0, true),
            ],
        ),
        (
            "the upgrade failed",
            Attempt { outcome: BAD, handshake: None, ..attempt() },
            vec![
                (names::ATTEMPT, 321, 0, true),
                (names::GATE, 321, 320, false),
                (names::TOKEN, 320, 300, false),
                (names::CONNECT, 300, 0, true),
            ],
        ),
        (
            "the token call failed, after no wait at the gate",
            Attempt { outcome: BAD, gate: Duration::ZERO, connect: None, handshake: None, ..attempt() },
            vec![(names::ATTEMPT, 20, 0, true), (names::GATE, 20, 20, false), (names::TOKEN, 20, 0, true)],
        ),
        (
            "no step was begun",
            Attempt { outcome: BAD, token: None, connect: None, handshake: None, ..attempt() },
            vec![(names::ATTEMPT, 1, 0, true), (names::GATE, 1, 0, false)],
        ),
        (
            "no token was asked for",
            Attempt { token: None, ..attempt() },
            vec![
                (names::ATTEMPT, 4301, 0, false),
                (names::GATE, 4301, 4300, false),
                (names::CONNECT, 4300, 4000, false),
                (names::HANDSHAKE, 4000, 0, false),
            ],
        ),
    ];
    for (case, attempt, expected) in cases {
        let spans = trace(mapper(1.0).map(&event(NOW, What::Attempt(attempt))));
        let found: Vec<Row> = spans
            .iter()
            .map(|span| {
                let (start, end) = before(span, NOW);
                let name = expected.iter().find(|row| row.0 == span.name).map_or("another", |row| row.0);
                (name, start, end, is_error(span))
            })
            .collect();
        assert_eq!(found, expected, "{case}");
        let root = &spans[0].span_context;
        assert_eq!(spans[0].parent_span_id, SpanId::INVALID, "{case}");
        for span in &spans[1..] {
            assert_eq!(span.parent_span_id, root.span_id(), "{case}");
            assert_eq!(span.span_context.trace_id(), root.trace_id(), "{case}");
        }
        for span in &spans {
            let code = is_error(span).then_some("connectionFailed".to_owned());
            assert_eq!(attribute(span, names::ERROR_TYPE), code, "{case}: {}", span.name);
        }
    }
}

#[test]
fn an_attempts_spans_say_what_they_are_of_and_where_each_step_went() {
    let event = event(NOW, What::Attempt(attempt()));
    let spans = trace(mapper(1.0).map(&event));
    for span in &spans {
        assert_eq!(attribute(span, names::SESSION).as_deref(), Some("ses_1"));
        assert_eq!(attribute(span, names::TENANT_ID).as_deref(), Some("acme"));
        assert_eq!(attribute(span, names::EVENT_ID), Some(event.id.to_string()));
        assert_eq!(span.instrumentation_scope.name(), "greenroom");
    }
    let root = &spans[0];
    for (name, value) in [
        (names::ATTEMPT_NUMBER, "3"),
        (names::GENERATION, "7"),
        (names::OUTCOME, "running"),
        (names::CONNECTION_ID, "conn-1"),
    ] {
        assert_eq!(attribute(root, name).as_deref(), Some(value), "{name}");
    }
    let went = |span: &SpanData| {
        (span.span_kind.clone(), attribute(span, names::SERVER_ADDRESS), attribute(span, names::SERVER_PORT))
    };
    let to = |host: &str, port: &str| (SpanKind::Client, Some(host.to_owned()), Some(port.to_owned()));
    let nowhere = (SpanKind::Internal, None, None);
    let expected = [
        nowhere.clone(),
        nowhere,
        to("console.example", "443"),
        to("ingress.example", "8443"),
        to("ingress.example", "8443"),
    ];
    assert_eq!(spans.iter().map(went).collect::<Vec<_>>(), expected);
}

#[test]
fn a_failure_is_described_in_the_words_of_its_code() {
    let failed = Attempt { outcome: Some(ErrorCode::CreditsExhausted), handshake: None, ..attempt() };
    let spans = trace(mapper(1.0).map(&event(NOW, What::Attempt(failed))));
    assert_eq!(attribute(&spans[0], names::OUTCOME).as_deref(), Some("creditsExhausted"));
    assert_eq!(spans[0].status, Status::error("The account has no credits left."));
    assert_eq!(spans[3].status, spans[0].status);
}

#[test]
fn a_clock_behind_the_durations_bends_the_spans_and_none_leaves_its_parent() {
    for at in [Moment::ZERO, Moment::at(ms(100)), Moment::at(ms(4310))] {
        let spans = trace(mapper(1.0).map(&event(at, What::Attempt(attempt()))));
        let request = trace(mapper(1.0).map(&event(at, What::Request(request()))));
        for span in spans.iter().chain(&request) {
            assert!(span.start_time >= UNIX_EPOCH && span.start_time <= span.end_time, "{span:?}");
            assert!(span.end_time <= calendar(at), "{span:?}");
            assert!(span.events.iter().all(|event| event.timestamp <= span.end_time), "{span:?}");
        }
        for pair in spans[1..].windows(2) {
            assert_eq!(pair[0].end_time, pair[1].start_time);
        }
        assert_eq!(spans.last().unwrap().end_time, calendar(at));
    }
    let endless = Attempt { gate: Duration::MAX, token: Some(Duration::MAX), ..attempt() };
    let spans = trace(mapper(1.0).map(&event(Moment::at(Duration::MAX), What::Attempt(endless))));
    assert!(spans.iter().all(|span| span.start_time <= span.end_time));
}

#[test]
fn a_request_is_one_span_with_the_moment_of_its_first_frame() {
    let spans = trace(mapper(1.0).map(&event(NOW, What::Request(request()))));
    let [span] = spans.as_slice() else { panic!("one span: {spans:?}") };
    assert_eq!((span.name.as_ref(), &span.span_kind), (names::REQUEST, &SpanKind::Server));
    assert_eq!(before(span, NOW), (2300, 0));
    let [first_frame] = span.events.events.as_slice() else { panic!("one event") };
    let after = first_frame.timestamp.duration_since(span.start_time).unwrap();
    assert_eq!((first_frame.name.as_ref(), after), (names::FIRST_FRAME, ms(150)));
    for (name, value) in [
        (names::SESSION, "ses_1"),
        (names::TENANT_ID, "acme"),
        (names::REQUEST_ID, "req-1"),
        (names::OUTCOME, "completed"),
        (names::BREAKS, "0"),
        (names::FRAMES, "50"),
        (names::AUDIO_MS, "2000"),
        (names::FIRST_FRAME_MS, "150"),
    ] {
        assert_eq!(attribute(span, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!((&span.status, attribute(span, names::ERROR_TYPE)), (&Status::Unset, None));
}

#[test]
fn only_a_failed_request_is_an_error_and_what_it_does_not_have_is_left_out() {
    for (outcome, code, error) in [
        ("completed", None, None),
        ("interrupted", None, None),
        ("failed", Some(ErrorCode::ConnectionClosed), Some("connectionClosed")),
        ("failed", None, Some("_OTHER")),
    ] {
        let request = RequestEnd { outcome, code, audio: None, first_frame: None, ..request() };
        let spans = trace(mapper(1.0).map(&event(NOW, What::Request(request))));
        assert_eq!(is_error(&spans[0]), error.is_some(), "{outcome}");
        assert_eq!(attribute(&spans[0], names::ERROR_TYPE).as_deref(), error, "{outcome}");
        assert_eq!(attribute(&spans[0], names::OUTCOME).as_deref(), Some(outcome));
        assert_eq!(attribute(&spans[0], names::AUDIO_MS), None);
        assert!(spans[0].events.is_empty());
    }
}

#[test]
fn a_request_links_to_the_attempt_of_the_connection_that_it_ran_on_last() {
    let mut mapper = mapper(1.0);
    let link =
        |spans: &Trace| spans[0].links.iter().map(|link| link.span_context.clone()).collect::<Vec<_>>();
    let mut told = 0;
    let mut tell = |mapper: &mut Mapper, what: What| {
        told += 1;
        mapper.map(&event(NOW + ms(told), what))
    };
    let before_any = trace(tell(&mut mapper, What::Request(request())));
    assert_eq!((link(&before_any), attribute(&before_any[0], names::CONNECTION_ID)), (vec![], None));

    let first = trace(tell(&mut mapper, What::Attempt(attempt())));
    let on_first = trace(tell(&mut mapper, What::Request(request())));
    assert_eq!(link(&on_first), [first[0].span_context.clone()]);
    assert_eq!(attribute(&on_first[0], names::CONNECTION_ID).as_deref(), Some("conn-1"));
    assert_eq!(attribute(&on_first[0], names::GENERATION).as_deref(), Some("7"));
    assert_ne!(on_first[0].span_context.trace_id(), first[0].span_context.trace_id());

    let failed = Attempt { outcome: Some(ErrorCode::ServerError), generation: 8, ..attempt() };
    tell(&mut mapper, What::Attempt(failed));
    assert_eq!(link(&trace(tell(&mut mapper, What::Request(request())))), [first[0].span_context.clone()]);

    let again = Attempt { generation: 9, connection_id: Some("conn-2".to_owned()), ..attempt() };
    let second = trace(tell(&mut mapper, What::Attempt(again)));
    let on_second = trace(tell(&mut mapper, What::Request(request())));
    assert_eq!(link(&on_second), [second[0].span_context.clone()]);
    assert_eq!(attribute(&on_second[0], names::CONNECTION_ID).as_deref(), Some("conn-2"));

    let stopped = StateChange {
        from: Some(StateName::Running),
        to: StateName::Stopped,
        code: None,
        parked_by: None,
        next_attempt_at: None,
        recovered_after: None,
        budget_exhausted: false,
    };
    assert!(matches!(tell(&mut mapper, What::State(stopped)), Mapped::Nothing));
    assert!(mapper.connected.is_empty(), "what has stopped is forgotten");
}

#[test]
fn the_connections_that_are_remembered_are_bounded() {
    let mut mapper = mapper(1.0);
    let bus = Bus::with_capacity(1);
    let mut tell = |session: String| {
        mapper.map(&bus.publish(NOW, None, Some(session.into()), What::Attempt(attempt())));
    };
    (0..REMEMBERED + 10).for_each(|number| tell(format!("ses_{number}")));
    tell("ses_3".to_owned());
    assert_eq!(mapper.connected.len(), REMEMBERED);
}

#[test]
fn what_failed_is_kept_whatever_the_ratio_and_the_rest_as_the_session_says() {
    let failed = Attempt { outcome: Some(ErrorCode::ServerError), ..attempt() };
    let lost = RequestEnd { outcome: "failed", code: Some(ErrorCode::ServerError), ..request() };
    let mut none = mapper(0.0);
    assert!(matches!(none.map(&event(NOW, What::Attempt(attempt()))), Mapped::SampledOut));
    assert!(matches!(none.map(&event(NOW, What::Request(request()))), Mapped::SampledOut));
    trace(none.map(&event(NOW, What::Attempt(failed))));
    let kept = trace(none.map(&event(NOW, What::Request(lost))));
    assert!(kept[0].links.is_empty(), "it would link to what is not there");
    assert_eq!(attribute(&kept[0], names::CONNECTION_ID).as_deref(), Some("conn-1"));

    let mut some = mapper(0.5);
    let mut kept = 0;
    for number in 0..200 {
        let session = || Some(format!("ses_{number}").into());
        let bus = Bus::with_capacity(1);
        let one = bus.publish(NOW, None, session(), What::Attempt(attempt()));
        let other = bus.publish(NOW, None, session(), What::Request(request()));
        let of_one = matches!(some.map(&one), Mapped::Trace(_));
        assert_eq!(
            of_one,
            matches!(some.map(&other), Mapped::Trace(_)),
            "a session is kept or left as a whole"
        );
        kept += u32::from(of_one);
    }
    assert!((60..140).contains(&kept), "{kept} of 200");
}

#[test]
fn other_events_make_no_trace() {
    let mapped = mapper(1.0).map(&event(NOW, What::Client { action: ClientAction::Left }));
    assert!(matches!(mapped, Mapped::Nothing));
}

#[test]
fn ids_differ_by_span_event_and_process_and_are_the_same_each_time() {
    let bus = Bus::with_capacity(8);
    let tell = |seed| {
        let mut mapper = Mapper::new(seed, Sampler::new(1.0), peers());
        move |event: &Event| trace(mapper.map(event))
    };
    let events = [(); 2].map(|()| bus.publish(NOW, None, None, What::Attempt(attempt())));
    let mut spans: Vec<SpanData> = events.iter().flat_map(|event| tell([1; 16])(event)).collect();
    assert_eq!(spans, events.iter().flat_map(|event| tell([1; 16])(event)).collect::<Vec<_>>());
    spans.extend(tell([2; 16])(&events[0]));
    let mut ids: Vec<_> = spans.iter().map(|span| span.span_context.span_id().to_bytes()).collect();
    let mut traces: Vec<_> = spans.iter().map(|span| span.span_context.trace_id().to_bytes()).collect();
    ids.sort_unstable();
    ids.dedup();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!((spans.len(), ids.len(), traces.len()), (15, 15, 3));
    assert!(spans.iter().all(|span| span.span_context.is_valid() && span.span_context.is_sampled()));
}
