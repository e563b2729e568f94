//! Alerts on the way to the service and on Greenroom itself.

use super::{
    alerts::{Alert, Case, Cause, Link, OWN, Severity, case},
    records::grown,
};

const UPSTREAM: &str = "greenroom-upstream";

/// All of them.
pub(crate) fn alerts(outbox_session_bytes: u64, job: &str) -> Vec<Alert> {
    let mut alerts = vec![breaker(), gate()];
    alerts.extend(slow_steps());
    alerts.extend([
        target_missing(job),
        invariant(),
        outbox(outbox_session_bytes),
        store(),
        shortage(),
        versions(),
    ]);
    alerts
}

const BREAKER: &str = "greenroom_breaker_state{upstream=\"primary\"}";

fn breaker() -> Alert {
    Alert {
        name: "GreenroomBreakerOpen".to_owned(),
        group: UPSTREAM,
        severity: Severity::Warning,
        cause: Cause::Service,
        // Half-open is not closed: sessions wait as before, but for the probes.
        expr: "max by (job, upstream) (greenroom_breaker_state) > 0".to_owned(),
        hold: "1m",
        summary: "The breaker of {{ $labels.upstream }} has been open for a minute.".to_owned(),
        description: "Half of the attempts failed for the service's sake, so nobody knocks but the probe. Sessions wait in \
                      backing_off and lose no restart budget. An operator may have opened it by hand."
            .to_owned(),
        link: Link::Upstream,
        cases: vec![
            case(
                "the breaker stays open",
                &[(BREAKER, "0x4 2x20")],
                "8m",
                &[("GreenroomBreakerOpen", "upstream=\"primary\"")],
            ),
            case(
                "open, probing, open again",
                &[(BREAKER, "0x4 2 1 2 1 2 1 2 2")],
                "9m",
                &[("GreenroomBreakerOpen", "upstream=\"primary\"")],
            ),
            case("open for less than a minute", &[(BREAKER, "0x4 2 0x20")], "6m", &[]),
        ],
    }
}

fn gate() -> Alert {
    const WAITING: &str = "greenroom_gate_waiting{upstream=\"primary\"}";
    Alert {
        name: "GreenroomGateStarving".to_owned(),
        group: UPSTREAM,
        severity: Severity::Warning,
        cause: Cause::Greenroom,
        // Behind an open breaker everybody waits, which is told by the breaker's own alert.
        expr: "min_over_time(greenroom_gate_waiting[10m]) > 0\n\
               unless on (job, instance, upstream) max_over_time(greenroom_breaker_state[10m]) > 0"
            .to_owned(),
        hold: "5m",
        summary: "The gate of {{ $labels.upstream }} at {{ $labels.instance }} has not been empty for 10 minutes."
            .to_owned(),
        description: "At least {{ $value }} attempts waited all the time though the breaker is closed: more sessions want \
                      to connect than upstream.gate lets through, or sessions reconnect in a loop."
            .to_owned(),
        link: Link::Upstream,
        cases: vec![
            case(
                "50 attempts wait all the time",
                &[(WAITING, "0x4 50x40"), (BREAKER, "0x50")],
                "25m",
                &[("GreenroomGateStarving", "instance=\"a\",upstream=\"primary\"")],
            ),
            case(
                "a storm that passes in 8 minutes",
                &[(WAITING, "0x4 900 800 700 600 400 200 100 50 0x30"), (BREAKER, "0x50")],
                "12m",
                &[],
            ),
            case("all wait behind an open breaker", &[(WAITING, "0x40"), (BREAKER, "0x40")], "25m", &[]),
            case(
                "a long outage",
                &[(WAITING, "900x40"), (BREAKER, "2x40")],
                "25m",
                &[("GreenroomBreakerOpen", "upstream=\"primary\"")],
            ),
        ],
    }
}

