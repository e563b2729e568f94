//! `ctl sessions`.

use std::time::SystemTime;

use awc::http::Method;
use clap::Subcommand;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::{
    Context,
    client::Query,
    confirm::confirm,
    events,
    failure::Failure,
    select::{Filter, Selected, Selection},
    show::{Column, Reader, Tone, card, print, print_json, table, text},
};
use crate::cli::output;

/// Sessions that are listed where neither a filter nor a number says how many.
const FIRST: usize = 50;
/// Commands under way at a time: enough to hide the way there and back, few enough to leave room for others.
const AT_A_TIME: usize = 8;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List sessions: the first 50, or all that a filter lets through.
    Ls {
        #[command(flatten)]
        filter: Filter,
        /// Every session.
        #[arg(long)]
        all: bool,
        /// So many at most.
        #[arg(long, short = 'n', conflicts_with = "all")]
        limit: Option<usize>,
    },
    /// Everything about one session, and what its error asks for.
    Get {
        /// Its id.
        id: String,
    },
    /// What happened to a session, and what happens, over broken connections.
    Tail {
        /// Its id.
        id: String,
        /// So many past events first.
        #[arg(long, short = 'n', default_value_t = 20)]
        lines: usize,
        /// End after the past events.
        #[arg(long)]
        no_follow: bool,
    },
    /// Close and connect again, also what is failed or parked.
    Restart(Selection),
    /// Close and hold, until they are unparked.
    Park(Selection),
    /// Let parked sessions try again.
    Unpark(Selection),
    /// End for good.
    End(Selection),
}

/// What is done to sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Restart,
    Park,
    Unpark,
    End,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Park => "park",
            Self::Unpark => "unpark",
            Self::End => "end",
        }
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls { filter, all, limit } => list(context, &filter, all, limit).await,
        Command::Get { id } => get(context, &id).await,
        Command::Tail { id, lines, no_follow } => events::tail(context, &id, lines, !no_follow).await,
        Command::Restart(selection) => act(context, Action::Restart, selection).await,
        Command::Park(selection) => act(context, Action::Park, selection).await,
        Command::Unpark(selection) => act(context, Action::Unpark, selection).await,
        Command::End(selection) => act(context, Action::End, selection).await,
    }
}

const COLUMNS: [Column; 8] = [
    Column::name("ID"),
    Column::text("TENANT"),
    Column::name("STATE"),
    Column::text("LATEST ERROR"),
    Column::text("AVATAR").from(110),
    Column::number("RESTARTS").from(100),
    Column::number("SINCE").from(90),
    Column::text("REASON").from(150),
];

fn row(session: &Value, now: SystemTime) -> Vec<(String, Tone)> {
    let plain = |name: &str| (text(&session[name]), Tone::Plain);
    let state = text(&session["state"]);
    let tone = Tone::of_state(&state);
    let since = session["running_since"].as_str().or_else(|| session["last_error"]["at"].as_str());
    vec![
        plain("id"),
        plain("tenant"),
        (state, tone),
        (text(&session["last_error"]["code"]), if tone == Tone::Bad { tone } else { Tone::Plain }),
        plain("avatar_id"),
        plain("restarts"),
        (age(since.unwrap_or_default(), now), Tone::Plain),
        plain("reason"),
    ]
}

