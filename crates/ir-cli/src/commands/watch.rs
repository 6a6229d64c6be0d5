//! `ir watch`: a run in the terminal.

use std::io::{IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use ratatui::DefaultTerminal;
use ratatui::buffer::{Buffer, Cell};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm::terminal;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use crate::arguments::Watch;
use crate::interrupt;
use crate::watch::{View, Watched};

/// How long a change of the files or of the terminal may go unseen.
const PATIENCE: Duration = Duration::from_millis(250);

/// Columns and rows of a frame where no terminal says how many it has.
const SIZE: (u16, u16) = (100, 30);

pub(crate) fn run(arguments: &Watch) -> Result<ExitCode> {
    let watched = Watched::open(&arguments.run, arguments.split.name(), arguments.epoch)?;
    let is_terminal = std::io::stdout().is_terminal();
    if arguments.once || !is_terminal {
        let size = is_terminal.then(terminal::size).and_then(Result::ok);
        let size = size.filter(|&(columns, rows)| columns > 0 && rows > 0);
        print(&watched, size.unwrap_or(SIZE))?;
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::listen()?;
    // A panic restores the terminal too.
    let shown = ratatui::try_init()
        .context("the terminal cannot be drawn on; --once prints one frame as text")
        .and_then(|terminal| {
            // Its destructor complains on stderr, and panics where that is closed as well.
            let mut terminal = ManuallyDrop::new(terminal);
            let status = show(&mut terminal, watched)?;
            terminal.show_cursor()?;
            Ok(status)
        });
    let restored = ratatui::try_restore().context("the terminal cannot be restored; type `reset`");
    let status = shown?;
    restored?;
    Ok(status)
}

/// One frame as text.
fn print(watched: &Watched, (width, height): (u16, u16)) -> Result<()> {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let view = View {
        watched,
        keys: false,
    };
    view.render(buffer.area, &mut buffer);
    let mut out = std::io::stdout().lock();
    for row in buffer.content.chunks(usize::from(width.max(1))) {
        let line: String = row.iter().map(Cell::symbol).collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Draws until somebody has seen enough.
fn show(terminal: &mut DefaultTerminal, mut watched: Watched) -> Result<ExitCode> {
    let events = events();
    loop {
        watched.refresh();
        terminal.draw(|frame| {
            let view = View {
                watched: &watched,
                keys: true,
            };
            frame.render_widget(view, frame.area());
        })?;
        match events.recv_timeout(PATIENCE) {
            Ok(Event::Key(key)) if key.is_press() && quits(key, &mut watched) => {
                return Ok(ExitCode::SUCCESS);
            }
            // Nothing will come any more; drawing says whether the terminal is gone.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PATIENCE),
            _ => {}
        }
        if let Some(status) = interrupt::requested() {
            return Ok(ExitCode::from(status));
        }
    }
}

/// What the terminal sends. It is read on a thread of its own, which is never waited for: where a terminal is closed, the library
/// reads its end for ever.
fn events() -> Receiver<Event> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Does what a key asks for; whether that is the end.
fn quits(key: KeyEvent, watched: &mut Watched) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') => return key.modifiers.contains(KeyModifiers::CONTROL),
        KeyCode::Char('t') => watched.toggle_split(),
        KeyCode::Left => watched.earlier(),
        KeyCode::Right => watched.later(),
        KeyCode::Home => watched.first(),
        KeyCode::End => watched.last(),
        _ => {}
    }
    false
}
