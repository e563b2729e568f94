//! What is printed: tables for people, one JSON object a line for programs.

use std::{env, io::IsTerminal as _};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets,
};
use serde_json::Value;

use super::{super::output, failure::Failure};

/// A line's width where no terminal says one.
const DEFAULT_WIDTH: u16 = 80;
/// Narrower than this, words are cut to letters.
const LEAST_WIDTH: u16 = 40;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A program: one JSON object a line.
    Program,
    /// A person, at a terminal of so many columns.
    Person { width: u16, colour: bool },
}

impl Reader {
    /// Who reads standard output, unless `json` or `table` says it.
    pub(super) fn find(json: bool, table: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        if json || !(table || is_terminal) {
            return Self::Program;
        }
        let has = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let said = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let found = || {
            let size = is_terminal.then(ratatui::crossterm::terminal::size)?;
            size.ok().map(|(columns, _)| columns).filter(|columns| *columns > 0)
        };
        let width = said.or_else(found).unwrap_or(DEFAULT_WIDTH).max(LEAST_WIDTH);
        Self::Person { width, colour: is_terminal && !is_dumb && !has("NO_COLOR") }
    }

    /// The columns of the terminal.
    pub(super) const fn width(self) -> u16 {
        match self {
            Self::Program => DEFAULT_WIDTH,
            Self::Person { width, .. } => width,
        }
    }

    /// `text` in a colour, where colours are shown.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        match (self, tone.ansi()) {
            (Self::Person { colour: true, .. }, Some(code)) => format!("\x1b[{code}m{text}\x1b[0m"),
            (Self::Person { .. } | Self::Program, _) => text.to_owned(),
        }
    }
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Waiting,
    Bad,
    Faint,
}

impl Tone {
    /// The tone of a session's state.
    pub(super) fn of_state(state: &str) -> Self {
        match state {
            "running" => Self::Good,
            "starting" | "backing_off" => Self::Waiting,
            "parked" | "failed" => Self::Bad,
            "dormant" | "stopped" => Self::Faint,
            _ => Self::Plain,
        }
    }

    const fn ansi(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Waiting => Some("33"),
            Self::Bad => Some("31"),
            Self::Faint => Some("2"),
        }
    }

    fn paint(self, cell: Cell) -> Cell {
        match self {
            Self::Plain => cell,
            Self::Good => cell.fg(Color::DarkGreen),
            Self::Waiting => cell.fg(Color::DarkYellow),
            Self::Bad => cell.fg(Color::DarkRed),
            Self::Faint => cell.add_attribute(Attribute::Dim),
        }
    }
}

/// A column: what it is called, and how it is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its heading.
    pub(super) name: &'static str,
    /// Whether its content is never broken over lines.
    pub(super) whole: bool,
    /// Whether it holds numbers.
    pub(super) number: bool,
    /// The narrowest terminal on which it is shown.
    pub(super) from_width: u16,
}

impl Column {
    /// A column that is broken over lines where there is no room.
    pub(super) const fn text(name: &'static str) -> Self {
        Self { name, whole: false, number: false, from_width: 0 }
    }

    /// A column of names that are copied: in one piece.
    pub(super) const fn name(name: &'static str) -> Self {
        Self { whole: true, ..Self::text(name) }
    }

    /// A column of numbers.
    pub(super) const fn number(name: &'static str) -> Self {
        Self { number: true, ..Self::name(name) }
    }

    /// The same, on terminals of so many columns only.
    pub(super) const fn from(self, from_width: u16) -> Self {
        Self { from_width, ..self }
    }
}

