//! What the records keep, seal and refuse.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use secrecy::SecretBox;
use serde_json::value::RawValue;

use super::*;
use crate::{
    errors::{Action, ErrorCode, Phase, SessionError},
    recovery::{SessionId, TenantId},
    store::{Memory, Pepper, StoreKey},
};

const SECRETS: [&str; 4] = ["hush-token", "hush-key", "hush-secret", "hush-upstream"];

fn key(byte: u8) -> Option<StoreKey> {
    Some(StoreKey::new(&SecretBox::new(Box::new([byte; 32]))))
}

fn records(vault: Vault) -> Records {
    Records::new(Arc::new(Memory::new()), Arc::new(vault))
}

fn keyed() -> Records {
    records(Vault::new(key(1), None, false))
}

fn error() -> SessionError {
    SessionError {
        code: ErrorCode::CreditsExhausted,
        phase: Phase::WebsocketRuntime,
        message: "no credits".to_owned(),
        http_status: Some(402),
        server_code: Some("4001".to_owned()),
        server_title: Some("title".to_owned()),
        server_detail: Some("detail".to_owned()),
        connection_id: Some("conn".to_owned()),
        req_id: Some("req".to_owned()),
        close_code: Some(4001),
        close_reason: Some("reason".to_owned()),
        raw_body: Some("{}".to_owned()),
        retry_after: Some(Duration::from_millis(1500)),
        rule: 7,
        shortage: None,
    }
}

fn session(id: &str) -> SessionRecord {
    SessionRecord {
        id: SessionId::from(id),
        tenant: TenantId::from("acme"),
        origin: Origin::Ingress,
        created_at: UnixMillis(1_763_841_600_000),
        spec: SpecRecord {
            avatar_id: "avatar".to_owned(),
            sample_rate: 16_000,
            bitrate: 0,
            audio_format: "pcm_s16le".to_owned(),
            egress: Some(EgressRecord::Livekit {
                url: "wss://room".to_owned(),
                room_name: "room".to_owned(),
                publisher_id: "me".to_owned(),
                extra_attributes: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
                idle_timeout: 3,
                api_token: SecretText::from(SECRETS[0]),
                api_key: SecretText::from(SECRETS[1]),
                api_secret: SecretText::from(SECRETS[2]),
            }),
            labels: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
            continuity: Some("unanswered".to_owned()),
            revision: 0,
        },
        desired: Desired::Parked { hold: HoldRecord::Error { code: ErrorCode::CreditsExhausted } },
        restarts: 12,
        budget: BudgetRecord {
            used: vec![UnixMillis(1), UnixMillis(2)],
            attempts: 3,
            renewals: 1,
            strikes: 2,
        },
        last_error: Some(ErrorRecord::new(&error(), UnixMillis(9))),
    }
}

fn tenant(id: &str, hash: crate::store::ClientKeyHash) -> TenantRecord {
    TenantRecord {
        id: TenantId::from(id),
        is_from_file: false,
        created_at: UnixMillis(5),
        app_id: "app".to_owned(),
        upstream_api_key: SecretText::from(SECRETS[3]),
        keys: vec![ClientKeyRecord {
            name: "first".to_owned(),
            hash,
            created_at: UnixMillis(5),
            expires_at: Some(UnixMillis(6)),
        }],
        max_sessions: 20,
        max_starts_per_minute: Some(3),
        outbox_bytes: None,
        max_connected_minutes_per_day: Some(100),
        policy: BTreeMap::from([(ErrorCode::SessionDurationExceeded, Action::Restart)]),
        continuity: None,
        requests_per_second: Some(50),
        idle_timeout_s: Some(60),
        is_leaving: false,
        suspension: Some(SuspensionRecord { code: ErrorCode::BillingRequired, since: UnixMillis(8) }),
    }
}

async fn all_bytes(records: &Records) -> String {
    let page = records.store().list(&Range::first(Prefix::new(""))).await.unwrap();
    page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect()
}

