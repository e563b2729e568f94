//! `ctl codes`, `ctl upstreams` and `ctl drain`.

use serde_json::Value;

use super::{
    Context,
    client::Query,
    confirm::confirm,
    failure::Failure,
    show::{Column, Reader, Tone, card, print, print_json, table, text},
};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(super) struct CodesArgs {
    /// This code only, with its runbook.
    code: Option<String>,
    /// Codes that have happened only.
    #[arg(long)]
    seen: bool,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct UpstreamsArgs {
    #[command(subcommand)]
    command: Option<Breaker>,
}

#[derive(Debug, clap::Subcommand)]
enum Breaker {
    /// Show them (the default).
    Ls,
    /// Open a breaker: nobody knocks at that upstream until it is closed by `close`.
    Open {
        /// The upstream's name.
        name: String,
    },
    /// Close a breaker.
    Close {
        /// The upstream's name.
        name: String,
    },
}

/// The items of a listing that has one page.
pub(super) fn items(answer: &mut Value, list: &str) -> Vec<Value> {
    if let Value::Array(items) = answer[list].take() { items } else { Vec::new() }
}

pub(super) async fn codes(context: &Context, args: &CodesArgs) -> Result<(), Failure> {
    let mut answer = context.client.get(&["v1", "codes"], &Query::new()).await?;
    let mut codes = items(&mut answer, "codes");
    if let Some(wanted) = &args.code {
        codes.retain(|code| code["code"].as_str().is_some_and(|code| code.eq_ignore_ascii_case(wanted)));
        let Some(code) = codes.first() else {
            return Err(Failure::Usage(format!("\"{wanted}\" is no code; `greenroom ctl codes` lists them")));
        };
        return match context.reader {
            Reader::Program => print_json(code),
            Reader::Person { .. } => print(&card(
                context.reader,
                &["code", "count", "must_act", "action", "meaning", "docs_url"]
                    .map(|name| (name, text(&code[name]), Tone::Plain)),
            )),
        };
    }
    if args.seen {
        codes.retain(|code| code["count"].as_u64().is_some_and(|count| count > 0));
    }
    let Reader::Person { .. } = context.reader else { return codes.iter().try_for_each(print_json) };
    if codes.is_empty() {
        output::complain("no error has happened since Greenroom started");
        return Ok(());
    }
    // The most frequent is what whoever looks here is after.
    codes.sort_by_key(|code| std::cmp::Reverse(code["count"].as_u64()));
    let columns = [
        Column::name("CODE"),
        Column::number("COUNT"),
        Column::text("WHO MUST ACT"),
        Column::name("ACTION"),
        Column::text("MEANING").from(100),
    ];
    let rows: Vec<_> = codes.iter().map(code_row).collect();
    print(&table(context.reader, &columns, &rows))
}

fn code_row(code: &Value) -> Vec<(String, Tone)> {
    let plain = |name: &str| (text(&code[name]), Tone::Plain);
    let is_seen = code["count"].as_u64().is_some_and(|count| count > 0);
    vec![
        (text(&code["code"]), if is_seen { Tone::Bad } else { Tone::Plain }),
        plain("count"),
        plain("must_act"),
        plain("action"),
        plain("meaning"),
    ]
}

pub(super) async fn upstreams(context: &Context, args: UpstreamsArgs) -> Result<(), Failure> {
    let mut answer = match args.command.unwrap_or(Breaker::Ls) {
        Breaker::Ls => context.client.get(&["v1", "upstreams"], &Query::new()).await?,
        Breaker::Open { name } => {
            confirm(
                context,
                &format!("open the breaker of {name}: no session connects or restarts until it is closed"),
            )?;
            context.client.post(&["v1", "upstreams", &name, "open"]).await?
        }
        Breaker::Close { name } => context.client.post(&["v1", "upstreams", &name, "close"]).await?,
    };
    let upstreams = items(&mut answer, "upstreams");
    let Reader::Person { .. } = context.reader else { return upstreams.iter().try_for_each(print_json) };
    let columns = [
        Column::name("UPSTREAM"),
        Column::name("BREAKER"),
        Column::number("WAITING"),
        Column::number("CONNECTING"),
    ];
    let rows: Vec<_> = upstreams
        .iter()
        .map(|upstream| {
            let breaker = text(&upstream["breaker"]);
            let tone = if breaker == "closed" { Tone::Good } else { Tone::Bad };
            vec![
                (text(&upstream["name"]), Tone::Plain),
                (breaker, tone),
                (text(&upstream["waiting"]), Tone::Plain),
                (text(&upstream["in_flight"]), Tone::Plain),
            ]
        })
        .collect();
    print(&table(context.reader, &columns, &rows))
}

pub(super) async fn drain(context: &Context) -> Result<(), Failure> {
    confirm(context, &format!("close every connection of {} and end it", context.client.address()))?;
    let answer = context.client.post(&["v1", "drain"]).await?;
    match context.reader {
        Reader::Program => print_json(&answer),
        Reader::Person { .. } => print("draining: every connection is being closed, then the process ends"),
    }
}
