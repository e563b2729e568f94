//! `greenroom classify`: what Greenroom would make of an error, and do about it.
//!
//! A failure is described by flags, or by a JSON object a line on standard input; each gets one JSON object
//! on a line of standard output.

use std::{
    io::{self, BufRead, ErrorKind, Read, Write},
    process::ExitCode,
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::{
    errors::{
        Action, Egress, ErrorCode, Evidence, Observed, Phase, SessionError, classify, parse_error_body,
    },
    recovery::Policy,
};

/// The longest line that is read, in bytes: far above any error body, and a bound on memory where the input
/// has no line ends.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The exit code where a line of the input could not be read; the same as for a bad flag.
const EXIT_BAD_INPUT: u8 = 2;

const AFTER_HELP: &str = "\
Without flags, reads JSON Lines from standard input, with the flags' names in snake_case:

  {\"phase\": \"websocket_connect\", \"http_status\": 404, \"body\": \"{\\\"message\\\":\\\"Avatar not found: a\\\"}\"}

and answers each with a line {\"code\", \"action\", \"rule\", \"why\"}; flags get one such line. The action is that
of the default policy. Server code, title and detail are taken from the body where they are not given. A
failure with nothing but a phase is one without a usable answer (session_token, websocket_connect) or a socket
that ended (the later phases).

A line that cannot be read is answered with {\"error\": \"line N: ...\"}; the rest is still answered, and the exit
code is 2. Empty lines are skipped. A line may have up to 1 MiB.";

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Where it happened: session_token, websocket_connect, websocket_handshake, websocket_send or
    /// websocket_runtime.
    #[arg(long)]
    phase: Option<Phase>,
    /// HTTP status of the token answer or of the refused upgrade.
    #[arg(long, value_name = "STATUS", requires = "phase")]
    http_status: Option<u16>,
    /// The service's own code, a number or a name.
    #[arg(long, value_name = "CODE", requires = "phase", allow_hyphen_values = true)]
    server_code: Option<String>,
    /// WebSocket close code.
    #[arg(long, value_name = "CODE", requires = "phase")]
    close_code: Option<u16>,
    /// WebSocket close reason.
    #[arg(long, value_name = "TEXT", requires = "phase", allow_hyphen_values = true)]
    close_reason: Option<String>,
    /// Title of the error.
    #[arg(long, value_name = "TEXT", requires = "phase", allow_hyphen_values = true)]
    title: Option<String>,
    /// Detail of the error, or the message of a ServerError.
    #[arg(long, value_name = "TEXT", requires = "phase", allow_hyphen_values = true)]
    detail: Option<String>,
    /// Body of the HTTP answer.
    #[arg(long, value_name = "TEXT", requires = "phase", allow_hyphen_values = true)]
    body: Option<String>,
    /// The session's egress: none, livekit, agora or unknown (the default).
    #[arg(long, requires = "phase", value_parser = egress)]
    egress: Option<Egress>,
    /// List every code with its meaning, who must act, the default action and its runbook.
    #[arg(long, exclusive = true)]
    codes: bool,
}

fn egress(text: &str) -> Result<Egress, String> {
    match text {
        "none" => Ok(Egress::None),
        "livekit" => Ok(Egress::Livekit),
        "agora" => Ok(Egress::Agora),
        "unknown" => Ok(Egress::Unknown),
        other => Err(format!("\"{other}\" is no egress; use none, livekit, agora or unknown")),
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    let mut out = io::stdout().lock();
    let done = if args.codes {
        list_codes(&mut out)
    } else if let Some(described) = Described::from_flags(args) {
        answer(&mut out, &described.classified()).map(|()| ExitCode::SUCCESS)
    } else {
        answer_lines(&mut io::stdin().lock(), &mut out)
    };
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        // Whoever read the answers has seen enough (`| head`).
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone too, the exit code is all that is left to tell with.
            let _ = writeln!(io::stderr(), "greenroom classify: input or output failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A failure as somebody describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    phase: Phase,
    http_status: Option<u16>,
    #[serde(default, deserialize_with = "text_or_number")]
    server_code: Option<String>,
    close_code: Option<u16>,
    close_reason: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    #[serde(default, deserialize_with = "text_or_json")]
    body: Option<String>,
    egress: Option<Egress>,
}

/// One answer.
#[derive(Debug, Serialize)]
struct Answer {
    code: ErrorCode,
    action: Action,
    rule: u8,
    why: &'static str,
}

impl Described {
    fn from_flags(args: Args) -> Option<Self> {
        let Args {
            phase,
            http_status,
            server_code,
            close_code,
            close_reason,
            title,
            detail,
            body,
            egress,
            codes: _,
        } = args;
        // Every other flag requires the phase.
        let phase = phase?;
        Some(Self { phase, http_status, server_code, close_code, close_reason, title, detail, body, egress })
    }

    fn evidence(self) -> Evidence {
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let described = Evidence {
            http_status: self.http_status,
            server_code: given(self.server_code),
            server_title: given(self.title),
            server_detail: given(self.detail),
            close_code: self.close_code,
            close_reason: given(self.close_reason),
            ..Evidence::new(self.phase, Observed::Answer, self.egress.unwrap_or_default())
        };
        let Some(body) = given(self.body) else { return described.presumed() };
        let Some(status) = self.http_status else {
            // No status of an answer is known: the body's own, where it has one, is the best there is.
            let status = parse_error_body(200, &body).status;
            return Evidence { http_status: status, ..described.with_http_answer(200, &body) }.presumed();
        };
        let named = described.server_code.is_some()
            || described.server_title.is_some()
            || described.server_detail.is_some();
        let lacks_token = self.phase == Phase::SessionToken
            && status == 200
            && !named
            && !parse_error_body(status, &body).has_errors();
        let evidence = described.with_http_answer(status, &body);
        if lacks_token { Evidence { observed: Observed::Violation, ..evidence } } else { evidence.presumed() }
    }

    fn classified(self) -> Answer {
        let evidence = self.evidence();
        let verdict = classify(&evidence);
        let action = if SessionError::classified(evidence, verdict.why).is_api_key_refused() {
            // A fresh token is what was refused, so the policy's `renew` has nothing to renew with: the
            // session is parked and its tenant suspended.
            Action::Park
        } else {
            Policy::default().action(verdict.code)
        };
        Answer { code: verdict.code, action, rule: verdict.rule, why: verdict.why }
    }
}

/// A server code comes as a JSON number where somebody copied it from a `ServerError`.
fn text_or_number<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(input)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(serde::de::Error::custom("server_code must be a text or a number"))
        }
    }
}

/// A body comes as a text, or as the JSON that it is.
fn text_or_json<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(input)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        json @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Ok(Some(json.to_string()))
        }
    }
}

