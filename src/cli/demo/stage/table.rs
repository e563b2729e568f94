//! The table: what is known, and how it is laid out in 80 columns and 24 lines or more.

use std::{
    collections::{BTreeMap, VecDeque},
    iter,
};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph},
};

use super::{Event, Introduction, Reading};
use crate::recovery::StateName;

/// Events that are remembered: those that fit on a tall screen.
const MAX_NEWS: usize = 60;
/// From this size on, everything that was said at the beginning has room beside the rest and is not cut off.
const ROOMY_FROM: (u16, u16) = (125, 34);
/// A value that is further from its name than this is read with the wrong one.
const MAX_ROW_WIDTH: u16 = 40;
/// Columns of the list of codes: the longest has 25 characters.
const ERRORS_WIDTH: u16 = 34;
/// Columns before the text of a piece of news: its time and its sign.
const NEWS_INDENT: usize = 10;
/// The states and a frame around them.
const FIGURES_HEIGHT: u16 = StateName::ALL.len() as u16 + 2;

const KEYS: [(&str, &str); 7] = [
    ("d", "drop"),
    ("b", "billing"),
    ("o", "outage"),
    ("p", "park"),
    ("u", "unpark"),
    ("c", "curl"),
    ("q", "end"),
];

/// What kind of news it is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Struck,
    Mended,
    Trouble,
}

/// What the table shows.
#[derive(Debug, Default)]
pub(in crate::cli::demo) struct Scene {
    introduction: Introduction,
    reading: Reading,
    /// The latest first, with seconds since the demo began.
    news: VecDeque<(u64, Kind, String)>,
    /// Whether all places and commands stand where the errors and the news are, where there is no room for both.
    commands_shown: bool,
}

