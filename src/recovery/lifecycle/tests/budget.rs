//! Backoff, the restart budget, and what is forgotten.

use super::*;

fn with_budget(restarts: u32) -> RecoveryConfig {
    RecoveryConfig {
        budget: BudgetConfig { restarts, window: Duration::from_secs(300) },
        ..RecoveryConfig::default()
    }
}

fn lost() -> Arc<SessionError> {
    closed_with(ErrorCode::ConnectionClosed, 1001)
}

fn due_in(rig: &Rig) -> Duration {
    rig.machine.next_timeout().map(|at| at.since(rig.now)).unwrap()
}

#[test]
fn a_budget_of_five_means_six_connections_and_then_failed_with_the_last_code() {
    let mut rig = Rig::new(with_budget(5)).started().granted();
    let mut connections = 1;
    let effects = loop {
        rig = rig.confirmed();
        let effects = rig.breaks(&lost());
        if rig.name() == StateName::Failed {
            break effects;
        }
        assert!(!effects.contains(&Effect::Count(Count::BudgetExhausted)));
        rig.attempts_again();
        connections += 1;
        assert!(connections < 20, "the budget must end it");
    };
    assert_eq!((connections, rig.machine.restarts()), (6, 5));
    assert_eq!(
        words(&effects),
        "error:connectionClosed slot exhausted failure:connectionClosed end-all:connectionClosed"
    );
    assert_eq!(rig.machine.last_error().unwrap().0.code, ErrorCode::ConnectionClosed);
    assert_eq!(rig.machine.next_timeout(), None);
}

#[test]
fn a_renewal_without_budget_fails_the_session() {
    let mut rig = Rig::new(with_budget(0)).started().granted();
    let effects = rig.breaks(&error(ErrorCode::SessionTokenExpired, Phase::WebsocketConnect));
    assert!(effects.contains(&Effect::Count(Count::BudgetExhausted)));
    assert_eq!((rig.name(), rig.machine.restarts()), (StateName::Failed, 0));
}

#[test]
fn restarts_older_than_the_window_do_not_count() {
    let mut rig = Rig::new(with_budget(2)).started().granted();
    for _ in 0..20 {
        rig = rig.confirmed();
        rig.wait(Duration::from_secs(160));
        rig.breaks(&lost());
        assert_eq!(rig.name(), StateName::BackingOff);
        rig.attempts_again();
    }
}

#[test]
fn waits_grow_with_each_failed_attempt_up_to_the_maximum() {
    let mut rig = Rig::running();
    let unavailable = error(ErrorCode::ServerError, Phase::WebsocketConnect);
    let mut waits = Vec::new();
    for _ in 0..8 {
        rig.breaks(&unavailable);
        waits.push(due_in(&rig).as_millis());
        assert_eq!(rig.machine.next_attempt_at(), rig.machine.next_timeout());
        rig.attempts_again();
    }
    assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 15000, 15000]);
    assert_eq!(rig.machine.attempt(rig.now), 8);
}

#[test]
fn running_for_stable_after_forgets_the_attempts_and_a_moment_less_does_not() {
    for (ran, attempts, wait) in [(60_000, 0, 250), (59_999, 3, 2000)] {
        let config = RecoveryConfig {
            stable_after: StableAfter(Duration::from_secs(60)),
            ..RecoveryConfig::default()
        };
        let mut rig = Rig::new(config).started().granted();
        for _ in 0..3 {
            rig.breaks(&error(ErrorCode::UpstreamError, Phase::WebsocketConnect));
            rig.attempts_again();
        }
        rig = rig.confirmed();
        rig.wait(Duration::from_millis(ran));
        assert_eq!(rig.machine.attempt(rig.now), attempts);
        rig.breaks(&lost());
        assert_eq!(due_in(&rig), Duration::from_millis(wait));
    }
}

#[test]
fn retry_after_prolongs_a_backoff_never_shortens_it_and_is_not_believed_beyond_a_bound() {
    for (asked, waits) in [(20_000, 20_000), (1, 250), (86_400_000, 300_000)] {
        let mut rig = Rig::connecting();
        let mut error = Arc::unwrap_or_clone(error(ErrorCode::UpstreamError, Phase::WebsocketConnect));
        error.retry_after = Some(Duration::from_millis(asked));
        rig.breaks(&Arc::new(error));
        assert_eq!(due_in(&rig), Duration::from_millis(waits));
    }
}

#[test]
fn waiting_at_the_gate_uses_no_budget_however_long_it_lasts() {
    let mut rig = Rig::running();
    rig.breaks(&lost());
    let used = rig.machine.budget.clone();
    rig.wait(Duration::from_secs(1));
    let due = rig.now;
    assert_eq!(words(&rig.give(Input::Tick)), "ask2:normal");
    for _ in 0..1000 {
        rig.wait(Duration::from_secs(60));
        assert_eq!(rig.give(Input::Tick), []);
    }
    assert_eq!((rig.name(), &rig.machine.budget), (StateName::BackingOff, &used));
    assert!(rig.machine.next_attempt_at().unwrap() < due, "what is due stays due");
}

