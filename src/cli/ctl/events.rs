//! `ctl events` and `ctl sessions tail`: what happens, as it happens.

use serde_json::{Value, json};

use super::{
    Context,
    client::Query,
    failure::Failure,
    show::{Reader, Tone, print, print_json, text},
    sse::{Told, follow},
};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Events of this tenant.
    #[arg(long, short)]
    tenant: Option<String>,
    /// Events of this session.
    #[arg(long)]
    session: Option<String>,
    /// Events of these kinds, with commas between them: state, error, attempt, request, operator, client, tenant,
    /// upstream.
    #[arg(long, short)]
    kind: Option<String>,
    /// Events with this error code.
    #[arg(long, short)]
    code: Option<String>,
    /// Changes to this state.
    #[arg(long, short)]
    state: Option<String>,
    /// Begin behind the event with this id, as far back as Greenroom remembers.
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// End after so many events.
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let filters = [
        ("tenant", args.tenant),
        ("session", args.session),
        ("kind", args.kind),
        ("code", args.code),
        ("state", args.state),
    ];
    let query = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    stream(context, &query, args.after.map(|id| id.to_string()), args.count, Shown::OfTheFleet).await
}

/// Past events of a session, oldest first, then what happens.
pub(super) async fn tail(context: &Context, id: &str, lines: usize, follows: bool) -> Result<(), Failure> {
    // The session is asked for first: a wrong id is no empty history.
    context.client.get(&["v1", "sessions", id], &Query::new()).await?;
    let mut past = Vec::new();
    if lines > 0 {
        let path = ["v1", "sessions", id, "history"];
        context
            .client
            .pages(&path, "events", &Query::new(), lines, |events| {
                past.extend(events);
                Ok(())
            })
            .await?;
    }
    // The history has the newest first.
    for event in past.iter().rev() {
        show(context.reader, Shown::OfOneSession, event)?;
    }
    if !follows {
        return Ok(());
    }
    let last = past.first().and_then(|event| event["id"].as_u64()).map(|id| id.to_string());
    stream(context, &vec![("session", id.to_owned())], last, None, Shown::OfOneSession).await
}

async fn stream(
    context: &Context,
    query: &Query,
    after: Option<String>,
    count: Option<u64>,
    shown: Shown,
) -> Result<(), Failure> {
    let mut left = count;
    let followed = follow(&context.client, query, after, |told| {
        match told {
            Told::Event(kind, data) if kind == "gap" => gap(context.reader, &data)?,
            Told::Event(_, data) => {
                show(context.reader, shown, &data)?;
                if let Some(left) = &mut left {
                    *left -= 1;
                    if *left == 0 {
                        return Err(Failure::NobodyReads);
                    }
                }
            }
            Told::Broken { why, again_in } => {
                let wait = again_in.as_secs_f64();
                output::complain(&format!("the connection broke ({why}); again in {wait:.1} s"));
            }
            Told::Back => output::complain("connected again"),
        }
        Ok(())
    });
    followed.await
}

/// Events that are lost to whoever reads: it is told on standard error, and to programs in the stream too.
fn gap(reader: Reader, data: &Value) -> Result<(), Failure> {
    let missed = data["missed"].as_u64().map_or_else(|| "some".to_owned(), |missed| missed.to_string());
    output::complain(&format!(
        "{missed} events were missed: Greenroom does not remember as far back; `sessions ls` has the present state"
    ));
    match reader {
        Reader::Program => print_json(
            &json!({"kind": "gap", "missed": data["missed"], "from": data["from"], "to": data["to"]}),
        ),
        Reader::Person { .. } => Ok(()),
    }
}

/// What events are shown among.
#[derive(Clone, Copy)]
enum Shown {
    /// Each says whose it is.
    OfTheFleet,
    /// That is known, and each is a line.
    OfOneSession,
}

fn show(reader: Reader, shown: Shown, event: &Value) -> Result<(), Failure> {
    match reader {
        Reader::Program => print_json(event),
        Reader::Person { .. } => {
            let (words, tone) = words(event);
            let at = text(&event["at"]);
            // The day is in the JSON; a person watches today.
            let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time.trim_end_matches('Z'));
            let time = time.get(..12).unwrap_or(time);
            let told = format!("{:<8}  {}", text(&event["kind"]), reader.paint(tone, &words));
            let (tenant, session) = (text(&event["tenant"]), text(&event["session"]));
            let subject = if session.is_empty() { tenant } else { format!("{tenant}  {session}") };
            let time = format!("{time:<12}");
            match shown {
                Shown::OfOneSession => print(&format!("{}  {told}", reader.paint(Tone::Faint, &time))),
                Shown::OfTheFleet => print(&format!(
                    "{}\n    {told}",
                    reader.paint(Tone::Faint, &format!("{time}  {subject}"))
                )),
            }
        }
    }
}