impl Scene {
    /// Takes an event in.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Introduced(introduction) => self.introduction = introduction,
            Event::Figures(reading) => self.reading = reading,
            Event::Struck(text) => self.remember(Kind::Struck, text),
            Event::Mended(text) => self.remember(Kind::Mended, text),
            Event::Trouble(text) => self.remember(Kind::Trouble, text),
            Event::Turned => self.commands_shown = !self.commands_shown,
        }
    }

    fn remember(&mut self, kind: Kind, text: String) {
        self.news.push_front((self.reading.at.as_secs(), kind, text));
        self.news.truncate(MAX_NEWS);
    }

    /// Draws everything.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let is_roomy = area.width >= ROOMY_FROM.0 && area.height >= ROOMY_FROM.1;
        let (places, commands) = if is_roomy {
            (self.places(), self.commands())
        } else {
            (vec![self.addresses(usize::from(area.width))], Vec::new())
        };
        let commands_height = if is_roomy { commands.len() as u16 + 1 } else { 0 };
        let [title, figures, news, place_lines, command_lines, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(FIGURES_HEIGHT),
            Constraint::Min(3),
            Constraint::Length(places.len() as u16),
            Constraint::Length(commands_height),
            Constraint::Length(1),
        ])
        .areas(area);
        frame.render_widget(self.title(title.width), title);
        self.draw_figures(frame, figures);
        if self.commands_shown && !is_roomy {
            frame.render_widget(Paragraph::new(self.page(usize::from(news.width))), news);
        } else {
            let [errors, faults] =
                Layout::horizontal([Constraint::Length(ERRORS_WIDTH), Constraint::Min(20)]).areas(news);
            frame.render_widget(boxed("errors by code", self.errors(errors)), errors);
            frame.render_widget(boxed("what happens, latest first", self.news(faults)), faults);
        }
        frame.render_widget(Paragraph::new(places), place_lines);
        if is_roomy {
            // Without a box, whose sides would be copied with them.
            let title = Line::styled(" try, in another terminal:", dim());
            frame.render_widget(
                Paragraph::new(Vec::from_iter(iter::once(title).chain(commands))),
                command_lines,
            );
        }
        frame.render_widget(key_line(), keys);
    }

    fn title(&self, width: u16) -> Line<'static> {
        let time = format!("{} s ", self.reading.at.as_secs());
        let title = format!(" greenroom: {}", self.introduction.title);
        let gap = usize::from(width).saturating_sub(title.chars().count() + time.len());
        Line::styled(
            format!("{title}{}{time}", " ".repeat(gap)),
            Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
        )
    }

    fn draw_figures(&self, frame: &mut Frame<'_>, area: Rect) {
        let areas =
            Layout::horizontal([Constraint::Ratio(1, 3), Constraint::Ratio(1, 3), Constraint::Ratio(1, 3)]);
        let [sessions, requests, recovery] = areas.areas(area);
        frame.render_widget(boxed("sessions", self.states(sessions.width)), sessions);
        frame.render_widget(boxed("requests", self.requests(requests.width)), requests);
        frame.render_widget(boxed("recovery and frames", self.recovery(recovery.width)), recovery);
    }

    fn states(&self, width: u16) -> Vec<Line<'static>> {
        let line = |state: StateName| {
            let count = self.reading.states.get(state.as_str()).copied().unwrap_or_default();
            let colour = match state {
                StateName::Running => Color::Green,
                StateName::Starting | StateName::BackingOff | StateName::Parked => Color::Yellow,
                StateName::Failed => Color::Red,
                StateName::Dormant | StateName::Stopped => Color::Reset,
            };
            let style = if count > 0.0 { Style::new().fg(colour) } else { dim() };
            row(state.as_str(), &format!("{count:.0}"), width).style(style)
        };
        StateName::ALL.into_iter().map(line).collect()
    }

    fn requests(&self, width: u16) -> Vec<Line<'static>> {
        let outcomes = &self.reading.outcomes;
        let settled: f64 = outcomes.values().sum();
        let open = (self.reading.accepted as f64 - settled).max(0.0);
        let mut lines = vec![row("accepted", &self.reading.accepted.to_string(), width)];
        for outcome in ["completed", "interrupted", "failed"] {
            let count = outcomes.get(outcome).copied().unwrap_or_default();
            lines.push(row(outcome, &format!("{count:.0}"), width));
        }
        lines.push(row("open now", &format!("{open:.0}"), width));
        lines
    }

    fn recovery(&self, width: u16) -> Vec<Line<'static>> {
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2} s"));
        vec![
            row("restarts", &format!("{:.0}", self.reading.restarts), width),
            row("recovery, mean", &seconds(self.reading.recovery_mean), width),
            row("recovery, last", &seconds(self.reading.recovery_last), width),
            Line::default(),
            row("frames", &format!("{:.0}", self.reading.frames), width),
            row("frames a second", &format!("{:.0}", self.reading.frames_per_second), width),
        ]
    }

    /// The most frequent codes, and how many did not fit.
    fn errors(&self, area: Rect) -> Vec<Line<'static>> {
        let errors: &BTreeMap<String, f64> = &self.reading.errors;
        let room = usize::from(area.height.saturating_sub(2));
        let mut codes: Vec<_> = errors.iter().collect();
        codes.sort_by(|(_, left), (_, right)| right.total_cmp(left));
        let fit = if codes.len() > room { room.saturating_sub(1) } else { codes.len() };
        let left_out = codes.len() - fit;
        let mut lines: Vec<_> = codes
            .iter()
            .take(fit)
            .map(|(code, count)| row(code, &format!("{count:.0}"), area.width))
            .collect();
        if left_out > 0 {
            lines.push(Line::styled(format!(" and {left_out} more"), dim()));
        }
        lines
    }

    /// As many as fit whole.
    fn news(&self, area: Rect) -> Vec<Line<'static>> {
        let room = usize::from(area.width).saturating_sub(2 + NEWS_INDENT);
        let height = usize::from(area.height.saturating_sub(2));
        let mut lines = Vec::new();
        for (at, kind, text) in &self.news {
            let (sign, colour) = match kind {
                Kind::Struck => ("!", Color::Red),
                Kind::Mended => ("+", Color::Green),
                Kind::Trouble => ("?", Color::Yellow),
            };
            let mut before = vec![
                Span::styled(format!("{at:>5} s "), dim()),
                Span::styled(format!("{sign} "), Style::new().fg(colour).add_modifier(Modifier::BOLD)),
            ];
            let parts = wrap(text, room);
            if lines.len() + parts.len() > height && !lines.is_empty() {
                break;
            }
            for part in parts {
                before.push(Span::raw(part));
                lines.push(Line::from(before));
                before = vec![Span::raw(" ".repeat(NEWS_INDENT))];
            }
        }
        lines
    }

    /// The places with their names.
    fn places(&self) -> Vec<Line<'static>> {
        let line = |(name, place): &(&str, String)| Line::styled(format!(" {name:<13} {place}"), dim());
        self.introduction.places.iter().map(line).collect()
    }

    /// The places whose addresses fit in one line.
    fn addresses(&self, width: usize) -> Line<'static> {
        let mut line = String::new();
        for (_, place) in &self.introduction.places {
            if line.len() + 3 + place.len() <= width {
                line.push_str(if line.is_empty() { " " } else { "   " });
                line.push_str(place);
            }
        }
        Line::styled(line, dim())
    }

    /// The commands without a frame, to be copied: what is longer than a line goes on behind a backslash.
    fn page(&self, width: usize) -> Vec<Line<'static>> {
        let mut lines = vec![Line::styled("try, in another terminal (c goes back):", dim())];
        for command in &self.introduction.commands {
            let mut parts = wrap(command, width.saturating_sub(2)).into_iter().peekable();
            while let Some(part) = parts.next() {
                lines.push(Line::raw(if parts.peek().is_some() { format!("{part} \\") } else { part }));
            }
        }
        lines
    }

    fn commands(&self) -> Vec<Line<'static>> {
        self.introduction.commands.iter().map(|command| Line::raw(command.clone())).collect()
    }
}

