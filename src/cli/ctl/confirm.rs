//! Asking before something that many would feel.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::{Context, failure::Failure};

/// Asks whether `what` is meant, unless `--yes` said so.
///
/// # Errors
///
/// The answer is no, or there is nobody to ask.
pub(super) fn confirm(context: &Context, what: &str) -> Result<(), Failure> {
    if context.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Unconfirmed(format!("this would {what}; nothing was done; --yes does it")));
    }
    // The question is no part of the output, which may go to a file.
    let mut err = io::stderr().lock();
    let asked = write!(err, "This will {what}. Go on? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let heard = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
    if heard.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::Unconfirmed("nothing was done".to_owned()))
    }
}
