//! The live table of the fleet.

use std::time::{Instant, SystemTime};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Cell, Paragraph, Row, Table},
};
use serde_json::Value;

use super::{
    super::{
        failure::Failure,
        sessions::age,
        show::{Tone, text},
        tenants::in_states,
    },
    look::Look,
};
use crate::recovery::StateName;

/// Rows of the box of states with its border: one for each state.
const STATES_HEIGHT: u16 = 9;
/// Most rows of tenants on a screen that is high enough.
const TENANTS_MOST: usize = 12;

/// What is shown.
pub(super) struct Scene {
    address: String,
    interval_s: u64,
    colour: bool,
    latest: Option<(Look, Instant)>,
    /// Errors in all at the look before, by code.
    before: Vec<(String, u64)>,
    /// What is wrong with looking.
    trouble: Option<String>,
}

fn counts(codes: &[Value]) -> Vec<(String, u64)> {
    codes.iter().map(|code| (text(&code["code"]), code["count"].as_u64().unwrap_or_default())).collect()
}

impl Scene {
    pub(super) const fn new(address: String, interval_s: u64, colour: bool) -> Self {
        Self { address, interval_s, colour, latest: None, before: Vec::new(), trouble: None }
    }

    /// Takes what a look gave; where it failed, the look before stays, and its age shows.
    pub(super) fn take(&mut self, looked: Result<Look, Failure>) {
        match looked {
            Ok(look) => {
                let codes = self.latest.take().and_then(|(look, _)| look.codes);
                self.before = counts(&codes.unwrap_or_default());
                self.latest = Some((look, Instant::now()));
                self.trouble = None;
            }
            Err(failure) => self.trouble = failure.to_string().lines().next().map(str::to_owned),
        }
    }

