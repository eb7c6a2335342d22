//! Ctrl-C and its kin: what they mean depends on what is under way.
//!
//! They are caught from the beginning. Were the command to die of one in the middle of a dump, CRIU
//! would finish it and kill the processes, with nobody told.

use std::{fmt, fs, future::Future, io, num::NonZeroU8, pin::pin, time::Duration};

use stasis_criu::{Call, Error};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{output::Output, progress::Progress};

/// Those that a person or a service manager ends a command with, and what they are called.
const SIGNALS: [(SignalKind, &str); 4] = [
    (SignalKind::interrupt(), "SIGINT"),
    (SignalKind::terminate(), "SIGTERM"),
    (SignalKind::hangup(), "SIGHUP"),
    (SignalKind::quit(), "SIGQUIT"),
];

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    number: NonZeroU8,
    name: &'static str,
}

impl Signal {
    /// Its number.
    pub fn number(self) -> u8 {
        self.number.get()
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// The signals that come.
#[derive(Debug)]
pub struct Signals {
    came: mpsc::UnboundedReceiver<Signal>,
    cancelled: Option<Signal>,
}

impl Signals {
    /// Catches them from now on, but for those that whoever started this has it ignore (`nohup`).
    pub fn catch() -> io::Result<Self> {
        let (sender, came) = mpsc::unbounded_channel();
        let ignored = ignored()?;
        for (kind, name) in SIGNALS {
            let raw = u8::try_from(kind.as_raw_value()).ok();
            let Some(number) = raw.and_then(NonZeroU8::new) else {
                continue;
            };
            if ignored & (1 << (number.get() - 1)) != 0 {
                continue;
            }
            let mut signals = signal(kind)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() && sender.send(Signal { number, name }).is_ok()
                {
                }
            });
        }
        Ok(Self {
            came,
            cancelled: None,
        })
    }

    /// The next one. If none can come this waits for ever.
    pub async fn next(&mut self) -> Signal {
        match self.came.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// The one that cancelled a call, if one did.
    pub fn cancelled(&self) -> Option<Signal> {
        self.cancelled
    }

    /// Waits for what may be dropped at any time, which the first signal does.
    pub async fn give_up<T, E>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T>
    where
        anyhow::Error: From<E>,
    {
        tokio::select! {
            biased;
            result = work => Ok(result?),
            signal = self.next() => {
                self.cancelled = Some(signal);
                Err(Interrupted(signal).into())
            }
        }
    }

    /// Makes a call, which the first signal cancels, or its deadline. Any further signal changes
    /// nothing: the cancellation brings processes back in order, and cannot be hurried.
    pub async fn cancel<'a, T: Send + 'a>(
        &mut self,
        output: &Output,
        mut progress: Progress,
        deadline: Option<Duration>,
        mut call: Call<'a, T>,
    ) -> Result<T, Error> {
        if let Some(deadline) = deadline {
            call = call.within(deadline);
        }
        let (cancel, cancelled) = oneshot::channel::<()>();
        let mut cancel = Some(cancel);
        let until = async {
            let _ = cancelled.await;
        };
        let mut call = pin!(call.until(until).into_future());
        loop {
            tokio::select! {
                biased;
                result = &mut call => return result,
                () = progress.look() => {}
                signal = self.next() => match cancel.take() {
                    Some(cancel) => {
                        progress.remark(output, format_args!("{}: cancelling", signal.name()));
                        self.cancelled = Some(signal);
                        // The call may be over.
                        let _ = cancel.send(());
                    }
                    None => progress.remark(output, format_args!(
                        "{}: still cancelling, which leaves nothing half done; wait a moment",
                        signal.name()
                    )),
                },
            }
        }
    }
}

/// Something that only looked was given up.
#[derive(Debug)]
pub struct Interrupted(Signal);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "given up because of {}", self.0.name)
    }
}

impl std::error::Error for Interrupted {}

/// The signals that this process ignores, one bit for each (proc_pid_status(5)).
fn ignored() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
