//! Why a call did not succeed.

use std::{io, time::Duration};

use thiserror::Error;

use crate::{
    child::SpawnError,
    client::UndumpableSocket,
    diagnosis::Diagnosis,
    link::ProtocolError,
    notify::{Hook, HookError},
    options::OptionError,
    pages::PagesError,
    request::Request,
    undo::{Left, Leftover},
};

/// Why a call did not succeed.
///
/// The processes that were to be dumped run on as before, and of those that were to be restored none
/// is there, unless [`Left`] says otherwise. Of [`Error::Protocol`] that holds as far as CRIU is to
/// be believed: it may have dumped or restored them all the same.
#[derive(Debug, Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the one error of this crate's calls, as in `std::io`"
)]
pub enum Error {
    /// An option that this request, or this CRIU, does not take.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// There is no CRIU to ask.
    #[error("cannot reach CRIU for the {request}")]
    Start {
        /// What was asked for.
        request: Request,
        /// Why.
        source: SpawnError,
    },
    /// Something that the call needs could not be made ready.
    #[error("cannot {step} for the {request}")]
    Prepare {
        /// What was asked for.
        request: Request,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its pages cannot go where they are to go.
    #[error("no {request}, since its pages cannot be moved")]
    Pages {
        /// What was asked for.
        request: Request,
        /// Why not.
        source: PagesError,
    },
    /// The processes have what this CRIU cannot dump.
    #[error("no {request} of these processes")]
    Processes {
        /// What was asked for.
        request: Request,
        /// What.
        source: UndumpableSocket,
    },
    /// CRIU tried and failed.
    #[error("the {request} failed: {diagnosis}{left}")]
    Failed {
        /// What was asked for.
        request: Request,
        /// Why, and where more is to be read.
        diagnosis: Box<Diagnosis>,
        /// What could not be undone.
        left: Left,
    },
    /// CRIU ended, or closed the connection, without a reply.
    #[error("CRIU gave no reply to the {request}: {diagnosis}{left}")]
    NoReply {
        /// What was asked for.
        request: Request,
        /// Why, and where more is to be read.
        diagnosis: Box<Diagnosis>,
        /// What could not be undone.
        left: Left,
    },
    /// CRIU did not keep to its protocol.
    #[error("the {request} cannot be relied on{left}")]
    Protocol {
        /// What was asked for.
        request: Request,
        /// What CRIU did.
        source: ProtocolError,
        /// What could not be undone.
        left: Left,
    },
    /// A hook refused.
    #[error("the {request} was given up at the hook {hook}{left}")]
    Hook {
        /// What was asked for.
        request: Request,
        /// The hook.
        hook: Hook,
        /// What it said.
        source: HookError,
        /// What could not be undone.
        left: Left,
    },
    /// The caller cancelled it.
    #[error("the {request} was cancelled{left}")]
    Cancelled {
        /// What was asked for.
        request: Request,
        /// What could not be undone.
        left: Left,
    },
    /// Its deadline passed.
    #[error("the {request} was not over within {deadline:?} and was given up{left}")]
    Deadline {
        /// What was asked for.
        request: Request,
        /// How long it was given.
        deadline: Duration,
        /// What could not be undone.
        left: Left,
    },
    /// The connection has ended with an earlier call.
    #[error("the connection to CRIU has ended; the {request} needs another one")]
    Closed {
        /// What was asked for.
        request: Request,
    },
    /// It cannot be asked over this connection.
    #[error("the {request} cannot be asked {how}; {instead}")]
    Unavailable {
        /// What was asked for.
        request: Request,
        /// Over which connection.
        how: &'static str,
        /// The way out.
        instead: &'static str,
    },
}

impl Error {
    /// That of a `step` that comes before the `request`.
    pub(crate) fn prepare(request: Request, step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Prepare {
            request,
            step,
            source,
        }
    }

    /// What could not be undone, of all that the call did.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() {
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// if let Err(error) = Criu::new().dump(&options).await
    ///     && error.left().is_empty()
    /// {
    ///     println!("it runs on as before");
    /// }
    /// # }
    /// ```
    pub fn left(&self) -> &[Leftover] {
        match self {
            Self::Failed { left, .. }
            | Self::NoReply { left, .. }
            | Self::Protocol { left, .. }
            | Self::Hook { left, .. }
            | Self::Cancelled { left, .. }
            | Self::Deadline { left, .. } => left.as_slice(),
            Self::Options(_)
            | Self::Start { .. }
            | Self::Prepare { .. }
            | Self::Pages { .. }
            | Self::Processes { .. }
            | Self::Closed { .. }
            | Self::Unavailable { .. } => &[],
        }
    }
}
