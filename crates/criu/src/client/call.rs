//! A call: what is asked, with which hooks, and how long it may take.

use std::{
    borrow::Cow,
    fmt,
    future::{self, Future},
    mem,
    pin::Pin,
    process,
    time::Duration,
};

use rustix::process::Pid;
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    criu::Criu,
    outcome::{self, Dumped, Finish},
};
use crate::{Error, Notify, Options, Request, options::Rendered, pages::LazyTree, undo::Left};

pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A call that is made when it is awaited.
///
/// # Cancellation
/// A call ends before its time when its deadline passes ([`within`](Self::within)), when the
/// caller says so ([`until`](Self::until)), or when its future is dropped, even with the runtime
/// that it runs in. In each case CRIU is brought to give up in order, so that the processes of a
/// dump run on as before, without a file, a network rule or memory of CRIU's left, and those of a
/// restore are gone. This goes on after a drop: [`Criu::idle`] waits for its end. Only a CRIU that
/// has not ended when the grace is over ([`Criu::grace`]) is killed; the error then says what may
/// be left.
///
/// After the hook post-dump has been acknowledged it is too late: the dump completes, and its
/// result is a success.
#[must_use = "nothing is asked before the call is awaited"]
pub struct Call<'a, T> {
    pub(super) criu: Criu,
    pub(super) request: Request,
    /// Why nothing is asked.
    pub(super) refused: Option<Error>,
    /// None where the request carries none.
    pub(super) options: Option<Cow<'a, Options>>,
    /// The options as the request's message, once they have been seen to make sense.
    pub(super) rendered: Rendered,
    /// A directory of its own, which is there as long.
    pub(super) directory: Option<TempDir>,
    pub(super) notify: Option<&'a mut dyn Notify>,
    pub(super) deadline: Option<Duration>,
    /// When that is, from the beginning of the call on.
    pub(super) ends: Option<Instant>,
    /// Resolves when the caller says that the call is to end.
    pub(super) until: BoxFuture<'a, ()>,
    pub(super) keeps_open: bool,
    /// The process that is waited for.
    pub(super) pid: Option<Pid>,
    /// Where the processes of a restore go before any of them runs.
    pub(super) restored: Option<oneshot::Sender<LazyTree>>,
    pub(super) finish: Finish<T>,
}

impl Call<'_, ()> {
    pub(super) fn check(criu: &Criu) -> Self {
        let mut call = Self::plain(criu, Request::Check, outcome::nothing);
        // What is missing CRIU 4.2 tells in a log file only, and 4.1 wants a directory anyway.
        match tempfile::tempdir() {
            Ok(directory) => {
                call.options = Some(Cow::Owned(Options::new(directory.path())));
                call.directory = Some(directory);
                call
            }
            Err(source) => {
                let cannot = Error::prepare(call.request, "make a directory for its log");
                call.refused(cannot(source))
            }
        }
    }
}

impl Call<'_, Dumped> {
    /// A dump of the calling process.
    pub(super) fn dump_self(criu: &Criu, options: &Options) -> Self {
        let mut call = Self::plain(criu, Request::Dump, outcome::dumped);
        call.options = Some(Cow::Owned(options.clone().pid(process::id())));
        call
    }
}

impl<'a, T> Call<'a, T> {
    pub(super) fn new(
        criu: &Criu,
        request: Request,
        options: &'a Options,
        finish: Finish<T>,
    ) -> Self {
        Self {
            options: Some(Cow::Borrowed(options)),
            ..Self::plain(criu, request, finish)
        }
    }

    /// A call without options.
    pub(super) fn plain(criu: &Criu, request: Request, finish: Finish<T>) -> Self {
        Self {
            criu: criu.clone(),
            request,
            refused: None,
            options: None,
            rendered: Rendered::default(),
            directory: None,
            notify: None,
            deadline: None,
            ends: None,
            until: Box::pin(future::pending()),
            keeps_open: false,
            pid: None,
            restored: None,
            finish,
        }
    }

    /// A call that is refused before anything is asked.
    pub(super) fn refused(mut self, error: Error) -> Self {
        self.refused = Some(error);
        self
    }

    /// A call that others may follow over the same connection.
    pub(super) fn keeping_open(mut self) -> Self {
        self.keeps_open = true;
        self
    }

    /// Has `notify` do what is to be done at CRIU's hooks.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, HookResult, Notify, Options};
    ///
    /// /// Sends the images away while the processes are frozen.
    /// struct Upload;
    ///
    /// #[async_trait::async_trait]
    /// impl Notify for Upload {
    ///     async fn post_dump(&mut self) -> HookResult {
    ///         // An error lets the processes run on.
    ///         let status = tokio::process::Command::new("upload").arg("/var/lib/images").status().await?;
    ///         if status.success() { Ok(()) } else { Err("cannot upload".into()) }
    ///     }
    /// }
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// Criu::new().dump(&options).notify(&mut Upload).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn notify(mut self, notify: &'a mut dyn Notify) -> Self {
        self.notify = Some(notify);
        self
    }

    /// Gives the call `deadline`, from when it is awaited; then it is cancelled.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use stasis_criu::{Criu, Error, Options};
    ///
    /// # async fn example() {
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// match Criu::new().dump(&options).within(Duration::from_secs(30)).await {
    ///     Ok(_) => println!("dumped"),
    ///     Err(Error::Deadline { left, .. }) => println!("it runs on as before{left}"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # }
    /// ```
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Cancels the call when `cancelled` resolves, and waits for it to have ended in order.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Error, Options};
    ///
    /// # async fn example(stop: tokio::sync::oneshot::Receiver<()>) -> Result<(), Error> {
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// let stop = async move { drop(stop.await) };
    /// match Criu::new().dump(&options).until(stop).await {
    ///     Err(Error::Cancelled { left, .. }) => println!("it runs on as before{left}"),
    ///     other => drop(other?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn until(mut self, cancelled: impl Future<Output = ()> + Send + 'a) -> Self {
        self.until = Box::pin(cancelled);
        self
    }

    /// Cancels the call when `cancelled` resolves, besides what [`until`](Self::until) says.
    pub(crate) fn also_until(mut self, cancelled: impl Future<Output = ()> + Send + 'a) -> Self {
        let until = mem::replace(&mut self.until, Box::pin(future::pending()));
        self.until(async move {
            tokio::select! {
                () = until => {}
                () = cancelled => {}
            }
        })
    }

    /// Hands over the processes of a restore before any of them runs.
    pub(crate) fn hand_over(mut self, restored: oneshot::Sender<LazyTree>) -> Self {
        self.restored = Some(restored);
        self
    }

    /// Does `work`, which comes before what is asked, for as long as the call may take.
    pub(super) async fn in_time<W>(
        &mut self,
        work: impl Future<Output = Result<W, Error>>,
    ) -> Result<W, Error> {
        tokio::select! {
            biased;
            why = self.interrupted() => Err(why),
            done = work => done,
        }
    }

    /// Resolves when the call is to end before its time, with the reason.
    pub(super) async fn interrupted(&mut self) -> Error {
        let (request, left) = (self.request, Left::default());
        let ends = self.ends;
        let over = async {
            match ends {
                Some(ends) => time::sleep_until(ends).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut self.until => Error::Cancelled { request, left },
            () = over => Error::Deadline {
                request,
                deadline: self.deadline.unwrap_or_default(),
                left,
            },
        }
    }
}

impl<T> fmt::Debug for Call<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("criu", &self.criu)
            .field("request", &self.request)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
