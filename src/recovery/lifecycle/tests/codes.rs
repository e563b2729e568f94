//! What each code does, from running and from an attempt.

use super::*;

/// What the design says of a code, spelled out here a second time: a table that read the policy would agree
/// with any policy.
struct Row {
    code: ErrorCode,
    action: Action,
    /// Whether a restart after an attempt that never ran uses budget.
    charged_before_running: bool,
}

const fn row(code: ErrorCode, action: Action) -> Row {
    Row { code, action, charged_before_running: true }
}

const fn free(code: ErrorCode) -> Row {
    Row { code, action: Action::Restart, charged_before_running: false }
}

const TABLE: [Row; 20] = [
    row(ErrorCode::SessionTokenExpired, Action::Renew),
    row(ErrorCode::SessionTokenInvalid, Action::Renew),
    row(ErrorCode::AppIdUnrecognized, Action::Fail),
    row(ErrorCode::AppIdMismatch, Action::Fail),
    row(ErrorCode::AvatarNotFound, Action::Fail),
    row(ErrorCode::BillingRequired, Action::Park),
    row(ErrorCode::CreditsExhausted, Action::Park),
    row(ErrorCode::SessionDurationExceeded, Action::Park),
    row(ErrorCode::ConcurrencyLimit, Action::Park),
    row(ErrorCode::UnsupportedSampleRate, Action::Fail),
    row(ErrorCode::InvalidEgressConfig, Action::Fail),
    free(ErrorCode::EgressUnavailable),
    row(ErrorCode::IdleTimeout, Action::Sleep),
    free(ErrorCode::UpstreamError),
    row(ErrorCode::InvalidRequest, Action::Fail),
    free(ErrorCode::ConnectionFailed),
    // Beyond the design's four: a socket that is dropped before the confirmation is no answer of the service.
    free(ErrorCode::ConnectionClosed),
    row(ErrorCode::ProtocolError, Action::Restart),
    free(ErrorCode::ServerError),
    row(ErrorCode::Unknown, Action::Restart),
];

/// The effects and the state after `action` has answered `code`; `first` is what tells of the lost link.
fn expected(code: ErrorCode, action: Action, first: &str) -> (String, StateName) {
    match action {
        Action::Restart => {
            (format!("error:{code} {first} restart:{code} end-sent:{code}"), StateName::BackingOff)
        }
        Action::Renew => {
            (format!("error:{code} {first} restart:{code} end-sent:{code} ask2:normal"), StateName::Starting)
        }
        Action::Park => {
            (format!("error:{code} {first} end-all:{code} park:{code} parked:{code}"), StateName::Parked)
        }
        // Only a running session may have audio that was said after the silence.
        Action::Sleep => {
            let which = if first == "slot" { "end-sent" } else { "end-all" };
            (format!("error:{code} {first} {which}:{code}"), StateName::Dormant)
        }
        Action::Fail => (format!("error:{code} {first} failure:{code} end-all:{code}"), StateName::Failed),
    }
}

const fn restarts_after(action: Action) -> u64 {
    match action {
        Action::Restart | Action::Renew => 1,
        Action::Park | Action::Sleep | Action::Fail => 0,
    }
}

#[test]
fn the_table_has_every_code_once() {
    assert_eq!(TABLE.map(|row| row.code), ErrorCode::ALL);
}

#[test]
fn each_code_from_running_does_what_the_design_says() {
    for Row { code, action, .. } in TABLE {
        let mut rig = Rig::running();
        let effects = rig.breaks(&error(code, Phase::WebsocketRuntime));
        assert_eq!((words(&effects), rig.name()), expected(code, action, "slot"), "{code}");
        assert_eq!(rig.machine.restarts(), restarts_after(action), "{code}");
        assert_eq!(rig.is_budget_untouched(), restarts_after(action) == 0, "{code}");
        assert_eq!(rig.machine.last_error().map(|(error, at)| (error.code, at)), Some((code, rig.now)));
        assert_eq!(rig.machine.link(), None, "{code}");
    }
}

#[test]
fn each_code_from_an_attempt_does_what_the_design_says() {
    for Row { code, action, charged_before_running } in TABLE {
        let mut rig = Rig::connecting();
        let effects = rig.breaks(&error(code, Phase::WebsocketHandshake));
        let settled = format!("settled:{code}");
        assert_eq!((words(&effects), rig.name()), expected(code, action, &settled), "{code}");
        assert_eq!(rig.machine.restarts(), restarts_after(action), "{code}");
        let charged = restarts_after(action) == 1 && charged_before_running;
        assert_eq!(rig.is_budget_untouched(), !charged, "{code}");
        assert_eq!(rig.machine.link(), None, "{code}");
    }
}

#[test]
fn an_attempt_that_fails_by_the_service_uses_no_budget_even_if_the_session_ran_earlier() {
    for Row { code, charged_before_running, .. } in TABLE {
        if charged_before_running {
            continue;
        }
        let mut rig = Rig::running();
        rig.breaks(&closed_with(ErrorCode::ConnectionClosed, 1001));
        let used = rig.machine.budget.clone();
        for _ in 0..50 {
            rig.attempts_again();
            rig.breaks(&error(code, Phase::WebsocketConnect));
            assert_eq!((rig.name(), &rig.machine.budget), (StateName::BackingOff, &used), "{code}");
        }
        assert_eq!(rig.machine.restarts(), 51);
    }
}