/// Breaks a text into lines between words; a word that is longer than a line is cut off by the frame.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

const fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn boxed(title: &'static str, lines: Vec<Line<'static>>) -> Paragraph<'static> {
    Paragraph::new(lines).block(Block::bordered().title(format!(" {title} ")).border_style(dim()))
}

/// A name on the left and a value on the right of a box of this width; of a wide one, still near its name.
fn row(name: &str, value: &str, width: u16) -> Line<'static> {
    let gap = usize::from(width.min(MAX_ROW_WIDTH)).saturating_sub(2 + name.len() + value.len() + 2).max(1);
    Line::raw(format!(" {name}{}{value} ", " ".repeat(gap)))
}

fn key_line() -> Line<'static> {
    let spans = KEYS.iter().flat_map(|(key, what)| {
        [
            Span::styled(format!(" {key} "), Style::new().add_modifier(Modifier::REVERSED)),
            Span::raw(format!(" {what}  ")),
        ]
    });
    Line::from_iter(spans)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::errors::ErrorCode;

    /// A scene with every row, and numbers as large as they get.
    fn full() -> Scene {
        let counts = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 123_456.0)).collect();
        let mut scene = Scene::default();
        scene.take(Event::Introduced(Introduction {
            title: "1000 sessions of 2 tenants speak; a fault strikes every 4 s".to_owned(),
            places: vec![
                ("tenants' API", "http://127.0.0.1:18080/v1/sessions".to_owned()),
                ("metrics", "http://127.0.0.1:18081/metrics".to_owned()),
                ("simulator", "http://127.0.0.1:18082/_sim/stats".to_owned()),
            ],
            commands: vec![format!("curl {} end", "x".repeat(110))],
        }));
        scene.take(Event::Figures(Reading {
            at: Duration::from_secs(86_400),
            states: counts(&StateName::ALL.map(StateName::as_str)),
            errors: counts(&ErrorCode::ALL.map(ErrorCode::as_str)),
            outcomes: counts(&["completed", "interrupted", "failed"]),
            accepted: 1_234_567_890,
            restarts: 123_456.0,
            recovery_mean: Some(123.45),
            recovery_last: Some(678.91),
            frames: 12_345_678_901.0,
            frames_per_second: 25_000.0,
        }));
        scene.take(Event::Mended("globex: this is no news".to_owned()));
        let story =
            "avatar-1000 (globex): the account has no credits left (4001): suspended until you press u";
        scene.take(Event::Struck(story.to_owned()));
        scene
    }

    fn drawn(scene: &Scene, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| scene.draw(frame)).unwrap();
        let cells = terminal.backend().buffer().content();
        cells
            .chunks(usize::from(width))
            .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect())
            .collect()
    }

    #[track_caller]
    fn shows(lines: &[String], texts: &[&str]) {
        for text in texts {
            assert!(lines.iter().any(|line| line.contains(text)), "{text} is cut:\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn everything_is_whole_in_eighty_columns_and_twenty_four_lines() {
        let lines = drawn(&full(), 80, 24);
        shows(&lines, &["every 4 s", " 86400 s ", "│ backing_off      123456 │", "1234567890 │"]);
        shows(&lines, &["123.45 s │", "678.91 s │", "12345678901 │", "25000 │", "123456 │"]);
        shows(&lines, &["and 11 more", "18080/v1/sessions", "18081/metrics", " q  end"]);
        shows(
            &lines,
            &["! avatar-1000 (globex): the account", "credits left (4001):", "press u", "+ globex"],
        );
    }

    #[test]
    fn the_commands_can_be_had_in_a_small_terminal_and_pasted() {
        let mut scene = full();
        let curl = "curl -s 'http://127.0.0.1:18080/v1/sessions?state=running&limit=2' -H 'Authorization: Bearer key'";
        let commands = vec![curl.to_owned(), "curl -s http://127.0.0.1:18081/metrics".to_owned()];
        scene.take(Event::Introduced(Introduction { commands, ..Introduction::default() }));
        scene.take(Event::Turned);
        let lines = drawn(&scene, 80, 24);
        shows(&lines, &["try, in another terminal", "1234567890 │", " c  curl", " q  end"]);
        let first = lines.iter().position(|line| line.starts_with("curl")).unwrap();
        // What a shell makes of it.
        let pasted: Vec<_> = lines[first..].iter().map(|line| line.trim_end()).collect();
        assert!(pasted.join("\n").replace("\\\n", "").starts_with(&format!("{curl}\n")), "{pasted:?}");
        scene.take(Event::Turned);
        shows(&drawn(&scene, 80, 24), &["errors by code", "what happens"]);
    }

    #[test]
    fn a_large_terminal_shows_every_code_and_the_commands() {
        let lines = drawn(&full(), 200, 50);
        shows(&lines, &ErrorCode::ALL.map(ErrorCode::as_str));
        shows(&lines, &["simulator", "_sim/stats", "xxx end", "suspended until you press u", " q  end"]);
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn() {
        for (width, height) in [(1, 1), (3, 40), (40, 3), (125, 34), (79, 23)] {
            assert_eq!(drawn(&full(), width, height).len(), usize::from(height));
        }
    }

    #[test]
    fn the_latest_news_is_the_first_and_old_news_leaves() {
        let mut scene = Scene::default();
        for number in 0..=MAX_NEWS {
            scene.take(Event::Struck(format!("fault {number}.")));
        }
        assert_eq!(scene.news.len(), MAX_NEWS);
        let lines = drawn(&scene, 200, 50);
        let latest = lines.iter().position(|line| line.contains(&format!("fault {MAX_NEWS}."))).unwrap();
        assert!(lines[latest + 1].contains(&format!("fault {}.", MAX_NEWS - 1)));
    }

    #[test]
    fn words_are_wrapped_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible word", 4), ["incomprehensible", "word"]);
        assert!(wrap("", 4).is_empty());
    }
}