/// How long ago a time was, in its two largest units.
pub(super) fn age(at: &str, now: SystemTime) -> String {
    let Ok(at) = humantime::parse_rfc3339(at) else { return String::new() };
    let seconds = now.duration_since(at).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

async fn list(context: &Context, filter: &Filter, all: bool, limit: Option<usize>) -> Result<(), Failure> {
    let bound = limit.unwrap_or(if all || !filter.is_empty() { usize::MAX } else { FIRST });
    if bound == 0 {
        return Err(Failure::Usage("--limit is 1 or more".to_owned()));
    }
    let mut rows = Vec::new();
    let now = SystemTime::now();
    let more = context
        .client
        .pages(&["v1", "sessions"], "sessions", &filter.query(), bound, |sessions| match context.reader {
            Reader::Program => sessions.iter().try_for_each(print_json),
            Reader::Person { .. } => {
                rows.extend(sessions.iter().map(|session| row(session, now)));
                Ok(())
            }
        })
        .await?;
    if let Reader::Person { .. } = context.reader {
        if rows.is_empty() {
            output::complain("no session matches");
        } else {
            print(&table(context.reader, &COLUMNS, &rows))?;
        }
    }
    if more {
        output::complain(&format!("there are more than these {bound}; --all lists them all"));
    }
    Ok(())
}

async fn get(context: &Context, id: &str) -> Result<(), Failure> {
    let session = context.client.get(&["v1", "sessions", id], &Query::new()).await?;
    match context.reader {
        Reader::Program => print_json(&session),
        Reader::Person { .. } => print(&card(context.reader, &fields(&session, SystemTime::now()))),
    }
}

/// A session as a person reads it: what it is, how it is, what was wrong, what to do.
fn fields(session: &Value, now: SystemTime) -> Vec<(&'static str, String, Tone)> {
    let plain = |name: &'static str, value: &Value| (name, text(value), Tone::Plain);
    let state = text(&session["state"]);
    let tone = Tone::of_state(&state);
    let ago = |value: &Value| match value.as_str() {
        Some(at) => format!("{} ({} ago)", text(value), age(at, now)),
        None => String::new(),
    };
    let labels = session["labels"].as_object().into_iter().flatten();
    let labels: Vec<_> =
        labels.map(|(name, value)| format!("{}: {}", super::show::clean(name), text(value))).collect();
    let mut fields = vec![
        plain("id", &session["id"]),
        plain("tenant", &session["tenant"]),
        plain("avatar", &session["avatar_id"]),
        ("state", state, tone),
        ("reason", text(&session["reason"]), tone),
        ("created", ago(&session["created_at"]), Tone::Plain),
        ("running since", ago(&session["running_since"]), Tone::Plain),
        plain("next attempt", &session["next_attempt_at"]),
        plain("restarts", &session["restarts"]),
        plain("attempt", &session["attempt"]),
        plain("connection", &session["connection_id"]),
        plain("origin", &session["origin"]),
        plain("audio", &session["audio_format"]),
        plain("sample rate", &session["sample_rate"]),
        plain("continuity", &session["continuity"]),
        ("labels", labels.join(", "), Tone::Plain),
    ];
    let error = &session["last_error"];
    if error.is_object() {
        fields.extend([
            ("latest error", format!("{}, {}", text(&error["code"]), ago(&error["at"])), tone),
            plain("  phase", &error["phase"]),
            plain("  message", &error["message"]),
            plain("  HTTP status", &error["http_status"]),
            plain("  server code", &error["server_code"]),
            plain("  server title", &error["server_title"]),
            plain("  server detail", &error["server_detail"]),
            plain("  close code", &error["close_code"]),
            plain("  close reason", &error["close_reason"]),
            plain("  request", &error["req_id"]),
            plain("  carried out", &error["action"]),
            plain("  runbook", &error["docs_url"]),
        ]);
    }
    fields
}

async fn act(context: &Context, action: Action, selection: Selection) -> Result<(), Failure> {
    let ids = match selection.meant()? {
        Selected::Ids(ids) => ids,
        Selected::Filter(filter) => {
            let sessions = context.client.all(&["v1", "sessions"], "sessions", &filter.query()).await?;
            // What is stopped is listed for a while, and nothing can be done to it.
            let live = sessions.iter().filter(|session| session["state"] != "stopped");
            live.filter_map(|session| session["id"].as_str().map(str::to_owned)).collect()
        }
    };
    if ids.is_empty() {
        output::complain("no session matches; nothing was done");
        return Ok(());
    }
    if ids.len() > 1 {
        confirm(context, &format!("{} {} sessions", action.word(), ids.len()))?;
    }
    let total = ids.len();
    let mut first: Option<Failure> = None;
    let mut done = 0;
    let client = &context.client;
    let mut answers = stream::iter(ids.iter().map(|id| async move {
        let path = ["v1", "sessions", id, action.word()];
        let answer = match action {
            Action::End => client.call(Method::DELETE, &path[..3], &Query::new(), None).await,
            Action::Restart | Action::Park | Action::Unpark => client.post(&path).await,
        };
        (id, answer)
    }))
    .buffered(AT_A_TIME);
    while let Some((id, answer)) = answers.next().await {
        match answer {
            Ok(session) => {
                done += 1;
                acted(context.reader, &session)?;
            }
            Err(failure) if total == 1 => return Err(failure),
            Err(failure) => {
                output::complain(&format!("{id}: {failure}"));
                // Whoever is gone or does not know us will not do the rest either.
                let is_hopeless = matches!(failure, Failure::Unreachable { .. } | Failure::Protocol { .. });
                first.get_or_insert(failure);
                if is_hopeless {
                    break;
                }
            }
        }
    }
    match first {
        None => Ok(()),
        Some(failure) => {
            output::complain(&format!("{} of {total} sessions: done; {} not", done, total - done));
            Err(failure)
        }
    }
}

fn acted(reader: Reader, session: &Value) -> Result<(), Failure> {
    match reader {
        Reader::Program => print_json(session),
        Reader::Person { .. } => {
            let state = text(&session["state"]);
            print(&format!("{}  {}", text(&session["id"]), reader.paint(Tone::of_state(&state), &state)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        let after =
            |seconds: u64| age("1970-01-01T00:00:10Z", UNIX_EPOCH + Duration::from_secs(10 + seconds));
        assert_eq!([0, 59, 60, 3599].map(after), ["0s", "59s", "1m00s", "59m59s"]);
        assert_eq!([3600, 86399, 86400 * 12 + 7200].map(after), ["1h00m", "23h59m", "12d02h"]);
        assert_eq!(age("2100-01-01T00:00:00Z", UNIX_EPOCH), "0s");
        assert_eq!(age("", UNIX_EPOCH), "");
    }
}