#[test]
fn an_overridden_policy_decides_for_each_code() {
    for code in ErrorCode::ALL {
        for action in Action::ALL {
            let policy = Policy::default().with(code, action);
            let mut rig = Rig::new(RecoveryConfig { policy, ..RecoveryConfig::default() })
                .started()
                .granted()
                .confirmed();
            let effects = rig.breaks(&error(code, Phase::WebsocketRuntime));
            assert_eq!((words(&effects), rig.name()), expected(code, action, "slot"), "{code} {action}");
        }
    }
}

#[test]
fn the_policy_is_replaced_for_the_errors_to_come() {
    let mut rig = Rig::running();
    let policy = Policy::default().with(ErrorCode::AvatarNotFound, Action::Park);
    rig.machine.reconfigure(Arc::new(RecoveryConfig { policy, ..RecoveryConfig::default() }));
    rig.breaks(&error(ErrorCode::AvatarNotFound, Phase::WebsocketRuntime));
    assert_eq!(rig.machine.state(), &State::Parked(Hold::Error(ErrorCode::AvatarNotFound)));
}

#[test]
fn an_expired_token_is_renewed_once_at_once_and_then_backs_off() {
    let mut rig = Rig::running();
    let expired = error(ErrorCode::SessionTokenExpired, Phase::WebsocketRuntime);
    assert!(words(&rig.breaks(&expired)).ends_with("ask2:normal"));
    rig.attempts_again();
    rig.breaks(&expired);
    assert_eq!(rig.name(), StateName::BackingOff);
    assert_eq!(rig.machine.restarts(), 2);
}

#[test]
fn an_invalid_token_is_renewed_once_and_then_fails() {
    let mut rig = Rig::connecting();
    let invalid = error(ErrorCode::SessionTokenInvalid, Phase::WebsocketConnect);
    assert!(words(&rig.breaks(&invalid)).ends_with("ask2:normal"));
    rig.attempts_again();
    rig.breaks(&invalid);
    assert_eq!(rig.name(), StateName::Failed);
}

#[test]
fn a_renewal_is_allowed_again_once_the_session_ran_for_long_enough() {
    let mut rig = Rig::running();
    let invalid = error(ErrorCode::SessionTokenInvalid, Phase::WebsocketRuntime);
    for _ in 0..5 {
        rig.breaks(&invalid);
        assert_eq!(rig.name(), StateName::Starting);
        rig.attempts_again();
        rig = rig.confirmed();
        rig.wait(Duration::from_secs(60));
    }
}

#[test]
fn a_refused_api_key_parks_whatever_was_renewed_before() {
    let refused = error(ErrorCode::SessionTokenInvalid, Phase::SessionToken);
    let mut rig = Rig::connecting();
    let effects = rig.breaks(&refused);
    assert_eq!(rig.machine.state(), &State::Parked(Hold::KeyRefused));
    assert_eq!(
        words(&effects),
        "error:sessionTokenInvalid settled:sessionTokenInvalid end-all:sessionTokenInvalid \
         park:sessionTokenInvalid parked:key"
    );

    let mut rig = Rig::connecting();
    rig.breaks(&error(ErrorCode::SessionTokenInvalid, Phase::WebsocketConnect));
    rig.attempts_again();
    rig.breaks(&refused);
    assert_eq!(rig.machine.state(), &State::Parked(Hold::KeyRefused));
}

#[test]
fn three_restarts_in_a_row_answer_what_nobody_understands_and_then_it_fails() {
    for code in [ErrorCode::ProtocolError, ErrorCode::Unknown] {
        let mut rig = Rig::running();
        let nonsense = error(code, Phase::WebsocketRuntime);
        for _ in 0..3 {
            rig.breaks(&nonsense);
            assert_eq!(rig.name(), StateName::BackingOff, "{code}");
            rig.attempts_again();
        }
        rig.breaks(&nonsense);
        assert_eq!((rig.name(), rig.machine.restarts()), (StateName::Failed, 3), "{code}");
    }
}

#[test]
fn an_error_that_is_understood_ends_the_row_of_those_that_are_not() {
    let mut rig = Rig::running();
    for round in 0..6 {
        let code = if round % 3 == 2 { ErrorCode::UpstreamError } else { ErrorCode::Unknown };
        rig.breaks(&error(code, Phase::WebsocketRuntime));
        assert_eq!(rig.name(), StateName::BackingOff);
        rig.attempts_again();
    }
}

#[test]
fn a_renewal_that_the_policy_asks_for_keeps_the_rules_of_its_code() {
    // "as restart" includes the rule for what nobody understands,
    let policy = Policy::default()
        .with(ErrorCode::Unknown, Action::Renew)
        .with(ErrorCode::UpstreamError, Action::Renew);
    let config = RecoveryConfig { policy, ..RecoveryConfig::default() };
    let mut rig = Rig::new(config.clone()).started().granted();
    for _ in 0..4 {
        rig.breaks(&error(ErrorCode::Unknown, Phase::WebsocketHandshake));
        assert_ne!(rig.name(), StateName::Failed);
        rig.attempts_again();
    }
    rig.breaks(&error(ErrorCode::Unknown, Phase::WebsocketHandshake));
    assert_eq!(rig.name(), StateName::Failed);

    // and an attempt that the service let down uses no budget.
    let mut rig = Rig::new(config).started().granted();
    rig.breaks(&error(ErrorCode::UpstreamError, Phase::WebsocketConnect));
    assert!(rig.is_budget_untouched());
}

#[test]
fn an_idle_session_sleeps_and_its_next_audio_wakes_it() {
    let mut rig = Rig::running();
    rig.breaks(&error(ErrorCode::IdleTimeout, Phase::WebsocketRuntime));
    assert_eq!((rig.name(), rig.machine.next_timeout()), (StateName::Dormant, None));
    assert_eq!(words(&rig.give(Input::Audio)), "ask2:normal");
}
