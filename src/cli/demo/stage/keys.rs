//! The keys of the table, read on a thread of their own: reading a terminal blocks.

use std::{io, thread, time::Duration};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// Keys that wait to be acted on, at most; those that come faster are dropped, as a held key repeats.
const WAITING: usize = 8;
/// How often the thread looks whether the keys are still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::demo) enum Key {
    /// Drop the connection of one session.
    Drop,
    /// Let one tenant run out of credits.
    Billing,
    /// Take the service away for a while.
    Outage,
    /// Park one session.
    Park,
    /// Unpark everything.
    Unpark,
    /// Show the commands to paste, or what was there before.
    Commands,
    /// End the demo.
    End,
}

impl Key {
    fn of(event: &Event) -> Option<Self> {
        let Event::Key(KeyEvent {
            code: KeyCode::Char(letter), modifiers, kind: KeyEventKind::Press, ..
        }) = event
        else {
            return None;
        };
        // In raw mode Ctrl-C is a key and no signal.
        if modifiers.contains(KeyModifiers::CONTROL) {
            return (*letter == 'c').then_some(Self::End);
        }
        match letter.to_ascii_lowercase() {
            'd' => Some(Self::Drop),
            'b' => Some(Self::Billing),
            'o' => Some(Self::Outage),
            'p' => Some(Self::Park),
            'u' => Some(Self::Unpark),
            'c' => Some(Self::Commands),
            'q' => Some(Self::End),
            _ => None,
        }
    }
}

/// The keys that are pressed.
pub(in crate::cli::demo) struct Keys(mpsc::Receiver<io::Result<Key>>);

impl Keys {
    /// Reads keys until this is dropped.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(in crate::cli::demo) fn read() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING);
        thread::Builder::new().name("keys".to_owned()).spawn(move || forward(&sender))?;
        Ok(Self(receiver))
    }

    /// The next key.
    ///
    /// # Errors
    ///
    /// Keys cannot be read, so that nobody could end the demo by one.
    pub(in crate::cli::demo) async fn next(&mut self) -> io::Result<Key> {
        let lost = || Err(io::Error::other("the keys are not read any more"));
        self.0.recv().await.unwrap_or_else(lost)
    }
}

fn forward(keys: &mpsc::Sender<io::Result<Key>>) {
    while !keys.is_closed() {
        match next_key() {
            Ok(None) => {}
            // The end is not to be lost behind keys that wait.
            Ok(Some(Key::End)) => return drop(keys.blocking_send(Ok(Key::End))),
            Ok(Some(key)) => drop(keys.try_send(Ok(key))),
            Err(error) => return drop(keys.blocking_send(Err(error))),
        }
    }
}

fn next_key() -> io::Result<Option<Key>> {
    if event::poll(LOOK_EVERY)? { Ok(Key::of(&event::read()?)) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(letter: char, modifiers: KeyModifiers) -> Option<Key> {
        Key::of(&Event::Key(KeyEvent::new(KeyCode::Char(letter), modifiers)))
    }

    #[test]
    fn letters_are_keys_and_control_c_is_the_end() {
        assert_eq!(press('d', KeyModifiers::NONE), Some(Key::Drop));
        assert_eq!(press('U', KeyModifiers::SHIFT), Some(Key::Unpark));
        assert_eq!(press('c', KeyModifiers::CONTROL), Some(Key::End));
        assert_eq!(press('c', KeyModifiers::NONE), Some(Key::Commands));
        assert_eq!(press('x', KeyModifiers::NONE), None);
        assert_eq!(press('d', KeyModifiers::CONTROL), None);
        assert_eq!(Key::of(&Event::Resize(80, 24)), None);
    }
}
