//! `ctl tenants`.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use awc::http::Method;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{
    Context,
    client::Query,
    confirm::confirm,
    failure::Failure,
    sessions::age,
    show::{Column, Reader, Tone, card, print, print_json, table, text},
};

/// A tenant's description is small; more than this is the wrong file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List all tenants.
    Ls,
    /// One tenant, without its secrets.
    Get {
        /// Its id.
        id: String,
    },
    /// Park all its sessions.
    Park {
        /// Its id.
        id: String,
    },
    /// Lift its suspension, and let its parked sessions try.
    Unpark {
        /// Its id.
        id: String,
    },
    /// Restart all its sessions.
    Restart {
        /// Its id.
        id: String,
    },
    /// Make a tenant. Keys that Greenroom makes are shown once, in the answer.
    Create(Create),
    /// Remove a tenant; its sessions end.
    Rm {
        /// Its id.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Its id.
    #[arg(required_unless_present = "file")]
    id: Option<String>,
    /// Its app id at the service.
    #[arg(long, required_unless_present = "file")]
    app_id: Option<String>,
    /// A file with its API key at the service; `-` is standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "file")]
    upstream_key_file: Option<PathBuf>,
    /// How many sessions it may have.
    #[arg(long, value_name = "N")]
    max_sessions: Option<u32>,
    /// Everything as JSON, as `POST /v1/tenants` takes it; `-` is standard input. Options are put over it.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls => list(context).await,
        Command::Get { id } => {
            show(context, &context.client.get(&["v1", "tenants", &id], &Query::new()).await?)
        }
        Command::Park { id } => operate(context, &id, "park", "park").await,
        Command::Unpark { id } => operate(context, &id, "unpark", "unpark").await,
        Command::Restart { id } => operate(context, &id, "restart", "restart").await,
        Command::Create(create) => {
            let body = create.body()?;
            let tenant =
                context.client.call(Method::POST, &["v1", "tenants"], &Query::new(), Some(&body)).await?;
            show(context, &tenant)
        }
        Command::Rm { id } => {
            let sessions = count_sessions(context, &id).await?;
            confirm(context, &format!("remove tenant {id} and end its {sessions} sessions"))?;
            let answer =
                context.client.call(Method::DELETE, &["v1", "tenants", &id], &Query::new(), None).await?;
            match context.reader {
                Reader::Program if answer.is_null() => print_json(&json!({"tenant": id, "removed": true})),
                Reader::Program => print_json(&answer),
                Reader::Person { .. } => print(&format!("{id}  removed")),
            }
        }
    }
}

/// The tenant's sessions that are not stopped. They are counted, since a Greenroom without tenants over HTTP has
/// the commands too.
async fn count_sessions(context: &Context, tenant: &str) -> Result<usize, Failure> {
    let mut count = 0;
    let query = vec![("tenant", tenant.to_owned())];
    context
        .client
        .pages(&["v1", "sessions"], "sessions", &query, usize::MAX, |sessions| {
            count += sessions.iter().filter(|session| session["state"] != "stopped").count();
            Ok(())
        })
        .await?;
    Ok(count)
}

async fn operate(context: &Context, id: &str, action: &str, word: &str) -> Result<(), Failure> {
    let sessions = count_sessions(context, id).await?;
    if sessions > 1 {
        confirm(context, &format!("{word} the {sessions} sessions of tenant {id}"))?;
    }
    let answer = context.client.post(&["v1", "tenants", id, action]).await?;
    match context.reader {
        Reader::Program => print_json(&answer),
        Reader::Person { .. } => print(&format!("{id}  {word}: {} sessions", text(&answer["sessions"]))),
    }
}

const COLUMNS: [Column; 9] = [
    Column::text("TENANT"),
    Column::text("SUSPENDED"),
    Column::number("RUNNING"),
    Column::number("TRYING"),
    Column::number("PARKED"),
    Column::number("FAILED"),
    Column::number("DORMANT").from(90),
    Column::number("MAX").from(80),
    Column::name("FROM").from(90),
];

