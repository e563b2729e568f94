//! Which message an event becomes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::{
    config::WebhookEvent,
    events::{Event, StateChange, TenantAction, What},
    recovery::{SessionId, StateName, TenantId},
};

/// What the type of a test message is.
pub(super) const TEST: &str = "webhook.test";

/// A message, the same for everybody who gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its id: the same at each attempt, so that a receiver recognises what it has.
    pub(super) id: String,
    /// What it tells; `None` for a test.
    pub(super) event: Option<WebhookEvent>,
    /// Whose it is; `None` where it is of the process itself.
    pub(super) tenant: Option<TenantId>,
    /// Its JSON.
    pub(super) body: Bytes,
}

#[derive(Serialize)]
struct Payload<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: T,
}

impl Message {
    fn of(event: &Event, kind: WebhookEvent) -> Self {
        let at = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + event.at.since_start());
        let payload = Payload { kind: kind.as_str(), timestamp: at.to_string(), data: event };
        // An event may become two messages, and an id has no dot: the parts of what is signed are joined by them.
        let id = format!("msg_{}_{}", event.id, kind.as_str().replace('.', "_"));
        Self { id, event: Some(kind), tenant: event.tenant.clone(), body: to_bytes(&payload) }
    }

    /// A test of an endpoint; `now` is RFC 3339.
    pub(super) fn test(endpoint: &str, random: u64, now: String) -> Self {
        let data = serde_json::json!({"endpoint": endpoint});
        let payload = Payload { kind: TEST, timestamp: now, data };
        Self { id: format!("msg_test_{random:016x}"), event: None, tenant: None, body: to_bytes(&payload) }
    }
}

fn to_bytes(payload: &impl Serialize) -> Bytes {
    // Texts, numbers and names: there is nothing in it that JSON lacks.
    serde_json::to_vec(payload).unwrap_or_default().into()
}

/// Turns events into messages. Knows which sessions are parked, so that the attempts of a probe, which start and are
/// parked again every few minutes, are not told as news.
#[derive(Debug, Default)]
pub(super) struct Mapper {
    /// Sessions that are parked, or try while they are, and what holds them; `None` where that was not heard.
    /// As many as there are sessions at most.
    parked: BTreeMap<SessionId, Option<&'static str>>,
}

impl Mapper {
    /// What `event` is to be told as; nothing for most.
    pub(super) fn messages(&mut self, event: &Event) -> Vec<Message> {
        let kinds = match &event.what {
            What::State(change) => match &event.session {
                Some(session) => self.of_state(session, change),
                None => [None, None],
            },
            What::Tenant { action, .. } => [of_tenant(*action), None],
            What::Upstream { .. } => [Some(WebhookEvent::BreakerChanged), None],
            What::Error { .. }
            | What::Attempt(_)
            | What::Request(_)
            | What::Operator(_)
            | What::Client { .. } => [None, None],
        };
        kinds.into_iter().flatten().map(|kind| Message::of(event, kind)).collect()
    }

    /// Events were missed: who is parked is not known any more.
    pub(super) fn forget(&mut self) {
        self.parked.clear();
    }

    fn of_state(&mut self, session: &SessionId, change: &StateChange) -> [Option<WebhookEvent>; 2] {
        let known = self.parked.get(session).copied();
        let was_parked = known.is_some() || change.from == Some(StateName::Parked);
        match change.to {
            StateName::Parked => {
                self.parked.insert(session.clone(), change.parked_by);
                let is_news = known.is_none_or(|held_by| held_by.is_some() && held_by != change.parked_by);
                [is_news.then_some(WebhookEvent::SessionParked), None]
            }
            StateName::Starting | StateName::BackingOff => {
                if was_parked {
                    self.parked.entry(session.clone()).or_insert(None);
                }
                [None, None]
            }
            StateName::Running => {
                self.parked.remove(session);
                let recovered = change.recovered_after.map(|_| WebhookEvent::SessionRecovered);
                [if was_parked { Some(WebhookEvent::SessionUnparked) } else { recovered }, None]
            }
            StateName::Failed => {
                self.parked.remove(session);
                let exhausted = change.budget_exhausted.then_some(WebhookEvent::RestartBudgetExhausted);
                [Some(WebhookEvent::SessionFailed), exhausted]
            }
            StateName::Dormant | StateName::Stopped => {
                self.parked.remove(session);
                [None, None]
            }
        }
    }
}

