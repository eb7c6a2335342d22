//! The streams of a process, while this command waits for its end: its pipes or its terminal are
//! connected with the streams here, and signals go on to it.
//!
//! Each direction is a thread that copies: nobody waits for the one that reads our input, which may
//! never end.

use std::{
    fs::File,
    io::{self, IsTerminal as _, PipeReader, PipeWriter, Write},
    os::fd::{AsFd as _, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use stasis_plain::{Attached, Exit, Managed, ProcessError, Size};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    commands::Context,
    drain::{Rest, drain},
};

/// How long what comes after the end of the process is still copied, if somebody else holds its
/// streams open.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until the process has ended, and says how.
pub async fn until_end(context: &mut Context<'_>, mut process: Managed) -> anyhow::Result<Exit> {
    let attached = process.take_attached();
    let mut copying = Copying::start(attached)?;
    let exit = loop {
        tokio::select! {
            exit = process.exited() => break exit?,
            signal = context.signals.next() => match process.signal(signal.number().into()) {
                Ok(()) | Err(ProcessError::Gone { .. }) => {}
                Err(error) => return Err(error.into()),
            },
            () = copying.resized() => {}
        }
    };
    tokio::select! {
        () = copying.finish() => {}
        // Nobody takes what it wrote, and somebody wants an end.
        _ = context.signals.next() => {}
    }
    if let Exit::Signal(_) | Exit::Unknown = exit {
        let pid = process.pid();
        context.output.remark(format_args!("process {pid} {exit}"));
    }
    Ok(exit)
}

/// The size of the terminal here.
pub fn size_here() -> Size {
    tcgetwinsize(io::stdin())
        .map(|size| Size {
            rows: size.ws_row,
            columns: size.ws_col,
        })
        .unwrap_or_default()
}

/// The threads that copy.
#[derive(Debug)]
struct Copying {
    /// Closed when the last thread that copies output has ended.
    output: mpsc::Receiver<()>,
    /// Closed to tell those threads that the process has ended.
    running: PipeWriter,
    terminal: Option<Terminal>,
}

/// The master of the process's terminal, and ours.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    resized: tokio::signal::unix::Signal,
    _raw: Option<Raw>,
}

impl Copying {
    fn start(attached: Option<Attached>) -> anyhow::Result<Self> {
        let (open, output) = mpsc::channel(1);
        let (ended, running) = io::pipe().context("cannot make a pipe")?;
        let ended = || ended.try_clone().context("cannot share a pipe");
        let mut terminal = None;
        match attached {
            None => {}
            Some(Attached::Pipes {
                stdin,
                stdout,
                stderr,
            }) => {
                if let Some(mut stdin) = stdin {
                    copy("input", None, move || {
                        io::copy(&mut io::stdin(), &mut stdin).map(drop)
                    })?;
                }
                if let Some(stdout) = stdout {
                    let ended = ended()?;
                    copy("output", Some(open.clone()), move || {
                        let to = Unbuffered(io::stdout());
                        drain(stdout, to, &ended, Rest::Pipe, PATIENCE)
                    })?;
                }
                if let Some(stderr) = stderr {
                    let ended = ended()?;
                    copy("errors", Some(open.clone()), move || {
                        drain(stderr, io::stderr(), &ended, Rest::Pipe, PATIENCE)
                    })?;
                }
            }
            Some(Attached::Terminal(master)) => {
                terminal = Some(Terminal::connect(master, ended()?, open.clone())?);
            }
            Some(_) => anyhow::bail!("the process has streams of a kind that is not known here"),
        }
        Ok(Self {
            output,
            running,
            terminal,
        })
    }

    /// Waits for our terminal to get another size, and gives it to the process's.
    async fn resized(&mut self) {
        match &mut self.terminal {
            Some(terminal) => {
                terminal.resized.recv().await;
                terminal.take_size();
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until what the process has written is here. Our terminal is as it was then.
    async fn finish(mut self) {
        drop(self.running);
        // `None`: all threads have ended.
        let _ = self.output.recv().await;
    }
}

impl Terminal {
    fn connect(master: OwnedFd, ended: PipeReader, open: mpsc::Sender<()>) -> anyhow::Result<Self> {
        let share = || master.try_clone().context("cannot share a terminal");
        let (mut to, from) = (File::from(share()?), File::from(share()?));
        let resized = signal(SignalKind::window_change())?;
        let raw = Raw::set()?;
        copy("input", None, move || {
            io::copy(&mut io::stdin(), &mut to).map(drop)
        })?;
        copy("output", Some(open), move || {
            // A terminal that nobody holds any more fails with EIO, which is its end.
            let to = Unbuffered(io::stdout());
            drain(from, to, &ended, Rest::Terminal, PATIENCE)
        })?;
        let terminal = Self {
            master,
            resized,
            _raw: raw,
        };
        terminal.take_size();
        Ok(terminal)
    }

    fn take_size(&self) {
        if let Ok(size) = tcgetwinsize(io::stdin()) {
            let Winsize { ws_row, ws_col, .. } = size;
            if ws_row > 0 && ws_col > 0 {
                // It is as large as it was then.
                let _ = tcsetwinsize(self.master.as_fd(), size);
            }
        }
    }
}

/// Our terminal hands on every key as it is, Ctrl-C too, until this is dropped.
#[derive(Debug)]
struct Raw(Termios);

impl Raw {
    fn set() -> anyhow::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)
            .context("cannot change the terminal's settings")?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Whoever closed the terminal needs no settings of it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Standard output without its buffer, which waits for the end of a line.
struct Unbuffered(io::Stdout);

impl Write for Unbuffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stdout = self.0.lock();
        let written = stdout.write(bytes)?;
        stdout.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Copies in a thread until one end is closed. It holds `open` meanwhile.
fn copy(
    name: &str,
    open: Option<mpsc::Sender<()>>,
    copy: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Where it fails a side has gone, and its other side learns of it by our end's close.
            let _ = copy();
            drop(open);
        })
        .context("cannot start a thread")?;
    Ok(())
}