/// Steps whose 95th percentile should stay below 2.5 s: name, metric, what it is.
fn slow_steps() -> Vec<Alert> {
    [
        ("GreenroomTokenSlow", "token_request_seconds", Cause::Service, "calls for a session token"),
        ("GreenroomHandshakeSlow", "handshake_seconds", Cause::Service, "connections until they are confirmed"),
        ("GreenroomFirstFrameSlow", "request_first_frame_seconds", Cause::Service, "first frames of requests"),
    ]
    .into_iter()
    .map(|(name, metric, cause, what)| {
        let bucket = |le: &str| {
            let outcome = if metric.starts_with("request") { "" } else { "outcome=\"ok\"," };
            format!("greenroom_{metric}_bucket{{{outcome}le=\"{le}\"}}")
        };
        let count = if metric.starts_with("request") {
            format!("greenroom_{metric}_count")
        } else {
            format!("greenroom_{metric}_count{{outcome=\"ok\"}}")
        };
        let (low, high, all) = (bucket("2.5"), bucket("5"), bucket("+Inf"));
        let history = |under: &'static str, over: &'static str| {
            [(low.clone(), under), (high.clone(), over), (all.clone(), over), (count.clone(), over)]
                .map(|(series, values)| (series, values.to_owned()))
                .to_vec()
        };
        let of = |what: &str, series, firing: &[(&str, &str)]| Case { series, ..case(what, &[], "25m", firing) };
        Alert {
            name: name.to_owned(),
            group: UPSTREAM,
            severity: Severity::Warning,
            cause,
            expr: format!("job:greenroom_{metric}:p95_10m > 2.5\nand job:greenroom_{metric}:increase10m >= 10"),
            hold: "10m",
            summary: format!("One in 20 {what} takes longer than {{{{ $value | humanizeDuration }}}}."),
            description: format!(
                "The service, or the way to it, is slow for {what}. What listeners notice comes first; with the \
                 deadlines of upstream.deadlines attempts then fail as connectionFailed."
            ),
            link: Link::Upstream,
            cases: vec![
                of("all take 2.5 to 5 s", history("0x40", "0+5x40"), &[(name, "")]),
                of("all take less", history("0+5x40", "0+5x40"), &[]),
                of("there are none", history("0x40", "0x40"), &[]),
                of("five in 10 minutes, and all take longer", history("0x40", "0+0.5x40"), &[]),
            ],
        }
    })
    .collect()
}

fn target_missing(job: &str) -> Alert {
    Alert {
        name: "GreenroomTargetMissing".to_owned(),
        group: OWN,
        severity: Severity::Critical,
        cause: Cause::Greenroom,
        expr: format!("up{{job={job:?}}} == 0\nor\nabsent(up{{job={job:?}}})"),
        hold: "2m",
        summary: "Greenroom{{ with $labels.instance }} {{ . }}{{ end }} is not seen by Prometheus.".to_owned(),
        description: "Its metrics cannot be read: the process is gone, hangs, or the way to its admin listener is cut. \
                      All other alerts are blind meanwhile."
            .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "the process is gone",
                &[("up", "1x10 0x20")],
                "14m",
                &[("GreenroomTargetMissing", "instance=\"a\"")],
            ),
            case("nothing is scraped at all", &[("up", "_x30")], "14m", &[("GreenroomTargetMissing", "")]),
            case("one scrape fails", &[("up", "1x10 0 1x20")], "12m", &[]),
            case("another job is down", &[("up{job=\"other\"}", "0x30"), ("up", "1x30")], "20m", &[]),
        ],
    }
}

fn invariant() -> Alert {
    const BREACHES: &str = "greenroom_invariant_breaches_total{invariant=\"one_connection\"}";
    let fires: &[_] = &[("GreenroomInvariantBreach", "invariant=\"one_connection\"")];
    Alert {
        name: "GreenroomInvariantBreach".to_owned(),
        group: OWN,
        severity: Severity::Critical,
        cause: Cause::Greenroom,
        expr: format!(
            "sum by (job, invariant) (\n  {}\n) > 0",
            grown("greenroom_invariant_breaches_total", "1h")
        ),
        hold: "0s",
        summary: "Greenroom broke its own rule {{ $labels.invariant }}.".to_owned(),
        description:
            "It is a bug, and it noticed it itself. Keep the log; what the rule protects (money, secrets, \
                      tenants, audio) may be at risk."
                .to_owned(),
        link: Link::Own,
        cases: vec![
            case("the first breach", &[(BREACHES, "0x9 1x20")], "10m", fires),
            case("a breach before the first scrape", &[(BREACHES, "_x9 1x20")], "10m", fires),
            case("none", &[(BREACHES, "0x30")], "20m", &[]),
            case("one of two hours ago", &[(BREACHES, "0x4 1x140")], "130m", &[]),
        ],
    }
}