#[tokio::test]
async fn a_session_reads_back_as_it_was_written_in_every_desired_state() {
    let records = keyed();
    let code = ErrorCode::BillingRequired;
    for (number, desired) in [
        Desired::Run,
        Desired::Parked { hold: HoldRecord::Operator },
        Desired::Parked { hold: HoldRecord::KeyRefused },
        Desired::Parked { hold: HoldRecord::Suspension { code } },
        Desired::Parked { hold: HoldRecord::Error { code } },
        Desired::Dormant,
        Desired::Failed,
        Desired::Stopped { at: UnixMillis(77) },
    ]
    .into_iter()
    .enumerate()
    {
        let session = SessionRecord { desired, ..session(&format!("ses_{number}")) };
        let batch = records.stage_session(Batch::new(), &session, Expect::Absent).unwrap();
        let revision = records.commit(batch).await.unwrap();
        let kept = records.session(&session.id).await.unwrap().unwrap();
        assert_eq!(kept, Kept { record: session, revision });
    }
    let listed = records.sessions(None, None, 100).await.unwrap();
    assert_eq!((listed.records.len(), listed.next), (8, None));
    assert_eq!(records.session(&SessionId::from("ses_other")).await, Ok(None));
}

#[test]
fn an_error_reads_back_with_everything_that_was_known() {
    let (back, at) = ErrorRecord::new(&error(), UnixMillis(9)).into_error();
    assert_eq!((back, at), (error(), UnixMillis(9)));
}

#[tokio::test]
async fn no_secret_is_in_the_store_in_clear() {
    let records = keyed();
    let hash = Pepper::load(&**records.store(), records.vault()).await.unwrap().hash("hush-client");
    let batch = records.stage_session(Batch::new(), &session("ses_1"), Expect::Absent).unwrap();
    let batch = records.stage_tenant(batch, &tenant("acme", hash), Expect::Absent).unwrap();
    let begun = records.begin(asked("k", b"{}", "p1", 0)).await.unwrap();
    let Begun::New(ticket) = begun else { panic!("{begun:?}") };
    let answer = StoredAnswer { body: "hush-answer".to_owned(), ..answer() };
    let batch = records.stage_answer(batch, &ticket, &answer, true).unwrap();
    records.commit(batch).await.unwrap();
    let bytes = all_bytes(&records).await;
    assert!(bytes.contains("acme") && !bytes.contains("hush"), "{bytes}");
    let read = records.tenant(&TenantId::from("acme")).await.unwrap().unwrap();
    assert_eq!(read.record, tenant("acme", hash));
    assert_eq!(records.tenants(None, 10).await.unwrap().records, [read]);
    assert!(!format!("{:?} {:?}", session("ses_1"), tenant("acme", hash)).contains("hush"));
}

#[tokio::test]
async fn without_a_key_a_session_with_secrets_is_refused_and_one_without_is_kept() {
    let strict = records(Vault::default());
    let refused = strict.stage_session(Batch::new(), &session("ses_1"), Expect::Absent).unwrap_err();
    assert!(matches!(refused, StoreError::NoEncryptionKey { .. }), "{refused}");
    let mut plain = session("ses_1");
    for egress in [None, Some(agora(""))] {
        plain.spec.egress = egress;
        strict.stage_session(Batch::new(), &plain, Expect::Absent).unwrap();
    }
    plain.spec.egress = Some(agora("hush-token"));
    strict.stage_session(Batch::new(), &plain, Expect::Absent).unwrap_err();
    let open = records(Vault::new(None, None, true));
    let batch = open.stage_session(Batch::new(), &session("ses_1"), Expect::Absent).unwrap();
    open.commit(batch).await.unwrap();
    assert_eq!(open.session(&SessionId::from("ses_1")).await.unwrap().unwrap().record, session("ses_1"));
}

fn agora(token: &str) -> EgressRecord {
    EgressRecord::Agora {
        channel_name: "channel".to_owned(),
        token: SecretText::from(token),
        uid: 1,
        publisher_id: String::new(),
    }
}

#[tokio::test]
async fn a_record_under_another_ones_key_does_not_open() {
    let records = keyed();
    for id in ["ses_1", "ses_2"] {
        let batch = records.stage_session(Batch::new(), &session(id), Expect::Absent).unwrap();
        records.commit(batch).await.unwrap();
    }
    let store = records.store();
    let (one, two) = (Key::session(&SessionId::from("ses_1")), Key::session(&SessionId::from("ses_2")));
    let stolen = store.get(&one).await.unwrap().unwrap().value;
    store.put(two.clone(), stolen).await.unwrap();
    let error = records.session(&SessionId::from("ses_2")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { key, .. } if *key == two), "{error}");
    // The other one is listed all the same.
    let listed = records.sessions(None, None, 10).await.unwrap();
    assert_eq!((listed.records.len(), listed.unreadable), (1, vec![error]));
}