/// Rows under headings, as wide as the reader's terminal at most.
pub(super) fn table(reader: Reader, columns: &[Column], rows: &[Vec<(String, Tone)>]) -> String {
    let width = reader.width();
    let shown: Vec<usize> = (0..columns.len()).filter(|index| columns[*index].from_width <= width).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    match reader {
        Reader::Person { colour: true, .. } => table.enforce_styling(),
        Reader::Person { colour: false, .. } | Reader::Program => table.force_no_tty(),
    };
    table.set_header(shown.iter().map(|index| Tone::Faint.paint(Cell::new(columns[*index].name))));
    for row in rows {
        table.add_row(shown.iter().map(|index| {
            let (text, tone) = &row[*index];
            let cell = Cell::new(if text.is_empty() { "-" } else { text });
            let cell = if columns[*index].number { cell.set_alignment(CellAlignment::Right) } else { cell };
            tone.paint(cell)
        }));
    }
    for (position, index) in shown.iter().enumerate() {
        if let Some(column) = table.column_mut(position) {
            column.set_padding((0, 2));
            if columns[*index].whole {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Names with values, the values broken over lines behind their names.
pub(super) fn card(reader: Reader, fields: &[(&str, String, Tone)]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(reader.width());
    match reader {
        Reader::Person { colour: true, .. } => table.enforce_styling(),
        Reader::Person { colour: false, .. } | Reader::Program => table.force_no_tty(),
    };
    for (name, value, tone) in fields.iter().filter(|(_, value, _)| !value.is_empty()) {
        table.add_row([Tone::Faint.paint(Cell::new(name)), tone.paint(Cell::new(value))]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Some(names) = table.column_mut(0) {
        names.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Prints a line.
///
/// # Errors
///
/// Nobody reads any more.
pub(super) fn print(line: &str) -> Result<(), Failure> {
    if output::say(line) { Ok(()) } else { Err(Failure::NobodyReads) }
}

/// Prints a value on a line, as a program reads it.
///
/// # Errors
///
/// As [`print`].
pub(super) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&value.to_string())
}

/// A text of somebody else's without what a terminal would obey: messages of the service and labels of tenants are
/// shown on operators' terminals.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() || is_direction(letter) { ' ' } else { letter })
        .collect()
}

/// Marks that turn the direction of what follows, so that one name looks like another.
const fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A member as text: strings clean, null and what is absent empty.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => clean(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [Column::name("ID"), Column::number("N"), Column::text("REASON"), Column::text("WIDE").from(100)];

    fn rows() -> Vec<Vec<(String, Tone)>> {
        let row = |id: &str, n: &str, reason: &str| {
            vec![
                (id.to_owned(), Tone::Plain),
                (n.to_owned(), Tone::Good),
                (reason.to_owned(), Tone::Bad),
                ("wide".to_owned(), Tone::Plain),
            ]
        };
        vec![row("ses_00000000000000000000000001", "1", ""), row("ses_2", "100", &"many words ".repeat(12))]
    }

    #[test]
    fn a_table_keeps_to_its_width_and_ids_stay_whole() {
        for width in [60, 80, 200] {
            let text = table(Reader::Person { width, colour: false }, &COLUMNS, &rows());
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(width), "{widest} > {width}\n{text}");
            assert!(text.contains("ses_00000000000000000000000001    1  -"), "{text}");
            assert_eq!(text.contains("WIDE"), width >= 100, "{text}");
            assert_eq!(text.matches("many").count(), 12, "{text}");
        }
    }

    #[test]
    fn colours_are_shown_only_where_they_are_wanted() {
        let coloured = Reader::Person { width: 80, colour: true };
        let plain = Reader::Person { width: 80, colour: false };
        assert!(table(coloured, &COLUMNS, &rows()).contains("\u{1b}["));
        assert!(!table(plain, &COLUMNS, &rows()).contains('\u{1b}'));
        assert_eq!(coloured.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(plain.paint(Tone::Bad, "x"), "x");
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(clean("a\u{1b}[2Jb\u{7}\nc\u{202e}d\u{9b}e"), "a [2Jb  c d e");
        assert_eq!(text(&Value::from("é 世界")), "é 世界");
    }
}
