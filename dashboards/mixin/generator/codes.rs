//! One alert for each error code, by what kind of code it is.

use greenroom::errors::ErrorCode;

use super::alerts::{Alert, Case, Cause, Link, Severity, case};

/// What an alert on a code looks at. A new code does not compile until it has its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Recovers by itself; too many of them, for long, are somebody's outage.
    Transient,
    /// A tenant's account; from so many errors on.
    Billing(u32),
    /// A tenant's code or configuration.
    Configuration,
    /// A tenant's sessions go to sleep.
    Idle,
    /// Greenroom and the service do not understand each other, or nobody knows what it was.
    Strange,
}

/// The kind of a code.
pub(crate) const fn kind(code: ErrorCode) -> Kind {
    match code {
        ErrorCode::ConnectionClosed
        | ErrorCode::ConnectionFailed
        | ErrorCode::EgressUnavailable
        | ErrorCode::ServerError
        | ErrorCode::SessionTokenExpired
        | ErrorCode::UpstreamError => Kind::Transient,
        ErrorCode::BillingRequired | ErrorCode::CreditsExhausted | ErrorCode::SessionDurationExceeded => {
            Kind::Billing(1)
        }
        // One right after a lost connection is the service's ghost of it, and passes.
        ErrorCode::ConcurrencyLimit => Kind::Billing(3),
        ErrorCode::SessionTokenInvalid
        | ErrorCode::AppIdUnrecognized
        | ErrorCode::AppIdMismatch
        | ErrorCode::AvatarNotFound
        | ErrorCode::UnsupportedSampleRate
        | ErrorCode::InvalidEgressConfig
        | ErrorCode::InvalidRequest => Kind::Configuration,
        ErrorCode::IdleTimeout => Kind::Idle,
        ErrorCode::ProtocolError | ErrorCode::Unknown => Kind::Strange,
    }
}

/// The alert's name.
pub(crate) fn name(code: ErrorCode) -> String {
    let (first, rest) = code.as_str().split_at(1);
    let suffix = match kind(code) {
        Kind::Transient => "Storm",
        Kind::Idle => "Wave",
        Kind::Billing(_) | Kind::Configuration | Kind::Strange => "",
    };
    format!("Greenroom{}{rest}{suffix}", first.to_uppercase())
}

/// Billing and configuration that stop the whole tenant are for today; what stops one session is told to its owner.
fn severity(code: ErrorCode) -> Severity {
    match code {
        ErrorCode::AvatarNotFound
        | ErrorCode::UnsupportedSampleRate
        | ErrorCode::InvalidEgressConfig
        | ErrorCode::InvalidRequest
        | ErrorCode::SessionDurationExceeded
        | ErrorCode::IdleTimeout => Severity::Info,
        ErrorCode::SessionTokenExpired
        | ErrorCode::SessionTokenInvalid
        | ErrorCode::AppIdUnrecognized
        | ErrorCode::AppIdMismatch
        | ErrorCode::BillingRequired
        | ErrorCode::CreditsExhausted
        | ErrorCode::ConcurrencyLimit
        | ErrorCode::EgressUnavailable
        | ErrorCode::UpstreamError
        | ErrorCode::ConnectionFailed
        | ErrorCode::ConnectionClosed
        | ErrorCode::ProtocolError
        | ErrorCode::ServerError
        | ErrorCode::Unknown => Severity::Warning,
    }
}

fn cause(code: ErrorCode) -> Cause {
    match (kind(code), code) {
        (Kind::Billing(_), _) => Cause::Billing,
        (Kind::Configuration | Kind::Idle, _) => Cause::Configuration,
        (Kind::Transient, ErrorCode::ConnectionFailed) => Cause::Network,
        // The clock, or tokens that grow old at the gate.
        (Kind::Transient, ErrorCode::SessionTokenExpired) | (Kind::Strange, ErrorCode::Unknown) => {
            Cause::Greenroom
        }
        (Kind::Transient | Kind::Strange, _) => Cause::Service,
    }
}

/// One for each code.
pub(crate) fn alerts() -> Vec<Alert> {
    ErrorCode::ALL.into_iter().map(alert).collect()
}

