//! A store full of parked sessions, taken over by a process that starts.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use greenroom::{
    errors::{Egress, ErrorCode, Evidence, Observed, Phase, SessionError},
    recovery::SessionId,
    store::{
        Batch, Bounds, Embedded, Expect, Records, Store, Vault,
        records::{
            BudgetRecord, Desired, ErrorRecord, HoldRecord, Origin, SessionRecord, SpecRecord, UnixMillis,
        },
    },
};

use super::world::{ACME_KEY, Greenroom, Settings, tenant};

const SESSIONS: usize = 10_000;
const MAX_SECONDS: f64 = 5.0;
const MAX_MIB: u64 = 200;

fn parked(number: usize) -> SessionRecord {
    let evidence = Evidence::new(Phase::WebsocketRuntime, Observed::Answer, Egress::None);
    let mut error = SessionError::classified(evidence, "the session has run for as long as it may");
    error.code = ErrorCode::SessionDurationExceeded;
    let at = UnixMillis(1_763_841_600_000);
    SessionRecord {
        id: SessionId::from(format!("ses_{number:026}")),
        tenant: "acme".into(),
        origin: Origin::Api,
        created_at: at,
        spec: SpecRecord {
            avatar_id: format!("avatar-{number}"),
            sample_rate: 16_000,
            bitrate: 0,
            audio_format: "pcm_s16le".to_owned(),
            egress: None,
            labels: BTreeMap::from([("number".to_owned(), number.to_string())]),
            continuity: None,
            revision: 0,
        },
        desired: Desired::Parked { hold: HoldRecord::Error { code: error.code } },
        restarts: 3,
        budget: BudgetRecord::default(),
        last_error: Some(ErrorRecord::new(&error, at)),
    }
}

async fn fill(path: &Path) {
    let store: Arc<dyn Store> =
        Arc::new(Embedded::open(path, Bounds::default(), Arc::new(|_report| {})).unwrap());
    let records = Records::new(store, Arc::new(Vault::default()));
    for begin in (0..SESSIONS).step_by(100) {
        let batch = (begin..begin + 100).fold(Batch::new(), |batch, number| {
            records.stage_session(batch, &parked(number), Expect::Absent).unwrap()
        });
        records.commit(batch).await.unwrap();
    }
    records.store().close().await.unwrap();
}

#[test]
fn ten_thousand_parked_sessions_start_with_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greenroom.redb");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(fill(&path));
    let settings = Settings {
        store: format!("url = \"redb:{}\"\n", path.display()),
        tenants: tenant("acme", ACME_KEY, "upstream-key") + "max_sessions = 10000\n",
        telemetry: "log_level = \"warn,greenroom::cli=info\"\n".to_owned(),
        ..Settings::default()
    };
    let began = Instant::now();
    let greenroom = Greenroom::start(&settings.toml("http://127.0.0.1:1", "ws://127.0.0.1:1"));
    let took = began.elapsed();
    assert_eq!(
        greenroom.metric("greenroom_sessions", &["tenant=\"acme\"", "state=\"parked\""]),
        SESSIONS as f64
    );
    let asked = Instant::now();
    let page = greenroom.acme.get("/v1/sessions?limit=100&state=parked").is(200).json();
    let listed = asked.elapsed();
    assert_eq!(page["sessions"].as_array().unwrap().len(), 100);
    let session = greenroom.acme.get("/v1/sessions/ses_00000000000000000000000042").is(200).json();
    assert_eq!((&session["avatar_id"], &session["state"]), (&"avatar-42".into(), &"parked".into()));
    let mib = greenroom.program.peak_kib() / 1024;
    println!("{SESSIONS} parked sessions: ready after {took:?}, {mib} MiB at most, a page in {listed:?}");
    assert!(took.as_secs_f64() < MAX_SECONDS, "{took:?}");
    assert!(mib < MAX_MIB, "{mib} MiB");
}
