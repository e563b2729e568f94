//! `ctl top`: the fleet as a live table.

mod draw;
mod look;

use std::{thread, time::Duration};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::{sync::mpsc, time::sleep};

use super::{
    Context,
    failure::Failure,
    show::{Reader, print_json},
};
use draw::Scene;
use look::look;

/// How often the thread of the keys looks whether they are still wanted.
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// Keys and changes of size that wait; more of them ask for the same.
const KEYS_WAITING: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sessions of this tenant.
    #[arg(long, short)]
    tenant: Option<String>,
    /// Seconds between two looks.
    #[arg(long, short, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// End after so many looks.
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// What the terminal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    End,
    Redraw,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    match context.reader {
        Reader::Program => lines(context, &args).await,
        Reader::Person { colour, .. } => live(context, &args, colour).await,
    }
}

async fn lines(context: &Context, args: &Args) -> Result<(), Failure> {
    let mut looks = 0;
    loop {
        print_json(&look(&context.client, args.tenant.as_deref()).await?.json())?;
        looks += 1;
        if args.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
        sleep(Duration::from_secs(args.interval)).await;
    }
}

/// Gives the terminal back, at a panic too.
struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn live(context: &Context, args: &Args, colour: bool) -> Result<(), Failure> {
    // The first look is taken before the terminal is: what is wrong with the address or the key stays readable.
    let first = look(&context.client, args.tenant.as_deref()).await?;
    let mut scene = Scene::new(context.client.address().to_owned(), args.interval, colour);
    scene.take(Ok(first));
    let unusable =
        |error: std::io::Error| Failure::Usage(format!("top needs a terminal ({error}); see --json"));
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let _give_back = GiveBack;
    let mut wishes = wishes().map_err(unusable)?;
    let mut looks = 1;
    loop {
        terminal.draw(|frame| scene.draw(frame)).map_err(unusable)?;
        if args.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
        let next = async {
            sleep(Duration::from_secs(args.interval)).await;
            look(&context.client, args.tenant.as_deref()).await
        };
        tokio::pin!(next);
        loop {
            tokio::select! {
                looked = &mut next => {
                    looks += 1;
                    scene.take(looked);
                    break;
                }
                wish = wishes.recv() => match wish {
                    Some(Wish::Redraw) => {
                        terminal.draw(|frame| scene.draw(frame)).map_err(unusable)?;
                    }
                    Some(Wish::End) | None => return Ok(()),
                },
            }
        }
    }
}

fn wishes() -> std::io::Result<mpsc::Receiver<Wish>> {
    let (sender, receiver) = mpsc::channel(KEYS_WAITING);
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while !sender.is_closed() {
            let wish = event::poll(KEYS_EVERY).and_then(|is_there| is_there.then(event::read).transpose());
            match wish.map(|event| event.as_ref().and_then(wish_of)) {
                // The terminal is gone, and with it whoever could end this.
                Ok(Some(Wish::End)) | Err(_) => {
                    // Where nobody waits for it any more, the end has come already.
                    let _ = sender.blocking_send(Wish::End);
                    return;
                }
                Ok(Some(Wish::Redraw)) => {
                    // A full queue redraws anyway.
                    let _ = sender.try_send(Wish::Redraw);
                }
                Ok(None) => {}
            }
        }
    })?;
    Ok(receiver)
}

fn wish_of(event: &Event) -> Option<Wish> {
    if let Event::Resize(..) = event {
        return Some(Wish::Redraw);
    }
    let key = event.as_key_event().filter(|key| key.kind == KeyEventKind::Press)?;
    // In raw mode Ctrl-C is a key and no signal.
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let is_end = is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    is_end.then_some(Wish::End)
}