#[tokio::test]
async fn a_record_that_is_newer_or_damaged_is_refused_without_a_word_of_its_content() {
    let records = keyed();
    let key = Key::session(&SessionId::from("ses_1"));
    let put = |text: &'static str| records.store().put(key.clone(), text.into());
    put("{\"v\":2,\"id\":\"hush\"}").await.unwrap();
    let error = records.session(&SessionId::from("ses_1")).await.unwrap_err();
    assert_eq!(error, StoreError::NewerRecord { key: key.clone(), found: 2, known: 1 });
    for text in ["", "{\"v\":1,\"id\":\"hush\"}", "{\"v\":\"hush\"}", "hush", "{\"v\":1,\"id\":[\"hush\"]}"] {
        put(text).await.unwrap();
        let error = records.session(&SessionId::from("ses_1")).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn after_resealing_the_previous_key_is_not_needed() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let with = |vault| Records::new(Arc::clone(&store), Arc::new(vault));
    let plain = with(Vault::new(None, None, true));
    let hash = Pepper::load(&*store, plain.vault()).await.unwrap().hash("a-key");
    let batch = plain.stage_session(Batch::new(), &session("ses_0"), Expect::Absent).unwrap();
    plain.commit(batch).await.unwrap();
    let old = with(Vault::new(key(1), None, false));
    let batch = old.stage_session(Batch::new(), &session("ses_1"), Expect::Absent).unwrap();
    let batch = old.stage_tenant(batch, &tenant("acme", hash), Expect::Absent).unwrap();
    let Begun::New(ticket) = old.begin(asked("k", b"{}", "p1", 0)).await.unwrap() else { panic!("not new") };
    let batch = old.stage_answer(batch, &ticket, &answer(), false).unwrap();
    old.commit(batch).await.unwrap();

    let rotated = with(Vault::new(key(2), key(1), false));
    assert_eq!(rotated.reseal().await, Ok(5));
    assert_eq!(rotated.reseal().await, Ok(0));
    let new = with(Vault::new(key(2), None, false));
    let listed = new.sessions(None, None, 10).await.unwrap();
    assert_eq!((listed.records.len(), listed.unreadable), (2, vec![]));
    assert_eq!(new.tenant(&TenantId::from("acme")).await.unwrap().unwrap().record, tenant("acme", hash));
    assert_eq!(new.begin(asked("k", b"{}", "p1", 0)).await, Ok(Begun::Answered(answer())));
    assert!(Pepper::load(&*store, new.vault()).await.unwrap().hash("a-key").matches(&hash));
    assert!(!all_bytes(&new).await.contains("hush"));
}

#[tokio::test]
async fn a_history_keeps_the_latest_of_each_class_and_goes_with_its_session() {
    use HistoryClass::{Change, Request};
    let records = keyed();
    let (one, other) = (SessionId::from("ses_1"), SessionId::from("ses_10"));
    let entries =
        [(&one, Change, 3), (&one, Change, 1), (&one, Change, 2), (&one, Request, 9), (&other, Change, 1)];
    let mut batch = Batch::new();
    for (session, class, number) in entries {
        let event = RawValue::from_string(format!("{{\"id\":{number}}}")).unwrap();
        let (key, value) = HistoryRecord { number, event }.stored(&HistoryPlace::of(session), class).unwrap();
        batch = batch.put(key, value);
    }
    records.commit(batch).await.unwrap();
    let kept = async |session| {
        let mut kept = records.history(session).await.unwrap();
        kept.sort_by_key(|entry| entry.number);
        kept.iter().map(|entry| entry.event.get().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&one).await, [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#, r#"{"id":9}"#]);
    records.trim_history(&one, 2).await.unwrap();
    assert_eq!(kept(&one).await, [r#"{"id":2}"#, r#"{"id":3}"#, r#"{"id":9}"#]);
    records.trim_history(&one, 0).await.unwrap();
    assert_eq!((kept(&one).await.len(), kept(&other).await.len()), (0, 1));
}

const ACME: &str = "acme";

fn asked<'a>(key: &'a str, body: &'a [u8], process: &'a str, hours: u64) -> Asked<'a> {
    static TENANT: std::sync::LazyLock<TenantId> = std::sync::LazyLock::new(|| TenantId::from(ACME));
    Asked {
        tenant: &TENANT,
        route: "POST /v1/sessions",
        key,
        body,
        process,
        now: UnixMillis(hours * 3_600_000),
    }
}

fn answer() -> StoredAnswer {
    StoredAnswer {
        status: 201,
        headers: vec![("etag".to_owned(), "\"1\"".to_owned())],
        body: "{\"id\":\"ses_1\"}".to_owned(),
    }
}

#[tokio::test]
async fn a_request_is_carried_out_once_and_answered_the_same_again() {
    let records = keyed();
    let Begun::New(ticket) = records.begin(asked("k", b"{}", "p1", 0)).await.unwrap() else {
        panic!("not new")
    };
    assert_eq!(records.begin(asked("k", b"{}", "p1", 0)).await, Ok(Begun::InFlight));
    assert_eq!(records.begin(asked("k", b"{1}", "p1", 0)).await, Ok(Begun::OtherBody));
    let batch = records.stage_session(Batch::new(), &session("ses_1"), Expect::Absent).unwrap();
    let batch = records.stage_answer(batch, &ticket, &answer(), false).unwrap();
    records.commit(batch.clone()).await.unwrap();
    assert_eq!(records.begin(asked("k", b"{}", "p1", 23)).await, Ok(Begun::Answered(answer())));
    assert_eq!(records.begin(asked("k", b"{1}", "p2", 23)).await, Ok(Begun::OtherBody));
    // A second answer to the same ticket makes nothing a second time.
    assert!(matches!(records.commit(batch).await, Err(StoreError::Conflict { .. })));
}

#[tokio::test]
async fn what_a_dead_process_left_is_carried_out_by_the_next_and_never_by_both() {
    let records = keyed();
    let Begun::New(dead) = records.begin(asked("k", b"{}", "p1", 0)).await.unwrap() else {
        panic!("not new")
    };
    let Begun::New(alive) = records.begin(asked("k", b"{}", "p2", 0)).await.unwrap() else {
        panic!("not new")
    };
    let stage = |ticket| records.stage_answer(Batch::new(), ticket, &answer(), false).unwrap();
    assert!(matches!(records.commit(stage(&dead)).await, Err(StoreError::Conflict { .. })));
    records.commit(stage(&alive)).await.unwrap();
}

#[tokio::test]
async fn an_abandoned_or_expired_request_may_be_sent_anew_with_any_body() {
    let records = keyed();
    let Begun::New(ticket) = records.begin(asked("k", b"{}", "p1", 0)).await.unwrap() else {
        panic!("not new")
    };
    records.abandon(&ticket).await.unwrap();
    assert_eq!(records.store().list(&Range::first(Prefix::new(""))).await.unwrap().entries, []);
    assert!(matches!(records.begin(asked("k", b"{1}", "p1", 0)).await, Ok(Begun::New(_))));
    assert_eq!(records.begin(asked("k", b"{2}", "p1", 23)).await, Ok(Begun::OtherBody));
    assert!(matches!(records.begin(asked("k", b"{2}", "p1", 24)).await, Ok(Begun::New(_))));
}

#[tokio::test]
async fn a_sweep_takes_what_expired_and_leaves_what_was_begun_anew() {
    let records = keyed();
    let total = 150;
    for number in 0..total {
        records.begin(asked(&number.to_string(), b"{}", "p1", 0)).await.unwrap();
    }
    assert_eq!(records.sweep(UnixMillis(24 * 3_600_000)).await, Ok(0));
    records.begin(asked("7", b"{}", "p1", 24)).await.unwrap();
    let (mut swept, now) = (0, UnixMillis(25 * 3_600_000));
    loop {
        match records.sweep(now).await.unwrap() {
            0 => break,
            some => swept += some,
        }
    }
    assert_eq!(swept, total);
    let left = records.store().list(&Range::first(Prefix::idempotency())).await.unwrap().entries;
    assert_eq!(left.len(), 1);
    assert_eq!(records.begin(asked("7", b"{}", "p1", 25)).await, Ok(Begun::InFlight));
}
