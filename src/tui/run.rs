//! From a process to a UI and back.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use nix::sys::signal::{Signal, raise};
use ratatui::crossterm::terminal as outer;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    action::Action,
    app::App,
    event::UiEvent,
    event_loop::{Clock, EventLoop, Stop},
    input::Input,
    keymap::KeyMap,
    state::State,
    terminal,
};
use crate::{
    config::{Config, theme::Theme},
    domain::NoticeLevel,
    supervisor::SupervisorHandle,
};

/// How long the outer terminal is given to take the last frame before it is left as it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the UI is to be like.
pub struct TuiOptions {
    /// The settings.
    pub config: Config,
    /// The colours.
    pub theme: Theme,
    /// The keys.
    pub keys: KeyMap,
    /// Tells the time.
    pub clock: Clock,
    /// The user's private key, for the ssh command that can be copied.
    pub ssh_key: Option<PathBuf>,
    /// The user's home directory, for paths that begin with `~/`.
    pub home: Option<PathBuf>,
    /// The log, named when banger fails.
    pub log: Option<PathBuf>,
}

/// Runs the UI until the user quits. Blocks; makes a tokio runtime of its own for its thread,
/// so it must not be called within one. The supervisor lives elsewhere.
///
/// The terminal is given back however this ends. At the end the user is told which machines
/// keep running.
///
/// # Errors
/// If standard input or output is no terminal, or the terminal cannot be set up.
pub fn run(handle: SupervisorHandle, options: TuiOptions) -> color_eyre::Result<()> {
    terminal::check().map_err(color_eyre::Report::new)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    terminal::install_panic_hook(options.log.clone());
    let size = outer::size()?;
    let app = App::new(state(&options, size));
    let mouse = options.config.mouse;
    terminal::enter(mouse)?;
    let guard = terminal::Guard;
    let farewell = runtime.block_on(async move {
        let (events, input) = mpsc::channel(1024);
        let keys = Input::start(events.clone())?;
        catch_signals(&events)?;
        let mut ui = EventLoop::new(app, handle, input, io::stdout(), options.clock)?;
        loop {
            match ui.run().await {
                Stop::Suspend => suspend(&mut ui, mouse, &events)?,
                Stop::Quit => break,
                Stop::TerminalGone => {
                    terminal::leave(false);
                    break;
                }
            }
        }
        // What is typed now is for the shell that banger was called from.
        ui.stop_input(keys);
        let farewell = ui.app.farewell();
        give_back(&ui);
        color_eyre::Result::<_>::Ok(farewell)
    });
    drop(guard);
    // The threads that wait for the terminal and for panes are not waited for.
    runtime.shutdown_background();
    if let Some(text) = farewell? {
        // A terminal that was closed has nobody to tell; println! would panic there.
        let _ = writeln!(io::stdout(), "{text}");
    }
    Ok(())
}

fn state(options: &TuiOptions, size: (u16, u16)) -> State {
    let now = (options.clock)();
    let mut state = State::new(options.theme.clone(), options.keys.clone(), size, now);
    state.ssh_key.clone_from(&options.ssh_key);
    state.home.clone_from(&options.home);
    state.configure(&options.config);
    for notice in &options.config.notices {
        state.toasts.push(NoticeLevel::Warning, notice.clone(), String::new(), now);
    }
    state
}

/// Writes the leave sequence behind the last frame; if the terminal does not take it in time,
/// it is frozen, and only its mode is put back.
fn give_back(ui: &EventLoop) {
    let mut written = ui.writer.finish(PATIENCE);
    if written {
        ui.writer.ship(terminal::leave_sequence());
        written = ui.writer.finish(PATIENCE);
    }
    if written {
        tracing::debug!("the terminal is given back");
    }
    terminal::leave(false);
}

/// Gives the terminal back, stops this process, and takes the terminal again when it goes on.
fn suspend(ui: &mut EventLoop, mouse: bool, events: &mpsc::Sender<UiEvent>) -> io::Result<()> {
    give_back(ui);
    // SIGTSTP is caught, to come here; SIGSTOP cannot be.
    raise(Signal::SIGSTOP)?;
    terminal::enter(mouse)?;
    // It may have another size now. If the queue is full, a size is in it or will follow.
    let (columns, rows) = outer::size()?;
    let _ = events.try_send(UiEvent::Resize(columns, rows));
    ui.redraw();
    Ok(())
}

/// Turns signals into events.
fn catch_signals(events: &mpsc::Sender<UiEvent>) -> io::Result<()> {
    let stop = SignalKind::from_raw(Signal::SIGTSTP as i32);
    let ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), stop];
    for kind in ends {
        let mut signals = signal(kind)?;
        let events = events.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let event =
                    if kind == stop { UiEvent::Do(Action::Suspend) } else { UiEvent::Terminate };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut resized = signal(SignalKind::window_change())?;
    let events = events.clone();
    // crossterm tells of it too, but not if a key came at the same moment: it then forgets the
    // signal, and the screen would keep its old size.
    tokio::spawn(async move {
        while resized.recv().await.is_some() {
            let Ok((columns, rows)) = outer::size() else { continue };
            if events.send(UiEvent::Resize(columns, rows)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
