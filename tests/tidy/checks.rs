//! The checks: each takes source and gives what is wrong with it, with the reason.

use std::path::Path;

use crate::source::{Source, bracket_end, paths, split_arguments, without_items, words};

/// The longest file, in lines: beyond it a file holds a second idea.
const MAX_LINES: usize = 500;

const CORE: [&str; 3] = ["errors", "recovery", "outbox"];
const LEAVES: [&str; 6] = ["tenants", "store", "telemetry", "events", "config", "traces"];
/// The shell, outermost first: each may import those after it.
const SHELL: [&str; 8] = ["fuzz", "cli", "http", "manager", "session", "webhooks", "upstream", "wire"];

/// What a module may import, besides itself.
pub(crate) fn allowed(module: &str) -> Vec<&'static str> {
    match module {
        "errors" => vec![],
        "recovery" => vec!["errors"],
        "outbox" => vec!["errors", "recovery"],
        // The simulator must not hide a mistake of the client in a mistake of its own.
        "simulator" => vec!["wire"],
        "wire" | "store" | "telemetry" | "events" | "config" => CORE.to_vec(),
        "tenants" => [&CORE[..], &["config"]].concat(),
        // Made of events, after the fact: no shell knows of it but the one that starts it.
        "traces" => [&CORE[..], &["config", "events", "telemetry"]].concat(),
        "main" => vec!["cli"],
        shell => {
            let position = SHELL.iter().position(|module| *module == shell);
            let inner = position.map_or(&[][..], |position| &SHELL[position + 1..]);
            let simulator: &[_] = if shell == "cli" { &["simulator"] } else { &[] };
            [inner, simulator, &LEAVES[..], &CORE[..]].concat()
        }
    }
}

fn is_module(name: &str) -> bool {
    name == "simulator" || CORE.contains(&name) || LEAVES.contains(&name) || SHELL.contains(&name)
}

/// Dependencies that point the wrong way.
pub(crate) fn arrows(source: &Source) -> Vec<String> {
    // The root declares the modules.
    if source.path == "src/lib.rs" {
        return vec![];
    }
    let inline = source.inline_modules();
    let own = source.module().first().copied().unwrap_or("main").to_owned();
    let allowed = allowed(&own);
    let mut findings = Vec::new();
    if own != "main" && !is_module(&own) {
        findings.push(source.finding(0, &format!("{own} has no place in the order of the modules")));
    }
    for path in paths(&source.product) {
        let depth = source.module().len() + inline.iter().filter(|(at, _)| at.contains(&path.offset)).count();
        let Some(target) = root_item(&path.segments, depth) else { continue };
        let wrong = if !is_module(target) {
            Some("which is no module of the map: name the module that has it")
        } else if target != own && !allowed.contains(&target) {
            Some("against the order of the modules")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            findings.push(source.finding(path.offset, &format!("{own} imports {target}, {wrong}")));
        }
    }
    findings
}

/// The item of the crate's root that a path inside a module `depth` below the root goes through.
fn root_item(segments: &[String], depth: usize) -> Option<&str> {
    let supers = segments.iter().take_while(|segment| *segment == "super").count();
    let from_root = match segments.first()?.as_str() {
        "crate" | "greenroom" => 1,
        "super" if supers == depth => supers,
        _ => return None,
    };
    segments.get(from_root).map(String::as_str)
}

/// What only a shell may know, in a file of the core.
pub(crate) fn purity(source: &Source) -> Vec<String> {
    const WORDS: [&str; 15] = [
        "Instant",
        "SystemTime",
        "Mutex",
        "RwLock",
        "HashMap",
        "HashSet",
        "thread",
        "thread_local",
        "print",
        "println",
        "eprint",
        "eprintln",
        "dbg",
        "OnceLock",
        "LazyLock",
    ];
    const CRATES: [&str; 5] = ["tokio", "awc", "rand", "metrics", "tracing"];
    const STD: [&str; 5] = ["env", "fs", "net", "io", "process"];
    if !source.module().first().is_some_and(|module| CORE.contains(module)) {
        return vec![];
    }
    let mut findings = Vec::new();
    let mut impure = |offset, what: &str| {
        findings.push(source.finding(offset, &format!("the core is pure, and this is {what}")));
    };
    for path in paths(&source.product) {
        let root = path.segments.first().map_or("", String::as_str);
        let inside = path.segments.len() > 1;
        if inside && CRATES.contains(&root) || root.starts_with("actix") {
            impure(path.offset, root);
        } else if root == "std" && path.segments.get(1).is_some_and(|module| STD.contains(&module.as_str())) {
            impure(path.offset, &path.segments[..2].join("::"));
        } else if let Some(word) = path.segments.iter().find(|segment| WORDS.contains(&segment.as_str())) {
            impure(path.offset, word);
        }
    }
    let words = words(&source.product);
    for pair in words.windows(2) {
        if pair[0].1 == "static" && pair[1].1 == "mut" {
            impure(pair[0].0, "static mut");
        }
    }
    findings
}