fn outbox(session_bytes: u64) -> Alert {
    let running = |values| ("greenroom_sessions{state=\"running\",tenant=\"acme\"}", values);
    let bytes = |values| ("greenroom_outbox_bytes", values);
    Alert {
        name: "GreenroomOutboxNearBound".to_owned(),
        group: OWN,
        severity: Severity::Warning,
        cause: Cause::Service,
        expr: format!(
            "sum by (job) (greenroom_outbox_bytes)\n/ clamp_min(job:greenroom_sessions_wanted:sum, 1)\n\
             > 0.5 * {session_bytes}"
        ),
        hold: "2m",
        summary: "Sessions hold {{ $value | humanize1024 }}B of audio each that is not sent.".to_owned(),
        description: format!(
            "More than half of outbox.session_bytes ({session_bytes}) on average, so many are full: clients are held \
             back, then refused. The service is away or takes audio slower than it comes."
        ),
        link: Link::Own,
        cases: vec![
            case(
                "10 sessions hold 6 MB each",
                &[running("10x20"), bytes("60000000x20")],
                "10m",
                &[("GreenroomOutboxNearBound", "")],
            ),
            case(
                "100 sessions hold the same together",
                &[running("100x20"), bytes("60000000x20")],
                "10m",
                &[],
            ),
            case("no session, and a little held", &[running("0x20"), bytes("1000x20")], "10m", &[]),
        ],
    }
}

fn store() -> Alert {
    let commits = |under: &'static str, over: &'static str| {
        [
            ("greenroom_store_commit_seconds_bucket{le=\"0.25\"}", under),
            ("greenroom_store_commit_seconds_bucket{le=\"1\"}", over),
            ("greenroom_store_commit_seconds_bucket{le=\"+Inf\"}", over),
        ]
    };
    Alert {
        name: "GreenroomStoreSlow".to_owned(),
        group: OWN,
        severity: Severity::Warning,
        cause: Cause::Greenroom,
        expr: "histogram_quantile(\n  0.99,\n  \
               sum by (job, instance, le) (rate(greenroom_store_commit_seconds_bucket[5m]))\n) > 0.25"
            .to_owned(),
        hold: "5m",
        summary: "The store of {{ $labels.instance }} takes {{ $value | humanizeDuration }} to commit.".to_owned(),
        description: "One commit in 100 is slower than a quarter of a second. What is answered with 2xx waits for it: a \
                      full or slow disk, or an etcd that is far away or overloaded."
            .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "commits take up to a second",
                &commits("0x30", "0+50x30"),
                "15m",
                &[("GreenroomStoreSlow", "instance=\"a\"")],
            ),
            case("commits are quick", &commits("0+50x30", "0+50x30"), "15m", &[]),
            case("nothing is committed", &commits("0x30", "0x30"), "15m", &[]),
        ],
    }
}

fn shortage() -> Alert {
    const PORTS: &str = "greenroom_host_shortages_total{resource=\"ports\"}";
    const FILES: &str = "greenroom_host_shortages_total{resource=\"descriptors\"}";
    Alert {
        name: "GreenroomHostShortage".to_owned(),
        group: OWN,
        severity: Severity::Critical,
        cause: Cause::Greenroom,
        expr: format!(
            "sum by (job, instance, resource) (\n  {}\n) > 0",
            grown("greenroom_host_shortages_total", "10m")
        ),
        hold: "1m",
        summary: "The machine of {{ $labels.instance }} has no {{ $labels.resource }} left.".to_owned(),
        description: "Sessions cannot connect for want of local ports or file descriptors, and try again. The service is not \
                      at fault, so its breaker stays closed; no restart budget is used."
            .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "the ports are used up",
                &[(PORTS, "0x4 0+20x20"), (FILES, "0x30")],
                "12m",
                &[("GreenroomHostShortage", "instance=\"a\",resource=\"ports\"")],
            ),
            case(
                "the descriptors are, before the first scrape",
                &[(FILES, "_x4 3x20")],
                "8m",
                &[("GreenroomHostShortage", "instance=\"a\",resource=\"descriptors\"")],
            ),
            case("neither", &[(PORTS, "0x30"), (FILES, "0x30")], "20m", &[]),
            case("20 minutes ago", &[(PORTS, "0x4 5x40")], "30m", &[]),
        ],
    }
}

fn versions() -> Alert {
    const OLD: &str = "greenroom_build_info{commit=\"c1\",version=\"0.1.0\"}";
    const NEW: &str = "greenroom_build_info{commit=\"c2\",instance=\"b\",version=\"0.1.1\"}";
    Alert {
        name: "GreenroomVersionsDiffer".to_owned(),
        group: OWN,
        severity: Severity::Info,
        cause: Cause::Greenroom,
        expr: "count by (job) (count by (job, version, commit) (greenroom_build_info)) > 1".to_owned(),
        hold: "1h",
        summary: "{{ $value }} versions of Greenroom have been running for an hour.".to_owned(),
        description: "A deploy was not finished, or was stopped half way.".to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "two versions for 80 minutes",
                &[(OLD, "1x100"), (NEW, "_x9 1x100")],
                "90m",
                &[("GreenroomVersionsDiffer", "")],
            ),
            case("a deploy of 20 minutes", &[(OLD, "1x30 _x80"), (NEW, "_x9 1x100")], "90m", &[]),
        ],
    }
}
