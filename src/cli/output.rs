//! What the command line writes: a reader that has gone away is no reason to panic.

use std::io::{self, Write};

/// Writes a line to standard output; `false` where nobody reads it any more.
pub(super) fn say(line: &str) -> bool {
    writeln!(io::stdout().lock(), "{line}").is_ok()
}

/// Writes a line to standard error.
pub(super) fn complain(line: &str) {
    // The exit code says the rest where nobody reads.
    drop(writeln!(io::stderr().lock(), "{line}"));
}