fn answer(out: &mut impl Write, answer: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, answer)?;
    out.write_all(b"\n")
}

fn list_codes(out: &mut impl Write) -> io::Result<ExitCode> {
    for code in ErrorCode::ALL {
        answer(
            out,
            &json!({
                "code": code,
                "meaning": code.meaning(),
                "must_act": code.must_act(),
                "action": Policy::default().action(code),
                "docs_url": code.docs_url(),
            }),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn answer_lines(input: &mut impl BufRead, out: &mut impl Write) -> io::Result<ExitCode> {
    let mut exit = ExitCode::SUCCESS;
    let mut number = 0_u64;
    while let Some(line) = next_line(input)? {
        number += 1;
        let described = match line {
            Line::Whole(bytes) if bytes.trim_ascii().is_empty() => continue,
            Line::Whole(bytes) => {
                serde_json::from_slice::<Described>(&bytes).map_err(|error| without_line(&error))
            }
            Line::TooLong => Err(format!("longer than {MAX_LINE_BYTES} bytes")),
        };
        match described {
            Ok(described) => answer(out, &described.classified())?,
            Err(reason) => {
                exit = ExitCode::from(EXIT_BAD_INPUT);
                answer(out, &json!({ "error": format!("line {number}: {reason}") }))?;
            }
        }
    }
    Ok(exit)
}

/// The lines of `greenroom classify` under the fuzzer: one answer for each line that is not blank, and each is JSON.
#[cfg(feature = "fuzzing")]
#[expect(clippy::expect_used, reason = "a panic is how a fuzzer is told")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut out = Vec::new();
    let mut input = bytes;
    answer_lines(&mut input, &mut out).expect("memory does not fail");
    let asked = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    let answers = out.split_inclusive(|byte| *byte == b'\n');
    let answered =
        answers.map(|line| serde_json::from_slice::<Value>(line).expect("an answer is JSON")).count();
    assert_eq!(answered, asked);
}

/// The parser's message; its own "line 1" would contradict the number of the line in the input.
fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((reason, _)) => format!("{reason} at column {}", error.column()),
        None => message,
    }
}

/// A line of the input, without more of it in memory than the bound.
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

fn next_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let bound = MAX_LINE_BYTES as u64 + 1;
    if input.by_ref().take(bound).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') || bytes.len() <= MAX_LINE_BYTES {
        return Ok(Some(Line::Whole(bytes)));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Line::TooLong))
}