/// Panics by `unwrap` and `expect` outside of tests, but where an `#[expect]` gives the reason.
pub(crate) fn panics(source: &Source) -> Vec<String> {
    fn is_reasoned(attribute: &str) -> bool {
        attribute.starts_with("expect(clippy::")
            && (attribute.contains("expect_used") || attribute.contains("unwrap_used"))
            && attribute.contains("reason=")
    }
    let code = without_items(&source.product, is_reasoned);
    [".unwrap()", ".expect("]
        .into_iter()
        .flat_map(|call| code.match_indices(call))
        .map(|(offset, call)| {
            source.finding(offset, &format!("{call} outside of tests: return an error, or give the reason"))
        })
        .collect()
}

/// Files that hold a second idea.
pub(crate) fn length(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= MAX_LINES {
        return vec![];
    }
    vec![format!("{}: {lines} lines, more than {MAX_LINES}: split it by its second idea", source.path)]
}

/// Files that do not say what they are for.
pub(crate) fn opening(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        return vec![];
    }
    vec![source.finding(0, "the file does not open with //! and what it is for")]
}

/// Work that was left for later.
pub(crate) fn leftovers(source: &Source) -> Vec<String> {
    words(&source.text)
        .into_iter()
        .filter(|(offset, word)| match *word {
            "TODO" | "FIXME" | "XXX" => true,
            "todo" | "unimplemented" => source.text[offset + word.len()..].starts_with('!'),
            _ => false,
        })
        .map(|(offset, word)| {
            source.finding(offset, &format!("{word}: finish it, or write down what is missing"))
        })
        .collect()
}

/// Messages of log macros that are not lower case, or end as a sentence.
pub(crate) fn log_messages(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (offset, word) in words(&source.product) {
        let open = offset + word.len() + 1;
        let is_log = matches!(word, "trace" | "debug" | "info" | "warn" | "error")
            && source.product[offset + word.len()..].starts_with("!(");
        if !is_log {
            continue;
        }
        let inside = open + 1..bracket_end(&source.product, open) - 1;
        let arguments = &source.product[inside.clone()];
        let literal = split_arguments(arguments).into_iter().find_map(|range| {
            let argument = arguments[range.clone()].trim();
            let start = range.start + arguments[range].find('"')?;
            (argument.len() > 1 && argument.starts_with('"') && argument.ends_with('"'))
                .then(|| inside.start + start + 1..inside.start + start + argument.len() - 1)
        });
        if let Some(literal) = literal {
            let message = &source.text[literal.clone()];
            if is_capitalised(message) || message.ends_with('.') {
                findings.push(
                    source
                        .finding(literal.start, &format!("log message \"{message}\": lower case, no period")),
                );
            }
        }
    }
    findings
}

/// Whether a message opens with a capital that is not an abbreviation's (`TLS`).
fn is_capitalised(message: &str) -> bool {
    let first = message.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    first.starts_with(char::is_uppercase) && (first.len() == 1 || first.contains(char::is_lowercase))
}

/// Hosts of package registries, which tie a checkout to one way of fetching.
pub(crate) fn registry_hosts(path: &str, text: &str) -> Vec<String> {
    // In pieces, so that this file does not name them.
    const HOSTS: [[&str; 2]; 5] = [
        ["crates", ".io"],
        ["pypi", ".org"],
        ["registry.npmjs", ".org"],
        ["deb.debian", ".org"],
        ["static.rust-lang", ".org"],
    ];
    if Path::new(path).file_name().is_some_and(|name| name == "Cargo.lock") {
        return vec![];
    }
    HOSTS
        .into_iter()
        .map(|pieces| pieces.concat())
        .filter(|host| text.contains(host))
        .map(|host| format!("{path}: names {host}, a package registry's host: leave fetching to the tools"))
        .collect()
}