    fn style(&self, tone: Tone) -> Style {
        match tone {
            _ if !self.colour => Style::new(),
            Tone::Plain => Style::new(),
            Tone::Good => Style::new().fg(Color::Green),
            Tone::Waiting => Style::new().fg(Color::Yellow),
            Tone::Bad => Style::new().fg(Color::Red),
            Tone::Faint => Style::new().add_modifier(Modifier::DIM),
        }
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let Some((look, at)) = &self.latest else { return };
        let tenants = look.tenants.as_ref().map_or(0, Vec::len);
        let room = usize::from(frame.area().height.saturating_sub(STATES_HEIGHT + 2)) / 2;
        let tenants_height = if tenants == 0 { 0 } else { (tenants + 3).min(room).min(TENANTS_MOST + 3) };
        let [head, above, middle, below, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(STATES_HEIGHT),
            Constraint::Length(u16::try_from(tenants_height).unwrap_or(u16::MAX)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.draw_head(frame, head, *at);
        let [states, codes] = Layout::horizontal([Constraint::Length(26), Constraint::Fill(1)]).areas(above);
        self.draw_states(frame, states, look);
        self.draw_codes(frame, codes, look);
        if tenants_height > 0 {
            self.draw_tenants(frame, middle, look);
        }
        self.draw_troubled(frame, below, look);
        let foot_text = Paragraph::new(format!(" every {} s   q  end", self.interval_s));
        frame.render_widget(foot_text.style(self.style(Tone::Faint)), foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect, at: Instant) {
        let line = match &self.trouble {
            None => Line::from(format!(" greenroom {}", self.address)),
            Some(trouble) => {
                let stale = format!(" {} s old: {trouble}", at.elapsed().as_secs());
                Line::from(Span::styled(stale, self.style(Tone::Bad)))
            }
        };
        frame.render_widget(Paragraph::new(line), area);
    }

    fn draw_states(&self, frame: &mut Frame<'_>, area: Rect, look: &Look) {
        let rows = StateName::ALL.map(|state| {
            let name = state.as_str();
            let count = look.states.get(name).copied().unwrap_or_default();
            let tone = if count > 0 { Tone::of_state(name) } else { Tone::Faint };
            let count = Line::from(count.to_string()).right_aligned();
            Row::new([Cell::from(name), Cell::from(count)]).style(self.style(tone))
        });
        let table = Table::new(rows, [Constraint::Fill(1), Constraint::Length(8)]);
        frame.render_widget(table.block(Block::bordered().title(" sessions ")), area);
    }

    fn draw_codes(&self, frame: &mut Frame<'_>, area: Rect, look: &Look) {
        let mut codes = counts(look.codes.as_deref().unwrap_or_default());
        codes.retain(|(_, count)| *count > 0);
        codes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let breakers = look.upstreams.as_deref().unwrap_or_default().iter().map(|upstream| {
            format!(
                "{}: {}, {} waiting",
                text(&upstream["name"]),
                text(&upstream["breaker"]),
                text(&upstream["waiting"])
            )
        });
        let title = format!(" errors by code | {} ", breakers.collect::<Vec<_>>().join(" | "));
        let rows = codes.iter().map(|(code, count)| {
            let before =
                self.before.iter().find(|(name, _)| name == code).map_or(*count, |(_, count)| *count);
            let new = count.saturating_sub(before);
            let tone = if new > 0 { Tone::Bad } else { Tone::Plain };
            let more = if new > 0 { format!("+{new}") } else { String::new() };
            let number = |text: String| Cell::from(Line::from(text).right_aligned());
            Row::new([Cell::from(code.as_str()), number(count.to_string()), number(more)])
                .style(self.style(tone))
        });
        let widths = [Constraint::Length(24), Constraint::Length(9), Constraint::Length(7)];
        frame.render_widget(Table::new(rows, widths).block(Block::bordered().title(title)), area);
    }

    fn draw_tenants(&self, frame: &mut Frame<'_>, area: Rect, look: &Look) {
        let tenants = look.tenants.as_deref().unwrap_or_default();
        let mut tenants: Vec<&Value> = tenants.iter().collect();
        // Whoever is in trouble is at the top; the names decide between equals, so that rows stay where they are.
        tenants.sort_by_key(|tenant| {
            let is_free = tenant["suspended"].is_null();
            (is_free, std::cmp::Reverse(in_states(tenant, &["failed", "parked"])), text(&tenant["id"]))
        });
        let rows = tenants.iter().map(|tenant| {
            let count = |states: &[&str]| in_states(tenant, states).to_string();
            let suspended = text(&tenant["suspended"]["code"]);
            let tone = if suspended.is_empty() { Tone::Plain } else { Tone::Bad };
            let cells = [
                text(&tenant["id"]),
                count(&["running"]),
                count(&["starting", "backing_off"]),
                count(&["parked"]),
                count(&["failed"]),
                text(&tenant["upstream_connections"]),
                suspended,
            ];
            Row::new(cells).style(self.style(tone))
        });
        let widths = [
            Constraint::Fill(2),
            Constraint::Length(7),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(9),
            Constraint::Length(16),
        ];
        let heads = ["tenant", "running", "trying", "parked", "failed", "connected", "suspended"];
        let table = Table::new(rows, widths).header(Row::new(heads).style(self.style(Tone::Faint)));
        frame.render_widget(
            table.block(Block::bordered().title(format!(" tenants: {} ", tenants.len()))),
            area,
        );
    }

    fn draw_troubled(&self, frame: &mut Frame<'_>, area: Rect, look: &Look) {
        let now = SystemTime::now();
        let rows = look.troubled.iter().map(|session| {
            let state = text(&session["state"]);
            let tone = Tone::of_state(&state);
            let error = &session["last_error"];
            let cells = [
                text(&session["id"]),
                text(&session["tenant"]),
                state,
                text(&error["code"]),
                age(error["at"].as_str().unwrap_or_default(), now),
                text(&session["reason"]),
            ];
            Row::new(cells).style(self.style(tone))
        });
        let is_wide = area.width >= 110;
        let widths = [
            Constraint::Length(30),
            if is_wide { Constraint::Length(20) } else { Constraint::Fill(1) },
            Constraint::Length(11),
            Constraint::Length(21),
            Constraint::Length(if is_wide { 7 } else { 0 }),
            if is_wide { Constraint::Fill(1) } else { Constraint::Length(0) },
        ];
        let title = if look.troubled.is_empty() {
            " no session is parked, failed or backing off ".to_owned()
        } else {
            " parked, failed and backing off: greenroom ctl sessions get ID says why ".to_owned()
        };
        frame.render_widget(Table::new(rows, widths).block(Block::bordered().title(title)), area);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::json;

    use super::*;

    fn look(count: u64) -> Look {
        Look {
            states: [("running".to_owned(), 9998), ("parked".to_owned(), 2)].into(),
            tenants: Some(vec![
                json!({"id": "globex", "suspended": null, "sessions": {"running": 9998}, "upstream_connections": 9998}),
                json!({"id": "acme", "suspended": {"code": "creditsExhausted"}, "sessions": {"parked": 2}, "upstream_connections": 0}),
            ]),
            codes: Some(vec![
                json!({"code": "connectionClosed", "count": 3}),
                json!({"code": "creditsExhausted", "count": count}),
            ]),
            upstreams: Some(vec![json!({"name": "primary", "breaker": "closed", "waiting": 0})]),
            troubled: vec![
                json!({"id": "ses_00000000000000000000000001", "tenant": "acme", "state": "parked",
                "last_error": {"code": "creditsExhausted", "at": "2026-01-01T00:00:00Z"}, "reason": "Pay."}),
            ],
        }
    }

    fn drawn(scene: &Scene, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| scene.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen_of_any_size_has_what_matters() {
        let mut scene = Scene::new("http://127.0.0.1:8081".to_owned(), 2, true);
        scene.take(Ok(look(1)));
        scene.take(Ok(look(4)));
        for (width, height) in [(80, 24), (200, 50)] {
            let text = drawn(&scene, width, height);
            for part in [
                "9998",
                "+3",
                "primary: closed",
                "ses_00000000000000000000000001",
                "creditsExhausted",
                "q  end",
            ] {
                assert!(text.contains(part), "{part} at {width}x{height}\n{text}");
            }
            assert!(text.find("acme").unwrap() < text.find("globex").unwrap(), "the suspended first\n{text}");
            assert_eq!(text.contains("Pay."), width == 200, "{text}");
        }
        drawn(&scene, 5, 3);
    }

    #[test]
    fn a_greenroom_that_is_gone_is_told_and_the_latest_look_stays() {
        let mut scene = Scene::new("http://127.0.0.1:8081".to_owned(), 2, false);
        scene.take(Ok(look(1)));
        scene.take(Err(Failure::Unreachable { url: "http://x".to_owned(), why: "refused".to_owned() }));
        let text = drawn(&scene, 80, 24);
        assert!(text.contains("http://x does not answer: refused") && text.contains("9998"), "{text}");
    }
}