#[test]
fn what_a_person_did_resets_budget_and_attempts() {
    for command in [Input::Restart, Input::Respec] {
        let mut rig = Rig::new(with_budget(1)).started().granted().confirmed();
        rig.breaks(&lost());
        rig.attempts_again();
        rig = rig.confirmed();
        rig.breaks(&lost());
        assert_eq!(rig.name(), StateName::Failed);
        rig.give(command);
        assert!(rig.is_budget_untouched());
        assert_eq!(rig.machine.attempt(rig.now), 0);
    }
    let mut rig = Rig::running();
    rig.breaks(&lost());
    rig.give(Input::Park);
    rig.give(Input::Unpark);
    assert!(rig.is_budget_untouched());
}

#[test]
fn a_release_of_the_fleet_is_no_act_of_a_person() {
    let mut rig = Rig::running();
    rig.breaks(&lost());
    rig.attempts_again();
    rig.breaks(&error(ErrorCode::CreditsExhausted, Phase::WebsocketConnect));
    rig.give(Input::Release);
    assert!(!rig.is_budget_untouched());
    assert_eq!(rig.machine.attempt(rig.now), 1);
}

#[test]
fn a_limit_right_after_a_loss_without_a_close_frame_is_the_ghost_and_backs_off() {
    let limit = error(ErrorCode::ConcurrencyLimit, Phase::WebsocketConnect);
    for close_code in [None, Some(1006)] {
        let mut rig = Rig::running();
        let mut loss = Arc::unwrap_or_clone(error(ErrorCode::ConnectionClosed, Phase::WebsocketRuntime));
        loss.close_code = close_code;
        rig.breaks(&Arc::new(loss));
        rig.attempts_again();
        rig.breaks(&limit);
        assert_eq!(rig.name(), StateName::BackingOff, "{close_code:?}");
        rig.wait(Duration::from_secs(90));
        rig.attempts_again();
        rig.breaks(&limit);
        assert_eq!(rig.machine.state(), &State::Parked(Hold::Error(ErrorCode::ConcurrencyLimit)));
    }
    let mut rig = Rig::running();
    rig.breaks(&lost());
    rig.attempts_again();
    rig.breaks(&limit);
    assert_eq!(rig.name(), StateName::Parked, "the service has seen that connection close");
}

#[test]
fn a_ghost_fails_nobody_however_quickly_the_jitter_comes_round() {
    let mut rig = Rig::new(with_budget(1)).started().granted().confirmed();
    let lost_at = rig.now;
    rig.breaks(&error(ErrorCode::ConnectionClosed, Phase::WebsocketRuntime));
    while rig.now.since(lost_at) < Duration::from_secs(89) {
        assert_eq!(rig.name(), StateName::BackingOff, "after {:?}", rig.now.since(lost_at));
        rig.wait(Duration::from_secs(1));
        rig.give(Input::Tick);
        let generation = rig.machine.generation;
        rig.give(Input::Granted(generation));
        if rig.name() == StateName::Starting {
            rig.breaks(&error(ErrorCode::ConcurrencyLimit, Phase::WebsocketConnect));
        }
    }
}

#[test]
fn a_connection_that_we_closed_and_that_ended_otherwise_leaves_a_ghost_too() {
    let lost = error(ErrorCode::ConnectionClosed, Phase::WebsocketRuntime);
    let ends = [
        (Input::Broke { generation: Generation(1), error: Arc::clone(&lost) }, StateName::BackingOff),
        (Input::Crashed(lost), StateName::BackingOff),
        (Input::Closed(Generation(1)), StateName::Parked),
    ];
    for (end, state) in ends {
        let mut rig = Rig::running();
        rig.give(Input::Restart);
        rig.give(end);
        rig.attempts_again();
        rig.breaks(&error(ErrorCode::ConcurrencyLimit, Phase::WebsocketConnect));
        assert_eq!(rig.name(), state);
    }
}

#[test]
fn a_recovery_is_measured_from_the_loss_to_running_again() {
    let mut rig = Rig::running();
    rig.breaks(&lost());
    rig.wait(Duration::from_secs(2));
    rig.attempts_again();
    rig.breaks(&error(ErrorCode::UpstreamError, Phase::WebsocketConnect));
    rig.wait(Duration::from_secs(5));
    rig.attempts_again();
    let connected = rig.connected();
    assert_eq!(words(&rig.give(connected)), "settled recovered:7000ms");
}

#[test]
fn what_a_person_interrupted_is_not_measured_as_a_recovery() {
    let mut rig = Rig::running();
    rig.breaks(&lost());
    rig.give(Input::Restart);
    rig.attempts_again();
    let connected = rig.connected();
    assert_eq!(words(&rig.give(connected)), "settled");
}