const fn of_tenant(action: TenantAction) -> Option<WebhookEvent> {
    match action {
        TenantAction::Suspended => Some(WebhookEvent::TenantSuspended),
        TenantAction::Released => Some(WebhookEvent::TenantReleased),
        TenantAction::QuotaReached => Some(WebhookEvent::QuotaReached),
        TenantAction::Created | TenantAction::Changed | TenantAction::Deleted => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        errors::ErrorCode,
        events::{BreakerAction, ClientAction, EventId, TenantQuota},
        recovery::Moment,
    };

    fn event(session: Option<&str>, what: What) -> Event {
        Event {
            id: EventId(7),
            at: Moment::at(Duration::from_millis(1_767_323_045_678)),
            tenant: Some(TenantId::from("acme")),
            session: session.map(SessionId::from),
            what,
        }
    }

    fn change(from: Option<StateName>, to: StateName, parked_by: Option<&'static str>) -> StateChange {
        StateChange {
            from,
            to,
            code: parked_by.map(|_| ErrorCode::CreditsExhausted),
            parked_by,
            next_attempt_at: None,
            recovered_after: None,
            budget_exhausted: false,
        }
    }

    fn told(mapper: &mut Mapper, change: StateChange) -> Vec<&'static str> {
        let messages = mapper.messages(&event(Some("ses_a"), What::State(change)));
        messages.iter().filter_map(|message| message.event).map(WebhookEvent::as_str).collect()
    }

    #[test]
    fn each_change_of_a_session_is_told_as_what_it_means() {
        use StateName::{BackingOff, Dormant, Failed, Parked, Running, Starting, Stopped};
        const CREDITS: Option<&str> = Some("creditsExhausted");
        const OPERATOR: Option<&str> = Some("operator");
        type Step = (Option<StateName>, StateName, Option<&'static str>, &'static [&'static str]);
        let stories: [(&str, &[Step]); 9] = [
            (
                "a session that comes and goes",
                &[
                    (None, Starting, None, &[]),
                    (Some(Starting), Running, None, &[]),
                    (Some(Running), BackingOff, None, &[]),
                    (Some(BackingOff), Starting, None, &[]),
                    (Some(Starting), Running, None, &[]),
                    (Some(Running), Dormant, None, &[]),
                    (Some(Dormant), Stopped, None, &[]),
                ],
            ),
            (
                "parked and unparked",
                &[
                    (Some(Running), Parked, CREDITS, &["session.parked"]),
                    (Some(Parked), Starting, None, &[]),
                    (Some(Starting), Running, None, &["session.unparked"]),
                    (Some(Running), BackingOff, None, &[]),
                    (Some(BackingOff), Running, None, &[]),
                ],
            ),
            ("made while its tenant is suspended", &[(None, Parked, CREDITS, &["session.parked"])]),
            (
                "probes in vain are no news",
                &[
                    (Some(Running), Parked, CREDITS, &["session.parked"]),
                    (Some(Parked), Starting, None, &[]),
                    (Some(Starting), Parked, CREDITS, &[]),
                    (Some(Parked), Starting, None, &[]),
                    (Some(Starting), BackingOff, None, &[]),
                    (Some(BackingOff), Starting, None, &[]),
                    (Some(Starting), Running, None, &["session.unparked"]),
                ],
            ),
            (
                "something else holds it",
                &[
                    (Some(Running), Parked, CREDITS, &["session.parked"]),
                    (Some(Parked), Starting, None, &[]),
                    (Some(Starting), Parked, OPERATOR, &["session.parked"]),
                ],
            ),
            (
                "parked by an earlier process",
                &[
                    (Some(Parked), Starting, None, &[]),
                    (Some(Starting), Parked, CREDITS, &[]),
                    (Some(Parked), Starting, None, &[]),
                    (Some(Starting), Running, None, &["session.unparked"]),
                ],
            ),
            ("unparked at once", &[(Some(Parked), Running, None, &["session.unparked"])]),
            (
                "failed after a park",
                &[
                    (Some(Running), Parked, CREDITS, &["session.parked"]),
                    (Some(Parked), Starting, None, &[]),
                    (Some(Starting), Failed, None, &["session.failed"]),
                    (Some(Failed), Starting, None, &[]),
                    (Some(Starting), Running, None, &[]),
                ],
            ),
            (
                "ended while parked",
                &[(Some(Running), Parked, CREDITS, &["session.parked"]), (Some(Parked), Stopped, None, &[])],
            ),
        ];
        for (name, steps) in stories {
            let mut mapper = Mapper::default();
            for (index, (from, to, parked_by, expected)) in steps.iter().enumerate() {
                let told = told(&mut mapper, change(*from, *to, *parked_by));
                assert_eq!(told, *expected, "{name}, step {index}");
            }
            let is_parked = steps.last().is_some_and(|(_, to, ..)| *to == Parked);
            assert_eq!(!mapper.parked.is_empty(), is_parked, "{name}");
        }
    }

    #[test]
    fn what_a_change_says_beside_its_states_is_told_too() {
        let recovered = StateChange {
            recovered_after: Some(Duration::from_secs(3)),
            ..change(Some(StateName::Starting), StateName::Running, None)
        };
        assert_eq!(told(&mut Mapper::default(), recovered.clone()), ["session.recovered"]);
        let mut mapper = Mapper::default();
        told(&mut mapper, change(Some(StateName::Running), StateName::Parked, Some("operator")));
        assert_eq!(told(&mut mapper, recovered), ["session.unparked"], "one of both");
        let exhausted = StateChange {
            budget_exhausted: true,
            ..change(Some(StateName::Running), StateName::Failed, None)
        };
        let messages = Mapper::default().messages(&event(Some("ses_a"), What::State(exhausted)));
        let ids: Vec<&str> = messages.iter().map(|message| message.id.as_str()).collect();
        assert_eq!(ids, ["msg_7_session_failed", "msg_7_session_restart_budget_exhausted"]);
    }

    #[test]
    fn what_happens_to_tenants_and_upstreams_is_told_and_the_rest_is_not() {
        let tenant = |action| What::Tenant { action, code: None, quota: None };
        for (what, expected) in [
            (tenant(TenantAction::Suspended), Some("tenant.suspended")),
            (tenant(TenantAction::Released), Some("tenant.released")),
            (tenant(TenantAction::QuotaReached), Some("tenant.quota_reached")),
            (tenant(TenantAction::Created), None),
            (tenant(TenantAction::Changed), None),
            (tenant(TenantAction::Deleted), None),
            (
                What::Upstream { name: "primary", breaker: BreakerAction::HalfOpen },
                Some("upstream.breaker_changed"),
            ),
            (What::Client { action: ClientAction::Left }, None),
        ] {
            let messages = Mapper::default().messages(&event(None, what.clone()));
            let kinds: Vec<_> =
                messages.iter().filter_map(|message| message.event).map(WebhookEvent::as_str).collect();
            assert_eq!(kinds, expected.into_iter().collect::<Vec<_>>(), "{what:?}");
        }
    }

    #[test]
    fn after_a_gap_nothing_is_taken_for_known() {
        let mut mapper = Mapper::default();
        let parked = || change(Some(StateName::Starting), StateName::Parked, Some("operator"));
        assert_eq!(told(&mut mapper, parked()), ["session.parked"]);
        assert_eq!(told(&mut mapper, parked()), [""; 0]);
        mapper.forget();
        assert_eq!(told(&mut mapper, parked()), ["session.parked"]);
    }

    #[test]
    fn a_message_has_a_type_a_time_and_the_event_as_the_stream_has_it() {
        let what = What::Tenant {
            action: TenantAction::QuotaReached,
            code: None,
            quota: Some(TenantQuota::MaxSessions),
        };
        let event = event(None, what);
        let messages = Mapper::default().messages(&event);
        let [message] = messages.as_slice() else { panic!("{messages:?}") };
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let data: Value = serde_json::from_str(&event.to_json()).unwrap();
        assert_eq!(
            body,
            json!({"type": "tenant.quota_reached", "timestamp": "2026-01-02T03:04:05.678Z", "data": data})
        );
        assert_eq!(data["quota"], "max_sessions");
        assert_eq!((message.id.as_str(), message.id.contains('.')), ("msg_7_tenant_quota_reached", false));
    }
}