fn alert(code: ErrorCode) -> Alert {
    let own = format!("{{code=\"{code}\"}}");
    let by_code = |window: &str| format!("job_code:greenroom_session_errors:increase{window}{own}");
    let by_tenant = format!("job_tenant_code:greenroom_tenant_errors:increase15m{own}");
    let many = "{{ $value | humanize }}";
    let tenant = "{{ $labels.tenant }}";
    let (expr, hold, summary) = match kind(code) {
        // The hold is longer than the window: a single wave, however large, has recovered before.
        Kind::Transient => (
            format!(
                "{}\n> on (job) group_left ()\nclamp_min(0.2 * job:greenroom_sessions_wanted:sum, 10)",
                by_code("5m")
            ),
            "10m",
            format!("{many} errors {code} in 5 minutes, for more than 10 minutes."),
        ),
        Kind::Billing(least) => (
            format!("{by_tenant} {}", if least == 1 { "> 0".to_owned() } else { format!(">= {least}") }),
            "1m",
            format!("Tenant {tenant}: {many} errors {code} in 15 minutes."),
        ),
        Kind::Configuration => (
            format!("{by_tenant} > 0"),
            "1m",
            format!("Tenant {tenant}: {many} errors {code} in 15 minutes."),
        ),
        Kind::Idle => (
            format!(
                "{by_tenant}\n> on (job, tenant) group_left ()\nclamp_min(\n  \
                 0.5 * sum by (job, tenant) (greenroom_sessions{{state=~\"running|dormant\"}}),\n  10\n)"
            ),
            "5m",
            format!("Tenant {tenant}: {many} sessions went to sleep in 15 minutes."),
        ),
        Kind::Strange => {
            (format!("{} > 0", by_code("15m")), "1m", format!("{many} errors {code} in 15 minutes."))
        }
    };
    let does = match kind(code) {
        Kind::Transient => "Greenroom connects again with backoff; sessions that recover need nothing.",
        Kind::Billing(_) => {
            "Greenroom parks what is refused and does not knock in a loop; whoever pays for the account must act."
        }
        Kind::Configuration => {
            "Greenroom has stopped trying where a person must mend something first; tell the tenant."
        }
        Kind::Idle => {
            "Nothing is lost and nothing is billed: the next audio wakes a session. Ask whether its backends still send."
        }
        Kind::Strange => {
            "Greenroom restarts at most 3 times in a row, then the session is failed; report it."
        }
    };
    let per_tenant = matches!(kind(code), Kind::Billing(_) | Kind::Configuration | Kind::Idle);
    Alert {
        name: name(code),
        group: "greenroom-codes",
        severity: severity(code),
        cause: cause(code),
        expr,
        hold,
        summary,
        description: format!("{} {does}", code.meaning()),
        link: if per_tenant { Link::Tenant } else { Link::Session },
        cases: match kind(code) {
            Kind::Transient => transient(code),
            Kind::Billing(3..) => concurrency(code),
            Kind::Billing(_) | Kind::Configuration => of_tenant(code),
            Kind::Idle => idle(code),
            Kind::Strange => strange(code),
        },
    }
}

const SESSIONS: (&str, &str) = ("greenroom_sessions{state=\"running\",tenant=\"acme\"}", "100x60");

fn transient(code: ErrorCode) -> Vec<Case> {
    let errors = format!("greenroom_session_errors_total{{code=\"{code}\",phase=\"websocket_runtime\"}}");
    let few = ("greenroom_sessions{state=\"running\",tenant=\"acme\"}", "5x60");
    let fires: &[(&str, &str)] = &[(&name(code), &format!("code=\"{code}\""))];
    vec![
        case(
            "a tenth of 100 sessions breaks every minute, for 20 minutes",
            &[SESSIONS, (&errors, "0+10x40")],
            "20m",
            fires,
        ),
        case("the same, before it has lasted for 10 minutes", &[SESSIONS, (&errors, "0+10x40")], "9m", &[]),
        case("every session breaks once, in one wave", &[SESSIONS, (&errors, "0x4 100x40")], "15m", &[]),
        case("3 of 100 sessions break every minute", &[SESSIONS, (&errors, "0+3x40")], "30m", &[]),
        case("one of 5 sessions breaks every minute", &[few, (&errors, "0+1x40")], "30m", &[]),
    ]
}

fn of_tenant(code: ErrorCode) -> Vec<Case> {
    let errors = format!("greenroom_tenant_errors_total{{code=\"{code}\",tenant=\"acme\"}}");
    let shared = format!("greenroom_tenant_errors_total{{code=\"{code}\",tenant=\"_other\"}}");
    let acme = format!("code=\"{code}\",tenant=\"acme\"");
    let other = format!("code=\"{code}\",tenant=\"_other\"");
    let name = name(code);
    vec![
        case("the first error of a tenant", &[(&errors, "0x30 1x30")], "33m", &[(&name, &acme)]),
        case(
            "a series that is born with its first error",
            &[(&errors, "_x30 1x30")],
            "33m",
            &[(&name, &acme)],
        ),
        case("a tenant without a label of its own", &[(&shared, "7x30 8x30")], "33m", &[(&name, &other)]),
        case("an error of an hour ago", &[(&errors, "0x4 5x60")], "60m", &[]),
        case("a restart sets the counter back", &[(&errors, "5x30 0x30")], "35m", &[]),
    ]
}

fn concurrency(code: ErrorCode) -> Vec<Case> {
    let errors = format!("greenroom_tenant_errors_total{{code=\"{code}\",tenant=\"acme\"}}");
    let acme = format!("code=\"{code}\",tenant=\"acme\"");
    vec![
        case(
            "a tenant is refused three times",
            &[(&errors, "0x30 1 2 3x30")],
            "36m",
            &[(&name(code), &acme)],
        ),
        case("a single refusal, after a lost connection", &[(&errors, "0x30 1x30")], "36m", &[]),
    ]
}

fn idle(code: ErrorCode) -> Vec<Case> {
    let errors = format!("greenroom_tenant_errors_total{{code=\"{code}\",tenant=\"acme\"}}");
    let acme = format!("code=\"{code}\",tenant=\"acme\"");
    vec![
        case(
            "most of 100 sessions go to sleep",
            &[SESSIONS, (&errors, "0x30 80x30")],
            "37m",
            &[(&name(code), &acme)],
        ),
        case("a tenth of 100 sessions go to sleep", &[SESSIONS, (&errors, "0x30 10x30")], "37m", &[]),
        case("a tenant with 3 sessions pauses", &[(&errors, "0x30 3x30")], "37m", &[]),
    ]
}

fn strange(code: ErrorCode) -> Vec<Case> {
    let errors = format!("greenroom_session_errors_total{{code=\"{code}\",phase=\"websocket_runtime\"}}");
    let fires: &[(&str, &str)] = &[(&name(code), &format!("code=\"{code}\""))];
    vec![
        case("the first one", &[SESSIONS, (&errors, "0x30 1x30")], "33m", fires),
        case("one of an hour ago", &[SESSIONS, (&errors, "0x4 1x60")], "60m", &[]),
    ]
}