/// The sum of some of the states of a tenant's sessions.
pub(super) fn in_states(tenant: &Value, states: &[&str]) -> u64 {
    states.iter().filter_map(|state| tenant["sessions"][*state].as_u64()).sum()
}

fn row(tenant: &Value) -> Vec<(String, Tone)> {
    let count = |states: &[&str], tone: Tone| {
        let count = in_states(tenant, states);
        (count.to_string(), if count > 0 { tone } else { Tone::Faint })
    };
    vec![
        (text(&tenant["id"]), Tone::Plain),
        (text(&tenant["suspended"]["code"]), Tone::Bad),
        count(&["running"], Tone::Good),
        count(&["starting", "backing_off"], Tone::Waiting),
        count(&["parked"], Tone::Bad),
        count(&["failed"], Tone::Bad),
        count(&["dormant"], Tone::Plain),
        (text(&tenant["max_sessions"]), Tone::Plain),
        (text(&tenant["managed_by"]), Tone::Plain),
    ]
}

async fn list(context: &Context) -> Result<(), Failure> {
    let tenants = context.client.all(&["v1", "tenants"], "tenants", &Query::new()).await?;
    let Reader::Person { .. } = context.reader else { return tenants.iter().try_for_each(print_json) };
    let rows: Vec<_> = tenants.iter().map(row).collect();
    print(&table(context.reader, &COLUMNS, &rows))
}

fn show(context: &Context, tenant: &Value) -> Result<(), Failure> {
    let Reader::Person { .. } = context.reader else { return print_json(tenant) };
    let Some(members) = tenant.as_object() else { return print_json(tenant) };
    let suspended = &tenant["suspended"];
    let mut fields = vec![("id", text(&tenant["id"]), Tone::Plain)];
    if suspended.is_object() {
        let since = suspended["since"].as_str().unwrap_or_default();
        let ago = age(since, SystemTime::now());
        fields.push(("suspended", format!("{}, {ago} ago", text(&suspended["code"])), Tone::Bad));
    }
    // Every member, also one that a newer Greenroom has: a key that is shown once must not be left out.
    for (name, value) in members.iter().filter(|(name, _)| !["id", "suspended"].contains(&name.as_str())) {
        fields.push((name, nested(value), Tone::Plain));
    }
    print(&card(context.reader, &fields))
}

/// A member on one line: `name: value, name: value` for an object, and its items for a list.
fn nested(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            members
                .map(|(name, value)| format!("{}: {}", super::show::clean(name), nested(value)))
                .collect::<Vec<_>>()
                .join(", ")
        }
        Value::Array(items) => items.iter().map(nested).collect::<Vec<_>>().join("; "),
        // Sums of times have more places than anybody reads.
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or_default()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => text(value),
    }
}

impl Create {
    fn body(self) -> Result<Value, Failure> {
        let is_stdin = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
        if is_stdin(&self.file) && is_stdin(&self.upstream_key_file) {
            return Err(Failure::Usage(
                "--file and --upstream-key-file cannot both be standard input".to_owned(),
            ));
        }
        let mut body = match &self.file {
            None => Map::new(),
            Some(path) => match serde_json::from_str(&read(path)?) {
                Ok(Value::Object(body)) => body,
                Ok(_) => {
                    return Err(Failure::Usage(format!("{}: a JSON object is expected", path.display())));
                }
                Err(error) => return Err(Failure::Usage(format!("{}: {error}", path.display()))),
            },
        };
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        put("id", self.id.map(Value::from));
        put("app_id", self.app_id.map(Value::from));
        put("max_sessions", self.max_sessions.map(Value::from));
        let key = self.upstream_key_file.map(|path| read(&path)).transpose()?;
        put("upstream_api_key", key.map(|key| Value::from(key.trim())));
        Ok(Value::Object(body))
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_FILE_BYTES).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::File(format!("{}: {error}", path.display())))?;
    Ok(text)
}
