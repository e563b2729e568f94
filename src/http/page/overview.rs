//! `GET /console/overview`: every tenant with its sessions by state, and what stands still by its reason.
//!
//! The page's own path: its form follows the page and is no contract. It is one look through the registry, where a
//! page that asked for lists would need thousands of sessions to count to three.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use crate::{
    errors::ErrorCode,
    http::{App, auth::Scope},
    recovery::{
        StateName, TenantId,
        lifecycle::{Hold, State},
    },
    session::{SessionEntry, SessionView},
};

/// Groups of one tenant at most: each is a state with a code, of which there are some forty.
const MAX_GROUPS: usize = 64;

#[derive(Debug, Serialize)]
struct Overview {
    sessions: BTreeMap<&'static str, usize>,
    tenants: Vec<TenantView>,
}

#[derive(Debug, Serialize)]
struct TenantView {
    id: TenantId,
    sessions: BTreeMap<&'static str, usize>,
    /// Sessions that wait for a person, by what holds them; the largest first.
    held: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Group {
    state: &'static str,
    /// What holds them: an error of their own, `suspension` (another session's), `operator`, `minutesUsed`
    /// (the tenant's for the day) or `keyRefused`.
    by: &'static str,
    code: Option<ErrorCode>,
    count: usize,
    /// One of them, with the reason in words.
    example: SessionView,
}

/// What tells groups apart.
type Held = (StateName, &'static str, Option<ErrorCode>);

#[derive(Default)]
struct Tally<'a> {
    states: BTreeMap<&'static str, usize>,
    held: BTreeMap<Held, (usize, Option<&'a SessionEntry>)>,
}

/// Why a session waits for a person; `None` where it does not.
fn held(entry: &SessionEntry) -> Option<Held> {
    let snapshot = entry.snapshot.load();
    let last_code = snapshot.last_error.as_ref().map(|(error, _)| error.code);
    let (by, code) = match &snapshot.state {
        State::Parked(Hold::Error(code)) => ("error", Some(*code)),
        State::Parked(Hold::Suspension(code)) => ("suspension", Some(*code)),
        State::Parked(Hold::KeyRefused) => ("keyRefused", Some(ErrorCode::SessionTokenInvalid)),
        State::Parked(Hold::Minutes) => ("minutesUsed", None),
        State::Parked(Hold::Operator) => ("operator", None),
        State::Failed => ("error", last_code),
        State::Starting(_)
        | State::Running { .. }
        | State::BackingOff(_)
        | State::Dormant
        | State::Stopped { .. } => return None,
    };
    Some((snapshot.state_name(), by, code))
}

impl<'a> Tally<'a> {
    fn add(&mut self, entry: &'a SessionEntry) {
        *self.states.entry(entry.snapshot.load().state_name().as_str()).or_default() += 1;
        if let Some(held) = held(entry) {
            let group = self.held.entry(held).or_default();
            group.0 += 1;
            group.1.get_or_insert(entry);
        }
    }

    fn view(self, id: TenantId, app: &App) -> TenantView {
        let mut held: Vec<Group> = self
            .held
            .into_iter()
            .filter_map(|((state, by, code), (count, example))| {
                Some(Group { state: state.as_str(), by, code, count, example: app.manager.view(example?) })
            })
            .collect();
        held.sort_by_key(|group| std::cmp::Reverse(group.count));
        held.truncate(MAX_GROUPS);
        TenantView { id, sessions: self.states, held }
    }
}

/// `GET /console/overview`.
pub(super) async fn get(app: web::Data<App>, _scope: Scope) -> HttpResponse {
    let entries = app.manager.registry().all();
    let mut tallies: BTreeMap<TenantId, Tally<'_>> =
        app.manager.roster().iter().map(|runtime| (runtime.id.clone(), Tally::default())).collect();
    let mut sessions: BTreeMap<&'static str, usize> = BTreeMap::new();
    for entry in &entries {
        *sessions.entry(entry.snapshot.load().state_name().as_str()).or_default() += 1;
        match tallies.get_mut(&entry.tenant) {
            Some(tally) => tally.add(entry),
            None => tallies.entry(entry.tenant.clone()).or_default().add(entry),
        }
    }
    let tenants = tallies.into_iter().map(|(id, tally)| tally.view(id, &app)).collect();
    HttpResponse::Ok().json(Overview { sessions, tenants })
}
