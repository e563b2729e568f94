//! The terminal, which is given back as it was: at the end, at an error and at a panic, since it is given back
//! when it is dropped. (A panic hook would be wrong here: the demo's sessions panic by script, and live on.)

use std::io::{self, Stdout, stdout};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{
            Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
        },
    },
};

use super::Stage;

/// Undoes what was done to the terminal.
struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to give back.
        drop(disable_raw_mode());
        // Cleared first: some terminals mix the two screens up after their size has changed.
        drop(execute!(stdout(), Clear(ClearType::All), LeaveAlternateScreen, Show));
    }
}

/// A terminal that shows nothing but the table.
pub(in crate::cli::demo) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// Behind the terminal, so that it is dropped after it.
    _give_back: GiveBack,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// It cannot be set up; it is as before then.
    pub(in crate::cli::demo) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        let give_back = GiveBack;
        execute!(stdout(), EnterAlternateScreen)?;
        let mut terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        terminal.clear()?;
        Ok(Self { terminal, _give_back: give_back })
    }

    /// Draws the table; a terminal that has changed its size is noticed here.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub(in crate::cli::demo) fn draw(&mut self, stage: &Stage) -> io::Result<()> {
        match stage {
            Stage::Plain => Ok(()),
            Stage::Table(scene) => {
                let scene = scene.borrow();
                self.terminal.draw(|frame| scene.draw(frame)).map(|_drawn| ())
            }
        }
    }
}
