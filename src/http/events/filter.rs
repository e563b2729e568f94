//! Which events somebody wants to hear.

use serde::Deserialize;
use utoipa::IntoParams;

use super::super::{App, Problem, auth::Scope, sessions};
use crate::{
    errors::ErrorCode,
    events::{Event, Kind},
    recovery::{SessionId, StateName, TenantId},
};

/// The query of the stream.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Events of this tenant.
    tenant: Option<String>,
    /// Events of this session.
    #[param(format = "session-id")]
    session: Option<String>,
    /// Events of this kind; several with commas between them: `state`, `error`, `attempt`, `request`, `operator`,
    /// `client`, `tenant`, `upstream`.
    #[param(format = "event-kinds")]
    kind: Option<String>,
    /// Events that name this code.
    #[param(value_type = Option<ErrorCode>)]
    code: Option<String>,
    /// Changes to this state.
    #[param(inline, value_type = Option<sessions::State>)]
    state: Option<String>,
}

/// Which events somebody wants to hear, and may.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Whose the reader's events must be.
    own: Option<TenantId>,
    tenant: Option<TenantId>,
    session: Option<SessionId>,
    /// All, where it is empty.
    kinds: Vec<Kind>,
    code: Option<ErrorCode>,
    state: Option<StateName>,
}

fn one_of<T: Copy>(what: &str, text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, Problem> {
    all.iter().copied().find(|known| name(*known) == text).ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|known| name(*known)).collect();
        Problem::unprocessable("invalidQuery", format!("{what}: {text:?} is none of {}", known.join(", ")))
    })
}

impl Filter {
    pub(super) fn of(app: &App, scope: &Scope, query: Query) -> Result<Self, Problem> {
        let Query { tenant, session, kind, code, state } = query;
        // A mistyped id would be a stream on which nothing ever comes.
        let session =
            session.map(|id| sessions::find(app, scope, &id)).transpose()?.map(|entry| entry.id.clone());
        let kinds = kind.iter().flat_map(|kinds| kinds.split(','));
        let kinds = kinds.map(|kind| one_of("kind", kind, &Kind::ALL, Kind::as_str));
        let code = code
            .map(|code| code.parse())
            .transpose()
            .map_err(|error| Problem::unprocessable("invalidQuery", format!("code: {error}")))?;
        let state = state.map(|state| one_of("state", &state, &StateName::ALL, StateName::as_str));
        Ok(Self {
            own: scope.tenant().cloned(),
            tenant: tenant.map(TenantId::from),
            session,
            kinds: kinds.collect::<Result<_, _>>()?,
            code,
            state: state.transpose()?,
        })
    }

    pub(super) fn holds(&self, event: &Event) -> bool {
        self.own.as_ref().is_none_or(|own| event.tenant.as_ref() == Some(own))
            && self.tenant.as_ref().is_none_or(|tenant| event.tenant.as_ref() == Some(tenant))
            && self.session.as_ref().is_none_or(|session| event.session.as_ref() == Some(session))
            && (self.kinds.is_empty() || self.kinds.contains(&event.what.kind()))
            && self.code.is_none_or(|code| event.what.code() == Some(code))
            && self.state.is_none_or(|state| event.what.state() == Some(state))
    }

    /// Whether the reader may know how much happens to others.
    pub(super) const fn sees_all(&self) -> bool {
        self.own.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        events::{ClientAction, EventId, StateChange, TenantAction, What},
        recovery::Moment,
    };

    fn event(tenant: Option<&str>, session: Option<&str>, what: What) -> Event {
        Event {
            id: EventId(1),
            at: Moment::at(Duration::from_secs(1)),
            tenant: tenant.map(TenantId::from),
            session: session.map(SessionId::from),
            what,
        }
    }

    fn parked() -> What {
        What::State(StateChange {
            from: Some(StateName::Starting),
            to: StateName::Parked,
            code: Some(ErrorCode::CreditsExhausted),
            parked_by: Some("creditsExhausted"),
            next_attempt_at: None,
            recovered_after: None,
            budget_exhausted: false,
        })
    }

    #[test]
    fn each_filter_holds_alone_and_with_the_others() {
        let acme = || Some(TenantId::from("acme"));
        let event_of_acme = event(Some("acme"), Some("ses_a"), parked());
        let others = [
            event(Some("globex"), Some("ses_b"), parked()),
            event(
                None,
                None,
                What::Upstream { name: "primary", breaker: crate::events::BreakerAction::Open },
            ),
            event(Some("acme"), Some("ses_c"), What::Client { action: ClientAction::Left }),
            event(
                Some("acme"),
                None,
                What::Tenant { action: TenantAction::Suspended, code: None, quota: None },
            ),
        ];
        let all = Filter::default();
        assert!(all.holds(&event_of_acme) && others.iter().all(|other| all.holds(other)));
        let session = Some(SessionId::from("ses_a"));
        let code = Some(ErrorCode::CreditsExhausted);
        for (name, filter, expected) in [
            ("own", Filter { own: acme(), ..Filter::default() }, [false, false, true, true]),
            ("tenant", Filter { tenant: acme(), ..Filter::default() }, [false, false, true, true]),
            ("session", Filter { session, ..Filter::default() }, [false; 4]),
            (
                "kind",
                Filter { kinds: vec![Kind::State, Kind::Tenant], ..Filter::default() },
                [true, false, false, true],
            ),
            ("code", Filter { code, ..Filter::default() }, [true, false, false, false]),
            (
                "state",
                Filter { state: Some(StateName::Parked), ..Filter::default() },
                [true, false, false, false],
            ),
            ("both", Filter { own: acme(), state: Some(StateName::Parked), ..Filter::default() }, [false; 4]),
        ] {
            assert!(filter.holds(&event_of_acme), "{name}");
            assert_eq!(others.each_ref().map(|other| filter.holds(other)), expected, "{name}");
        }
        let foreign = Filter { own: acme(), tenant: Some(TenantId::from("globex")), ..Filter::default() };
        assert!(others.iter().chain([&event_of_acme]).all(|event| !foreign.holds(event)));
    }
}