/// An event in words.
fn words(event: &Value) -> (String, Tone) {
    let get = |name: &str| text(&event[name]);
    let with = |name: &str, before: &str, after: &str| {
        let value = &event[name];
        if value.is_null() { String::new() } else { format!("{before}{}{after}", text(value)) }
    };
    match event["kind"].as_str().unwrap_or_default() {
        "state" => {
            let to = get("to");
            let next = with("next_attempt_at", "; next attempt ", "");
            let from = with("from", "", " to ");
            let cause = if event["code"].is_null() { "parked_by" } else { "code" };
            let after = with("recovered_after_ms", "; back after ", " ms");
            (format!("{from}{to}{}{next}{after}", with(cause, ", ", "")), Tone::of_state(&to))
        }
        "error" => {
            let error = &event["error"];
            let part = |name: &str| text(&error[name]);
            let words = format!(
                "{} in {}: {}; action: {}",
                part("code"),
                part("phase"),
                part("message"),
                part("action")
            );
            (words, Tone::Bad)
        }
        "attempt" => {
            let times = [
                ("gate", "gate_ms"),
                ("token", "token_ms"),
                ("connect", "connect_ms"),
                ("handshake", "handshake_ms"),
            ];
            let times: String =
                times.iter().map(|(name, field)| with(field, &format!(", {name} "), " ms")).collect();
            let tone = if event["outcome"] == "running" { Tone::Good } else { Tone::Bad };
            (format!("attempt {}: {}{times}", get("attempt"), get("outcome")), tone)
        }
        "request" => {
            let tone = if event["outcome"] == "failed" { Tone::Bad } else { Tone::Plain };
            let sizes = [
                with("audio_ms", ", ", " ms of audio"),
                with("frames", ", ", " frames"),
                with("first_frame_ms", ", first after ", " ms"),
                with("duration_ms", ", in all ", " ms"),
            ];
            (
                format!("{} {}{}{}", get("req_id"), get("outcome"), with("code", ", ", ""), sizes.concat()),
                tone,
            )
        }
        "operator" => (format!("{}{}", get("action"), with("who", " by ", "")), Tone::Waiting),
        "upstream" => {
            (format!("breaker of {} {}", get("name"), get("breaker").replace('_', "-")), Tone::Waiting)
        }
        "client" => (format!("client {}", get("action").replace('_', " ")), Tone::Plain),
        "tenant" => (
            format!(
                "tenant {}{}{}",
                get("action").replace('_', " "),
                with("code", ", ", ""),
                with("quota", ", ", "")
            ),
            Tone::Waiting,
        ),
        // What a newer Greenroom tells is not kept from people because this one has no words for it.
        _ => {
            let mut rest = event.clone();
            if let Value::Object(members) = &mut rest {
                for name in ["id", "at", "tenant", "session", "kind"] {
                    members.remove(name);
                }
            }
            (text(&rest), Tone::Plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_event_is_said_in_words() {
        for (event, expected) in [
            (
                json!({"kind": "state", "from": "running", "to": "backing_off", "code": "connectionClosed",
                       "next_attempt_at": "2026-01-01T00:00:00Z"}),
                "running to backing_off, connectionClosed; next attempt 2026-01-01T00:00:00Z",
            ),
            (
                json!({"kind": "state", "from": "starting", "to": "running", "code": null, "recovered_after_ms": 7}),
                "starting to running; back after 7 ms",
            ),
            (json!({"kind": "state", "from": null, "to": "starting", "code": null}), "starting"),
            (
                json!({"kind": "state", "from": "running", "to": "parked", "code": null, "parked_by": "operator"}),
                "running to parked, operator",
            ),
            (
                json!({"kind": "upstream", "name": "primary", "breaker": "half_open"}),
                "breaker of primary half-open",
            ),
            (
                json!({"kind": "error", "error": {"code": "unknown", "phase": "websocket_send", "message": "m\u{1b}", "action": "restart"}}),
                "unknown in websocket_send: m ; action: restart",
            ),
            (
                json!({"kind": "attempt", "attempt": 2, "gate_ms": 3, "token_ms": 12, "connect_ms": null, "outcome": "unknown"}),
                "attempt 2: unknown, gate 3 ms, token 12 ms",
            ),
            (
                json!({"kind": "request", "req_id": "r", "outcome": "failed", "code": "unknown", "frames": 3}),
                "r failed, unknown, 3 frames",
            ),
            (json!({"kind": "operator", "action": "session.park", "who": "admin"}), "session.park by admin"),
            (json!({"kind": "client", "action": "taken_over"}), "client taken over"),
            (
                json!({"kind": "tenant", "action": "suspended", "code": "creditsExhausted"}),
                "tenant suspended, creditsExhausted",
            ),
            (json!({"kind": "moved", "id": 1, "to": "b"}), "{\"to\":\"b\"}"),
        ] {
            assert_eq!(words(&event).0, expected);
        }
    }
}
