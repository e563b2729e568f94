//! Where the demo is shown: as lines, or as a table in a terminal. What is shown comes as events, the same for
//! both.

mod keys;
mod reading;
mod screen;
mod table;

use std::{cell::RefCell, io, time::Duration};

use super::super::output;
pub(super) use keys::{Key, Keys};
pub(super) use reading::{Reading, Window};
pub(super) use screen::Screen;
use table::Scene;

/// From one line of figures to the next.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// From one drawing of the table to the next: four a second are read as live, and cost next to nothing.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// What the demo shows.
#[derive(Debug)]
pub(super) enum Event {
    /// The demo begins.
    Introduced(Introduction),
    /// A fault strikes.
    Struck(String),
    /// Somebody mends what was broken.
    Mended(String),
    /// Something of the demo itself does not work.
    Trouble(String),
    /// The commands are to be shown, or put away again.
    Turned,
    /// The figures.
    Figures(Reading),
}

/// What is said at the beginning.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    /// How many sessions and tenants there are.
    pub(super) title: String,
    /// What can be opened: a name, and where it is.
    pub(super) places: Vec<(&'static str, String)>,
    /// Commands to paste.
    pub(super) commands: Vec<String>,
}

/// Where events go.
pub(super) enum Stage {
    /// Lines on standard output.
    Plain,
    /// The table, which a [`Screen`] draws.
    Table(Box<RefCell<Scene>>),
}

impl Stage {
    /// A table that knows nothing yet.
    pub(super) fn table() -> Self {
        Self::Table(Box::default())
    }

    /// From one event of figures to the next.
    pub(super) const fn figures_every(&self) -> Duration {
        match self {
            Self::Plain => LINE_EVERY,
            Self::Table(_) => DRAW_EVERY,
        }
    }

    /// Shows an event; the table shows it when it is drawn next.
    ///
    /// # Errors
    ///
    /// Nobody reads the lines.
    pub(super) fn show(&self, event: Event) -> io::Result<()> {
        match self {
            Self::Plain => show_plain(event),
            Self::Table(scene) => {
                scene.borrow_mut().take(event);
                Ok(())
            }
        }
    }

    /// [`Stage::show`] for those who go on where nobody reads.
    pub(super) fn tell(&self, event: Event) {
        if let Err(error) = self.show(event) {
            tracing::debug!(%error, "the demo's output is not read");
        }
    }
}

fn show_plain(event: Event) -> io::Result<()> {
    let say = |line: &str| if output::say(line) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) };
    match event {
        Event::Introduced(Introduction { title, places, commands }) => {
            say(&format!("greenroom demo: {title}"))?;
            for (name, place) in places {
                say(&format!("        {name:<13} {place}"))?;
            }
            say("try, in another terminal:")?;
            commands.iter().try_for_each(|command| say(&format!("  {command}")))
        }
        Event::Struck(text) => say(&format!("        ! {text}")),
        Event::Mended(text) => say(&format!("        + {text}")),
        Event::Trouble(text) => {
            output::complain(&text);
            Ok(())
        }
        // Lines stay where they are.
        Event::Turned => Ok(()),
        Event::Figures(reading) => say(&reading.line()),
    }
}
